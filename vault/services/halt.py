"""The halt: whether anything may be changed now, and why not. One for each process.

Nothing is changed while the anchor contradicts the audit chain or cannot be written, and nothing can be while the
database takes no entry in (F32). What is stored is read and downloaded meanwhile, so people still log in and out.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import DBAPIError

from vault.errors import ReadOnly
from vault.services.anchor import Alarm, Anchor
from vault.services.audit import Position

if TYPE_CHECKING:
    from vault.services.transactions import Transactions

DATABASE = "Its database takes nothing in."
REMEMBERED_SECONDS = 60
SQLITE_REFUSALS = {8: "it is read-only", 10: "its disk fails", 13: "its disk is full"}
POSTGRESQL_REFUSALS = {"25006": "it is read-only", "42501": "a right is missing", "53100": "its disk is full"}

log = structlog.get_logger("vault.halt")


def refusal(error: DBAPIError) -> str | None:
    """Say why the database takes nothing in, or ``None`` where the error is of another kind."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is not None:
        return SQLITE_REFUSALS.get(code & 0xFF)
    return POSTGRESQL_REFUSALS.get(getattr(error.orig, "sqlstate", None) or "")


class Halt:
    """What stops every change, as this process has last seen it."""

    def __init__(self, anchor: Anchor | None) -> None:
        self.anchor = anchor
        self._refused: tuple[float, str] | None = None

    def alarm(self, transactions: Transactions, *, now: bool = False) -> Alarm | None:
        """Return what the anchor says, looked at again where that is some seconds ago, or at once with ``now``."""
        if self.anchor is None:
            return None
        if now or self.anchor.is_due():
            with transactions.reading() as session:
                self.anchor.look(session)
        return self.anchor.alarm

    def shown(self, transactions: Transactions) -> Alarm | None:
        """Return what pages and readiness show: the anchor's alarm, or that the database has just refused a change."""
        return self.alarm(transactions) or self._database()

    def _database(self) -> Alarm | None:
        if self._refused is None or time.monotonic() - self._refused[0] > REMEMBERED_SECONDS:
            return None
        return Alarm(DATABASE, self._refused[1])

    def refused_by_database(self, why: str) -> ReadOnly:
        """Remember that a change was refused, loudly; returns what to raise. The next change tries again."""
        log.critical("database_takes_nothing", why=why)
        self._refused = time.monotonic(), why
        return ReadOnly(DATABASE)

    def check_end(self, before: Position) -> None:
        """Raise ``ReadOnly`` in a transaction whose chain has fallen behind the anchor since it was looked at."""
        if self.anchor is not None and self.anchor.is_older(before):
            raise ReadOnly(self.anchor.alarm.said if self.anchor.alarm else "")

    def committed(self, ended: Position) -> None:
        """A transaction with its audit entries has committed: the database takes changes, the anchor follows."""
        self._refused = None
        if self.anchor is not None:
            self.anchor.follow(ended)
