"""People whose keys one remembers: ``GET contacts``, ``PUT contacts/<username>`` (confirm a changed key)."""

from __future__ import annotations

from flask.typing import ResponseReturnValue

from vault.api import api
from vault.api.bodies import read_json, required, shown
from vault.api.work import work_json
from vault.http.identity import current_account
from vault.services.confirming import ContactView
from vault.wiring import services


def _contact(view: ContactView) -> dict[str, object]:
    return {
        "username": view.username,
        "state": view.state,
        "fingerprint": view.fingerprint_words,
        "known_fingerprint": view.known_words,
        "met_at": shown(view.met_at),
        "renewed_at": shown(view.renewed_at),
        "waiting": view.waiting,
    }


@api.get("/contacts")
def list_contacts() -> ResponseReturnValue:
    views = services().contact_book.list(current_account())
    return {"items": [_contact(view) for view in views], "next": None}


@api.put("/contacts/<username>")
def confirm_contact(username: str) -> ResponseReturnValue:
    """Confirm somebody's present key by its six words; ``work`` is what waited for it, to be advanced."""
    account, book = current_account(), services().contact_book
    body = required(read_json(fingerprint=str), "fingerprint")
    work_id = book.confirm(account, username, body["fingerprint"])
    work = work_json(services().work.view(account, work_id)) if work_id else None
    return _contact(book.view(account, username)) | {"work": work}
