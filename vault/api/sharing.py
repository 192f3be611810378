"""Who may read: ``GET|POST documents/<id>/shares``, ``DELETE documents/<id>/shares/<username>`` (``me`` leaves).

With ``?rekey=true`` a revocation makes new keys as well, with ``&at_once=true`` without an hour of grace for the old.
"""

from __future__ import annotations

from flask import request
from flask.typing import ResponseReturnValue

from vault.api import api
from vault.api.bodies import flag, limit_asked, moment, names_in, read_json, required, shown
from vault.api.rekey import carry_on
from vault.http.identity import check_csrf, current_account
from vault.services.documents import ReaderView
from vault.wiring import services


def _reader(view: ReaderView) -> dict[str, object]:
    return {
        "username": view.username,
        "owner": view.is_owner,
        "since": shown(view.since),
        "expires_at": shown(view.expires_at),
        "fingerprint": view.fingerprint_words,
        "waits": view.waits,
    }


@api.get("/documents/<id:document_id>/shares")
def list_shares(document_id: bytes) -> ResponseReturnValue:
    page = services().documents.readers(
        current_account(), document_id, after=request.args.get("after", ""), limit=limit_asked()
    )
    return {"items": [_reader(view) for view in page.items], "next": page.next}


@api.post("/documents/<id:document_id>/shares")
def share(document_id: bytes) -> ResponseReturnValue:
    account = current_account()
    body = required(read_json(usernames=list, expires_at=str), "usernames")
    usernames = names_in(body["usernames"], "usernames")
    services().sharing.share(
        account, [document_id], usernames, expires_at=moment(body["expires_at"], "expires_at")
    )
    return "", 204


@api.delete("/documents/<id:document_id>/shares/<username>")
def revoke(document_id: bytes, username: str) -> ResponseReturnValue:
    account = current_account()
    check_csrf()
    if username == "me":
        services().sharing.leave(account, [document_id])
        return "", 204
    rekey, at_once = flag("rekey"), flag("at_once")
    asked = services().sharing.revoke(account, [document_id], [username], rekey=rekey, at_once=at_once)
    return carry_on(account, asked)
