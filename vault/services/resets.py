"""Reset my keys: a way back in for somebody who has lost passphrase and recovery code. It opens nothing.

An administrator, or the operator, makes a code for one person, as for an invitation; whoever uses it gets new keys, and
all that was under the old ones is gone. So an administrator who used the code himself would read nothing; and he would
be seen: the code is announced to its person and ends with his next login, the chain of the audit log names who made
it, and everybody who has met the person is shown another fingerprint before he shares again.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from vault.crypto.keypairs import PrivateKeys, generate_keys
from vault.crypto.masterkey import MasterKeys
from vault.crypto.passphrase import KdfParameters, fingerprint_words, generate_passphrase
from vault.crypto.randomness import new_secret
from vault.errors import BadInput, CodeInvalid, NotFound
from vault.models import Document, Invitation, SharedKeyRegistry, User
from vault.services import passphrases, seals
from vault.services.access import READ
from vault.services.accounts import Registered, key_row, passphrase_method, require_admin
from vault.services.audit import Event
from vault.services.deletion import begin_purge, forget_secrets, purge, retire_keys
from vault.services.invitations import Invitations, Invited
from vault.services.notices import RESET_BEGUN, notify
from vault.services.transactions import Transactions
from vault.services.unlocked import UnlockedAccount
from vault.services.usernames import fold_username


@dataclass(frozen=True)
class Loss:
    """What a reset costs: whose account, how many documents are destroyed, and who can share how many again."""

    username: str
    expires_at: datetime
    documents: int
    read_by_others: int
    received: int
    owners: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Reset(Registered):
    """An account with new keys, the passphrase that is shown this once, and whom to ask for what was shared."""

    owners: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class _Fresh:
    """New keys and a new passphrase, made before the transaction begins."""

    account_key: bytes = field(repr=False)
    passphrase: str = field(repr=False)
    parameters: KdfParameters
    kek: bytes = field(repr=False)
    keys: PrivateKeys = field(repr=False)


class Resets:
    """Begin and use resets."""

    def __init__(
        self, transactions: Transactions, master: MasterKeys, invitations: Invitations, *, rsa_bits: int
    ) -> None:
        self._transactions = transactions
        self._master = master
        self._invitations = invitations
        self._rsa_bits = rsa_bits

    def begin(self, account: UnlockedAccount | None, username: str) -> Invited:
        """Make a code, good for 7 days and one use, with which somebody sets up new keys; he is told at a login.

        Raises ``NotFound``, and ``BadInput`` for one's own account: whoever is logged in has not lost everything.
        """
        require_admin(account)
        folded, actor = fold_username(username) or "", account.user_id if account else None
        if account is not None and folded == account.username:
            raise BadInput("username", "You are logged in, so you have not lost your keys.")

        def work(session: Session) -> Invited:
            user = session.scalar(select(User).where(User.username == folded).with_for_update())
            if user is None or user.state == "deleted":
                raise NotFound("There is no such account.")
            made = self._invitations.add_reset(session, folded, account)
            notify(session, user.id, RESET_BEGUN, actor)
            self._transactions.record(
                Event("reset_begun", actor, "invitation", made.invitation.id, subject_id=user.id)
            )
            return made

        return self._transactions.writing(work, actor)

    def look_up(self, code: str) -> Loss:
        """Tell what using a code would cost, without using it; raises ``CodeInvalid``."""
        with self._transactions.reading() as session:
            found = self._invitations.find_reset(session, code)
            user = self._user(session, found)
            owners = self._owners(session, user)
            return Loss(
                user.username,
                found.expires_at,
                user.documents,
                self._read_by_others(session, user),
                sum(owners.values()),
                tuple(sorted(owners.items())),
            )

    def _user(self, session: Session, found: Invitation, *, lock: bool = False) -> User:
        statement = select(User).where(User.username == found.username)
        user = session.scalar(statement.with_for_update() if lock else statement)
        if user is None or user.state == "deleted":
            raise CodeInvalid
        return user

    def _read_by_others(self, session: Session, user: User) -> int:
        statement = select(*seals.columns(Document)).where(Document.owner_id == user.id, Document.readers > 0)
        found = [row for (row,) in seals.verified_rows(session, statement, Document)]
        return sum(not isinstance(row, seals.Refusal) and row.readers > 0 for row in found)

    def _owners(self, session: Session, user: User) -> Counter[str]:
        """Count what others share with a user, by their names; what cannot be believed is not counted."""
        statement = (
            select(*seals.columns(SharedKeyRegistry, User))
            .join(User, User.id == SharedKeyRegistry.granter_id)
            .where(SharedKeyRegistry.reader_id == user.id, SharedKeyRegistry.permission == READ)
        )
        owners: Counter[str] = Counter()
        for rows in seals.verified_rows(session, statement, SharedKeyRegistry, User):
            if not any(isinstance(row, seals.Refusal) for row in rows):
                owners[rows[1].username] += 1
        return owners

    def use(self, code: str, new: str | None = None) -> Reset:
        """Set up new keys and a new passphrase, and destroy what only the old keys opened; the code is spent.

        With ``new`` absent the passphrase is generated. Raises ``CodeInvalid`` and ``BadPassphrase``.
        """
        username = self.look_up(code).username
        if new is not None:
            passphrases.check_own(new, username)
        fresh = self._make(new)
        user_id, owners = self._transactions.writing(lambda session: self._use(session, code, fresh))
        purge(self._transactions)
        words = fingerprint_words(fresh.keys.public.fingerprint)
        return Reset(user_id, username, fresh.passphrase, words, owners)

    def _make(self, new: str | None) -> _Fresh:
        passphrase, parameters = new or generate_passphrase(), KdfParameters.fresh()
        kek = passphrases.derive(passphrase, parameters)
        return _Fresh(new_secret(), passphrase, parameters, kek, generate_keys(self._rsa_bits))

    def _use(self, session: Session, code: str, fresh: _Fresh) -> tuple[bytes, Any]:
        found = self._invitations.find_reset(session, code)
        user, created_by = self._user(session, found, lock=True), found.created_by
        owners = tuple(sorted(self._owners(session, user).items()))
        session.delete(found)
        forget_secrets(session, user)
        retire_keys(session, user)
        user.key_version += 1
        session.add(passphrase_method(self._master, user.id, fresh.account_key, fresh.parameters, fresh.kek))
        session.add(key_row(self._master, user.id, user.key_version, fresh.account_key, fresh.keys))
        begin_purge(session, user, user.key_version)
        notify(session, user.id, "keys_reset", created_by)
        self._transactions.record(Event("keys_reset", user.id, "user", user.id, subject_id=created_by))
        return user.id, owners
