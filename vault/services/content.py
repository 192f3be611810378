"""The content of a version as it lies in the store: its parts in order, and any range of it, piece by piece.

Sealed pieces are fetched here and opened by whoever sends them, so that a thread of its own may fetch. A part is asked
for once; only where a range begins deep inside a part its header costs a request more.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from vault.crypto.manifests import Manifest, Part, read_parts
from vault.crypto.parts import CHUNK, HEADER, TRAILER, PartReader, PartStream, blob_name, blob_size
from vault.errors import Unreadable
from vault.storage.protocol import Blob, BlobStore

PIECE = 2**19
"""Less pays for more turns between threads, more for memory; a piece lies sealed and opened at once."""
READ_THROUGH = 2**17
"""What lies no deeper in a part than this is read from the part's beginning: one request, and the faster way."""
STAT_ONE_BY_ONE = 4


@dataclass(eq=False, slots=True)
class Placed:
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

    @property
    def size(self) -> int:
        """The size that its blob must have."""
        return blob_size(self.part.length)

    @property
    def place(self) -> dict[str, Any]:
        return self.part._asdict()


class Sealed(NamedTuple):
    """A piece as the store gave it: what opens it, and which bytes of the plaintext are asked for."""

    begins_part: bool
    opener: Callable[[bytes], bytes]
    data: bytes
    skip: int
    length: int

    def open(self) -> bytes:
        """Give the plaintext, authenticated, or raise ``Unreadable``. Pieces of one part are opened in their order."""
        plain = self.opener(self.data)
        if self.skip == 0 and len(plain) == self.length:
            return plain
        return plain[self.skip : self.skip + self.length]


class Content:
    """The parts of one version in the store."""

    def __init__(self, store: BlobStore, parts: list[Placed]) -> None:
        self._store = store
        self._parts = parts

    def prove(self, start: int, stop: int) -> tuple[bytes, Generator[Sealed]]:
        """Prove in advance what can be: the size of each blob to be touched, the first piece and the very last chunk.

        Gives the first piece's plaintext and all further pieces. Raises ``Unreadable`` or ``StorageError``.
        """
        pieces = self.pieces(start, stop)
        sealed = next(pieces, None)
        first = sealed.open() if sealed else b""
        last = self._parts[-1]
        touched = self._touched(start, stop)
        if not (touched == [last] and start < READ_THROUGH and 0 < stop == last.stop <= PIECE):
            self.open_last_chunk()
        self._compare_sizes(touched[1:])
        return first, pieces

    def prove_parts(self) -> None:
        """Prove the size of every blob, and the very last chunk; raises ``Unreadable`` or ``StorageError``."""
        self.open_last_chunk()
        self._compare_sizes(self._parts)

    def open_last_chunk(self) -> None:
        """Open the last part's last chunk: a wrong key, a damaged or a lengthened blob is found."""
        part = self._parts[-1]
        reader = PartReader(part.key, **part.place)
        span = reader.last_span()
        if span.blob_start <= READ_THROUGH:
            whole = self._fetch(part, 0, span.blob_stop)
            header, last = whole[:HEADER], whole[span.blob_start :]
        else:
            header = self._fetch(part, 0, HEADER)
            last = self._fetch(part, span.blob_start, span.blob_stop)
        reader.open_header(header)
        reader.open_chunks(span.first_chunk, last)

    def pieces(self, start: int, stop: int) -> Generator[Sealed]:
        """Fetch what holds the plaintext from ``start`` to before ``stop``, in pieces of at most 512 KiB."""
        for part in self._touched(start, stop):
            yield from self._pieces_of(
                part, max(start, part.start) - part.start, min(stop, part.stop) - part.start
            )

    def _touched(self, start: int, stop: int) -> list[Placed]:
        return [part for part in self._parts if part.start < stop and part.stop > start]

    def _compare_sizes(self, parts: list[Placed]) -> None:
        """Compare sizes with what the store tells; the last part's is, like any other's, when it is asked for."""
        wanted = {part.name: part.size for part in parts if part is not self._parts[-1]}
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

    def _pieces_of(self, part: Placed, start: int, stop: int) -> Iterator[Sealed]:
        """Fetch from one part, ``start`` and ``stop`` counted within it, over one request for all its pieces."""
        reader = PartReader(part.key, **part.place)
        span = reader.span(start, stop)
        from_beginning = start < READ_THROUGH
        position = 0 if from_beginning else span.blob_start
        # To its end, the part's last chunk goes along also where it is empty: it authenticates the length.
        end = part.size - TRAILER if stop == part.part.length else span.blob_stop
        if not from_beginning:
            reader.open_header(self._fetch(part, 0, HEADER))
            end = span.blob_stop
        opener = PartStream(part.key, **part.place).open
        with self._get(part, position, end) as blob:
            at = start
            while at < stop:
                until = min(stop, (at // PIECE + 1) * PIECE)
                span = reader.span(at, until)
                piece_end = end if until == stop else span.blob_stop
                data = _read(blob, piece_end - position)
                base = 0 if from_beginning and at == start else at // CHUNK * CHUNK
                opens = opener if from_beginning else partial(reader.open_chunks, span.first_chunk)
                yield Sealed(at == start, opens, data, at - base, until - at)
                position, at = piece_end, until

    @contextmanager
    def _get(self, part: Placed, start: int, stop: int) -> Iterator[Blob]:
        with self._store.get(part.name, start, stop - start) as blob:
            if blob.size != part.size:
                raise Unreadable("blob:size")
            yield blob

    def _fetch(self, part: Placed, start: int, stop: int) -> bytes:
        with self._get(part, start, stop) as blob:
            return _read(blob, stop - start)


def _read(blob: Blob, count: int) -> bytes:
    data = blob.read(count)
    if len(data) != count:
        raise Unreadable("blob:short")
    return data


def place(manifest: Manifest, encoded: bytes) -> list[Placed]:
    """Decode a version's part list and give each part its place in the document; raises ``Unreadable``."""
    keys = {segment.id: segment.key for segment in manifest.segments}
    placed, at = [], 0
    for part in read_parts(manifest, encoded):
        placed.append(Placed(part, at, keys[part.segment]))
        at += part.length
    return placed
