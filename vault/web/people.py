"""The administrator's page: accounts and invitations. Nothing here opens, names or deletes a document."""

from flask import render_template, request, url_for
from flask.typing import ResponseReturnValue

from vault.http.identity import current_account
from vault.web import pages
from vault.web.answers import beside_fields, done, page
from vault.web.forms import InviteForm
from vault.wiring import services


def people_page(form: InviteForm) -> ResponseReturnValue:
    account, vault = current_account(), services()
    return page(
        "people/people.html",
        form,
        accounts=vault.accounts.list_accounts(account),
        invitations=vault.invitations.list_open(account),
        quota=vault.settings.quota_bytes,
        closed=vault.invitations.is_closed,
    )


@pages.get("/people")
def people() -> ResponseReturnValue:
    return people_page(InviteForm())


@pages.post("/people/invite")
def invite() -> ResponseReturnValue:
    """Make an invitation; its code is shown in this answer and never again."""
    form = InviteForm()
    if form.validate():
        with beside_fields(form):
            invited = services().invitations.invite(current_account(), form.username.data or "")
            link = url_for(".invitation", _external=True, _anchor=invited.code)
            return render_template("people/invited.html", invited=invited, link=link)
    return people_page(form)


@pages.post("/people/invitations/<id:invitation_id>/withdraw")
def withdraw(invitation_id: bytes) -> ResponseReturnValue:
    services().invitations.withdraw(current_account(), invitation_id)
    return done("The invitation is withdrawn; its link no longer works.", url_for(".people"))


@pages.post("/people/<username>/disable")
def disable(username: str) -> ResponseReturnValue:
    services().accounts.set_state(current_account(), username, "disabled")
    return done("The account is disabled and signed out everywhere.", url_for(".people"))


@pages.post("/people/<username>/enable")
def enable(username: str) -> ResponseReturnValue:
    services().accounts.set_state(current_account(), username, "active")
    return done("The account is enabled again.", url_for(".people"))


@pages.post("/people/<username>/promote")
def promote(username: str) -> ResponseReturnValue:
    services().accounts.set_role(current_account(), username, "admin")
    return done("One more administrator.", url_for(".people"))


@pages.post("/people/<username>/demote")
def demote(username: str) -> ResponseReturnValue:
    services().accounts.set_role(current_account(), username, "user")
    return done("One administrator less.", url_for(".people"))


@pages.get("/users/suggest")
def suggest() -> ResponseReturnValue:
    """User names that begin with what was typed, for the field where people are named."""
    return {"usernames": services().accounts.suggest(current_account(), request.args.get("q", "")[:32])}
