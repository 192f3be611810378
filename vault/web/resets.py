"""Reset my keys: an administrator makes the code, its person sees what is lost, agrees, and gets new keys."""

from flask import render_template, request, url_for
from flask.typing import ResponseReturnValue

from vault.http.identity import current_account
from vault.web import pages
from vault.web.answers import beside_fields, page
from vault.web.deletion import somebody
from vault.web.forms import ConfirmForm, LoginForm, ResetForm
from vault.wiring import services


@pages.route("/people/<username>/reset", methods=["GET", "POST"])
def reset_person(username: str) -> ResponseReturnValue:
    """Make a code for somebody who has lost everything; it is shown in this answer and never again."""
    form, person = ConfirmForm(), somebody(username)
    if request.method == "POST":
        with beside_fields(form):
            invited = services().resets.begin(current_account(), person.username)
            link = url_for(".reset", _external=True, _anchor=invited.code)
            return render_template("resets/begun.html", invited=invited, link=link)
    return page("resets/person.html", form, person=person)


@pages.route("/reset", methods=["GET", "POST"])
def reset() -> ResponseReturnValue:
    """Two steps: the code shows what would be lost, then its person agrees."""
    form, loss = ResetForm(), None
    if form.validate_on_submit():
        code = (form.code.data or "").strip()
        with beside_fields(form):
            if form.agreed.data:
                return started_anew(code)
            loss = services().resets.look_up(code)
    return page("resets/reset.html", form, loss=loss)


def started_anew(code: str) -> str:
    """Use the code, and show the passphrase in this answer and never again."""
    new = services().resets.use(code)
    form = LoginForm(formdata=None, username=new.username)
    return render_template(
        "accounts/passphrase.html", form=form, passphrase=new.passphrase, new=new, owners=new.owners
    )
