"""Upload documents, and a new version of one, by a form; the page's script sends by tus instead.

The body is a stream: no view here touches ``request.form``.
"""

from flask import url_for
from flask.typing import ResponseReturnValue

from vault.errors import BadInput, KeyChanged
from vault.http.identity import current_account
from vault.http.receiving import receive_form
from vault.web import pages
from vault.web.answers import done, page, put_beside
from vault.web.documents import owned_document
from vault.web.forms import UploadForm
from vault.wiring import services


@pages.get("/upload")
def upload() -> ResponseReturnValue:
    current_account()
    return upload_page("uploads/upload.html")


@pages.post("/upload")
def send_upload() -> ResponseReturnValue:
    current_account()
    try:
        receive_form()
    except (BadInput, KeyChanged) as error:
        return upload_page("uploads/upload.html", error)
    return done("Stored and locked.", url_for(".documents"))


@pages.get("/documents/<id:document_id>/version")
def version(document_id: bytes) -> ResponseReturnValue:
    return upload_page("uploads/version.html", document=owned_document(document_id))


@pages.post("/documents/<id:document_id>/version")
def send_version(document_id: bytes) -> ResponseReturnValue:
    document = owned_document(document_id)
    try:
        receive_form(document_id)
    except (BadInput, KeyChanged) as error:
        return upload_page("uploads/version.html", error, document=document)
    return done("The new version is stored and locked.", url_for(".document", document_id=document_id))


def upload_page(
    template: str, error: BadInput | KeyChanged | None = None, **shown: object
) -> ResponseReturnValue:
    form = UploadForm(formdata=None)
    if error is not None:
        put_beside(form, error)
    names_key = current_account().upload_names_key.hex()
    limit = services().settings.max_document_bytes
    return page(template, form, limit=limit, names_key=names_key, **shown)
