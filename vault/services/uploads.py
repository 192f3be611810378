"""Uploads: receive a body part by part, seal each part, and commit a document when the whole is durable.

The order is the promise: a sealed upload row, parts durable in the store, one transaction with version, grants and
audit, then the answer. Cut off anywhere before the commit, nothing is shown and the sweep destroys what the upload
row names; cut off after it, the document is there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

import structlog
from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from vault.crypto.grants import Terms
from vault.crypto.manifests import Manifest, Part, Segment, encode_parts, parts_digest, seal_manifest
from vault.crypto.parts import blob_size
from vault.crypto.randomness import new_id, new_secret
from vault.errors import (
    BadInput,
    BrokenOff,
    KeyChanged,
    LoginRequired,
    QuotaExceeded,
    TooLarge,
    VaultError,
)
from vault.models import (
    Document,
    DocumentVersion,
    PartList,
    SharedKeyRegistry,
    Upload,
    User,
)
from vault.services import clock, names, seals
from vault.services.access import (
    OWNER,
    READ,
    Gate,
    Held,
    Need,
    OpenVersion,
    check_own_grant,
    entry_of,
    new_entry,
    put_entry,
)
from vault.services.audit import Event
from vault.services.contacts import Contacts, Person
from vault.services.documents import signed
from vault.services.downloads import Downloads
from vault.services.grants import find_recipients, grant, owner_self, unique, waiting_wrap
from vault.services.pipeline import Pipeline, Read, pieces_of, within
from vault.services.quota import WHOLE, Limits, begin_upload, locked_user, reserve_more
from vault.services.transactions import Transactions
from vault.services.unlocked import UnlockedAccount, hold, is_current
from vault.storage.protocol import BlobStore

log = structlog.get_logger("vault.uploads")

_UPLOAD = select(*seals.columns(Upload)).where(Upload.id == bindparam("upload"))


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


def _stored(drafts: Sequence[Draft]) -> dict[bytes, int]:
    return {
        segment.id: draft.received.stored_bytes for draft in drafts for segment in draft.received.segments
    }


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
        ``BrokenOff``. Raises ``TooLarge`` or ``QuotaExceeded`` as soon as a limit is passed.
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
        at_most: int | None = None,
        beside: Sequence[Draft] = (),
    ) -> Draft:
        """Receive one body and make it durable, as ``receive`` does; it is no document until ``make_documents``.

        Of a body without a length ``at_most`` so much may come. ``beside`` are the drafts that will be documents
        together with this one.
        """
        if length is not None and length > self.largest:
            raise TooLarge(self.largest)
        shown = names.check_name(names.last_part(name)) if name is not None else None
        folders, kind = names.check_path(path), names.media_type(media_type, shown or "")
        upload_id, room = self._transactions.writing(
            lambda session: self._begin(session, account, length, at_most, _stored(beside))
        )
        segment, digest = Segment(upload_id, new_secret(), 0), hashlib.sha256()
        pipeline = Pipeline(
            self._store,
            segment.key,
            upload_id,
            self._part_size,
            digest.update,
            length=length,
            keep_empty=True,
        )
        try:
            more = partial(self._reserve_more, account.user_id, upload_id) if length is None else None
            total = self._store_body(pipeline, read, length, room, more)
        except BaseException:
            self._let_expire({upload_id: pipeline.stored_bytes})
            raise
        received = Received((segment._replace(length=total),), tuple(pipeline.parts), digest.digest())
        return Draft(received, shown, folders, kind)

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
            fresh = [self.prepare(account, draft) for draft in drafts]
            return self._transactions.writing(
                lambda session: self._insert_all(session, account, fresh, recipients), account.user_id
            )
        except BaseException:
            self.give_up(drafts)
            raise

    def give_up(self, drafts: Sequence[Draft]) -> None:
        """Let drafts that will be no documents expire now."""
        self._let_expire(_stored(drafts))

    def _begin(
        self,
        session: Session,
        account: UnlockedAccount,
        length: int | None,
        at_most: int | None,
        beside: Mapping[bytes, int],
    ) -> tuple[bytes, int | None]:
        begun = begin_upload(
            session, account.user_id, WHOLE, length, clock.now().date(), self._limits,
            at_most=at_most, beside=beside,
        )  # fmt: skip
        seals.insert(session, begun.row)
        return begun.row.id, begun.room

    def _reserve_more(self, user_id: bytes, upload_id: bytes, wanted: int) -> int:
        return self._transactions.writing(
            lambda session: reserve_more(session, user_id, upload_id, wanted, self._limits)
        )

    def _let_expire(self, stored: Mapping[bytes, int]) -> None:
        """Let broken-off uploads expire now, for the next sweep to destroy; a failure here only delays that.

        Until then what each has ``stored`` counts, no more and no less.
        """
        if not stored:
            return

        def work(session: Session) -> None:
            for upload_id, count in stored.items():
                row = session.get(Upload, upload_id)
                if row is not None:
                    row.expires_at, row.reserved_bytes = clock.now(), count

        try:
            self._transactions.writing(work)
        except VaultError as error:
            log.warning("upload_left_to_expire", error=type(error).__name__)

    def _store_body(
        self,
        pipeline: Pipeline,
        read: Read,
        length: int | None,
        room: int | None,
        more: Callable[[int], int] | None,
    ) -> int:
        """Feed a body to the pipeline and return its length; what does not fit into ``room`` ends it."""
        total = 0
        with pipeline:
            for piece in within(room, self._limits.quota, pipeline, pieces_of(read), more):
                total += len(piece)
                if total > self.largest:
                    raise TooLarge(self.largest)
                pipeline.feed(piece)
            if length is not None and total != length:
                raise BrokenOff
        return total

    # Commit

    def _commit_version(self, account: UnlockedAccount, draft: Draft, document_id: bytes) -> bytes:
        def work(session: Session) -> bytes:
            self._forget_rows(session, [draft.received])
            return self.replace(session, account, draft, document_id)

        return self._transactions.writing(work, account.user_id, ("document", document_id))

    def _insert_all(
        self,
        session: Session,
        account: UnlockedAccount,
        fresh: Sequence[Fresh],
        recipients: Sequence[bytes],
    ) -> list[bytes]:
        readers = self._people(session, account, recipients)
        self._forget_rows(session, [one.draft.received for one in fresh])
        return [self.insert(session, account, one, readers) for one in fresh]

    def _forget_rows(self, session: Session, received: Sequence[Received]) -> None:
        """Delete the upload rows of what becomes a document now; raises ``BrokenOff`` where one has expired."""
        for content in received:
            for segment in content.segments:
                found = seals.verified_row(session, _UPLOAD, Upload, parameters={"upload": segment.id})
                if found is None:
                    raise BrokenOff("This upload expired before it was complete. Please send it again.")
                seals.remove(session, Upload, seals.believed(found[0]))

    def prepare(self, account: UnlockedAccount, draft: Draft) -> Fresh:
        """Make all that a new document needs of its owner, before a transaction: others wait for who writes."""
        made, dek = clock.now(), new_secret()
        manifest = draft.manifest(account, new_id(), new_id(), 1)
        own = grant(account, owner_self(account), manifest, dek, 0, OWNER, None, since=made, came_at=made)
        entry = new_entry(account, manifest.document, entry_of(manifest, 0))
        rows = self._version(account, manifest, draft.received, dek, epoch=0, made=made)
        return Fresh(draft, manifest, dek, made, account.key_version, (*rows, own, entry))

    def insert(
        self, session: Session, account: UnlockedAccount, fresh: Fresh, readers: Sequence[Person]
    ) -> bytes:
        """Make a document within a transaction; what becomes of its upload rows is the caller's.

        Where the owner's pair has been changed since ``prepare``, it is made again: a retired one signs nothing.
        """
        self.account_for(session, account, fresh.draft.received.stored_bytes, documents=1)
        if fresh.key_version != account.key_version:
            fresh = self.prepare(account, fresh.draft)
        manifest, made = fresh.manifest, fresh.made
        document = Document(
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
        seals.insert(session, document, *fresh.rows)
        self._transactions.record(Event("upload", account.user_id, "document", manifest.document))
        for person in readers:
            seals.insert(
                session, grant(account, person, manifest, fresh.dek, 0, READ, None, since=made, came_at=made)
            )
            self._transactions.record(
                Event("share", account.user_id, "document", manifest.document, subject_id=person.id)
            )
        return manifest.document

    def readers(self, session: Session, account: UnlockedAccount, usernames: Sequence[str]) -> list[Person]:
        """Find those of the people whom an upload named at its start who can still receive at its end."""
        statement = select(User).where(User.username.in_(usernames), User.state == "active")
        found = [user.id for user in session.scalars(statement) if user.id != account.user_id]
        reached = []
        for person in self._contacts.people(session, set(found), hold=True).values() if found else ():
            try:
                self._contacts.meet(session, account, person)
            except KeyChanged:
                continue
            reached.append(person)
        return reached

    def _people(
        self, session: Session, account: UnlockedAccount, recipients: Sequence[bytes]
    ) -> list[Person]:
        found = self._contacts.people(session, set(recipients), hold=True) if recipients else {}
        people = list(found.values())
        for person in people:
            if person.state != "active":
                raise BadInput("recipients", f"{person.username} cannot receive documents at the moment.")
        self._contacts.meet(session, account, *people)
        return people

    def _version(
        self,
        account: UnlockedAccount,
        manifest: Manifest,
        received: Received,
        dek: bytes,
        *,
        epoch: int,
        made: datetime,
    ) -> tuple[DocumentVersion, PartList]:
        """Make the rows of a version, signed, in the order in which they are written."""
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
        return version, PartList(id=manifest.version, parts=encode_parts(received.parts))

    def insert_version(
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
        """Write a version with its part list within a transaction, signed by its owner."""
        seals.insert(session, *self._version(account, manifest, received, dek, epoch=epoch, made=made))

    def account_for(
        self,
        session: Session,
        account: UnlockedAccount,
        stored_bytes: int,
        *,
        documents: int = 0,
        limited: bool = True,
    ) -> None:
        """Add to what the owner stores; raises ``LoginRequired``, or ``QuotaExceeded`` where no more fits."""
        owner = locked_user(session, account.user_id)
        if owner.state != "active" or not is_current(session, account, owner.credential_generation):
            raise LoginRequired
        if owner.key_version != account.key_version:
            self._contacts.take_own_keys(session, account)
        stored = owner.stored_bytes + stored_bytes
        if limited and self._limits.quota and stored > self._limits.quota:
            raise QuotaExceeded(self._limits.quota)
        seals.change(session, User, owner, stored_bytes=stored, documents=owner.documents + documents)

    def replace(self, session: Session, account: UnlockedAccount, draft: Draft, document_id: bytes) -> bytes:
        """Make a draft the newest version within a transaction; all present readers get its key."""
        made, dek = clock.now(), new_secret()
        held = self._gate.find(session, account, document_id, Need.OWN, lock=True)
        opened = self._gate.open(session, account, held)
        document = held.document
        manifest = draft.manifest(account, document_id, new_id(), document.number + 1)
        manifest = manifest._replace(name=draft.name or opened.manifest.name, path=opened.manifest.path)
        self.insert_version(session, account, manifest, draft.received, dek, epoch=document.epoch, made=made)
        self.move_grants(session, account, held, opened, manifest, dek, made)
        document.version_id, document.number, document.revision = manifest.version, manifest.number, 0
        document.changed_at = made
        put_entry(session, account, document_id, entry_of(manifest, document.epoch))
        self.account_for(session, account, draft.received.stored_bytes)
        self._transactions.record(Event("replace", account.user_id, "document", document_id))
        return document_id

    def move_grants(
        self,
        session: Session,
        account: UnlockedAccount,
        held: Held,
        opened: OpenVersion,
        manifest: Manifest,
        dek: bytes,
        made: datetime | None = None,
    ) -> None:
        """Wrap the new version's key for all present readers; one whose fingerprint changed waits for the owner.

        Without ``made`` the content is the old one, and new to nobody. Raises ``Unreadable`` for a grant that the
        owner did not sign: nobody becomes a reader by a row alone.
        """
        document = held.document
        grants = session.scalars(
            select(SharedKeyRegistry).where(SharedKeyRegistry.version_id == opened.version_id)
        ).all()
        readers = {row.reader_id for row in grants} - {account.user_id}
        people = self._contacts.people(session, readers, hold=True)
        hold(session, account)
        for row in grants:
            check_own_grant(account, row, document.epoch)
            if row.reader_id == account.user_id:
                new = grant(
                    account, owner_self(account), manifest, dek, document.epoch, OWNER, None,
                    since=row.since, came_at=made or row.came_at,
                )  # fmt: skip
                session.add(new)
                continue
            person = people[row.reader_id]
            try:
                self._contacts.meet(session, account, person)
            except KeyChanged:
                terms = Terms(row.since, row.expires_at, document.epoch)
                session.add(waiting_wrap(account, document.id, person.id, terms))
                self._transactions.record(
                    Event("share_waits", account.user_id, "document", document.id, subject_id=person.id)
                )
                document.readers -= 1
            else:
                new = grant(
                    account, person, manifest, dek, document.epoch, row.permission, row.expires_at,
                    since=row.since, came_at=made or row.came_at,
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
class Fresh:
    """A new document before its transaction: its rows, besides its own and its readers', signed and in order."""

    draft: Draft
    manifest: Manifest
    dek: bytes = field(repr=False)
    made: datetime
    key_version: int
    rows: tuple[Any, ...]


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
