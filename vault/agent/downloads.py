"""Fetch documents: into ``<target>.part``, going on where a connection or this process ended, then given its name.

A name that the server tells is only ever the name of a file in the current folder (attack X6).
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO

import httpx

from vault.agent.client import (
    NO_VAULT,
    Client,
    LoggedOut,
    Refused,
    Unreachable,
    broken_connections,
    checked_id,
    good,
    visible,
)
from vault.agent.configuration import digest_of
from vault.agent.patience import FIRST_PAUSE, TRIES, Patience
from vault.errors import BadInput, VaultError

PIECE = 1 << 20
LONGEST_NAME_BYTES = 255
LOG_IN = "Your session has ended. Log in again (docvault login), then run the same get: it continues."
AGAIN = {
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}
_RANGE = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})", re.ASCII)
_ONLY_HERE = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_NOT_ON_WINDOWS = re.compile(r'[<>:"|?*]|[. ]$')


class InTheWay(VaultError):
    """There is a file already; it is never overwritten unless that was asked for."""


class Damaged(VaultError):
    text = "What arrived is not what the owner stored, and was removed. Fetch it again."


Moved = Callable[[int], None]
"""Told how many bytes of the document are there; it may also go back."""


def file_name(told: str, windows: bool = os.name == "nt") -> str:
    """Return the name of a file in the current folder for a name that a server told; raises ``BadInput``.

    Folders in it are cut off. A hidden file could be one that a program obeys, and one that begins with a hyphen could
    become an option of a command: those need a name from the user.
    """
    name = told.replace("\\", "/").rsplit("/", 1)[-1].strip()
    is_odd = not name or name.startswith((".", "-")) or any(ord(c) < 32 or 127 <= ord(c) < 160 for c in name)
    if windows:
        is_odd = is_odd or bool(_DEVICE.fullmatch(name) or _NOT_ON_WINDOWS.search(name))
    try:
        is_odd = is_odd or len(name.encode()) > LONGEST_NAME_BYTES
    except UnicodeEncodeError:
        is_odd = True
    if is_odd:
        raise BadInput("name", f"No file is made of the name {visible(told)}. Choose one with -o.")
    return name


@dataclass(frozen=True)
class Wished:
    """What to fetch. ``sha256`` is that of the content, where the server knows it for the version of ``etag``."""

    document: str
    version: str | None = None
    etag: str | None = None
    sha256: str | None = None

    @property
    def path(self) -> str:
        if self.version is not None:
            return f"/versions/{checked_id(self.version)}/content"
        return f"/documents/{checked_id(self.document)}/content"


@dataclass
class _State:
    """How far a download is, and of what: the ETag tells one content from the next."""

    etag: str = ""
    size: int = -1
    have: int = 0


class Fetcher:
    """Fetches documents from one server."""

    def __init__(
        self,
        client: Client,
        *,
        tries: int = TRIES,
        notice: Callable[[str], None] = lambda text: None,
        first_pause: float = FIRST_PAUSE,
    ) -> None:
        self._client = client
        self._tries = tries
        self._notice = notice
        self._first_pause = first_pause

    def fetch(
        self, wished: Wished, target: Path, *, force: bool = False, moved: Moved = lambda done: None
    ) -> int:
        """Fetch a document into ``target`` and return its size; goes on with what an earlier run has fetched.

        The file is its user's alone (0600), and has its name only when it is whole and on disk. Raises ``InTheWay``
        where there is one of this name, unless ``force``.
        """
        if not force:
            refuse_existing(target)
        memory = f"get-{digest_of(self._client.server, self._client.username, wished.path, os.path.abspath(target))}"
        known = self._client.configuration.read(memory)
        part = part_of(target)
        state = _State(str(known.get("etag", "")), int(known.get("size", -1)))
        with _opened_part(part, is_ours=bool(known), force=force) as file:
            self._note(memory, state)
            digest = self._receive(wished, file, state, memory, moved)
            is_told = wished.sha256 is not None and state.etag == f'"{wished.etag}"'
            if is_told and not hmac.compare_digest(digest, str(wished.sha256)):
                file.truncate(0)
                raise Damaged
            file.flush()
            os.fsync(file.fileno())
            if os.name == "posix":  # while the lock is held; elsewhere an open file keeps its name
                _give_name(part, target, force=force)
        if os.name != "posix":
            _give_name(part, target, force=force)
        self._client.configuration.remove(memory)
        return state.size

    def fetch_to(self, wished: Wished, sink: BinaryIO, moved: Moved = lambda done: None) -> int:
        """Fetch a document into a stream and return its size.

        What is gone out cannot be taken back: a document that changes meanwhile is ``Refused``.
        """
        state = _State()
        for start, piece in self._pieces(wished, state):
            if start != state.have:
                raise Refused(
                    "The document changed while it was fetched. Fetch it again.", HTTPStatus.CONFLICT
                )
            sink.write(piece)
            state.have += len(piece)
            moved(state.have)
        sink.flush()
        return state.size

    def _receive(self, wished: Wished, file: BinaryIO, state: _State, memory: str, moved: Moved) -> str:
        """Write what is missing and return the SHA-256 of the whole as hexadecimal digits."""
        state.have = os.fstat(file.fileno()).st_size
        if not state.etag or state.have > state.size:
            state.have = 0
        # One byte is asked for again where all are there, so that the server says whether this is still the document.
        state.have = min(state.have, max(state.size - 1, 0))
        if state.have == 0:
            file.truncate(0)
        digest, noted = _digest(file, state.have), (state.etag, state.size)
        for start, piece in self._pieces(wished, state):
            if start != state.have:
                # Cut before it is noted what the bytes are of: a crash between must not mix two contents.
                file.seek(0)
                file.truncate()
                digest, state.have = hashlib.sha256(), 0
            if (state.etag, state.size) != noted:
                noted = (state.etag, state.size)
                self._note(memory, state)
            file.write(piece)
            digest.update(piece)
            state.have += len(piece)
            moved(state.have)
        found: str = digest.hexdigest()
        return found

    def _note(self, memory: str, state: _State) -> None:
        self._client.configuration.write(memory, {"etag": state.etag, "size": state.size})

    def _pieces(self, wished: Wished, state: _State) -> Iterator[tuple[int, bytes]]:
        """Yield pieces with their offsets until the whole is there; at 0 again where the document has changed.

        The caller counts in ``state.have`` what he has taken.
        """
        patience = Patience(self._tries, self._notice, first_pause=self._first_pause)
        while True:
            try:
                yield from self._answered(wished, state)
                if state.have == state.size:
                    return
                raise Unreachable("The connection broke off before the end.")
            except Unreachable as error:
                patience.pause(error, state.have)
            except LoggedOut:
                if not self._client.take_up_newer_login():
                    raise LoggedOut(LOG_IN) from None
            except Refused as error:
                if error.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and state.etag:
                    state.etag = ""
                elif error.status not in AGAIN:
                    raise
                patience.pause(error, state.have, error.retry_after)

    def _answered(self, wished: Wished, state: _State) -> Iterator[tuple[int, bytes]]:
        """Yield what one answer brings, with its offsets: the rest, or everything where that is not to be had."""
        self._client.renew_when_due()
        ranged = bool(state.have and state.etag)
        headers = {"Range": f"bytes={state.have}-", "If-Range": state.etag} if ranged else {}
        answer = self._client.send("GET", self._client.api(wished.path), headers=headers, stream=True)
        try:
            start = self._begin(good(answer), state, ranged=ranged)
            if state.size == 0:
                yield 0, b""
            with broken_connections(self._client.server):
                for piece in answer.iter_raw():
                    yield start, piece
                    start += len(piece)
        finally:
            answer.close()

    def _begin(self, answer: httpx.Response, state: _State, *, ranged: bool) -> int:
        """Read from the head of an answer which bytes it brings; set what they are bytes of."""
        etag, encoding = answer.headers.get("ETag", ""), answer.headers.get("Content-Encoding", "identity")
        length = answer.headers.get("Content-Length", "")
        is_counted = length.isascii() and length.isdecimal() and len(length) < 16
        if answer.status_code not in {200, 206} or encoding != "identity" or not is_counted:
            raise Refused(NO_VAULT, answer.status_code)
        if answer.status_code == HTTPStatus.PARTIAL_CONTENT:
            found = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
            told = tuple(int(number) for number in found.groups()) if found else ()
            if not ranged or told != (state.have, state.size - 1, state.size) or etag != state.etag:
                raise Refused(NO_VAULT, answer.status_code)
            return state.have
        # A weak ETag does not say that the bytes are the same, so there is no going on with it.
        state.etag = etag if etag.startswith('"') else ""
        state.size = int(length)
        return 0


def refuse_existing(target: Path) -> None:
    """Raise ``InTheWay`` where there is something of this name, a dangling link too."""
    if os.path.lexists(target):
        raise InTheWay(f"{visible(target)} is there already. Give another name with -o, or --force.")


def part_of(target: Path) -> Path:
    """Return where the unfinished file lies: beside the target, under a digest where its name would be too long."""
    name = f"{target.name}.part"
    if len(os.fsencode(name)) > LONGEST_NAME_BYTES:
        name = f"{digest_of(target.name)[:32]}.part"
    return target.with_name(name)


@contextmanager
def _opened_part(part: Path, *, is_ours: bool, force: bool) -> Iterator[BinaryIO]:
    """Open the unfinished file for this process alone; one that is not of an earlier run is ``InTheWay``.

    A link, or a file that others may read or write, is never gone on with.
    """
    if os.path.lexists(part):
        if not is_ours and not force:
            raise InTheWay(f"{visible(part)} is there and not of an earlier get. Remove it, or give --force.")
        if not is_ours or (os.name == "posix" and not _is_private(part.lstat())):
            part.unlink()
    goes_on = os.path.lexists(part)
    how = os.O_RDWR if goes_on else os.O_RDWR | os.O_CREAT | os.O_EXCL
    descriptor = os.open(part, how | _ONLY_HERE, 0o600)
    with os.fdopen(descriptor, "r+b") as file:
        _lock(file, part)
        if goes_on and os.name == "posix" and not _is_private(os.fstat(descriptor)):
            raise InTheWay(f"{visible(part)} belongs to others too. Remove it first.")
        yield file


def _is_private(found: os.stat_result) -> bool:
    return (
        stat.S_ISREG(found.st_mode)
        and found.st_nlink == 1
        and found.st_uid == os.geteuid()
        and not found.st_mode & 0o077
    )


def _lock(file: Any, part: Path) -> None:
    """Keep a second get of the same target out, where the system can."""
    with suppress(ImportError):
        import fcntl

        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InTheWay(f"Another docvault is fetching {visible(part)}.") from None


def _digest(file: BinaryIO, count: int) -> Any:
    """Take in what an earlier run has written, and leave the file at its end."""
    digest = hashlib.sha256()
    file.seek(0)
    while count > 0 and (piece := file.read(min(PIECE, count))):
        digest.update(piece)
        count -= len(piece)
    return digest


def _give_name(part: Path, target: Path, *, force: bool) -> None:
    """Give the whole file its name, in one step that overwrites nothing unless asked to."""
    if force or os.name == "nt":
        os.replace(part, target) if force else os.rename(part, target)
    else:
        try:
            os.link(part, target)
            part.unlink()
        except FileExistsError:
            refuse_existing(target)
            raise
        except OSError as error:
            if error.errno not in {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}:
                raise
            refuse_existing(target)
            os.rename(part, target)
    if os.name == "posix":
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
