"""What each actor may do at each route; see ``tests/test_access.py``, which holds it against the application."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

ACTORS = ("logged out", "disabled", "stranger", "administrator", "reader", "owner")
NAME_OF = {
    "disabled": "erin", "stranger": "charlie", "administrator": "dora", "reader": "bob", "owner": "alice",
}  # fmt: skip


class Expected(NamedTuple):
    """The status for each actor, in the order of ``ACTORS``: those who may not come first."""

    logged_out: int
    disabled: int
    stranger: int
    administrator: int
    reader: int
    owner: int


@dataclass(frozen=True)
class Line:
    """One route and method: what is sent, and who gets which answer."""

    expected: Expected
    form: dict[str, Any] | None = None
    json: dict[str, Any] | None = None
    body: bytes | None = None
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    asks_token: bool = field(default=True)


def everybody(status: int) -> Expected:
    return Expected(*[status] * 6)


def members(status: int, refused: int) -> Expected:
    return Expected(refused, refused, status, status, status, status)


def administrators(status: int, refused: int) -> Expected:
    return Expected(refused, refused, 403, status, 403, 403)


def readers(status: int, refused: int) -> Expected:
    return Expected(refused, refused, 404, 404, status, status)


def leavers(status: int, refused: int, owner: int = 403) -> Expected:
    return Expected(refused, refused, 404, 404, status, owner)


def owners(status: int, refused: int) -> Expected:
    return Expected(refused, refused, 404, 404, 403, status)


def alone(status: int, refused: int) -> Expected:
    """What belongs to Alice, and exists for nobody else."""
    return Expected(refused, refused, 404, 404, 404, status)


def uploaders(status: int, disabled: int = 423) -> Expected:
    """What is sent to the address of an upload of Alice's: while nobody is logged in it waits, for others it is not."""
    return Expected(423, disabled, 404, 404, 404, status)


TO_LOGIN, LOGIN_FIRST = 302, 401
TUS = {"Tus-Resumable": "1.0.0"}
PIECE = TUS | {"Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}
FILE = {"file": (b"access", "access.txt")}
YES = {"confirm": "1"}

TABLE: dict[str, Line] = {
    # Health and static files
    "GET /healthz": Line(everybody(200)),
    "GET /readyz": Line(everybody(200)),
    "GET /static/<path:filename>": Line(everybody(200)),
    "GET /metrics": Line(everybody(404)),
    # Getting in
    "GET /login": Line(Expected(200, 200, 303, 303, 303, 303)),
    "POST /login": Line(everybody(400), form={"username": "", "passphrase": ""}),
    "GET /register": Line(everybody(200)),
    "POST /register": Line(everybody(400), form={"username": "!"}),
    "GET /setup": Line(everybody(200)),
    "POST /setup": Line(everybody(200), form={"username": "zoe", "code": "ABCDE"}),
    "GET /invitation": Line(everybody(200)),
    "POST /invitation": Line(everybody(400), form={"code": "ABCDE"}),
    "GET /recover": Line(everybody(200)),
    "POST /recover": Line(everybody(400), form={"username": "alice", "code": "ABCDE"}),
    "GET /reset": Line(everybody(200)),
    "POST /reset": Line(everybody(400), form={"code": "ABCDE"}),
    "POST /api/v1/recovery": Line(
        everybody(400), json={"username": "alice", "code": "ABCDE"}, asks_token=False
    ),
    "POST /api/v1/reset": Line(everybody(400), json={"code": "ABCDE"}, asks_token=False),
    "POST /api/v1/users": Line(everybody(400), json={"username": "!"}, asks_token=False),
    "POST /api/v1/token": Line(everybody(400), json={"username": "alice"}, asks_token=False),
    # One's own account
    "POST /logout": Line(members(303, LOGIN_FIRST), form={}),
    "GET /session": Line(members(200, TO_LOGIN)),
    "GET /account": Line(members(200, TO_LOGIN)),
    "GET /account/log": Line(members(200, TO_LOGIN)),
    "GET /api/v1/me/log": Line(members(200, LOGIN_FIRST)),
    "POST /account/passphrase": Line(members(400, LOGIN_FIRST), form={"current": ""}),
    "POST /account/sessions/<id:session_id>/end": Line(alone(303, LOGIN_FIRST), form={}),
    "POST /account/sessions/end-all": Line(members(303, LOGIN_FIRST), form={}),
    "GET /account/exposed": Line(members(200, TO_LOGIN)),
    "POST /account/exposed": Line(members(400, LOGIN_FIRST), form={"current": ""}),
    "GET /account/recovery": Line(members(200, TO_LOGIN)),
    "POST /account/recovery": Line(members(400, LOGIN_FIRST), form={"current": ""}),
    "POST /account/recovery/remove": Line(members(400, LOGIN_FIRST), form={"current": ""}),
    "POST /account/notices/<id:notice_id>/read": Line(alone(303, LOGIN_FIRST), form={}),
    "GET /account/delete": Line(members(200, TO_LOGIN)),
    "POST /account/delete": Line(members(400, LOGIN_FIRST), form={"current": ""}),
    "GET /account/keys": Line(members(200, TO_LOGIN)),
    "POST /account/keys/rotate": Line(members(400, LOGIN_FIRST), form={"current": ""}),
    "POST /account/keys/leave-behind": Line(members(400, LOGIN_FIRST), form={"current": ""}),
    "GET /contacts": Line(members(200, TO_LOGIN)),
    "GET /contacts/<username>/confirm": Line(alone(200, TO_LOGIN)),
    "POST /contacts/<username>/confirm": Line(
        alone(400, LOGIN_FIRST), form=YES | {"fingerprint": "six others"}
    ),
    "GET /work/<id:work_id>": Line(alone(200, TO_LOGIN)),
    "POST /work/<id:work_id>": Line(alone(303, LOGIN_FIRST), form={}),
    "GET /users/suggest": Line(members(200, TO_LOGIN), query="?q=bo"),
    "GET /account/check": Line(members(200, TO_LOGIN)),
    "GET /api/v1/me/check": Line(members(200, LOGIN_FIRST)),
    "GET /api/v1/me": Line(members(200, LOGIN_FIRST)),
    "PUT /api/v1/me/passphrase": Line(members(400, LOGIN_FIRST), json={}),
    "DELETE /api/v1/me": Line(members(400, LOGIN_FIRST), json={}),
    "POST /api/v1/me/exposed": Line(members(400, LOGIN_FIRST), json={}),
    "POST /api/v1/me/recovery": Line(members(400, LOGIN_FIRST), json={}),
    "DELETE /api/v1/me/recovery": Line(members(400, LOGIN_FIRST), json={}),
    "DELETE /api/v1/me/notices/<id:notice_id>": Line(alone(204, LOGIN_FIRST)),
    "GET /api/v1/me/sessions": Line(members(200, LOGIN_FIRST)),
    "DELETE /api/v1/me/sessions": Line(members(204, LOGIN_FIRST)),
    "DELETE /api/v1/me/sessions/<id:session_id>": Line(alone(204, LOGIN_FIRST)),
    "GET /api/v1/me/keys": Line(members(200, LOGIN_FIRST)),
    "POST /api/v1/me/keys/rotate": Line(members(400, LOGIN_FIRST), json={}),
    "POST /api/v1/me/keys/leave-behind": Line(members(400, LOGIN_FIRST), json={}),
    "GET /api/v1/contacts": Line(members(200, LOGIN_FIRST)),
    "PUT /api/v1/contacts/<username>": Line(alone(400, LOGIN_FIRST), json={"fingerprint": "six others"}),
    "GET /api/v1/me/work": Line(members(200, LOGIN_FIRST)),
    "GET /api/v1/me/work/<id:work_id>": Line(alone(200, LOGIN_FIRST)),
    "POST /api/v1/me/work/<id:work_id>": Line(alone(200, LOGIN_FIRST)),
    "DELETE /api/v1/token": Line(members(204, LOGIN_FIRST)),
    "POST /api/v1/token/renew": Line(members(200, LOGIN_FIRST)),
    "GET /api/v1/users": Line(members(200, LOGIN_FIRST), query="?q=bo"),
    # Administration
    "GET /people": Line(administrators(200, TO_LOGIN)),
    "GET /rotation": Line(administrators(200, TO_LOGIN)),
    "POST /people/invite": Line(administrators(200, LOGIN_FIRST), form={"username": "zoe"}),
    "POST /people/invitations/<id:invitation_id>/withdraw": Line(administrators(303, LOGIN_FIRST), form={}),
    "POST /people/<username>/disable": Line(administrators(303, LOGIN_FIRST), form={}),
    "POST /people/<username>/enable": Line(administrators(303, LOGIN_FIRST), form={}),
    "POST /people/<username>/promote": Line(administrators(303, LOGIN_FIRST), form={}),
    "POST /people/<username>/demote": Line(administrators(303, LOGIN_FIRST), form={}),
    "GET /people/<username>/reset": Line(administrators(200, TO_LOGIN)),
    "POST /people/<username>/reset": Line(administrators(200, LOGIN_FIRST), form={}),
    "GET /people/<username>/delete": Line(administrators(200, TO_LOGIN)),
    "POST /people/<username>/delete": Line(administrators(303, LOGIN_FIRST), form={"confirm": "erin"}),
    "POST /api/v1/accounts/<username>/reset": Line(administrators(201, LOGIN_FIRST)),
    "DELETE /api/v1/accounts/<username>": Line(administrators(204, LOGIN_FIRST), json={"confirm": "erin"}),
    "GET /check": Line(administrators(200, TO_LOGIN)),
    "GET /api/v1/check": Line(administrators(200, LOGIN_FIRST)),
    "GET /api/v1/accounts": Line(administrators(200, LOGIN_FIRST)),
    "PATCH /api/v1/accounts/<username>": Line(administrators(204, LOGIN_FIRST), json={"state": "active"}),
    "GET /api/v1/invitations": Line(administrators(200, LOGIN_FIRST)),
    "POST /api/v1/invitations": Line(administrators(201, LOGIN_FIRST), json={"username": "zoe"}),
    "DELETE /api/v1/invitations/<id:invitation_id>": Line(administrators(204, LOGIN_FIRST)),
    # One's own lists, and uploads of one's own
    "GET /": Line(members(200, TO_LOGIN)),
    "GET /shared": Line(members(200, TO_LOGIN)),
    "GET /upload": Line(members(200, TO_LOGIN)),
    "POST /upload": Line(members(303, LOGIN_FIRST), form=FILE),
    "GET /api/v1/documents": Line(members(200, LOGIN_FIRST)),
    "POST /api/v1/documents": Line(members(201, LOGIN_FIRST), body=b"access"),
    # Uploads that resume
    "POST /api/v1/uploads": Line(members(201, LOGIN_FIRST), headers=TUS | {"Upload-Length": "6"}),
    "HEAD /api/v1/uploads/<token>": Line(uploaders(200), headers=TUS),
    "PATCH /api/v1/uploads/<token>": Line(uploaders(204, disabled=404), body=b"access", headers=PIECE),
    "DELETE /api/v1/uploads/<token>": Line(uploaders(204), headers=TUS),
    "POST /api/v1/uploads/<token>": Line(uploaders(204), headers=TUS | {"X-HTTP-Method-Override": "DELETE"}),
    # A document
    "GET /documents/<id:document_id>": Line(readers(200, TO_LOGIN)),
    "GET /documents/<id:document_id>/content": Line(readers(200, TO_LOGIN)),
    "GET /documents/<id:document_id>/versions": Line(owners(200, TO_LOGIN)),
    "GET /documents/<id:document_id>/timeline": Line(owners(200, TO_LOGIN)),
    "GET /api/v1/documents/<id:document_id>/timeline": Line(owners(200, LOGIN_FIRST)),
    "GET /api/v1/documents/<id:document_id>/readings": Line(owners(200, LOGIN_FIRST)),
    "GET /documents/<id:document_id>/versions/<id:version_id>/content": Line(owners(200, TO_LOGIN)),
    "GET /documents/<id:document_id>/version": Line(owners(200, TO_LOGIN)),
    "POST /documents/<id:document_id>/version": Line(owners(303, LOGIN_FIRST), form=FILE),
    "GET /documents/<id:document_id>/rename": Line(owners(200, TO_LOGIN)),
    "POST /documents/<id:document_id>/rename": Line(owners(303, LOGIN_FIRST), form={"name": "new"}),
    "GET /documents/<id:document_id>/share": Line(owners(200, TO_LOGIN)),
    "POST /documents/<id:document_id>/share": Line(
        owners(303, LOGIN_FIRST), form=YES | {"recipients": "dora"}
    ),
    "GET /documents/<id:document_id>/revoke": Line(owners(200, TO_LOGIN)),
    "POST /documents/<id:document_id>/revoke": Line(owners(303, LOGIN_FIRST), form=YES | {"readers": "bob"}),
    "GET /documents/<id:document_id>/rekey": Line(owners(200, TO_LOGIN)),
    "POST /documents/<id:document_id>/rekey": Line(owners(303, LOGIN_FIRST), form=YES),
    "POST /documents/<id:document_id>/rekey/stop": Line(owners(404, LOGIN_FIRST), form={}),
    "GET /documents/<id:document_id>/delete": Line(owners(200, TO_LOGIN)),
    "POST /documents/<id:document_id>/delete": Line(owners(303, LOGIN_FIRST), form=YES),
    "GET /documents/<id:document_id>/leave": Line(readers(200, TO_LOGIN)),
    "POST /documents/<id:document_id>/leave": Line(leavers(303, LOGIN_FIRST), form=YES),
    "POST /documents/selected": Line(
        owners(303, LOGIN_FIRST), form=YES | {"action": "delete", "documents": "<id:document_id>"}
    ),
    "GET /documents/zip": Line(readers(200, TO_LOGIN), query="?id=<id:document_id>"),
    "GET /api/v1/documents/zip": Line(readers(200, LOGIN_FIRST), query="?id=<id:document_id>"),
    "POST /api/v1/documents/zip": Line(readers(200, LOGIN_FIRST), json={"ids": ["<id:document_id>"]}),
    "GET /api/v1/documents/<id:document_id>": Line(readers(200, LOGIN_FIRST)),
    "PATCH /api/v1/documents/<id:document_id>": Line(owners(200, LOGIN_FIRST), json={"name": "new"}),
    "DELETE /api/v1/documents/<id:document_id>": Line(owners(204, LOGIN_FIRST)),
    "GET /api/v1/documents/<id:document_id>/content": Line(readers(200, LOGIN_FIRST)),
    "PUT /api/v1/documents/<id:document_id>/content": Line(owners(200, LOGIN_FIRST), body=b"new"),
    "GET /api/v1/documents/<id:document_id>/versions": Line(owners(200, LOGIN_FIRST)),
    "GET /api/v1/versions/<id:version_id>/content": Line(owners(200, LOGIN_FIRST)),
    "POST /api/v1/documents/<id:document_id>/restore": Line(
        owners(200, LOGIN_FIRST), json={"version": "<id:version_id>"}
    ),
    "GET /api/v1/documents/<id:document_id>/shares": Line(owners(200, LOGIN_FIRST)),
    "POST /api/v1/documents/<id:document_id>/shares": Line(
        owners(204, LOGIN_FIRST), json={"usernames": ["dora"]}
    ),
    "DELETE /api/v1/documents/<id:document_id>/shares/<username>": Line(owners(204, LOGIN_FIRST)),
    "POST /api/v1/documents/<id:document_id>/rekey": Line(owners(204, LOGIN_FIRST), json={}),
    "DELETE /api/v1/documents/<id:document_id>/rekey": Line(owners(404, LOGIN_FIRST)),
}
"""Every route and method; HEAD goes with GET where there is one, and OPTIONS tells nothing but methods."""

LEAVING = Line(leavers(204, LOGIN_FIRST))
UNSAFE = [key for key in TABLE if not key.startswith(("GET ", "HEAD "))]
WITH_AN_ID = [
    key
    for key, line in TABLE.items()
    if re.search("<id:(document|version)_id>", f"{key}{line.query}{line.json}")
]
