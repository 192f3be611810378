"""Transactions: the one place that begins, retries, commits and gives connections back.

``reading`` ends before a body is streamed, ``writing`` commits the effect together with its audit entries. On
SQLite a writing transaction begins IMMEDIATE (an upgrade from reading fails at once, whatever the timeout), and
waits its turn, in this process and then for others, some seconds at most. A stale row, a serialization failure or a
lost race for a unique key tries the whole function again; a row that another one needs and that stays away is
``Unreadable``; a database that stays locked or away is ``Busy``.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from threading import Lock
from typing import TypeVar

import structlog
from sqlalchemy.exc import DBAPIError, IntegrityError, NoResultFound, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import StaleDataError

from vault.errors import Busy, Conflict, Forbidden, NotFound, ReadOnly, Unreadable
from vault.failpoints import reach
from vault.metrics import DATABASE_ERRORS
from vault.services import audit, counting, promotion, seals
from vault.services.audit import Event
from vault.services.halt import Halt, refusal

T = TypeVar("T")

TRIES = 6
TURN_SECONDS = 5
RETRIED_STATES = {"40001", "40P01"}

log = structlog.get_logger("vault.transactions")


class Transactions:
    """Reading and writing on one session, for one request."""

    def __init__(
        self,
        session: Session,
        request_id: bytes | None = None,
        turn: Lock | None = None,
        halt: Halt | None = None,
    ) -> None:
        self.session = session
        self.request_id = request_id
        self.halt = halt or Halt(None)
        self._turn = turn
        self._events: list[Event] = []

    def record(self, event: Event) -> None:
        """Add an event to the transaction under way; it commits with its effect, or not at all."""
        self._events.append(event)

    @contextmanager
    def reading(
        self, actor: bytes | None = None, about: tuple[str, bytes] | None = None
    ) -> Iterator[Session]:
        """Run a block that only reads, then give the connection back to the pool.

        A seal or signature that does not fit is written to the audit chain before ``Unreadable`` goes on.
        """
        try:
            with _translated():
                yield self.session
        except Unreadable as unreadable:
            give_back(self.session)
            self.record_unreadable(unreadable, actor, about)
            raise
        except (Forbidden, NotFound) as denied:
            give_back(self.session)
            self._record_denied(denied, actor, about)
            raise
        finally:
            give_back(self.session)

    @contextmanager
    def snapshot(self) -> Iterator[Session]:
        """Run a block that only reads and sees one state of the database, from its first question to its last.

        It may last as long as it has to: SQLite keeps the old state beside the new one, PostgreSQL reads repeatably.
        """
        with self.reading() as session:
            if session.get_bind().dialect.name == "postgresql":
                connection = session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
                connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
            yield session

    def writing(
        self,
        work: Callable[[Session], T],
        actor: bytes | None = None,
        about: tuple[str, bytes] | None = None,
        *,
        always: bool = False,
    ) -> T:
        """Run ``work`` in one transaction, append its events, commit; try the whole again when it lost a race.

        ``work`` may run several times: it must load what it needs itself and change nothing outside the database.
        Raises ``ReadOnly`` while nothing may be changed; ``always`` is for coming, going and reading, and their
        entries in the audit chain.
        """
        if not always:
            self.refuse_while_halted()
        try:
            return self._try_writing(work)
        except Unreadable as unreadable:
            self.record_unreadable(unreadable, actor, about)
            raise
        except (Forbidden, NotFound) as denied:
            self._record_denied(denied, actor, about)
            raise

    def refuse_while_halted(self, *, now: bool = False) -> None:
        """Raise ``ReadOnly`` while nothing may be changed; with ``now`` the anchor is looked at once more."""
        alarm = self.halt.alarm(self, now=now)
        if alarm is not None:
            raise ReadOnly(alarm.said)

    def _try_writing(self, work: Callable[[Session], T]) -> T:
        for attempt in range(1, TRIES + 1):
            try:
                return self._write_once(work)
            except (StaleDataError, IntegrityError) as lost:
                if attempt == TRIES:
                    DATABASE_ERRORS.add("conflict")
                    raise Conflict from lost
            except NoResultFound as gone:
                if attempt == TRIES:
                    raise Unreadable("row:missing") from gone
            except DBAPIError as error:
                why = refusal(error)
                if why is not None:
                    raise self.halt.refused_by_database(why) from error
                if getattr(error.orig, "sqlstate", None) not in RETRIED_STATES or attempt == TRIES:
                    raise _busy(error) from error
            DATABASE_ERRORS.add("retried")
            time.sleep(_jitter(attempt))
        raise Conflict

    def _write_once(self, work: Callable[[Session], T]) -> T:
        with _having(self._turn) if self._turn is not None else nullcontext():
            return self._write_in_turn(work)

    def _write_in_turn(self, work: Callable[[Session], T]) -> T:
        session = self.session
        give_back(session)
        seals.forget_touched(session)
        session.info.pop("held", None)
        self._events = []
        try:
            with _pool_translated():
                session.connection(execution_options={"docvault_writing": True})
            keys = seals.keys_of(session)
            is_known = promotion.admit(session, keys)
            result = work(session)
            session.flush()
            if seals.touched(session) and not self._events:
                raise RuntimeError("a change of tracked rows needs an audit event")
            if not is_known:
                self._events.append(promotion.enter(session, keys))
            if self._events:
                before, ended = audit.append(session, self._events, self.request_id)
                self.halt.check_end(before)
            act = self._events[0].action if self._events else "unrecorded"
            reach(f"{act}.before_commit")
            session.commit()
            reach(f"{act}.after_commit")
            audit.tell(self._events)
            if self._events:
                self.halt.committed(ended)
            for event in self._events:
                counting.happened(event.action, event.succeeded)
            return result
        finally:
            self._events = []
            give_back(session)
            seals.forget_touched(session)

    def record_alone(self, event: Event) -> None:
        """Commit an event that has no effect of its own: a failure, a refusal, the start of a download."""
        self.writing(lambda session: self.record(event), always=True)

    def record_unreadable(
        self, unreadable: Unreadable, actor: bytes | None, about: tuple[str, bytes] | None = None
    ) -> None:
        """Write one ``integrity_failure`` for ``unreadable``, with the reason that the caller is never told."""
        if unreadable.recorded:
            return
        unreadable.recorded = True
        counting.unreadable(about[0] if about else unreadable.kind, unreadable.reason)
        kind, object_id = about or (unreadable.kind, unreadable.object_id)
        event = Event("integrity_failure", actor, kind, object_id, succeeded=False, detail=unreadable.reason)
        try:
            self._try_writing(lambda session: self.record(event))
        except (Unreadable, Busy, Conflict):
            log.error("integrity_failure_not_recorded", object_kind=kind, detail=unreadable.reason)

    def _record_denied(
        self, denied: Forbidden | NotFound, actor: bytes | None, about: tuple[str, bytes] | None
    ) -> None:
        """Write one ``denied`` for whoever asked for what he may not have, or for what is not there: the same work."""
        if about is not None:
            event = Event("denied", actor, *about, succeeded=False, detail=type(denied).__name__)
            try:
                self._try_writing(lambda session: self.record(event))
            except (ReadOnly, Unreadable, Busy, Conflict):
                log.error("denied_not_recorded", object_kind=about[0], object=about[1].hex())


def give_back(session: Session) -> None:
    """Give a session's connection back to the pool; one that died since the last question is thrown away.

    Nothing is lost with it: what was read was read, and what was not committed is undone by the database itself. An
    error raised here would take the place of an answer, or of the refusal that is on its way.
    """
    seals.forget_standings(session)
    try:
        session.close()
    except DBAPIError as error:
        DATABASE_ERRORS.add("lost")
        log.warning("connection_lost", error=type(error.orig).__name__)
        session.invalidate()


@contextmanager
def _having(turn: Lock) -> Iterator[None]:
    """Write one at a time in this process: SQLite has one writer, and whoever waits here wakes at once."""
    if not turn.acquire(timeout=TURN_SECONDS):
        DATABASE_ERRORS.add("busy")
        raise Busy(5)
    try:
        yield
    finally:
        turn.release()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        with _pool_translated():
            yield
    except OperationalError as error:
        raise _busy(error) from error
    except NoResultFound as gone:
        raise Unreadable("row:missing") from gone


@contextmanager
def _pool_translated() -> Iterator[None]:
    try:
        yield
    except PoolTimeout as error:
        DATABASE_ERRORS.add("pool")
        raise Busy(5) from error


def _busy(error: DBAPIError) -> Exception:
    """Translate a lock held too long or a database that is away; anything else is a defect and stays what it is."""
    if "Could not decode to UTF-8" in str(error.orig):
        # Somebody wrote bytes into a text column; the message quotes them, so it is not told further.
        return Unreadable("database:text")
    if isinstance(error, OperationalError) or error.connection_invalidated:
        DATABASE_ERRORS.add("busy")
        log.warning("database_busy", error=type(error.orig).__name__, text=str(error.orig)[:200])
        return Busy(5)
    return error


def _jitter(attempt: int) -> float:
    milliseconds: int = 2 + secrets.randbelow(8)
    return milliseconds / 1000 * float(2**attempt)
