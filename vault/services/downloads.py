"""Downloads: open a version, prove what can be proved before the first byte, then stream verified pieces.

Before ``open`` returns, rows, signatures, manifest and part list fit. Before ``stream`` gives its first piece, the
size of each blob that will be touched, the first chunk to be sent and the very last chunk fit. Every further chunk is
authenticated before it is given out; damage in the middle raises, and the connection ends short of its length.

Before each further part the right to the document is looked up again, so that a revocation ends what is under way
within one part. A new version ends nothing for who may read that one: he finishes the version that he began.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from time import perf_counter

import structlog
from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from vault.crypto.manifests import Manifest
from vault.errors import Busy, Conflict, Missing, NotFound, ReadOnly, StorageError, Unreadable
from vault.metrics import CONTENT_BYTES
from vault.models import DocumentVersion, PartList
from vault.services import counting, seals
from vault.services.access import Gate, Held, Need, OpenVersion
from vault.services.audit import Event
from vault.services.content import Content, Placed, Sealed, place
from vault.services.rights import Right
from vault.services.transactions import Transactions
from vault.services.unlocked import UnlockedAccount
from vault.storage.protocol import BlobStore

log = structlog.get_logger("vault.downloads")

_PARTS = select(*seals.columns(PartList)).where(PartList.id == bindparam("version"))


@dataclass(frozen=True, eq=False)
class Member:
    """One of many documents that are opened at once: its current version, the part list still encoded."""

    document_id: bytes
    manifest: Manifest
    made_at: datetime
    encoded_parts: bytes = field(repr=False)


@dataclass(eq=False)
class Opened:
    """A version that may be read: its description, and ``stream`` for its content."""

    document_id: bytes
    name: str
    media_type: str
    size: int
    etag: str
    sha256: bytes | None
    version_id: bytes
    _parts: list[Placed] = field(repr=False)
    _downloads: Downloads = field(repr=False)
    _account: UnlockedAccount = field(repr=False)
    _seconds: float = 0.0

    def stream(self, start: int, stop: int) -> Iterator[bytes]:
        """Give the plaintext from ``start`` to before ``stop``, in pieces of at most 512 KiB.

        What can be checked in advance has been checked when this returns; raises ``Unreadable``, ``StorageError``, or
        ``NotFound`` where the right to the document ended meanwhile.
        """
        return self._downloads.stream(self._account, self, self._parts, start, stop, self._seconds)


class Downloads:
    """Open documents for reading."""

    def __init__(self, transactions: Transactions, gate: Gate, store: BlobStore) -> None:
        self._transactions = transactions
        self._gate = gate
        self._store = store

    def open(self, account: UnlockedAccount, document_id: bytes, version_id: bytes | None = None) -> Opened:
        """Open the current version or, for the owner, any; no connection to the database is held afterwards."""
        began = perf_counter()
        with (
            counting.failing_to_open(),
            self._transactions.reading(account.user_id, ("document", document_id)) as session,
        ):
            held = self._gate.find(session, account, document_id, Need.OWN if version_id else Need.READ)
            if version_id and version_id != held.document.version_id:
                version = self._gate.open_older(session, account, held, version_id)
            else:
                version = self._gate.open(session, account, held)
            parts = place(version.manifest, self.encoded_parts(session, version))
        self._gate.remember_soon(self._transactions, account, [version])
        manifest = version.manifest
        return Opened(
            document_id, manifest.name, manifest.media_type, manifest.size, version.etag, manifest.sha256,
            manifest.version, parts, self, account, perf_counter() - began,
        )  # fmt: skip

    def open_many(self, account: UnlockedAccount, document_ids: Sequence[bytes]) -> list[Member]:
        """Open the current versions of many documents: all of them, or the first that cannot be opened raises."""
        members, opened = [], []
        for document_id in document_ids:
            with (
                counting.opening(),
                self._transactions.reading(account.user_id, ("document", document_id)) as session,
            ):
                held = self._gate.find(session, account, document_id, Need.READ)
                version = self._gate.open(session, account, held)
                encoded = self.encoded_parts(session, version)
                place(version.manifest, encoded)
            members.append(Member(document_id, version.manifest, _made_at(held), encoded))
            opened.append(version)
        self._gate.remember_soon(self._transactions, account, opened)
        return members

    def encoded_parts(self, session: Session, version: OpenVersion) -> bytes:
        """Load the part list of a version that is open; ``place`` decodes it."""
        found = seals.verified_row(session, _PARTS, PartList, parameters={"version": version.version_id})
        if found is None:
            if session.get(DocumentVersion, version.version_id) is None:
                raise Conflict  # re-keyed or deleted since the version was looked up
            raise Unreadable("parts:missing", "document", version.document_id)
        encoded: bytes = seals.believed(found[0]).parts
        return encoded

    def stream(
        self,
        account: UnlockedAccount,
        opened: Opened,
        parts: list[Placed],
        start: int,
        stop: int,
        seconds: float = 0.0,
    ) -> Iterator[bytes]:
        """See ``Opened.stream``; ``seconds`` is what opening has taken so far."""
        began = perf_counter()
        with counting.failing_to_open(), self._proving(account, opened.document_id, opened.version_id):
            first, pieces = Content(self._store, parts).prove(start, stop)
        counting.opened(seconds + perf_counter() - began)
        self.record_begun(account, [opened.document_id])
        return self._from(account, opened, first, pieces)

    def _from(
        self, account: UnlockedAccount, opened: Opened, first: bytes, pieces: Generator[Sealed]
    ) -> Generator[bytes]:
        with closing(pieces):
            try:
                yield from self.verified(account, opened.document_id, opened.version_id, pieces, first)
            except GeneratorExit:
                self.record_cut(account, opened.document_id, "aborted")
                raise

    def prove(self, account: UnlockedAccount, member: Member) -> None:
        """Prove of one of many documents what can be: the size of each blob, and the very last chunk."""
        with (
            counting.failing_to_open(),
            self._proving(account, member.document_id, member.manifest.version),
        ):
            self.content(member).prove_parts()

    def content(self, member: Member) -> Content:
        return Content(self._store, place(member.manifest, member.encoded_parts))

    def record_begun(self, account: UnlockedAccount, document_ids: Sequence[bytes]) -> None:
        """Write that these documents are being sent, one entry each; without that nothing is sent.

        Only where the database takes nothing in at all does the log have to do (F32): reading goes on.
        """

        def work(session: Session) -> None:
            for document_id in document_ids:
                self._transactions.record(Event("download", account.user_id, "document", document_id))

        try:
            self._transactions.writing(work, always=True)
        except ReadOnly:
            for document_id in document_ids:
                log.error("download_not_recorded", actor=account.user_id.hex(), object=document_id.hex())

    def verified(
        self,
        account: UnlockedAccount,
        document_id: bytes,
        version_id: bytes,
        pieces: Iterator[Sealed],
        first: bytes = b"",
    ) -> Generator[bytes]:
        """Open pieces of one document as they come, after the first; whatever cuts them short is audited."""
        right = Right(self._transactions, account, document_id)
        try:
            if first:
                yield first
                CONTENT_BYTES.add("sent", amount=len(first))
            for sealed in pieces:
                if sealed.begins_part:
                    self._look_again(account, document_id, right)
                yield sealed.open()
                CONTENT_BYTES.add("sent", amount=sealed.length)
        except StorageError as error:
            self._look_again(account, document_id, right)
            self._look_for(account, document_id, version_id)
            self._record_damage(account, document_id, type(error).__name__)
            raise
        except Unreadable as error:
            if not error.recorded:
                self._look_for(account, document_id, version_id)
                self._record_damage(account, document_id, error.reason)
            raise

    @contextmanager
    def _proving(self, account: UnlockedAccount, document_id: bytes, version_id: bytes) -> Iterator[None]:
        about = ("document", document_id)
        try:
            yield
        except Unreadable as unreadable:
            self._look_for(account, document_id, version_id)
            self._transactions.record_unreadable(unreadable, account.user_id, about)
            raise
        except Missing as missing:
            self._look_again(account, document_id, Right(self._transactions, account, document_id))
            self._look_for(account, document_id, version_id)
            lost = Unreadable("blob:missing")
            self._transactions.record_unreadable(lost, account.user_id, about)
            raise lost from missing

    def _look_again(self, account: UnlockedAccount, document_id: bytes, right: Right) -> None:
        """Raise ``NotFound`` where the account may not read the document any more, and note why."""
        why = right.why_not()
        if why is not None:
            self.record_cut(account, document_id, why)
            raise NotFound

    def _look_for(self, account: UnlockedAccount, document_id: bytes, version_id: bytes) -> None:
        """Raise ``Conflict`` where a re-key has taken the version away, whose blobs may be gone: that is no damage."""
        with self._transactions.reading(account.user_id, ("document", document_id)) as session:
            is_there = session.get(DocumentVersion, version_id) is not None
        if not is_there:
            self.record_cut(account, document_id, "rekeyed")
            raise Conflict

    def record_cut(self, account: UnlockedAccount, document_id: bytes, why: str) -> None:
        """Write that a document was not sent to its end though nothing is damaged."""
        event = Event("download_cut", account.user_id, "document", document_id, succeeded=False, detail=why)
        try:
            self._transactions.record_alone(event)
        except (Busy, Conflict, Unreadable):
            log.error("download_cut_not_recorded", detail=why)

    def _record_damage(self, account: UnlockedAccount, document_id: bytes, reason: str) -> None:
        self._transactions.record_unreadable(
            Unreadable(f"stream:{reason}"), account.user_id, ("document", document_id)
        )


def _made_at(held: Held) -> datetime:
    version = held.beside[0] if held.beside else None
    made_at: datetime = seals.believed(version).created_at
    return made_at
