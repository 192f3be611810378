"""The last deep check: for an administrator in ids and counts, for everybody what it says of his own documents."""

from flask import render_template
from flask.typing import ResponseReturnValue

from vault.http.identity import current_account
from vault.services.check import MEANINGS
from vault.web import pages
from vault.wiring import services

SHOWN = 200


@pages.get("/check")
def check() -> ResponseReturnValue:
    result = services().check_results.last(current_account())
    return render_template("check/check.html", result=result, meanings=MEANINGS, shown=SHOWN)


@pages.get("/account/check")
def own_check() -> ResponseReturnValue:
    result = services().check_results.own(current_account())
    return render_template("check/own.html", result=result, meanings=MEANINGS)
