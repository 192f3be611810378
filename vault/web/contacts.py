"""People whose keys one remembers, and the dialog in which a changed key is confirmed."""

from flask import render_template, request, url_for
from flask.typing import ResponseReturnValue

from vault.http.identity import current_account, safe_next
from vault.web import pages
from vault.web.answers import beside_fields, confirmed, done, page
from vault.web.forms import ContactForm
from vault.wiring import services


@pages.get("/contacts")
def contacts() -> ResponseReturnValue:
    return render_template("contacts/contacts.html", contacts=services().contact_book.list(current_account()))


@pages.route("/contacts/<username>/confirm", methods=["GET", "POST"])
def confirm_contact(username: str) -> ResponseReturnValue:
    """Show what is remembered beside what is there; what is confirmed is what was shown."""
    account, book = current_account(), services().contact_book
    contact = book.view(account, username)
    form = ContactForm(next=request.args.get("next", ""))
    if confirmed() and form.validate():
        with beside_fields(form):
            work_id = book.confirm(account, username, form.fingerprint.data or "")
            back = safe_next(form.next.data) or url_for(".contacts")
            return done("Confirmed.", url_for(".work", work_id=work_id) if work_id else back)
    return page("contacts/confirm.html", form, contact=contact)
