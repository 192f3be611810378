"""Columns, constraints and relations; no behaviour.

Every table bears a row seal: ``row_version``, the id of the master key and an HMAC over every column (see
``vault/services/seals.py``). Ids are 16 random bytes, times are microseconds UTC.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, declared_attr, mapped_column
from sqlalchemy.types import TypeDecorator

from vault.extensions import Base as Base

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class Moment(TypeDecorator[datetime]):
    """A time in UTC, stored as whole microseconds since 1970 so that both databases hold the same bytes."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> int | None:
        return None if value is None else (value - EPOCH) // MICROSECOND

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        """Read a time back; what somebody wrote in its place stays what it is, for the row's seal to refuse."""
        try:
            return None if value is None else EPOCH + timedelta(microseconds=value)
        except (TypeError, OverflowError):
            return value


Id = LargeBinary(16)


class Sealed:
    """The columns that every table has for its row seal; ``row_version`` is also what detects a stale write."""

    row_version: Mapped[int] = mapped_column(Integer)
    seal_key_id: Mapped[bytes] = mapped_column(LargeBinary(8))
    seal: Mapped[bytes] = mapped_column(LargeBinary(32))

    @declared_attr.directive
    def __mapper_args__(cls) -> dict[str, Any]:
        return {
            "version_id_col": cls.row_version,
            "version_id_generator": False,
            "confirm_deleted_rows": True,
        }


class User(Sealed, Base):
    __tablename__ = "user"

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    username: Mapped[str] = mapped_column(String(32), unique=True)
    role: Mapped[str] = mapped_column(String(8))
    state: Mapped[str] = mapped_column(String(8))
    credential_generation: Mapped[int] = mapped_column(Integer)
    key_version: Mapped[int] = mapped_column(Integer)
    stored_bytes: Mapped[int] = mapped_column(BigInteger)
    documents: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[datetime] = mapped_column(Moment)
    last_login_at: Mapped[datetime | None] = mapped_column(Moment)
    previous_login_at: Mapped[datetime | None] = mapped_column(Moment)
    device_mac: Mapped[bytes | None] = mapped_column(LargeBinary(32))


class UnlockMethod(Sealed, Base):
    """One way to an account key: ``kind`` is "passphrase", or "recovery", which has none of Argon2id's parameters."""

    __tablename__ = "unlock_method"

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    user_id: Mapped[bytes] = mapped_column(ForeignKey("user.id"), index=True)
    kind: Mapped[str] = mapped_column(String(16))
    memory_kib: Mapped[int | None] = mapped_column(Integer)
    iterations: Mapped[int | None] = mapped_column(Integer)
    lanes: Mapped[int | None] = mapped_column(Integer)
    salt: Mapped[bytes | None] = mapped_column(LargeBinary(16))
    master_key_id: Mapped[bytes] = mapped_column(LargeBinary(8))
    sealed_account_key: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(Moment)


class UserKey(Sealed, Base):
    __tablename__ = "user_key"
    __table_args__ = (UniqueConstraint("user_id", "version"),)

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    user_id: Mapped[bytes] = mapped_column(ForeignKey("user.id"))
    version: Mapped[int] = mapped_column(Integer)
    wrap_public: Mapped[bytes] = mapped_column(LargeBinary)
    sign_public: Mapped[bytes] = mapped_column(LargeBinary)
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary(32))
    directory_key_id: Mapped[bytes] = mapped_column(LargeBinary(8))
    directory_mac: Mapped[bytes] = mapped_column(LargeBinary(32))
    sealed_wrap_private: Mapped[bytes] = mapped_column(LargeBinary)
    sealed_sign_private: Mapped[bytes] = mapped_column(LargeBinary)
    statement: Mapped[bytes | None] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(Moment)
    retired_at: Mapped[datetime | None] = mapped_column(Moment)


class Contact(Sealed, Base):
    __tablename__ = "contact"
    __table_args__ = (UniqueConstraint("user_id", "other_id"),)

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    user_id: Mapped[bytes] = mapped_column(ForeignKey("user.id"))
    other_id: Mapped[bytes] = mapped_column(ForeignKey("user.id"))
    sealed_fingerprint: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(Moment)


class Notice(Sealed, Base):
    """What a person is told after the next login, until he says that he has read it; ``other_id`` is who did it."""

    __tablename__ = "notice"

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    user_id: Mapped[bytes] = mapped_column(ForeignKey("user.id"), index=True)
    kind: Mapped[str] = mapped_column(String(24))
    other_id: Mapped[bytes | None] = mapped_column(ForeignKey("user.id"))
    created_at: Mapped[datetime] = mapped_column(Moment)


class Invitation(Sealed, Base):
    """A one-time code: "setup" makes the first administrator, "invitation" somebody new, "reset" new keys for him."""

    __tablename__ = "invitation"

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    kind: Mapped[str] = mapped_column(String(12))
    username: Mapped[str | None] = mapped_column(String(32))
    code_mac: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    code_key_id: Mapped[bytes] = mapped_column(LargeBinary(8))
    created_by: Mapped[bytes | None] = mapped_column(ForeignKey("user.id"))
    created_at: Mapped[datetime] = mapped_column(Moment)
    expires_at: Mapped[datetime] = mapped_column(Moment)


class LoginSession(Sealed, Base):
    __tablename__ = "login_session"

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    user_id: Mapped[bytes] = mapped_column(ForeignKey("user.id"), index=True)
    credential_generation: Mapped[int] = mapped_column(Integer)
    client: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(Moment)
    expires_at: Mapped[datetime] = mapped_column(Moment)
    last_seen_at: Mapped[datetime] = mapped_column(Moment)
    master_key_id: Mapped[bytes] = mapped_column(LargeBinary(8))
    sealed_account_key: Mapped[bytes] = mapped_column(LargeBinary)


class LoginAttempt(Sealed, Base):
    """One try to log in, counted under the HMAC of a folded name or of an address, never under either in clear."""

    __tablename__ = "login_attempt"
    __table_args__ = (Index("ix_login_attempt_subject_at", "subject", "at"),)

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    subject: Mapped[bytes] = mapped_column(LargeBinary(32))
    at: Mapped[datetime] = mapped_column(Moment, index=True)


class Document(Sealed, Base):
    __tablename__ = "document"
    __table_args__ = (Index("ix_document_owner_changed", "owner_id", "changed_at", "id"),)

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    owner_id: Mapped[bytes] = mapped_column(ForeignKey("user.id"))
    version_id: Mapped[bytes] = mapped_column(Id)
    number: Mapped[int] = mapped_column(Integer)
    revision: Mapped[int] = mapped_column(Integer)
    epoch: Mapped[int] = mapped_column(Integer)
    readers: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[datetime] = mapped_column(Moment)
    changed_at: Mapped[datetime] = mapped_column(Moment)


class DocumentVersion(Sealed, Base):
    __tablename__ = "document_version"
    __table_args__ = (UniqueConstraint("document_id", "number"),)

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    document_id: Mapped[bytes] = mapped_column(ForeignKey("document.id"))
    number: Mapped[int] = mapped_column(Integer)
    revision: Mapped[int] = mapped_column(Integer)
    epoch: Mapped[int] = mapped_column(Integer)
    owner_id: Mapped[bytes] = mapped_column(ForeignKey("user.id"))
    owner_key_version: Mapped[int] = mapped_column(Integer)
    origin: Mapped[bytes | None] = mapped_column(Id)
    sealed_manifest: Mapped[bytes] = mapped_column(LargeBinary)
    parts_digest: Mapped[bytes] = mapped_column(LargeBinary(32))
    signature: Mapped[bytes] = mapped_column(LargeBinary)
    stored_bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(Moment)


class DocumentGeneration(Sealed, Base):
    """How often a document was re-keyed, and when last; a document without this row never was."""

    __tablename__ = "document_generation"

    id: Mapped[bytes] = mapped_column(ForeignKey("document.id"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer)
    rekeyed_at: Mapped[datetime] = mapped_column(Moment)


class PartList(Sealed, Base):
    """The parts of a version in one encoded column: offsets, lengths and suffixes, as ``FORMAT.md`` says."""

    __tablename__ = "part_list"

    id: Mapped[bytes] = mapped_column(ForeignKey("document_version.id"), primary_key=True)
    parts: Mapped[bytes] = mapped_column(LargeBinary)


class SharedKeyRegistry(Sealed, Base):
    __tablename__ = "shared_key_registry"
    __table_args__ = (
        UniqueConstraint("version_id", "reader_id"),
        Index("ix_shared_key_registry_reader", "reader_id", "permission", "came_at", "id"),
        Index("ix_shared_key_registry_document", "document_id", "reader_id"),
    )

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    document_id: Mapped[bytes] = mapped_column(ForeignKey("document.id"))
    version_id: Mapped[bytes] = mapped_column(ForeignKey("document_version.id"))
    epoch: Mapped[int] = mapped_column(Integer)
    granter_id: Mapped[bytes] = mapped_column(ForeignKey("user.id"))
    granter_key_version: Mapped[int] = mapped_column(Integer)
    reader_id: Mapped[bytes] = mapped_column(ForeignKey("user.id"))
    reader_key_version: Mapped[int] = mapped_column(Integer)
    permission: Mapped[str] = mapped_column(String(8))
    expires_at: Mapped[datetime | None] = mapped_column(Moment, index=True)
    wrapped_dek: Mapped[bytes] = mapped_column(LargeBinary)
    signature: Mapped[bytes] = mapped_column(LargeBinary)
    since: Mapped[datetime] = mapped_column(Moment)
    came_at: Mapped[datetime] = mapped_column(Moment)


class DocumentIndex(Sealed, Base):
    __tablename__ = "document_index"
    __table_args__ = (UniqueConstraint("reader_id", "document_id"),)

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    document_id: Mapped[bytes] = mapped_column(ForeignKey("document.id"), index=True)
    reader_id: Mapped[bytes] = mapped_column(ForeignKey("user.id"))
    sealed_entry: Mapped[bytes] = mapped_column(LargeBinary)


class Upload(Sealed, Base):
    """An upload; its id is its segment's. Once expired without a document, the sweep destroys what is left of it.

    ``kind`` is "whole" (a form or a raw body, gone with its document), "rekey" (gone with the old generation), or what
    tus knows: "plain", "partial" (joined by a final one, ``joined_id``), "deferred" (either, while its length is not
    told) and "final", which has no segment. These remain until they expire, so that a completion that is repeated finds
    its ``document_id``. ``reserved_bytes`` counts against the quota: the announced length, or what lies in the store.
    """

    __tablename__ = "upload"

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    user_id: Mapped[bytes] = mapped_column(ForeignKey("user.id"), index=True)
    kind: Mapped[str] = mapped_column(String(8))
    reserved_bytes: Mapped[int | None] = mapped_column(BigInteger)
    sealed_metadata: Mapped[bytes | None] = mapped_column(LargeBinary)
    document_id: Mapped[bytes | None] = mapped_column(Id)
    joined_id: Mapped[bytes | None] = mapped_column(Id)
    created_at: Mapped[datetime] = mapped_column(Moment)
    expires_at: Mapped[datetime] = mapped_column(Moment, index=True)


class Tombstone(Sealed, Base):
    """A sealed order to destroy every blob of a segment, or the one named, by the transaction that made it useless."""

    __tablename__ = "tombstone"
    __table_args__ = (UniqueConstraint("segment_id", "blob"),)

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    segment_id: Mapped[bytes] = mapped_column(Id)
    blob: Mapped[str] = mapped_column(String(33))
    created_at: Mapped[datetime] = mapped_column(Moment)
    destroy_after: Mapped[datetime] = mapped_column(Moment, index=True)


class MasterKey(Sealed, Base):
    """A master key that has sealed rows here, by its id alone: since when, and what became of it."""

    __tablename__ = "master_key"

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    key_id: Mapped[bytes] = mapped_column(LargeBinary(8), unique=True)
    promoted_at: Mapped[datetime] = mapped_column(Moment)
    rotating_since: Mapped[datetime | None] = mapped_column(Moment)
    compromised_at: Mapped[datetime | None] = mapped_column(Moment)
    retired_at: Mapped[datetime | None] = mapped_column(Moment)


class Work(Sealed, Base):
    """Work that takes long (see ``services/work.py``), or waits: kind "wrap", for a reader's fingerprint."""

    __tablename__ = "work"

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    user_id: Mapped[bytes | None] = mapped_column(ForeignKey("user.id"), index=True)
    document_id: Mapped[bytes | None] = mapped_column(ForeignKey("document.id"), index=True)
    other_id: Mapped[bytes | None] = mapped_column(ForeignKey("user.id"))
    cursor: Mapped[bytes | None] = mapped_column(LargeBinary)
    total: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[datetime] = mapped_column(Moment)


class Lease(Sealed, Base):
    """Who does the background work at the moment; renewed while he lives."""

    __tablename__ = "lease"

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    holder: Mapped[bytes] = mapped_column(Id)
    expires_at: Mapped[datetime] = mapped_column(Moment)
    swept_at: Mapped[datetime | None] = mapped_column(Moment)


class CheckResult(Sealed, Base):
    """What the last check of its kind looked at and found, in figures; there is one row for each kind."""

    __tablename__ = "check_result"

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    began_at: Mapped[datetime] = mapped_column(Moment)
    ended_at: Mapped[datetime] = mapped_column(Moment)
    rows: Mapped[int] = mapped_column(BigInteger)
    blobs: Mapped[int] = mapped_column(BigInteger)
    read_bytes: Mapped[int] = mapped_column(BigInteger)
    findings: Mapped[int] = mapped_column(BigInteger)


class CheckReport(Sealed, Base):
    """What it found, each by invariant and id, and what is at risk: JSON."""

    __tablename__ = "check_report"

    id: Mapped[bytes] = mapped_column(ForeignKey("check_result.id"), primary_key=True)
    report: Mapped[str] = mapped_column(Text)


class AuditEntry(Sealed, Base):
    __tablename__ = "audit_entry"
    __table_args__ = (
        Index("ix_audit_entry_actor_id_sequence", "actor_id", "sequence"),
        Index("ix_audit_entry_object_id_sequence", "object_id", "sequence"),
        Index("ix_audit_entry_subject_id_sequence", "subject_id", "sequence"),
    )

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    sequence: Mapped[int] = mapped_column(BigInteger, unique=True)
    at: Mapped[datetime] = mapped_column(Moment)
    actor_id: Mapped[bytes | None] = mapped_column(Id)
    action: Mapped[str] = mapped_column(String(40))
    object_kind: Mapped[str | None] = mapped_column(String(24))
    object_id: Mapped[bytes | None] = mapped_column(Id)
    subject_id: Mapped[bytes | None] = mapped_column(Id)
    succeeded: Mapped[bool] = mapped_column(Boolean)
    detail: Mapped[str | None] = mapped_column(String(80))
    request_id: Mapped[bytes | None] = mapped_column(Id)
    touched: Mapped[bytes] = mapped_column(LargeBinary)
    previous_hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    entry_hash: Mapped[bytes] = mapped_column(LargeBinary(32))


class AuditHead(Sealed, Base):
    """One row: the sequence and hash of the newest entry. Its lock puts all writing transactions in one order."""

    __tablename__ = "audit_head"

    id: Mapped[bytes] = mapped_column(Id, primary_key=True)
    sequence: Mapped[int] = mapped_column(BigInteger)
    entry_hash: Mapped[bytes] = mapped_column(LargeBinary(32))
