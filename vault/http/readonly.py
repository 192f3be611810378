"""While the vault is read-only: every change is refused at the door, before a byte of its body is read.

``Transactions.writing`` refuses once more, for everybody else. What is stored is still listed, read and downloaded, and
people log in and out: nobody could read otherwise, and nobody could be kept out.
"""

from __future__ import annotations

from flask import Flask, g, request

from vault.errors import ReadOnly
from vault.http.identity import SAFE_METHODS
from vault.wiring import services

STILL_ALLOWED = frozenset(
    {
        "web.login",
        "web.logout",
        "web.end_session",
        "web.end_all_sessions",
        "web.selected",
        "api.log_in",
        "api.log_out",
        "api.renew",
        "api.end",
        "api.end_all",
        "api.download_long_zip",
    }
)
"""Coming, going and reading; ``web.selected`` leads to downloads, and to changes that are refused later."""


def _refuse_changes() -> None:
    if request.method in SAFE_METHODS or request.endpoint is None or request.endpoint in STILL_ALLOWED:
        return
    transactions = services().transactions
    alarm = transactions.halt.alarm(transactions)
    if alarm is not None:
        g.drain_body = True
        raise ReadOnly(alarm.said)


def register(app: Flask) -> None:
    """Hang the check before every request."""
    app.before_request(_refuse_changes)
