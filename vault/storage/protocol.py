"""What every blob store does, and the only names that a blob may have."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Protocol, Self

__all__ = ["Blob", "BlobInfo", "BlobStore", "check_folder", "check_name", "check_prefix"]

_NAME = re.compile(r"[0-9a-f]{32}/(?:[0-9a-f]{16}(?:\.[0-9a-f]{16})?|ended)")
_PREFIX = re.compile(
    r"[0-9a-f]{0,32}|[0-9a-f]{32}/(?:[0-9a-f]{0,16}|[0-9a-f]{16}\.[0-9a-f]{0,16}|e|en|end|ende|ended)"
)
_FOLDER = re.compile(r"[0-9]{8}T[0-9]{6}Z", re.ASCII)


def check_name(name: str) -> str:
    """Return ``name``, or raise ``ValueError`` when it is not the name of a blob.

    A segment's 32 hex digits, ``/``, then either 16 hex digits (the part's offset) with or without ``.`` and 16 more,
    or ``ended``. Nothing else reaches a file system or a server, so no name can climb out of its folder.
    """
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise ValueError(f"not the name of a blob: {name!r:.80}")
    return name


def check_prefix(prefix: str) -> str:
    """Return ``prefix``, or raise ``ValueError`` when no blob's name could begin with it."""
    if not isinstance(prefix, str) or _PREFIX.fullmatch(prefix) is None:
        raise ValueError(f"no blob's name begins like this: {prefix!r:.80}")
    return prefix


def check_folder(folder: str) -> str:
    """Return ``folder``, or raise ``ValueError`` when it is not the time of a move, like ``20261127T083000Z``."""
    if not isinstance(folder, str) or _FOLDER.fullmatch(folder) is None:
        raise ValueError(f"not the time of a move: {folder!r:.80}")
    return folder


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """One line of a listing: the size in bytes, and when the blob was put (aware, UTC, the store's clock)."""

    name: str
    size: int
    modified_at: datetime


class Blob(Protocol):
    """A blob, or a range of one, open for reading; close it, or use it in a ``with``."""

    @property
    def size(self) -> int:
        """The whole blob's stored size in bytes, also where only a range of it is read."""

    def read(self, n: int = -1, /) -> bytes:
        """Return the next ``n`` bytes, fewer only at the end of the range; all that is left when ``n`` is negative.

        Raises ``StoreUnavailable`` when the store breaks off: a short answer is never taken for the end.
        """

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class BlobStore(Protocol):
    """Create, read, list and destroy blobs; safe to share between threads, and to carry through a fork.

    Every method that takes a name raises ``ValueError`` for one that ``check_name`` refuses, and each raises
    ``StoreUnavailable`` when the store does not answer, does not let us in, or answers nonsense. That does not say
    that nothing happened: a put or delete that was given up may have been done, or may still be, a little later.
    So a name whose put failed is to be destroyed like one whose put succeeded.
    """

    is_far: bool
    """Whether reading waits for a network, so that who reads in order gains by fetching ahead."""

    def put_new(
        self, name: str, data: bytes | bytearray | memoryview, ready: Callable[[], object] | None = None
    ) -> None:
        """Create a blob; when this returns it is durable and whole. Raises ``Exists`` and ``StoreFull``.

        Nobody sees the blob before ``ready()`` has returned; what that raises ends the put, and there is no blob.

        ``Exists`` says only that a whole and durable blob has this name. It may be our own, from an earlier try
        whose answer was lost: whoever tries again compares size and trailing digest to know.
        """

    def get(self, name: str, start: int = 0, length: int | None = None) -> Blob:
        """Open a blob from byte ``start`` on, for ``length`` bytes or to its end. Raises ``Missing``.

        A range that reaches past the end is cut there; one that begins past it reads as empty.
        """

    def size(self, name: str) -> int:
        """Return the stored size in bytes. Raises ``Missing``."""

    def delete(self, names: Iterable[str]) -> None:
        """Destroy blobs, durably once this returns; names that do not exist are fine."""

    def quarantine(self, names: Iterable[str], folder: str) -> None:
        """Move blobs out of the way, durably once this returns: nothing lists or reads them there; none is destroyed.

        ``folder`` keeps one move apart from another, so that a name can be moved twice; see ``check_folder``. An
        operator puts them back by hand. Names that do not exist are fine.
        """

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        """Go through all blobs whose name begins with ``prefix``, by name; what is not a blob of ours is left out."""

    def check(self) -> None:
        """Prove at start that the store can be used: puts a probe twice, reads it, destroys it.

        Raises ``StoreUnavailable``, or ``Misconfigured`` with what to do.
        """
