"""The recovery code: an unlock method on paper, made on request and good for one use.

Its use is one transaction: the method is deleted, a new passphrase and a new account key are set, every session ends,
an audit entry and a notice are written (attack K9). Nothing of it passes through an administrator.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from time import perf_counter

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from vault.crypto.accounts import open_account_key, seal_account_key
from vault.crypto.masterkey import MasterKeys
from vault.crypto.passphrase import KdfParameters, generate_passphrase
from vault.crypto.randomness import new_id
from vault.crypto.recovery import new_recovery_code, read_recovery_code, recovery_kek
from vault.errors import AccountDisabled, NotFound, Unreadable, WrongLogin
from vault.failpoints import reach
from vault.models import UnlockMethod, User
from vault.services import clock, counting, passphrases, seals, throttle
from vault.services.accountkey import KeyExchange, exchange_key, prepare
from vault.services.accounts import Accounts, lock_with, method_of
from vault.services.audit import Event
from vault.services.invitations import void_resets
from vault.services.notices import notify
from vault.services.transactions import Transactions
from vault.services.unlocked import UnlockedAccount
from vault.services.usernames import fold_username

KIND = "recovery"
WRONG = "User name and recovery code do not fit together."

_CODE = select(*seals.columns(UnlockMethod)).where(
    UnlockMethod.user_id == bindparam("user"), UnlockMethod.kind == KIND
)


@dataclass(frozen=True)
class Recovered:
    """An account that is its owner's again, with the passphrase that is shown this once."""

    username: str
    passphrase: str = field(repr=False)


@dataclass(frozen=True)
class _Lock:
    """A recovery method as read before it is tried; for an unknown name the same shape and cost."""

    user_id: bytes | None
    method_id: bytes
    row_version: int
    key_id: bytes
    sealed: bytes


class Recovery:
    """Make, remove and use recovery codes."""

    def __init__(self, transactions: Transactions, master: MasterKeys, accounts: Accounts) -> None:
        self._transactions = transactions
        self._master = master
        self._accounts = accounts

    def made_at(self, account: UnlockedAccount) -> datetime | None:
        """Tell when one's recovery code was made, or ``None`` where there is none."""
        with self._transactions.reading(account.user_id) as session:
            found = seals.verified_row(session, _CODE, UnlockMethod, parameters={"user": account.user_id})
        made_at: datetime | None = seals.believed(found[0]).created_at if found else None
        return made_at

    def make(self, account: UnlockedAccount, passphrase: str) -> str:
        """Make a code and return it, this once; an older one stops working. Raises ``WrongLogin``."""
        self._accounts.prove(account, passphrase, "recovery_made")
        code = new_recovery_code()
        self._transactions.writing(lambda session: self._insert(session, account, code), account.user_id)
        return code

    def _insert(self, session: Session, account: UnlockedAccount, code: str) -> None:
        self._current(session, account)
        self._delete(session, account.user_id)
        method_id = new_id()
        kek = recovery_kek(read_recovery_code(code), user=account.user_id, method=method_id)
        sealed = seal_account_key(
            self._master,
            kek,
            account.account_key,
            user=account.user_id,
            method=method_id,
            kind=KIND,
            parameters=None,
        )
        session.add(
            UnlockMethod(
                id=method_id,
                user_id=account.user_id,
                kind=KIND,
                memory_kib=None,
                iterations=None,
                lanes=None,
                salt=None,
                master_key_id=self._master.key_id,
                sealed_account_key=sealed,
                created_at=clock.now(),
            )
        )
        self._transactions.record(Event("recovery_made", account.user_id, "user", account.user_id))

    def _current(self, session: Session, account: UnlockedAccount) -> None:
        user = session.scalars(select(User).where(User.id == account.user_id).with_for_update()).one()
        if user.state != "active" or user.credential_generation != account.generation:
            raise AccountDisabled

    def _delete(self, session: Session, user_id: bytes) -> bool:
        method = method_of(session, user_id, KIND)
        if method is not None:
            session.delete(method)
            session.flush()
        return method is not None

    def remove(self, account: UnlockedAccount, passphrase: str) -> None:
        """Make one's code worthless; raises ``WrongLogin``, and ``NotFound`` where there is none."""
        self._accounts.prove(account, passphrase, "recovery_removed")

        def work(session: Session) -> None:
            self._current(session, account)
            if not self._delete(session, account.user_id):
                raise NotFound("There is no recovery code.")
            self._transactions.record(Event("recovery_removed", account.user_id, "user", account.user_id))

        self._transactions.writing(work, account.user_id)

    def use(self, username: str, code: str, new: str | None = None, *, address: str) -> Recovered:
        """Set a new passphrase with a code, which works this once; with ``new`` absent one is generated.

        Raises ``CodeMistyped`` and ``BadPassphrase`` before anything is counted, ``TooManyAttempts``, ``Busy``,
        ``AccountDisabled`` (only to who has the code), and ``WrongLogin`` for an unknown name, an account without a
        code and a wrong code alike, after the same work: the new passphrase's Argon2id runs before the code is tried.
        """
        secret, folded = read_recovery_code(code), fold_username(username)
        if new is not None:
            passphrases.check_own(new, folded or username)
        name = folded or username[:64].casefold().encode(errors="backslashreplace").decode()
        attempts = self._transactions.writing(
            lambda session: throttle.count_attempt(session, self._master, name=name, address=address)
        )
        passphrase, parameters = new or generate_passphrase(), KdfParameters.fresh()
        kek = passphrases.derive(passphrase, parameters)
        lock, began = self._lock_of(folded), perf_counter()
        account_key = self._open(lock, secret)
        if account_key is None or lock.user_id is None:
            counting.not_unlocked("recovery")
            self._transactions.record_alone(
                Event("recovery_used", None, "user", lock.user_id, succeeded=False)
            )
            raise WrongLogin(WRONG)
        counting.unlocked("recovery", began)
        with self._transactions.reading(lock.user_id) as session:
            exchange = prepare(session, lock.user_id, account_key)
        reach("recovery.prepared")
        return Recovered(
            self._transactions.writing(
                lambda session: self._use(session, lock, exchange, (parameters, kek), attempts),
                lock.user_id,
                ("user", lock.user_id),
            ),
            passphrase,
        )

    def _lock_of(self, username: str | None) -> _Lock:
        with self._transactions.reading() as session:
            method = session.scalar(
                select(UnlockMethod)
                .join(User, User.id == UnlockMethod.user_id)
                .where(User.username == (username or ""), UnlockMethod.kind == KIND)
            )
            if method is None:
                return _Lock(None, new_id(), 0, self._master.key_id, bytes(200))
            return _Lock(
                method.user_id, method.id, method.row_version, method.master_key_id, method.sealed_account_key
            )

    def _open(self, lock: _Lock, secret: bytes) -> bytes | None:
        user = lock.user_id or bytes(16)
        kek = recovery_kek(secret, user=user, method=lock.method_id)
        try:
            return open_account_key(
                self._master, lock.key_id, kek, lock.sealed,
                user=user, method=lock.method_id, kind=KIND, parameters=None,
            )  # fmt: skip
        except Unreadable:
            return None

    def _use(
        self,
        session: Session,
        lock: _Lock,
        exchange: KeyExchange,
        locked_with: tuple[KdfParameters, bytes],
        attempts: list[bytes],
    ) -> str:
        user = session.scalars(select(User).where(User.id == exchange.user_id).with_for_update()).one()
        method, own = method_of(session, user.id, KIND), method_of(session, user.id, "passphrase")
        if method is None or (method.id, method.row_version) != (lock.method_id, lock.row_version):
            raise WrongLogin(WRONG)
        if user.state != "active":
            raise AccountDisabled
        if own is None:
            raise Unreadable("method:missing", "user", user.id)
        session.delete(method)
        lock_with(self._master, own, exchange.new, *locked_with)
        session.flush()
        reach("recovery.method_deleted")
        exchange_key(session, self._master, user, exchange)
        reach("recovery.keys_moved")
        throttle.take_back(session, attempts)
        notify(session, user.id, "recovery_used")
        self._transactions.record(Event("recovery_used", user.id, "user", user.id))
        void_resets(session, self._transactions, user)
        return user.username
