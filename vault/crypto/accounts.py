"""The account key and what it locks: private keys, contacts, sessions; and the MACs of the directory."""

import hmac
from datetime import date, datetime

from vault.crypto.derivation import derive
from vault.crypto.encoding import enc
from vault.crypto.keypairs import PrivateKeys, PublicKeys, load_private
from vault.crypto.masterkey import MasterKeys
from vault.crypto.passphrase import KdfParameters
from vault.crypto.purposes import (
    ACCOUNT_CONTACTS,
    ACCOUNT_PRIVATE_KEYS,
    ACCOUNT_UPLOAD_NAMES,
    ACCOUNT_UPLOADS,
    CONTACT,
    DIRECTORY,
    MASTER_ACCOUNTS,
    MASTER_DIRECTORY,
    MASTER_SESSIONS,
    PRIVATE_SIGN_KEY,
    PRIVATE_WRAP_KEY,
    SESSION,
    SESSION_KEY,
    SUBJECT,
    UNLOCK_INNER,
    UNLOCK_OUTER,
    Purpose,
)
from vault.crypto.sealing import seal, unseal
from vault.errors import Unreadable

_FIRST_DAY = date(1970, 1, 1)


def _unlock_context(
    purpose: Purpose, user: bytes, method: bytes, kind: str, parameters: KdfParameters | None
) -> bytes:
    if parameters is None:
        return enc(purpose, user, method, kind, None, None, None, None)
    return enc(
        purpose, user, method, kind,
        parameters.memory_kib, parameters.iterations, parameters.lanes, parameters.salt,
    )  # fmt: skip


def seal_account_key(
    master: MasterKeys,
    kek: bytes,
    account_key: bytes,
    *,
    user: bytes,
    method: bytes,
    kind: str,
    parameters: KdfParameters | None,
) -> bytes:
    """Lock an account key for one unlock method: under the KEK inside, under `master.accounts` outside.

    `kind` is "passphrase" or "recovery"; `parameters` are None where no Argon2id made the KEK.
    """
    _check_key(account_key)
    inner = seal(kek, account_key, _unlock_context(UNLOCK_INNER, user, method, kind, parameters))
    outer_key = master.derive(MASTER_ACCOUNTS)
    return seal(outer_key, inner, _unlock_context(UNLOCK_OUTER, user, method, kind, parameters))


def open_account_key(
    master: MasterKeys,
    key_id: bytes,
    kek: bytes,
    sealed: bytes,
    *,
    user: bytes,
    method: bytes,
    kind: str,
    parameters: KdfParameters | None,
) -> bytes:
    """Open an account key. A wrong passphrase, a moved row and damage are the same Unreadable."""
    inner = open_outer_seal(
        master, key_id, sealed, user=user, method=method, kind=kind, parameters=parameters
    )
    return _key_of(unseal(kek, inner, _unlock_context(UNLOCK_INNER, user, method, kind, parameters)))


def open_outer_seal(
    master: MasterKeys,
    key_id: bytes,
    sealed: bytes,
    *,
    user: bytes,
    method: bytes,
    kind: str,
    parameters: KdfParameters | None,
) -> bytes:
    """Open the master key's lock alone, or raise Unreadable; what it gives is still locked by the unlock method."""
    return unseal(
        master.derive(MASTER_ACCOUNTS, key_id),
        sealed,
        _unlock_context(UNLOCK_OUTER, user, method, kind, parameters),
    )


def reseal_account_key(
    master: MasterKeys,
    key_id: bytes,
    sealed: bytes,
    *,
    user: bytes,
    method: bytes,
    kind: str,
    parameters: KdfParameters | None,
) -> bytes:
    """Exchange the outer lock of an account key for one under the newest master key; the inner one is not opened.

    Raises Unreadable where the outer seal does not open.
    """
    inner = open_outer_seal(
        master, key_id, sealed, user=user, method=method, kind=kind, parameters=parameters
    )
    context = _unlock_context(UNLOCK_OUTER, user, method, kind, parameters)
    return seal(master.derive(MASTER_ACCOUNTS), inner, context)


def _check_key(key: bytes) -> None:
    if len(key) != 32:
        raise ValueError("a key is 32 bytes")


def _key_of(opened: bytes) -> bytes:
    if len(opened) != 32:
        raise Unreadable("a key of the wrong size")
    return opened


def seal_private_keys(
    account_key: bytes, keys: PrivateKeys, *, user: bytes, key_version: int
) -> tuple[bytes, bytes]:
    """Lock both private keys under the account key; gives (wrap, sign)."""
    key = derive(account_key, ACCOUNT_PRIVATE_KEYS)
    bound = (user, key_version, keys.public.fingerprint)
    return (
        seal(key, keys.wrap_der, enc(PRIVATE_WRAP_KEY, *bound)),
        seal(key, keys.sign_der, enc(PRIVATE_SIGN_KEY, *bound)),
    )


def open_private_keys(
    account_key: bytes,
    sealed_wrap: bytes,
    sealed_sign: bytes,
    *,
    user: bytes,
    key_version: int,
    public: PublicKeys,
) -> PrivateKeys:
    """Open both private keys; nothing is parsed before its seal has opened, and they must fit `public` (K1, K3, K4)."""
    key = derive(account_key, ACCOUNT_PRIVATE_KEYS)
    bound = (user, key_version, public.fingerprint)
    wrap_der = unseal(key, sealed_wrap, enc(PRIVATE_WRAP_KEY, *bound))
    sign_der = unseal(key, sealed_sign, enc(PRIVATE_SIGN_KEY, *bound))
    return load_private(wrap_der, sign_der, public)


def directory_mac(master: MasterKeys, *, user: bytes, key_version: int, fingerprint: bytes) -> bytes:
    """Vouch for a user's public keys: a key put into the table by hand has no such MAC (K2)."""
    return _directory_mac(master.derive(MASTER_DIRECTORY), user, key_version, fingerprint)


def _directory_mac(key: bytes, user: bytes, key_version: int, fingerprint: bytes) -> bytes:
    return hmac.digest(key, enc(DIRECTORY, user, key_version, fingerprint), "sha256")


def check_directory_mac(
    master: MasterKeys, key_id: bytes, mac: bytes, *, user: bytes, key_version: int, fingerprint: bytes
) -> None:
    """Raise Unreadable unless `mac` is what `directory_mac` gives under the master key `key_id`."""
    right = _directory_mac(master.derive(MASTER_DIRECTORY, key_id), user, key_version, fingerprint)
    if not hmac.compare_digest(right, mac):
        raise Unreadable("public key is not in the directory")


def subject_mac(master: MasterKeys, kind: str, text: str, key_id: bytes | None = None) -> bytes:
    """Name something in the database without writing it there: a throttled name or address, a code, a device cookie.

    `kind` keeps the uses apart. After a rotation of the master key older rows are found under the fallback's
    `key_id`.
    """
    return hmac.digest(master.derive(MASTER_DIRECTORY, key_id), enc(SUBJECT, kind, text), "sha256")


def seal_contact(account_key: bytes, fingerprint: bytes, *, user: bytes, other: bytes) -> bytes:
    """Remember another user's fingerprint, so that nobody can exchange his keys unseen."""
    if len(fingerprint) != 32:
        raise ValueError("a fingerprint is 32 bytes")
    return seal(derive(account_key, ACCOUNT_CONTACTS), fingerprint, enc(CONTACT, user, other))


def open_contact(account_key: bytes, sealed: bytes, *, user: bytes, other: bytes) -> bytes:
    """Read the fingerprint that `seal_contact` remembered."""
    return _key_of(unseal(derive(account_key, ACCOUNT_CONTACTS), sealed, enc(CONTACT, user, other)))


def _session_key(master: MasterKeys, key_id: bytes | None, secret: bytes) -> bytes:
    return derive(secret, SESSION_KEY, salt=master.derive(MASTER_SESSIONS, key_id))


def seal_session(
    master: MasterKeys,
    secret: bytes,
    account_key: bytes,
    *,
    session: bytes,
    user: bytes,
    created_at: datetime,
    expires_at: datetime,
    generation: int,
) -> bytes:
    """Lock an account key for a session: the client keeps `secret`, the server keeps this and the master key."""
    _check_key(account_key)
    context = enc(SESSION, session, user, created_at, expires_at, generation)
    return seal(_session_key(master, None, secret), account_key, context)


def open_session(
    master: MasterKeys,
    key_id: bytes,
    secret: bytes,
    sealed: bytes,
    *,
    session: bytes,
    user: bytes,
    created_at: datetime,
    expires_at: datetime,
    generation: int,
) -> bytes:
    """Give the account key of a session whose row and secret belong together and were not edited (P6).

    Whether the session has expired or been ended is the caller's question.
    """
    context = enc(SESSION, session, user, created_at, expires_at, generation)
    return _key_of(unseal(_session_key(master, key_id, secret), sealed, context))


def upload_key(account_key: bytes, day: date) -> bytes:
    """Derive the key that locks the upload tokens and metadata of one UTC day."""
    return derive(account_key, ACCOUNT_UPLOADS, (day - _FIRST_DAY).days)


def upload_names_key(account_key: bytes) -> bytes:
    """Derive the key under which a browser names a file that it uploads, without keeping the file's name."""
    return derive(account_key, ACCOUNT_UPLOAD_NAMES)
