"""What happened: ``GET me/log``, ``GET documents/<id>/timeline``, ``GET documents/<id>/readings``."""

from __future__ import annotations

from flask import request
from flask.typing import ResponseReturnValue

from vault.api import api
from vault.api.bodies import limit_asked, shown
from vault.http.identity import current_account
from vault.services.history import Happening, HappeningPage, Reading
from vault.wiring import services


def _page(page: HappeningPage) -> dict[str, object]:
    return {"items": [_happening(item) for item in page.items], "next": page.next}


def _happening(item: Happening) -> dict[str, object]:
    return {
        "sequence": item.sequence,
        "at": shown(item.at),
        "action": item.action,
        "succeeded": item.succeeded,
        "detail": item.detail,
        "actor": item.actor,
        "subject": item.subject or item.person,
        "object": {"kind": item.object_kind, "id": item.object_id.hex()} if item.object_id else None,
    }


def _reading(reading: Reading) -> dict[str, object]:
    return {
        "username": reading.username,
        "owner": reading.is_owner,
        "since": shown(reading.since),
        "until": shown(reading.until),
        "ended_by": reading.ended_by,
        "expires_at": shown(reading.expires_at),
        "downloads": reading.downloads,
        "last_download_at": shown(reading.last_download_at),
        "downloads_cut": reading.cut,
    }


@api.get("/me/log")
def security_log() -> ResponseReturnValue:
    limit, after = limit_asked(), request.args.get("after")
    return _page(services().history.log(current_account(), limit=limit, after=after))


@api.get("/documents/<id:document_id>/timeline")
def timeline(document_id: bytes) -> ResponseReturnValue:
    account, limit, after = current_account(), limit_asked(), request.args.get("after")
    return _page(services().history.timeline(account, document_id, limit=limit, after=after))


@api.get("/documents/<id:document_id>/readings")
def readings(document_id: bytes) -> ResponseReturnValue:
    """Who could read it, from when to when."""
    found = services().history.readings(current_account(), document_id)
    return {"items": [_reading(each) for each in found], "next": None}
