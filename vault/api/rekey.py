"""New keys for a document: ``POST|DELETE documents/<id>/rekey``; 202 with the work that goes on, when there is more."""

from __future__ import annotations

from flask import url_for
from flask.typing import ResponseReturnValue

from vault.api import api
from vault.api.bodies import read_json
from vault.api.work import work_json
from vault.http.identity import check_csrf, current_account
from vault.services.unlocked import UnlockedAccount
from vault.wiring import services


def carry_on(account: UnlockedAccount, works: list[bytes]) -> ResponseReturnValue:
    """Make the keys that were just asked for: 204 where they are made, 202 and the work where it goes on."""
    left = services().rekey.carry_on(account, works)
    if not left:
        return "", 204
    view = services().work.view(account, left[0])
    return work_json(view), 202, {"Location": url_for("api.show_work", work_id=view.id)}


@api.post("/documents/<id:document_id>/rekey")
def rekey(document_id: bytes) -> ResponseReturnValue:
    account = current_account()
    at_once = read_json(at_once=bool)["at_once"] or False
    return carry_on(account, [services().rekey.ask(account, document_id, at_once=at_once)])


@api.delete("/documents/<id:document_id>/rekey")
def stop_rekey(document_id: bytes) -> ResponseReturnValue:
    account = current_account()
    check_csrf()
    services().rekey.give_up(account, document_id)
    return "", 204
