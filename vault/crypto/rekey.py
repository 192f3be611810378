"""How far a re-key has come: sealed under the owner's account key, because it holds the new segment's key.

Between two requests of the owner nobody else has this key: not the database, not the master key, no reader.
"""

from typing import NamedTuple

from vault.crypto.derivation import derive
from vault.crypto.encoding import dec, enc
from vault.crypto.parts import PART_SIZE
from vault.crypto.purposes import ACCOUNT_REKEY, REKEY, REKEY_BODY
from vault.crypto.sealing import seal, unseal
from vault.errors import Unreadable


class RekeyCursor(NamedTuple):
    """The version begun from, the new segment, its parts that are durable; `version` is None before it began."""

    at_once: bool = False
    version: bytes | None = None
    revision: int = 0
    segment: bytes | None = None
    segment_key: bytes | None = None
    part_size: int = 0
    done: int = 0

    def __repr__(self) -> str:
        return f"<RekeyCursor {self.done} parts>"


def seal_rekey_cursor(account_key: bytes, cursor: RekeyCursor, *, work: bytes, user: bytes) -> bytes:
    """Lock a cursor for the row of the work that it belongs to."""
    body = enc(REKEY_BODY, int(cursor.at_once), *cursor[1:])
    return seal(derive(account_key, ACCOUNT_REKEY), body, enc(REKEY, work, user))


def open_rekey_cursor(account_key: bytes, sealed: bytes, *, work: bytes, user: bytes) -> RekeyCursor:
    """Open what `seal_rekey_cursor` locked; another row's, another user's or a half-begun one raises Unreadable."""
    at_once, *rest = dec(
        REKEY_BODY, unseal(derive(account_key, ACCOUNT_REKEY), sealed, enc(REKEY, work, user))
    )
    cursor = RekeyCursor(at_once == 1, *rest)
    begun = [value is not None for value in (cursor.version, cursor.segment, cursor.segment_key)]
    if at_once > 1 or len(set(begun)) != 1 or (all(begun) and not 0 < cursor.part_size <= PART_SIZE):
        raise Unreadable("re-key cursor")
    return cursor
