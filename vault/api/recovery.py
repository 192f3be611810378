"""``POST|DELETE me/recovery``, its use without a login, ``POST recovery``; and ``POST me/exposed``."""

from __future__ import annotations

from flask import request
from flask.typing import ResponseReturnValue

from vault.api import api
from vault.api.bodies import read_json, required
from vault.http.identity import current_account
from vault.wiring import services


@api.post("/me/recovery")
def make_recovery() -> ResponseReturnValue:
    """Make a code and return it, this once; an older one stops working."""
    account = current_account()
    body = required(read_json(current=str), "current")
    return {"code": services().recovery.make(account, body["current"])}, 201


@api.delete("/me/recovery")
def remove_recovery() -> ResponseReturnValue:
    account = current_account()
    body = required(read_json(current=str), "current")
    services().recovery.remove(account, body["current"])
    return "", 204


@api.post("/recovery")
def recover() -> ResponseReturnValue:
    """Set a new passphrase with a code; without ``new`` one is made and returned, this once. The code is spent."""
    body = required(read_json(False, username=str, code=str, new=str), "username", "code")
    recovered = services().recovery.use(
        body["username"], body["code"], body["new"], address=request.remote_addr or "unknown"
    )
    return {"username": recovered.username, "passphrase": None if body["new"] else recovered.passphrase}


@api.post("/me/exposed")
def expose() -> ResponseReturnValue:
    """Say that the passphrase may be known: it and all keys are replaced, and every session ends, this one too.

    ``GET me/work`` then shows what is to be gone on with.
    """
    account = current_account()
    body = required(read_json(current=str, new=str), "current")
    chosen = services().exposure.replace_all(account, body["current"], body["new"])
    return {"passphrase": None if body["new"] else chosen}
