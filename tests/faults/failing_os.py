"""The operating system as the folder store sees it: calls are counted, one of them fails, what is durable is known."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any


class FailingOs:
    """``os``, whose ``name`` fails with ``number`` at its ``nth`` call, or writes only half of what it is given.

    One that is ``lasting`` fails at each call after that, too.
    """

    def __init__(self, name: str, nth: int, number: int | None = errno.EIO, *, lasting: bool = False) -> None:
        self.name, self.nth, self.number, self.lasting = name, nth, number, lasting
        self.calls = 0
        self._lock = threading.Lock()

    @property
    def met(self) -> bool:
        return self.calls >= self.nth

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        return self._failing(real) if name == self.name else real

    def _failing(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*words: Any, **more: Any) -> Any:
            with self._lock:
                self.calls += 1
                now = self.calls == self.nth or (self.lasting and self.met)
            if now and self.number is not None:
                raise OSError(self.number, os.strerror(self.number))
            if now:
                return real(words[0], words[1][: max(1, len(words[1]) // 2)])
            return real(*words, **more)

        return call


class DurableOs:
    """``os``, which knows what a power cut would leave of a folder: what was synced, under names that were synced.

    ``synced`` is called after each sync. The model is stricter than most file systems: a name without a sync of its
    folder is lost, the bytes of a file without a sync are lost while its name may stay.
    """

    def __init__(self, root: Path, synced: Callable[[], None]) -> None:
        self._root = root
        self._synced = synced
        self._bytes: dict[str, bytes] = {}
        self._files: dict[str, bytes] = {str(path): path.read_bytes() for path in root.glob("*/*")}
        self._names: dict[str, dict[str, bytes]] = {}
        for folder in root.iterdir():
            self._names[str(folder)] = self._listing(str(folder))
        self._folders = set(self._names)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def _listing(self, folder: str) -> dict[str, bytes]:
        return {name: self._files.get(f"{folder}/{name}", b"") for name in os.listdir(folder)}

    def link(self, source: Path, target: Path) -> None:
        os.link(source, target)
        self._files[str(target)] = self._bytes.get(str(source), b"")

    def fsync(self, descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        os.fsync(descriptor)
        if path == str(self._root):
            self._folders = {str(entry) for entry in self._root.iterdir()}
        elif os.path.isdir(path):
            self._names[path] = self._listing(path)
        else:
            self._bytes[path] = Path(path).read_bytes()
        self._synced()

    def write_to(self, copy: Path) -> None:
        """Make ``copy`` the folder that a power cut would leave now."""
        copy.mkdir()
        for folder in self._folders:
            inside = copy / Path(folder).name
            inside.mkdir()
            for name, content in self._names.get(folder, {}).items():
                if inside.name != ".tmp":
                    (inside / name).write_bytes(content)
