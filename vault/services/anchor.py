"""The anchor: notes of how far the audit chain had come, in a file outside of database and blob store (M6).

Inside the database nothing can tell yesterday's whole state from today's. Each line of the file names a position of
the chain and its hash, so an older state put back shows: its chain does not have the last line. Lines are only ever
appended, by all processes of a machine under one lock; every machine has a file of its own.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog
from sqlalchemy.orm import Session

from vault.errors import AuditBroken
from vault.services import audit, clock
from vault.services.audit import Position

EVENTS = 500
"""A line is due after so many events at the latest; two processes may each be that far ahead of what they know."""
SPAN = timedelta(seconds=30)
LOOK_SECONDS = 10
LOCK_SECONDS = 5
TAIL_BYTES = 4096

_LINE = re.compile(
    rb"1 ([1-9][0-9]{0,17}) ([0-9a-f]{64}) ([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z)( accepted)?"
)
_TIME = "%Y-%m-%dT%H:%M:%SZ"

OLDER = "An older state of its database seems to have been put back."
ANOTHER = "Its audit chain is not the one that the anchor knows."
UNWRITABLE = "The anchor of its audit chain cannot be written."
CUT = "The anchor of its audit chain was cut or taken away."

log = structlog.get_logger("vault.anchor")


@dataclass(frozen=True)
class Line:
    """One note: so far the chain had come at that time; ``accepted`` where a person let an older state stand."""

    sequence: int
    entry_hash: bytes
    at: datetime
    accepted: bool = False

    @classmethod
    def now(cls, ended: Position, *, accepted: bool = False) -> Line:
        """Make the line that says that the chain has come so far."""
        return cls(ended.sequence, ended.entry_hash, clock.now(), accepted)

    def encoded(self) -> bytes:
        """Write it as the file has it, with its end of line."""
        mark = " accepted" if self.accepted else ""
        return f"1 {self.sequence} {self.entry_hash.hex()} {self.at.strftime(_TIME)}{mark}\n".encode()


@dataclass(frozen=True)
class Alarm:
    """Why nothing may be changed: ``said`` to everybody, ``detail`` to the operator."""

    said: str
    detail: str


def parse_line(text: bytes) -> Line | None:
    """Read one line, or ``None`` for what is none: a line that was torn by a crash is passed over."""
    found = _LINE.fullmatch(text)
    if found is None:
        return None
    try:
        at = datetime.strptime(found[3].decode(), _TIME).replace(tzinfo=UTC)
    except ValueError:
        return None
    return Line(int(found[1]), bytes.fromhex(found[2].decode()), at, found[4] is not None)


def read_lines(path: Path) -> list[Line]:
    """Read a whole anchor file, or a copy of one."""
    lines = [parse_line(text) for text in path.read_bytes().split(b"\n")]
    return [line for line in lines if line is not None]


def binding(lines: Sequence[Line]) -> list[Line]:
    """Return the lines that must all be in the chain: those since a person last accepted an older state."""
    accepted = [number for number, line in enumerate(lines) if line.accepted]
    return list(lines[accepted[-1] :] if accepted else lines)


class Anchor:
    """The anchor file of this machine, as one process knows it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last: Line | None = None
        self.alarm: Alarm | None = None
        self._unwritten = False
        self._looked = -1e9
        self._told = -1e9

    def is_due(self) -> bool:
        """Tell whether it is time to look again."""
        return time.monotonic() - self._looked > LOOK_SECONDS

    def look(self, session: Session) -> None:
        """Compare the last line with the chain, and see that the file can be written; what is wrong is the ``alarm``.

        The file is read before the chain, so that a line which another process adds meanwhile is none too many.
        """
        try:
            with self._opened() as file:
                last, size = _last_line(file), os.fstat(file).st_size
            alarm = self._judge(session, last, size)
            if alarm is None and self._unwritten:
                self._append(audit.end(session))
        except OSError as error:
            alarm = Alarm(UNWRITABLE, f"{self.path}: {os.strerror(error.errno or 0)}")
        except AuditBroken as broken:
            alarm = Alarm(ANOTHER, str(broken))
        self._looked = time.monotonic()
        self._sound(alarm)

    def _judge(self, session: Session, last: Line | None, size: int) -> Alarm | None:
        if last is None and size:
            return Alarm(CUT, f"{self.path}: no line of it can be read.")
        if last is None and self.last is None:
            return None
        if last is None or (
            self.last is not None and last.sequence < self.last.sequence and not last.accepted
        ):
            known = self.last.sequence if self.last is not None else 0
            return Alarm(CUT, f"{self.path}: it had come to position {known} before.")
        ended = audit.end(session)
        if ended.sequence < last.sequence:
            return Alarm(
                OLDER,
                f"The audit chain ends at position {ended.sequence}; {self.path} knows position {last.sequence} "
                f"of {last.at.strftime(_TIME)}.",
            )
        if audit.hash_at(session, last.sequence) != last.entry_hash:
            return Alarm(
                ANOTHER, f"Position {last.sequence} of the audit chain is not the one that {self.path} knows."
            )
        self.last = last
        return None

    def keep(self, session: Session) -> None:
        """Look, then note the chain's end where that is due; ``serve`` does it every few seconds."""
        self.look(session)
        if self.alarm is None:
            ended = audit.end(session)
            if self._is_behind(ended):
                self.note(ended)

    def _is_behind(self, ended: Position) -> bool:
        if self.last is None:
            return ended.sequence > 0
        new = ended.sequence - self.last.sequence
        # A clock that was put back must not keep the next line away for as long as that.
        fresh = timedelta() <= clock.now() - self.last.at < SPAN
        return new >= EVENTS or (new > 0 and not fresh)

    def follow(self, ended: Position) -> None:
        """Note where a transaction that has just committed took the chain, when the file is many events behind."""
        if self.alarm is None and self.last is not None and ended.sequence - self.last.sequence >= EVENTS:
            self.note(ended)

    def is_older(self, ended: Position) -> bool:
        """Tell whether a chain that ends here, seen under the lock of its head, has lost what was noted of it."""
        if self.alarm is not None or self.last is None or ended.sequence >= self.last.sequence:
            return False
        self._sound(
            Alarm(OLDER, f"The audit chain ends at position {ended.sequence}, before {self.last.sequence}.")
        )
        return True

    def note(self, ended: Position, *, accepted: bool = False) -> None:
        """Append a line, unless another process has come as far; where that fails nothing may be changed any more."""
        try:
            self._append(ended, accepted)
        except OSError as error:
            self._unwritten = True
            self._sound(Alarm(UNWRITABLE, f"{self.path}: {os.strerror(error.errno or 0)}"))

    def _append(self, ended: Position, accepted: bool = False) -> None:
        line = Line.now(ended, accepted=accepted)
        with self._opened() as file:
            last = _last_line(file)
            if ended.sequence and (accepted or last is None or last.sequence < ended.sequence):
                _write(file, line.encoded())
                last = line
        self.last, self._unwritten = last, False

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """Open the file for appending, made where it is missing, and hold its lock."""
        is_new = not self.path.exists()
        file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _lock(file)
            if is_new:
                _sync_folder(self.path.parent)
            yield file
        finally:
            os.close(file)

    def _sound(self, alarm: Alarm | None) -> None:
        """Say it when the alarm begins and ends, and once a minute in between."""
        if alarm is not None and (alarm != self.alarm or time.monotonic() - self._told > 60):
            self._told = time.monotonic()
            log.critical("read_only", reason=alarm.said, detail=alarm.detail)
        if alarm is None and self.alarm is not None:
            log.warning("read_only_ended")
        self.alarm = alarm

    def accept(self, ended: Position) -> None:
        """Let the chain stand as it is now, however far the lines before had come: a person has decided."""
        self.note(ended, accepted=True)
        if not self._unwritten:
            self._sound(None)


def _lock(file: int) -> None:
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.01)


def _last_line(file: int) -> Line | None:
    size = os.fstat(file).st_size
    for start in (max(0, size - TAIL_BYTES), 0):
        texts = os.pread(file, size - start, start).split(b"\n")
        # What was torn off at the start of the tail could look whole.
        for text in reversed(texts[1:] if start else texts):
            line = parse_line(text)
            if line is not None:
                return line
    return None


def _write(file: int, line: bytes) -> None:
    """Append a line and sync it; raises ``OSError``. What a crash left of another one is ended before it."""
    size = os.fstat(file).st_size
    torn = size > 0 and os.pread(file, 1, size - 1) != b"\n"
    whole = (b"\n" if torn else b"") + line
    try:
        if os.write(file, whole) != len(whole):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(file)
    except OSError:
        # What may be lost with the power must not count as noted.
        with suppress(OSError):
            os.ftruncate(file, size)
        raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
