"""Grants: whom a document is shared with, and the row that wraps its key for each of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from vault.crypto.grants import Terms, open_terms, seal_terms, sign_grant, wrap_dek
from vault.crypto.manifests import Manifest
from vault.crypto.randomness import new_id
from vault.errors import BadInput, Unreadable
from vault.models import SharedKeyRegistry, User, Work
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


def waiting_wrap(account: UnlockedAccount, document_id: bytes, reader_id: bytes, terms: Terms) -> Work:
    """Note that a reader's wrap waits until the owner has confirmed his new fingerprint, and the terms he had.

    The caller holds the account: what is sealed under a key that was exchanged meanwhile would be lost.
    """
    row = Work(
        id=new_id(),
        kind=WAITING,
        user_id=account.user_id,
        document_id=document_id,
        other_id=reader_id,
        total=1,
        created_at=clock.now(),
    )
    put_terms(account, row, terms)
    return row


def put_terms(account: UnlockedAccount, row: Work, terms: Terms) -> None:
    """Seal the terms of a wrap that waits into its row, under the owner's account key."""
    row.cursor = seal_terms(account.account_key, terms, **place_of(row))


def terms_of(account: UnlockedAccount, row: Any) -> Terms:
    """Open the terms of a wrap that waits; raises ``Unreadable`` for one that the owner did not let wait (W8)."""
    return open_terms(account.account_key, row.cursor or b"", **place_of(row))


def place_of(row: Any) -> dict[str, bytes]:
    """Name what the terms of a wrap that waits are bound to; raises ``Unreadable`` where the row names no such ids."""
    place = {"work": row.id, "user": row.user_id, "document": row.document_id, "reader": row.other_id}
    if any(each is None or len(each) != len(row.id) for each in place.values()):
        raise Unreadable("wrap:row")
    return place
