"""The directory of public keys, and what each person remembers of the others.

A public key counts only when the directory's HMAC over user, version and fingerprint fits (attack K2), and when the
fingerprint is the one that the asking person met first: a contact, sealed under his own account key, which nobody
with the database and the master key can rewrite.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from vault.crypto.accounts import check_directory_mac, open_contact, seal_contact
from vault.crypto.keypairs import PublicKeys
from vault.crypto.masterkey import MasterKeys
from vault.crypto.passphrase import fingerprint_words
from vault.crypto.randomness import new_id
from vault.errors import KeyChanged, KeyUnavailable, Unreadable
from vault.models import Contact, User, UserKey
from vault.services import clock, seals
from vault.services.unlocked import UnlockedAccount, hold


@dataclass(frozen=True, eq=False)
class Person:
    """A user together with a public key of his that the directory vouches for."""

    id: bytes
    username: str
    state: str
    key_version: int
    public: PublicKeys


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

    def __init__(self, master: MasterKeys) -> None:
        self._master = master

    def people(self, session: Session, user_ids: set[bytes]) -> dict[bytes, Person]:
        """Load the current keys of these users; raises ``Unreadable`` for one that the directory does not vouch for."""
        found: dict[bytes, Person] = {}
        ids = sorted(user_ids)
        for start in range(0, len(ids), 500):
            statement = (
                select(*seals.columns(User, UserKey))
                .join(UserKey, (UserKey.user_id == User.id) & (UserKey.version == User.key_version))
                .where(User.id.in_(ids[start : start + 500]))
            )
            for row in seals.verified_rows(session, statement, User, UserKey):
                user, key = seals.believed(row[0]), seals.believed(row[1])
                public = verified_public(self._master, key)
                found[user.id] = Person(user.id, user.username, user.state, key.version, public)
        if len(found) != len(user_ids):
            raise Unreadable("directory:missing")
        return found

    def person(self, session: Session, user_id: bytes) -> Person:
        """Load one user's current keys."""
        return self.people(session, {user_id})[user_id]

    def public_at(self, session: Session, user_id: bytes, key_version: int) -> PublicKeys:
        """Load the keys that a user had at ``key_version``; raises ``Unreadable`` when there are none."""
        key = session.scalar(
            select(UserKey).where(UserKey.user_id == user_id, UserKey.version == key_version)
        )
        if key is None:
            raise Unreadable("directory:version", "user", user_id)
        return verified_public(self._master, key)

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

        Raises ``KeyChanged`` when they differ. The caller is in a writing transaction.
        """
        met = self.compare(session, account, *people)
        for person in people:
            if person.id in met:
                continue
            hold(session, account)
            sealed = seal_contact(
                account.account_key, person.public.fingerprint, user=account.user_id, other=person.id
            )
            session.add(
                Contact(
                    id=new_id(),
                    user_id=account.user_id,
                    other_id=person.id,
                    sealed_fingerprint=sealed,
                    created_at=clock.now(),
                )
            )

    def compare(self, session: Session, account: UnlockedAccount, *people: Person) -> set[bytes]:
        """Return the ids of those who were met before; raises ``KeyChanged`` when a fingerprint is another one."""
        known = self.remembered(session, account, [person.id for person in people])
        for person in people:
            if person.id in known and known[person.id] != person.public.fingerprint:
                raise KeyChanged(person.username)
        return set(known)
