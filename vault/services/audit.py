"""The audit chain: what happened, in one order, each entry holding the hash of the one before.

An entry is written by the transaction of its effect, or by one of its own when the work failed. Entries hold ids,
never names. Each names the sealed rows that its transaction changed, so that a row put back from a backup, or
removed, is seen by ``docvault check``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from vault.crypto.audit import decode_touched, encode_touched, entry_hash
from vault.errors import AuditBroken
from vault.models import AuditEntry, AuditHead
from vault.services import clock, seals

HEAD_ID = b"docvault audit h"
GENESIS = bytes(32)

log = structlog.get_logger("vault.audit")


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


def append(session: Session, events: list[Event], request_id: bytes | None) -> None:
    """Write ``events`` at the chain's end, with the rows that this transaction changed; the caller commits next.

    The head's lock is held until the commit, so this stands last in a transaction.
    """
    changed = seals.touched(session)
    head = session.scalar(select(AuditHead).where(AuditHead.id == HEAD_ID).with_for_update())
    if head is None:
        raise AuditBroken
    for position, event in enumerate(events):
        rows = changed if position == 0 else []
        entry = AuditEntry(
            sequence=head.sequence + 1,
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
            previous_hash=head.entry_hash,
        )
        entry.entry_hash = hash_of(entry)
        entry.id = entry.entry_hash[:16]
        session.add(entry)
        head.sequence, head.entry_hash = entry.sequence, entry.entry_hash
    session.flush()


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
    key_id: bytes


def walk(session: Session) -> Iterator[ChainEntry]:
    """Yield every entry in order, verified; raises ``AuditBroken`` naming the first position that does not fit."""
    head = _head(session)
    previous, expected = GENESIS, 1
    statement = select(*seals.columns(AuditEntry)).order_by(AuditEntry.sequence)
    for (row,) in seals.verified_rows(session, statement.execution_options(yield_per=500), AuditEntry):
        if isinstance(row, seals.Refusal) or row.sequence != expected:
            raise AuditBroken(f"The audit chain is broken at position {expected}.")
        if row.previous_hash != previous or hash_of(row) != row.entry_hash:
            raise AuditBroken(f"The audit chain is broken at position {expected}.")
        yield ChainEntry(row.sequence, row.at, row.action, decode_touched(row.touched), row.seal_key_id)
        previous, expected = row.entry_hash, expected + 1
    if head.sequence != expected - 1 or head.entry_hash != previous:
        raise AuditBroken(f"The audit chain ends at position {expected - 1}, its head says {head.sequence}.")


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
