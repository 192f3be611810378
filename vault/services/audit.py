"""The audit chain: what happened, in one order, each entry holding the hash of the one before.

An entry is written by the transaction of its effect, or by one of its own when the work failed. Entries hold ids,
never names. Each names the sealed rows that its transaction changed, so that a row put back from a backup, or
removed, is seen by ``docvault check``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from vault.crypto.audit import decode_touched, encode_touched, entry_hash
from vault.errors import AuditBroken, KeyUnavailable, Unreadable
from vault.models import AuditEntry, AuditHead
from vault.services import clock, seals

HEAD_ID = b"docvault audit h"
GENESIS = bytes(32)

log = structlog.get_logger("vault.audit")

_LOCKED_HEAD = select(*seals.columns(AuditHead)).where(AuditHead.id == HEAD_ID).with_for_update()


@dataclass(frozen=True)
class Event:
    """One thing that happened: who did what to which object, about which person, with what outcome."""

    action: str
    actor_id: bytes | None = None
    object_kind: str | None = None
    object_id: bytes | None = None
    subject_id: bytes | None = None
    succeeded: bool = True
    detail: str | None = None


def hash_of(entry: AuditEntry) -> bytes:
    """Hash an entry over its predecessor's hash and every field but its seal: the chain outlives any master key."""
    return entry_hash(
        entry.previous_hash,
        entry.sequence,
        [
            entry.at,
            entry.actor_id,
            entry.action,
            entry.object_kind,
            entry.object_id,
            entry.subject_id,
            1 if entry.succeeded else 0,
            entry.detail,
            entry.request_id,
            entry.touched,
        ],
    )


def make_head(session: Session) -> None:
    """Write the chain's head into a database that has none yet; the caller commits."""
    session.add(AuditHead(id=HEAD_ID, sequence=0, entry_hash=GENESIS))


class Position(NamedTuple):
    """A place in the chain: the number of an entry, and its hash."""

    sequence: int
    entry_hash: bytes


START = Position(0, GENESIS)


def append(session: Session, events: list[Event], request_id: bytes | None) -> tuple[Position, Position]:
    """Write ``events`` at the chain's end, with the rows that this transaction changed; the caller commits next.

    Returns where the chain ended before and where it ends now. The head's lock is held until the commit, so this
    stands last in a transaction.
    """
    changed = seals.touched(session)
    found = seals.verified_row(session, _LOCKED_HEAD, AuditHead, parameters={})
    if found is None:
        raise AuditBroken
    head = seals.believed(found[0])
    before = Position(head.sequence, head.entry_hash)
    sequence, previous = before
    for position, event in enumerate(events):
        rows = changed if position == 0 else []
        entry = AuditEntry(
            sequence=sequence + 1,
            at=clock.now(),
            actor_id=event.actor_id,
            action=event.action,
            object_kind=event.object_kind,
            object_id=event.object_id,
            subject_id=event.subject_id,
            succeeded=event.succeeded,
            detail=event.detail[:80] if event.detail else None,
            request_id=request_id,
            touched=encode_touched(rows),
            previous_hash=previous,
        )
        entry.entry_hash = hash_of(entry)
        entry.id = entry.entry_hash[:16]
        seals.insert(session, entry)
        sequence, previous = entry.sequence, entry.entry_hash
    seals.change(session, AuditHead, head, sequence=sequence, entry_hash=previous)
    return before, Position(sequence, previous)


def tell(events: list[Event]) -> None:
    """Write committed events to the log as well: ids only."""
    for event in events:
        log.info(
            event.action,
            actor=event.actor_id.hex() if event.actor_id else None,
            object_kind=event.object_kind,
            object=event.object_id.hex() if event.object_id else None,
            subject=event.subject_id.hex() if event.subject_id else None,
            succeeded=event.succeeded,
            detail=event.detail,
        )


@dataclass(frozen=True)
class ChainEntry:
    """An entry whose seal, hash and place in the chain have been verified."""

    sequence: int
    at: datetime
    action: str
    touched: list[seals.Touched]
    entry_hash: bytes
    key_id: bytes
    is_original: bool
    """Whether the seal is the one that it was written with: a rotation has not passed it."""


@dataclass(frozen=True)
class Fault:
    """A place where the chain is not what it should be, and in which way."""

    position: int
    text: str
    at_end: bool = False


def walk(session: Session, after: Position = START) -> Iterator[ChainEntry]:
    """Yield every entry in order, verified; raises ``AuditBroken`` naming the first position that does not fit.

    ``after`` is an entry that was verified before.
    """
    head = _head(session)
    for found in examine(session, Position(head.sequence, head.entry_hash), after):
        if isinstance(found, ChainEntry):
            yield found
        elif found.at_end:
            raise AuditBroken(
                f"The audit chain ends at position {found.position - 1}, its head says {head.sequence}."
            )
        else:
            raise AuditBroken(f"The audit chain is broken at position {found.position}.")


def examine(session: Session, head: Position | None, after: Position = START) -> Iterator[ChainEntry | Fault]:
    """Yield every entry in order, or what is wrong at its place, and go on after it; ``head`` ends the chain (M5).

    An entry that was taken out shows as a gap, an edited or exchanged one by its seal, or by its hash where somebody
    has the master key.
    """
    previous: bytes | None = after.entry_hash
    expected = after.sequence + 1
    entry = AuditEntry.__table__.c
    statement = (
        select(entry.sequence, entry.entry_hash, *seals.columns(AuditEntry))
        .order_by(entry.sequence)
        .execution_options(yield_per=500)
    )
    if after != START:
        statement = statement.where(entry.sequence > after.sequence)
    for sequence, said, row in seals.verified_rows(session, statement, AuditEntry, beside=2):
        if type(sequence) is not int:
            yield Fault(expected, "the entry was changed: it has no number")
            continue
        if sequence != expected:
            yield Fault(expected, _gap(expected, sequence))
            previous = None
        yield _judged(row, sequence, previous)
        previous, expected = said, sequence + 1
    if head is not None and head.sequence != expected - 1:
        yield Fault(expected, _gap(expected, head.sequence + 1), at_end=True)
    elif head is not None and previous is not None and head.entry_hash != previous:
        yield Fault(expected, "the head of the chain has another hash than its last entry", at_end=True)


def _gap(expected: int, found: int) -> str:
    if found < expected:
        return f"the head of the chain says that it ends at {found - 1}"
    if found == expected + 1:
        return "the entry is missing"
    return f"the entries up to {found - 1} are missing"


def _judged(row: Any, sequence: int, previous: bytes | None) -> ChainEntry | Fault:
    if isinstance(row, KeyUnavailable):
        return Fault(sequence, "the entry is sealed under a master key that is not here")
    if isinstance(row, Unreadable):
        return Fault(sequence, "the entry was changed: it does not bear its seal")
    if previous is not None and row.previous_hash != previous:
        return Fault(sequence, "the entry does not follow the one before it")
    if hash_of(row) != row.entry_hash:
        return Fault(sequence, "the entry was changed: its hash does not fit")
    try:
        touched = decode_touched(row.touched)
    except Unreadable:
        return Fault(sequence, "the entry was changed: it names no rows that can be read")
    is_original = row.row_version == 1
    return ChainEntry(sequence, row.at, row.action, touched, row.entry_hash, row.seal_key_id, is_original)


def end(session: Session) -> Position:
    """Return where the chain ends; raises ``AuditBroken`` when its head is gone or does not bear its seal."""
    head = _head(session)
    return Position(head.sequence, head.entry_hash)


def hash_at(session: Session, sequence: int) -> bytes | None:
    """Return the hash of the entry at a position, or ``None`` where none is, or none that can be believed."""
    statement = select(*seals.columns(AuditEntry)).where(AuditEntry.sequence == sequence)
    for (row,) in seals.verified_rows(session, statement, AuditEntry):
        if not isinstance(row, seals.Refusal) and hash_of(row) == row.entry_hash:
            found: bytes = row.entry_hash
            return found
    return None


def _head(session: Session) -> AuditHead:
    try:
        head = session.get(AuditHead, HEAD_ID)
    except seals.Refusal as refusal:
        raise AuditBroken("The audit chain's head does not bear its seal.") from refusal
    if head is None:
        raise AuditBroken("The audit chain has no head.")
    return head


def latest_versions(session: Session) -> dict[tuple[str, bytes], tuple[int, bytes]]:
    """Replay the chain: for each tracked row the version and seal that it must bear now; version 0 means deleted."""
    latest: dict[tuple[str, bytes], tuple[int, bytes]] = {}
    for entry in walk(session):
        for table, row_id, version, seal in entry.touched:
            if version:
                latest[table, row_id] = version, seal
            else:
                latest.pop((table, row_id), None)
    return latest
