"""Quota: how much one person may send and keep, and the row of an upload that begins, which reserves its share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from types import MappingProxyType
from typing import Any, NamedTuple

from sqlalchemy import bindparam, or_, select
from sqlalchemy.orm import Session

from vault.crypto.randomness import new_id
from vault.errors import Gone, NotFound, QuotaExceeded, TooLarge, TooManyUploads
from vault.models import Upload, User
from vault.services import clock, seals

WHOLE = "whole"
"""The kind of an upload that comes in one request, a form's file or a raw body; it is not counted as open."""
REKEY = "rekey"
"""The kind of what a re-key writes; it takes the place of the old content, so that no quota ever refuses it."""


STEP = 16 * 2**20
"""How many bytes a body of unknown length reserves at a time."""
NOTHING: Mapping[bytes, int] = MappingProxyType({})
_LOCKED_USER = (
    select(*seals.columns(User)).where(User.id == bindparam("user")).with_for_update(key_share=True)
)
_NOT_MADE = select(*seals.columns(Upload)).where(
    Upload.user_id == bindparam("user"), Upload.document_id.is_(None)
)
_UNDER_WAY = _NOT_MADE.where(Upload.expires_at > bindparam("now"))
_COUNTED = _NOT_MADE.where(or_(Upload.expires_at > bindparam("now"), Upload.reserved_bytes > 0))
"""Uploads whose bytes count: also one that has expired, until the sweep has destroyed what lies in the store."""


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


class Begun(NamedTuple):
    """The row of an upload that begins, and how many bytes it may store; ``None`` where there is no quota."""

    row: Upload
    room: int | None


def begin_upload(
    session: Session,
    user_id: bytes,
    kind: str,
    length: int | None,
    day: date,
    limits: Limits,
    *,
    at_most: int | None = None,
    beside: Mapping[bytes, int] = NOTHING,
) -> Begun:
    """Make the row of an upload that begins, with its length reserved; it expires with the day after ``day``.

    The caller inserts it, and stops an upload that stores more than there is room. A whole body of unknown length, of
    which ``at_most`` so much may come, reserves some and asks ``reserve_more``. ``beside`` are the uploads of the same
    request that are stored, with their bytes. Raises ``TooLarge``, ``QuotaExceeded``, ``TooManyUploads``.
    """
    if length is not None and length > limits.largest:
        raise TooLarge(limits.largest)
    owner = locked_user(session, user_id)
    started = clock.now()
    others = _not_made(session, user_id, started, limits)
    under_way = [row for row in others if row.expires_at > started]
    if kind != WHOLE and sum(row.kind not in {WHOLE, REKEY} for row in under_way) >= limits.open_uploads:
        raise TooManyUploads(limits.open_uploads)
    _settle(session, others, beside)
    room = _room(owner, others, limits, beside)
    if room is not None and (length or 0) > room:
        raise QuotaExceeded(limits.quota)
    reserved = length
    if room is not None and length is None and kind == WHOLE:
        reserved = room = max(0, min(room, STEP if at_most is None else min(STEP, at_most)))
    return Begun(new_upload(user_id, kind, reserved, day), room)


def reserve_more(session: Session, user_id: bytes, upload_id: bytes, wanted: int, limits: Limits) -> int:
    """Reserve what a body of unknown length needs, and some more; return how many bytes it may store now.

    Raises ``QuotaExceeded``, ``Gone``.
    """
    locked_user(session, user_id)
    row = session.get(Upload, upload_id, with_for_update=True)
    if row is None:
        raise Gone
    room = room_of(session, row, limits) or 0
    if wanted > room:
        raise QuotaExceeded(limits.quota)
    row.reserved_bytes = min(room, wanted + STEP)
    return row.reserved_bytes


def _settle(session: Session, others: Sequence[Any], beside: Mapping[bytes, int]) -> None:
    """Let bodies that are stored reserve what they stored."""
    for row in others:
        if row.id in beside and row.reserved_bytes != beside[row.id]:
            session.get_one(Upload, row.id).reserved_bytes = beside[row.id]


def room_of(session: Session, upload: Upload, limits: Limits) -> int | None:
    """Tell how many bytes an upload that is under way may store in all; ``None`` where there is no quota."""
    owner = locked_user(session, upload.user_id)
    others = _not_made(session, upload.user_id, clock.now(), limits)
    return _room(owner, [row for row in others if row.id != upload.id], limits)


def _not_made(session: Session, user_id: bytes, now: datetime, limits: Limits) -> list[Any]:
    """Read the uploads that are no documents: those under way, and with a quota all that have bytes in the store."""
    statement, given = _COUNTED if limits.quota else _UNDER_WAY, {"user": user_id, "now": now}
    return [
        seals.believed(row) for (row,) in seals.verified_rows(session, statement, Upload, parameters=given)
    ]


def _room(
    owner: Any, others: Sequence[Any], limits: Limits, beside: Mapping[bytes, int] = NOTHING
) -> int | None:
    if not limits.quota:
        return None
    reserved = sum(beside.get(row.id, row.reserved_bytes or 0) for row in others)
    return limits.quota - int(owner.stored_bytes) - reserved


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
