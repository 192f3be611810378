"""The directory of public keys, and what each person remembers of the others.

A public key counts only when the directory's HMAC over user, version and fingerprint fits (attack K2), and when the
fingerprint is the one that the asking person met first: a contact, sealed under his own account key, which nobody
with the database and the master key can rewrite. A pair that was changed by its owner carries his statement, signed
with the pair before it: that alone leads from a remembered fingerprint to another one without a person's word.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from vault.crypto.accounts import check_directory_mac, open_contact, seal_contact
from vault.crypto.keypairs import PublicKeys, verify_statement
from vault.crypto.masterkey import MasterKeys
from vault.crypto.passphrase import fingerprint_words
from vault.crypto.randomness import new_id
from vault.errors import KeyChanged, KeyUnavailable, Unreadable
from vault.models import Contact, Notice, User, UserKey
from vault.services import clock, seals
from vault.services.audit import Event
from vault.services.unlocked import OwnKeys, UnlockedAccount, hold

KEY_RENEWED = "key_renewed"
"""The kind of notice that tells of somebody's new key, which his old one vouches for."""


@dataclass(frozen=True, eq=False)
class Person:
    """A user together with a public key of his that the directory vouches for."""

    id: bytes
    username: str
    state: str
    key_version: int
    public: PublicKeys
    is_stated: bool = False
    """Whether the pair before this one vouches for it."""


class Lineage:
    """All pairs that a user ever had, oldest first, each vouched for by the directory."""

    def __init__(self, user_id: bytes, keys: Sequence[Any], publics: Sequence[PublicKeys]) -> None:
        self._user_id = user_id
        self._keys = keys
        self._publics = publics

    def leads(self, old: bytes, new: bytes) -> bool:
        """Tell whether statements lead from one fingerprint to another, or the two are the same; only forward."""
        at = self._place(old)
        while at is not None and self._keys[at].fingerprint != new:
            at = self._next(at)
        return at is not None

    def settled(self, fingerprint: bytes) -> bytes:
        """Return what to remember in the place of ``fingerprint``: the first pair on from there that is not retired.

        As long as a former pair still signs, who remembers it goes on to remember it: nothing ever leads back.
        """
        at = self._place(fingerprint)
        while at is not None and self._keys[at].retired_at is not None:
            at = self._next(at)
        return fingerprint if at is None else bytes(self._keys[at].fingerprint)

    def first_to_remember(self, fingerprint: bytes) -> bytes:
        """Return what who never met this user remembers: the oldest pair that still signs and leads to this one."""
        for key in self._keys:
            if key.retired_at is None and self.leads(key.fingerprint, fingerprint):
                return bytes(key.fingerprint)
        return fingerprint

    def at(self, key_version: int) -> PublicKeys | None:
        """Return the pair of this version, unless there is none or it is retired: then its signatures are refused."""
        for key, public in zip(self._keys, self._publics, strict=True):
            if key.version == key_version and key.retired_at is None:
                return public
        return None

    def _place(self, fingerprint: bytes) -> int | None:
        return next((at for at, key in enumerate(self._keys) if key.fingerprint == fingerprint), None)

    def _next(self, at: int) -> int | None:
        if at + 1 == len(self._keys) or not self._keys[at + 1].statement:
            return None
        old, new = self._keys[at], self._keys[at + 1]
        try:
            verify_statement(
                self._publics[at],
                new.statement,
                user=self._user_id,
                old_key_version=old.version,
                new_key_version=new.version,
                new_fingerprint=new.fingerprint,
            )
        except Unreadable:
            return None
        return at + 1


@dataclass(frozen=True)
class Described:
    """A user as a page shows him; the words are empty where the directory does not vouch for his key."""

    username: str
    fingerprint_words: str


def verified_public(master: MasterKeys, key: UserKey) -> PublicKeys:
    """Build the public keys of a row; raises ``Unreadable`` when the directory does not vouch for them."""
    public = PublicKeys(key.wrap_public, key.sign_public)
    if public.fingerprint != key.fingerprint:
        raise Unreadable("directory:fingerprint", "user", key.user_id)
    check_directory_mac(
        master,
        key.directory_key_id,
        key.directory_mac,
        user=key.user_id,
        key_version=key.version,
        fingerprint=key.fingerprint,
    )
    return public


class Contacts:
    """Look people up, and compare their fingerprints with the remembered ones."""

    def __init__(self, master: MasterKeys, record: Callable[[Event], None]) -> None:
        self._master = master
        self._record = record

    def people(self, session: Session, user_ids: set[bytes], *, hold: bool = False) -> dict[bytes, Person]:
        """Load the current keys of these users; raises ``Unreadable`` for one that the directory does not vouch for.

        With ``hold``, which who wraps for them needs, the keys stay the current ones until the commit.
        """
        found: dict[bytes, Person] = {}
        ids = sorted(user_ids)
        if hold:
            hold_keys(session, ids)
        for start in range(0, len(ids), 500):
            statement = (
                select(*seals.columns(User, UserKey))
                .join(UserKey, (UserKey.user_id == User.id) & (UserKey.version == User.key_version))
                .where(User.id.in_(ids[start : start + 500]))
            )
            for row in seals.verified_rows(session, statement, User, UserKey):
                user, key = seals.believed(row[0]), seals.believed(row[1])
                public = verified_public(self._master, key)
                stated = key.statement is not None
                found[user.id] = Person(user.id, user.username, user.state, key.version, public, stated)
        if len(found) != len(user_ids):
            raise Unreadable("directory:missing")
        return found

    def person(self, session: Session, user_id: bytes) -> Person:
        """Load one user's current keys."""
        return self.people(session, {user_id})[user_id]

    def lineage(self, session: Session, user_id: bytes) -> Lineage:
        """Load every pair that a user ever had; raises ``Unreadable`` for one that the directory does not vouch for."""
        statement = (
            select(*seals.columns(UserKey)).where(UserKey.user_id == user_id).order_by(UserKey.version)
        )
        keys = [seals.believed(row) for (row,) in seals.verified_rows(session, statement, UserKey)]
        return Lineage(user_id, keys, [verified_public(self._master, key) for key in keys])

    def person_at(self, session: Session, user_id: bytes, key_version: int) -> Person:
        """Load a user with the pair that he signed with; raises ``Unreadable`` for one that no longer counts."""
        person = self.person(session, user_id)
        if person.key_version == key_version:
            return person
        public = self.lineage(session, user_id).at(key_version)
        if public is None:
            raise Unreadable("directory:version", "user", user_id)
        return Person(user_id, person.username, person.state, key_version, public)

    def take_own_keys(self, session: Session, account: UnlockedAccount, *, hold: bool = False) -> None:
        """Give an account the pairs of its own that count now; see ``people`` for ``hold``.

        The pair may have been changed since the request began: what is signed with a retired one would be lost.
        """
        if hold:
            hold_keys(session, [account.user_id])
        statement = (
            select(*seals.columns(UserKey))
            .where(UserKey.user_id == account.user_id, UserKey.retired_at.is_(None))
            .order_by(UserKey.version)
        )
        found = seals.verified_rows(session, statement, UserKey)
        keys = [seals.believed(row) for (row,) in found]
        if not keys:
            raise Unreadable("own-key:missing", "user", account.user_id)
        account.take_keys([self.own_keys(key) for key in keys])

    def own_keys(self, key: UserKey) -> OwnKeys:
        """Make of one's own key row what an account holds."""
        public = verified_public(self._master, key)
        return OwnKeys(key.version, public, key.sealed_wrap_private, key.sealed_sign_private)

    def usernames(self, session: Session, user_ids: set[bytes]) -> dict[bytes, str]:
        """Name these users, for lists; one whose row does not bear its seal is left out."""
        names: dict[bytes, str] = {}
        ids = sorted(user_ids)
        for start in range(0, len(ids), 500):
            statement = select(*seals.columns(User)).where(User.id.in_(ids[start : start + 500]))
            for (user,) in seals.verified_rows(session, statement, User):
                if not isinstance(user, seals.Refusal):
                    names[user.id] = user.username
        return names

    def described(self, session: Session, user_ids: set[bytes]) -> dict[bytes, Described]:
        """Name these users with their fingerprints, to be shown: somebody's edited key must not hide a document."""
        found = dict.fromkeys(user_ids, Described("?", ""))
        ids = sorted(user_ids)
        for start in range(0, len(ids), 500):
            statement = (
                select(*seals.columns(User, UserKey))
                .join(UserKey, (UserKey.user_id == User.id) & (UserKey.version == User.key_version))
                .where(User.id.in_(ids[start : start + 500]))
            )
            for user, key in seals.verified_rows(session, statement, User, UserKey):
                if not isinstance(user, seals.Refusal):
                    found[user.id] = Described(user.username, self._words(key))
        return found

    def _words(self, key: UserKey | Unreadable | KeyUnavailable) -> str:
        try:
            if isinstance(key, seals.Refusal):
                raise key
            return fingerprint_words(verified_public(self._master, key).fingerprint)
        except seals.Refusal:
            return ""

    def remembered(
        self, session: Session, account: UnlockedAccount, others: Sequence[bytes]
    ) -> dict[bytes, bytes]:
        """Return the fingerprints of ``others`` as this account first met them; who was never met is not in it."""
        found: dict[bytes, bytes] = {}
        for start in range(0, len(others), 500):
            statement = select(Contact).where(
                Contact.user_id == account.user_id, Contact.other_id.in_(others[start : start + 500])
            )
            for contact in session.scalars(statement):
                found[contact.other_id] = open_contact(
                    account.account_key,
                    contact.sealed_fingerprint,
                    user=account.user_id,
                    other=contact.other_id,
                )
        return found

    def meet(self, session: Session, account: UnlockedAccount, *people: Person) -> None:
        """Compare each person's fingerprint with the remembered one, or remember it when it is the first.

        Raises ``KeyChanged`` when they differ and no statement leads from the one to the other; where one does, and
        the old pair is retired, the new one is remembered with a notice. The caller is in a writing transaction.
        """
        met = self.compare(session, account, *people)
        for person in people:
            if person.id not in met:
                fingerprint = person.public.fingerprint
                if person.is_stated:
                    fingerprint = self.lineage(session, person.id).first_to_remember(fingerprint)
                self.remember(session, account, person.id, fingerprint)
            elif self.is_behind(session, person, met[person.id]):
                settled = self.lineage(session, person.id).settled(met[person.id])
                self.remember(session, account, person.id, settled)
                self._tell_of_renewal(session, account, person.id)

    def remember(
        self, session: Session, account: UnlockedAccount, other_id: bytes, fingerprint: bytes
    ) -> None:
        """Write whose fingerprint this is, in the place of an older one; whoever calls knows that it is right."""
        hold(session, account)
        sealed = seal_contact(account.account_key, fingerprint, user=account.user_id, other=other_id)
        row = session.scalar(
            select(Contact).where(Contact.user_id == account.user_id, Contact.other_id == other_id)
        )
        if row is not None:
            row.sealed_fingerprint = sealed
            return
        session.add(
            Contact(
                id=new_id(),
                user_id=account.user_id,
                other_id=other_id,
                sealed_fingerprint=sealed,
                created_at=clock.now(),
            )
        )

    def _tell_of_renewal(self, session: Session, account: UnlockedAccount, other_id: bytes) -> None:
        session.add(
            Notice(
                id=new_id(),
                user_id=account.user_id,
                kind=KEY_RENEWED,
                other_id=other_id,
                created_at=clock.now(),
            )
        )
        self._record(Event(KEY_RENEWED, account.user_id, "user", account.user_id, subject_id=other_id))

    def is_behind(self, session: Session, person: Person, known: bytes) -> bool:
        """Tell whether what is remembered of a person is of a pair that he has retired since."""
        if known == person.public.fingerprint:
            return False
        return self.lineage(session, person.id).settled(known) != known

    def compare(self, session: Session, account: UnlockedAccount, *people: Person) -> dict[bytes, bytes]:
        """Return the remembered fingerprints of those who were met before.

        Raises ``KeyChanged`` when one is another than shown, and no statement leads from it to the shown one.
        """
        known = self.remembered(session, account, [person.id for person in people])
        for person in people:
            shown = person.public.fingerprint
            if person.id not in known or known[person.id] == shown:
                continue
            if not self.lineage(session, person.id).leads(known[person.id], shown):
                raise KeyChanged(person.username)
        return known


def hold_keys(session: Session, user_ids: Sequence[bytes]) -> None:
    """Keep the current pairs of these users the current ones until the commit.

    On PostgreSQL by the lock that a reference to a row takes anyway, which a change of the pair waits for; on SQLite
    who writes is alone.
    """
    table = User.__table__
    for start in range(0, len(user_ids), 500):
        some = sorted(user_ids)[start : start + 500]
        statement = select(table.c.id).where(table.c.id.in_(some)).order_by(table.c.id)
        session.connection().execute(statement.with_for_update(read=True, key_share=True)).all()
