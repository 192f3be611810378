"""Documents: lists, one document, its content, its versions."""

from __future__ import annotations

from flask import request, url_for
from flask.typing import ResponseReturnValue

from vault.api import api
from vault.api.bodies import limit_asked, names_in, read_json, required, shown
from vault.errors import BadInput, PreconditionFailed
from vault.http.identity import check_csrf, current_account
from vault.http.receiving import receive_form, receive_raw
from vault.http.sending import asked_ids, send_document, send_zip
from vault.http.transfers import enter_transfer
from vault.services.documents import DocumentRow, DocumentView, VersionView, read_id
from vault.services.unlocked import UnlockedAccount
from vault.wiring import services


def _row(row: DocumentRow) -> dict[str, object]:
    return {
        "id": row.id.hex(),
        "name": row.name,
        "path": list(row.path),
        "media_type": row.media_type,
        "size": row.size,
        "owner": row.owner,
        "is_owner": row.is_owner,
        "date": shown(row.date),
        "shared_at": shown(row.shared_at),
        "expires_at": shown(row.expires_at),
        "readers": row.readers,
        "new": row.is_new,
        "readable": row.readable,
    }


def _view(view: DocumentView) -> dict[str, object]:
    return _row(view) | {
        "version": view.version_id.hex(),
        "number": view.number,
        "revision": view.revision,
        "etag": view.etag,
        "sha256": view.sha256,
        "created_at": shown(view.created_at),
        "owner_fingerprint": view.owner_fingerprint_words,
        "generation": view.generation,
        "rekeyed_at": shown(view.rekeyed_at),
        "rekey": view.rekey.hex() if view.rekey else None,
    }


def _version(view: VersionView) -> dict[str, object]:
    return {
        "id": view.id.hex(),
        "number": view.number,
        "revision": view.revision,
        "name": view.name,
        "size": view.size,
        "created_at": shown(view.created_at),
        "current": view.is_current,
    }


@api.get("/documents")
def list_documents() -> ResponseReturnValue:
    asked = request.args
    page = services().lists.page(
        current_account(),
        scope=asked.get("scope", "all"),
        limit=limit_asked(),
        after=asked.get("after"),
        query=asked.get("q"),
        sort=asked.get("sort", "-date"),
    )
    return {"items": [_row(row) for row in page.items], "next": page.next}


@api.post("/documents")
def upload() -> ResponseReturnValue:
    """Take a form with one or many files, or a raw body named by ``?name=``."""
    current_account()
    ids = receive_form() if request.mimetype == "multipart/form-data" else [receive_raw()]
    places = [url_for("api.document", document_id=document_id) for document_id in ids]
    answer = {"items": [{"id": document_id.hex()} for document_id in ids]} | {"id": ids[0].hex()}
    return answer, 201, {"Location": places[0]}


@api.get("/documents/zip")
def download_zip() -> ResponseReturnValue:
    account = current_account()
    enter_transfer()
    return send_zip(services().zips.open(account, asked_ids(request.args.getlist("id"))))


@api.post("/documents/zip")
def download_long_zip() -> ResponseReturnValue:
    """The same for more documents than an address has room for."""
    account = current_account()
    ids = names_in(required(read_json(ids=list), "ids")["ids"], "ids")
    enter_transfer()
    return send_zip(services().zips.open(account, asked_ids(ids)))


@api.get("/documents/<id:document_id>")
def document(document_id: bytes) -> ResponseReturnValue:
    view = services().documents.view(current_account(), document_id)
    return _view(view), 200, {"ETag": f'"{view.etag}"'}


@api.patch("/documents/<id:document_id>")
def change(document_id: bytes) -> ResponseReturnValue:
    """Rename, or move to another folder; ``If-Match`` with the ETag last seen refuses to overwrite a newer name."""
    account = current_account()
    body = read_json(name=str, path=list)
    if body["name"] is None and body["path"] is None:
        raise BadInput("name", "Give a name or a path.")
    path = tuple(names_in(body["path"], "path")) if body["path"] is not None else None
    services().documents.rename(
        account, document_id, body["name"], path=path, etag=_if_match(account, document_id)
    )
    return _view(services().documents.view(account, document_id))


def _if_match(account: UnlockedAccount, document_id: bytes) -> str | None:
    """Return the current ETag when ``If-Match`` names it; the change compares it once more, under the lock."""
    if "If-Match" not in request.headers or request.if_match.star_tag:
        return None
    current = services().documents.view(account, document_id).etag
    if not request.if_match.is_strong(current):
        raise PreconditionFailed
    return current


@api.delete("/documents/<id:document_id>")
def delete(document_id: bytes) -> ResponseReturnValue:
    account = current_account()
    check_csrf()
    services().documents.delete(account, [document_id])
    return "", 204


@api.get("/documents/<id:document_id>/content")
def download(document_id: bytes) -> ResponseReturnValue:
    account = current_account()
    enter_transfer()
    return send_document(services().downloads.open(account, document_id))


@api.put("/documents/<id:document_id>/content")
def replace(document_id: bytes) -> ResponseReturnValue:
    """Upload a new version."""
    account = current_account()
    receive_form(document_id) if request.mimetype == "multipart/form-data" else receive_raw(document_id)
    return _view(services().documents.view(account, document_id))


@api.get("/documents/<id:document_id>/versions")
def list_versions(document_id: bytes) -> ResponseReturnValue:
    found = services().documents.versions(current_account(), document_id)
    return {"items": [_version(view) for view in found], "next": None}


@api.get("/versions/<id:version_id>/content")
def download_version(version_id: bytes) -> ResponseReturnValue:
    account = current_account()
    document_id = services().documents.document_of(account, version_id)
    enter_transfer()
    return send_document(services().downloads.open(account, document_id, version_id))


@api.post("/documents/<id:document_id>/restore")
def restore(document_id: bytes) -> ResponseReturnValue:
    """Make an older version the newest again."""
    account = current_account()
    body = required(read_json(version=str), "version")
    services().uploads.restore(account, document_id, read_id("version", body["version"]))
    return _view(services().documents.view(account, document_id))
