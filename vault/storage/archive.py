"""A backup in one file: a tar of lines and blobs, written from its beginning to its end and read at any place.

The members, in this order: ``backup.json`` (what it is), ``rows/<table>/<n>`` (lines of rows), ``list/<n>`` (lines that
name the blobs), ``blobs/<blob's name>``, ``end.json`` (what was written). An archive without its last member was cut.
What the lines hold is the business of who writes and reads them. Memory is bounded while it is written; a reader keeps
one entry for each member. The contract is ``vault/crypto/FORMAT.md``, section 16.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from vault.errors import Misconfigured, Missing, StorageError, StoreFull, StoreUnavailable
from vault.storage.protocol import check_name

__all__ = ["ArchiveReader", "ArchiveWriter", "new_archive", "standard_output"]

FORMAT = "docvault-backup"
VERSION = 1
PIECE = 2**20
"""Lines are gathered to about so many bytes, which make one member."""

_MEMBER = re.compile(
    r"backup\.json|end\.json|rows/[a-z_]{1,63}/[0-9]{6}|list/[0-9]{6}|blobs/[0-9a-f/.]{49,66}"
)
_LARGEST_LINES = 2**27


class NotAnArchive(StorageError):
    text = (
        "This is not a backup that `docvault backup` wrote, or not one that this release can read. "
        "If it was compressed or encrypted afterwards, undo that first."
    )


class ArchiveWriter:
    """Write an archive to a file or a pipe."""

    def __init__(self, file: BinaryIO, made_at: datetime) -> None:
        self._file = _Counted(file)
        self._made_at = int(made_at.timestamp())
        self._digest = hashlib.sha256()
        self._lines: dict[str, bytearray] = {}
        self._pieces: dict[str, int] = {}
        self.counted: dict[str, int] = {}
        self.blobs = 0
        self.blob_bytes = 0

    @property
    def written(self) -> int:
        """How many bytes are written so far."""
        return self._file.count

    def begin(self, about: dict[str, Any]) -> None:
        """Write the first member, which says what the archive is and holds."""
        self._json("backup.json", {"format": FORMAT, "version": VERSION, **about})

    def row(self, table: str, line: bytes) -> None:
        """Write a row's line."""
        self._digest.update(line)
        self.counted[table] = self.counted.get(table, 0) + 1
        self._line(f"rows/{table}", line)

    def name_blob(self, name: str, size: int) -> None:
        """Write into the list that a blob belongs to this backup, and which size it must have."""
        line = json.dumps({"name": check_name(name), "size": size}, separators=(",", ":"))
        self._line("list", line.encode() + b"\n")

    def end_lines(self) -> None:
        """Write what lines are still held; blobs follow."""
        for kind in list(self._lines):
            self._flush(kind)

    def blob(self, name: str, data: bytes) -> None:
        """Write a blob."""
        self._member(f"blobs/{check_name(name)}", data)
        self.blobs += 1
        self.blob_bytes += len(data)

    def end(self, told: dict[str, Any]) -> None:
        """Write the last member: counts, the digest of all lines of rows in their order, and what the writer tells."""
        self.end_lines()
        counts = {"rows": self.counted, "rows_sha256": self._digest.hexdigest(), "blobs": self.blobs}
        self._json("end.json", {**counts, "blob_bytes": self.blob_bytes, **told})
        self._file.write(bytes(2 * tarfile.BLOCKSIZE))

    def _line(self, kind: str, line: bytes) -> None:
        held = self._lines.setdefault(kind, bytearray())
        held += line
        if len(held) >= PIECE:
            self._flush(kind)

    def _flush(self, kind: str) -> None:
        number = self._pieces[kind] = self._pieces.get(kind, 0) + 1
        self._member(f"{kind}/{number:06}", bytes(self._lines.pop(kind)))

    def _json(self, name: str, value: dict[str, Any]) -> None:
        self._member(name, json.dumps(value, indent=1, sort_keys=True).encode() + b"\n")

    def _member(self, name: str, data: bytes) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mtime, member.mode = len(data), self._made_at, 0o600
        self._file.write(member.tobuf(tarfile.USTAR_FORMAT))
        self._file.write(data)
        self._file.write(bytes(-len(data) % tarfile.BLOCKSIZE))


class _Counted:
    """Write to a file and count; what the operating system says becomes one of the family of errors."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.count = 0

    def write(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            raise StoreFull(f"The archive could not be written: {error.strerror}.") from error
        self.count += len(data)


@contextmanager
def new_archive(path: Path) -> Iterator[BinaryIO]:
    """Open a file that gets its name only when it is whole and on the disk; nothing is ever overwritten.

    Raises ``Misconfigured`` where there is a file of this name, or none can be made.
    """
    part = path.with_name(f"{path.name}.part")
    if os.path.lexists(path):
        raise Misconfigured(f"{path} is there already. Nothing is overwritten.")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise Misconfigured(
            f"{part} is there: a backup of this name is being written, or one broke off. Remove it if none is running."
        ) from error
    except OSError as error:
        raise Misconfigured(f"{path} cannot be written: {error.strerror}.") from error
    try:
        with os.fdopen(descriptor, "wb", buffering=PIECE) as file:
            yield file
            _sync(file)
        os.link(part, path)
        _sync_folder(path.parent)
    except FileExistsError as error:
        raise Misconfigured(f"{path} is there already. Nothing is overwritten.") from error
    finally:
        with suppress(OSError):
            os.unlink(part)


@contextmanager
def standard_output() -> Iterator[BinaryIO]:
    """Open standard output for an archive; at the end all of it is out, or ``StoreFull`` says that it is not."""
    file = os.fdopen(os.dup(1), "wb", buffering=PIECE)
    try:
        yield file
        _sync(file, is_file=False)
    finally:
        with suppress(OSError):
            file.close()


def _sync(file: BinaryIO, *, is_file: bool = True) -> None:
    try:
        file.flush()
        if is_file:
            os.fsync(file.fileno())
    except OSError as error:
        raise StoreFull(f"The archive could not be written: {error.strerror}.") from error


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class ArchiveBlob:
    """A member of an archive, open for reading."""

    def __init__(self, file: BinaryIO, start: int, size: int, skipped: int, length: int | None) -> None:
        self._file = file
        self.size = size
        self._position = start + min(skipped, size)
        self._end = start + size if length is None else min(self._position + length, start + size)

    def read(self, n: int = -1, /) -> bytes:
        wanted = self._end - self._position if n < 0 else min(n, self._end - self._position)
        try:
            data = os.pread(self._file.fileno(), wanted, self._position)
        except OSError as error:
            raise StoreUnavailable("The archive cannot be read; its disk may be failing.") from error
        if len(data) < wanted:
            raise StoreUnavailable("The archive is shorter than its members say.")
        self._position += wanted
        return data

    def close(self) -> None:
        """Do nothing: the file is the archive's."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class ArchiveReader:
    """Read an archive, at any place of it; use it in a ``with``.

    Raises ``NotAnArchive`` for what is none. One that was cut opens as far as it goes, and has no ``end``.
    """

    def __init__(self, path: Path) -> None:
        self._members: dict[str, tuple[int, int]] = {}
        self._blobs = 0
        try:
            self._file: BinaryIO = open(path, "rb")  # noqa: SIM115 - it is open for as long as this lives
        except OSError as error:
            raise Misconfigured(f"{path} cannot be read: {error.strerror}.") from error
        try:
            self._index()
            self.about = self._json("backup.json")
            if self.about.get("format") != FORMAT or self.about.get("version") != VERSION:
                raise NotAnArchive
            self.end = self._json("end.json") if "end.json" in self._members else None
        except BaseException:
            self._file.close()
            raise

    def _index(self) -> None:
        """Note where each member lies: its header, its bytes, zeros up to a whole block."""
        at, size = 0, os.fstat(self._file.fileno()).st_size
        while at < size and (member := self._header(at)) is not None:
            start = at + tarfile.BLOCKSIZE
            is_blob, is_known = member.name.startswith("blobs/"), member.name in self._members
            if not member.isreg() or not _MEMBER.fullmatch(member.name) or (is_known and not is_blob):
                raise NotAnArchive
            if start + member.size > size:
                return
            # Two lists of parts may name one blob, which is never changed: the first is as good as the second.
            self._members.setdefault(member.name, (start, member.size))
            self._blobs += is_blob
            at = start + member.size + -member.size % tarfile.BLOCKSIZE

    def _header(self, at: int) -> tarfile.TarInfo | None:
        try:
            return tarfile.TarInfo.frombuf(
                os.pread(self._file.fileno(), tarfile.BLOCKSIZE, at), "ascii", "strict"
            )
        except (tarfile.HeaderError, UnicodeError) as error:
            if not self._members:
                raise NotAnArchive from error
            return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def is_whole(self) -> bool:
        """Whether the last member is there, and as many blobs as it says."""
        return self.end is not None and self.end.get("blobs") == self._blobs

    @property
    def has_blobs(self) -> bool:
        """Whether it was written with the blobs, and not with their list alone."""
        return bool(self.about.get("with_blobs"))

    def rows(self, table: str) -> Iterator[bytes]:
        """Give the lines of a table's rows in their order."""
        yield from self._lines(f"rows/{table}")

    def named(self) -> Iterator[tuple[str, int]]:
        """Give name and size of each blob that belongs to this backup."""
        for line in self._lines("list"):
            found = json.loads(line)
            yield check_name(found["name"]), int(found["size"])

    def blobs(self) -> Iterator[str]:
        """Give the names of the blobs that are in the archive."""
        return (name.removeprefix("blobs/") for name in self._members if name.startswith("blobs/"))

    def get(self, name: str, start: int = 0, length: int | None = None) -> ArchiveBlob:
        """Open a blob, as a blob store does. Raises ``Missing``."""
        found = self._members.get(f"blobs/{check_name(name)}")
        if found is None:
            raise Missing
        return ArchiveBlob(self._file, *found, start, length)

    def _lines(self, kind: str) -> Iterator[bytes]:
        number = 1
        while (found := self._members.get(f"{kind}/{number:06}")) is not None:
            yield from io.BytesIO(self._read(*found))
            number += 1

    def _json(self, name: str) -> dict[str, Any]:
        if name not in self._members:
            raise NotAnArchive
        try:
            found = json.loads(self._read(*self._members[name]))
        except (ValueError, RecursionError) as error:
            raise NotAnArchive from error
        if not isinstance(found, dict):
            raise NotAnArchive
        return found

    def _read(self, start: int, size: int) -> bytes:
        if size > _LARGEST_LINES:
            raise NotAnArchive
        return ArchiveBlob(self._file, start, size, 0, None).read()
