"""The recovery code: made and removed on the account page, shown once as a kit to print, used without a login."""

from typing import NamedTuple

import segno
from flask import render_template, request, url_for
from flask.typing import ResponseReturnValue
from markupsafe import Markup

from vault.http.identity import current_account
from vault.web import pages
from vault.web.answers import beside_fields, done, page
from vault.web.forms import LoginForm, ProofForm, RecoverForm
from vault.wiring import services


class Kit(NamedTuple):
    """What the kit shows: the code, the address that it is good at, both in one as a QR code."""

    username: str
    code: str
    address: str
    picture: Markup


def kit_of(username: str, code: str) -> Kit:
    """Draw the kit. What follows the ``#`` of its address is sent to no server."""
    address = url_for("web.recover", _external=True)
    drawn = segno.make(f"{address}#{code}", error="m", micro=False)
    picture = drawn.svg_inline(scale=4, border=3, dark="#000", light="#fff", omitsize=True, svgclass="qr")
    return Kit(username, code, address, Markup(picture))  # noqa: S704  (segno draws it, of a code's characters)


def recovery_page(form: ProofForm) -> ResponseReturnValue:
    account = current_account()
    return page("recovery/recovery.html", form, account=account, made_at=services().recovery.made_at(account))


@pages.route("/account/recovery", methods=["GET", "POST"])
def make_recovery() -> ResponseReturnValue:
    """Make a code; it is shown in this answer and never again."""
    form, account = ProofForm(), current_account()
    if form.validate_on_submit():
        with beside_fields(form, wrong_login="current"):
            code = services().recovery.make(account, form.current.data or "")
            return render_template("recovery/kit.html", kit=kit_of(account.username, code))
    return recovery_page(form)


@pages.post("/account/recovery/remove")
def remove_recovery() -> ResponseReturnValue:
    form = ProofForm()
    if form.validate():
        with beside_fields(form, wrong_login="current"):
            services().recovery.remove(current_account(), form.current.data or "")
            return done("Your recovery code no longer works.", url_for(".account"))
    return recovery_page(form)


@pages.route("/recover", methods=["GET", "POST"])
def recover() -> ResponseReturnValue:
    """Set a new passphrase with a code; the passphrase is shown in this answer and never again."""
    form = RecoverForm()
    if form.validate_on_submit():
        with beside_fields(form):
            name, code = form.username.data or "", form.code.data or ""
            found = services().recovery.use(name, code, address=request.remote_addr or "unknown")
            login = LoginForm(formdata=None, username=found.username)
            return render_template(
                "accounts/passphrase.html", form=login, passphrase=found.passphrase, new=None
            )
    return page("recovery/recover.html", form)
