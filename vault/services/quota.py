"""Quota: how much one person may send and keep, and the row of an upload that begins, which reserves its share."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from vault.crypto.randomness import new_id
from vault.errors import QuotaExceeded, TooLarge, TooManyUploads
from vault.models import Upload, User
from vault.services import clock, seals

WHOLE = "whole"
"""The kind of an upload that comes in one request, a form's file or a raw body; it is not counted as open."""


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
