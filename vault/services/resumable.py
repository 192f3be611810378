"""Uploads that resume: begun once, sent in any number of pieces through any worker, joined, completed.

Nothing of one is kept in a process. Its token and its sender's token together say all that a piece needs; how far it
has come is what a listing of its own segment shows. The last part of an upload that becomes a document has a random
suffix and counts only once the document is committed, so "all has arrived" is never told before it is true.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from hmac import compare_digest
from typing import NamedTuple
from urllib.parse import urlsplit

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from vault.crypto.encoding import items, split
from vault.crypto.manifests import Part, Segment
from vault.crypto.masterkey import MasterKeys
from vault.crypto.parts import blob_name, plain_length
from vault.crypto.randomness import new_id, new_secret
from vault.crypto.resumable import (
    UploadTicket,
    issue_upload_token,
    open_segment_key,
    open_upload_metadata,
    read_upload_token,
    seal_upload_metadata,
)
from vault.crypto.tokens import TokenClaims
from vault.errors import (
    BadInput,
    BrokenOff,
    ChecksumMismatch,
    Conflict,
    Exists,
    Forbidden,
    Gone,
    KeyUnavailable,
    Locked,
    LoginRequired,
    NotFound,
    OffsetMismatch,
    QuotaExceeded,
    TooLarge,
    UnderUnknownKey,
    Unreadable,
    VaultError,
)
from vault.models import Upload
from vault.services import clock, names, promotion, seals
from vault.services.access import Gate
from vault.services.audit import Event
from vault.services.documents import bury
from vault.services.grants import unique
from vault.services.pipeline import READ_BYTES, Buffer, Pipeline, Read, pieces_of, within
from vault.services.quota import Limits, begin_upload, room_of
from vault.services.transactions import Transactions
from vault.services.unlocked import UnlockedAccount
from vault.services.uploads import Draft, Received, Uploads
from vault.services.wishes import Wishes, wishes_of
from vault.storage.protocol import BlobStore

PLAIN, PARTIAL, FINAL = "plain", "partial", "final"
DEFERRED = "deferred"
"""The kind of a plain or partial one while its length is not told: it reserves what it holds and what comes."""
ENDED = "ended"
MOST_JOINED = 20
"""Each is an address of some 330 characters, and all of them stand in one header of at most 8 KiB."""
CHECKSUMS = {"sha1": 20, "sha256": 32}

_ROW = select(*seals.columns(Upload)).where(Upload.id == bindparam("upload"))
_PLACE = re.compile(r"([0-9a-f]{16})(?:\.([0-9a-f]{16}))?")


@dataclass(frozen=True)
class Told:
    """What a client said when it began an upload: the header as it came, and for a final one which it joins."""

    metadata: str
    wishes: Wishes
    joins: str = ""


@dataclass(frozen=True)
class Progress:
    """How far an upload has come; ``length`` is ``None`` while it is deferred, ``document_id`` while none is made."""

    token: str = field(repr=False)
    offset: int
    length: int | None
    expires_at: datetime
    kind: str = PLAIN
    metadata: str = ""
    joins: str = ""
    document_id: bytes | None = None


class Checksum(NamedTuple):
    """What a piece must hash to; ``algorithm`` is one of ``CHECKSUMS``."""

    algorithm: str
    digest: bytes


class _Final(NamedTuple):
    id: bytes
    document_id: bytes | None
    expires_at: datetime


@dataclass(frozen=True)
class _Held:
    """What a listing of an upload's segment shows: parts without a gap, last parts of completions, bytes of all."""

    parts: list[Part]
    lasts: list[str]
    stored_bytes: int

    @property
    def offset(self) -> int:
        return self.parts[-1].offset + self.parts[-1].length if self.parts else 0


class Resumable:
    """Begin, continue, join and end uploads."""

    def __init__(
        self,
        transactions: Transactions,
        gate: Gate,
        uploads: Uploads,
        master: MasterKeys,
        store: BlobStore,
        *,
        part_size: int,
        limits: Limits,
    ) -> None:
        self._transactions = transactions
        self._gate = gate
        self._uploads = uploads
        self._master = master
        self._store = store
        self._part_size = part_size
        self._limits = limits
        self.largest = limits.largest

    # Begin

    def begin(self, account: UnlockedAccount, length: int | None, told: Told, *, partial: bool) -> Progress:
        """Begin an upload of ``length`` bytes, or of a length told later; one of 0 bytes is complete at once.

        Raises what would refuse it at its end: ``BadInput``, ``KeyChanged``, ``NotFound``, ``Forbidden``, ``TooLarge``,
        ``QuotaExceeded``, ``TooManyUploads``.
        """
        self._check(account, told.wishes)
        segment_key = new_secret()
        kind = PARTIAL if partial else PLAIN

        def work(session: Session) -> tuple[bytes, datetime]:
            noted = DEFERRED if length is None else kind
            row = begin_upload(session, account.user_id, noted, length, account.upload_day, self._limits).row
            row.sealed_metadata = self._sealed(account, row.id, told)
            seals.insert(session, row)
            return row.id, row.expires_at

        upload_id, expires_at = self._transactions.writing(work, account.user_id)
        token = self._token(account, upload_id, segment_key, length, kind, expires_at)
        document_id = None
        if length == 0 and not partial:
            ticket = read_upload_token(self._master, token)
            (part,) = self._put_empty(segment_key, upload_id)
            received = Received((Segment(upload_id, segment_key, 0),), (part,), hashlib.sha256().digest())
            document_id = self._complete(account, ticket, received, ())
        return Progress(token, 0, length, expires_at, kind, told.metadata, document_id=document_id)

    def _check(self, account: UnlockedAccount, wishes: Wishes) -> None:
        if wishes.name is not None:
            names.check_name(names.last_part(wishes.name))
        names.check_path(wishes.path)
        if wishes.document_id is not None:
            self._uploads.may_replace(account, wishes.document_id)
        self._uploads.resolve(account, wishes.recipients)

    def _sealed(self, account: UnlockedAccount, upload_id: bytes, told: Told) -> bytes:
        body = items([told.metadata.encode(), told.joins.encode()])
        return seal_upload_metadata(account.upload_keys[0], body, upload=upload_id, user=account.user_id)

    def _token(
        self,
        account: UnlockedAccount,
        upload_id: bytes,
        segment_key: bytes,
        length: int | None,
        kind: str,
        expires_at: datetime,
    ) -> str:
        return issue_upload_token(
            self._master, account.upload_keys[0], segment_key,
            upload=upload_id, user=account.user_id, length=length, is_partial=kind == PARTIAL, is_final=kind == FINAL,
            expires_at=expires_at,
        )  # fmt: skip

    def _put_empty(self, segment_key: bytes, segment: bytes) -> list[Part]:
        with Pipeline(self._store, segment_key, segment, self._part_size, end=0, keep_empty=True) as pipeline:
            pass
        return pipeline.parts

    # Recognise

    def _ticket(self, user_id: bytes, token: str) -> UploadTicket:
        """Open an upload's token; one that is edited or somebody else's is ``NotFound``, an old one ``Gone``."""
        try:
            ticket = self._read(token)
        except Unreadable:
            raise NotFound from None
        if ticket.user != user_id:
            raise NotFound
        if ticket.key_id != self._master.key_id:
            self._refuse_when_over(ticket)
        if ticket.expires_at <= clock.now():
            raise Gone
        return ticket

    def _read(self, token: str) -> UploadTicket:
        """Read a token; raises ``KeyUnavailable`` where it is this server that lacks its master key."""
        try:
            return read_upload_token(self._master, token)
        except UnderUnknownKey:
            with self._transactions.reading() as session:
                if promotion.lacking(session, self._master):
                    raise KeyUnavailable from None
            raise

    def _refuse_when_over(self, ticket: UploadTicket) -> None:
        with self._transactions.reading() as session:
            if promotion.is_over(session, ticket.key_id):
                raise Gone

    def exists(self, token: str) -> bool:
        """Tell whether a token is one of ours, whoever's: who is not logged in is then told to log in, and waits."""
        try:
            return self._read(token).expires_at > clock.now()
        except Unreadable:
            return False

    def _row(self, ticket: UploadTicket) -> Upload:
        """Read the upload's row as a verified tuple; raises ``Gone`` where there is none (any more)."""
        with self._transactions.reading(ticket.user) as session:
            found = seals.verified_row(session, _ROW, Upload, parameters={"upload": ticket.upload})
        if found is None:
            raise Gone
        row: Upload = seals.believed(found[0])
        return _of(ticket, row)

    def _held(self, segment: bytes) -> _Held:
        """List what the store holds of a segment; raises ``Gone`` where the upload was ended."""
        parts: list[Part] = []
        lasts: list[str] = []
        offset = stored = 0
        for info in self._store.list(f"{segment.hex()}/"):
            stored += info.size
            place = info.name.split("/", 1)[1]
            found = _PLACE.fullmatch(place)
            if found is None:
                raise Gone
            if found[2]:
                lasts.append(place)
            elif int(found[1], 16) == offset:
                length = plain_length(info.size)
                parts.append(Part(segment, offset, length))
                offset += length
        return _Held(parts, lasts, stored)

    # Continue

    def look(self, account: UnlockedAccount, token: str) -> Progress:
        """Tell how far an upload has come, and what was said of it; the whole length only once it is a document."""
        ticket = self._ticket(account.user_id, token)
        row = self._row(ticket)
        length = _length_of(row)
        done = row.document_id is not None
        offset = (length or 0) if done else self._held(ticket.upload).offset
        told = self._told(account, row)
        kind = PARTIAL if ticket.is_partial else FINAL if ticket.is_final else PLAIN
        return Progress(
            token, offset, length, row.expires_at, kind, told[0], told[1],
            row.document_id if kind != PARTIAL else None,
        )  # fmt: skip

    def _told(self, account: UnlockedAccount, row: Upload) -> tuple[str, str]:
        if row.sealed_metadata is None:
            return "", ""
        keys = account.upload_keys
        opened = open_upload_metadata(keys, row.sealed_metadata, upload=row.id, user=row.user_id)
        metadata, joins = split(opened)
        return (metadata or b"").decode(), (joins or b"").decode()

    def append(
        self,
        claims: TokenClaims,
        token: str,
        offset: int,
        read: Read,
        *,
        announced: int | None,
        declared: int | None = None,
        checksum: Checksum | None = None,
        unlock: Callable[[TokenClaims], UnlockedAccount],
    ) -> Progress:
        """Take a piece of an upload from ``offset`` on; what arrives is kept, also of a piece that breaks off.

        ``announced`` is the piece's length, ``declared`` the upload's where it was deferred. Raises ``OffsetMismatch``,
        ``Gone``, ``TooLarge``, ``QuotaExceeded``, ``BrokenOff``, ``ChecksumMismatch``; ``Locked`` where the piece
        completes a document and its owner's session is over: all but the last part is kept then.
        """
        ticket = self._ticket(claims.user, token)
        if ticket.is_final:
            raise Forbidden("A joined upload takes no pieces.")
        segment_key = self._segment_key(claims, ticket)
        known = self._known_length(ticket)
        length = self._length(known, declared)
        held = self._held(ticket.upload)
        if offset != held.offset:
            raise OffsetMismatch
        most = self._limits.most if length is None else length
        room = most - offset
        if announced is not None and announced > room:
            raise TooLarge(most)
        end = None if ticket.is_partial else length
        whole = offset == 0 and announced is not None and announced == length and not ticket.is_partial
        digest = hashlib.sha256() if whole else None
        if checksum is not None:
            read = self._checked(read, checksum, announced)
        pipeline = Pipeline(
            self._store, segment_key, ticket.upload, self._part_size, digest.update if digest else None,
            offset=offset, end=end, length=announced, in_order=True,
        )  # fmt: skip
        pieces = _until(ticket.expires_at, pieces_of(_bounded(read, room)))
        if known is None and self._limits.quota:
            coming = announced if declared is None else max(0, declared - offset)
            parts = self._put_deferred(ticket, pipeline, pieces, held.stored_bytes, coming)
        else:
            parts = self._put(pipeline, pieces)
        now = offset + sum(part.length for part in parts)
        document_id = None
        if end is not None and now == end:
            received = Received(
                (Segment(ticket.upload, segment_key, now),),
                (*held.parts, *parts) or tuple(self._put_empty(segment_key, ticket.upload)),
                digest.digest() if digest else None,
            )
            document_id = self._complete_unlocked(claims, unlock, ticket, received, held.lasts)
        elif declared is not None:
            self._note_length(ticket, declared)
        if announced is not None and now < offset + announced:
            raise BrokenOff(
                "The upload broke off. What has arrived is kept; ask for the offset and go on from there."
            )
        return Progress(token, now, length, ticket.expires_at, document_id=document_id)

    def _segment_key(self, claims: TokenClaims, ticket: UploadTicket) -> bytes:
        try:
            return open_segment_key(claims.upload_keys, ticket)
        except Unreadable:
            # His token is from another day than the upload: a fresh one has the key.
            raise Locked from None

    def _complete_unlocked(
        self,
        claims: TokenClaims,
        unlock: Callable[[TokenClaims], UnlockedAccount],
        ticket: UploadTicket,
        received: Received,
        lasts: Sequence[str],
    ) -> bytes:
        try:
            return self._complete(unlock(claims), ticket, received, lasts)
        except VaultError as refused:
            with suppress(VaultError):
                self._give_up_last(ticket, received.parts[-1])
            if isinstance(refused, LoginRequired):
                raise Locked from None
            raise

    def _known_length(self, ticket: UploadTicket) -> int | None:
        """Return the upload's length where it was told before: by its token, or by its row."""
        return ticket.length if ticket.length is not None else _length_of(self._row(ticket))

    def _length(self, known: int | None, declared: int | None) -> int | None:
        """Return the upload's length where it is known, or declared by this piece."""
        if declared is None:
            return known
        if known is not None and declared != known:
            raise BadInput("Upload-Length", "The length of this upload was told before, and is another one.")
        if declared > self._limits.most:
            raise TooLarge(self._limits.most)
        return declared

    def _checked(self, read: Read, checksum: Checksum, announced: int | None) -> Read:
        """Hold a whole piece of at most one part in memory, and give it on only when its checksum fits."""
        too_large = TooLarge(
            self._part_size, f"A piece with a checksum may have at most {self._part_size:,} bytes."
        )
        if announced is not None and announced > self._part_size:
            raise too_large
        body = bytearray()
        while piece := read(READ_BYTES):
            body += piece
            if len(body) > self._part_size:
                raise too_large
        if announced is not None and len(body) < announced:
            raise BrokenOff("The piece broke off before its checksum could be compared; send it again.")
        found = hashlib.new(checksum.algorithm, body, usedforsecurity=False).digest()
        if not compare_digest(found, checksum.digest):
            raise ChecksumMismatch
        return _given(body)

    def _put(self, pipeline: Pipeline, pieces: Iterator[Buffer]) -> list[Part]:
        try:
            with pipeline:
                for piece in pieces:
                    pipeline.feed(piece)
        except Exists:
            raise OffsetMismatch from None
        return pipeline.parts

    def _put_deferred(
        self,
        ticket: UploadTicket,
        pipeline: Pipeline,
        pieces: Iterator[Buffer],
        held: int,
        coming: int | None,
    ) -> list[Part]:
        """Put a piece of an upload whose length is not known, within the quota: what is announced is reserved before.

        Of a body that announces nothing, what has come is reserved after it.
        """
        room = self._reserve(ticket, held, coming or 0)
        try:
            return self._put(pipeline, within(room, self._limits.quota, pipeline, pieces))
        finally:
            if coming is None:
                with suppress(VaultError):
                    self._reserve(ticket, held + pipeline.stored_bytes, 0, is_there=True)

    def _reserve(self, ticket: UploadTicket, held: int, coming: int, *, is_there: bool = False) -> int:
        """Reserve what an upload holds and what is to come of it; return how much may come.

        Raises ``QuotaExceeded`` where that does not fit, unless it ``is_there`` already.
        """

        def work(session: Session) -> int:
            row = _of(ticket, session.get(Upload, ticket.upload, with_for_update=True))
            room = (room_of(session, row, self._limits) or 0) - held
            if coming > room and not is_there:
                raise QuotaExceeded(self._limits.quota)
            if _length_of(row) is None:
                row.reserved_bytes, row.kind = held + coming, DEFERRED
            return room

        return self._transactions.writing(work, ticket.user)

    def _note_length(self, ticket: UploadTicket, length: int) -> None:
        def work(session: Session) -> None:
            row = _of(ticket, session.get(Upload, ticket.upload, with_for_update=True))
            if _length_of(row) is None:
                row.reserved_bytes, row.kind = length, PARTIAL if ticket.is_partial else PLAIN

        self._transactions.writing(work, ticket.user)

    # Complete

    def _complete(
        self, account: UnlockedAccount, ticket: UploadTicket, received: Received, lasts: Sequence[str]
    ) -> bytes:
        """Make a document of an upload whose content is durable; repeated, it answers the same document.

        The last parts of others who raced for the end are ordered destroyed, or one's own where they have won.
        """
        last = received.parts[-1]
        own = _place_of(last)

        def work(session: Session) -> bytes:
            row = _of(ticket, session.get(Upload, ticket.upload, with_for_update=True))
            if row.document_id is not None:
                self._bury_lasts(session, ticket.upload, [own] if last.suffix else [])
                return row.document_id
            wishes = self._wishes(account, row)
            made = self._make(session, account, received, wishes)
            row.document_id, row.reserved_bytes, row.kind = made, received.length, PLAIN
            self._bury_lasts(session, ticket.upload, [name for name in lasts if name != own])
            return made

        return self._transactions.writing(work, account.user_id)

    def _give_up_last(self, ticket: UploadTicket, last: Part) -> None:
        """Order the last part of a refused completion destroyed: each try sends it anew, and none may fill the store.

        Not where the upload is a document after all: the refusal may be an answer that was lost after the commit.
        """

        def work(session: Session) -> None:
            row = session.get(Upload, ticket.upload, with_for_update=True)
            if row is not None and row.document_id is None:
                self._bury_lasts(session, ticket.upload, [_place_of(last)] if last.suffix else [])

        self._transactions.writing(work)

    def _bury_lasts(self, session: Session, segment: bytes, lasts: Sequence[str]) -> None:
        if lasts:
            bury(session, {segment}, blobs=lasts)
            self._transactions.record(Event("upload_raced", None, "upload", segment))

    def _wishes(self, account: UnlockedAccount, row: Upload) -> Wishes:
        return wishes_of(self._told(account, row)[0])

    def _make(self, session: Session, account: UnlockedAccount, received: Received, wishes: Wishes) -> bytes:
        shown = names.check_name(names.last_part(wishes.name)) if wishes.name is not None else None
        draft = Draft(
            received, shown, names.check_path(wishes.path), names.media_type(wishes.media_type, shown or "")
        )
        if wishes.document_id is not None:
            return self._uploads.replace(session, account, draft, wishes.document_id)
        readers = self._uploads.readers(session, account, unique(wishes.recipients))
        return self._uploads.insert(session, account, self._uploads.prepare(account, draft), readers)

    # Join

    def join(self, account: UnlockedAccount, tokens: Sequence[str], told: Told) -> Progress:
        """Make one document of partial uploads, in the order given, without a byte rewritten; repeated, the same one.

        Raises ``NotFound``, ``Gone``, ``BadInput``; ``Conflict`` where one is not complete or joined already.
        """
        tickets = [self._ticket(account.user_id, token) for token in tokens]
        if not all(ticket.is_partial for ticket in tickets):
            raise BadInput("Upload-Concat", "Only partial uploads can be joined.")
        if len({ticket.upload for ticket in tickets}) != len(tickets) or len(tickets) > MOST_JOINED:
            raise BadInput("Upload-Concat", f"Name each partial upload once, at most {MOST_JOINED} of them.")
        self._check(account, told.wishes)
        segments, parts = self._joined(account, tickets)
        received = Received(tuple(segments), tuple(parts), None)
        if received.length > self.largest:
            raise TooLarge(self.largest)

        def work(session: Session) -> _Final:
            present = [
                _of(ticket, session.get(Upload, ticket.upload, with_for_update=True))
                for ticket in sorted(tickets, key=lambda ticket: ticket.upload)
            ]
            before = self._joined_before(session, account, present, [ticket.upload for ticket in tickets])
            if before is not None:
                return before
            made = self._make(session, account, received, told.wishes)
            final = Upload(
                id=new_id(), user_id=account.user_id, kind=FINAL, reserved_bytes=received.length,
                sealed_metadata=None, document_id=made, joined_id=None,
                created_at=clock.now(), expires_at=min(row.expires_at for row in present),
            )  # fmt: skip
            final.sealed_metadata = self._sealed(account, final.id, told)
            session.add(final)
            for row in present:
                row.document_id, row.joined_id = made, final.id
            return _Final(final.id, made, final.expires_at)

        final = self._transactions.writing(work, account.user_id)
        token = self._token(account, final.id, new_secret(), None, FINAL, final.expires_at)
        return Progress(
            token,
            received.length,
            received.length,
            final.expires_at,
            FINAL,
            told.metadata,
            told.joins,
            final.document_id,
        )

    def _joined(
        self, account: UnlockedAccount, tickets: Sequence[UploadTicket]
    ) -> tuple[list[Segment], list[Part]]:
        """Gather segments and parts of partial uploads that are complete; empty ones only where all are."""
        segments, parts = [], []
        for ticket in tickets:
            length = self._known_length(ticket)
            held = self._held(ticket.upload)
            if length is None or held.offset != length:
                raise Conflict("One of the partial uploads is not complete. Finish it first.")
            if length:
                key = open_segment_key(account.upload_keys, ticket)
                segments.append(Segment(ticket.upload, key, length))
                parts += held.parts
        if not segments:
            key = open_segment_key(account.upload_keys, tickets[0])
            segments.append(Segment(tickets[0].upload, key, 0))
            parts += self._put_empty(key, tickets[0].upload)
        return segments, parts

    def _joined_before(
        self, session: Session, account: UnlockedAccount, rows: Sequence[Upload], order: Sequence[bytes]
    ) -> _Final | None:
        """Return the final upload that joined exactly these in this order; raises ``Conflict`` where another did."""
        finals = {row.joined_id for row in rows}
        if finals == {None}:
            return None
        joined = finals.pop() if len(finals) == 1 else None
        found = session.get(Upload, joined) if joined is not None else None
        if found is None or self._order_of(self._told(account, found)[1]) != order:
            raise Conflict("A partial upload was joined into another document before.")
        return _Final(found.id, found.document_id, found.expires_at)

    def _order_of(self, joins: str) -> list[bytes]:
        """Return the ids of the partial uploads that a final one names, each by an address that ends with its token."""
        tokens = [urlsplit(place).path.rpartition("/")[2] for place in joins.partition(";")[2].split()]
        return [read_upload_token(self._master, token).upload for token in tokens]

    # End

    def end(self, account: UnlockedAccount, token: str) -> None:
        """End an upload: what has come of it is destroyed. One that became a document raises ``Conflict``."""
        ticket = self._ticket(account.user_id, token)

        def work(session: Session) -> None:
            row = _of(ticket, session.get(Upload, ticket.upload, with_for_update=True))
            if row.document_id is not None:
                raise Conflict("This upload is a document already. Delete the document instead.")
            # Pieces that are still under way may come until the token has expired; the order outlives them.
            bury(session, {ticket.upload}, row.expires_at)
            session.delete(row)
            self._transactions.record(Event("upload_end", account.user_id, "upload", ticket.upload))

        self._transactions.writing(work, account.user_id)
        with suppress(Exists):
            self._store.put_new(f"{ticket.upload.hex()}/{ENDED}", b"")
        doomed = [info.name for info in self._store.list(f"{ticket.upload.hex()}/")]
        self._store.delete(name for name in doomed if not name.endswith(f"/{ENDED}"))


def _of(ticket: UploadTicket, row: Upload | None) -> Upload:
    """Return the row that a ticket speaks of; ``Gone`` where it is no more, ``NotFound`` for another person's."""
    if row is None:
        raise Gone
    if row.user_id != ticket.user:
        raise NotFound
    return row


def _length_of(row: Upload) -> int | None:
    """Return the length that an upload's row tells; one that is deferred has reserved something else."""
    return None if row.kind == DEFERRED else row.reserved_bytes


def _bounded(read: Read, room: int) -> Read:
    """Give at most ``room`` bytes and one more: what is more is refused, never cut off silently."""
    left = room

    def bounded(size: int) -> Buffer:
        nonlocal left
        piece = read(size)
        left -= len(piece)
        if left < 0:
            raise TooLarge(room)
        return piece

    return bounded


def _until(expires_at: datetime, pieces: Iterator[Buffer]) -> Iterator[Buffer]:
    """Give pieces while the upload lasts: what came later would outlive the order to destroy it."""
    for piece in pieces:
        if expires_at <= clock.now():
            raise Gone
        yield piece


def _place_of(part: Part) -> str:
    """Return a blob's name within its segment."""
    return blob_name(part.segment, part.offset, part.suffix).split("/", 1)[1]


def _given(body: bytearray) -> Read:
    """Give a body that is in memory as ``read(n)``."""
    rest = memoryview(body)

    def read(size: int) -> memoryview:
        nonlocal rest
        piece, rest = rest[:size], rest[size:]
        return piece

    return read
