"""One's own account: ``POST users``, ``GET|DELETE me``, ``PUT me/passphrase``, ``me/notices``, ``GET users?q=``."""

from __future__ import annotations

from flask import request
from flask.typing import ResponseReturnValue
from flask_login import current_user

from vault.api import api
from vault.api.bodies import read_json, required, shown
from vault.http.identity import check_csrf, current_account
from vault.services.notices import NoticeView
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
    account, vault = current_account(), services()
    return {
        "id": account.user_id.hex(),
        "username": account.username,
        "role": "admin" if account.is_admin else "user",
        "fingerprint": account.fingerprint_words,
        "session_expires_at": shown(account.expires_at),
        "seconds_left": current_user.seconds_left,
        "stored_bytes": account.stored_bytes,
        "quota_bytes": vault.settings.quota_bytes or None,
        "recovery_made_at": shown(vault.recovery.made_at(account)),
        "notices": [_notice(view) for view in vault.notices.unread(account)],
    }


def _notice(view: NoticeView) -> dict[str, object]:
    return {
        "id": view.id.hex(),
        "kind": view.kind,
        "created_at": shown(view.created_at),
        "by": view.by,
    }


@api.delete("/me/notices/<id:notice_id>")
def read_notice(notice_id: bytes) -> ResponseReturnValue:
    account = current_account()
    check_csrf()
    services().notices.read(account, notice_id)
    return "", 204


@api.delete("/me")
def delete_me() -> ResponseReturnValue:
    """Delete one's own account with all documents; nobody can undo it."""
    account = current_account()
    body = required(read_json(current=str), "current")
    services().deletion.delete_own(account, body["current"])
    return "", 204


@api.put("/me/passphrase")
def change_passphrase() -> ResponseReturnValue:
    """Change the passphrase; without ``new`` one is made and returned, this once."""
    account = current_account()
    body = required(read_json(current=str, new=str), "current")
    chosen = services().accounts.change_passphrase(account, body["current"], body["new"])
    return {"passphrase": None if body["new"] else chosen}
