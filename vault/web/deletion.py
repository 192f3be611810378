"""Delete an account: one's own with the passphrase, somebody else's as an administrator who types its name."""

from flask import flash, url_for
from flask.typing import ResponseReturnValue

from vault.errors import Conflict, NotFound
from vault.http.identity import current_account, log_out_response
from vault.services.accounts import AccountView
from vault.web import pages
from vault.web.answers import beside_fields, done, page, put_beside
from vault.web.forms import DeleteAccountForm, ProofForm
from vault.wiring import services


@pages.route("/account/delete", methods=["GET", "POST"])
def delete_account() -> ResponseReturnValue:
    form, account = ProofForm(), current_account()
    if form.validate_on_submit():
        try:
            with beside_fields(form, wrong_login="current"):
                services().deletion.delete_own(account, form.current.data or "")
                response = log_out_response()
                flash("Your account is deleted.")
                return response
        except Conflict as conflict:
            put_beside(form, conflict)
    return page("deletion/own.html", form, account=account)


def somebody(username: str) -> AccountView:
    """An account, for administrators only; raises ``NotFound`` for one that is not there any more."""
    accounts = services().accounts.list_accounts(current_account())
    for view in accounts:
        if view.username == username and view.state != "deleted":
            return view
    raise NotFound("There is no such account.")


@pages.route("/people/<username>/delete", methods=["GET", "POST"])
def delete_person(username: str) -> ResponseReturnValue:
    form, person = DeleteAccountForm(), somebody(username)
    if form.validate_on_submit():
        with beside_fields(form):
            services().deletion.delete(current_account(), person.username, form.confirm.data or "")
            return done("The account is deleted; its name stays reserved.", url_for(".people"))
    return page("deletion/person.html", form, person=person)
