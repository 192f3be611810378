"""Confirm a changed key: show what is remembered beside what is there, take a person's word, then do what waited.

A fingerprint that no statement leads to stops sharing and opening until the person has asked its owner for the six
words. What he confirms is what he was shown: another change in between is refused. Wraps that waited for it are long
work of their own.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from vault.crypto.accounts import open_contact
from vault.crypto.passphrase import fingerprint_words
from vault.errors import BadInput, KeyChanged, NotFound, Unreadable
from vault.models import Contact, Notice, SharedKeyRegistry, User, Work
from vault.services import clock, work
from vault.services.access import READ, Gate, Need
from vault.services.audit import Event
from vault.services.contacts import KEY_RENEWED, Contacts, Person
from vault.services.grants import WAITING, grant, place_of, terms_of
from vault.services.transactions import Transactions
from vault.services.unlocked import UnlockedAccount
from vault.services.usernames import fold_username

KIND = "wraps"
AT_ONCE = 20

KNOWN, RENEWED, CHANGED = "known", "renewed", "changed"


@dataclass(frozen=True)
class ContactView:
    """Somebody whose key one remembers: what is remembered, what is there now, and how the two stand.

    ``state`` is "known", "renewed" (his former key vouches for the new one) or "changed" (nothing does).
    """

    username: str
    state: str
    fingerprint_words: str
    known_words: str
    met_at: datetime
    renewed_at: datetime | None
    waiting: int


class ContactBook:
    """Show whom an account knows, and take its owner's word for a changed key."""

    def __init__(self, transactions: Transactions, contacts: Contacts) -> None:
        self._transactions = transactions
        self._contacts = contacts

    def list(self, account: UnlockedAccount) -> list[ContactView]:
        """List whom one knows, by name."""
        with self._transactions.reading(account.user_id) as session:
            rows = session.scalars(select(Contact).where(Contact.user_id == account.user_id)).all()
            people = self._people(session, {row.other_id for row in rows})
            renewed, waiting = self._renewed(session, account), self._waiting(session, account)
            views = []
            for row in rows:
                if row.other_id in people:
                    views.append(self._view(session, account, row, people[row.other_id], renewed, waiting))
        return sorted(views, key=lambda view: view.username)

    def view(self, account: UnlockedAccount, username: str) -> ContactView:
        """Show one of whom one knows; raises ``NotFound`` for anybody else."""
        with self._transactions.reading(account.user_id) as session:
            person = self._find(session, account, username)
            row = session.scalar(
                select(Contact).where(Contact.user_id == account.user_id, Contact.other_id == person.id)
            )
            if row is None:
                raise NotFound("You do not know this person yet.")
            renewed, waiting = self._renewed(session, account), self._waiting(session, account)
            return self._view(session, account, row, person, renewed, waiting)

    def _people(self, session: Session, user_ids: set[bytes]) -> dict[bytes, Person]:
        """Load people; one whose key nobody vouches for hides himself, and nobody else."""
        try:
            return self._contacts.people(session, user_ids)
        except Unreadable:
            found = {}
            for user_id in user_ids:
                try:
                    found[user_id] = self._contacts.person(session, user_id)
                except Unreadable:
                    continue
            return found

    def _find(self, session: Session, account: UnlockedAccount, username: str) -> Person:
        user = session.scalar(select(User).where(User.username == (fold_username(username) or "")))
        if user is None or user.id == account.user_id:
            raise NotFound("You do not know this person yet.")
        return self._contacts.person(session, user.id)

    def _renewed(self, session: Session, account: UnlockedAccount) -> dict[bytes, datetime]:
        rows = session.scalars(
            select(Notice).where(Notice.user_id == account.user_id, Notice.kind == KEY_RENEWED)
        )
        return {row.other_id: row.created_at for row in rows if row.other_id is not None}

    def _waiting(self, session: Session, account: UnlockedAccount) -> dict[bytes, int]:
        counted: dict[bytes, int] = {}
        for row in session.scalars(select(Work).where(Work.user_id == account.user_id, Work.kind == WAITING)):
            if row.other_id is not None:
                counted[row.other_id] = counted.get(row.other_id, 0) + 1
        return counted

    def _view(
        self,
        session: Session,
        account: UnlockedAccount,
        row: Contact,
        person: Person,
        renewed: dict[bytes, datetime],
        waiting: dict[bytes, int],
    ) -> ContactView:
        known = open_contact(
            account.account_key, row.sealed_fingerprint, user=account.user_id, other=person.id
        )
        shown = person.public.fingerprint
        leads = known == shown or self._contacts.lineage(session, person.id).leads(known, shown)
        at = renewed.get(person.id)
        return ContactView(
            person.username,
            CHANGED if not leads else KNOWN if known == shown and at is None else RENEWED,
            fingerprint_words(shown),
            fingerprint_words(known),
            row.created_at,
            at,
            waiting.get(person.id, 0),
        )

    def confirm(self, account: UnlockedAccount, username: str, words: str) -> bytes | None:
        """Remember somebody's present key, whose six words the caller has compared; return the work that waited.

        Raises ``BadInput`` when ``words`` are not those of the present key, ``NotFound`` for who is not known.
        """
        said = " ".join(words.lower().split())

        def act(session: Session) -> bytes | None:
            person = self._find(session, account, username)
            row = session.scalar(
                select(Contact).where(Contact.user_id == account.user_id, Contact.other_id == person.id)
            )
            if row is None:
                raise NotFound("You do not know this person yet.")
            if said != fingerprint_words(person.public.fingerprint):
                raise BadInput(
                    "fingerprint", f"These are not the words of the key that {person.username} has now."
                )
            self._contacts.remember(session, account, person.id, person.public.fingerprint)
            self._forget_notices(session, account, person.id)
            self._transactions.record(
                Event("contact_confirmed", account.user_id, "user", account.user_id, subject_id=person.id)
            )
            return self._begin_wraps(session, account, person.id)

        return self._transactions.writing(act, account.user_id)

    def _forget_notices(self, session: Session, account: UnlockedAccount, other_id: bytes) -> None:
        for row in session.scalars(
            select(Notice).where(
                Notice.user_id == account.user_id, Notice.kind == KEY_RENEWED, Notice.other_id == other_id
            )
        ):
            session.delete(row)

    def _begin_wraps(self, session: Session, account: UnlockedAccount, other_id: bytes) -> bytes | None:
        under_way = session.scalar(
            select(Work).where(Work.user_id == account.user_id, Work.kind == KIND, Work.other_id == other_id)
        )
        if under_way is not None:
            return under_way.id
        waiting = self._waiting(session, account).get(other_id, 0)
        return work.begin(session, account, KIND, waiting, other_id=other_id).id if waiting else None


class Wraps:
    """Do the wraps that waited for a confirmed key."""

    def __init__(self, transactions: Transactions, gate: Gate, contacts: Contacts) -> None:
        self._transactions = transactions
        self._gate = gate
        self._contacts = contacts

    def advance(self, account: UnlockedAccount, work_id: bytes, until: float) -> None:
        """Wrap some keys; a document that does not open, and a wrap that its owner did not let wait, stays as it is."""
        while True:
            failures: list[tuple[Unreadable, bytes]] = []
            more = self._transactions.writing(
                lambda session, found=failures: self._some(session, account, work_id, until, found),  # type: ignore[misc]
                account.user_id,
            )
            for failure, document_id in failures:
                self._transactions.record_unreadable(failure, account.user_id, ("document", document_id))
            if not more or time.monotonic() >= until:
                return

    def _some(
        self,
        session: Session,
        account: UnlockedAccount,
        work_id: bytes,
        until: float,
        failures: list[tuple[Unreadable, bytes]],
    ) -> bool:
        failures.clear()
        row = work.locked(session, account, work_id)
        at = work.position(row)
        waiting = session.scalars(
            select(Work)
            .where(Work.user_id == account.user_id, Work.kind == WAITING, Work.other_id == row.other_id)
            .where(Work.id > at.place)
            .order_by(Work.id)
            .limit(AT_ONCE)
        ).all()
        for waits in waiting:
            try:
                self._wrap(session, account, waits)
            except Unreadable as unreadable:
                failures.append((unreadable, waits.document_id or b""))
                at = at._replace(failed=at.failed + 1)
            except KeyChanged:
                waiting = []  # it has changed once more: all of it waits again
                break
            else:
                session.delete(waits)
                at = at._replace(done=at.done + 1)
            at = at._replace(place=waits.id)
            if time.monotonic() >= until:
                break
        self._transactions.record(
            Event("wraps_done", account.user_id, "user", account.user_id, subject_id=row.other_id)
        )
        if waiting:
            work.move(row, at)
        else:
            session.delete(row)
        return bool(waiting)

    def _wrap(self, session: Session, account: UnlockedAccount, waits: Work) -> None:
        terms, place = terms_of(account, waits), place_of(waits)
        held = self._gate.find(session, account, place["document"], Need.OWN, lock=True)
        opened = self._gate.open(session, account, held)
        if terms.epoch != held.document.epoch:
            raise Unreadable("wrap:epoch", "document", held.document.id)
        present = select(func.count()).where(
            SharedKeyRegistry.version_id == opened.version_id, SharedKeyRegistry.reader_id == place["reader"]
        )
        is_over = terms.expires_at is not None and terms.expires_at <= clock.now()
        if is_over or session.connection().execute(present).scalar_one():
            return
        person = self._contacts.people(session, {place["reader"]}, hold=True)[place["reader"]]
        self._contacts.meet(session, account, person)
        new = grant(
            account, person, opened.manifest, opened.dek, terms.epoch, READ, terms.expires_at,
            since=terms.since, came_at=clock.now(),
        )  # fmt: skip
        session.add(new)
        held.document.readers += 1
        self._transactions.record(
            Event("share", account.user_id, "document", held.document.id, subject_id=person.id)
        )
