"""Lists, the page of one document, download, rename, delete, versions."""

from flask import render_template, request, url_for
from flask.typing import ResponseReturnValue

from vault.errors import Forbidden
from vault.http.identity import current_account
from vault.http.sending import asked_ids, send_document, send_zip
from vault.http.transfers import enter_transfer
from vault.services.documents import DocumentView
from vault.web import pages
from vault.web.answers import beside_fields, confirmed, done, page
from vault.web.forms import ConfirmForm, RenameForm, SearchForm
from vault.wiring import services

PAGE = 50


def owned_document(document_id: bytes) -> DocumentView:
    """The document, for its owner only: a stranger finds nothing (404), a reader may not (403)."""
    document = services().documents.view(current_account(), document_id)
    if not document.may_edit:
        raise Forbidden()
    return document


def listing(scope: str) -> str:
    form = SearchForm(request.args)
    query, sort = (form.q.data or "").strip(), request.args.get("sort", "-date")
    after = request.args.get("after")
    found = services().lists.page(
        current_account(), scope=scope, limit=PAGE, after=after, query=query or None, sort=sort
    )
    return render_template(
        "documents/list.html", scope=scope, page=found, form=form, query=query, sort=sort, after=after
    )


@pages.get("/")
def documents() -> ResponseReturnValue:
    return listing("owned")


@pages.get("/shared")
def shared() -> ResponseReturnValue:
    return listing("shared")


@pages.get("/documents/zip")
def download_zip() -> ResponseReturnValue:
    account = current_account()
    enter_transfer()
    return send_zip(services().zips.open(account, asked_ids(request.args.getlist("id"))))


@pages.get("/documents/<id:document_id>")
def document(document_id: bytes) -> ResponseReturnValue:
    after = request.args.get("after", "")
    found = services().documents.view(current_account(), document_id, after=after, limit=PAGE)
    return render_template("documents/document.html", document=found, after=after)


@pages.get("/documents/<id:document_id>/content")
def download(document_id: bytes) -> ResponseReturnValue:
    account = current_account()
    enter_transfer()
    return send_document(services().downloads.open(account, document_id))


@pages.get("/documents/<id:document_id>/versions")
def versions(document_id: bytes) -> ResponseReturnValue:
    found = owned_document(document_id)
    rows = services().documents.versions(current_account(), document_id)
    return render_template("documents/versions.html", document=found, versions=rows)


@pages.get("/documents/<id:document_id>/versions/<id:version_id>/content")
def download_version(document_id: bytes, version_id: bytes) -> ResponseReturnValue:
    account = current_account()
    enter_transfer()
    return send_document(services().downloads.open(account, document_id, version_id))


@pages.route("/documents/<id:document_id>/rename", methods=["GET", "POST"])
def rename(document_id: bytes) -> ResponseReturnValue:
    found = owned_document(document_id)
    form = RenameForm(name=found.name, etag=found.etag)
    if form.validate_on_submit():
        with beside_fields(form):
            services().documents.rename(
                current_account(), document_id, form.name.data or "", etag=form.etag.data
            )
            return done("The document has its new name.", url_for(".document", document_id=document_id))
    return page("documents/rename.html", form, document=found)


@pages.route("/documents/<id:document_id>/delete", methods=["GET", "POST"])
def delete(document_id: bytes) -> ResponseReturnValue:
    return delete_page([owned_document(document_id)], url_for(".documents"))


def delete_page(documents: list[DocumentView], back: str) -> ResponseReturnValue:
    form = ConfirmForm()
    if confirmed() and form.validate():
        services().documents.delete(current_account(), [document.id for document in documents])
        return done("Deleted.", back)
    return page("documents/delete.html", form, documents=documents, back=back)
