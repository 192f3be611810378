"""Work that takes long: a sealed row says what it is and how far it is; requests advance it, a little each.

Work with user keys goes on only while its owner's session is unlocked: the page posts "go on" until nothing is left,
a command loops. Each kind has one worker, which moves the row in the transaction of its effect: a kill at any point
loses the batch under way and nothing else, and two tabs that go on at once both get on.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from struct import Struct
from struct import error as StructError
from typing import NamedTuple, Protocol

from sqlalchemy import select
from sqlalchemy.orm import Session

from vault.crypto.randomness import new_id
from vault.errors import NotFound, Unreadable
from vault.models import Work
from vault.services import clock
from vault.services.transactions import Transactions
from vault.services.unlocked import UnlockedAccount

BATCH_SECONDS = 2.0
"""How long one request may work at most."""

_HEAD = Struct(">QQ")


class Position(NamedTuple):
    """How far work is: units that are done, units that could not be done, and where to go on (the worker's own)."""

    done: int = 0
    failed: int = 0
    place: bytes = b""


class Worker(Protocol):
    """What does one kind of work."""

    def advance(self, account: UnlockedAccount, work_id: bytes, until: float) -> None:
        """Do some of it and return soon after ``until`` (of ``time.monotonic``); at the end delete the row.

        In transactions of its own, each of which loads the row with ``locked`` and moves it with ``move``. Work that
        can do no more but is not done leaves the row as it is.
        """


@dataclass(frozen=True)
class WorkView:
    """Work as its owner sees it."""

    id: bytes
    kind: str
    done: int
    failed: int
    total: int
    document_id: bytes | None
    other_id: bytes | None
    created_at: datetime

    @property
    def percent(self) -> int:
        """Whole percents of the way; 100 is said only of work that is over, whose row is gone."""
        return min(99, 100 * self.done // max(1, self.total))


class Works:
    """Show the long work of an account, and let it go on."""

    def __init__(self, transactions: Transactions, workers: Mapping[str, Worker]) -> None:
        self._transactions = transactions
        self._workers = workers

    def open(self, account: UnlockedAccount) -> list[WorkView]:
        """List one's own work that is not done and can go on, oldest first."""
        with self._transactions.reading(account.user_id) as session:
            rows = session.scalars(
                select(Work)
                .where(Work.user_id == account.user_id, Work.kind.in_(list(self._workers)))
                .order_by(Work.created_at, Work.id)
            ).all()
            return [view_of(row) for row in rows]

    def view(self, account: UnlockedAccount, work_id: bytes) -> WorkView:
        """Show one's own work; raises ``NotFound`` when it is done, or somebody else's."""
        with self._transactions.reading(account.user_id, ("work", work_id)) as session:
            view = view_of(_own(session.get(Work, work_id), account))
            if view.kind not in self._workers:
                raise NotFound
            return view

    def go_on(
        self, account: UnlockedAccount, work_id: bytes, seconds: float = BATCH_SECONDS
    ) -> WorkView | None:
        """Advance one's own work by at most about ``seconds``; return where it stands, ``None`` when it is done."""
        view = self.view(account, work_id)
        self._workers[view.kind].advance(account, work_id, time.monotonic() + seconds)
        with self._transactions.reading(account.user_id) as session:
            row = session.get(Work, work_id)
            return None if row is None else view_of(row)

    def finish(self, account: UnlockedAccount, work_id: bytes) -> None:
        """Go on until the work is done, or nothing more of it can be done; for commands."""
        before: WorkView | None = None
        now: WorkView | None = self.view(account, work_id)
        while now is not None and now != before:
            before, now = now, self.go_on(account, work_id)


def begin(
    session: Session,
    account: UnlockedAccount,
    kind: str,
    total: int,
    *,
    document_id: bytes | None = None,
    other_id: bytes | None = None,
    place: bytes = b"",
) -> Work:
    """Add work of ``kind`` with ``total`` units to the transaction under way, which records an event."""
    row = Work(
        id=new_id(),
        kind=kind,
        user_id=account.user_id,
        document_id=document_id,
        other_id=other_id,
        cursor=_HEAD.pack(0, 0) + place,
        total=total,
        created_at=clock.now(),
    )
    session.add(row)
    return row


def position(row: Work) -> Position:
    """Read how far work is."""
    if row.cursor is None:
        return Position()
    try:
        done, failed = _HEAD.unpack_from(row.cursor)
    except StructError as error:
        raise Unreadable("work:cursor", "work", row.id) from error
    return Position(done, failed, row.cursor[_HEAD.size :])


def locked(session: Session, account: UnlockedAccount, work_id: bytes) -> Work:
    """Load one's own work for a change; raises ``NotFound`` when it is done meanwhile."""
    return _own(session.get(Work, work_id, with_for_update=True), account)


def move(row: Work, at: Position) -> None:
    """Note how far work is, in the transaction that brought it there."""
    row.cursor = _HEAD.pack(at.done, at.failed) + at.place


def _own(row: Work | None, account: UnlockedAccount) -> Work:
    if row is None or row.user_id != account.user_id:
        raise NotFound
    return row


def view_of(row: Work) -> WorkView:
    """Show a row to its owner."""
    at = position(row)
    return WorkView(
        row.id, row.kind, at.done, at.failed, row.total, row.document_id, row.other_id, row.created_at
    )
