"""Uploads: receive a body part by part, seal each part, and commit a document when the whole is durable.

The order is the promise: a sealed upload row, parts durable in the store, one transaction with version, grants and
audit, then the answer. Cut off anywhere before the commit, nothing is shown and the sweep destroys what the upload
row names; cut off after it, the document is there.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from vault.crypto.grants import sign_grant, wrap_dek
from vault.crypto.manifests import Manifest, Part, Segment, encode_parts, parts_digest, seal_manifest
from vault.crypto.parts import TRAILER, PartSealer, blob_name, blob_size, open_part, seal_part
from vault.crypto.randomness import new_id, new_secret, new_suffix
from vault.errors import (
    BadInput,
    BrokenOff,
    Exists,
    KeyChanged,
    LoginRequired,
    QuotaExceeded,
    TooLarge,
    TooManyUploads,
    VaultError,
)
from vault.failpoints import reach
from vault.models import (
    Document,
    DocumentVersion,
    LoginSession,
    PartList,
    SharedKeyRegistry,
    Upload,
    User,
    Work,
)
from vault.services import clock, names, seals
from vault.services.access import OWNER, READ, Gate, Held, Need, OpenVersion, entry_of, new_entry, put_entry
from vault.services.audit import Event
from vault.services.contacts import Contacts, Person
from vault.services.documents import signed
from vault.services.downloads import Downloads
from vault.services.transactions import Transactions
from vault.services.unlocked import UnlockedAccount
from vault.services.usernames import fold_username
from vault.storage.protocol import BlobStore

WHOLE = "whole"
"""The kind of an upload that comes in one request, a form's file or a raw body; it is not counted as open."""

Buffer = bytes | bytearray | memoryview
Read = Callable[[int], Buffer]

PUTS_UNDER_WAY = 2
"""A disk, or a store across a network, is busy with one part while the next is written out."""

FIRST_BYTES = 2**20
"""The memory of a first part whose length nobody announced; it grows when more comes."""

READ_BYTES = 2**20
"""Smaller reads make gunicorn copy what it has read ahead again and again."""


@dataclass(frozen=True)
class Received:
    """Content that is durable in the store, not yet a document; its hash is known where it came in one piece."""

    segments: tuple[Segment, ...] = field(repr=False)
    parts: tuple[Part, ...]
    sha256: bytes | None

    @property
    def stored_bytes(self) -> int:
        return sum(blob_size(part.length) for part in self.parts)

    @property
    def length(self) -> int:
        return sum(segment.length for segment in self.segments)


class Uploads:
    """Make documents and versions of what is sent."""

    def __init__(
        self,
        transactions: Transactions,
        gate: Gate,
        contacts: Contacts,
        downloads: Downloads,
        store: BlobStore,
        *,
        part_size: int,
        limits: Limits,
    ) -> None:
        self._transactions = transactions
        self._gate = gate
        self._contacts = contacts
        self._downloads = downloads
        self._store = store
        self._part_size = part_size
        self._limits = limits
        self.largest = limits.largest

    def resolve(self, account: UnlockedAccount, usernames: Sequence[str]) -> tuple[bytes, ...]:
        """Find the people to share with, before a byte is received; raises ``BadInput`` naming who is refused."""
        with self._transactions.reading(account.user_id) as session:
            people = find_recipients(session, account, unique(usernames))
            self._contacts.compare(session, account, *self._contacts.people(session, set(people)).values())
            return tuple(people)

    def may_replace(self, account: UnlockedAccount, document_id: bytes) -> None:
        """Check the right to upload a new version, before a byte is received."""
        with self._transactions.reading(account.user_id, ("document", document_id)) as session:
            self._gate.find(session, account, document_id, Need.OWN)

    def receive(
        self,
        account: UnlockedAccount,
        read: Read,
        *,
        name: str | None = None,
        media_type: str | None = None,
        path: tuple[str, ...] = (),
        length: int | None = None,
        recipients: Sequence[bytes] = (),
        document_id: bytes | None = None,
    ) -> bytes:
        """Receive one body and commit it as a document, or as a new version of ``document_id``; return its id.

        ``read(n)`` gives at most n bytes, and nothing at the end. ``length``, where announced, must come true, else
        ``BrokenOff``. Raises ``TooLarge`` as soon as the limit is passed.
        """
        draft = self.store(account, read, name=name, media_type=media_type, path=path, length=length)
        return self.make_documents(account, [draft], recipients, document_id)[0]

    def store(
        self,
        account: UnlockedAccount,
        read: Read,
        *,
        name: str | None = None,
        media_type: str | None = None,
        path: tuple[str, ...] = (),
        length: int | None = None,
    ) -> Draft:
        """Receive one body and make it durable, as ``receive`` does; it is no document until ``commit``."""
        if length is not None and length > self.largest:
            raise TooLarge(self.largest)
        shown = names.check_name(names.last_part(name)) if name is not None else None
        folders, kind = names.check_path(path), names.media_type(media_type, shown or "")
        upload_id = self._transactions.writing(lambda session: self._begin(session, account, length))
        try:
            return Draft(self._store_body(upload_id, read, length), shown, folders, kind)
        except BaseException:
            self._let_expire([upload_id])
            raise

    def make_documents(
        self,
        account: UnlockedAccount,
        drafts: Sequence[Draft],
        recipients: Sequence[bytes] = (),
        document_id: bytes | None = None,
    ) -> list[bytes]:
        """Make documents of drafts, all in one transaction or none; return their ids.

        With ``document_id`` the one draft becomes a new version, which keeps its readers.
        """
        try:
            if document_id is not None:
                return [self._commit_version(account, drafts[0], document_id)]
            return self._transactions.writing(
                lambda session: self._insert_all(session, account, drafts, recipients), account.user_id
            )
        except BaseException:
            self.give_up(drafts)
            raise

    def give_up(self, drafts: Sequence[Draft]) -> None:
        """Let drafts that will be no documents expire now."""
        self._let_expire([segment.id for draft in drafts for segment in draft.received.segments])

    def _begin(self, session: Session, account: UnlockedAccount, length: int | None) -> bytes:
        row = begin_upload(session, account.user_id, WHOLE, length, clock.now().date(), self._limits)
        return row.id

    def _let_expire(self, upload_ids: Sequence[bytes]) -> None:
        """Let broken-off uploads expire now, for the next sweep to destroy; a failure here only delays that."""
        if not upload_ids:
            return

        def work(session: Session) -> None:
            for upload_id in upload_ids:
                row = session.get(Upload, upload_id)
                if row is not None:
                    row.expires_at = clock.now()

        try:
            self._transactions.writing(work)
        except VaultError:
            return

    def _store_body(self, upload_id: bytes, read: Read, length: int | None) -> Received:
        segment_key, digest = new_secret(), hashlib.sha256()
        with Pipeline(
            self._store,
            segment_key,
            upload_id,
            self._part_size,
            digest.update,
            length=length,
            keep_empty=True,
        ) as pipeline:
            total = 0
            for piece in pieces_of(read):
                total += len(piece)
                if total > self.largest:
                    raise TooLarge(self.largest)
                pipeline.feed(piece)
            if length is not None and total != length:
                raise BrokenOff
        return Received((Segment(upload_id, segment_key, total),), tuple(pipeline.parts), digest.digest())

    # Commit

    def _commit_version(self, account: UnlockedAccount, draft: Draft, document_id: bytes) -> bytes:
        def work(session: Session) -> bytes:
            self._forget_rows(session, [draft])
            return self.replace(session, account, draft, document_id)

        return self._transactions.writing(work, account.user_id, ("document", document_id))

    def _insert_all(
        self,
        session: Session,
        account: UnlockedAccount,
        drafts: Sequence[Draft],
        recipients: Sequence[bytes],
    ) -> list[bytes]:
        readers = self._people(session, account, recipients)
        self._forget_rows(session, drafts)
        return [self.insert(session, account, draft, readers) for draft in drafts]

    def _forget_rows(self, session: Session, drafts: Sequence[Draft]) -> None:
        """Delete the upload rows of what becomes a document now; raises ``BrokenOff`` where one has expired."""
        for draft in drafts:
            for segment in draft.received.segments:
                row = session.get(Upload, segment.id)
                if row is None:
                    raise BrokenOff("This upload expired before it was complete. Please send it again.")
                session.delete(row)

    def insert(
        self, session: Session, account: UnlockedAccount, draft: Draft, readers: Sequence[Person]
    ) -> bytes:
        """Make a document of a draft within a transaction; what becomes of its upload rows is the caller's."""
        made, dek = clock.now(), new_secret()
        # What is asked comes before what is added: each question would flush the additions that wait.
        self._account_for(session, account, draft.received, documents=1)
        manifest = draft.manifest(account, new_id(), new_id(), 1)
        session.add(
            Document(
                id=manifest.document,
                owner_id=account.user_id,
                version_id=manifest.version,
                number=1,
                revision=0,
                epoch=0,
                readers=len(readers),
                created_at=made,
                changed_at=made,
            )
        )
        session.flush()
        self._insert_version(session, account, manifest, draft.received, dek, epoch=0, made=made)
        session.add(
            grant(account, owner_self(account), manifest, dek, 0, OWNER, None, since=made, came_at=made)
        )
        for person in readers:
            session.add(grant(account, person, manifest, dek, 0, READ, None, since=made, came_at=made))
        session.add(new_entry(account, manifest.document, entry_of(manifest, 0)))
        self._transactions.record(Event("upload", account.user_id, "document", manifest.document))
        for person in readers:
            self._transactions.record(
                Event("share", account.user_id, "document", manifest.document, subject_id=person.id)
            )
        return manifest.document

    def readers(self, session: Session, account: UnlockedAccount, usernames: Sequence[str]) -> list[Person]:
        """Find those of the people whom an upload named at its start who can still receive at its end."""
        statement = select(User).where(User.username.in_(usernames), User.state == "active")
        found = [user.id for user in session.scalars(statement) if user.id != account.user_id]
        reached = []
        for person in self._contacts.people(session, set(found)).values() if found else ():
            try:
                self._contacts.meet(session, account, person)
            except KeyChanged:
                continue
            reached.append(person)
        return reached

    def _people(
        self, session: Session, account: UnlockedAccount, recipients: Sequence[bytes]
    ) -> list[Person]:
        people = list(self._contacts.people(session, set(recipients)).values()) if recipients else []
        for person in people:
            if person.state != "active":
                raise BadInput("recipients", f"{person.username} cannot receive documents at the moment.")
        self._contacts.meet(session, account, *people)
        return people

    def _insert_version(
        self,
        session: Session,
        account: UnlockedAccount,
        manifest: Manifest,
        received: Received,
        dek: bytes,
        *,
        epoch: int,
        made: datetime,
    ) -> None:
        version = DocumentVersion(
            id=manifest.version,
            document_id=manifest.document,
            number=manifest.number,
            revision=0,
            epoch=epoch,
            owner_id=account.user_id,
            owner_key_version=account.key_version,
            origin=None,
            sealed_manifest=seal_manifest(dek, manifest),
            parts_digest=manifest.parts_digest,
            stored_bytes=received.stored_bytes,
            created_at=made,
        )
        version.signature = signed(account, version)
        session.add(version)
        session.flush()
        session.add(PartList(id=manifest.version, parts=encode_parts(received.parts)))

    def _account_for(
        self, session: Session, account: UnlockedAccount, received: Received, documents: int
    ) -> None:
        owner = session.scalars(select(User).where(User.id == account.user_id).with_for_update()).one()
        if owner.state != "active" or not _is_current(session, account, owner.credential_generation):
            raise LoginRequired
        owner.stored_bytes += received.stored_bytes
        owner.documents += documents
        if self._limits.quota and owner.stored_bytes > self._limits.quota:
            raise QuotaExceeded(self._limits.quota)

    def replace(self, session: Session, account: UnlockedAccount, draft: Draft, document_id: bytes) -> bytes:
        """Make a draft the newest version within a transaction; all present readers get its key."""
        made, dek = clock.now(), new_secret()
        held = self._gate.find(session, account, document_id, Need.OWN, lock=True)
        opened = self._gate.open(session, account, held)
        document = held.document
        manifest = draft.manifest(account, document_id, new_id(), document.number + 1)
        manifest = manifest._replace(name=draft.name or opened.manifest.name, path=opened.manifest.path)
        self._insert_version(session, account, manifest, draft.received, dek, epoch=document.epoch, made=made)
        self._move_grants(session, account, held, opened, manifest, dek, made)
        document.version_id, document.number, document.revision = manifest.version, manifest.number, 0
        document.changed_at = made
        put_entry(session, account, document_id, entry_of(manifest, document.epoch))
        self._account_for(session, account, draft.received, documents=0)
        self._transactions.record(Event("replace", account.user_id, "document", document_id))
        return document_id

    def _move_grants(
        self,
        session: Session,
        account: UnlockedAccount,
        held: Held,
        opened: OpenVersion,
        manifest: Manifest,
        dek: bytes,
        made: datetime,
    ) -> None:
        """Wrap the new version's key for all present readers; one whose fingerprint changed waits for the owner."""
        document = held.document
        grants = session.scalars(
            select(SharedKeyRegistry).where(SharedKeyRegistry.version_id == opened.version_id)
        ).all()
        people = self._contacts.people(session, {row.reader_id for row in grants} - {account.user_id})
        for row in grants:
            if row.reader_id == account.user_id:
                new = grant(
                    account, owner_self(account), manifest, dek, document.epoch, OWNER, None,
                    since=row.since, came_at=made,
                )  # fmt: skip
                session.add(new)
                continue
            person = people[row.reader_id]
            try:
                self._contacts.meet(session, account, person)
            except KeyChanged:
                session.add(waiting_wrap(account, document.id, person.id))
                document.readers -= 1
            else:
                new = grant(
                    account, person, manifest, dek, document.epoch, row.permission, row.expires_at,
                    since=row.since, came_at=made,
                )  # fmt: skip
                session.add(new)
            session.delete(row)

    def restore(self, account: UnlockedAccount, document_id: bytes, version_id: bytes) -> bytes:
        """Make an older version the newest again: read, sealed anew under new keys, as a new version."""
        old = self._downloads.open(account, document_id, version_id)
        pieces = old.stream(0, old.size)
        return self.receive(
            account, _reader(pieces), name=old.name, media_type=old.media_type,
            length=old.size, document_id=document_id,
        )  # fmt: skip


@dataclass(frozen=True)
class Draft:
    """A received body with the words that its manifest will hold."""

    received: Received
    name: str | None
    path: tuple[str, ...]
    media_type: str

    def manifest(self, account: UnlockedAccount, document: bytes, version: bytes, number: int) -> Manifest:
        return Manifest(
            document=document,
            version=version,
            number=number,
            revision=0,
            owner=account.user_id,
            owner_fingerprint=account.private.public.fingerprint,
            path=self.path,
            name=self.name or names.UNTITLED,
            media_type=self.media_type,
            size=self.received.length,
            segments=self.received.segments,
            parts_digest=parts_digest(encode_parts(self.received.parts)),
            sha256=self.received.sha256,
        )


@dataclass(frozen=True)
class Limits:
    """What one person may send and keep: bytes of a document, bytes in all (0: no limit), uploads at a time."""

    largest: int
    quota: int
    open_uploads: int

    @property
    def most(self) -> int:
        """The bytes of a document beyond which it is refused whatever else is stored."""
        return min(self.largest, self.quota or self.largest)


def begin_upload(
    session: Session, user_id: bytes, kind: str, length: int | None, day: date, limits: Limits
) -> Upload:
    """Write the row of an upload that begins, with its length reserved; it expires with the day after ``day``.

    Raises ``TooLarge``, ``QuotaExceeded``, ``TooManyUploads``.
    """
    if length is not None and length > limits.largest:
        raise TooLarge(limits.largest)
    owner = session.scalars(select(User).where(User.id == user_id).with_for_update()).one()
    started = clock.now()
    statement = select(*seals.columns(Upload)).where(
        Upload.user_id == user_id, Upload.document_id.is_(None), Upload.expires_at > started
    )
    others = [seals.believed(row) for (row,) in seals.verified_rows(session, statement, Upload)]
    if kind != WHOLE and sum(row.kind != WHOLE for row in others) >= limits.open_uploads:
        raise TooManyUploads(limits.open_uploads)
    reserved = sum(row.reserved_bytes or 0 for row in others)
    if limits.quota and owner.stored_bytes + reserved + (length or 0) > limits.quota:
        raise QuotaExceeded(limits.quota)
    row = Upload(
        id=new_id(),
        user_id=user_id,
        kind=kind,
        reserved_bytes=length,
        sealed_metadata=None,
        document_id=None,
        joined_id=None,
        created_at=started,
        expires_at=datetime.combine(day + timedelta(days=2), time(), started.tzinfo),
    )
    session.add(row)
    return row


class Pipeline:
    """Seal what is received into parts as it comes, and put each that is full while the next is filled.

    Plaintext is held for no longer than a piece of it is sealed and hashed; the hash of the whole, where one is made,
    runs in a thread of its own: it costs more than all the rest. A failed put surfaces at a later piece, or at the
    end. A part that ends at ``end`` gets a suffix to its name: two writers may race for the last part of an upload,
    and its document says which of them it is. ``length`` is how much is announced, so that a short body takes little
    memory. At the end of the ``with`` all is durable; a body that was empty becomes an empty part on request only.

    With ``in_order`` no part is there before all parts before it are: who meets another writer stops at once, and
    nothing of the two is mixed.
    """

    def __init__(
        self,
        store: BlobStore,
        segment_key: bytes,
        segment: bytes,
        part_size: int,
        hash_update: Callable[[Buffer], None] | None = None,
        *,
        offset: int = 0,
        end: int | None = None,
        length: int | None = None,
        keep_empty: bool = False,
        in_order: bool = False,
    ) -> None:
        self._store = store
        self._key = segment_key
        self._segment = segment
        self._part_size = part_size
        self._hash_update = hash_update
        self._end = end
        self._announced = length
        self._keep_empty = keep_empty
        self._start = self._offset = offset
        self._open: tuple[PartSealer, bytes | None] | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._hashing: Future[None] | None = None
        self._puts: deque[Future[None]] = deque()
        self._fed = False
        self._in_order = in_order
        self._before: Future[None] | None = None
        self.parts: list[Part] = []

    def __enter__(self) -> Pipeline:
        return self

    def feed(self, piece: Buffer) -> None:
        """Take the next piece of plaintext; it must not change until the piece after it is given."""
        self._hash(piece)
        rest = memoryview(piece)
        while rest:
            sealer, _ = self._open = self._open or self._begin()
            room = self._part_size - sealer.length
            sealer.add(rest[:room])
            rest = rest[room:]
            if sealer.length == self._part_size:
                self._close()

    def _hash(self, piece: Buffer) -> None:
        if self._hash_update is None:
            return
        if self._hashing is not None:
            self._hashing.result()
        if self._fed:
            self._hashing = self._pool().submit(self._hash_update, piece)
        else:
            self._hash_update(piece)
        self._fed = True

    def _pool(self) -> ThreadPoolExecutor:
        """Threads are made for a second piece only: small bodies have one."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(max_workers=1 + PUTS_UNDER_WAY, thread_name_prefix="upload")
        return self._threads

    def _begin(self) -> tuple[PartSealer, bytes | None]:
        is_last = self._end is not None and self._end - self._offset <= self._part_size
        suffix = new_suffix() if is_last else None
        left = FIRST_BYTES if self._announced is None and not self.parts else self._part_size
        if self._announced is not None:
            left = max(0, min(self._part_size, self._announced - (self._offset - self._start)))
        return self._sealer(left, suffix), suffix

    def _sealer(self, expected: int, suffix: bytes | None) -> PartSealer:
        return PartSealer(self._key, expected, segment=self._segment, offset=self._offset, suffix=suffix)

    def _close(self) -> None:
        """Finish the open part and send it on its way."""
        if self._open is None:
            return
        (sealer, suffix), self._open = self._open, None
        blob = sealer.finish()
        if suffix is not None and self._offset + sealer.length != self._end:
            blob, suffix = self._without_suffix(blob, suffix), None
        part = Part(self._segment, self._offset, sealer.length, suffix)
        self.parts.append(part)
        self._offset += part.length
        name = blob_name(part.segment, part.offset, part.suffix)
        if self._threads is None and len(self.parts) == 1 and self._is_over(part):
            self._put(name, blob)
            return
        while len(self._puts) >= PUTS_UNDER_WAY:
            self._puts.popleft().result()
        put = self._pool().submit(self._put, name, blob, self._before)
        self._before = put if self._in_order else None
        self._puts.append(put)

    def _put(self, name: str, blob: memoryview, before: Future[None] | None = None) -> None:
        reach("upload.before_put")
        put_once(self._store, name, blob, before.result if before is not None else None)
        reach("upload.after_put")

    def _is_over(self, part: Part) -> bool:
        """Tell whether nothing can come after a part: it is short, or all that was announced."""
        return part.length < self._part_size or part.length == self._announced

    def _without_suffix(self, blob: memoryview, suffix: bytes) -> memoryview:
        """Seal anew what was to be the last part and broke off: it is an ordinary one."""
        plain = open_part(self._key, blob, segment=self._segment, offset=self._offset, suffix=suffix)
        return seal_part(self._key, plain, segment=self._segment, offset=self._offset)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if kind is None:
                if self._keep_empty and not self.parts and self._open is None:
                    self._open = self._begin()
                self._close()
                if self._hashing is not None:
                    self._hashing.result()
                while self._puts:
                    self._puts.popleft().result()
        finally:
            if self._threads is not None:
                self._threads.shutdown(wait=True)


def pieces_of(read: Read) -> Iterator[Buffer]:
    """Give what ``read`` gives until nothing comes."""
    while piece := read(READ_BYTES):
        yield piece


def put_once(
    store: BlobStore, name: str, blob: bytes | memoryview, ready: Callable[[], object] | None = None
) -> None:
    """Put a blob; that it exists with the same size and digest is our own earlier success, its answer lost."""
    try:
        store.put_new(name, blob, ready)
    except Exists:
        with store.get(name, len(blob) - TRAILER) as present:
            if present.size != len(blob) or present.read() != bytes(blob[-TRAILER:]):
                raise


def _reader(pieces: Iterator[bytes]) -> Read:
    kept = bytearray()

    def read(size: int) -> bytes:
        while len(kept) < size:
            piece = next(pieces, None)
            if piece is None:
                break
            kept.extend(piece)
        taken = bytes(kept[:size])
        del kept[:size]
        return taken

    return read


def _is_current(session: Session, account: UnlockedAccount, generation: int) -> bool:
    """Tell whether a session still counts: of this generation, or carried over by the passphrase change."""
    if account.generation == generation:
        return True
    row = session.get(LoginSession, account.session_id)
    return row is not None and row.credential_generation == generation


def unique(usernames: Sequence[str]) -> list[str]:
    """Fold names; raises ``BadInput`` for one that nobody can have and for one that stands twice."""
    folded = []
    for name in usernames:
        user = fold_username(name)
        if user is None and name.strip():
            shown = name.strip()[:64].encode(errors="replace").decode()
            raise BadInput("recipients", f"There is no user named {shown}.")
        folded += [user] if user else []
    for name, count in Counter(folded).items():
        if count > 1:
            raise BadInput("recipients", f"{name} stands twice.")
    return folded


def find_recipients(session: Session, account: UnlockedAccount, usernames: Sequence[str]) -> list[bytes]:
    """Find people to share with; raises ``BadInput`` for oneself, an unknown and a disabled user."""
    users: dict[str, Any] = {}
    for start in range(0, len(usernames), 500):
        statement = select(*seals.columns(User)).where(User.username.in_(usernames[start : start + 500]))
        for (user,) in seals.verified_rows(session, statement, User):
            users[seals.believed(user).username] = user
    for username in usernames:
        if username == account.username:
            raise BadInput("recipients", "You own this document already; name somebody else.")
        if username not in users:
            raise BadInput("recipients", f"There is no user named {username}.")
        if users[username].state != "active":
            raise BadInput("recipients", f"{username} cannot receive documents at the moment.")
    return [users[username].id for username in usernames]


def owner_self(account: UnlockedAccount) -> Person:
    """Oneself as a reader; the public keys are derived from the unlocked private ones, never read from a table."""
    return Person(account.user_id, account.username, "active", account.key_version, account.private.public)


def grant(
    account: UnlockedAccount,
    reader: Person,
    manifest: Manifest,
    dek: bytes,
    epoch: int,
    permission: str,
    expires_at: datetime | None,
    *,
    since: datetime,
    came_at: datetime,
) -> SharedKeyRegistry:
    """Wrap a version's key for one reader, and sign that the owner did so."""
    return SharedKeyRegistry(
        id=new_id(),
        document_id=manifest.document,
        version_id=manifest.version,
        epoch=epoch,
        granter_id=account.user_id,
        granter_key_version=account.key_version,
        reader_id=reader.id,
        reader_key_version=reader.key_version,
        permission=permission,
        expires_at=expires_at,
        wrapped_dek=wrap_dek(
            reader.public, dek,
            document=manifest.document, version=manifest.version, reader=reader.id, key_version=reader.key_version,
        ),
        signature=sign_grant(
            account.private,
            document=manifest.document, version=manifest.version, epoch=epoch,
            granter=account.user_id, granter_key_version=account.key_version,
            reader=reader.id, permission=permission, expires_at=expires_at,
        ),
        since=since,
        came_at=came_at,
    )  # fmt: skip


def waiting_wrap(account: UnlockedAccount, document_id: bytes, reader_id: bytes) -> Work:
    """Note that a reader's wrap waits until the owner has confirmed his new fingerprint."""
    return Work(
        id=new_id(),
        kind="wrap",
        user_id=account.user_id,
        document_id=document_id,
        other_id=reader_id,
        cursor=None,
        total=1,
        created_at=clock.now(),
    )
