"""Share, revoke, leave: for one document, and for several selected ones (``vault.web.selection``)."""

from flask import request, url_for
from flask.typing import ResponseReturnValue

from vault.http.identity import current_account
from vault.services.documents import DocumentView
from vault.web import pages
from vault.web.answers import beside_fields, confirmed, done, page
from vault.web.documents import owned_document
from vault.web.forms import ConfirmForm, RevokeForm, ShareForm
from vault.web.rekey import carry_on
from vault.wiring import services


@pages.route("/documents/<id:document_id>/share", methods=["GET", "POST"])
def share(document_id: bytes) -> ResponseReturnValue:
    return share_page([owned_document(document_id)], url_for(".document", document_id=document_id))


@pages.route("/documents/<id:document_id>/revoke", methods=["GET", "POST"])
def revoke(document_id: bytes) -> ResponseReturnValue:
    return revoke_page([owned_document(document_id)], url_for(".document", document_id=document_id))


@pages.route("/documents/<id:document_id>/leave", methods=["GET", "POST"])
def leave(document_id: bytes) -> ResponseReturnValue:
    return leave_page([services().documents.view(current_account(), document_id)], url_for(".shared"))


def share_page(documents: list[DocumentView], back: str) -> ResponseReturnValue:
    form = ShareForm()
    if confirmed() and form.validate():
        with beside_fields(form):
            ids = [document.id for document in documents]
            services().sharing.share(current_account(), ids, form.usernames(), expires_at=form.until())
            return done("Shared.", back)
    return page("sharing/share.html", form, documents=documents, back=back)


def revoke_page(documents: list[DocumentView], back: str) -> ResponseReturnValue:
    form = RevokeForm(readers=request.args.getlist("reader"))
    form.readers.choices = sorted({r.username for d in documents for r in d.readers_list if not r.is_owner})
    waiting = {r.username for d in documents for r in d.readers_list if r.waits}
    if confirmed() and form.validate():
        with beside_fields(form):
            ids = [document.id for document in documents]
            asked = services().sharing.revoke(
                current_account(), ids, form.readers.data or [],
                rekey=form.rekey.data, at_once=form.at_once.data,
            )  # fmt: skip
            ended = "The share has ended."
            return carry_on(asked, ended, back) if asked else done(ended, back)
    return page("sharing/revoke.html", form, documents=documents, back=back, waiting=waiting)


def leave_page(documents: list[DocumentView], back: str) -> ResponseReturnValue:
    form = ConfirmForm()
    if confirmed() and form.validate():
        services().sharing.leave(current_account(), [document.id for document in documents])
        return done("You have left the share.", back)
    return page("sharing/leave.html", form, documents=documents, back=back)
