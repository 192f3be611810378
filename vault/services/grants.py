"""Grants: whom a document is shared with, and the row that wraps its key for each of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from struct import Struct
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from vault.crypto.grants import sign_grant, wrap_dek
from vault.crypto.manifests import Manifest
from vault.crypto.randomness import new_id
from vault.errors import BadInput
from vault.models import EPOCH, MICROSECOND, SharedKeyRegistry, User, Work
from vault.services import clock, seals
from vault.services.contacts import Person
from vault.services.unlocked import UnlockedAccount
from vault.services.usernames import fold_username


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
        if username not in users or users[username].state == "deleted":
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


WAITING = "wrap"
"""The kind of work that is a reader's wrap, waiting until the owner has confirmed his new fingerprint."""
_TERMS = Struct(">qq")


def waiting_wrap(
    account: UnlockedAccount, document_id: bytes, reader_id: bytes, terms: SharedKeyRegistry | None = None
) -> Work:
    """Note that a reader's wrap waits until the owner has confirmed his new fingerprint, and the terms he had."""
    return Work(
        id=new_id(),
        kind=WAITING,
        user_id=account.user_id,
        document_id=document_id,
        other_id=reader_id,
        cursor=None if terms is None else _terms(terms),
        total=1,
        created_at=clock.now(),
    )


def terms_of(row: Work) -> tuple[datetime, datetime | None]:
    """Read since when, and until when, somebody whose wrap waits may read."""
    if row.cursor is None:
        return row.created_at, None
    since, end = _TERMS.unpack(row.cursor)
    return EPOCH + since * MICROSECOND, None if end < 0 else EPOCH + end * MICROSECOND


def _terms(grant: SharedKeyRegistry) -> bytes:
    return _TERMS.pack(_micros(grant.since), -1 if grant.expires_at is None else _micros(grant.expires_at))


def _micros(time: datetime) -> int:
    return (time - EPOCH) // MICROSECOND
