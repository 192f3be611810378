"""One's key pairs (Account, Keys): which ones there are, change them, leave behind what does not open."""

from flask import url_for
from flask.typing import ResponseReturnValue

from vault.http.identity import current_account
from vault.web import pages
from vault.web.answers import beside_fields, done, page
from vault.web.forms import ProofForm
from vault.wiring import services


def keys_page(form: ProofForm) -> ResponseReturnValue:
    account, keypairs = current_account(), services().keypairs
    return page(
        "keypairs/keys.html",
        form,
        account=account,
        pairs=keypairs.pairs(account),
        work=keypairs.under_way(account),
        bits=keypairs.bits,
    )


@pages.get("/account/keys")
def keys() -> ResponseReturnValue:
    return keys_page(ProofForm())


@pages.post("/account/keys/rotate")
def rotate_keys() -> ResponseReturnValue:
    """Make new pairs the current ones; the page of the work moves everything to them."""
    form = ProofForm()
    if form.validate():
        with beside_fields(form, wrong_login="current"):
            work_id = services().keypairs.rotate(current_account(), form.current.data or "")
            return done("Your new keys are made.", url_for(".work", work_id=work_id))
    return keys_page(form)


@pages.post("/account/keys/leave-behind")
def leave_behind() -> ResponseReturnValue:
    """Retire the former pair although something that hangs on it does not open."""
    form = ProofForm()
    if form.validate():
        with beside_fields(form, wrong_login="current"):
            services().keypairs.leave_behind(current_account(), form.current.data or "")
            return done("Your former keys are gone.", url_for(".keys"))
    return keys_page(form)
