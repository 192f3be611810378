"""Delete an account: its keys at once, its documents and what it was given in batches.

The first transaction ends the account: nobody is in, nothing opens any more, the name stays taken for good and the id
is used by nobody else (attack K7). Documents, grants and blobs go afterwards, as a sealed row of work that needs no
keys: what fits into the request at once, the rest by the sweep.
"""

from __future__ import annotations

import time

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from vault.crypto.randomness import new_id
from vault.errors import BadInput, Busy, Conflict, NotFound, Unreadable
from vault.models import (
    Contact,
    Document,
    DocumentIndex,
    DocumentVersion,
    Notice,
    SharedKeyRegistry,
    UnlockMethod,
    User,
    UserKey,
    Work,
)
from vault.services import clock, seals
from vault.services.accountkey import end_sessions
from vault.services.accounts import Accounts, keep_an_admin, require_admin
from vault.services.audit import Event
from vault.services.documents import destroy
from vault.services.invitations import void_resets
from vault.services.sharing import forget_reader
from vault.services.transactions import Transactions
from vault.services.unlocked import UnlockedAccount
from vault.services.usernames import fold_username

log = structlog.get_logger("vault.deletion")

PURGE = "purge"
AT_ONCE_SECONDS = 2.0
DOCUMENTS_AT_ONCE = 20
GRANTS_AT_ONCE = 200


class Deletion:
    """Delete accounts."""

    def __init__(self, transactions: Transactions, accounts: Accounts) -> None:
        self._transactions = transactions
        self._accounts = accounts

    def delete_own(self, account: UnlockedAccount, passphrase: str) -> None:
        """Delete one's own account and all in it; raises ``WrongLogin``, ``Conflict`` for the last administrator."""
        self._accounts.prove(account, passphrase, "account_deleted")
        self._delete(account.username, account.user_id)

    def delete(self, account: UnlockedAccount | None, username: str, confirmation: str) -> None:
        """Delete somebody's account, as an administrator who has typed its name once more, or as the operator.

        Raises ``NotFound``, ``Conflict`` for the last administrator, and ``BadInput`` where the name is not repeated,
        or is one's own: that asks for the passphrase.
        """
        require_admin(account)
        folded = fold_username(username) or ""
        if account is not None and folded == account.username:
            raise BadInput(
                "confirm", "Your own account you delete on your account page, with your passphrase."
            )
        if fold_username(confirmation) != folded:
            raise BadInput("confirm", "Type the user name once more: this cannot be undone.")
        self._delete(folded, account.user_id if account else None)

    def _delete(self, username: str, actor: bytes | None) -> None:
        def work(session: Session) -> None:
            admins = session.scalars(select(User).where(User.role == "admin").with_for_update()).all()
            user = session.scalar(select(User).where(User.username == username).with_for_update())
            if user is None or user.state == "deleted":
                raise NotFound("There is no such account.")
            user.state, user.role = "deleted", "user"
            keep_an_admin(admins)
            self._transactions.record(Event("account_deleted", actor, "user", user.id))
            void_resets(session, self._transactions, user)
            forget_secrets(session, user)
            retire_keys(session, user)
            begin_purge(session, user, user.key_version + 1)

        self._transactions.writing(work, actor)
        purge(self._transactions)


def forget_secrets(session: Session, user: User) -> None:
    """Delete what opens an account and what lies under its account key, and end its sessions; keys and grants stay."""
    end_sessions(session, user)
    for model in (UnlockMethod, Contact, Notice):
        for row in session.scalars(select(model).where(model.user_id == user.id)):
            session.delete(row)
    for work in session.scalars(select(Work).where((Work.user_id == user.id) | (Work.other_id == user.id))):
        if work.kind != PURGE:
            session.delete(work)
    session.flush()
    seals.remove_all(session, DocumentIndex, DocumentIndex.__table__.c.reader_id == user.id)


def retire_keys(session: Session, user: User) -> None:
    """Delete the private halves of a user's key pairs; the public ones stay, to name who signed and was granted."""
    for key in session.scalars(select(UserKey).where(UserKey.user_id == user.id)):
        if key.sealed_wrap_private:
            key.sealed_wrap_private = key.sealed_sign_private = b""
            key.retired_at = key.retired_at or clock.now()
    session.flush()


def begin_purge(session: Session, user: User, below: int) -> None:
    """Order that what is bound to key versions of a user below ``below`` goes: his documents, and what he was given."""
    session.add(
        Work(
            id=new_id(),
            kind=PURGE,
            user_id=user.id,
            document_id=None,
            other_id=None,
            cursor=below.to_bytes(8, "big"),
            total=user.documents,
            created_at=clock.now(),
        )
    )


def purge(transactions: Transactions, seconds: float | None = None) -> int:
    """Purge for two seconds, or for ``seconds``; return how many batches were done. What is left goes with the sweep.

    A row that cannot be believed ends it: whatever waits behind it waits for the operator, and nothing else does.
    """
    steps, until = 0, time.monotonic() + (AT_ONCE_SECONDS if seconds is None else seconds)
    try:
        while time.monotonic() < until and transactions.writing(
            lambda session: purge_some(session, transactions)
        ):
            steps += 1
    except (Unreadable, Busy, Conflict) as error:
        log.error("purge_stopped", error=type(error).__name__)
    return steps


def purge_some(session: Session, record: Transactions) -> bool:
    """Do one batch of the oldest purge; tell whether there was any."""
    work = session.scalar(
        select(Work).where(Work.kind == PURGE).order_by(Work.created_at, Work.id).limit(1).with_for_update()
    )
    if work is None:
        return False
    if work.user_id is None or work.cursor is None:
        raise Unreadable("purge:work", "work", work.id)
    user = session.get_one(User, work.user_id, with_for_update=True)
    below = int.from_bytes(work.cursor, "big")
    if not _destroy_some(session, record, user, below) and not _end_some_grants(session, record, user, below):
        session.delete(work)
        record.record(Event("purged", None, "user", user.id))
    return True


def _destroy_some(session: Session, record: Transactions, user: User, below: int) -> int:
    rows = session.execute(
        select(Document, DocumentVersion)
        .join(DocumentVersion, DocumentVersion.id == Document.version_id)
        .where(Document.owner_id == user.id, DocumentVersion.owner_key_version < below)
        .limit(DOCUMENTS_AT_ONCE)
    ).all()
    for document, version in rows:
        if document.owner_id != user.id or version.owner_key_version >= below:
            raise Unreadable("purge:document", "document", document.id)
        destroy(session, user, document)
        record.record(Event("delete", None, "document", document.id, subject_id=user.id, detail="account"))
    return len(rows)


def _end_some_grants(session: Session, record: Transactions, user: User, below: int) -> int:
    rows = session.scalars(
        select(SharedKeyRegistry)
        .where(SharedKeyRegistry.reader_id == user.id, SharedKeyRegistry.reader_key_version < below)
        .limit(GRANTS_AT_ONCE)
    ).all()
    for grant in rows:
        document = session.get_one(Document, grant.document_id, with_for_update=True)
        if grant.version_id == document.version_id:
            document.readers -= 1
        session.delete(grant)
        forget_reader(session, document.id, user.id)
        record.record(Event("leave", None, "document", document.id, subject_id=user.id, detail="account"))
    return len(rows)
