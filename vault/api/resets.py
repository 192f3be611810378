"""Reset my keys: ``POST accounts/<username>/reset`` by an administrator, ``POST reset`` by its person."""

from __future__ import annotations

from flask.typing import ResponseReturnValue

from vault.api import api
from vault.api.bodies import read_json, required, shown
from vault.http.identity import check_csrf, current_account
from vault.wiring import services


@api.post("/accounts/<username>/reset")
def begin_reset(username: str) -> ResponseReturnValue:
    """Make a one-time code for somebody who has lost everything; it is told to him at his next login."""
    account = current_account()
    check_csrf()
    made = services().resets.begin(account, username)
    return {
        "username": made.invitation.username,
        "expires_at": shown(made.invitation.expires_at),
        "code": made.code,
    }, 201


@api.post("/reset")
def reset() -> ResponseReturnValue:
    """Tell what would be lost; with ``agreed`` set up new keys and return the passphrase, this once."""
    body = required(read_json(False, code=str, agreed=bool), "code")
    if not body["agreed"]:
        loss = services().resets.look_up(body["code"])
        return {
            "username": loss.username,
            "expires_at": shown(loss.expires_at),
            "documents_lost": loss.documents,
            "documents_lost_to_others": loss.read_by_others,
            "shared_by": dict(loss.owners),
        }
    new = services().resets.use(body["code"])
    return {
        "username": new.username,
        "passphrase": new.passphrase,
        "fingerprint": new.fingerprint_words,
        "shared_by": dict(new.owners),
    }
