"""Receive bodies: form uploads through a push parser, raw bodies as they come. Nothing is ever spooled.

A view that takes files calls ``receive_form`` or ``receive_raw`` and touches neither ``request.form`` nor
``request.files``. Everywhere else the request class refuses files, so that no route can write plaintext to disk.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import IO, Any

from flask import Request, g, request
from multipart import MultipartError, MultipartSegment, PushMultipartParser
from werkzeug.exceptions import BadRequest, ClientDisconnected, RequestEntityTooLarge, UnsupportedMediaType

from vault.errors import BadInput, BrokenOff, TooLarge
from vault.http.identity import check_csrf, current_account
from vault.http.transfers import enter_reading, enter_transfer
from vault.services.resumable import Checksum, Progress
from vault.services.unlocked import UnlockedAccount
from vault.services.uploads import Draft
from vault.wiring import services

READ_BYTES = 2**20
FIELD_BYTES = 2**16
FIELDS = 2000
OVERHEAD_BYTES = 2**20
DRAIN_SECONDS = 2.0
LAST_SECONDS = 0.1
SMALL_BODY_BYTES = 2**16


class VaultRequest(Request):
    """A request that refuses files in forms, so that nothing is written to a temporary file.

    A large body that is not a file is read at once, and by few at a time (F26): it lies in memory until it is whole.
    """

    def get_data(self, cache: bool = True, as_text: bool = False, parse_form_data: bool = False) -> Any:
        self._wait_for_a_place()
        return super().get_data(cache, as_text, parse_form_data)  # type: ignore[call-overload]

    def _load_form_data(self) -> None:
        self._wait_for_a_place()
        super()._load_form_data()

    def _wait_for_a_place(self) -> None:
        announced = self.content_length
        if announced is None and not self.environ.get("wsgi.input_terminated"):
            return
        if announced is None or announced > SMALL_BODY_BYTES:
            enter_reading()

    def _get_file_stream(
        self,
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None = None,
        content_length: int | None = None,
    ) -> IO[bytes]:
        raise BadRequest("This address takes no files.")


class _Part:
    """One part of a form that is being received; ``read`` gives its bytes as they come."""

    def __init__(self, segment: MultipartSegment, events: Iterator[Any]) -> None:
        self.name = segment.name
        self.filename = segment.filename
        self.content_type = segment.content_type if segment.filename is not None else None
        self._events = events
        self._kept: memoryview = memoryview(b"")
        self._ended = False

    def read(self, size: int) -> memoryview:
        """Return at most ``size`` bytes, and nothing at the end of the part."""
        self._fill()
        given, self._kept = self._kept[:size], self._kept[size:]
        return given

    def is_empty(self) -> bool:
        """Tell whether the part has no content, without taking any of it."""
        self._fill()
        return not self._kept

    def _fill(self) -> None:
        if not self._kept and not self._ended:
            event = next(self._events, None)
            if event is None:
                self._ended = True
            else:
                self._kept = memoryview(event)

    def text(self) -> str:
        """Return a field's whole value; raises ``BadInput`` when it is too long or not UTF-8."""
        value = bytearray()
        while piece := self.read(FIELD_BYTES):
            value += piece
            if len(value) > FIELD_BYTES:
                raise BadInput(self.name, "This field is too long.")
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise BadInput(self.name, "This field is not UTF-8 text.") from error


def _boundary() -> str:
    if request.mimetype != "multipart/form-data":
        raise UnsupportedMediaType("Send the form as multipart/form-data.")
    boundary = request.mimetype_params.get("boundary", "")
    if not 1 <= len(boundary) <= 200:
        raise BadInput("file", "The form has no usable boundary.")
    return boundary


def _events(parser: PushMultipartParser) -> Iterator[Any]:
    """Give what the parser finds, until the body's announced end: gunicorn shows a cut body as an ordinary end."""
    received = 0
    try:
        while chunk := request.stream.read(READ_BYTES):
            received += len(chunk)
            yield from parser.parse(chunk)
    except MultipartError as error:
        raise BadInput("file", f"The form is malformed: {error}") from error
    except RequestEntityTooLarge as error:
        raise TooLarge(services().uploads.largest) from error
    try:
        parser.close()
    except MultipartError as error:
        raise BrokenOff from error
    if request.content_length is not None and received < request.content_length:
        raise BrokenOff


def _parts() -> Iterator[_Part]:
    """Give the parts of the form one after another; one must be read to its end before the next."""
    try:
        parser = PushMultipartParser(_boundary(), max_segment_count=FIELDS, strict=True)
    except MultipartError as error:
        raise BadInput("file", "The form has no usable boundary.") from error
    events = _events(parser)
    for event in events:
        if isinstance(event, MultipartSegment):
            part = _Part(event, events)
            yield part
            while part.read(READ_BYTES):
                pass


def _allow(largest: int, overhead: int = 0) -> None:
    """Refuse a body that is announced as too large before reading it, and let a large one in."""
    announced = request.content_length
    if announced is not None and announced > largest + overhead:
        g.drain_body = True
        raise TooLarge(largest)
    request.max_content_length = largest + overhead + 1


def receive_form(document_id: bytes | None = None) -> list[bytes]:
    """Receive a multipart form with any number of files; return the ids of the documents, in order.

    The session is checked before the first read, the CSRF token before the first byte of a file: a file that comes
    before a valid token ends the request. A form that fails anywhere leaves none of its files. With ``document_id`` the
    one file becomes a new version.
    """
    account = current_account()
    uploads = services().uploads
    if document_id is not None:
        uploads.may_replace(account, document_id)
    _allow(uploads.largest, OVERHEAD_BYTES)
    enter_transfer()
    form = _Form(account, document_id)
    g.drain_body = True
    try:
        for part in _parts():
            form.take(part)
    except BaseException:
        form.give_up()
        raise
    g.drain_body = False
    return form.finish()


class _Form:
    """What has come of a form so far: its files are durable, and become documents together at its end."""

    def __init__(self, account: UnlockedAccount, document_id: bytes | None) -> None:
        self._account = account
        self._document_id = document_id
        self._token: str | None = None
        self._usernames: list[str] = []
        self._recipients: tuple[bytes, ...] | None = None
        self._name: str | None = None
        self._drafts: list[Draft] = []

    def take(self, part: _Part) -> None:
        """Take one part; a file without name and content is what a browser sends where none was chosen."""
        if part.filename is None:
            self._take_field(part)
        elif part.filename or not part.is_empty():
            self._take_file(part)

    def _take_field(self, part: _Part) -> None:
        if part.name == "csrf_token":
            self._token = part.text()
        elif part.name == "recipients":
            if self._recipients is not None:
                raise BadInput("recipients", "Name the people before the first file.")
            self._usernames += part.text().replace(",", " ").split()
        elif part.name == "name":
            self._name = part.text() or None
        else:
            part.text()

    def _take_file(self, part: _Part) -> None:
        if self._recipients is None:
            check_csrf(self._token)
            self._recipients = services().uploads.resolve(self._account, self._usernames)
        if self._document_id is not None and self._drafts:
            raise BadInput("file", "A new version is one file.")
        name, self._name = self._name or part.filename or None, None
        draft = services().uploads.store(
            self._account, part.read, name=name, media_type=part.content_type,
            at_most=request.content_length, beside=self._drafts,
        )  # fmt: skip
        self._drafts.append(draft)

    def finish(self) -> list[bytes]:
        """Make documents of all files, or of none; return their ids, in order."""
        if not self._drafts:
            check_csrf(self._token)
            raise BadInput("file", "Choose a file.")
        return services().uploads.make_documents(
            self._account, self._drafts, self._recipients or (), self._document_id
        )

    def give_up(self) -> None:
        services().uploads.give_up(self._drafts)


def receive_raw(document_id: bytes | None = None) -> bytes:
    """Receive the body itself as one file, named by ``?name=``, shared with each ``?recipients=``; return its id."""
    account = current_account()
    check_csrf()
    uploads = services().uploads
    if document_id is not None:
        uploads.may_replace(account, document_id)
    _allow(uploads.largest)
    usernames = " ".join(request.args.getlist("recipients")).replace(",", " ").split()
    recipients = uploads.resolve(account, usernames)
    enter_transfer()
    g.drain_body = True
    stored = uploads.receive(
        account,
        _read_body,
        name=request.args.get("name") or None,
        media_type=request.content_type,
        length=request.content_length,
        recipients=recipients,
        document_id=document_id,
    )
    g.drain_body = False
    return stored


def receive_piece(
    claims: Any, token: str, offset: int, *, declared: int | None, checksum: Checksum | None
) -> Progress:
    """Receive a piece of an upload; a body that breaks off ends there, and what came of it is kept."""
    resumable = services().resumable
    _allow(resumable.largest)
    enter_transfer()
    g.drain_body = True
    taken = resumable.append(
        claims,
        token,
        offset,
        _read_piece,
        announced=request.content_length,
        declared=declared,
        checksum=checksum,
        unlock=services().sessions.recognise,
    )
    g.drain_body = False
    return taken


def _read_piece(size: int) -> bytes:
    """Read, and where the connection breaks give what had come before: gunicorn still holds it, and gives it up now."""
    try:
        return _read_body(size)
    except (ClientDisconnected, OSError):
        connection = request.environ.get("gunicorn.socket")
        if connection is not None:
            connection.settimeout(LAST_SECONDS)
    try:
        return _read_body(size)
    except (ClientDisconnected, OSError):
        return b""


def _read_body(size: int) -> bytes:
    try:
        read: bytes = request.stream.read(size)
    except RequestEntityTooLarge:
        raise TooLarge(services().uploads.largest) from None
    return read


def drain(environ: dict[str, Any]) -> None:
    """Read on for at most two seconds after an early refusal, so that a browser shows the answer, then let go.

    A client that sends nothing more is not waited for longer either: its socket, which gunicorn lends, gets a timeout.
    """
    until = time.monotonic() + DRAIN_SECONDS
    stream, connection = environ["wsgi.input"], environ.get("gunicorn.socket")
    try:
        while (left := until - time.monotonic()) > 0:
            if connection is not None:
                connection.settimeout(left)
            if not stream.read(READ_BYTES):
                return
    except OSError:
        return
