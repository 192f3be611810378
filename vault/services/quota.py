"""Quota: how much one person may send and keep, and the row of an upload that begins, which reserves its share."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from vault.crypto.randomness import new_id
from vault.errors import NotFound, QuotaExceeded, TooLarge, TooManyUploads
from vault.models import Upload, User
from vault.services import clock, seals

WHOLE = "whole"
"""The kind of an upload that comes in one request, a form's file or a raw body; it is not counted as open."""
REKEY = "rekey"
"""The kind of what a re-key writes; it takes the place of the old content, so that no quota ever refuses it."""


_LOCKED_USER = (
    select(*seals.columns(User)).where(User.id == bindparam("user")).with_for_update(key_share=True)
)
_UNDER_WAY = select(*seals.columns(Upload)).where(
    Upload.user_id == bindparam("user"), Upload.document_id.is_(None), Upload.expires_at > bindparam("now")
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
    """Make the row of an upload that begins, with its length reserved; it expires with the day after ``day``.

    The caller inserts it. Raises ``TooLarge``, ``QuotaExceeded``, ``TooManyUploads``.
    """
    if length is not None and length > limits.largest:
        raise TooLarge(limits.largest)
    owner = locked_user(session, user_id)
    started = clock.now()
    under_way = seals.verified_rows(session, _UNDER_WAY, Upload, parameters={"user": user_id, "now": started})
    others = [seals.believed(row) for (row,) in under_way]
    if kind != WHOLE and sum(row.kind not in {WHOLE, REKEY} for row in others) >= limits.open_uploads:
        raise TooManyUploads(limits.open_uploads)
    reserved = sum(row.reserved_bytes or 0 for row in others)
    if limits.quota and owner.stored_bytes + reserved + (length or 0) > limits.quota:
        raise QuotaExceeded(limits.quota)
    return new_upload(user_id, kind, length, day)


def new_upload(user_id: bytes, kind: str, length: int | None, day: date) -> Upload:
    """Make the row of an upload, for a transaction to write."""
    return Upload(
        id=new_id(),
        user_id=user_id,
        kind=kind,
        reserved_bytes=length,
        sealed_metadata=None,
        document_id=None,
        joined_id=None,
        created_at=clock.now(),
        expires_at=expiry(day),
    )


def expiry(day: date) -> datetime:
    """The end of the UTC day after ``day``: when an upload that was begun on it is destroyed, unless it was used."""
    return datetime.combine(day + timedelta(days=2), time(), UTC)


def locked_user(session: Session, user_id: bytes) -> Any:
    """Look a user up and keep his row from others until the transaction's end: his bytes are counted in it."""
    found = seals.verified_row(session, _LOCKED_USER, User, parameters={"user": user_id})
    if found is None:
        raise NotFound
    return seals.believed(found[0])
