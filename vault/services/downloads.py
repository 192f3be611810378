"""Downloads: open a version, prove what can be proved before the first byte, then stream verified chunks.

Before ``open`` returns, rows, signatures, manifest and part list fit. Before ``stream`` gives its first piece, the
size of each blob that will be touched, the first chunk to be sent and the very last chunk fit. Every further chunk is
authenticated before it is given out; damage in the middle raises, and the connection ends short of its length.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from vault.crypto.manifests import Manifest, Part, read_parts
from vault.crypto.parts import HEADER, PartReader, blob_name, blob_size
from vault.errors import Missing, StorageError, Unreadable
from vault.models import PartList
from vault.services import seals
from vault.services.access import Gate, Need, OpenVersion
from vault.services.audit import Event
from vault.services.transactions import Transactions
from vault.services.unlocked import UnlockedAccount
from vault.storage.protocol import BlobStore

_PARTS = select(*seals.columns(PartList)).where(PartList.id == bindparam("version"))

PIECE = 2**18
"""Sealed, opened and joined, three of these fit into a processor's cache; 1 MiB is a fifth slower."""
STAT_ONE_BY_ONE = 4


@dataclass(eq=False)
class _Placed:
    """A part with the place where it begins in the document."""

    part: Part
    start: int
    key: bytes = field(repr=False)

    @property
    def stop(self) -> int:
        return self.start + self.part.length

    @property
    def name(self) -> str:
        return blob_name(self.part.segment, self.part.offset, self.part.suffix)

    def reader(self) -> PartReader:
        part = self.part
        return PartReader(
            self.key, segment=part.segment, offset=part.offset, suffix=part.suffix, length=part.length
        )


@dataclass(eq=False)
class Opened:
    """A version that may be read: its description, and ``stream`` for its content."""

    document_id: bytes
    name: str
    media_type: str
    size: int
    etag: str
    sha256: bytes | None
    _parts: list[_Placed] = field(repr=False)
    _downloads: Downloads = field(repr=False)
    _account: UnlockedAccount = field(repr=False)

    def stream(self, start: int, stop: int) -> Iterator[bytes]:
        """Give the plaintext from ``start`` to before ``stop``, in pieces of at most 256 KiB.

        What can be checked in advance has been checked when this returns; raises ``Unreadable`` or ``StorageError``.
        """
        return self._downloads.stream(self._account, self, self._parts, start, stop)


class Downloads:
    """Open documents for reading."""

    def __init__(self, transactions: Transactions, gate: Gate, store: BlobStore) -> None:
        self._transactions = transactions
        self._gate = gate
        self._store = store

    def open(self, account: UnlockedAccount, document_id: bytes, version_id: bytes | None = None) -> Opened:
        """Open the current version or, for the owner, any; no connection to the database is held afterwards."""
        with self._transactions.reading(account.user_id, ("document", document_id)) as session:
            held = self._gate.find(session, account, document_id, Need.OWN if version_id else Need.READ)
            if version_id and version_id != held.document.version_id:
                version = self._gate.open_older(session, account, held, version_id)
            else:
                version = self._gate.open(session, account, held)
            parts = self._placed(session, version)
        self._gate.remember_soon(self._transactions, account, [version])
        manifest = version.manifest
        return Opened(
            document_id, manifest.name, manifest.media_type, manifest.size, version.etag, manifest.sha256,
            parts, self, account,
        )  # fmt: skip

    def _placed(self, session: Session, version: OpenVersion) -> list[_Placed]:
        found = seals.verified_row(session, _PARTS, PartList, parameters={"version": version.version_id})
        if found is None:
            raise Unreadable("parts:missing", "document", version.document_id)
        return place(version.manifest, seals.believed(found[0]).parts)

    def stream(
        self, account: UnlockedAccount, opened: Opened, parts: list[_Placed], start: int, stop: int
    ) -> Iterator[bytes]:
        """See ``Opened.stream``."""
        about = ("document", opened.document_id)
        try:
            touched = [part for part in parts if part.start < stop and part.stop > start] or parts[-1:]
            self._compare_sizes({part.name: blob_size(part.part.length) for part in (*touched, parts[-1])})
            self._open_last_chunk(parts[-1])
            pieces = self._pieces(touched, start, stop)
            first = next(pieces, b"")
        except Unreadable as unreadable:
            self._transactions.record_unreadable(unreadable, account.user_id, about)
            raise
        except Missing as missing:
            lost = Unreadable("blob:missing")
            self._transactions.record_unreadable(lost, account.user_id, about)
            raise lost from missing
        self._transactions.record_alone(Event("download", account.user_id, *about))
        return self._rest(account, opened, first, pieces)

    def _rest(
        self, account: UnlockedAccount, opened: Opened, first: bytes, pieces: Iterator[bytes]
    ) -> Iterator[bytes]:
        try:
            yield first
            yield from pieces
        except (Unreadable, StorageError) as error:
            reason = error.reason if isinstance(error, Unreadable) else type(error).__name__
            self._transactions.record_unreadable(
                Unreadable(f"stream:{reason}"), account.user_id, ("document", opened.document_id)
            )
            raise

    def _compare_sizes(self, wanted: dict[str, int]) -> None:
        if len(wanted) <= STAT_ONE_BY_ONE:
            sizes = {name: self._store.size(name) for name in wanted}
        else:
            segments = {name.split("/", 1)[0] for name in wanted}
            sizes = {info.name: info.size for segment in segments for info in self._store.list(f"{segment}/")}
        for name, size in wanted.items():
            if name not in sizes:
                raise Unreadable("blob:missing")
            if sizes[name] != size:
                raise Unreadable("blob:size")

    def _open_last_chunk(self, part: _Placed) -> None:
        reader = part.reader()
        span = reader.last_span()
        reader.open_header(self._fetch(part.name, 0, HEADER))
        reader.open_chunks(span.first_chunk, self._fetch(part.name, span.blob_start, span.blob_stop))

    def _fetch(self, name: str, start: int, stop: int) -> bytes:
        with self._store.get(name, start, stop - start) as blob:
            data = blob.read()
        if len(data) != stop - start:
            raise Unreadable("blob:short")
        return data

    def _pieces(self, parts: list[_Placed], start: int, stop: int) -> Iterator[bytes]:
        for part in parts:
            yield from self._part(
                part, max(start, part.start) - part.start, min(stop, part.stop) - part.start
            )

    def _part(self, part: _Placed, start: int, stop: int) -> Iterator[bytes]:
        """Open one part from ``start`` to ``stop`` within it, a piece at a time over one request to the store."""
        if stop <= start:
            return
        reader = part.reader()
        whole = reader.span(start, stop)
        reader.open_header(self._fetch(part.name, 0, HEADER))
        with self._store.get(part.name, whole.blob_start, whole.blob_stop - whole.blob_start) as blob:
            at = start
            while at < stop:
                until = min(stop, (at // PIECE + 1) * PIECE)
                span = reader.span(at, until)
                data = blob.read(span.blob_stop - span.blob_start)
                plain = reader.open_chunks(span.first_chunk, data)
                skip = at - span.plain_start
                yield plain if skip == 0 and len(plain) == until - at else plain[skip : skip + until - at]
                at = until


def place(manifest: Manifest, encoded: bytes) -> list[_Placed]:
    """Decode a version's part list and give each part its place in the document; raises ``Unreadable``."""
    keys = {segment.id: segment.key for segment in manifest.segments}
    placed, at = [], 0
    for part in read_parts(manifest, encoded):
        placed.append(_Placed(part, at, keys[part.segment]))
        at += part.length
    return placed
