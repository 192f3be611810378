"""Many documents as one zip: stored, not deflated, streamed as it is made, its length known before its first byte.

Everything that can be proved of every document in advance is proved before ``stream`` gives anything. Names come from
the manifests with their folders, made safe to extract anywhere: what lies in a vault was named by many people.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from zipfile import ZIP_STORED

from zipstream import ZipStream, ZipStreamInfo

from vault.errors import BadInput
from vault.services import clock
from vault.services.content import Sealed, Wanted, fetch
from vault.services.downloads import Downloads, Member
from vault.services.unlocked import UnlockedAccount
from vault.storage.protocol import BlobStore

MOST = 1000
LONGEST = 255
"""Bytes of UTF-8 that one name may have on every file system."""
LONGEST_SUFFIX = 20
OWNER_ONLY = 0o100600 << 16

_FORBIDDEN = re.compile(r'[\\/:*?"<>|]')
_DEVICES = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|clock\$|(?:com|lpt)[0-9¹²³])", re.IGNORECASE)


@dataclass(eq=False)
class Zip:
    """A zip that may be sent: its name, its exact length, and ``stream`` for its bytes."""

    name: str
    size: int
    _members: list[Member] = field(repr=False)
    _archive: _Archive = field(repr=False)
    _pieces: Generator[Sealed] = field(repr=False)
    _zips: Zips = field(repr=False)
    _account: UnlockedAccount = field(repr=False)

    def stream(self) -> Iterator[bytes]:
        """Prove what can be proved of each document, then give the zip; raises as ``Opened.stream`` does."""
        self._zips.prove(self._account, self._members)
        return self._sent()

    def _sent(self) -> Iterator[bytes]:
        with closing(self._pieces):
            try:
                yield from self._archive
            except GeneratorExit:
                self._zips.record_aborted(self._account, self._members[self._archive.begun - 1])
                raise


class _Archive(ZipStream):  # type: ignore[misc]  # the library has no types
    """A ``ZipStream`` whose members bear times of their own: the library's own way gives them all the present."""

    def __init__(self) -> None:
        super().__init__(compress_type=ZIP_STORED, sized=True)
        self.times: dict[str, datetime] = {}
        self.begun = 0

    def _gen_file_entry(self, *, arcname: str, iterable: Generator[bytes], size: int) -> Iterator[bytes]:
        """Give one member's header and content; its CRC follows, so that nothing is read twice."""
        self.begun += 1
        info: Any = ZipStreamInfo(arcname, self.times[arcname].astimezone(UTC).timetuple()[:6])
        info.compress_type = ZIP_STORED
        info.external_attr = OWNER_ONLY
        info.file_size = size
        info.header_offset = self._pos
        with closing(iterable):
            for piece in info._file_data(iterable):
                yield self._track(piece)
        self._filelist.append(info)


class Zips:
    """Send many documents as one file."""

    def __init__(self, downloads: Downloads, store: BlobStore) -> None:
        self._downloads = downloads
        self._store = store

    def open(self, account: UnlockedAccount, document_ids: Sequence[bytes]) -> Zip:
        """Open the current versions of documents; what cannot be opened raises as it does for one document."""
        ids = list(dict.fromkeys(document_ids))
        if not 1 <= len(ids) <= MOST:
            raise BadInput("id", f"Name 1 to {MOST:,} documents.")
        members = self._downloads.open_many(account, ids)
        archive, pieces = _Archive(), self._pieces(members)
        names = names_in_zip([(member.manifest.path, member.manifest.name) for member in members])
        for name, member in zip(names, members, strict=True):
            archive.times[name] = member.made_at
            taken = _taken(pieces, member)
            content = self._downloads.verified(account, member.document_id, member.manifest.version, taken)
            archive.add(content, name, size=member.manifest.size)
        return Zip(name_of_zip(members), len(archive), members, archive, pieces, self, account)

    def prove(self, account: UnlockedAccount, members: list[Member]) -> None:
        """Prove in advance what can be, document by document, and write that all of them are being sent."""
        for member in members:
            self._downloads.prove(account, member)
        self._downloads.record_begun(account, [member.document_id for member in members])

    def record_aborted(self, account: UnlockedAccount, member: Member) -> None:
        """Write with which document it was that the client went away."""
        self._downloads.record_cut(account, member.document_id, "aborted")

    def _pieces(self, members: list[Member]) -> Generator[Sealed]:
        """Fetch all content in one row, so that a far store is asked ahead from one document to the next."""

        def wanted() -> Iterator[Wanted]:
            for member in members:
                yield from self._downloads.content(member).wanted(0, member.manifest.size)

        return fetch(self._store, wanted())


def _taken(pieces: Iterator[Sealed], member: Member) -> Iterator[Sealed]:
    """Take one document's pieces off the row."""
    left = member.manifest.size
    while left:
        piece = next(pieces)
        left -= piece.length
        yield piece


def name_of_zip(members: Sequence[Member]) -> str:
    """Name a zip after the folder that all its documents lie in, else after the day."""
    paths = {member.manifest.path for member in members}
    path = paths.pop()
    if paths or not path:
        return f"documents-{clock.now():%Y-%m-%d}.zip"
    return safe_name(f"{path[-1]}.zip")


def names_in_zip(documents: Sequence[tuple[tuple[str, ...], str]]) -> list[str]:
    """Give each document, told as folders and name, a path in the zip that can be extracted on any system.

    No two are the same to a system that folds case, and none is that of a folder; the second becomes "name (2).txt".
    """
    safe = [(tuple(map(safe_name, path)), safe_name(name)) for path, name in documents]
    taken = {_folded("/".join(path[:depth])) for path, _ in safe for depth in range(1, len(path) + 1)}
    numbers: Counter[str] = Counter()
    found = []
    for path, name in safe:
        whole = "/".join((*path, name))
        first = _folded(whole)
        while _folded(whole) in taken:
            numbers[first] += 1
            whole = "/".join((*path, _numbered(name, numbers[first] + 1)))
        taken.add(_folded(whole))
        found.append(whole)
    return found


def safe_name(name: str) -> str:
    """Turn a name of a document or folder into one that every file system takes, and none takes for something else."""
    text = "".join("_" if unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} else c for c in name)
    text = _FORBIDDEN.sub("_", text).rstrip(" .") or "_"
    if _DEVICES.fullmatch(text.partition(".")[0].rstrip()):
        text = f"_{text}"
    return _with_mark(text, "")


def _numbered(name: str, number: int) -> str:
    return _with_mark(name, f" ({number})")


def _with_mark(name: str, mark: str) -> str:
    """Put a mark before the suffix, and cut what stands before it where all would be longer than a name may be."""
    stem, dot, suffix = name.rpartition(".")
    if not stem or len(suffix) > LONGEST_SUFFIX:
        stem, dot, suffix = name, "", ""
    end = f"{mark}{dot}{suffix}"
    room = LONGEST - len(end.encode())
    if len(stem.encode()) > room:
        stem = stem.encode()[:room].decode(errors="ignore").rstrip(" .")
    return stem + end


def _folded(path: str) -> str:
    return unicodedata.normalize("NFKC", path).casefold()
