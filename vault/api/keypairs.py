"""One's key pairs: ``GET me/keys``, ``POST me/keys/rotate``, ``POST me/keys/leave-behind``."""

from __future__ import annotations

from flask.typing import ResponseReturnValue

from vault.api import api
from vault.api.bodies import read_json, required, shown
from vault.api.work import work_json
from vault.http.identity import current_account
from vault.services.keypairs import PairView
from vault.wiring import services


def _pair(view: PairView) -> dict[str, object]:
    return {
        "version": view.version,
        "bits": view.bits,
        "fingerprint": view.fingerprint_words,
        "created_at": shown(view.created_at),
        "retired_at": shown(view.retired_at),
        "current": view.is_current,
    }


@api.get("/me/keys")
def list_keys() -> ResponseReturnValue:
    account = current_account()
    work = services().keypairs.under_way(account)
    items = [_pair(view) for view in services().keypairs.pairs(account)]
    return {"items": items, "next": None, "work": work_json(work) if work else None}


@api.post("/me/keys/rotate")
def rotate_keys() -> ResponseReturnValue:
    """Make new pairs the current ones; ``POST me/work/<id>`` then moves everything to them."""
    account = current_account()
    body = required(read_json(current=str), "current")
    work_id = services().keypairs.rotate(account, body["current"])
    return work_json(services().work.view(account, work_id)), 202


@api.post("/me/keys/leave-behind")
def leave_behind() -> ResponseReturnValue:
    """Retire the former pair although something that hangs on it does not open."""
    account = current_account()
    body = required(read_json(current=str), "current")
    services().keypairs.leave_behind(account, body["current"])
    return "", 204
