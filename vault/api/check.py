"""The last deep check: ``GET check`` for administrators, ``GET me/check`` for one's own documents."""

from __future__ import annotations

from flask.typing import ResponseReturnValue

from vault.api import api
from vault.api.bodies import shown
from vault.http.identity import current_account
from vault.wiring import services


@api.get("/check")
def last_check() -> ResponseReturnValue:
    result = services().check_results.last(current_account())
    if result is None:
        return {"ended_at": None}
    return {
        "began_at": shown(result.began_at),
        "ended_at": shown(result.ended_at),
        "rows": result.rows,
        "blobs": result.blobs,
        "bytes": result.read_bytes,
        "found": result.found,
        "by_invariant": result.by_invariant,
        "findings": [finding.shown() for finding in result.findings],
        "one_reader": result.one_reader,
        "no_reader": result.no_reader,
        "no_recovery": result.no_recovery,
    }


@api.get("/me/check")
def own_check() -> ResponseReturnValue:
    result = services().check_results.own(current_account())
    if result is None:
        return {"ended_at": None}
    found = [
        {
            "document": each.document_id.hex(),
            "name": each.name or None,
            "findings": [text for _, text in each.findings],
        }
        for each in result.findings
    ]
    return {
        "ended_at": shown(result.ended_at),
        "documents": found,
        "one_reader": result.one_reader,
        "no_reader": result.no_reader,
        "has_recovery": result.has_recovery,
    }
