"""The unlocked account: proof that its user is logged in, and the only thing that opens a grant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cached_property

from sqlalchemy import select
from sqlalchemy.orm import Session

from vault.crypto.accounts import open_private_keys, upload_key, upload_names_key
from vault.crypto.keypairs import PrivateKeys, PublicKeys
from vault.crypto.manifests import IndexKey
from vault.crypto.passphrase import fingerprint_words
from vault.errors import LoginRequired, Unreadable
from vault.models import LoginSession, User


@dataclass(frozen=True, eq=False)
class OwnKeys:
    """One's key row as read and verified; the private halves stay sealed until they are needed."""

    version: int
    public: PublicKeys
    sealed_wrap: bytes = field(repr=False)
    sealed_sign: bytes = field(repr=False)


@dataclass(eq=False)
class UnlockedAccount:
    """An account whose key is in memory for the length of one request.

    Never store one, never log one: it dies with the request.
    """

    user_id: bytes
    username: str
    is_admin: bool
    session_id: bytes
    created_at: datetime
    expires_at: datetime
    idle_expires_at: datetime
    previous_visit_at: datetime | None
    generation: int
    account_key: bytes = field(repr=False)
    secret: bytes = field(repr=False)
    own: OwnKeys = field(repr=False)
    upload_day: date
    """The UTC day of the token: its bearer's keys open what is locked under this day's key, today and tomorrow."""
    stored_bytes: int
    """What the documents take in the store, older versions included, when this session was recognised."""
    older: dict[int, OwnKeys] = field(default_factory=dict, repr=False)
    """Former pairs that are not retired yet: they still open and sign what has not been moved to the present one."""
    _opened: dict[int, PrivateKeys] = field(default_factory=dict, repr=False)

    @property
    def private(self) -> PrivateKeys:
        """Open both private keys; raises ``Unreadable`` when they do not belong to the public ones (attack K3)."""
        return self.private_at(self.own.version)

    def private_at(self, key_version: int) -> PrivateKeys:
        """Open one's own pair of this version; raises ``Unreadable`` for one that is retired, or not at hand."""
        keys = self.own if key_version == self.own.version else self.older.get(key_version)
        if keys is None:
            raise Unreadable("own-key:retired", "user", self.user_id)
        if key_version not in self._opened:
            self._opened[key_version] = open_private_keys(
                self.account_key,
                keys.sealed_wrap,
                keys.sealed_sign,
                user=self.user_id,
                key_version=keys.version,
                public=keys.public,
            )
        return self._opened[key_version]

    def take_keys(self, living: Sequence[OwnKeys]) -> None:
        """Go on with the pairs that count now, the newest last: they may have changed since the request began."""
        self.own = living[-1]
        self.older = {keys.version: keys for keys in living[:-1]}
        self._opened = {
            version: opened
            for version, opened in self._opened.items()
            if any(
                keys.version == version and keys.public.fingerprint == opened.public.fingerprint
                for keys in living
            )
        }

    @cached_property
    def index_key(self) -> IndexKey:
        return IndexKey(self.account_key)

    @property
    def upload_keys(self) -> tuple[bytes, bytes]:
        """The keys that lock uploads begun on the token's day, and on the day before: what the token carries."""
        yesterday = date.fromordinal(self.upload_day.toordinal() - 1)
        return upload_key(self.account_key, self.upload_day), upload_key(self.account_key, yesterday)

    @property
    def upload_names_key(self) -> bytes:
        """The key under which a page's script remembers uploads; it opens nothing, so that the page may have it."""
        return upload_names_key(self.account_key)

    @property
    def key_version(self) -> int:
        return self.own.version

    @property
    def fingerprint(self) -> bytes:
        return self.own.public.fingerprint

    @property
    def fingerprint_words(self) -> str:
        """One's own fingerprint as six words, to read out to somebody who shares with one."""
        return fingerprint_words(self.fingerprint)


def is_current(session: Session, account: UnlockedAccount, generation: int) -> bool:
    """Tell whether a session still counts: of this generation, or carried over by the passphrase change."""
    if account.generation == generation:
        return True
    row = session.get(LoginSession, account.session_id)
    return row is not None and row.credential_generation == generation


def hold(session: Session, account: UnlockedAccount) -> None:
    """Keep the account key of ``account`` the current one until the commit: call it before sealing anything under it.

    Raises ``LoginRequired`` when it was exchanged, or its sessions ended, since the request began: what is sealed under
    an old account key would be lost.
    """
    if session.info.get("held") == account.user_id:
        return
    statement = select(User).where(User.id == account.user_id).with_for_update(read=True, key_share=True)
    user = session.scalars(statement).one()
    if user.state != "active" or not is_current(session, account, user.credential_generation):
        raise LoginRequired
    session.info["held"] = account.user_id
