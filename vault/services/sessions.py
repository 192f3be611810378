"""Sessions: log in, recognise a token, renew, end.

The server keeps one half of what opens an account (the session row's seal), the client the other (the secret in his
token). Either alone opens nothing, and a signature without the row is nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from hmac import compare_digest
from time import perf_counter

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from vault.crypto.accounts import (
    open_account_key,
    open_session,
    seal_session,
    subject_mac,
)
from vault.crypto.masterkey import MasterKeys
from vault.crypto.passphrase import KdfParameters, normalise
from vault.crypto.randomness import new_id, new_secret
from vault.crypto.tokens import TokenClaims, issue_token, read_token
from vault.errors import (
    AccountDisabled,
    KeyUnavailable,
    LoginRequired,
    NotFound,
    UnderUnknownKey,
    Unreadable,
    WrongLogin,
)
from vault.models import LoginSession, UnlockMethod, User, UserKey
from vault.services import clock, counting, passphrases, promotion, seals, throttle
from vault.services.accounts import lock_with, parameters_of
from vault.services.audit import Event
from vault.services.contacts import verified_public
from vault.services.invitations import void_resets
from vault.services.transactions import Transactions
from vault.services.unlocked import OwnKeys, UnlockedAccount
from vault.services.usernames import fold_username

_RECOGNISED = (
    select(*seals.columns(LoginSession, User, UserKey))
    .select_from(LoginSession)
    .join(User, User.id == LoginSession.user_id)
    .join(UserKey, (UserKey.user_id == User.id) & (UserKey.version == User.key_version))
    .where(LoginSession.id == bindparam("session"))
)
"""Made once: every request runs it."""

TOKEN_LIFE = timedelta(minutes=15)
RENEW_AFTER = timedelta(minutes=1)
SEEN_EVERY = timedelta(minutes=1)


@dataclass(frozen=True)
class LoggedIn:
    """A fresh session: its token, the device cookie that spares the next login the name's count, the account."""

    token: str
    device: str
    account: UnlockedAccount


@dataclass(frozen=True)
class SessionView:
    id: bytes
    client: str
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    is_current: bool


@dataclass(frozen=True)
class _Lock:
    """What Argon2id needs, read before it runs; for an unknown name the same shape and cost."""

    user_id: bytes | None
    method_id: bytes
    row_version: int
    kind: str
    parameters: KdfParameters
    key_id: bytes
    sealed: bytes


class Sessions:
    """Log people in and recognise them afterwards."""

    def __init__(
        self, transactions: Transactions, master: MasterKeys, idle: timedelta, length: timedelta
    ) -> None:
        self._transactions = transactions
        self._master = master
        self._idle = idle
        self._length = length

    @counting.logging_in()
    def log_in(
        self,
        username: str,
        passphrase: str,
        *,
        address: str,
        client: str,
        device: str | None = None,
        token: str | None = None,
    ) -> LoggedIn:
        """Try the passphrase and open a session.

        Raises ``WrongLogin`` for an unknown name and for a wrong passphrase alike, after the same work;
        ``BadPassphrase`` before any, ``TooManyAttempts``, ``Busy``, ``AccountDisabled`` (only to who knows it).
        """
        normalise(passphrase)
        folded = fold_username(username)
        known = folded is not None and self._is_known(folded, device, token)
        name = folded or username[:64].casefold().encode(errors="backslashreplace").decode()
        attempts = self._transactions.writing(
            lambda session: throttle.count_attempt(
                session, self._master, name=None if known else name, address=address
            ),
            always=True,
        )
        lock, began = self._lock_of(folded), perf_counter()
        kek = passphrases.derive(passphrase, lock.parameters)
        account_key = self._open(lock, kek)
        if account_key is None or lock.user_id is None:
            counting.not_unlocked("passphrase")
            self._transactions.record_alone(
                Event("login", None, "user", lock.user_id, succeeded=False, detail="passphrase")
            )
            raise WrongLogin
        counting.unlocked("passphrase", began)
        raised = None if lock.parameters.is_current() else self._raised(passphrase)
        return self._begin(lock, account_key, attempts, client, raised)

    def _raised(self, passphrase: str) -> tuple[KdfParameters, bytes]:
        parameters = KdfParameters.fresh()
        return parameters, passphrases.derive(passphrase, parameters)

    def _is_known(self, username: str, device: str | None, token: str | None) -> bool:
        with self._transactions.reading() as session:
            user = session.scalar(select(User).where(User.username == username))
            if user is None:
                return False
            if device and user.device_mac and self._is_device(user.device_mac, device):
                return True
            user_id = user.id
        if not token:
            return False
        try:
            return self.identify(token).user_id == user_id
        except LoginRequired:
            return False

    def _is_device(self, mac: bytes, device: str) -> bool:
        return any(
            compare_digest(mac, subject_mac(self._master, "device", device, key_id))
            for key_id in self._master.key_ids
        )

    def _lock_of(self, username: str | None) -> _Lock:
        with self._transactions.reading() as session:
            method = None
            if username is not None:
                method = session.scalar(
                    select(UnlockMethod)
                    .join(User, User.id == UnlockMethod.user_id)
                    .where(User.username == username, UnlockMethod.kind == "passphrase")
                )
            if method is None:
                return _Lock(
                    None, new_id(), 0, "passphrase", KdfParameters.fresh(), self._master.key_id, bytes(200)
                )
            return _Lock(
                method.user_id,
                method.id,
                method.row_version,
                method.kind,
                parameters_of(method),
                method.master_key_id,
                method.sealed_account_key,
            )

    def _open(self, lock: _Lock, kek: bytes) -> bytes | None:
        try:
            return open_account_key(
                self._master,
                lock.key_id,
                kek,
                lock.sealed,
                user=lock.user_id or bytes(16),
                method=lock.method_id,
                kind=lock.kind,
                parameters=lock.parameters,
            )
        except Unreadable:
            return None

    def _begin(
        self,
        lock: _Lock,
        account_key: bytes,
        attempts: list[bytes],
        client: str,
        raised: tuple[KdfParameters, bytes] | None,
    ) -> LoggedIn:
        secret, device = new_secret(), new_secret().hex()

        def work(session: Session) -> UnlockedAccount:
            method = session.scalar(
                select(UnlockMethod).where(UnlockMethod.id == lock.method_id).with_for_update()
            )
            if method is None or method.row_version != lock.row_version:
                raise WrongLogin
            user = session.scalars(select(User).where(User.id == lock.user_id).with_for_update()).one()
            if user.state != "active":
                raise AccountDisabled
            if raised is not None:
                lock_with(self._master, method, account_key, *raised)
            throttle.take_back(session, attempts)
            started = clock.now()
            user.previous_login_at, user.last_login_at = user.last_login_at, started
            user.device_mac = subject_mac(self._master, "device", device)
            row = self._new_row(user, account_key, secret, client, started)
            session.add(row)
            self._transactions.record(Event("login", user.id, "session", row.id))
            void_resets(session, self._transactions, user)
            return self._unlocked(
                row, user, self._current_key(session, user), account_key, secret, started.date()
            )

        about = ("user", lock.user_id or bytes(16))
        account = self._transactions.writing(work, lock.user_id, about, always=True)
        return LoggedIn(self.token_for(account), device, account)

    def _new_row(
        self, user: User, account_key: bytes, secret: bytes, client: str, started: datetime
    ) -> LoginSession:
        session_id, expires_at = new_id(), started + self._length
        return LoginSession(
            id=session_id,
            user_id=user.id,
            credential_generation=user.credential_generation,
            client=client[:64],
            created_at=started,
            expires_at=expires_at,
            last_seen_at=started,
            master_key_id=self._master.key_id,
            sealed_account_key=seal_session(
                self._master,
                secret,
                account_key,
                session=session_id,
                user=user.id,
                created_at=started,
                expires_at=expires_at,
                generation=user.credential_generation,
            ),
        )

    def _current_key(self, session: Session, user: User) -> UserKey:
        key = session.scalar(
            select(UserKey).where(UserKey.user_id == user.id, UserKey.version == user.key_version)
        )
        if key is None:
            raise Unreadable("own-key:missing", "user", user.id)
        return key

    def _unlocked(
        self, row: LoginSession, user: User, key: UserKey, account_key: bytes, secret: bytes, day: date
    ) -> UnlockedAccount:
        return UnlockedAccount(
            user_id=user.id,
            username=user.username,
            is_admin=user.role == "admin",
            session_id=row.id,
            created_at=row.created_at,
            expires_at=row.expires_at,
            idle_expires_at=min(row.expires_at, row.last_seen_at + self._idle),
            previous_visit_at=user.previous_login_at,
            generation=user.credential_generation,
            account_key=account_key,
            secret=secret,
            own=OwnKeys(
                key.version,
                verified_public(self._master, key),
                key.sealed_wrap_private,
                key.sealed_sign_private,
            ),
            upload_day=day,
            stored_bytes=user.stored_bytes,
        )

    def identify(self, token: str, *, alive: bool = True) -> UnlockedAccount:
        """Recognise the bearer of ``token``; raises ``LoginRequired`` for any reason that he is not logged in.

        Without ``alive`` the request is no sign of life: the idle time runs on.
        """
        return self.recognise(self.bearer(token), alive=alive)

    def bearer(self, token: str) -> TokenClaims:
        """Read a token that is ours and of today, without a look at the database: its session may be over.

        Only for a token under an older master key the database is asked whether that key still counts. Raises
        ``LoginRequired``, or ``KeyUnavailable`` where it is this server that lacks a key, or seals with one that
        somebody else has.
        """
        try:
            claims = read_token(self._master, token, clock.now())
        except UnderUnknownKey as unknown:
            self._refuse_when_behind()
            raise LoginRequired from unknown
        except Unreadable as unreadable:
            raise LoginRequired from unreadable
        if claims.key_id != self._master.key_id and self._is_over(claims.key_id):
            raise LoginRequired
        return claims

    def _refuse_when_behind(self) -> None:
        with self._transactions.reading() as session:
            if promotion.lacking(session, self._master):
                raise KeyUnavailable

    def _is_over(self, key_id: bytes) -> bool:
        with self._transactions.reading() as session:
            promotion.refuse_compromised(session, self._master)
            return promotion.is_over(session, key_id)

    def recognise(self, claims: TokenClaims, *, alive: bool = True) -> UnlockedAccount:
        """Open the session that a token speaks of, as ``identify`` does; the token may have grown old meanwhile."""
        try:
            with self._transactions.reading(claims.user, ("session", claims.session)) as session:
                account, seen = self._recognise(session, claims)
        except Unreadable as unreadable:
            raise LoginRequired from unreadable
        if alive and clock.now() - seen > SEEN_EVERY:
            self._transactions.writing(lambda session: self._see(session, account.session_id), always=True)
            account.idle_expires_at = min(account.expires_at, clock.now() + self._idle)
        return account

    def _recognise(self, session: Session, claims: TokenClaims) -> tuple[UnlockedAccount, datetime]:
        found = seals.verified_row(
            session, _RECOGNISED, LoginSession, User, UserKey, parameters={"session": claims.session}
        )
        if found is None:
            raise LoginRequired
        row, user, key = [seals.believed(row) for row in found]
        time, began = clock.now(), perf_counter()
        alive = row.expires_at > time and row.last_seen_at + self._idle > time and user.state == "active"
        if not alive or row.user_id != claims.user or row.credential_generation != user.credential_generation:
            raise LoginRequired
        try:
            account_key = open_session(
                self._master,
                row.master_key_id,
                claims.secret,
                row.sealed_account_key,
                session=row.id,
                user=user.id,
                created_at=row.created_at,
                expires_at=row.expires_at,
                generation=row.credential_generation,
            )
        except Unreadable as unreadable:
            counting.not_unlocked("session")
            raise LoginRequired from unreadable
        counting.unlocked("session", began)
        day = claims.issued_at.date()
        return self._unlocked(row, user, key, account_key, claims.secret, day), row.last_seen_at

    def _see(self, session: Session, session_id: bytes) -> None:
        row = session.get(LoginSession, session_id)
        if row is None:
            raise LoginRequired
        row.last_seen_at = max(row.last_seen_at, clock.now())

    def token_for(self, account: UnlockedAccount) -> str:
        """Issue a token of 15 minutes for a session that is open; the secret stays the same."""
        issued = clock.now()
        account.upload_day = issued.date()
        return issue_token(
            self._master,
            user=account.user_id,
            session=account.session_id,
            secret=account.secret,
            upload_keys=account.upload_keys,
            issued_at=issued,
            expires_at=min(issued + TOKEN_LIFE, account.expires_at),
        )

    renew = token_for

    def is_worn(self, token: str) -> bool:
        """Tell whether a good token is worth renewing; one under an older master key always is."""
        try:
            claims = read_token(self._master, token, clock.now())
        except Unreadable:
            return False
        return (
            claims.key_id != self._master.key_id or claims.expires_at - clock.now() < TOKEN_LIFE - RENEW_AFTER
        )

    def list_sessions(self, account: UnlockedAccount) -> list[SessionView]:
        """List one's own live sessions, newest first."""
        time = clock.now()
        with self._transactions.reading(account.user_id) as session:
            rows = session.scalars(select(LoginSession).where(LoginSession.user_id == account.user_id)).all()
            views = [
                SessionView(
                    row.id,
                    row.client,
                    row.created_at,
                    row.last_seen_at,
                    min(row.expires_at, row.last_seen_at + self._idle),
                    row.id == account.session_id,
                )
                for row in rows
                if row.expires_at > time
                and row.last_seen_at + self._idle > time
                and row.credential_generation == account.generation
            ]
        return sorted(views, key=lambda view: view.created_at, reverse=True)

    def log_out(self, account: UnlockedAccount) -> None:
        """End the session of this request."""
        self._end(account, {account.session_id}, "logout")

    def end(self, account: UnlockedAccount, session_id: bytes) -> None:
        """End one of one's own sessions; raises ``NotFound`` for anybody else's."""
        if not self._end(account, {session_id}, "session_end"):
            raise NotFound

    def end_all(self, account: UnlockedAccount) -> None:
        """End every session of one's own, this one too; a row that is put back afterwards is no session (P7)."""
        self._end(account, None, "session_end_all")

    def _end(self, account: UnlockedAccount, only: set[bytes] | None, action: str) -> int:
        def work(session: Session) -> int:
            if only is None:
                user = session.scalars(select(User).where(User.id == account.user_id).with_for_update()).one()
                user.credential_generation += 1
            rows = session.scalars(select(LoginSession).where(LoginSession.user_id == account.user_id)).all()
            ended = [row for row in rows if only is None or row.id in only]
            for row in ended:
                session.delete(row)
            if ended:
                self._transactions.record(Event(action, account.user_id, "session", ended[0].id))
            return len(ended)

        return self._transactions.writing(work, account.user_id, always=True)


def forget_dead_sessions(session: Session, idle: timedelta, limit: int) -> int:
    """Delete at most ``limit`` sessions that are over; return how many."""
    time = clock.now()
    over = (LoginSession.expires_at < time) | (LoginSession.last_seen_at < time - idle)
    rows = session.scalars(select(LoginSession).where(over).limit(limit)).all()
    for row in rows:
        session.delete(row)
    return len(rows)
