"""New keys for a document: ask for them, carry them on, stop."""

from flask import url_for
from flask.typing import ResponseReturnValue

from vault.http.identity import current_account
from vault.web import pages
from vault.web.answers import confirmed, done, page
from vault.web.documents import owned_document
from vault.web.forms import RekeyForm
from vault.wiring import services


def carry_on(works: list[bytes], text: str, back: str) -> ResponseReturnValue:
    """Make the keys that were just asked for; what does not fit this request goes on from the page of its work."""
    left = services().rekey.carry_on(current_account(), works)
    if left:
        return done(f"{text} New keys are being made.", url_for(".work", work_id=left[0]))
    many = "The documents have new keys." if len(works) > 1 else "The document has new keys."
    return done(f"{text} {many}".strip(), back)


@pages.route("/documents/<id:document_id>/rekey", methods=["GET", "POST"])
def rekey(document_id: bytes) -> ResponseReturnValue:
    found, form = owned_document(document_id), RekeyForm()
    back = url_for(".document", document_id=document_id)
    if confirmed() and form.validate():
        asked = services().rekey.ask(current_account(), document_id, at_once=form.at_once.data)
        return carry_on([asked], "", back)
    return page("rekey/rekey.html", form, document=found, back=back)


@pages.post("/documents/<id:document_id>/rekey/stop")
def stop_rekey(document_id: bytes) -> ResponseReturnValue:
    services().rekey.give_up(current_account(), document_id)
    return done(
        "Stopped. The document keeps the keys that it had.", url_for(".document", document_id=document_id)
    )
