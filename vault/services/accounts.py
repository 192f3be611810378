"""Accounts: registration, passphrase change, state and role.

The passphrase is made here, returned once to whoever registers, and never stored: the database keeps the account key
under the key that Argon2id makes of it, and under the master key.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
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
from vault.failpoints import reach
from vault.models import EPOCH, LoginSession, UnlockMethod, User, UserKey
from vault.services import clock, passphrases, seals, throttle
from vault.services.audit import Event
from vault.services.invitations import CLOSED, Invitations
from vault.services.transactions import Transactions
from vault.services.unlocked import UnlockedAccount
from vault.services.usernames import fold_username, new_username


def parameters_of(method: UnlockMethod) -> KdfParameters:
    """Read the Argon2id parameters of a row; raises ``Unreadable`` outside floor and ceiling, before any work (P1)."""
    memory_kib, iterations, lanes, salt = method.memory_kib, method.iterations, method.lanes, method.salt
    if memory_kib is None or iterations is None or lanes is None or salt is None:
        raise Unreadable("kdf:absent", "unlock_method", method.id)
    parameters = KdfParameters(memory_kib, iterations, lanes, salt)
    try:
        parameters.check()
    except Unreadable as unreadable:
        raise Unreadable("kdf:bounds", "unlock_method", method.id) from unreadable
    return parameters


def lock_with(
    master: MasterKeys, method: UnlockMethod, account_key: bytes, parameters: KdfParameters, kek: bytes
) -> None:
    """Seal the account key under a passphrase's KEK, in the row of its method."""
    method.memory_kib, method.iterations = parameters.memory_kib, parameters.iterations
    method.lanes, method.salt = parameters.lanes, parameters.salt
    method.master_key_id = master.key_id
    method.sealed_account_key = seal_account_key(
        master,
        kek,
        account_key,
        user=method.user_id,
        method=method.id,
        kind=method.kind,
        parameters=parameters,
    )


def passphrase_method(
    master: MasterKeys, user_id: bytes, account_key: bytes, parameters: KdfParameters, kek: bytes
) -> UnlockMethod:
    """Make the row of a passphrase that locks an account key."""
    method = UnlockMethod(id=new_id(), user_id=user_id, kind="passphrase", created_at=clock.now())
    lock_with(master, method, account_key, parameters, kek)
    return method


def key_row(
    master: MasterKeys,
    user_id: bytes,
    version: int,
    account_key: bytes,
    keys: PrivateKeys,
    statement: bytes | None = None,
) -> UserKey:
    """Make the row of two key pairs: vouched for by the directory, private halves sealed under the account key."""
    public = keys.public
    wrap, sign = seal_private_keys(account_key, keys, user=user_id, key_version=version)
    return UserKey(
        id=new_id(),
        user_id=user_id,
        version=version,
        wrap_public=public.wrap_der,
        sign_public=public.sign_der,
        fingerprint=public.fingerprint,
        directory_key_id=master.key_id,
        directory_mac=directory_mac(
            master, user=user_id, key_version=version, fingerprint=public.fingerprint
        ),
        sealed_wrap_private=wrap,
        sealed_sign_private=sign,
        statement=statement,
        created_at=clock.now(),
        retired_at=None,
    )


def method_of(session: Session, user_id: bytes, kind: str) -> UnlockMethod | None:
    """Load somebody's unlock method of a kind, for a change; there is one of each at most."""
    return session.scalar(
        select(UnlockMethod)
        .where(UnlockMethod.user_id == user_id, UnlockMethod.kind == kind)
        .with_for_update()
    )


def require_admin(account: UnlockedAccount | None) -> None:
    """Raise ``Forbidden`` unless ``account`` is an administrator's, or ``None``, which is the operator."""
    if account is not None and not account.is_admin:
        raise Forbidden("Only an administrator may do this.")


def keep_an_admin(admins: Sequence[User]) -> None:
    """Raise ``Conflict`` where a change leaves none of those who were administrators one, and active."""
    if admins and not any(admin.role == "admin" and admin.state == "active" for admin in admins):
        raise Conflict("The last administrator must stay one, and active.")


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
            if self._invitations.is_closed and kind != "setup":
                raise Forbidden(CLOSED)
            role = "admin" if kind == "setup" else "user"
        elif self._registration != "open":
            raise Forbidden("Registration needs an invitation. Ask an administrator for one.")
        if session.scalar(select(User).where(User.username == username)) is not None:
            raise NameTaken
        return role

    def _make(self) -> _NewAccount:
        passphrase, parameters = generate_passphrase(), KdfParameters.fresh()
        kek = passphrases.derive(passphrase, parameters)
        return _NewAccount(new_id(), new_secret(), passphrase, parameters, kek, generate_keys(self._rsa_bits))

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
        session.add(passphrase_method(self._master, new.user_id, new.account_key, new.parameters, new.kek))
        session.add(key_row(self._master, new.user_id, 1, new.account_key, new.keys))
        self._transactions.record(Event("register", new.user_id, "user", new.user_id, detail=role))

    def change_passphrase(self, account: UnlockedAccount, current: str, new: str | None = None) -> str:
        """Seal the account key under a new passphrase, end every other session, and return the new passphrase.

        With ``new`` absent one is generated. Raises ``WrongLogin`` when ``current`` is not right, ``BadPassphrase``
        when the new one is too weak. No document is touched.
        """
        if new is not None:
            passphrases.check_own(new, account.username)
        self.prove(account, current, "passphrase_change")
        chosen, parameters = new or generate_passphrase(), KdfParameters.fresh()
        kek = passphrases.derive(chosen, parameters)
        reach("passphrase.derived")
        self._transactions.writing(
            lambda session: self._replace_method(session, account, parameters, kek), account.user_id
        )
        return chosen

    def prove(self, account: UnlockedAccount, passphrase: str, action: str) -> None:
        """Open the account key with ``passphrase`` once more, as changes that matter ask for; guesses are counted.

        Raises ``WrongLogin``; the failure is recorded as one of ``action``.
        """
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
                Event(action, account.user_id, "user", account.user_id, succeeded=False)
            )
            raise WrongLogin("This is not your current passphrase.") from unreadable
        self._transactions.writing(lambda session: throttle.take_back(session, attempts))

    def _passphrase_method(self, session: Session, account: UnlockedAccount) -> UnlockMethod:
        method = method_of(session, account.user_id, "passphrase")
        if method is None:
            raise Unreadable("method:missing", "user", account.user_id)
        return method

    def _replace_method(
        self, session: Session, account: UnlockedAccount, parameters: KdfParameters, kek: bytes
    ) -> None:
        user = self._locked(session, account.user_id)
        if user.state != "active" or user.credential_generation != account.generation:
            raise AccountDisabled
        method = self._passphrase_method(session, account)
        lock_with(self._master, method, account.account_key, parameters, kek)
        session.flush()
        reach("passphrase.written")
        # A new generation: a session's row that is put back afterwards is no session (P7).
        user.credential_generation += 1
        for row in session.scalars(select(LoginSession).where(LoginSession.user_id == account.user_id)):
            if row.id == account.session_id:
                self._carry_over(row, account, user.credential_generation)
            else:
                session.delete(row)
        user.device_mac = None
        session.flush()
        reach("passphrase.sessions_ended")
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
        require_admin(account)
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
        require_admin(account)
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
            if user is None or user.state == "deleted":
                raise NotFound("There is no such account.")
            self._apply(session, user, state, role)
            keep_an_admin(admins)
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


def _account_view(user: Any) -> AccountView:
    if isinstance(user, seals.Refusal):
        user_id = getattr(user, "object_id", None) or b""
        return AccountView(user_id, "?", "user", "unreadable", EPOCH, None, 0, 0, readable=False)
    return AccountView(
        user.id, user.username, user.role, user.state, user.created_at, user.last_login_at, user.stored_bytes,
        user.documents,
    )  # fmt: skip
