"""What an operator does with the audit chain: prove it, hand it on, hold it against its anchor.

An export needs no key: each entry's hash covers all that it says and the hash before it, so whoever holds the last
hash can check the rest with any SHA-256 (``tools/verify_audit.py`` does).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from vault.errors import AuditBroken, ReadOnly
from vault.models import AuditEntry
from vault.services import audit
from vault.services.anchor import Anchor, Line, binding, read_lines
from vault.services.audit import Event, Fault, Position
from vault.services.transactions import Transactions

FORMAT = "docvault-audit-export"
SKEW = timedelta(seconds=30)
MOST_FAULTS = 1000

Say = Callable[[bytes], object]


@dataclass
class Verdict:
    """What came of walking the whole chain; ``whole`` when nothing is wrong and every line of the anchor is in it."""

    entries: int = 0
    end: Position | None = None
    faults: list[Fault] = field(default_factory=list)
    went_back: list[int] = field(default_factory=list)
    """Positions whose time is earlier than the one before: a clock was put back. The order is that of the numbers."""
    anchored: int = 0
    """How many lines of anchor files were compared."""

    @property
    def whole(self) -> bool:
        return not self.faults


@dataclass(frozen=True)
class AnchorState:
    """How the anchor file and the chain stand to each other."""

    path: Path | None
    end: Position
    last: Line | None
    alarm: str


class Chain:
    """The audit chain as a whole."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    @property
    def _anchor(self) -> Anchor | None:
        return self._transactions.halt.anchor

    def verify(self, copies: Sequence[Path] = ()) -> Verdict:
        """Walk every entry, and hold the chain against the anchor file and ``copies`` of such files.

        Raises nothing for what is wrong: each fault has its position, a thousand at most.
        """
        paths = [*copies, *([self._anchor.path] if self._anchor is not None else [])]
        known = {path: binding(read_lines(path)) for path in paths if path in copies or path.exists()}
        verdict = Verdict(anchored=sum(map(len, known.values())))
        with self._transactions.reading() as session:
            for fault in self._faults(session, verdict, known):
                verdict.faults.append(fault)
                if len(verdict.faults) == MOST_FAULTS:
                    break
        return verdict

    def _faults(self, session: Session, verdict: Verdict, known: dict[Path, list[Line]]) -> Iterator[Fault]:
        try:
            verdict.end = audit.end(session)
        except AuditBroken as broken:
            yield Fault(0, str(broken))
        noted: dict[int, list[tuple[Path, Line]]] = {}
        for path, lines in known.items():
            for line in lines:
                noted.setdefault(line.sequence, []).append((path, line))
        before: datetime | None = None
        for found in audit.examine(session, verdict.end):
            if isinstance(found, Fault):
                yield found
                continue
            verdict.entries += 1
            if before is not None and found.at < before - SKEW:
                verdict.went_back.append(found.sequence)
            before = found.at
            for path, line in noted.pop(found.sequence, ()):
                if line.entry_hash != found.entry_hash:
                    yield Fault(found.sequence, f"the entry is not the one that {path} knows")
        if noted:
            position, ((path, _), *_) = min(noted.items())
            yield Fault(
                position, f"{path} knows this position, the chain does not: an older state was put back"
            )

    def export(self, write: Say) -> int:
        """Write all entries as JSON lines behind one that tells the end; returns how many.

        They are written as they are: a broken chain is evidence, and shows when the export is verified.
        """
        entry = AuditEntry.__table__.c
        with self._transactions.reading() as session:
            ended = audit.end(session)
            end = {"sequence": ended.sequence, "entry_hash": ended.entry_hash.hex()}
            write(_encoded({"format": FORMAT, "version": 1, "end": end}))
            statement = (
                select(*[entry[name] for name in COLUMNS])
                .where(entry.sequence <= ended.sequence)
                .order_by(entry.sequence)
                .execution_options(yield_per=500, unverified="an export proves itself by its hashes")
            )
            count = 0
            for row in session.execute(statement):
                write(_encoded(dict(zip(COLUMNS.values(), map(_plain, row), strict=True))))
                count += 1
        return count

    def keep_anchor(self) -> None:
        """Hold the chain against the anchor file, and note there how far it has come; ``serve`` never stops to."""
        if self._anchor is not None:
            with self._transactions.reading() as session:
                self._anchor.keep(session)

    def anchor_state(self) -> AnchorState:
        """Look at chain and anchor file, and note the chain's end where they agree."""
        with self._transactions.reading() as session:
            ended = audit.end(session)
            if self._anchor is None:
                return AnchorState(None, ended, None, "")
            self._anchor.look(session)
        if self._anchor.alarm is None:
            self._anchor.note(ended)
        alarm = self._anchor.alarm
        return AnchorState(
            self._anchor.path, ended, self._anchor.last, f"{alarm.said} {alarm.detail}" if alarm else ""
        )

    def accept(self) -> AnchorState:
        """Let the state that was put back stand: an entry in the chain says so, and a line in the anchor file.

        Raises ``ReadOnly`` when the anchor file cannot be written.
        """
        if self._anchor is None:
            return self.anchor_state()
        lost = self.anchor_state().alarm
        if lost:
            event = Event("anchor_accepted", None, "audit", detail=lost[:80])
            self._transactions.writing(lambda session: self._transactions.record(event), always=True)
            with self._transactions.reading() as session:
                self._anchor.accept(audit.end(session))
            if self._anchor.alarm is not None:
                raise ReadOnly(self._anchor.alarm.detail)
        return self.anchor_state()


COLUMNS = {
    "sequence": "sequence",
    "at": "at",
    "actor_id": "actor",
    "action": "action",
    "object_kind": "object_kind",
    "object_id": "object",
    "subject_id": "subject",
    "succeeded": "succeeded",
    "detail": "detail",
    "request_id": "request",
    "touched": "touched",
    "previous_hash": "previous_hash",
    "entry_hash": "entry_hash",
}
"""The columns of an entry, and what an export calls them."""


def _plain(value: Any) -> Any:
    """Turn a value into what JSON has: bytes into hex, a time into microseconds since 1970."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, datetime):
        return (value - datetime.fromtimestamp(0, value.tzinfo)) // timedelta(microseconds=1)
    return value


def _encoded(line: dict[str, Any]) -> bytes:
    return json.dumps(line, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"
