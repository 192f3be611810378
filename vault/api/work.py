"""Work that takes long: ``GET me/work``, ``GET me/work/<id>``, and ``POST me/work/<id>`` until it is done."""

from __future__ import annotations

from flask.typing import ResponseReturnValue

from vault.api import api
from vault.api.bodies import shown
from vault.http.identity import check_csrf, current_account
from vault.services.work import WorkView
from vault.wiring import services


def work_json(view: WorkView) -> dict[str, object]:
    """Show work that is not done; what has ``failed`` is left after all the rest."""
    return {
        "id": view.id.hex(),
        "kind": view.kind,
        "done": view.done,
        "failed": view.failed,
        "total": view.total,
        "finished": False,
        "created_at": shown(view.created_at),
        "document": view.document_id.hex() if view.document_id else None,
    }


@api.get("/me/work")
def list_work() -> ResponseReturnValue:
    return {"items": [work_json(view) for view in services().work.open(current_account())], "next": None}


@api.get("/me/work/<id:work_id>")
def show_work(work_id: bytes) -> ResponseReturnValue:
    return work_json(services().work.view(current_account(), work_id))


@api.post("/me/work/<id:work_id>")
def go_on(work_id: bytes) -> ResponseReturnValue:
    """Advance the work by two seconds at most; the answer tells whether it is finished."""
    account = current_account()
    check_csrf()
    before = services().work.view(account, work_id)
    now = services().work.go_on(account, work_id)
    ended = {"finished": True, "done": before.total - before.failed}
    return work_json(now or before) | (ended if now is None else {})
