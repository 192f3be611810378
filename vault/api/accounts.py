"""One's own account: ``POST users``, ``GET me``, ``PUT me/passphrase``, ``GET users?q=``."""

from __future__ import annotations

from flask import request
from flask.typing import ResponseReturnValue
from flask_login import current_user

from vault.api import api
from vault.api.bodies import read_json, required, shown
from vault.http.identity import current_account
from vault.wiring import services


@api.post("/users")
def register() -> ResponseReturnValue:
    """Register; the answer holds the passphrase, this once."""
    body = required(read_json(False, username=str, code=str), "username")
    new = services().accounts.register(body["username"], body["code"])
    answer = {
        "id": new.user_id.hex(),
        "username": new.username,
        "passphrase": new.passphrase,
        "fingerprint": new.fingerprint_words,
    }
    return answer, 201


@api.get("/users")
def suggest() -> ResponseReturnValue:
    names = services().accounts.suggest(current_account(), request.args.get("q", ""))
    return {"items": [{"username": name} for name in names], "next": None}


@api.get("/me")
def me() -> ResponseReturnValue:
    account = current_account()
    return {
        "id": account.user_id.hex(),
        "username": account.username,
        "role": "admin" if account.is_admin else "user",
        "fingerprint": account.fingerprint_words,
        "session_expires_at": shown(account.expires_at),
        "seconds_left": current_user.seconds_left,
        "stored_bytes": account.stored_bytes,
        "quota_bytes": services().settings.quota_bytes or None,
    }


@api.put("/me/passphrase")
def change_passphrase() -> ResponseReturnValue:
    """Change the passphrase; without ``new`` one is made and returned, this once."""
    account = current_account()
    body = required(read_json(current=str, new=str), "current")
    chosen = services().accounts.change_passphrase(account, body["current"], body["new"])
    return {"passphrase": None if body["new"] else chosen}
