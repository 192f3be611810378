"""Get in for the first time (set-up, invitation, open registration), one's own account, change of the passphrase."""

from flask import render_template, url_for
from flask.typing import ResponseReturnValue

from vault.errors import BadInput
from vault.http.identity import current_account
from vault.web import pages
from vault.web.answers import beside_fields, done, page
from vault.web.forms import InvitationForm, LoginForm, PassphraseForm, RegisterForm, SetupForm
from vault.wiring import services


def registered(username: str, code: str | None = None) -> str:
    """Register, and show the passphrase in this answer and never again: no redirect, flash, cookie or log has it."""
    new = services().accounts.register(username, code)
    form = LoginForm(formdata=None, username=new.username)
    return render_template("accounts/passphrase.html", form=form, passphrase=new.passphrase, new=new)


@pages.route("/register", methods=["GET", "POST"])
def register() -> ResponseReturnValue:
    form = RegisterForm()
    is_open = services().accounts.registration_open()
    if is_open and form.validate_on_submit():
        with beside_fields(form):
            return registered(form.username.data or "")
    return page("accounts/register.html", form, is_open=is_open)


@pages.route("/setup", methods=["GET", "POST"])
def setup() -> ResponseReturnValue:
    form = SetupForm()
    is_pending = services().invitations.setup_pending()
    if is_pending and form.validate_on_submit():
        with beside_fields(form):
            return registered(form.username.data or "", (form.code.data or "").strip())
    return page("accounts/setup.html", form, is_pending=is_pending)


@pages.route("/invitation", methods=["GET", "POST"])
def invitation() -> ResponseReturnValue:
    """Two steps: the code shows for whom the invitation is, then that person agrees."""
    form, invited = InvitationForm(), None
    if form.validate_on_submit():
        code = (form.code.data or "").strip()
        with beside_fields(form):
            invited = services().invitations.look_up(code)
            if invited.kind != "invitation" or not invited.username:
                raise BadInput("code", "This is a code of another kind. Use the link that came with it.")
            if form.agreed.data:
                return registered(invited.username, code)
    return page("accounts/invitation.html", form, invited=invited)


def account_page(form: PassphraseForm) -> ResponseReturnValue:
    account, vault = current_account(), services()
    return page(
        "accounts/account.html",
        form,
        account=account,
        works=[work for work in vault.work.open(account) if work.kind == "exposed"],
        sessions=vault.sessions.list_sessions(account),
        recovery_made_at=vault.recovery.made_at(account),
        quota=vault.settings.quota_bytes,
    )


@pages.get("/account")
def account() -> ResponseReturnValue:
    return account_page(PassphraseForm())


@pages.post("/account/passphrase")
def passphrase() -> ResponseReturnValue:
    """Change the passphrase; a made one is shown in this answer and never again."""
    form, account = PassphraseForm(), current_account()
    if form.validate():
        with beside_fields(form, wrong_login="current"):
            made = services().accounts.change_passphrase(account, form.current.data or "", form.new())
            if form.new() is not None:
                return done("Your passphrase is changed. Every other session has ended.", url_for(".account"))
            login = LoginForm(formdata=None, username=account.username)
            return render_template("accounts/passphrase.html", form=login, passphrase=made, new=None)
    return account_page(form)
