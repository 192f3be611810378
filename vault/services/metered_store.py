"""A blob store whose bytes, times and failures are counted; it changes nothing of what the store does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from vault.errors import Missing, StoreFull, StoreUnavailable
from vault.metrics import STORE_BYTES, STORE_ERRORS, STORE_SECONDS
from vault.storage.protocol import Blob, BlobInfo, BlobStore


class MeteredBlob:
    """A blob whose bytes are counted as they are read."""

    def __init__(self, blob: Blob) -> None:
        self._blob = blob

    @property
    def size(self) -> int:
        return self._blob.size

    def read(self, n: int = -1, /) -> bytes:
        with _failures("get"):
            data = self._blob.read(n)
        STORE_BYTES.add("got", amount=len(data))
        return data

    def close(self) -> None:
        self._blob.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._blob.close()


class MeteredStore:
    """A ``BlobStore`` around another one."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self.is_far = store.is_far

    def put_new(
        self, name: str, data: bytes | bytearray | memoryview, ready: Callable[[], object] | None = None
    ) -> None:
        began = time.perf_counter()
        with _failures("put"):
            self._store.put_new(name, data, ready)
        STORE_SECONDS.observe(time.perf_counter() - began, "put")
        STORE_BYTES.add("put", amount=len(data))

    def get(self, name: str, start: int = 0, length: int | None = None) -> Blob:
        began = time.perf_counter()
        with _failures("get"):
            blob = self._store.get(name, start, length)
        STORE_SECONDS.observe(time.perf_counter() - began, "get")
        return MeteredBlob(blob)

    def size(self, name: str) -> int:
        with _failures("size"):
            return self._store.size(name)

    def delete(self, names: Iterable[str]) -> None:
        with _failures("delete"):
            self._store.delete(names)

    def quarantine(self, names: Iterable[str], folder: str) -> None:
        with _failures("quarantine"):
            self._store.quarantine(names, folder)

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        with _failures("list"):
            yield from self._store.list(prefix)

    def check(self) -> None:
        self._store.check()


@contextmanager
def _failures(operation: str) -> Iterator[None]:
    """Count what the store could not do. That a name is taken is no failure: two writers may race for it."""
    try:
        yield
    except StoreUnavailable:
        STORE_ERRORS.add(operation, "unavailable")
        raise
    except StoreFull:
        STORE_ERRORS.add(operation, "full")
        raise
    except Missing:
        STORE_ERRORS.add(operation, "missing")
        raise
