"""Send files by tus 1.0: in PATCHes of many parts, going on where a connection, a server or this process ended.

What an unfinished upload needs to go on lies in the configuration folder under a digest; no name of a file does.
"""

from __future__ import annotations

import base64
import mimetypes
import os
import re
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urljoin, urlsplit

import httpx

from vault.agent.client import (
    DOCUMENT_ID,
    NO_VAULT,
    Client,
    LoggedOut,
    Refused,
    Unreachable,
    refusal,
    retry_after,
    visible,
)
from vault.agent.configuration import digest_of
from vault.agent.patience import FIRST_PAUSE, TRIES, Patience
from vault.errors import BadInput, Gone, Locked, VaultError

PIECE = 1 << 20
BLOCK = 8 << 20
PARALLEL_FROM = 64 << 20
MOST_PARALLEL = 16
TUS = {"Tus-Resumable": "1.0.0"}
OFFSET_TYPE = "application/offset+octet-stream"
_UPLOAD = re.compile(r"[A-Za-z0-9_~=-]{1,1000}", re.ASCII)
LOCKED_TRIES = 4
NOT_AGAIN = {HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.INSUFFICIENT_STORAGE}

LOCKED = (
    "The session is locked. Nothing is lost: log in again (docvault login), then run the same put again, "
    "and it continues."
)
ENDED = (
    "Your session has ended. Log in again (docvault login), then run the same put again, and it continues."
)
LOST = "The server does not know this upload (any more). Put the file again."

Moved = Callable[[int], None]
"""Told how many bytes have been handed to the network so far; it may also go back."""


class Changed(VaultError):
    """The file is not the one that was begun with; nothing of it became a document."""

    def __init__(self) -> None:
        super().__init__("The file changed while it was sent. Nothing was stored; put it again.")


class GivenUp(VaultError):
    text = "This was given up because another part of it failed."


@dataclass(frozen=True)
class Wanted:
    """What the document is to be: a new one for these recipients, or a new version of ``document``."""

    name: str
    path: str = ""
    recipients: tuple[str, ...] = ()
    document: str = ""

    def metadata(self) -> str:
        """Return Upload-Metadata: keys with values in base64, those without one left out; raises ``BadInput``."""
        told = {
            "filename": self.name,
            "filetype": mimetypes.guess_type(self.name)[0] or "",
            "path": self.path,
            "recipients": ",".join(self.recipients),
            "document": self.document,
        }
        try:
            raw = {key: value.encode() for key, value in told.items() if value}
        except UnicodeEncodeError:
            raise BadInput("name", "The file's name is no text in UTF-8. Give one by --name.") from None
        return ",".join(f"{key} {base64.b64encode(value).decode()}" for key, value in raw.items())


@dataclass(frozen=True)
class Sent:
    """A document that is stored; the id is not known where the server did not tell it."""

    document: str | None
    size: int


@dataclass
class Span:
    """One upload of the server: ``length`` bytes of the file from ``start`` on."""

    url: str
    start: int
    length: int
    partial: bool
    fresh: bool = field(default=False, compare=False)


@dataclass(frozen=True)
class _Source:
    """A file as it was when it was looked at first."""

    path: Path
    size: int
    mark: tuple[int, ...]

    @classmethod
    def of(cls, path: Path) -> _Source:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            raise BadInput("file", f"{visible(path)} is not a file. Standard input is -.")
        return cls(path, found.st_size, _mark(found))

    def pieces(self, start: int, stop: int, going_on: Callable[[int], None]) -> Iterator[bytes]:
        """Yield the bytes from ``start`` to ``stop``. Raises ``Changed`` before the last ones, while nothing is stored.

        An upload that lacks its end is never a document.
        """
        with self.path.open("rb", buffering=0) as file:
            file.seek(start)
            while start < stop:
                piece = file.read(min(PIECE, stop - start))
                if not piece or _mark(os.fstat(file.fileno())) != self.mark:
                    raise Changed
                start += len(piece)
                yield piece
                going_on(start)

    def check(self) -> None:
        """Raise ``Changed`` unless the file is still the one that was begun with."""
        try:
            found = _mark(os.stat(self.path))
        except OSError:
            raise Changed from None
        if found != self.mark:
            raise Changed


def _mark(found: os.stat_result) -> tuple[int, ...]:
    return (found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev)


class Sender:
    """Sends files to one server."""

    def __init__(
        self,
        client: Client,
        *,
        tries: int = TRIES,
        parallel: int = 1,
        parallel_from: int = PARALLEL_FROM,
        notice: Callable[[str], None] = lambda text: None,
        first_pause: float = FIRST_PAUSE,
    ) -> None:
        self._client = client
        self._tries = tries
        self._parallel = parallel
        self._parallel_from = parallel_from
        self._notice = notice
        self._first_pause = first_pause
        self._stopped = threading.Event()

    def send_file(self, path: Path, wanted: Wanted, moved: Moved = lambda done: None) -> Sent:
        """Send a file and return its document; goes on with what an earlier run of the same put has sent.

        Raises ``Changed``, ``Locked``, ``LoggedOut``, ``Refused``, ``Unreachable`` or ``OSError``; after the middle
        four the same call goes on.
        """
        source = _Source.of(path)
        memory = self._memory(source, wanted)
        spans = self._remembered(memory, source)
        if spans:
            try:
                return self._finish(source, wanted, spans, memory, moved)
            except Gone:
                self._client.configuration.remove(memory)
        if source.size == 0:
            return self._send_nothing(wanted)
        spans = self._begin(source, wanted, memory)
        return self._finish(source, wanted, spans, memory, moved)

    def send_stream(self, stream: BinaryIO, wanted: Wanted, moved: Moved = lambda done: None) -> Sent:
        """Send what a stream gives until its end, whose length nobody knows before: a block at a time from memory."""
        begun = self._create({"Upload-Defer-Length": "1", "Upload-Metadata": wanted.metadata()}, once=False)
        url, offset = self._url_of(begun), 0
        block, document = _read_block(stream), None
        while True:
            following = _read_block(stream) if len(block) == BLOCK else b""
            document = self._send_block(url, offset, block, is_last=not following, moved=moved)
            offset += len(block)
            if not following:
                return Sent(document, offset)
            block = following

    # Creating

    def _send_nothing(self, wanted: Wanted) -> Sent:
        """Store an empty file. Its creation completes it, so asking twice could make two documents."""
        answer = self._create({"Upload-Length": "0", "Upload-Metadata": wanted.metadata()}, once=True)
        return Sent(_document_in(answer), 0)

    def _begin(self, source: _Source, wanted: Wanted, memory: str) -> list[Span]:
        metadata = {"Upload-Metadata": wanted.metadata()}
        ranges = self._ranges(source.size)
        partial = len(ranges) > 1
        more = {"Upload-Concat": "partial"} if partial else metadata
        spans = []
        for start, length in ranges:
            answer = self._create({"Upload-Length": str(length), **more}, once=False)
            spans.append(Span(self._url_of(answer), start, length, partial, fresh=True))
        self._client.configuration.write(
            memory, {"spans": [[span.url, span.start, span.length, span.partial] for span in spans]}
        )
        return spans

    def _ranges(self, size: int) -> list[tuple[int, int]]:
        """Divide a file: whole parts of 8 MiB in every piece but the last."""
        if self._parallel < 2 or size <= self._parallel_from:
            return [(0, size)]
        share = max(BLOCK, -(-size // self._parallel // BLOCK) * BLOCK)
        return [(start, min(share, size - start)) for start in range(0, size, share)]

    def _create(self, headers: dict[str, str], *, once: bool) -> httpx.Response:
        patience = self._patience()
        while True:
            self._client.renew_when_due()
            try:
                answer = self._client.send("POST", self._client.api("/uploads"), headers=TUS | headers)
            except Unreachable as error:
                if once:
                    raise
                patience.pause(error, 0)
                continue
            if answer.status_code == HTTPStatus.CREATED:
                return answer
            self._judge(answer, patience, 0)

    def _url_of(self, answer: httpx.Response) -> str:
        """Return the upload's path on the server. Whatever host Location names, the token goes to no other one."""
        ours = self._client.api("/uploads/")
        path: str = urlsplit(urljoin(ours, answer.headers.get("Location", ""))).path
        if not path.startswith(ours) or not _UPLOAD.fullmatch(path.removeprefix(ours)):
            raise Refused(NO_VAULT, answer.status_code)
        return path

    # Sending

    def _finish(self, source: _Source, wanted: Wanted, spans: list[Span], memory: str, moved: Moved) -> Sent:
        try:
            if spans[0].partial:
                document = self._send_parallel(source, wanted, spans, moved)
            else:
                document = self._send_span(source, spans[0], moved)
        except Changed:
            self._client.configuration.remove(memory)
            self._end(spans)
            raise
        self._client.configuration.remove(memory)
        return Sent(document, source.size)

    def _send_parallel(self, source: _Source, wanted: Wanted, spans: list[Span], moved: Moved) -> str | None:
        done, adding = dict.fromkeys(range(len(spans)), 0), threading.Lock()

        def moved_in(index: int) -> Moved:
            def tell(count: int) -> None:
                with adding:
                    done[index] = count
                    moved(sum(done.values()))

            return tell

        self._stopped.clear()
        with ThreadPoolExecutor(len(spans), thread_name_prefix="span") as pool:
            running = [
                pool.submit(self._send_span, source, span, moved_in(index))
                for index, span in enumerate(spans)
            ]
            try:
                wait(running, return_when=FIRST_EXCEPTION)
            finally:
                self._stopped.set()
        self._stopped.clear()
        failed = [error for error in (each.exception() for each in running) if error is not None]
        for error in sorted(failed, key=lambda error: isinstance(error, GivenUp)):
            raise error
        source.check()
        return self._join(wanted, spans)

    def _join(self, wanted: Wanted, spans: list[Span]) -> str | None:
        """Make one document of the spans; asked again after a lost answer, the server tells the same document."""
        concat = "final;" + " ".join(span.url for span in spans)
        answer = self._create({"Upload-Concat": concat, "Upload-Metadata": wanted.metadata()}, once=False)
        return _document_in(answer)

    def _send_span(self, source: _Source, span: Span, moved: Moved) -> str | None:
        patience = self._patience()
        offset: int | None = 0 if span.fresh else None
        span.fresh = False
        reached = 0
        while True:
            try:
                if offset is None:
                    offset, document = self._ask_offset(span.url, patience, reached)
                    reached = max(reached, offset)
                    moved(offset)
                    if offset == span.length:
                        return document
                answer = self._patch(source, span, offset, moved)
            except Unreachable as error:
                offset = None
                patience.pause(error, reached)
                continue
            if answer.status_code == HTTPStatus.NO_CONTENT and _offset_in(answer) == span.length:
                return _document_in(answer)
            offset = None
            self._judge(answer, patience, reached)

    def _patch(self, source: _Source, span: Span, offset: int, moved: Moved) -> httpx.Response:
        def going_on(position: int) -> None:
            moved(position - span.start)
            if self._stopped.is_set():
                raise GivenUp

        headers = {"Upload-Offset": str(offset), "Content-Length": str(span.length - offset)}
        pieces = source.pieces(span.start + offset, span.start + span.length, going_on)
        return self._client.send(
            "PATCH", span.url, headers=TUS | {"Content-Type": OFFSET_TYPE} | headers, content=pieces
        )

    def _send_block(self, url: str, start: int, block: bytes, *, is_last: bool, moved: Moved) -> str | None:
        """Send one block of a stream, the last one with the length of all; return the document of that one."""
        patience, offset, stop = self._patience(), start, start + len(block)
        headers = TUS | {"Content-Type": OFFSET_TYPE}
        if is_last:
            headers["Upload-Length"] = str(stop)
        while True:
            try:
                self._client.renew_when_due()
                answer = self._client.send(
                    "PATCH",
                    url,
                    headers=headers | {"Upload-Offset": str(offset)},
                    content=block[offset - start :],
                )
                if answer.status_code == HTTPStatus.NO_CONTENT and _offset_in(answer) == stop:
                    moved(stop)
                    return _document_in(answer)
                self._judge(answer, patience, offset)
            except Unreachable as error:
                patience.pause(error, offset)
            offset, document = self._ask_offset(url, patience, offset)
            if not start <= offset <= stop:
                raise Gone("The server has lost a part that it had confirmed. Put it again.")
            moved(offset)
            if offset == stop and (document or not is_last):
                return document

    def _ask_offset(self, url: str, patience: Patience, reached: int) -> tuple[int, str | None]:
        """Ask how far an upload is; the whole length means that the document is there."""
        while True:
            self._client.renew_when_due()
            try:
                answer = self._client.send("HEAD", url, headers=TUS)
            except Unreachable as error:
                patience.pause(error, reached)
                continue
            if answer.is_success:
                return _offset_in(answer), _document_in(answer)
            self._judge(answer, patience, reached)

    def _judge(self, answer: httpx.Response, patience: Patience, reached: int) -> None:
        """Return when the same may succeed now, having waited where that helps; else raise what it means."""
        status = answer.status_code
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.LOCKED} and self._client.take_up_newer_login():
            return
        if status == HTTPStatus.UNAUTHORIZED:
            raise LoggedOut(ENDED)
        if status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
            raise Gone(LOST)
        if answer.is_success:
            patience.pause(Unreachable("The server took less than it was sent."), reached)
            return
        is_worth_it = status in {HTTPStatus.CONFLICT, HTTPStatus.LOCKED, HTTPStatus.TOO_MANY_REQUESTS}
        if not is_worth_it and (status < 500 or status in NOT_AGAIN):
            raise refusal(answer)
        if status == HTTPStatus.LOCKED:
            self._client.renew()
            patience.pause(Locked(LOCKED), reached, retry_after(answer), LOCKED_TRIES)
        else:
            patience.pause(refusal(answer), reached, retry_after(answer))

    def _end(self, spans: list[Span]) -> None:
        """Tell the server that these uploads will not go on; it finds out by itself where this does not arrive."""
        for span in spans:
            try:
                self._client.send("DELETE", span.url, headers=TUS)
            except Unreachable:
                return

    def _patience(self) -> Patience:
        return Patience(self._tries, self._notice, self._stopped, self._first_pause)

    # Remembering

    def _memory(self, source: _Source, wanted: Wanted) -> str:
        """Return the name under which this put is remembered: another file, server, user or wish is another put."""
        told = (wanted.name, wanted.path, ",".join(wanted.recipients), wanted.document)
        about = (self._client.server, self._client.username, os.path.abspath(source.path))
        return f"put-{digest_of(*about, *source.mark, *told)}"

    def _remembered(self, memory: str, source: _Source) -> list[Span]:
        try:
            spans = [Span(*each) for each in self._client.configuration.read(memory).get("spans", [])]
        except TypeError:
            return []
        whole = sum(span.length for span in spans) == source.size
        return spans if whole else []


def _read_block(stream: BinaryIO) -> bytes:
    """Read until a block is full or the stream has ended; a pipe gives less at a time."""
    block = bytearray()
    while len(block) < BLOCK and (piece := stream.read(BLOCK - len(block))):
        block += piece
    return bytes(block)


def _document_in(answer: httpx.Response) -> str | None:
    found = answer.headers.get("X-Vault-Document", "")
    return found if DOCUMENT_ID.fullmatch(found) else None


def _offset_in(answer: httpx.Response) -> int:
    text = answer.headers.get("Upload-Offset", "")
    if not (text.isascii() and text.isdecimal()) or len(text) > 15:
        raise Refused(NO_VAULT, answer.status_code)
    return int(text)
