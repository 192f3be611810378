"""The content of a version as it lies in the store: its parts in order, and any range of it, piece by piece.

A part is asked for once, and the next one of a store that is far while this one is being read; only where a range
begins deep inside a part its header costs a request more. Pieces come sealed; who sends them opens them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from vault.crypto.manifests import Manifest, Part, read_parts
from vault.crypto.parts import CHUNK, HEADER, TRAILER, PartReader, PartStream, blob_name, blob_size
from vault.errors import StoreUnavailable, Unreadable
from vault.services.ahead import one_ahead
from vault.storage.protocol import Blob, BlobStore

PIECE = 2**19
"""Less pays for more turns between threads, more for memory: a piece lies sealed and opened at once."""
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


class Wanted(NamedTuple):
    """A part, and the range of it that is asked for."""

    part: Placed
    start: int
    stop: int


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

    def wanted(self, start: int, stop: int) -> list[Wanted]:
        """List the parts that hold the plaintext from ``start`` to before ``stop``."""
        return [
            Wanted(part, max(start, part.start) - part.start, min(stop, part.stop) - part.start)
            for part in self._parts
            if part.start < stop and part.stop > start
        ]

    def prove(self, start: int, stop: int) -> tuple[bytes, Generator[Sealed]]:
        """Prove in advance what can be: the size of each blob to be touched, the first piece and the very last chunk.

        Gives the first piece's plaintext and all further pieces. Raises ``Unreadable`` or ``StorageError``.
        """
        wanted, last = self.wanted(start, stop), self._parts[-1]
        pieces = fetch(self._store, wanted)
        try:
            sealed = next(pieces, None)
            first = sealed.open() if sealed else b""
            is_all = wanted == [(last, 0, last.part.length)] and len(first) == last.part.length
            if not is_all:
                self._open_last_chunk()
            self._compare_sizes([want.part for want in wanted[1:]])
        except BaseException:
            pieces.close()
            raise
        return first, pieces

    def prove_parts(self) -> None:
        """Prove the size of every blob, and the very last chunk; raises ``Unreadable`` or ``StorageError``."""
        self._open_last_chunk()
        self._compare_sizes(self._parts)

    def _open_last_chunk(self) -> None:
        """Open the last part's last chunk: a wrong key, a damaged or a lengthened blob is found."""
        part = self._parts[-1]
        reader = PartReader(part.key, **part.place)
        span = reader.last_span()
        if span.blob_start <= READ_THROUGH:
            whole = _fetch(self._store, part, 0, span.blob_stop)
            header, last = whole[:HEADER], whole[span.blob_start :]
        else:
            header = _fetch(self._store, part, 0, HEADER)
            last = _fetch(self._store, part, span.blob_start, span.blob_stop)
        reader.open_header(header)
        reader.open_chunks(span.first_chunk, last)

    def _compare_sizes(self, parts: list[Placed]) -> None:
        """Compare sizes with what the store tells; the last part's was, when its last chunk was asked for."""
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


def fetch(store: BlobStore, wanted: Iterable[Wanted]) -> Generator[Sealed]:
    """Fetch parts, or ranges of them, in pieces of at most 512 KiB.

    Where the store is far, the next part's answer is waited for while this one is read; what comes of it meanwhile lies
    in the connection's own buffer. From a folder, a thread would cost more than it gains.
    """
    makers = (partial(_Source, store, want) for want in wanted)
    sources: Generator[_Source] | Iterator[_Source]
    sources = one_ahead(makers) if store.is_far else (make() for make in makers)
    with closing(sources):
        for source in sources:
            with closing(source):
                yield from source.pieces()


class _Source:
    """One part, or a range of it, asked for and waiting to be read."""

    def __init__(self, store: BlobStore, wanted: Wanted) -> None:
        part, self._start, self._stop = wanted
        self._store = store
        self._part = part
        self._reader = PartReader(part.key, **part.place)
        self._stream: PartStream | None = None
        span = self._reader.span(self._start, self._stop)
        self._position, self._end = span.blob_start, span.blob_stop
        if self._start < READ_THROUGH:
            self._stream = PartStream(part.key, **part.place)
            self._position = 0
            if self._stop == part.part.length:
                # The last chunk goes along also where it is empty: it authenticates the length.
                self._end = part.size - TRAILER
        else:
            self._reader.open_header(_fetch(store, part, 0, HEADER))
        self._blob = _get(store, part, self._position, self._end)

    def pieces(self) -> Iterator[Sealed]:
        """Read piece by piece to the end, over one request."""
        at = self._start
        while at < self._stop:
            until = min(self._stop, (at // PIECE + 1) * PIECE)
            span = self._reader.span(at, until)
            data = self._read(self._end if until == self._stop else span.blob_stop)
            if self._stream is not None:
                opener, base = self._stream.open, 0 if at == self._start else at
            else:
                opener, base = partial(self._reader.open_chunks, span.first_chunk), at // CHUNK * CHUNK
            yield Sealed(at == self._start, opener, data, at - base, until - at)
            at = until

    def _read(self, stop: int) -> bytes:
        """Read up to ``stop``; a store that breaks off, or got tired of a slow client, is asked once more."""
        try:
            data = _read(self._blob, stop - self._position)
        except StoreUnavailable:
            self._blob.close()
            self._blob = _get(self._store, self._part, self._position, self._end)
            data = _read(self._blob, stop - self._position)
        self._position = stop
        return data

    def close(self) -> None:
        self._blob.close()


def _get(store: BlobStore, part: Placed, start: int, stop: int) -> Blob:
    blob = store.get(part.name, start, stop - start)
    if blob.size != part.size:
        blob.close()
        raise Unreadable("blob:size")
    return blob


def _fetch(store: BlobStore, part: Placed, start: int, stop: int) -> bytes:
    with _get(store, part, start, stop) as blob:
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
