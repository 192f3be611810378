"""The sweep: execute tombstones, end what has expired. Nothing else ever destroys a blob.

A blob goes only because a sealed record says so (a tombstone, an expired upload row), never because no row names it:
a restored older database must not cost the newer documents. The sweep refuses to run while the audit chain does not
verify, or the anchor is ahead of it. Work is done in batches, so that a kill at any point only leaves the rest to the
next sweep. Between them whoever sweeps renews his lease, and stops where another has it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from vault.crypto.manifests import decode_parts
from vault.crypto.parts import blob_name
from vault.crypto.randomness import new_id
from vault.errors import Conflict
from vault.failpoints import reach
from vault.models import DocumentVersion, Lease, PartList, Tombstone, Upload
from vault.services import audit, backup, clock, deletion, invitations, sessions, sharing, throttle
from vault.services.audit import Event
from vault.services.documents import bury
from vault.services.transactions import Transactions
from vault.storage.protocol import BlobStore

BATCH = 200
LEASE_ID = b"docvault sweep l"
LEASE_LIFE = timedelta(minutes=1)
RENEWED = timedelta(seconds=15)
STEP_SECONDS = 10
EVERY = timedelta(hours=1)


@dataclass
class Swept:
    """What one sweep did, as counts."""

    uploads: int = 0
    segments: int = 0
    blobs: int = 0
    shares: int = 0
    sessions: int = 0
    attempts: int = 0
    codes: int = 0
    purges: int = 0


class Sweep:
    """Execute tombstones and end what has expired."""

    def __init__(self, transactions: Transactions, store: BlobStore, idle: timedelta) -> None:
        self._transactions = transactions
        self._store = store
        self._idle = idle
        self._holder: bytes | None = None
        self._renewed: datetime | None = None

    def run(self, holder: bytes | None = None) -> Swept:
        """Sweep everything that is due; with ``holder``, who has taken the lease, while it is his.

        Raises ``AuditBroken`` or ``ReadOnly`` before touching anything when the chain is broken or behind its anchor,
        and ``Conflict`` at any point where another holds the lease: he does the rest.
        """
        self._holder, self._renewed = holder, None
        self._transactions.refuse_while_halted(now=True)
        verified: audit.Position | None = audit.START
        while verified is not None:
            self._keep_lease()
            verified = self._verify_some(verified)
        swept, record = Swept(), self._transactions
        while self._end_some_uploads(swept):
            pass
        swept.shares = self._all(lambda session: sharing.end_expired_grants(session, BATCH, record))
        swept.sessions = self._all(lambda session: sessions.forget_dead_sessions(session, self._idle, BATCH))
        swept.attempts = self._all(lambda session: throttle.forget_old(session, BATCH))
        swept.codes = self._all(lambda session: invitations.forget_expired(session, BATCH, record))
        while purged := deletion.purge(self._transactions, STEP_SECONDS):
            swept.purges += purged
            self._keep_lease()
        while self._destroy_some(swept):
            pass
        return swept

    def _verify_some(self, after: audit.Position) -> audit.Position | None:
        """Verify the audit chain for some seconds; return where to go on, ``None`` at its end."""
        until = time.monotonic() + STEP_SECONDS
        with self._transactions.snapshot() as session:
            for entry in audit.walk(session, after):
                if time.monotonic() > until:
                    return audit.Position(entry.sequence, entry.entry_hash)
        return None

    def _all(self, step: Callable[[Session], int]) -> int:
        total = 0
        while done := self._transactions.writing(step):
            total += done
            if done < BATCH:
                break
            self._keep_lease()
        return total

    def _end_some_uploads(self, swept: Swept) -> bool:
        """Forget one batch of expired uploads; tell whether there was any.

        What became no document is destroyed whole, and of the others what pieces that lost a race have left. While a
        backup is being made this waits, as the destruction does: until that, the bytes count against a quota.
        """
        self._keep_lease()
        with self._transactions.reading() as session:
            if backup.under_way(session):
                return False
            due = session.scalars(select(Upload).where(Upload.expires_at <= clock.now()).limit(BATCH)).all()
            doomed = {row.id: [""] for row in due if row.document_id is None}
            kept = {row.id: _named(session, row) for row in due if row.document_id is not None}
        for segment, named in kept.items():
            found = (info.name for info in self._store.list(f"{segment.hex()}/"))
            doomed[segment] = [name.split("/", 1)[1] for name in found if name not in named]
        swept.uploads += self._transactions.writing(lambda session: self._bury_uploads(session, doomed))
        return bool(doomed)

    def _bury_uploads(self, session: Session, doomed: dict[bytes, list[str]]) -> int:
        found = session.scalars(select(Upload).where(Upload.id.in_(doomed))).all()
        # One that became a document since it was looked at is left to the next batch.
        rows = [row for row in found if (row.document_id is None) == (doomed[row.id] == [""])]
        for row in rows:
            bury(session, {row.id}, blobs=doomed[row.id])
            session.delete(row)
        if rows:
            self._transactions.record(Event("uploads_expired", None, "upload", rows[0].id))
        return len(rows)

    def _destroy_some(self, swept: Swept) -> bool:
        """Destroy the blobs of one batch of due tombstones, then drop the tombstones; tell whether there was any.

        While a backup is being made this waits for the next sweep.
        """
        with self._transactions.reading() as session:
            if backup.under_way(session):
                return False
            due = session.scalars(
                select(Tombstone).where(Tombstone.destroy_after <= clock.now()).limit(BATCH)
            ).all()
            segments = {row.id: (row.segment_id.hex(), row.blob) for row in due}
        for segment, blob in segments.values():
            self._keep_lease()
            names = (info.name for info in self._store.list(f"{segment}/"))
            doomed = [name for name in names if not blob or name == f"{segment}/{blob}"]
            reach("sweep.before_destroying")
            self._store.delete(doomed)
            reach("sweep.after_destroying")
            swept.blobs += len(doomed)
        if segments:
            self._transactions.writing(lambda session: self._drop(session, list(segments)))
        swept.segments += len(segments)
        return bool(segments)

    def _drop(self, session: Session, tombstones: list[bytes]) -> None:
        rows = session.scalars(select(Tombstone).where(Tombstone.id.in_(tombstones))).all()
        for row in rows:
            session.delete(row)
        if rows:
            self._transactions.record(Event("destroyed", None, "tombstone", rows[0].id))

    def take_lease(self, holder: bytes) -> bool:
        """Take or renew the lease of background work; tell whether ``holder`` has it and a sweep is due."""

        def work(session: Session) -> bool:
            time = clock.now()
            lease = session.get(Lease, LEASE_ID, with_for_update=True)
            if lease is None:
                session.add(Lease(id=LEASE_ID, holder=holder, expires_at=time + LEASE_LIFE, swept_at=None))
                return True
            if lease.holder != holder and lease.expires_at > time:
                return False
            lease.holder, lease.expires_at = holder, time + LEASE_LIFE
            return lease.swept_at is None or lease.swept_at + EVERY <= time

        return self._transactions.writing(work)

    def _keep_lease(self) -> None:
        """Renew the lease from time to time; raises ``Conflict`` where another has it."""
        now = clock.now()
        if self._holder is None or (self._renewed is not None and now - self._renewed < RENEWED):
            return
        if not self._transactions.writing(self._renew):
            raise Conflict("Another worker has taken the sweep over.")
        self._renewed = now

    def _renew(self, session: Session) -> bool:
        lease = session.get(Lease, LEASE_ID, with_for_update=True)
        if lease is None or lease.holder != self._holder:
            return False
        lease.expires_at = clock.now() + LEASE_LIFE
        return True

    def note_swept(self) -> None:
        """Remember that a sweep has run, so that the next comes an hour later, whichever worker does it."""

        def work(session: Session) -> None:
            lease = session.get(Lease, LEASE_ID, with_for_update=True)
            if lease is not None:
                lease.swept_at = clock.now()

        self._transactions.writing(work)


def _named(session: Session, upload: Upload) -> set[str]:
    """Name the blobs of an upload's segment that its document's versions are made of."""
    lists = session.scalars(
        select(PartList)
        .join(DocumentVersion, DocumentVersion.id == PartList.id)
        .where(DocumentVersion.document_id == upload.document_id)
    ).all()
    parts = (part for row in lists for part in decode_parts(row.parts))
    return {blob_name(part.segment, part.offset, part.suffix) for part in parts if part.segment == upload.id}


def new_holder() -> bytes:
    """Make the id under which a process holds the lease."""
    return new_id()
