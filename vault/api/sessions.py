"""Tokens and sessions: ``POST|DELETE token``, ``POST token/renew``, ``GET me/sessions``, ``DELETE me/sessions``."""

from __future__ import annotations

from flask import request
from flask.typing import ResponseReturnValue

from vault.api import api
from vault.api.bodies import read_json, required, shown
from vault.http.identity import brought, check_csrf, current_account
from vault.services.sessions import TOKEN_LIFE, SessionView
from vault.wiring import services


def _token(token: str) -> dict[str, object]:
    return {"token": token, "token_type": "Bearer", "expires_in": int(TOKEN_LIFE.total_seconds())}


def _shape(session: SessionView) -> dict[str, object]:
    return {
        "id": session.id.hex(),
        "client": session.client,
        "created_at": shown(session.created_at),
        "last_seen_at": shown(session.last_seen_at),
        "expires_at": shown(session.expires_at),
        "current": session.is_current,
    }


@api.post("/token")
def log_in() -> ResponseReturnValue:
    body = required(_credentials(), "username", "passphrase")
    logged_in = services().sessions.log_in(
        body["username"], body["passphrase"], client=request.user_agent.string[:64] or "API", **brought()
    )
    return _token(logged_in.token) | {"username": logged_in.account.username}, 201


def _credentials() -> dict[str, object]:
    """Read name and passphrase. No CSRF token is asked for: the answer is a token in a body, never a cookie."""
    return read_json(False, username=str, passphrase=str)


@api.delete("/token")
def log_out() -> ResponseReturnValue:
    account = current_account()
    check_csrf()
    services().sessions.log_out(account)
    return "", 204, {"Clear-Site-Data": '"cache", "storage"'}


@api.post("/token/renew")
def renew() -> ResponseReturnValue:
    account = current_account()
    check_csrf()
    return _token(services().sessions.renew(account))


@api.get("/me/sessions")
def list_sessions() -> ResponseReturnValue:
    return {"items": [_shape(session) for session in services().sessions.list_sessions(current_account())]}


@api.delete("/me/sessions")
def end_all() -> ResponseReturnValue:
    account = current_account()
    check_csrf()
    services().sessions.end_all(account)
    return "", 204


@api.delete("/me/sessions/<id:session_id>")
def end(session_id: bytes) -> ResponseReturnValue:
    account = current_account()
    check_csrf()
    services().sessions.end(account, session_id)
    return "", 204
