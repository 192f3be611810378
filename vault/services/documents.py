"""Documents: one document's page, rename, versions, delete."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import product
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from vault.crypto.manifests import IndexEntry, decode_parts, seal_manifest, sign_version
from vault.crypto.passphrase import fingerprint_words
from vault.crypto.randomness import new_id
from vault.errors import BadInput, NotFound, PreconditionFailed
from vault.models import (
    Document,
    DocumentGeneration,
    DocumentIndex,
    DocumentVersion,
    PartList,
    SharedKeyRegistry,
    Tombstone,
    User,
    Work,
)
from vault.services import clock, counting, names, seals
from vault.services.access import Gate, Held, Need, OpenVersion, entry_of, put_entry
from vault.services.audit import Event
from vault.services.contacts import Contacts
from vault.services.grants import WAITING, terms_of
from vault.services.quota import REKEY
from vault.services.transactions import Transactions
from vault.services.unlocked import UnlockedAccount


@dataclass(frozen=True)
class DocumentRow:
    """A line of a list; not ``readable``, and empty, where a seal, a signature or the memory does not fit."""

    id: bytes
    name: str
    path: tuple[str, ...]
    media_type: str
    size: int
    owner: str
    is_owner: bool
    date: datetime
    shared_at: datetime
    expires_at: datetime | None
    readers: int
    is_new: bool
    readable: bool = True


@dataclass(frozen=True)
class ReaderView:
    """Somebody who may read a document; ``fingerprint_words`` is empty where his key is not vouched for.

    Who ``waits`` reads nothing until the owner has confirmed his key.
    """

    username: str
    is_owner: bool
    is_self: bool
    since: datetime
    expires_at: datetime | None
    fingerprint_words: str
    waits: bool = False


@dataclass(frozen=True)
class ReadersPage:
    """Some of those who may read, and the name to go on after where there are more."""

    items: tuple[ReaderView, ...]
    next: str | None


@dataclass(frozen=True)
class DocumentView(DocumentRow):
    version_id: bytes = b""
    number: int = 1
    revision: int = 0
    etag: str = ""
    sha256: str | None = None
    created_at: datetime | None = None
    may_edit: bool = False
    readers_list: tuple[ReaderView, ...] = ()
    next_readers: str | None = None
    owner_fingerprint_words: str = ""
    generation: int = 1
    rekeyed_at: datetime | None = None
    rekey: bytes | None = None
    """The work that makes new keys at the moment; the owner's alone."""


@dataclass(frozen=True)
class VersionView:
    id: bytes
    number: int
    revision: int
    name: str
    size: int
    created_at: datetime
    is_current: bool


class Documents:
    """List, show, rename and delete documents."""

    def __init__(self, transactions: Transactions, gate: Gate, contacts: Contacts) -> None:
        self._transactions = transactions
        self._gate = gate
        self._contacts = contacts

    def view(
        self, account: UnlockedAccount, document_id: bytes, *, after: str = "", limit: int | None = None
    ) -> DocumentView:
        """Show one document to its owner or a reader: what it is, who may read it, and whose key counts.

        ``after`` and ``limit`` choose a page of its readers, by name.
        """
        with (
            counting.opening(),
            self._transactions.reading(account.user_id, ("document", document_id)) as session,
        ):
            held = self._gate.find(session, account, document_id, Need.READ)
            opened = self._gate.open(session, account, held)
            readers = self._readers(session, account, held, opened, after, limit)
            view = self._view(session, account, held, opened, readers)
        self._gate.remember_soon(self._transactions, account, [opened])
        return view

    def _view(
        self,
        session: Session,
        account: UnlockedAccount,
        held: Held,
        opened: OpenVersion,
        readers: ReadersPage,
    ) -> DocumentView:
        usernames = {opened.owner.id: opened.owner.username}
        row = row_of(held.document, held.grant, opened.entry, account, usernames)
        generation = session.get(DocumentGeneration, held.document.id)
        return DocumentView(
            **row.__dict__,
            version_id=opened.version_id,
            number=opened.manifest.number,
            revision=opened.manifest.revision,
            etag=opened.etag,
            sha256=opened.manifest.sha256.hex() if opened.manifest.sha256 else None,
            created_at=held.document.created_at,
            may_edit=held.is_owner,
            readers_list=readers.items,
            next_readers=readers.next,
            owner_fingerprint_words=fingerprint_words(opened.owner.public.fingerprint),
            generation=generation.number if generation else 1,
            rekeyed_at=generation.rekeyed_at if generation else None,
            rekey=_rekey_of(session, held),
        )

    def _readers(
        self,
        session: Session,
        account: UnlockedAccount,
        held: Held,
        opened: OpenVersion,
        after: str = "",
        limit: int | None = None,
    ) -> ReadersPage:
        """List who may read, by name; before them the owner, and who waits for a confirmed key.

        A reader is shown the owner and himself alone.
        """
        if not held.is_owner:
            words = fingerprint_words(opened.owner.public.fingerprint)
            owner = ReaderView(opened.owner.username, True, False, held.document.created_at, None, words)
            return ReadersPage((owner, *self._described(session, account, held, [held.grant])), None)
        statement = (
            select(User.username, *seals.columns(SharedKeyRegistry))
            .join(User, User.id == SharedKeyRegistry.reader_id)
            .where(
                SharedKeyRegistry.version_id == held.document.version_id,
                SharedKeyRegistry.reader_id != account.user_id,
                User.username > after,
            )
            .order_by(User.username)
        )
        limited = statement.limit(limit + 1) if limit else statement
        found = [
            (name, seals.believed(row))
            for name, row in seals.verified_rows(session, limited, SharedKeyRegistry, beside=1)
        ]
        shown = found[:limit]
        first = [] if after else [held.grant, *_waiting(session, account, held)]
        grants = [*first, *[row for _, row in shown]]
        more = shown[-1][0] if len(found) > len(shown) else None
        return ReadersPage(tuple(self._described(session, account, held, grants)), more)

    def _described(
        self, session: Session, account: UnlockedAccount, held: Held, grants: Sequence[Any]
    ) -> list[ReaderView]:
        people = self._contacts.described(session, {grant.reader_id for grant in grants})
        return [
            ReaderView(
                people[grant.reader_id].username,
                grant.reader_id == held.document.owner_id,
                grant.reader_id == account.user_id,
                grant.since,
                grant.expires_at,
                people[grant.reader_id].fingerprint_words,
                isinstance(grant, _Waiting),
            )
            for grant in grants
        ]

    def readers(
        self, account: UnlockedAccount, document_id: bytes, *, after: str = "", limit: int | None = None
    ) -> ReadersPage:
        """List everybody who may read, or a page of them; the owner only."""
        with self._transactions.reading(account.user_id, ("document", document_id)) as session:
            held = self._gate.find(session, account, document_id, Need.OWN)
            opened = self._gate.open(session, account, held)
            return self._readers(session, account, held, opened, after, limit)

    def versions(self, account: UnlockedAccount, document_id: bytes) -> list[VersionView]:
        """List all versions, newest first; the owner only."""
        with self._transactions.reading(account.user_id, ("document", document_id)) as session:
            held = self._gate.find(session, account, document_id, Need.OWN)
            rows = session.scalars(
                select(DocumentVersion)
                .where(DocumentVersion.document_id == document_id)
                .order_by(DocumentVersion.number.desc())
            ).all()
            views = []
            for row in rows:
                opened = self._gate.open_older(session, account, held, row.id)
                views.append(
                    VersionView(
                        row.id,
                        row.number,
                        row.revision,
                        opened.manifest.name,
                        opened.manifest.size,
                        row.created_at,
                        row.id == held.document.version_id,
                    )
                )
            return views

    def document_of(self, account: UnlockedAccount, version_id: bytes) -> bytes:
        """Return the document that a version belongs to; the right to it is checked when it is opened."""
        with self._transactions.reading(account.user_id) as session:
            version = session.get(DocumentVersion, version_id)
            if version is None:
                raise NotFound
            return version.document_id

    def rename(
        self,
        account: UnlockedAccount,
        document_id: bytes,
        name: str | None = None,
        *,
        path: tuple[str, ...] | None = None,
        etag: str | None = None,
    ) -> None:
        """Give the current version another name or folder: a new manifest, revision + 1, sealed and signed.

        ``etag`` is what the caller last saw; raises ``PreconditionFailed`` when it is not the current one.
        """
        new_name = names.check_name(name) if name is not None else None
        new_path = names.check_path(path) if path is not None else None

        def work(session: Session) -> None:
            held = self._gate.find(session, account, document_id, Need.OWN, lock=True)
            opened = self._gate.open(session, account, held)
            if etag is not None and etag != opened.etag:
                raise PreconditionFailed
            manifest = opened.manifest._replace(
                revision=opened.manifest.revision + 1,
                name=new_name if new_name is not None else opened.manifest.name,
                path=new_path if new_path is not None else opened.manifest.path,
            )
            version = session.get_one(DocumentVersion, opened.version_id)
            version.revision = held.document.revision = manifest.revision
            version.sealed_manifest = seal_manifest(opened.dek, manifest)
            version.signature = signed(account, version)
            put_entry(session, account, document_id, entry_of(manifest, opened.epoch))
            self._transactions.record(Event("rename", account.user_id, "document", document_id))

        self._transactions.writing(work, account.user_id, ("document", document_id))

    def delete(self, account: UnlockedAccount, document_ids: Sequence[bytes]) -> None:
        """Delete documents with all their versions: all of them or, when one may not be deleted, none.

        Rows go and tombstones come in one transaction; the blobs follow when the tombstones are executed.
        """

        def work(session: Session) -> None:
            for document_id in document_ids:
                self._delete_one(session, account, document_id)

        self._transactions.writing(work, account.user_id, _about(document_ids))

    def _delete_one(self, session: Session, account: UnlockedAccount, document_id: bytes) -> None:
        self._gate.find(session, account, document_id, Need.OWN, lock=True)
        owner = session.scalars(
            select(User).where(User.id == account.user_id).with_for_update(key_share=True)
        ).one()
        destroy(session, owner, session.get_one(Document, document_id))
        self._transactions.record(Event("delete", account.user_id, "document", document_id))


def destroy(session: Session, owner: User, document: Document) -> None:
    """Delete a document with its versions, grants and what readers remember, and order its blobs to be destroyed."""
    versions = session.scalars(
        select(DocumentVersion).where(DocumentVersion.document_id == document.id)
    ).all()
    for version in versions:
        parts = session.get(PartList, version.id)
        if (
            parts is not None
        ):  # else nobody knows its blobs any more: `check` shows them, and the document can go
            bury(session, {part.segment for part in decode_parts(parts.parts)})
            session.delete(parts)
        owner.stored_bytes -= version.stored_bytes
    for model in (SharedKeyRegistry, DocumentIndex, Work):
        for row in session.scalars(select(model).where(model.document_id == document.id)):
            session.delete(row)
    generation = session.get(DocumentGeneration, document.id)
    if generation is not None:
        session.delete(generation)
    session.flush()
    for version in versions:
        session.delete(version)
    session.flush()
    session.delete(document)
    owner.documents -= 1


class _Waiting(NamedTuple):
    """Somebody whose grant waits, with the terms that it will have."""

    reader_id: bytes
    since: datetime
    expires_at: datetime | None


def _waiting(session: Session, account: UnlockedAccount, held: Held) -> list[_Waiting]:
    """List whose grants wait, by name; what the owner did not let wait, or is over, is left out."""
    statement = (
        select(*seals.columns(Work))
        .join(User, User.id == Work.other_id)
        .where(Work.document_id == held.document.id, Work.kind == WAITING)
        .order_by(User.username)
    )
    found = []
    for (row,) in seals.verified_rows(session, statement, Work):
        try:
            terms = terms_of(account, seals.believed(row))
        except seals.Refusal:
            continue
        is_over = terms.expires_at is not None and terms.expires_at <= clock.now()
        if terms.epoch == held.document.epoch and not is_over:
            found.append(_Waiting(row.other_id, terms.since, terms.expires_at))
    return found


def _rekey_of(session: Session, held: Held) -> bytes | None:
    row = session.scalar(select(Work).where(Work.document_id == held.document.id, Work.kind == REKEY))
    return row.id if row is not None and held.is_owner else None


def bury(
    session: Session,
    segments: set[bytes],
    destroy_after: datetime | None = None,
    *,
    blobs: Sequence[str] = ("",),
) -> None:
    """Order the destruction of these segments, or of the named blobs in each; they go only after the commit.

    What was ordered before stays ordered as it was.
    """
    made = clock.now()
    there = session.scalars(select(Tombstone).where(Tombstone.segment_id.in_(segments))).all()
    ordered = {(row.segment_id, row.blob) for row in there}
    for segment, blob in product(sorted(segments), blobs):
        if (segment, blob) in ordered:
            continue
        session.add(
            Tombstone(
                id=new_id(),
                segment_id=segment,
                blob=blob,
                created_at=made,
                destroy_after=destroy_after or made,
            )
        )


def signed(account: UnlockedAccount, version: DocumentVersion) -> bytes:
    """Sign a version's row as it stands, as its owner, with the pair that the row names."""
    return sign_version(
        account.private_at(version.owner_key_version),
        document=version.document_id,
        version=version.id,
        number=version.number,
        revision=version.revision,
        epoch=version.epoch,
        owner=version.owner_id,
        owner_key_version=version.owner_key_version,
        origin=version.origin,
        sealed_manifest=version.sealed_manifest,
        parts_digest=version.parts_digest,
    )


def _about(document_ids: Sequence[bytes]) -> tuple[str, bytes] | None:
    return ("document", document_ids[0]) if len(document_ids) == 1 else None


def row_of(
    document: Any, grant: Any, entry: IndexEntry, account: UnlockedAccount, usernames: dict[bytes, str]
) -> DocumentRow:
    seen = account.previous_visit_at
    is_owner = document.owner_id == account.user_id
    return DocumentRow(
        document.id,
        entry.name,
        entry.path,
        entry.media_type,
        entry.size,
        usernames.get(document.owner_id, "?"),
        is_owner,
        grant.came_at,
        grant.since,
        grant.expires_at,
        document.readers,
        not is_owner and (seen is None or grant.came_at > seen),
    )


def read_id(field: str, text: str) -> bytes:
    """Read an id that somebody sent; raises ``BadInput`` for ``field`` where it is none."""
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if len(found) != 16:
        raise BadInput(field, "An id has 32 hexadecimal digits.")
    return found
