"""Upload tokens: what an upload's URL carries, so that any worker can take any piece of it without a database.

A token is a seal under ``master.uploads``. It holds the segment's key only under the user's key of the day, which
travels in his session token: neither a log with URLs nor the master key opens anything.
"""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from vault.crypto.encoding import enc, microseconds, moment
from vault.crypto.masterkey import MasterKeys
from vault.crypto.purposes import MASTER_UPLOADS, UPLOAD_METADATA, UPLOAD_SEGMENT_KEY, UPLOAD_TOKEN
from vault.crypto.sealing import pad, seal, unpad, unseal
from vault.errors import KeyUnavailable, UnderUnknownKey, Unreadable

LONGEST_UPLOAD_TOKEN = 340  # characters; ours have 310

_KEY_ID = 8
_SEALED_KEY = 104  # bytes: a sealed key of 32
_PAYLOAD = 16 + 16 + 8 + 8 + _SEALED_KEY
_PARTIAL = 1 << 63
_DEFERRED = _PARTIAL - 1
_FINAL = _PARTIAL - 2


class UploadTicket(NamedTuple):
    """What an upload token says. `length` is None where it was deferred; partial uploads are joined by a final one,

    which has neither length nor content of its own.
    """

    upload: bytes
    user: bytes
    length: int | None
    is_partial: bool
    is_final: bool
    expires_at: datetime
    sealed_key: bytes
    key_id: bytes

    def __repr__(self) -> str:
        return f"<UploadTicket {self.upload.hex()}>"


def issue_upload_token(
    master: MasterKeys,
    upload_key: bytes,
    segment_key: bytes,
    *,
    upload: bytes,
    user: bytes,
    length: int | None,
    is_partial: bool = False,
    is_final: bool = False,
    expires_at: datetime,
) -> str:
    """Make the token of an upload: 310 characters of base64url. It never reaches a log, a Referer or an error page."""
    if len(segment_key) != 32 or (length is not None and not 0 <= length < _FINAL):
        raise ValueError("a segment key is 32 bytes, a length below 2^63 - 1")
    field = _FINAL if is_final else _DEFERRED if length is None else length
    field |= _PARTIAL if is_partial else 0
    payload = b"".join(
        (
            upload, user, field.to_bytes(8, "big"), microseconds(expires_at).to_bytes(8, "big"),
            seal(upload_key, segment_key, enc(UPLOAD_SEGMENT_KEY, upload, user)),
        )
    )  # fmt: skip
    if len(payload) != _PAYLOAD:
        raise ValueError("ids are 16 bytes")
    sealed = seal(master.derive(MASTER_UPLOADS), payload, enc(UPLOAD_TOKEN))
    return urlsafe_b64encode(master.key_id + sealed).rstrip(b"=").decode("ascii")


def read_upload_token(master: MasterKeys, token: str) -> UploadTicket:
    """Open a token; an edited, foreign or malformed one is Unreadable. Whether it has expired, the caller asks.

    One under a master key that is not here raises UnderUnknownKey.
    """
    try:
        raw = (
            urlsafe_b64decode(token + "=" * (-len(token) % 4)) if len(token) <= LONGEST_UPLOAD_TOKEN else b""
        )
    except (ValueError, binascii.Error) as error:
        raise Unreadable("upload token encoding") from error
    if urlsafe_b64encode(raw).rstrip(b"=") != token.encode("ascii", "replace"):
        raise Unreadable("upload token encoding")
    try:
        key = master.derive(MASTER_UPLOADS, raw[:_KEY_ID])
    except KeyUnavailable as error:
        raise UnderUnknownKey("upload token key") from error
    payload = unseal(key, raw[_KEY_ID:], enc(UPLOAD_TOKEN))
    if len(payload) != _PAYLOAD:
        raise Unreadable("upload token size")
    field, expires_at = int.from_bytes(payload[32:40], "big"), int.from_bytes(payload[40:48], "big")
    length = field & _DEFERRED
    return UploadTicket(
        upload=payload[:16],
        user=payload[16:32],
        length=length if length < _FINAL else None,
        is_partial=bool(field & _PARTIAL),
        is_final=length == _FINAL,
        expires_at=moment(expires_at),
        sealed_key=payload[48:],
        key_id=raw[:_KEY_ID],
    )


def open_segment_key(upload_keys: Sequence[bytes], ticket: UploadTicket) -> bytes:
    """Give the segment's key, locked under one of the user's keys of these days, or raise Unreadable."""
    return _open_any(upload_keys, ticket.sealed_key, enc(UPLOAD_SEGMENT_KEY, ticket.upload, ticket.user))


def seal_upload_metadata(upload_key: bytes, metadata: bytes, *, upload: bytes, user: bytes) -> bytes:
    """Lock what a client said of an upload, its name above all, under the user's key of the day; padded."""
    return seal(upload_key, pad(metadata), enc(UPLOAD_METADATA, upload, user))


def open_upload_metadata(upload_keys: Sequence[bytes], sealed: bytes, *, upload: bytes, user: bytes) -> bytes:
    """Read what `seal_upload_metadata` locked under one of these days' keys, or raise Unreadable."""
    return unpad(_open_any(upload_keys, sealed, enc(UPLOAD_METADATA, upload, user)))


def _open_any(keys: Sequence[bytes], sealed: bytes, context: bytes) -> bytes:
    for key in keys[:-1]:
        try:
            return unseal(key, sealed, context)
        except Unreadable:
            continue
    return unseal(keys[-1], sealed, context)
