"""One act on several documents that were ticked in a list: first a page that asks, then the act."""

from flask import abort, flash, redirect, request, url_for
from flask.typing import ResponseReturnValue

from vault.http.identity import current_account
from vault.web import pages
from vault.web.documents import PAGE, delete_page, owned_document
from vault.web.sharing import leave_page, revoke_page, share_page
from vault.wiring import services

ACTS_OF_OWNER = {"share": share_page, "revoke": revoke_page, "delete": delete_page}


def selected_ids() -> list[bytes]:
    """The ids that came with the form, each once; 400 where one is no id, or where there are more than a page has."""
    try:
        ids = [bytes.fromhex(text) for text in dict.fromkeys(request.form.getlist("documents"))]
    except ValueError:
        abort(400)
    if len(ids) > PAGE or any(len(id) != 16 for id in ids):
        abort(400)
    return ids


def address_of_content(ids: list[bytes]) -> str:
    """Where one document is itself, and several are a zip."""
    if len(ids) == 1:
        return url_for(".download", document_id=ids[0])
    return url_for(".download_zip", id=[id.hex() for id in ids])


@pages.post("/documents/selected")
def selected() -> ResponseReturnValue:
    account, action, ids = current_account(), request.form.get("action"), selected_ids()
    back = url_for(".shared" if action == "leave" else ".documents")
    if not ids:
        flash("Tick at least one document first.", "warning")
        return redirect(back, 303)
    if action == "download":
        return redirect(address_of_content(ids), 303)
    if action == "leave":
        return leave_page([services().documents.view(account, id) for id in ids], back)
    if action not in ACTS_OF_OWNER:
        abort(400)
    return ACTS_OF_OWNER[action]([owned_document(id) for id in ids], back)
