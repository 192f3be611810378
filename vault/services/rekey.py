"""Re-key: write a document's content anew under a new DEK and new segment keys, and destroy the old blobs.

What a former reader kept, a DEK or a copy of the database, opens nothing of the new generation. Writing a gibibyte
fits no request, so a re-key is long work of the owner's (``work.py``): a row with a sealed cursor, which his requests
advance. Until the last transaction swaps the generations the old one is read, and from it on the new one;
nothing is readable twice, and plaintext is never more than a piece in memory.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from vault.crypto.manifests import Manifest, Part, Segment, encode_parts, parts_digest
from vault.crypto.parts import blob_name, blob_size, open_part
from vault.crypto.randomness import new_id, new_secret
from vault.crypto.rekey import RekeyCursor, open_rekey_cursor, seal_rekey_cursor
from vault.errors import Conflict, Exists, Missing, NotFound, StorageError, Unreadable, VaultError
from vault.failpoints import reach
from vault.models import DocumentGeneration, DocumentVersion, PartList, SharedKeyRegistry, Upload, Work
from vault.services import backup, clock, work
from vault.services.access import Gate, Held, Need, OpenVersion, entry_of, put_entry
from vault.services.audit import Event
from vault.services.content import Content, fetch, place
from vault.services.documents import bury
from vault.services.downloads import Downloads
from vault.services.pipeline import Pipeline
from vault.services.quota import REKEY, expiry, new_upload
from vault.services.transactions import Transactions
from vault.services.unlocked import UnlockedAccount
from vault.services.uploads import Received, Uploads
from vault.storage.protocol import BlobStore

log = structlog.get_logger("vault.rekey")

SWAP_SECONDS = 0.5
"""What is left of a request's time for its end; within it no further part is begun."""
GRACE = timedelta(hours=1)
"""What is being downloaded is sent to its end; then the old blobs go."""


@dataclass(frozen=True, eq=False)
class _Begun:
    """A re-key as one request found it: from which content, and how far."""

    work_id: bytes
    document_id: bytes
    row_cursor: bytes | None
    cursor: RekeyCursor = field(repr=False)
    manifest: Manifest = field(repr=False)
    content: Content = field(repr=False)

    @property
    def size(self) -> int:
        return self.manifest.size

    @property
    def segment(self) -> bytes:
        return self.cursor.segment or b""

    @property
    def key(self) -> bytes:
        return self.cursor.segment_key or b""

    @property
    def total(self) -> int:
        return count_parts(self.size, self.cursor.part_size)

    def part(self, number: int) -> Part:
        start = number * self.cursor.part_size
        return Part(self.segment, start, min(self.cursor.part_size, self.size - start))

    def name(self, number: int) -> str:
        return blob_name(self.segment, number * self.cursor.part_size)


class Rekey:
    """Ask for re-keys, and carry them on."""

    def __init__(
        self,
        transactions: Transactions,
        gate: Gate,
        downloads: Downloads,
        uploads: Uploads,
        store: BlobStore,
        *,
        part_size: int,
    ) -> None:
        self._transactions = transactions
        self._gate = gate
        self._downloads = downloads
        self._uploads = uploads
        self._store = store
        self._part_size = part_size

    def ask(self, account: UnlockedAccount, document_id: bytes, *, at_once: bool = False) -> bytes:
        """Ask for new keys of a document; return the work that ``advance`` carries on. The owner only.

        With ``at_once`` the old blobs have no hour of grace: who is downloading them is cut off.
        """

        def change(session: Session) -> bytes:
            self._gate.find(session, account, document_id, Need.OWN, lock=True)
            row = ask_in(session, account, document_id, at_once=at_once)
            self._transactions.record(Event("rekey_asked", account.user_id, "document", document_id))
            return row.id

        return self._transactions.writing(change, account.user_id, ("document", document_id))

    def advance(self, account: UnlockedAccount, work_id: bytes, until: float) -> None:
        """Carry a re-key on until ``until``; who writes the last part swaps the generations, and the work is gone.

        Raises ``Conflict`` when the document was replaced or renamed meanwhile: the work stays, and begins anew.
        """
        self._advance(account, work_id, until)

    def carry_on(
        self, account: UnlockedAccount, work_ids: Sequence[bytes], seconds: float = work.BATCH_SECONDS
    ) -> list[bytes]:
        """Carry on re-keys that were just asked for; return those that this was too short for.

        What goes wrong is told by the request that goes on with them: what was asked for beside them has been done.
        """
        left: list[bytes] = []
        until = time.monotonic() + seconds
        for work_id in work_ids:
            try:
                if left or not self._advance(account, work_id, until):
                    left.append(work_id)
            except VaultError:
                left.append(work_id)
        return left

    def carry_through(self, account: UnlockedAccount, document_id: bytes, until: float) -> bool:
        """Ask for new keys and carry the work on until ``until``; tell whether it is over.

        Of a document that does not open the work is given up, and ``Unreadable`` raised.
        """
        work_id = self.ask(account, document_id)
        try:
            return self._advance(account, work_id, until)
        except Conflict:
            return False  # replaced or renamed meanwhile: the next request begins it anew
        except Unreadable:
            self._drop(account, work_id)
            raise

    def _drop(self, account: UnlockedAccount, work_id: bytes) -> None:
        """Delete the work of a document that does not open."""

        def change(session: Session) -> None:
            row = work.locked(session, account, work_id)
            _bury_new(session, _cursor_of(account, row))
            session.delete(row)
            self._transactions.record(Event("rekey_given_up", account.user_id, "work", work_id))

        self._transactions.writing(change, account.user_id)

    def _advance(self, account: UnlockedAccount, work_id: bytes, until: float) -> bool:
        """Carry a re-key on until ``until``; tell whether it is over."""
        begun = self._open(account, work_id)
        if begun.cursor.version is None:
            self._begin(account, begun)
            begun = self._open(account, work_id)
        done = self._copy(account, begun, until - SWAP_SECONDS)
        if done == begun.total:
            self._finish(account, begun)
            return True
        if done > begun.cursor.done:
            self._note(account, begun, done)
        return False

    def _finish(self, account: UnlockedAccount, begun: _Begun) -> None:
        """See that the new generation lies in the store whole, then let it take the old one's place."""
        about = ("document", begun.document_id)
        sizes = {info.name: info.size for info in self._store.list(f"{begun.segment.hex()}/")}
        with self._audited(account, begun.document_id):
            for number in range(begun.total):
                if sizes.get(begun.name(number)) != blob_size(begun.part(number).length):
                    raise Unreadable("rekey:missing")
        self._transactions.writing(
            lambda session: self._swap(session, account, begun), account.user_id, about
        )
        if begun.cursor.at_once:
            self._destroy(begun.manifest)

    def give_up(self, account: UnlockedAccount, document_id: bytes) -> None:
        """End a re-key without new keys; what it has written is destroyed, what could be read stays as it is."""

        def change(session: Session) -> None:
            self._gate.find(session, account, document_id, Need.OWN, lock=True)
            row = _row_of(session, document_id)
            if row is None:
                raise NotFound
            _bury_new(session, _cursor_of(account, row))
            session.delete(row)
            self._transactions.record(Event("rekey_given_up", account.user_id, "document", document_id))

        self._transactions.writing(change, account.user_id, ("document", document_id))

    # Before and after the parts

    def _open(self, account: UnlockedAccount, work_id: bytes) -> _Begun:
        """Read the work and the version that it began from, which must still be the current one."""
        with self._transactions.reading(account.user_id) as session:
            row, document_id = _own_row(session, account, work_id)
            held = self._gate.find(session, account, document_id, Need.OWN)
            opened = self._gate.open(session, account, held)
            cursor = _cursor_of(account, row)
            if cursor.version is not None and _has_expired(session, cursor):
                cursor = RekeyCursor(cursor.at_once)
            parts = self._downloads.encoded_parts(session, opened)
            content = Content(self._store, place(opened.manifest, parts))
            begun = _Begun(row.id, document_id, row.cursor, cursor, opened.manifest, content)
        if cursor.version is not None and not _began_from(cursor, opened):
            self._begin_anew(account, begun)
            raise Conflict
        return begun

    def _begin(self, account: UnlockedAccount, begun: _Begun) -> None:
        """Write the row of what will be written, and the cursor with its new key."""

        def change(session: Session) -> None:
            held = self._gate.find(session, account, begun.document_id, Need.OWN, lock=True)
            opened = self._gate.open(session, account, held)
            row = _unchanged(session, account, begun)
            upload = new_upload(account.user_id, REKEY, 0, clock.now().date())
            session.add(upload)
            size, part_size = opened.manifest.size, self._part_size
            row.total = count_parts(size, part_size)
            cursor = RekeyCursor(
                begun.cursor.at_once, opened.version_id, opened.manifest.revision,
                upload.id, new_secret(), part_size, 0,
            )  # fmt: skip
            _move(account, row, cursor)
            self._transactions.record(Event("rekey_begun", account.user_id, "document", begun.document_id))

        self._transactions.writing(change, account.user_id, ("document", begun.document_id))

    def _begin_anew(self, account: UnlockedAccount, begun: _Begun) -> None:
        """Forget what was written of a version that is the current one no longer."""

        def change(session: Session) -> None:
            row = _unchanged(session, account, begun)
            _move(account, row, RekeyCursor(begun.cursor.at_once))
            _bury_new(session, begun.cursor)
            self._transactions.record(
                Event("rekey_overtaken", account.user_id, "document", begun.document_id)
            )

        self._transactions.writing(change, account.user_id)

    def _note(self, account: UnlockedAccount, begun: _Begun, done: int) -> None:
        """Remember how far it came, and keep what was written from expiring for another day."""

        def change(session: Session) -> None:
            row = _unchanged(session, account, begun)
            upload = session.get(Upload, begun.segment)
            if upload is None:
                raise Conflict
            _move(account, row, begun.cursor._replace(done=done))
            upload.expires_at = expiry(clock.now().date())
            self._transactions.record(Event("rekey_advanced", account.user_id, "document", begun.document_id))

        self._transactions.writing(change, account.user_id)

    # The parts

    def _copy(self, account: UnlockedAccount, begun: _Begun, until: float) -> int:
        """Write parts until ``until``, one at least; return how many are durable.

        What an earlier request wrote and could not note is opened and kept. Where another request is at the same work
        its parts are not fought for: the answer is how far the work was.
        """
        at = begun.cursor.done
        present = {info.name for info in self._store.list(f"{begun.segment.hex()}/")}
        try:
            with self._audited(account, begun.document_id):
                while at < begun.total and (at == begun.cursor.done or time.monotonic() < until):
                    if begun.name(at) in present:
                        self._prove(begun, at)
                        at += 1
                    else:
                        at = self._write(begun, at, present, until)
        except Exists:
            return begun.cursor.done
        return at

    def _write(self, begun: _Begun, at: int, present: set[str], until: float) -> int:
        """Write parts from ``at`` on, up to one that is there; return the number behind the last."""
        start = at * begun.cursor.part_size
        with Pipeline(
            self._store, begun.key, begun.segment, begun.cursor.part_size,
            offset=start, length=begun.size - start, keep_empty=True,
        ) as pipeline:  # fmt: skip
            while at < begun.total and begun.name(at) not in present:
                part = begun.part(at)
                wanted = begun.content.wanted(part.offset, part.offset + part.length)
                for sealed in fetch(self._store, wanted):
                    pipeline.feed(sealed.open())
                at += 1
                if time.monotonic() >= until:
                    break
        return at

    def _prove(self, begun: _Begun, number: int) -> None:
        """Open a part that is there already: only this work's key made it, from the same content."""
        part = begun.part(number)
        with self._store.get(begun.name(number)) as blob:
            if blob.size != blob_size(part.length):
                raise Unreadable("rekey:size")
            open_part(begun.key, blob.read(), segment=part.segment, offset=part.offset)

    @contextmanager
    def _audited(self, account: UnlockedAccount, document_id: bytes) -> Iterator[None]:
        """Write into the audit log what makes content unreadable."""
        try:
            yield
        except (Unreadable, Missing) as error:
            damage = error if isinstance(error, Unreadable) else Unreadable("blob:missing")
            self._transactions.record_unreadable(damage, account.user_id, ("document", document_id))
            if damage is error:
                raise
            raise damage from error

    def _destroy(self, manifest: Manifest) -> None:
        """Destroy the old blobs, as the tombstones just committed order; what fails here is left to the sweep.

        So is all while a backup is made: it began from rows that name them.
        """
        reach("rekey.before_destroying")
        with self._transactions.reading() as session:
            if backup.under_way(session):
                return
        try:
            for segment in manifest.segments:
                self._store.delete([info.name for info in self._store.list(f"{segment.id.hex()}/")])
        except StorageError as error:
            log.warning("left_to_the_sweep", error=type(error).__name__)
        reach("rekey.after_destroying")

    # The swap

    def _swap(self, session: Session, account: UnlockedAccount, begun: _Begun) -> None:
        """Let the new generation take the old one's place: the readers of this moment, their wraps, all signatures."""
        held = self._gate.find(session, account, begun.document_id, Need.OWN, lock=True)
        opened = self._gate.open(session, account, held)
        row, upload = _unchanged(session, account, begun), session.get(Upload, begun.segment)
        if upload is None or not _began_from(begun.cursor, opened):
            raise Conflict
        session.delete(row)
        session.delete(upload)
        received = Received(
            (Segment(begun.segment, begun.key, begun.size),),
            tuple(begun.part(number) for number in range(begun.total)),
            opened.manifest.sha256,
        )
        freed = self._replace(session, account, held, opened, received)
        grace = timedelta() if begun.cursor.at_once else GRACE
        bury(session, {segment.id for segment in opened.manifest.segments}, clock.now() + grace)
        self._uploads.account_for(session, account, received.stored_bytes - freed, limited=False)
        _count_generation(session, begun.document_id)
        self._transactions.record(Event("rekey", account.user_id, "document", begun.document_id))

    def _replace(
        self,
        session: Session,
        account: UnlockedAccount,
        held: Held,
        opened: OpenVersion,
        received: Received,
    ) -> int:
        """Write the new version and delete the old one; return the bytes that the old one took."""
        document, dek = held.document, new_secret()
        manifest = opened.manifest._replace(
            version=new_id(),
            number=document.number + 1,
            revision=0,
            owner_fingerprint=account.fingerprint,
            segments=received.segments,
            parts_digest=parts_digest(encode_parts(received.parts)),
        )
        old = session.get_one(DocumentVersion, opened.version_id)
        self._uploads.insert_version(
            session, account, manifest, received, dek, epoch=document.epoch, made=old.created_at
        )
        self._uploads.move_grants(session, account, held, opened, manifest, dek)
        document.version_id, document.number, document.revision = manifest.version, manifest.number, 0
        put_entry(session, account, document.id, entry_of(manifest, document.epoch))
        session.flush()
        return _delete_version(session, old)


def ask_in(session: Session, account: UnlockedAccount, document_id: bytes, *, at_once: bool = False) -> Work:
    """Ask for new keys of a document of one's own, within a transaction that holds it; twice is once."""
    row = _row_of(session, document_id)
    if row is None:
        row = work.begin(session, account, REKEY, 0, document_id=document_id)
    cursor = _cursor_of(account, row)
    if at_once and not cursor.at_once:
        _move(account, row, cursor._replace(at_once=True))
    return row


def count_parts(size: int, part_size: int) -> int:
    """Count the parts of a content; an empty one has one."""
    return max(1, -(-size // part_size)) if part_size else 0


def _row_of(session: Session, document_id: bytes) -> Work | None:
    return session.scalar(select(Work).where(Work.document_id == document_id, Work.kind == REKEY))


def _own_row(session: Session, account: UnlockedAccount, work_id: bytes) -> tuple[Work, bytes]:
    """Load a re-key of one's own with the document that it is about."""
    row = work.locked(session, account, work_id)
    if row.kind != REKEY or row.document_id is None:
        raise NotFound
    return row, row.document_id


def _unchanged(session: Session, account: UnlockedAccount, begun: _Begun) -> Work:
    """Load the work's row again; raises ``Conflict`` when another request has carried it on, or ended it."""
    row = session.get(Work, begun.work_id, with_for_update=True)
    if row is None or row.user_id != account.user_id or row.cursor != begun.row_cursor:
        raise Conflict
    return row


def _cursor_of(account: UnlockedAccount, row: Work) -> RekeyCursor:
    """Open a work's cursor; one that does not open, of before the account key was changed, begins anew."""
    place = work.position(row).place
    if not place:
        return RekeyCursor()
    try:
        return open_rekey_cursor(account.account_key, place, work=row.id, user=account.user_id)
    except Unreadable:
        log.warning("rekey_begins_anew", work=row.id.hex())
        return RekeyCursor()


def _move(account: UnlockedAccount, row: Work, cursor: RekeyCursor) -> None:
    sealed = seal_rekey_cursor(account.account_key, cursor, work=row.id, user=account.user_id)
    work.move(row, work.Position(done=cursor.done, place=sealed))


def _began_from(cursor: RekeyCursor, opened: OpenVersion) -> bool:
    return (cursor.version, cursor.revision) == (opened.version_id, opened.manifest.revision)


def _has_expired(session: Session, cursor: RekeyCursor) -> bool:
    upload = session.get(Upload, cursor.segment)
    return upload is None or upload.expires_at <= clock.now()


def _bury_new(session: Session, cursor: RekeyCursor) -> None:
    """Order the destruction of what was written, in an hour: a request that is still writing must not outlive it."""
    if cursor.segment is None:
        return
    upload = session.get(Upload, cursor.segment)
    if upload is not None:
        session.delete(upload)
    bury(session, {cursor.segment}, clock.now() + GRACE)


def _delete_version(session: Session, version: DocumentVersion) -> int:
    """Delete a version with every grant on it; return the bytes that it took."""
    grants = select(SharedKeyRegistry).where(SharedKeyRegistry.version_id == version.id)
    for row in [*session.scalars(grants), session.get_one(PartList, version.id)]:
        session.delete(row)
    session.flush()
    stored = version.stored_bytes
    session.delete(version)
    return stored


def _count_generation(session: Session, document_id: bytes) -> None:
    row = session.get(DocumentGeneration, document_id)
    if row is None:
        session.add(DocumentGeneration(id=document_id, number=2, rekeyed_at=clock.now()))
    else:
        row.number, row.rekeyed_at = row.number + 1, clock.now()
