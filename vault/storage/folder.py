"""Blobs as files: ``root/<segment>/<offset>``, one folder for each segment.

A file gets its name by ``link``, which creates or fails, and only after its bytes are on the disk. So a name that can
be seen is always whole, however often the machine dies; what a crash leaves behind lies in ``.tmp`` and goes away.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from vault.errors import Exists, Misconfigured, Missing, StorageError, StoreFull, StoreUnavailable
from vault.failpoints import reach
from vault.storage.protocol import Blob, BlobInfo, check_folder, check_name, check_prefix

__all__ = ["FolderStore"]

STALE_SECONDS = 3600
"""A put takes seconds; a temporary file older than this belongs to a process that died."""

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_GONE = {errno.ENOENT, errno.ENOTDIR}


class FolderBlob:
    """An open file, or a range of it. A delete meanwhile does not disturb it: the file lives until it is closed."""

    def __init__(self, descriptor: int, start: int, length: int | None) -> None:
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size
        self._position = min(start, self.size)
        self._end = self.size if length is None else min(self._position + length, self.size)

    def read(self, n: int = -1, /) -> bytes:
        left = self._end - self._position
        wanted = left if n < 0 else min(n, left)
        try:
            data = os.pread(self._descriptor, wanted, self._position)
            while len(data) < wanted and (
                more := os.pread(self._descriptor, wanted - len(data), self._position + len(data))
            ):
                data += more
        except OSError as error:
            raise StoreUnavailable("The blob folder cannot be read; its disk may be failing.") from error
        if len(data) < wanted:
            raise StoreUnavailable("A blob became shorter while it was being read.")
        self._position += wanted
        return data

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class FolderStore:
    """A ``BlobStore`` in a folder of this machine; ``check`` makes the folder, nothing else does.

    That a missing folder is not made again by ``put_new`` is on purpose: it may be a disk that is not mounted.
    """

    is_far = False

    def __init__(self, root: Path) -> None:
        self._root = Path(root)
        self._unfinished = self._root / ".tmp"
        self._quarantine = self._root / ".quarantine"

    def put_new(
        self, name: str, data: bytes | bytearray | memoryview, ready: Callable[[], object] | None = None
    ) -> None:
        path = self._root / check_name(name)
        unfinished = self._unfinished / os.urandom(16).hex()
        with self._translated():
            try:
                self._write(unfinished, data)
                if ready is not None:
                    ready()
                reach("folder.before_link")
                self._link(unfinished, path)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(unfinished)

    def get(self, name: str, start: int = 0, length: int | None = None) -> Blob:
        if start < 0 or (length is not None and length < 0):
            raise ValueError("a range begins at 0 or later and is not negative")
        path = self._root / check_name(name)
        with self._translated():
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                return FolderBlob(descriptor, start, length)
            except BaseException:
                os.close(descriptor)
                raise

    def size(self, name: str) -> int:
        path = self._root / check_name(name)
        with self._translated():
            return os.stat(path, follow_symlinks=False).st_size

    def delete(self, names: Iterable[str]) -> None:
        segments: dict[str, list[str]] = {}
        for name in names:
            segment, _, file = check_name(name).partition("/")
            segments.setdefault(segment, []).append(file)
        emptied = False
        with self._translated():
            for segment, files in segments.items():
                emptied |= self._delete_in(self._root / segment, files)
            if emptied:
                _sync_folder(self._root)

    def quarantine(self, names: Iterable[str], folder: str) -> None:
        kept = self._quarantine / check_folder(folder)
        for name in names:
            path = self._root / check_name(name)
            target = kept / name
            with self._translated():
                for made in (self._quarantine, kept, target.parent):
                    with suppress(FileExistsError):
                        os.mkdir(made, 0o700)
                with suppress(FileNotFoundError):
                    os.link(path, target)
                for synced in (target.parent, kept, self._quarantine):
                    _sync_folder(synced)
            self.delete([name])

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        segment, slash, _ = check_prefix(prefix).partition("/")
        with self._translated():
            segments = (
                [segment] if slash else sorted(n for n in os.listdir(self._root) if n.startswith(segment))
            )
        for folder in segments:
            with self._translated():
                found = self._files_of(folder, prefix)
            yield from found

    def check(self) -> None:
        """Make the folder where it is missing, and prove that files can be linked in it; sweeps stale leftovers."""
        probe = f"{os.urandom(16).hex()}/ended"
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._sweep_unfinished()
            try:
                self.put_new(probe, b"probe")
                with self.get(probe) as blob:
                    readable = blob.read() == b"probe"
                self._refuse_overwriting(probe)
            finally:
                self.delete([probe])
        except (OSError, StorageError) as error:
            reason = error.__cause__ or error
            raise Misconfigured(
                f"The blob folder {self._root} cannot be used ({reason}). It must be a folder that this user may write "
                "to, with room, on a file system that has hard links."
            ) from error
        if not readable:
            raise Misconfigured(f"The blob folder {self._root} gave back other bytes than it was given.")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn what the operating system says into the one family of errors.

        A file that is not there is ``Missing`` only while the root is: an unmounted disk has lost no document.
        """
        try:
            yield
        except FileNotFoundError as error:
            if self._root.is_dir():
                raise Missing() from error
            raise StoreUnavailable(
                f"The blob folder {self._root} is not there. Is its disk mounted?"
            ) from error
        except OSError as error:
            if error.errno in _FULL:
                raise StoreFull() from error
            raise StoreUnavailable(f"The blob folder cannot be used: {error.strerror}.") from error

    def _write(self, path: Path, data: bytes | bytearray | memoryview) -> None:
        try:
            descriptor = _create(path)
        except FileNotFoundError:
            with suppress(FileExistsError):
                os.mkdir(self._unfinished, 0o700)
            descriptor = _create(path)
        try:
            left = memoryview(data).cast("B")
            while left:
                left = left[os.write(descriptor, left) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _link(self, unfinished: Path, path: Path) -> None:
        """Give the file its name, then make the name durable, and the folder's own name with it.

        Both folders are synced every time, also when the name was there before us: who made it may be another process
        that has not synced yet, and ``Exists`` promises a durable blob too. The loop meets a ``delete`` that takes the
        emptied folder away between our ``mkdir`` and our ``link``.
        """
        exists = False
        for last_try in (False, False, False, True):
            with suppress(FileExistsError):
                os.mkdir(path.parent, 0o700)
            try:
                os.link(unfinished, path)
                reach("folder.after_link")
                break
            except FileExistsError:
                exists = True
                break
            except FileNotFoundError as error:
                if last_try:
                    raise StoreUnavailable(
                        "The folder of this segment is taken away again and again."
                    ) from error
        try:
            with suppress(FileNotFoundError):
                _sync_folder(path.parent)
            _sync_folder(self._root)
        except OSError:
            if not exists:
                # The next sync would say yes to what this one has lost, so the next try must not find the name.
                with suppress(OSError):
                    os.unlink(path)
            raise
        if exists:
            raise Exists()

    def _delete_in(self, folder: Path, files: Iterable[str]) -> bool:
        """Unlink files, and their folder with the last of them; tell whether the folder is gone.

        It may also be gone by somebody else, who need not have synced the root yet.
        """
        for file in files:
            with suppress(FileNotFoundError):
                os.unlink(folder / file)
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
            try:
                _sync_folder(folder)
            except FileNotFoundError:
                return True
            return False
        return True

    def _files_of(self, folder: str, prefix: str) -> Sequence[BlobInfo]:
        found = []
        try:
            with os.scandir(self._root / folder) as entries:
                for entry in entries:
                    name = f"{folder}/{entry.name}"
                    if name.startswith(prefix) and (info := _info(name, entry)) is not None:
                        found.append(info)
        except OSError as error:
            if error.errno not in _GONE:
                raise
        return sorted(found, key=lambda info: info.name)

    def _refuse_overwriting(self, probe: str) -> None:
        try:
            self.put_new(probe, b"other")
        except Exists:
            return
        raise Misconfigured(
            f"The file system of {self._root} overwrites files although asked not to; use another."
        )

    def _sweep_unfinished(self) -> None:
        self._unfinished.mkdir(mode=0o700, exist_ok=True)
        with os.scandir(self._unfinished) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    if entry.stat(follow_symlinks=False).st_mtime < time.time() - STALE_SECONDS:
                        os.unlink(entry.path)


def _create(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _info(name: str, entry: os.DirEntry[str]) -> BlobInfo | None:
    try:
        check_name(name)
        status = entry.stat(follow_symlinks=False)
    except (ValueError, FileNotFoundError):
        return None
    return BlobInfo(name, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))
