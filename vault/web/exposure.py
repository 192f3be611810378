"""My passphrase may be known: say so with it, get a new one, log in, and go on with what takes long."""

from flask import flash, render_template
from flask.typing import ResponseReturnValue

from vault.http.identity import current_account, log_out_response
from vault.web import pages
from vault.web.answers import beside_fields, page
from vault.web.forms import LoginForm, PassphraseForm
from vault.wiring import services


@pages.route("/account/exposed", methods=["GET", "POST"])
def exposed() -> ResponseReturnValue:
    """Replace all that the passphrase opened; a made new one is shown in this answer and never again."""
    form, account = PassphraseForm(), current_account()
    if form.validate_on_submit():
        with beside_fields(form, wrong_login="current"):
            made = services().exposure.replace_all(account, form.current.data or "", form.new())
            if form.new() is not None:
                response = log_out_response()
                flash("Your passphrase and keys are replaced. Log in, and go on with your documents.")
                return response
            login = LoginForm(formdata=None, username=account.username)
            return render_template("accounts/passphrase.html", form=login, passphrase=made, new=None)
    return page("exposure/exposed.html", form, account=account)
