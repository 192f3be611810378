"""The answer to a scrape: what was counted, and the few numbers that stand in the database."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Any

from sqlalchemy import Select, bindparam, select
from sqlalchemy.orm import Session

from vault import __version__
from vault.errors import Busy, VaultError
from vault.metrics import Gauges, exposition
from vault.models import AuditEntry, CheckResult, MasterKey
from vault.services import seals
from vault.services.check_results import DEEP_ID
from vault.services.transactions import Transactions


class Metrics:
    """Answer a scrape."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def scrape(self, accept: str) -> tuple[bytes, str]:
        """Write everything that is measured, in the form that ``accept`` asks for; with its content type.

        Three rows are read. While the database is away there is the rest: a scrape must tell of that.
        """
        gauges = Gauges(__version__)
        with suppress(VaultError), self._transactions.reading() as session:
            _read(session, gauges)
        return exposition(gauges, accept)


def _read(session: Session, gauges: Gauges) -> None:
    result = _believed(session, _RESULT, CheckResult, {"id": DEEP_ID})
    first = _believed(session, _FIRST, AuditEntry, {"sequence": 1})
    made = first.at if first else None  # the vault is as old as its audit chain
    gauges.add(
        "docvault_master_key_timestamp_seconds",
        "Since when the oldest master key seals that is not retired",
        _seconds(min(_promotions(session), default=made)),
    )
    gauges.add(
        "docvault_deep_check_timestamp_seconds",
        "When the last deep check ended, or when the vault was made while there was none",
        _seconds(result.ended_at if result else made),
    )
    if result is None:
        return
    seconds = (result.ended_at - result.began_at).total_seconds()
    gauges.add("docvault_deep_check_findings", "What the last deep check found", result.findings)
    gauges.add("docvault_deep_check_seconds", "How long the last deep check took", seconds)
    gauges.add(
        "docvault_deep_check_bytes", "How much the last deep check read of the store", result.read_bytes
    )


_RESULT = select(*seals.columns(CheckResult)).where(CheckResult.id == bindparam("id"))
_KEYS = select(*seals.columns(MasterKey))
_FIRST = select(*seals.columns(AuditEntry)).where(AuditEntry.sequence == bindparam("sequence"))


def _believed(session: Session, statement: Select[Any], model: type[Any], parameters: dict[str, Any]) -> Any:
    """Give a row that can be believed, or ``None``: what is wrong with it must not be audited at every scrape."""
    try:
        found = seals.verified_row(session, statement, model, parameters=parameters)
    except Busy:
        return None  # the rotation is about to move it
    return None if found is None or isinstance(found[0], seals.Refusal) else found[0]


def _promotions(session: Session) -> list[datetime]:
    rows = [row for (row,) in seals.verified_rows(session, _KEYS, MasterKey)]
    return [row.promoted_at for row in rows if not isinstance(row, seals.Refusal) and row.retired_at is None]


def _seconds(time: datetime | None) -> float | None:
    return None if time is None else time.timestamp()
