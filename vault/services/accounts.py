"""Accounts: registration, passphrase change, state and role.

The passphrase is made here, returned once to whoever registers, and never stored: the database keeps the account key
under the key that Argon2id makes of it, and under the master key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from vault.crypto.accounts import (
    directory_mac,
    open_account_key,
    seal_account_key,
    seal_private_keys,
    seal_session,
)
from vault.crypto.keypairs import PrivateKeys, generate_keys
from vault.crypto.masterkey import MasterKeys
from vault.crypto.passphrase import KdfParameters, fingerprint_words, generate_passphrase
from vault.crypto.randomness import new_id, new_secret
from vault.errors import (
    AccountDisabled,
    BadInput,
    Conflict,
    Forbidden,
    NameTaken,
    NotFound,
    Unreadable,
    WrongLogin,
)
from vault.models import EPOCH, LoginSession, UnlockMethod, User, UserKey
from vault.services import clock, passphrases, seals, throttle
from vault.services.audit import Event
from vault.services.invitations import Invitations
from vault.services.transactions import Transactions
from vault.services.unlocked import UnlockedAccount
from vault.services.usernames import fold_username, new_username


def parameters_of(method: UnlockMethod) -> KdfParameters:
    """Read the Argon2id parameters of a row; raises ``Unreadable`` outside floor and ceiling, before any work (P1)."""
    parameters = KdfParameters(method.memory_kib, method.iterations, method.lanes, method.salt)
    try:
        parameters.check()
    except Unreadable as unreadable:
        raise Unreadable("kdf:bounds", "unlock_method", method.id) from unreadable
    return parameters


@dataclass(frozen=True)
class Registered:
    """A new account, with the passphrase that is shown this once."""

    user_id: bytes
    username: str
    passphrase: str = field(repr=False)
    fingerprint_words: str


@dataclass(frozen=True)
class AccountView:
    id: bytes
    username: str
    role: str
    state: str
    created_at: datetime
    last_login_at: datetime | None
    stored_bytes: int
    documents: int
    readable: bool = True
    """Whether the row bears its seal; without it nothing but the id is told."""


@dataclass(frozen=True)
class _NewAccount:
    """Everything about an account that takes long to make, made before the transaction begins."""

    user_id: bytes
    method_id: bytes
    account_key: bytes = field(repr=False)
    passphrase: str = field(repr=False)
    parameters: KdfParameters
    kek: bytes = field(repr=False)
    keys: PrivateKeys = field(repr=False)


class Accounts:
    """Make accounts, and change them."""

    def __init__(
        self,
        transactions: Transactions,
        master: MasterKeys,
        invitations: Invitations,
        *,
        registration: str,
        rsa_bits: int,
    ) -> None:
        self._transactions = transactions
        self._master = master
        self._invitations = invitations
        self._registration = registration
        self._rsa_bits = rsa_bits

    def registration_open(self) -> bool:
        """Tell whether somebody without a code may register."""
        return self._registration == "open"

    def register(self, username: str, code: str | None = None) -> Registered:
        """Make an account with two fresh key pairs and return its passphrase, which is never to be had again.

        Raises ``BadInput``, ``NameTaken``, ``CodeInvalid``, and ``Forbidden`` when registration needs a code.
        """
        folded = new_username(username)
        self._transactions.writing(lambda session: self._may_register(session, folded, code, use=False))
        new = self._make()
        self._transactions.writing(lambda session: self._insert(session, folded, code, new))
        return Registered(new.user_id, folded, new.passphrase, fingerprint_words(new.keys.public.fingerprint))

    def _may_register(self, session: Session, username: str, code: str | None, *, use: bool) -> str:
        """Check code and name; return the role. With ``use`` the code is spent."""
        role = "user"
        if code:
            kind = self._invitations.check(session, code, username, use=use)
            if self._registration == "closed" and kind != "setup":
                raise Forbidden("Registration is closed.")
            role = "admin" if kind == "setup" else "user"
        elif self._registration != "open":
            raise Forbidden("Registration needs an invitation. Ask an administrator for one.")
        if session.scalar(select(User).where(User.username == username)) is not None:
            raise NameTaken
        return role

    def _make(self) -> _NewAccount:
        passphrase, parameters = generate_passphrase(), KdfParameters.fresh()
        kek = passphrases.derive(passphrase, parameters)
        return _NewAccount(
            new_id(), new_id(), new_secret(), passphrase, parameters, kek, generate_keys(self._rsa_bits)
        )

    def _insert(self, session: Session, username: str, code: str | None, new: _NewAccount) -> None:
        role = self._may_register(session, username, code, use=True)
        session.add(
            User(
                id=new.user_id,
                username=username,
                role=role,
                state="active",
                credential_generation=1,
                key_version=1,
                stored_bytes=0,
                documents=0,
                created_at=clock.now(),
                last_login_at=None,
                previous_login_at=None,
                device_mac=None,
            )
        )
        session.flush()
        session.add(self._method_row(new))
        session.add(self._key_row(new))
        self._transactions.record(Event("register", new.user_id, "user", new.user_id, detail=role))

    def _method_row(self, new: _NewAccount) -> UnlockMethod:
        return UnlockMethod(
            id=new.method_id,
            user_id=new.user_id,
            kind="passphrase",
            memory_kib=new.parameters.memory_kib,
            iterations=new.parameters.iterations,
            lanes=new.parameters.lanes,
            salt=new.parameters.salt,
            master_key_id=self._master.key_id,
            sealed_account_key=seal_account_key(
                self._master,
                new.kek,
                new.account_key,
                user=new.user_id,
                method=new.method_id,
                kind="passphrase",
                parameters=new.parameters,
            ),
            created_at=clock.now(),
        )

    def _key_row(self, new: _NewAccount) -> UserKey:
        public = new.keys.public
        wrap, sign = seal_private_keys(new.account_key, new.keys, user=new.user_id, key_version=1)
        return UserKey(
            id=new_id(),
            user_id=new.user_id,
            version=1,
            wrap_public=public.wrap_der,
            sign_public=public.sign_der,
            fingerprint=public.fingerprint,
            directory_key_id=self._master.key_id,
            directory_mac=directory_mac(
                self._master, user=new.user_id, key_version=1, fingerprint=public.fingerprint
            ),
            sealed_wrap_private=wrap,
            sealed_sign_private=sign,
            statement=None,
            created_at=clock.now(),
            retired_at=None,
        )

    def change_passphrase(self, account: UnlockedAccount, current: str, new: str | None = None) -> str:
        """Seal the account key under a new passphrase, end every other session, and return the new passphrase.

        With ``new`` absent one is generated. Raises ``WrongLogin`` when ``current`` is not right, ``BadPassphrase``
        when the new one is too weak. No document is touched.
        """
        if new is not None:
            passphrases.check_own(new, account.username)
        self._prove(account, current)
        chosen, parameters = new or generate_passphrase(), KdfParameters.fresh()
        kek = passphrases.derive(chosen, parameters)
        self._transactions.writing(
            lambda session: self._replace_method(session, account, parameters, kek), account.user_id
        )
        return chosen

    def _prove(self, account: UnlockedAccount, passphrase: str) -> None:
        """Open the account key with ``passphrase`` once more, as changes that matter ask for; guesses are counted."""
        attempts = self._transactions.writing(
            lambda session: throttle.count_attempt(session, self._master, name=account.username, address=None)
        )
        with self._transactions.reading(account.user_id) as session:
            method = self._passphrase_method(session, account)
            parameters, key_id, sealed = (
                parameters_of(method),
                method.master_key_id,
                method.sealed_account_key,
            )
            method_id, kind = method.id, method.kind
        kek = passphrases.derive(passphrase, parameters)
        try:
            open_account_key(
                self._master, key_id, kek, sealed,
                user=account.user_id, method=method_id, kind=kind, parameters=parameters,
            )  # fmt: skip
        except Unreadable as unreadable:
            self._transactions.record_alone(
                Event("passphrase_change", account.user_id, "user", account.user_id, succeeded=False)
            )
            raise WrongLogin("This is not your current passphrase.") from unreadable
        self._transactions.writing(lambda session: throttle.take_back(session, attempts))

    def _passphrase_method(self, session: Session, account: UnlockedAccount) -> UnlockMethod:
        return session.scalars(
            select(UnlockMethod)
            .where(UnlockMethod.user_id == account.user_id, UnlockMethod.kind == "passphrase")
            .with_for_update()
        ).one()

    def _replace_method(
        self, session: Session, account: UnlockedAccount, parameters: KdfParameters, kek: bytes
    ) -> None:
        user = self._locked(session, account.user_id)
        if user.state != "active" or user.credential_generation != account.generation:
            raise AccountDisabled
        method = self._passphrase_method(session, account)
        method.memory_kib, method.iterations = parameters.memory_kib, parameters.iterations
        method.lanes, method.salt = parameters.lanes, parameters.salt
        method.master_key_id = self._master.key_id
        method.sealed_account_key = seal_account_key(
            self._master, kek, account.account_key,
            user=account.user_id, method=method.id, kind=method.kind, parameters=parameters,
        )  # fmt: skip
        # A new generation: a session's row that is put back afterwards is no session (P7).
        user.credential_generation += 1
        for row in session.scalars(select(LoginSession).where(LoginSession.user_id == account.user_id)):
            if row.id == account.session_id:
                self._carry_over(row, account, user.credential_generation)
            else:
                session.delete(row)
        user.device_mac = None
        self._transactions.record(Event("passphrase_change", account.user_id, "user", account.user_id))

    def _carry_over(self, row: LoginSession, account: UnlockedAccount, generation: int) -> None:
        row.credential_generation = generation
        row.master_key_id = self._master.key_id
        row.sealed_account_key = seal_session(
            self._master, account.secret, account.account_key,
            session=row.id, user=row.user_id,
            created_at=row.created_at, expires_at=row.expires_at, generation=generation,
        )  # fmt: skip

    def _locked(self, session: Session, user_id: bytes) -> User:
        return session.scalars(select(User).where(User.id == user_id).with_for_update()).one()

    def suggest(self, account: UnlockedAccount, prefix: str) -> list[str]:
        """List at most ten active users whose names begin with ``prefix`` (two characters or more)."""
        start = prefix.strip().lower()
        if len(start) < 2 or not re.fullmatch(r"[a-z0-9._-]+", start):
            return []
        with self._transactions.reading(account.user_id) as session:
            users = session.scalars(
                select(User)
                .where(User.username.startswith(start, autoescape=True), User.state == "active")
                .where(User.id != account.user_id)
                .order_by(User.username)
                .limit(10)
            ).all()
            return [user.username for user in users]

    # What follows is for administrators. None of it opens a document.

    def list_accounts(self, account: UnlockedAccount | None) -> list[AccountView]:
        """List every account by name; ``account`` must be an administrator, or ``None`` for the operator."""
        self._require_admin(account)
        with self._transactions.reading() as session:
            statement = select(*seals.columns(User)).order_by(User.username)
            return [_account_view(row) for (row,) in seals.verified_rows(session, statement, User)]

    def change(
        self,
        account: UnlockedAccount | None,
        username: str,
        *,
        state: str | None = None,
        role: str | None = None,
    ) -> None:
        """Disable or enable an account, make its user an administrator or an ordinary user again.

        Disabling ends its sessions at once, in every worker. Raises ``NotFound``, and ``Conflict`` where no active
        administrator would be left.
        """
        self._require_admin(account)
        if state not in {"active", "disabled", None}:
            raise BadInput("state", "The state is active or disabled.")
        if role not in {"admin", "user", None}:
            raise BadInput("role", "The role is admin or user.")
        actor = account.user_id if account else None

        def work(session: Session) -> None:
            admins = session.scalars(select(User).where(User.role == "admin").with_for_update()).all()
            user = session.scalar(
                select(User).where(User.username == (fold_username(username) or "")).with_for_update()
            )
            if user is None:
                raise NotFound("There is no such account.")
            self._apply(session, user, state, role)
            if admins and not any(admin.role == "admin" and admin.state == "active" for admin in admins):
                raise Conflict("The last administrator must stay one, and active.")
            self._transactions.record(
                Event("account_change", actor, "user", user.id, detail=f"{user.role} {user.state}")
            )

        self._transactions.writing(work, actor)

    def set_state(self, account: UnlockedAccount | None, username: str, state: str) -> None:
        """Disable or enable an account; see ``change``."""
        self.change(account, username, state=state)

    def set_role(self, account: UnlockedAccount | None, username: str, role: str) -> None:
        """Promote or demote somebody; see ``change``."""
        self.change(account, username, role=role)

    def _apply(self, session: Session, user: User, state: str | None, role: str | None) -> None:
        if role is not None:
            user.role = role
        if state is not None and state != user.state:
            user.state = state
            user.credential_generation += 1
            for row in session.scalars(select(LoginSession).where(LoginSession.user_id == user.id)):
                session.delete(row)

    def _require_admin(self, account: UnlockedAccount | None) -> None:
        if account is not None and not account.is_admin:
            raise Forbidden("Only an administrator may do this.")


def _account_view(user: Any) -> AccountView:
    if isinstance(user, seals.Refusal):
        user_id = getattr(user, "object_id", None) or b""
        return AccountView(user_id, "?", "user", "unreadable", EPOCH, None, 0, 0, readable=False)
    return AccountView(
        user.id, user.username, user.role, user.state, user.created_at, user.last_login_at, user.stored_bytes,
        user.documents,
    )  # fmt: skip
