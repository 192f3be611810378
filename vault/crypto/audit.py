"""The audit chain: each entry's hash covers the one before, so that nothing is cut, changed or put in between (M5)."""

import hashlib
from collections.abc import Sequence
from datetime import datetime

from vault.crypto.encoding import ABSENT, Field, dec, enc, item, microseconds, split, text
from vault.crypto.purposes import AUDIT, TOUCHED_BODY
from vault.crypto.rows import TAGS
from vault.errors import Unreadable

FIRST = bytes(32)  # what the first entry has for its previous hash


def _tagged(value: Field) -> bytes:
    if value is None:
        return item(TAGS[type(None)]) + ABSENT
    if isinstance(value, datetime):
        return item(TAGS[datetime]) + item(microseconds(value).to_bytes(8, "big", signed=True))
    if type(value) is int:
        return item(TAGS[int]) + item(value.to_bytes(8, "big", signed=True))
    if type(value) is str:
        return item(TAGS[str]) + item(value.encode())
    if type(value) is bytes:
        return item(TAGS[bytes]) + item(value)
    raise ValueError("a value of a type that audit entries do not have")


def entry_hash(previous: bytes, sequence: int, fields: Sequence[Field]) -> bytes:
    """Give an entry's hash (32 bytes) from the previous entry's, its number in the chain, and its fields in order."""
    return hashlib.sha256(
        enc(AUDIT, previous, sequence, b"".join([_tagged(value) for value in fields]))
    ).digest()


Touched = tuple[str, bytes, int, bytes]


def encode_touched(rows: Sequence[Touched]) -> bytes:
    """Encode which sealed rows a transaction changed: table, row id, row version, seal. An empty seal: the
    row is gone.
    """
    body = [
        item(table.encode()) + item(row_id) + item(row_version.to_bytes(8, "big")) + item(seal)
        for table, row_id, row_version, seal in rows
    ]
    return enc(TOUCHED_BODY, b"".join(body))


def decode_touched(encoded: bytes) -> list[Touched]:
    """Decode what `encode_touched` made; anything else raises Unreadable."""
    (body,) = dec(TOUCHED_BODY, encoded)
    found = split(body)
    if len(found) % 4:
        raise Unreadable("touched rows")
    rows: list[Touched] = []
    for table, row_id, row_version, seal in zip(
        found[::4], found[1::4], found[2::4], found[3::4], strict=True
    ):
        if table is None or row_id is None or row_version is None or seal is None or len(row_version) != 8:
            raise Unreadable("touched row")
        rows.append((text(table), row_id, int.from_bytes(row_version, "big"), seal))
    return rows
