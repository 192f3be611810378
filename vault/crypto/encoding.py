"""The one way to join values into bytes: ``enc(purpose, f1 .. fn)``, and its strict reverse.

Each item is its length as u32 big-endian, then its bytes; the purpose's name is the first item. Ids are 16
bytes, numbers and times (microseconds since 1970, UTC) u64 big-endian, text UTF-8, an absent field the
length 0xFFFFFFFF and nothing after it. A list is one item whose bytes are items. Since a purpose fixes the
type of each field, two different tuples never encode equal (W9). Source: FORMAT.md section 2.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from vault.crypto.purposes import Purpose
from vault.errors import Unreadable

Field: TypeAlias = bytes | int | datetime | str | None

ABSENT = b"\xff\xff\xff\xff"
_LONGEST = 0xFFFFFFFE
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(moment: datetime) -> int:
    """Count microseconds since 1970 in UTC. A naive datetime raises ValueError: it would mean another zone
    elsewhere.
    """
    if moment.tzinfo is None:
        raise ValueError("a time must be timezone-aware")
    passed = moment - EPOCH
    return passed.days * 86_400_000_000 + passed.seconds * 1_000_000 + passed.microseconds


def moment(count: int) -> datetime:
    """Turn microseconds since 1970 back into an aware UTC datetime; raises Unreadable beyond the year 9999."""
    try:
        return EPOCH + timedelta(microseconds=count)
    except OverflowError as error:
        raise Unreadable("time out of range") from error


def item(value: bytes | None) -> bytes:
    """Encode one item of a list: length and bytes, or the mark of absence."""
    if value is None:
        return ABSENT
    if len(value) > _LONGEST:
        raise ValueError("an item is shorter than 4 GiB")
    return len(value).to_bytes(4, "big") + value


def items(values: Sequence[bytes | None]) -> bytes:
    """Encode the body of a list: its items, one after the other."""
    return b"".join([item(value) for value in values])


def _encode_id(value: Field) -> bytes:
    if type(value) is not bytes or len(value) != 16:
        raise ValueError("an id is 16 bytes")
    return b"\0\0\0\x10" + value


def _encode_key(value: Field) -> bytes:
    if type(value) is not bytes or len(value) != 32:
        raise ValueError("a key, digest or fingerprint is 32 bytes")
    return b"\0\0\0\x20" + value


def _encode_bytes(value: Field) -> bytes:
    if type(value) is not bytes:
        raise ValueError("expected bytes")
    return item(value)


def _encode_text(value: Field) -> bytes:
    if type(value) is not str:
        raise ValueError("expected text")
    return item(value.encode("utf-8"))


def _encode_number(value: Field) -> bytes:
    if type(value) is not int or not 0 <= value < 1 << 64:
        raise ValueError("expected a number from 0 to 2**64 - 1")
    return b"\0\0\0\x08" + value.to_bytes(8, "big")


def _encode_time(value: Field) -> bytes:
    if not isinstance(value, datetime):
        raise ValueError("expected a time")
    return _encode_number(microseconds(value))


_ENCODERS: dict[str, Callable[[Field], bytes]] = {
    "id": _encode_id,
    "key": _encode_key,
    "bytes": _encode_bytes,
    "text": _encode_text,
    "number": _encode_number,
    "time": _encode_time,
    "list": _encode_bytes,
}


def enc(purpose: Purpose, *fields: Field) -> bytes:
    """Encode a purpose and its fields unambiguously. A wrong count, type or size of a field raises ValueError."""
    if len(fields) != len(purpose.kinds):
        raise ValueError(f"{purpose.name} has {len(purpose.kinds)} fields, not {len(fields)}")
    encoded = [purpose.head]
    for kind, value in zip(purpose.kinds, fields, strict=True):
        if value is None:
            if kind[-1] != "?":
                raise ValueError(f"{purpose.name}: a field that must be present is absent")
            encoded.append(ABSENT)
        else:
            encoded.append(_ENCODERS[kind.rstrip("?")](value))
    return b"".join(encoded)


def split(body: bytes) -> list[bytes | None]:
    """Take a body apart into its items. A cut item or bytes left over raise Unreadable."""
    found: list[bytes | None] = []
    at, end = 0, len(body)
    while at < end:
        start = at + 4
        length = int.from_bytes(body[at:start], "big")
        if length > _LONGEST:
            found.append(None)
            at = start
        else:
            at = start + length
            found.append(body[start:at])
    if at != end:
        raise Unreadable("cut item")
    return found


def text(value: bytes) -> str:
    """Read UTF-8 strictly; anything else raises Unreadable."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unreadable("not UTF-8") from error


def _decode(kind: str, value: bytes) -> bytes | int | datetime | str:
    if kind in ("number", "time"):
        if len(value) != 8:
            raise Unreadable("a number of the wrong size")
        number = int.from_bytes(value, "big")
        return number if kind == "number" else moment(number)
    if kind == "text":
        return text(value)
    if (kind == "id" and len(value) != 16) or (kind == "key" and len(value) != 32):
        raise Unreadable("an id or key of the wrong size")
    return value


def dec(purpose: Purpose, body: bytes) -> list[Any]:
    """Decode what `enc` made for this purpose, and nothing else: every other body raises Unreadable.

    The values have the types of the purpose's fields; a list comes as the bytes of its items, for `split`.
    """
    found = split(body)
    if len(found) != 1 + len(purpose.kinds) or item(found[0]) != purpose.head:
        raise Unreadable("not " + purpose.name)
    values: list[Any] = []
    for kind, value in zip(purpose.kinds, found[1:], strict=True):
        if value is None:
            if kind[-1] != "?":
                raise Unreadable("a field that must be present is absent")
            values.append(None)
        else:
            values.append(_decode(kind.rstrip("?"), value))
    return values
