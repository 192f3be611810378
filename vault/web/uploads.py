"""Upload documents, and a new version of one. The body is a stream: no view here touches ``request.form``."""

from flask import url_for
from flask.typing import ResponseReturnValue

from vault.errors import BadInput, KeyChanged
from vault.http.identity import current_account
from vault.http.receiving import receive_form
from vault.web import pages
from vault.web.answers import done, page, put_beside, wants_json
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
        stored = receive_form()
    except (BadInput, KeyChanged) as error:
        return refused(error, "uploads/upload.html")
    if wants_json():
        return {"locations": [url_for(".document", document_id=id) for id in stored]}
    return done("Stored and locked.", url_for(".documents"))


@pages.get("/documents/<id:document_id>/version")
def version(document_id: bytes) -> ResponseReturnValue:
    return upload_page("uploads/version.html", document=owned_document(document_id))


@pages.post("/documents/<id:document_id>/version")
def send_version(document_id: bytes) -> ResponseReturnValue:
    document, here = owned_document(document_id), url_for(".document", document_id=document_id)
    try:
        receive_form(document_id)
    except (BadInput, KeyChanged) as error:
        return refused(error, "uploads/version.html", document=document)
    return {"locations": [here]} if wants_json() else done("The new version is stored and locked.", here)


def upload_page(
    template: str, error: BadInput | KeyChanged | None = None, **shown: object
) -> ResponseReturnValue:
    form = UploadForm(formdata=None)
    if error is not None:
        put_beside(form, error)
    return page(template, form, limit=services().settings.max_document_bytes, **shown)


def refused(error: BadInput | KeyChanged, template: str, **shown: object) -> ResponseReturnValue:
    """Say what is wrong: to a script as field and text, to a person on the page, beside the field."""
    if wants_json():
        return {"field": getattr(error, "field", ""), "text": str(error)}, 400
    return upload_page(template, error, **shown)
