"""The pipeline of an upload: seal what comes into parts, and put each that is full while the next is filled."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from vault.crypto.manifests import Part
from vault.crypto.parts import TRAILER, PartSealer, blob_name, blob_size, open_part, seal_part
from vault.crypto.randomness import new_suffix
from vault.errors import Exists, Missing, QuotaExceeded
from vault.failpoints import reach
from vault.metrics import CONTENT_BYTES
from vault.storage.protocol import BlobStore

Buffer = bytes | bytearray | memoryview

Read = Callable[[int], Buffer]


PUTS_UNDER_WAY = 2
"""A disk, or a store across a network, is busy with one part while the next is written out."""


FIRST_BYTES = 2**20
"""The memory of a first part whose length nobody announced; it grows when more comes."""


READ_BYTES = 2**20
"""Smaller reads make gunicorn copy what it has read ahead again and again."""


class Pipeline:
    """Seal what is received into parts as it comes, and put each that is full while the next is filled.

    Plaintext is held for no longer than a piece of it is sealed and hashed; the hash of the whole, where one is made,
    runs in a thread of its own: it costs more than all the rest. A failed put surfaces at a later piece, or at the
    end. A part that ends at ``end`` gets a suffix to its name: two writers may race for the last part of an upload,
    and its document says which of them it is. ``length`` is how much is announced, so that a short body takes little
    memory. At the end of the ``with`` all is durable; a body that was empty becomes an empty part on request only.

    With ``in_order`` no part is there before all parts before it are: who meets another writer stops at once, and
    nothing of the two is mixed.
    """

    def __init__(
        self,
        store: BlobStore,
        segment_key: bytes,
        segment: bytes,
        part_size: int,
        hash_update: Callable[[Buffer], None] | None = None,
        *,
        offset: int = 0,
        end: int | None = None,
        length: int | None = None,
        keep_empty: bool = False,
        in_order: bool = False,
    ) -> None:
        self._store = store
        self._key = segment_key
        self._segment = segment
        self._part_size = part_size
        self._hash_update = hash_update
        self._end = end
        self._announced = length
        self._keep_empty = keep_empty
        self._start = self._offset = offset
        self._open: tuple[PartSealer, bytes | None] | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._hashing: Future[None] | None = None
        self._puts: deque[Future[None]] = deque()
        self._fed = False
        self._in_order = in_order
        self._before: Future[None] | None = None
        self.parts: list[Part] = []
        self.stored_bytes = 0

    @property
    def taken_bytes(self) -> int:
        """The blobs that are in the store, or may be, and what the open part holds."""
        return self.stored_bytes + (self._open[0].length if self._open is not None else 0)

    def __enter__(self) -> Pipeline:
        return self

    def feed(self, piece: Buffer) -> None:
        """Take the next piece of plaintext; it must not change until the piece after it is given."""
        self._hash(piece)
        rest = memoryview(piece)
        CONTENT_BYTES.add("received", amount=len(rest))
        while rest:
            sealer, _ = self._open = self._open or self._begin()
            room = self._part_size - sealer.length
            sealer.add(rest[:room])
            rest = rest[room:]
            if sealer.length == self._part_size:
                self._close()

    def _hash(self, piece: Buffer) -> None:
        if self._hash_update is None:
            return
        if self._hashing is not None:
            self._hashing.result()
        if self._fed:
            self._hashing = self._pool().submit(self._hash_update, piece)
        else:
            self._hash_update(piece)
        self._fed = True

    def _pool(self) -> ThreadPoolExecutor:
        """Threads are made for a second piece only: small bodies have one."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(max_workers=1 + PUTS_UNDER_WAY, thread_name_prefix="upload")
        return self._threads

    def _begin(self) -> tuple[PartSealer, bytes | None]:
        is_last = self._end is not None and self._end - self._offset <= self._part_size
        suffix = new_suffix() if is_last else None
        left = FIRST_BYTES if self._announced is None and not self.parts else self._part_size
        if self._announced is not None:
            left = max(0, min(self._part_size, self._announced - (self._offset - self._start)))
        return self._sealer(left, suffix), suffix

    def _sealer(self, expected: int, suffix: bytes | None) -> PartSealer:
        return PartSealer(self._key, expected, segment=self._segment, offset=self._offset, suffix=suffix)

    def _close(self) -> None:
        """Finish the open part and send it on its way."""
        if self._open is None:
            return
        (sealer, suffix), self._open = self._open, None
        blob = sealer.finish()
        if suffix is not None and self._offset + sealer.length != self._end:
            blob, suffix = self._without_suffix(blob, suffix), None
        part = Part(self._segment, self._offset, sealer.length, suffix)
        self.parts.append(part)
        self.stored_bytes += blob_size(part.length)
        self._offset += part.length
        name = blob_name(part.segment, part.offset, part.suffix)
        if self._threads is None and len(self.parts) == 1 and self._is_over(part):
            self._put(name, blob)
            return
        while len(self._puts) >= PUTS_UNDER_WAY:
            self._puts.popleft().result()
        put = self._pool().submit(self._put, name, blob, self._before)
        self._before = put if self._in_order else None
        self._puts.append(put)

    def _put(self, name: str, blob: memoryview, before: Future[None] | None = None) -> None:
        reach("upload.before_put")
        put_once(self._store, name, blob, before.result if before is not None else None)
        reach("upload.after_put")

    def _is_over(self, part: Part) -> bool:
        """Tell whether nothing can come after a part: it is short, or all that was announced."""
        return part.length < self._part_size or part.length == self._announced

    def _without_suffix(self, blob: memoryview, suffix: bytes) -> memoryview:
        """Seal anew what was to be the last part and broke off: it is an ordinary one."""
        plain = open_part(self._key, blob, segment=self._segment, offset=self._offset, suffix=suffix)
        return seal_part(self._key, plain, segment=self._segment, offset=self._offset)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if kind is None:
                if self._keep_empty and not self.parts and self._open is None:
                    self._open = self._begin()
                self._close()
                if self._hashing is not None:
                    self._hashing.result()
                while self._puts:
                    self._puts.popleft().result()
        finally:
            if self._threads is not None:
                self._threads.shutdown(wait=True)


def pieces_of(read: Read) -> Iterator[Buffer]:
    """Give what ``read`` gives until nothing comes."""
    while piece := read(READ_BYTES):
        yield piece


def within(
    room: int | None,
    quota: int,
    pipeline: Pipeline,
    pieces: Iterator[Buffer],
    more: Callable[[int], int] | None = None,
) -> Iterator[Buffer]:
    """Give the pieces that a pipeline is fed with while they fit into ``room``; raises ``QuotaExceeded``.

    ``more`` is asked where they do not: it makes room for so many bytes, and returns how many there may be.
    """
    for piece in pieces:
        wanted = pipeline.taken_bytes + len(piece)
        if room is not None and wanted > room:
            if more is None:
                raise QuotaExceeded(quota)
            room = more(wanted)
        yield piece


def put_once(
    store: BlobStore, name: str, blob: bytes | memoryview, ready: Callable[[], object] | None = None
) -> None:
    """Put a blob; that it exists with the same size and digest is our own earlier success, its answer lost."""
    try:
        store.put_new(name, blob, ready)
    except Exists as exists:
        try:
            present = store.get(name, len(blob) - TRAILER)
        except Missing:
            raise exists from None  # it was another's, and is destroyed already
        with present:
            if present.size != len(blob) or present.read() != bytes(blob[-TRAILER:]):
                raise
