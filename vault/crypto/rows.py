"""Row seals: an HMAC over every column of a database row, the same bytes on every database.

This is the verb alone, so that ``docvault recover`` can check rows as well; which columns are left out, and
when a seal is verified and renewed, is decided in the services (M2, M9). A backup writes rows as lines of JSON
that keep each value's type, so that a row's seal can be checked from its line.
"""

import hmac
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from struct import Struct
from struct import error as StructError
from typing import Any, TypeAlias

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from vault.crypto.encoding import ABSENT, item, microseconds, moment
from vault.crypto.masterkey import MasterKeys
from vault.crypto.purposes import MASTER_ROWS, ROW
from vault.errors import Unreadable

Value: TypeAlias = bool | int | bytes | str | datetime | None

# An item of one byte names the type of the value that follows.
TAGS: dict[type, bytes] = {type(None): b"n", bool: b"b", int: b"i", bytes: b"y", str: b"s", datetime: b"t"}

_NUMBER = b"\0\0\0\x08"
_signed = Struct(">q").pack


class RowSealer:
    """Seal the rows of one table. Made once for a table; the columns' names and order are in every seal."""

    __slots__ = ("_columns", "_head", "_prepared", "names")

    def __init__(self, table: str, schema: int, names: Sequence[str]) -> None:
        if len(set(names)) != len(names):
            raise ValueError("a column comes once")
        self.names = tuple(names)
        self._prepared: dict[bytes, HMAC] = {}
        self._head = ROW.head + item(table.encode()) + item(schema.to_bytes(8, "big"))
        # For each column what comes before its value, by the value's type; where that fixes it, up to the value itself.
        self._columns: list[tuple[bytes, bytes, bytes, bytes, bytes, bytes]] = []
        for name in names:
            lead = {kind: item(name.encode()) + item(tag) for kind, tag in TAGS.items()}
            self._columns.append(
                (
                    lead[bytes], lead[int] + _NUMBER, lead[type(None)] + ABSENT, lead[str], lead[datetime] + _NUMBER,
                    lead[bool] + b"\0\0\0\x01",
                )
            )  # fmt: skip

    def message(self, row_id: bytes, row_version: int, values: Sequence[Value]) -> bytes:
        """Encode a row, its values in the order of the names. A value of any other type raises ValueError."""
        if len(values) != len(self._columns):
            raise ValueError("one value for each column")
        # Written out in one loop: a list of a thousand documents verifies three thousand rows.
        encoded: list[bytes] = []
        try:
            for (as_bytes, as_int, as_null, as_str, as_time, as_bool), value in zip(
                self._columns, values, strict=True
            ):
                kind = type(value)
                if value is None:
                    encoded.append(as_null)
                elif kind is bytes:
                    encoded += (as_bytes, len(value).to_bytes(4, "big"), value)  # type: ignore[arg-type]
                elif kind is int:
                    encoded += (as_int, _signed(value))
                elif kind is str:
                    written = value.encode()  # type: ignore[union-attr]
                    encoded += (as_str, len(written).to_bytes(4, "big"), written)
                elif kind is datetime:
                    encoded += (as_time, _signed(microseconds(value)))  # type: ignore[arg-type]
                elif kind is bool:
                    encoded += (as_bool, b"\x01" if value else b"\0")
                else:
                    raise ValueError("a value of a type that rows do not have")
        except StructError as error:
            raise ValueError("a whole number of a row fits 64 bits") from error
        columns = b"".join(encoded)
        return b"".join(
            (
                self._head, len(row_id).to_bytes(4, "big"), row_id, _NUMBER, row_version.to_bytes(8, "big"),
                len(columns).to_bytes(4, "big"), columns,
            )
        )  # fmt: skip

    def seal(self, key: bytes, row_id: bytes, row_version: int, values: Sequence[Value]) -> bytes:
        """Give the row's HMAC-SHA256 (32 bytes) under `master.rows`."""
        prepared = self._prepared.get(key)
        if prepared is None:
            # Copying a keyed HMAC takes half the time of keying one. There are as many as master keys.
            prepared = self._prepared[key] = HMAC(key, SHA256())
        mac = prepared.copy()
        mac.update(self.message(row_id, row_version, values))
        return mac.finalize()

    def matches(
        self, key: bytes, seal: bytes, row_id: bytes, row_version: int, values: Sequence[Value]
    ) -> bool:
        """Tell, in constant time, whether `seal` is this row's."""
        return hmac.compare_digest(self.seal(key, row_id, row_version, values), seal)


def row_seal(
    key: bytes,
    *,
    table: str,
    schema: int,
    row_id: bytes,
    row_version: int,
    columns: Sequence[tuple[str, Value]],
) -> bytes:
    """Seal one row; see `RowSealer` for many."""
    sealer = RowSealer(table, schema, [name for name, _ in columns])
    return sealer.seal(key, row_id, row_version, [value for _, value in columns])


def check_row(master: MasterKeys, sealer: RowSealer, row: Mapping[str, Value]) -> None:
    """Raise Unreadable unless a row, as a backup holds it, bears its seal; KeyUnavailable when its key is not here."""
    key_id, seal, row_id, version = (row.get(name) for name in ("seal_key_id", "seal", "id", "row_version"))
    if not (isinstance(key_id, bytes) and isinstance(seal, bytes) and isinstance(row_id, bytes)):
        raise Unreadable("row without a seal")
    key = master.derive(MASTER_ROWS, key_id)
    try:
        fits = sealer.matches(key, seal, row_id, version, [row[name] for name in sealer.names])  # type: ignore[arg-type]
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise Unreadable("row of another shape") from error
    if not fits:
        raise Unreadable("row seal")


def encode_row(names: Sequence[str], values: Sequence[Value]) -> bytes:
    """Write a row as one line of JSON: for each column the letter of its type, as in a seal, and its value.

    Bytes are hexadecimal digits, times microseconds since 1970.
    """
    line = {
        name: [TAGS[type(value)].decode(), _plain(value)] for name, value in zip(names, values, strict=True)
    }
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"


def _plain(value: Value) -> bool | int | str | None:
    if isinstance(value, bytes):
        return value.hex()
    return microseconds(value) if isinstance(value, datetime) else value


def decode_row(line: bytes) -> dict[str, Value]:
    """Read what `encode_row` wrote; anything else raises Unreadable."""
    try:
        found = json.loads(line)
        return {name: _typed(*pair) for name, pair in found.items()}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise Unreadable("line of a row") from error


def _typed(tag: Any, value: Any) -> Value:
    if tag == "y":
        return bytes.fromhex(value)
    if tag == "t" and type(value) is int:
        return moment(value)
    if not _is_of(tag, value):
        raise ValueError("a value of another type than its tag")
    typed: Value = value
    return typed


def _is_of(tag: Any, value: object) -> bool:
    return {"n": type(None), "b": bool, "i": int, "s": str}.get(tag) is type(value)
