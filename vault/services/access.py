"""The one gate: every document is loaded, and every version opened, here.

``find`` decides who may do what from verified rows; a stranger learns nothing (404), a reader who wants more than
reading is told so (403). ``open`` then proves by cryptography that the version is the one that its owner signed, that
this reader was granted it, and that it is not older than what the reader remembers. Whoever passes ``find`` by an
error in code still holds no key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import structlog
from sqlalchemy import and_, bindparam, select
from sqlalchemy.orm import Session

from vault.crypto.grants import unwrap_dek, verify_grant
from vault.crypto.keypairs import PrivateKeys, PublicKeys
from vault.crypto.manifests import IndexEntry, Manifest, etag, open_manifest, verify_version
from vault.crypto.masterkey import MasterKeys
from vault.crypto.randomness import new_id
from vault.errors import Busy, Conflict, Forbidden, KeyChanged, LoginRequired, NotFound, Unreadable
from vault.models import Document, DocumentIndex, DocumentVersion, SharedKeyRegistry
from vault.services import clock, seals
from vault.services.audit import Event
from vault.services.contacts import Contacts, Person
from vault.services.transactions import Transactions
from vault.services.unlocked import UnlockedAccount, hold

log = structlog.get_logger("vault.access")

OWNER = "owner"
READ = "read"


_SHOWN = (
    select(*seals.columns(Document, SharedKeyRegistry, DocumentVersion, DocumentIndex))
    .select_from(Document)
    .join(
        SharedKeyRegistry,
        and_(
            SharedKeyRegistry.version_id == Document.version_id,
            SharedKeyRegistry.reader_id == bindparam("reader"),
        ),
    )
    .outerjoin(DocumentVersion, DocumentVersion.id == Document.version_id)
    .outerjoin(
        DocumentIndex,
        and_(DocumentIndex.document_id == Document.id, DocumentIndex.reader_id == bindparam("reader")),
    )
    .where(Document.id == bindparam("document"))
)
"""All that reading a document needs to know, in one statement that is made once."""


class Need(Enum):
    """What the caller wants to do with a document; see the access matrix."""

    READ = "read"
    OWN = "own"


@dataclass(eq=False)
class Held:
    """A document that this account may read, with its own grant on the current version."""

    document: Document
    grant: SharedKeyRegistry
    is_owner: bool
    beside: tuple[Any, Any] | None = None
    """The rows of the current version and of the own index entry, where ``find`` has read them too."""


@dataclass(eq=False)
class OpenVersion:
    """A version whose signatures fit, with its manifest and the key that opened it."""

    document_id: bytes
    version_id: bytes
    manifest: Manifest
    parts_digest: bytes
    epoch: int
    owner: Person
    dek: bytes = field(repr=False)
    entry: IndexEntry = field(repr=False)
    known_owner: bytes | None = None
    """The fingerprint of the owner's that is remembered, where the owner is somebody else and was met before."""
    remembered: bool = True
    follows: bytes | None = None
    """The owner's fingerprint in the index entry, where a later pair of his has signed and may take its place."""

    @property
    def etag(self) -> str:
        return etag(self.dek, version=self.version_id, revision=self.manifest.revision)


class Gate:
    """Load documents for an account, and open them."""

    def __init__(self, master: MasterKeys, contacts: Contacts) -> None:
        self._master = master
        self._contacts = contacts

    def find(
        self,
        session: Session,
        account: UnlockedAccount,
        document_id: bytes,
        need: Need,
        *,
        lock: bool = False,
    ) -> Held:
        """Load a document and this account's grant on it.

        Raises ``NotFound`` for whoever holds no live grant, administrator or not, and ``Forbidden`` when a reader
        wants what only the owner may. ``lock`` takes the row for a change; without it the rows are to look at only.
        """
        if lock:
            self._contacts.take_own_keys(session, account, hold=True)
        held = (self._locked if lock else self._shown)(session, account, document_id)
        document, grant = held.document, held.grant
        if grant.document_id != document.id or grant.reader_id != account.user_id:
            raise NotFound
        if grant.expires_at is not None and grant.expires_at <= clock.now():
            raise NotFound
        held.is_owner = document.owner_id == account.user_id and grant.permission == OWNER
        if need is Need.OWN and not held.is_owner:
            raise Forbidden
        return held

    def _locked(self, session: Session, account: UnlockedAccount, document_id: bytes) -> Held:
        document = session.get(Document, document_id, with_for_update=True)
        if document is None:
            raise NotFound
        grant = session.scalar(
            select(SharedKeyRegistry).where(
                SharedKeyRegistry.version_id == document.version_id,
                SharedKeyRegistry.reader_id == account.user_id,
            )
        )
        if grant is None:
            raise NotFound
        return Held(document, grant, False)

    def _shown(self, session: Session, account: UnlockedAccount, document_id: bytes) -> Held:
        found = seals.verified_row(
            session, _SHOWN, Document, SharedKeyRegistry, DocumentVersion, DocumentIndex,
            parameters={"document": document_id, "reader": account.user_id},
        )  # fmt: skip
        if found is None:
            raise NotFound
        document, grant, *beside = found
        return Held(seals.believed(document), seals.believed(grant), False, (beside[0], beside[1]))

    def open(self, session: Session, account: UnlockedAccount, held: Held) -> OpenVersion:
        """Open the current version; raises ``Unreadable`` or ``KeyChanged``."""
        document = held.document
        if held.beside is None:
            version = session.get(DocumentVersion, document.version_id)
        else:
            version = seals.believed(held.beside[0])
        if version is None:
            raise Unreadable("version:missing", "document", document.id)
        same = version.number == document.number and version.revision == document.revision
        if not same or version.epoch != document.epoch:
            raise Unreadable("version:row", "document", document.id)
        opened = self._open(session, account, held, version, held.grant)
        opened.remembered = self._compare_memory(session, account, held, opened)
        return opened

    def open_older(
        self, session: Session, account: UnlockedAccount, held: Held, version_id: bytes
    ) -> OpenVersion:
        """Open any version of a document as its owner; owner, fingerprint and epoch are compared, the number is not."""
        version = session.get(DocumentVersion, version_id)
        if version is None or version.document_id != held.document.id:
            raise NotFound
        grant = session.scalar(
            select(SharedKeyRegistry).where(
                SharedKeyRegistry.version_id == version_id, SharedKeyRegistry.reader_id == account.user_id
            )
        )
        if grant is None or version.epoch != held.document.epoch:
            raise Unreadable("version:grant", "document", held.document.id)
        opened = self._open(session, account, held, version, grant)
        entry = self.remembered(session, account, held.document.id)
        if entry is not None and (
            entry.owner != opened.entry.owner
            or not self._are_own(session, account, entry, opened.entry)
            or entry.epoch > opened.epoch
        ):
            raise Unreadable("memory:older", "document", held.document.id)
        return opened

    def _are_own(
        self, session: Session, account: UnlockedAccount, known: IndexEntry, shown: IndexEntry
    ) -> bool:
        """Tell whether two fingerprints are of one pair of one's own, or one leads to the other.

        The versions of a document are signed anew one after the other; a retired pair's signature was refused before.
        """
        one, other = known.owner_fingerprint, shown.owner_fingerprint
        if one == other:
            return True
        lineage = self._contacts.lineage(session, account.user_id)
        return lineage.leads(one, other) or lineage.leads(other, one)

    def owner_of(self, session: Session, account: UnlockedAccount, version: DocumentVersion) -> Person:
        """Load the owner with the keys that signed; one's own keys come from the unlocked private ones.

        A pair that its owner has retired does not count any more: ``Unreadable``.
        """
        return self._signer(session, account, version.owner_id, version.owner_key_version)

    def _signer(self, session: Session, account: UnlockedAccount, user_id: bytes, key_version: int) -> Person:
        if user_id != account.user_id:
            return self._contacts.person_at(session, user_id, key_version)
        public = self._own_pair(session, account, key_version).public
        return Person(account.user_id, account.username, "active", key_version, public)

    def _own_pair(self, session: Session, account: UnlockedAccount, key_version: int) -> PrivateKeys:
        """Open one's own pair; a former one, or one that came since the request began, is looked up first."""
        if key_version != account.key_version and key_version not in account.older:
            self._contacts.take_own_keys(session, account)
        return account.private_at(key_version)

    def _open(
        self,
        session: Session,
        account: UnlockedAccount,
        held: Held,
        version: DocumentVersion,
        grant: SharedKeyRegistry,
    ) -> OpenVersion:
        document = held.document
        fits = (
            version.document_id == document.id
            and version.owner_id == document.owner_id
            and grant.document_id == document.id
            and grant.version_id == version.id
            and grant.reader_id == account.user_id
            and grant.granter_id == document.owner_id
            and grant.epoch == version.epoch
        )
        if not fits:
            raise Unreadable("version:rows", "document", document.id)
        own = self._own_pair(session, account, grant.reader_key_version)
        owner = granter = self.owner_of(session, account, version)
        if grant.granter_key_version != version.owner_key_version:
            granter = self._signer(session, account, grant.granter_id, grant.granter_key_version)
        known: bytes | None = None
        if owner.id != account.user_id:
            for signer in {owner.key_version: owner, granter.key_version: granter}.values():
                known = self._contacts.compare(session, account, signer).get(owner.id)
        check_version(owner.public, version)
        check_grant(granter.public, grant)
        dek = unwrap_dek(
            own,
            grant.wrapped_dek,
            document=document.id,
            version=version.id,
            reader=account.user_id,
            key_version=grant.reader_key_version,
        )
        manifest = open_manifest(
            dek, version.sealed_manifest, document=document.id, version=version.id, revision=version.revision
        )
        agrees = (
            manifest.number == version.number
            and manifest.owner == document.owner_id
            and manifest.owner_fingerprint == owner.public.fingerprint
            and manifest.parts_digest == version.parts_digest
        )
        if not agrees:
            raise Unreadable("manifest:fields", "document", document.id)
        entry = entry_of(manifest, version.epoch)
        return OpenVersion(
            document.id, version.id, manifest, version.parts_digest, version.epoch, owner, dek, entry, known
        )

    def remembered(self, session: Session, account: UnlockedAccount, document_id: bytes) -> IndexEntry | None:
        """Open what this account remembers of a document."""
        row = session.scalar(
            select(DocumentIndex).where(
                DocumentIndex.reader_id == account.user_id, DocumentIndex.document_id == document_id
            )
        )
        return self._entry(session, account, document_id, row)

    def _entry(
        self, session: Session, account: UnlockedAccount, document_id: bytes, row: Any
    ) -> IndexEntry | None:
        if row is None:
            return None
        try:
            return account.index_key.open(row.sealed_entry, document=document_id, reader=account.user_id)
        except Unreadable:
            hold(session, account)  # no damage where the account key was exchanged since the request began
            raise

    def _compare_memory(
        self, session: Session, account: UnlockedAccount, held: Held, opened: OpenVersion
    ) -> bool:
        """Tell whether the memory is as new as the document; raises ``Unreadable`` when the document is older."""
        if held.beside is None:
            entry = self.remembered(session, account, opened.document_id)
        else:
            entry = self._entry(session, account, opened.document_id, seals.believed(held.beside[1]))
        if entry is None:
            return False
        shown = opened.entry
        if entry.owner_fingerprint != shown.owner_fingerprint and entry.owner == shown.owner:
            if not self._may_follow(session, entry, opened):
                raise Unreadable("memory:owner", "document", opened.document_id)
            opened.follows, entry = (
                entry.owner_fingerprint,
                entry._replace(owner_fingerprint=shown.owner_fingerprint),
            )
        same = compare_entry(entry, shown, opened.document_id)
        is_behind = opened.known_owner is not None and self._contacts.is_behind(
            session, opened.owner, opened.known_owner
        )
        return same and opened.follows is None and not is_behind

    def _may_follow(self, session: Session, known: IndexEntry, opened: OpenVersion) -> bool:
        """Tell whether the signing pair may take the place of the remembered one: the old one says so, or a person did.

        The contact is a person's word when no statement leads to it; what he confirmed is never older than the entry.
        """
        shown = opened.entry.owner_fingerprint
        lineage = self._contacts.lineage(session, known.owner)
        if lineage.leads(known.owner_fingerprint, shown):
            return True
        return opened.known_owner == shown and not lineage.leads(shown, known.owner_fingerprint)

    def remember_soon(
        self, transactions: Transactions, account: UnlockedAccount, opened: Sequence[OpenVersion]
    ) -> None:
        """Write what the account remembers of versions just opened, and of their owners; never in the way of a read.

        Entries are only ever raised; a database that is busy now is asked again by the next read.
        """
        if all(version.remembered for version in opened):
            return

        def work(session: Session) -> None:
            for version in opened:
                if _wants(session, version):
                    put_entry(session, account, version.document_id, version.entry, version.follows)
                    if version.owner.id != account.user_id:
                        self._contacts.meet(session, account, version.owner)
                        session.flush()
            if seals.touched(session):
                transactions.record(Event("contact", account.user_id, "user", account.user_id))

        try:
            transactions.writing(work, account.user_id)
        except (Busy, Conflict, KeyChanged, LoginRequired, Unreadable) as error:
            log.info("index_not_written", error=type(error).__name__)


def _wants(session: Session, version: OpenVersion) -> bool:
    return not version.remembered and session.get(Document, version.document_id) is not None


def check_version(signer: PublicKeys, version: Any) -> None:
    """Check that its owner signed this version; raises ``Unreadable``."""
    verify_version(
        signer,
        version.signature,
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


def check_grant(signer: PublicKeys, grant: Any) -> None:
    """Check that its granter signed this grant; raises ``Unreadable``."""
    verify_grant(
        signer,
        grant.signature,
        document=grant.document_id,
        version=grant.version_id,
        epoch=grant.epoch,
        granter=grant.granter_id,
        granter_key_version=grant.granter_key_version,
        reader=grant.reader_id,
        permission=grant.permission,
        expires_at=grant.expires_at,
    )


def check_own_grant(account: UnlockedAccount, grant: Any, epoch: int) -> None:
    """Check that the account gave this grant, in this epoch, before it is given on or signed anew (W5, W8).

    Whoever has the master key can put a row there whose seal fits; raises ``Unreadable``.
    """
    if grant.granter_id != account.user_id or grant.epoch != epoch:
        raise Unreadable("grant:rows", "document", grant.document_id)
    check_grant(account.private_at(grant.granter_key_version).public, grant)


def entry_of(manifest: Manifest, epoch: int) -> IndexEntry:
    """Make the index entry that remembers this manifest."""
    return IndexEntry(
        owner=manifest.owner,
        owner_fingerprint=manifest.owner_fingerprint,
        number=manifest.number,
        revision=manifest.revision,
        epoch=epoch,
        name=manifest.name,
        path=manifest.path,
        media_type=manifest.media_type,
        size=manifest.size,
    )


def compare_entry(known: IndexEntry, shown: IndexEntry, document_id: bytes) -> bool:
    """Tell whether memory and document agree; raises ``Unreadable`` when the document is not what was remembered."""
    if known.owner != shown.owner or known.owner_fingerprint != shown.owner_fingerprint:
        raise Unreadable("memory:owner", "document", document_id)
    if (shown.number, shown.revision) < (known.number, known.revision) or shown.epoch < known.epoch:
        raise Unreadable("memory:rollback", "document", document_id)
    if (shown.number, shown.revision) == (known.number, known.revision) and shown.name != known.name:
        raise Unreadable("memory:name", "document", document_id)
    return known == shown


def new_entry(account: UnlockedAccount, document_id: bytes, entry: IndexEntry) -> DocumentIndex:
    """Make the account's first index entry of a document."""
    sealed = account.index_key.seal(entry, document=document_id, reader=account.user_id)
    return DocumentIndex(id=new_id(), document_id=document_id, reader_id=account.user_id, sealed_entry=sealed)


def put_entry(
    session: Session,
    account: UnlockedAccount,
    document_id: bytes,
    entry: IndexEntry,
    follows: bytes | None = None,
) -> None:
    """Write or raise the account's own index entry; a lower one than the present is left out.

    An equal one with another fingerprint of the owner's is written where it ``follows`` the present one.
    """
    hold(session, account)
    row = session.scalar(
        select(DocumentIndex).where(
            DocumentIndex.reader_id == account.user_id, DocumentIndex.document_id == document_id
        )
    )
    if row is None:
        session.add(new_entry(account, document_id, entry))
        return
    known = account.index_key.open(row.sealed_entry, document=document_id, reader=account.user_id)
    before, after = (known.number, known.revision, known.epoch), (entry.number, entry.revision, entry.epoch)
    if before < after or (before == after and known.owner_fingerprint == follows):
        row.sealed_entry = account.index_key.seal(entry, document=document_id, reader=account.user_id)
