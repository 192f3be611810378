"""The user's configuration folder: who is logged in where, and what unfinished transfers need to go on.

Only its user may read it (0700, files 0600). A file's name there tells nothing of a document: it is a digest.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import stat
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

OLD_SECONDS = 7 * 24 * 3600
_ONLY_MINE = 0o077
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


def default_folder(environment: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """Return where the configuration of this user lies; a relative path in the environment is passed over."""
    name = "APPDATA" if platform == "win32" else "XDG_CONFIG_HOME"
    given = environment.get(name, "")
    if given and Path(given).is_absolute():
        return Path(given) / "docvault"
    return Path.home() / ".config" / "docvault"


def digest_of(*fields: str | int | None) -> str:
    """Name something by a digest of what it is about; each field with its length, so that none runs into the next."""
    digest = hashlib.sha256(b"docvault/agent")
    for field in fields:
        data = ascii(field).encode()
        digest.update(len(data).to_bytes(4, "big") + data)
    return digest.hexdigest()


class Configuration:
    """Small JSON files that only their user can read, each replaced as a whole or not at all."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or default_folder()

    def read(self, name: str) -> dict[str, Any]:
        """Return what was written under ``name``; nothing where there is no such file, or one that is not ours."""
        try:
            found = json.loads((self.folder / name).read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def write(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a file anew: nobody else can read it from its first byte on, and no reader sees half of it."""
        self._prepare()
        temporary = self.folder / f".{secrets.token_hex(8)}.new"
        descriptor = os.open(temporary, _NEW, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(json.dumps(value).encode())
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.folder / name)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def remove(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)

    def forget_old(self) -> None:
        """Remove what transfers left here that were never finished: no upload lives for a week."""
        if not self.folder.is_dir():
            return
        oldest = time.time() - OLD_SECONDS
        for path in [*self.folder.glob("put-*"), *self.folder.glob("get-*"), *self.folder.glob(".*.new")]:
            with suppress(FileNotFoundError):
                if path.lstat().st_mtime < oldest:
                    path.unlink()

    def _prepare(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.name == "posix" and stat.S_IMODE(self.folder.stat().st_mode) & _ONLY_MINE:
            self.folder.chmod(0o700)
