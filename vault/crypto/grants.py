"""Grants: a DEK wrapped for one reader, and the owner's signature that he meant it.

The label pins the wrap to document, version, reader and his key (W1, W2); the signature pins epoch,
permission and expiry (W5, W6). The signed manifest pins the DEK itself (W4): a wrap by a stranger opens
nothing that verifies. A grant that waits is sealed under the owner's account key until it can be made (W8).
"""

from datetime import datetime
from typing import NamedTuple

from vault.crypto.derivation import derive
from vault.crypto.encoding import dec, enc
from vault.crypto.keypairs import PrivateKeys, PublicKeys
from vault.crypto.purposes import ACCOUNT_WAITS, DEK_WRAP, GRANT, WAIT, WAIT_BODY
from vault.crypto.sealing import seal, unseal
from vault.errors import Unreadable


def wrap_dek(
    public: PublicKeys, dek: bytes, *, document: bytes, version: bytes, reader: bytes, key_version: int
) -> bytes:
    """Wrap a DEK for a reader whose keys were compared with the contact just before."""
    if len(dek) != 32:
        raise ValueError("a DEK is 32 bytes")
    return public.wrap(enc(DEK_WRAP, document, version, reader, key_version, public.fingerprint), dek)


def unwrap_dek(
    private: PrivateKeys, wrapped: bytes, *, document: bytes, version: bytes, reader: bytes, key_version: int
) -> bytes:
    """Open one's own grant. A wrap for somebody else, another version or another key raises Unreadable."""
    label = enc(DEK_WRAP, document, version, reader, key_version, private.public.fingerprint)
    dek = private.unwrap(label, wrapped)
    if len(dek) != 32:
        raise Unreadable("a DEK of the wrong size")
    return dek


def sign_grant(
    private: PrivateKeys,
    *,
    document: bytes,
    version: bytes,
    epoch: int,
    granter: bytes,
    granter_key_version: int,
    reader: bytes,
    permission: str,
    expires_at: datetime | None,
) -> bytes:
    """Sign that `reader` may read this version, until `expires_at`, while the document's epoch is `epoch`."""
    return private.sign(
        enc(GRANT, document, version, epoch, granter, granter_key_version, reader, permission, expires_at)
    )


def verify_grant(
    public: PublicKeys,
    signature: bytes,
    *,
    document: bytes,
    version: bytes,
    epoch: int,
    granter: bytes,
    granter_key_version: int,
    reader: bytes,
    permission: str,
    expires_at: datetime | None,
) -> None:
    """Raise Unreadable unless the granter signed exactly this grant. Expiry itself is the caller's question."""
    public.verify(
        enc(GRANT, document, version, epoch, granter, granter_key_version, reader, permission, expires_at),
        signature,
    )


class Terms(NamedTuple):
    """What a grant that waits will say: since when, until when, and in which epoch of the document it was given."""

    since: datetime
    expires_at: datetime | None
    epoch: int


def seal_terms(
    account_key: bytes, terms: Terms, *, work: bytes, user: bytes, document: bytes, reader: bytes
) -> bytes:
    """Lock the terms of a grant that waits, for the row of the work that it belongs to."""
    place = enc(WAIT, work, user, document, reader)
    return seal(derive(account_key, ACCOUNT_WAITS), enc(WAIT_BODY, *terms), place)


def open_terms(
    account_key: bytes, sealed: bytes, *, work: bytes, user: bytes, document: bytes, reader: bytes
) -> Terms:
    """Open what `seal_terms` locked; of another row, user, document or reader it raises Unreadable."""
    place = enc(WAIT, work, user, document, reader)
    return Terms(*dec(WAIT_BODY, unseal(derive(account_key, ACCOUNT_WAITS), sealed, place)))
