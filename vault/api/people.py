"""For administrators: ``GET accounts``, ``PATCH|DELETE accounts/<username>``, ``GET|POST|DELETE invitations``."""

from __future__ import annotations

from flask.typing import ResponseReturnValue

from vault.api import api
from vault.api.bodies import read_json, required, shown
from vault.http.identity import check_csrf, current_account
from vault.services.accounts import AccountView
from vault.services.invitations import InvitationView
from vault.wiring import services


def _account(view: AccountView) -> dict[str, object]:
    return {
        "id": view.id.hex(),
        "username": view.username,
        "role": view.role,
        "state": view.state,
        "created_at": shown(view.created_at),
        "last_login_at": shown(view.last_login_at),
        "stored_bytes": view.stored_bytes,
        "documents": view.documents,
    }


def _invitation(view: InvitationView) -> dict[str, object]:
    return {
        "id": view.id.hex(),
        "username": view.username,
        "created_at": shown(view.created_at),
        "expires_at": shown(view.expires_at),
        "created_by": view.created_by,
        "kind": view.kind,
    }


@api.get("/accounts")
def list_accounts() -> ResponseReturnValue:
    accounts = services().accounts.list_accounts(current_account())
    return {"items": [_account(view) for view in accounts], "next": None}


@api.patch("/accounts/<username>")
def change_account(username: str) -> ResponseReturnValue:
    account = current_account()
    body = read_json(state=str, role=str)
    services().accounts.change(account, username, state=body["state"], role=body["role"])
    return "", 204


@api.delete("/accounts/<username>")
def delete_account(username: str) -> ResponseReturnValue:
    """Delete somebody's account with all documents; ``confirm`` is the user name once more."""
    account = current_account()
    body = required(read_json(confirm=str), "confirm")
    services().deletion.delete(account, username, body["confirm"])
    return "", 204


@api.get("/invitations")
def list_invitations() -> ResponseReturnValue:
    found = services().invitations.list_open(current_account())
    return {"items": [_invitation(view) for view in found], "next": None}


@api.post("/invitations")
def invite() -> ResponseReturnValue:
    account = current_account()
    body = required(read_json(username=str), "username")
    made = services().invitations.invite(account, body["username"])
    return _invitation(made.invitation) | {"code": made.code}, 201


@api.delete("/invitations/<id:invitation_id>")
def withdraw(invitation_id: bytes) -> ResponseReturnValue:
    account = current_account()
    check_csrf()
    services().invitations.withdraw(account, invitation_id)
    return "", 204
