"""Session tokens: a JWT, signed with HS256 under ``master.tokens``, that carries the client's half of a session.

A valid token alone opens nothing: its secret must open the seal of a session row. Source: RFC 7519, RFC
8725.
"""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import jwt

from vault.crypto.masterkey import MasterKeys
from vault.crypto.purposes import MASTER_TOKENS
from vault.errors import KeyUnavailable, UnderUnknownKey, Unreadable

ALGORITHM = "HS256"
TYPE = "docvault-session+jwt"
ISSUER = "docvault"
AUDIENCE = "docvault-session"
LEEWAY = timedelta(seconds=30)
LONGEST_TOKEN = 2048  # characters; ours have about 620

_CLAIMS = frozenset(("iss", "aud", "sub", "sid", "iat", "exp", "sec", "upl"))


class TokenClaims(NamedTuple):
    """What a token says: whose session, the session secret, and the upload keys of today and yesterday."""

    user: bytes
    session: bytes
    secret: bytes
    upload_keys: tuple[bytes, bytes]
    issued_at: datetime
    expires_at: datetime
    key_id: bytes

    def __repr__(self) -> str:
        return f"<TokenClaims session {self.session.hex()}>"


def _to_text(secret: bytes) -> str:
    return urlsafe_b64encode(secret).rstrip(b"=").decode("ascii")


def _from_text(value: object, size: int) -> bytes:
    if not isinstance(value, str):
        raise Unreadable("token claim type")
    try:
        decoded = urlsafe_b64decode(value + "=" * (-len(value) % 4))
    except (ValueError, binascii.Error) as error:
        raise Unreadable("token claim encoding") from error
    if len(decoded) != size or _to_text(decoded) != value:
        raise Unreadable("token claim size")
    return decoded


def _id_of(value: object) -> bytes:
    if not isinstance(value, str) or len(value) != 32:
        raise Unreadable("token id")
    try:
        identity = bytes.fromhex(value)
    except ValueError as error:
        raise Unreadable("token id") from error
    if identity.hex() != value:
        raise Unreadable("token id")
    return identity


def _moment_of(value: object) -> datetime:
    if type(value) is not int or not 0 <= value < 1 << 37:
        raise Unreadable("token time")
    return datetime.fromtimestamp(value, UTC)


def issue_token(
    master: MasterKeys,
    *,
    user: bytes,
    session: bytes,
    secret: bytes,
    upload_keys: tuple[bytes, bytes],
    issued_at: datetime,
    expires_at: datetime,
) -> str:
    """Make the token of a session. Times are cut to whole seconds. The token is a secret: it never reaches a log."""
    today, yesterday = upload_keys
    if (len(user), len(session), len(secret), len(today), len(yesterday)) != (16, 16, 32, 32, 32):
        raise ValueError("ids are 16 bytes, secrets and keys 32")
    if issued_at.tzinfo is None or expires_at.tzinfo is None:
        raise ValueError("a time must be timezone-aware")
    return jwt.encode(
        {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": user.hex(),
            "sid": session.hex(),
            "iat": int(issued_at.timestamp()),
            "exp": int(expires_at.timestamp()),
            "sec": _to_text(secret),
            "upl": [_to_text(today), _to_text(yesterday)],
        },
        master.derive(MASTER_TOKENS),
        algorithm=ALGORITHM,
        headers={"typ": TYPE, "kid": master.key_id.hex()},
    )


def read_token(master: MasterKeys, token: str, now: datetime) -> TokenClaims:
    """Verify a token and give what it says. Whatever is wrong with it, the error is the same Unreadable (P6).

    The header must be exactly ours: one algorithm, our type, a key id, nothing else. An id of a key that is not
    here raises UnderUnknownKey.
    """
    if len(token) > LONGEST_TOKEN or not token.isascii():
        raise Unreadable("token length")
    try:
        header = jwt.get_unverified_header(token)
        kid = header.get("kid")
        if (
            header != {"alg": ALGORITHM, "typ": TYPE, "kid": kid}
            or not isinstance(kid, str)
            or len(kid) != 16
        ):
            raise Unreadable("token header")
        key_id = bytes.fromhex(kid)
        key = master.derive(MASTER_TOKENS, key_id)
        claims = jwt.decode(
            token,
            key,
            algorithms=[ALGORITHM],
            audience=AUDIENCE,
            issuer=ISSUER,
            # Times are compared below, with the caller's clock.
            options={
                "require": sorted(_CLAIMS),
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
            },
        )
    except KeyUnavailable as error:
        raise UnderUnknownKey("token") from error
    except (jwt.PyJWTError, ValueError) as error:
        raise Unreadable("token") from error
    if set(claims) != _CLAIMS or type(claims["aud"]) is not str:
        raise Unreadable("token claims")
    issued_at, expires_at = _moment_of(claims["iat"]), _moment_of(claims["exp"])
    if now > expires_at + LEEWAY or now < issued_at - LEEWAY or expires_at < issued_at:
        raise Unreadable("token time")
    keys = claims["upl"]
    if not isinstance(keys, list) or len(keys) != 2:
        raise Unreadable("token upload keys")
    return TokenClaims(
        user=_id_of(claims["sub"]),
        session=_id_of(claims["sid"]),
        secret=_from_text(claims["sec"], 32),
        upload_keys=(_from_text(keys[0], 32), _from_text(keys[1], 32)),
        issued_at=issued_at,
        expires_at=expires_at,
        key_id=key_id,
    )
