"""Sharing: grant, revoke, leave.

Sharing wraps the current version's key for a reader. Revoking deletes his rows and raises the document's epoch,
which signatures, grants and the owner's memory repeat: a grant put back from a backup is refused at once. A reader
who leaves, and a grant that expired, only lose the row.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from vault.crypto.grants import sign_grant
from vault.errors import BadInput, Forbidden, NotFound, Unreadable
from vault.failpoints import reach
from vault.models import Document, DocumentIndex, DocumentVersion, SharedKeyRegistry, User, Work
from vault.services import clock
from vault.services.access import READ, Gate, Held, Need, OpenVersion, check_own_grant, put_entry
from vault.services.audit import Event
from vault.services.contacts import Contacts, Person
from vault.services.documents import signed
from vault.services.grants import WAITING, find_recipients, grant, put_terms, terms_of, unique
from vault.services.rekey import ask_in
from vault.services.transactions import Transactions
from vault.services.unlocked import UnlockedAccount, hold
from vault.services.usernames import fold_username


class Sharing:
    """Change who may read a document."""

    def __init__(self, transactions: Transactions, gate: Gate, contacts: Contacts) -> None:
        self._transactions = transactions
        self._gate = gate
        self._contacts = contacts

    def share(
        self,
        account: UnlockedAccount,
        document_ids: Sequence[bytes],
        usernames: Sequence[str],
        *,
        expires_at: datetime | None = None,
    ) -> None:
        """Let these people read these documents: all of it or, when one part is refused, nothing.

        Who may read already keeps his date and gets the new expiry. Raises ``BadInput`` for an unknown, disabled or
        doubled user and for oneself, ``KeyChanged`` when a fingerprint is not the one first met.
        """
        if expires_at is not None and expires_at <= clock.now():
            raise BadInput("expires_at", "The end must lie in the future.")
        wanted = unique(usernames)
        if not wanted:
            raise BadInput("recipients", "Name at least one person.")

        def work(session: Session) -> None:
            opened = [self._owned(session, account, document_id) for document_id in document_ids]
            ids = find_recipients(session, account, wanted)
            people = self._contacts.people(session, set(ids), hold=True)
            self._contacts.meet(session, account, *people.values())
            for held, version in opened:
                self._grant_all(session, account, held, version, list(people.values()), expires_at)

        self._transactions.writing(work, account.user_id, _about(document_ids))

    def _owned(
        self, session: Session, account: UnlockedAccount, document_id: bytes
    ) -> tuple[Held, OpenVersion]:
        held = self._gate.find(session, account, document_id, Need.OWN, lock=True)
        return held, self._gate.open(session, account, held)

    def _grant_all(
        self,
        session: Session,
        account: UnlockedAccount,
        held: Held,
        version: OpenVersion,
        people: list[Person],
        expires_at: datetime | None,
    ) -> None:
        document, made = held.document, clock.now()
        present = self._grants(session, document)
        _end_waits(session, document, {person.id for person in people})
        for person in people:
            row = present.get(person.id)
            if row is None:
                new = grant(
                    account, person, version.manifest, version.dek, document.epoch, READ, expires_at,
                    since=made, came_at=made,
                )  # fmt: skip
                session.add(new)
                document.readers += 1
            else:
                check_own_grant(account, row, document.epoch)
                row.expires_at = expires_at
                self._sign(account, row)
            reach("share.after_grant")
            self._transactions.record(
                Event(
                    "share",
                    account.user_id,
                    "document",
                    document.id,
                    subject_id=person.id,
                    detail=_until(expires_at),
                )
            )

    def _grants(self, session: Session, document: Document) -> dict[bytes, SharedKeyRegistry]:
        rows = session.scalars(
            select(SharedKeyRegistry).where(SharedKeyRegistry.version_id == document.version_id)
        )
        return {row.reader_id: row for row in rows}

    def _sign(self, account: UnlockedAccount, row: SharedKeyRegistry) -> None:
        row.signature = sign_grant(
            account.private_at(row.granter_key_version),
            document=row.document_id,
            version=row.version_id,
            epoch=row.epoch,
            granter=account.user_id,
            granter_key_version=row.granter_key_version,
            reader=row.reader_id,
            permission=row.permission,
            expires_at=row.expires_at,
        )

    def revoke(
        self,
        account: UnlockedAccount,
        document_ids: Sequence[bytes],
        usernames: Sequence[str],
        *,
        rekey: bool = False,
        at_once: bool = False,
    ) -> list[bytes]:
        """Take these people's right to read these documents away, from the next request on, also one that waits.

        With ``rekey`` new keys are asked for as well; returns the works that make them, which ``Rekey`` carries on.

        Who cannot read a document anyway is passed over, unless nobody named can: then ``BadInput``. What somebody
        has read he may have copied; no key can take that back.
        """
        wanted = unique(usernames)
        if not wanted:
            raise BadInput("recipients", "Name at least one person.")

        def work(session: Session) -> list[bytes]:
            users = session.scalars(
                select(User).where(User.username.in_([fold_username(name) or name for name in wanted]))
            ).all()
            ids = {user.id for user in users} - {account.user_id}
            revoked = {}
            for document_id in document_ids:
                held, version = self._owned(session, account, document_id)
                revoked[document_id] = self._revoke_one(session, account, held, version, ids)
            if not any(revoked.values()):
                raise BadInput("recipients", "Nobody of these may read this.")
            asked = [document_id for document_id, count in revoked.items() if rekey and count]
            return [ask_in(session, account, document_id, at_once=at_once).id for document_id in asked]

        return self._transactions.writing(work, account.user_id, _about(document_ids))

    def _revoke_one(
        self,
        session: Session,
        account: UnlockedAccount,
        held: Held,
        version: OpenVersion,
        user_ids: set[bytes],
    ) -> int:
        document = held.document
        present = self._grants(session, document)
        gone = [row for row in present.values() if row.reader_id in user_ids]
        ended = {row.reader_id for row in gone} | _end_waits(session, document, user_ids)
        if not ended:
            return 0
        for row in gone:
            session.delete(row)
        for reader_id in ended:
            forget_reader(session, document.id, reader_id)
        document.readers = len(present) - len(gone) - 1
        session.flush()
        hold(session, account)
        self._raise_epoch(session, account, document)
        put_entry(session, account, document.id, version.entry._replace(epoch=document.epoch))
        for reader_id in ended:
            self._transactions.record(
                Event("revoke", account.user_id, "document", document.id, subject_id=reader_id)
            )
        return len(ended)

    def _raise_epoch(self, session: Session, account: UnlockedAccount, document: Document) -> None:
        """Raise the epoch and sign all versions and all remaining grants anew.

        A grant that the owner did not sign keeps its epoch, which refuses it: it must not keep him from revoking.
        """
        before, document.epoch = document.epoch, document.epoch + 1
        versions = session.scalars(
            select(DocumentVersion).where(DocumentVersion.document_id == document.id)
        ).all()
        for version in versions:
            version.epoch = document.epoch
            version.signature = signed(account, version)
        for row in session.scalars(
            select(SharedKeyRegistry).where(SharedKeyRegistry.document_id == document.id)
        ):
            try:
                check_own_grant(account, row, before)
            except Unreadable:
                continue
            row.epoch = document.epoch
            self._sign(account, row)
        self._carry_waits(session, account, document, before)

    def _carry_waits(
        self, session: Session, account: UnlockedAccount, document: Document, before: int
    ) -> None:
        """Seal what still waits into the new epoch; what the owner did not let wait stays behind."""
        for row in session.scalars(_waits(document.id)):
            try:
                terms = terms_of(account, row)
            except Unreadable:
                continue
            if terms.epoch == before:
                put_terms(account, row, terms._replace(epoch=document.epoch))

    def leave(self, account: UnlockedAccount, document_ids: Sequence[bytes]) -> None:
        """Give up reading these documents; raises ``Forbidden`` for one's own, which are deleted instead."""

        def work(session: Session) -> None:
            for document_id in document_ids:
                held = self._gate.find(session, account, document_id, Need.READ, lock=True)
                if held.is_owner:
                    raise Forbidden("You own this document. Delete it, or revoke the others.")
                session.delete(held.grant)
                forget_reader(session, document_id, account.user_id)
                held.document.readers -= 1
                self._transactions.record(Event("leave", account.user_id, "document", document_id))

        self._transactions.writing(work, account.user_id, _about(document_ids))


def _waits(document_id: bytes) -> Select[Work]:
    return select(Work).where(Work.document_id == document_id, Work.kind == WAITING)


def _end_waits(session: Session, document: Document, user_ids: set[bytes]) -> set[bytes]:
    """Delete what waits for a person's word before it becomes a grant of these people; return whose there was."""
    waiting = [row for row in session.scalars(_waits(document.id)) if row.other_id in user_ids]
    for row in waiting:
        session.delete(row)
    return {row.other_id for row in waiting if row.other_id is not None}


def forget_reader(session: Session, document_id: bytes, reader_id: bytes) -> None:
    """Delete what a former reader remembers of a document."""
    row = session.scalar(
        select(DocumentIndex).where(
            DocumentIndex.reader_id == reader_id, DocumentIndex.document_id == document_id
        )
    )
    if row is not None:
        session.delete(row)


def end_expired_grants(session: Session, limit: int, record: Transactions) -> int:
    """Delete at most ``limit`` grants that have expired; return how many. The epoch stays."""
    rows = session.scalars(
        select(SharedKeyRegistry)
        .where(SharedKeyRegistry.expires_at.is_not(None), SharedKeyRegistry.expires_at <= clock.now())
        .limit(limit)
    ).all()
    for row in rows:
        document = session.get(Document, row.document_id, with_for_update=True)
        if document is None:
            raise NotFound
        session.delete(row)
        forget_reader(session, row.document_id, row.reader_id)
        document.readers -= 1
        record.record(
            Event(
                "share_expired",
                None,
                "document",
                document.id,
                subject_id=row.reader_id,
                detail=_until(row.expires_at),
            )
        )
    return len(rows)


def _until(expires_at: datetime | None) -> str | None:
    """Say in an audit entry when a share ends: after that the row is gone, and the sweep comes later."""
    return expires_at.isoformat() if expires_at is not None else None


def _about(document_ids: Sequence[bytes]) -> tuple[str, bytes] | None:
    return ("document", document_ids[0]) if len(document_ids) == 1 else None
