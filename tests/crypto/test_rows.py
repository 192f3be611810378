"""Row seals: each value in its own column with its own type, and nowhere else (M2, W9)."""

import hmac
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.crypto.encoding import enc, items, microseconds
from vault.crypto.masterkey import MasterKeys
from vault.crypto.purposes import MASTER_ROWS, ROW
from vault.crypto.randomness import new_secret
from vault.crypto.rows import TAGS, RowSealer, Value, check_row, decode_row, encode_row, row_seal
from vault.errors import KeyUnavailable, Unreadable

KEY = new_secret()
NOW = datetime(2026, 11, 22, 1, 2, 3, 456_789, tzinfo=UTC)

_ANY = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.binary(max_size=20),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.datetimes(timezones=st.just(UTC)),
)
_COLUMNS = st.lists(
    st.tuples(st.text("abc_", min_size=1, max_size=4), _ANY), max_size=5, unique_by=lambda c: c[0]
)
_ROWS = st.tuples(
    st.text("xyz", max_size=3), st.integers(0, 9), st.binary(max_size=17), st.integers(0, 9), _COLUMNS
)


def _seal(table: str, schema: int, row_id: bytes, row_version: int, columns: Any) -> bytes:
    return row_seal(KEY, table=table, schema=schema, row_id=row_id, row_version=row_version, columns=columns)


def _typed(row: tuple[Any, ...]) -> Any:
    """True equals 1 in Python; in a row it does not."""
    return (*row[:4], [(name, type(value), value) for name, value in row[4]])


@given(_ROWS, _ROWS)
def test_w9_m2_two_different_rows_have_different_seals(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    assert (_typed(one) == _typed(other)) == (_seal(*one) == _seal(*other))


@given(_ROWS)
def test_the_seal_is_that_of_the_format(row: tuple[Any, ...]) -> None:
    """Written a second time, by enc and its items."""
    table, schema, row_id, row_version, columns = row
    body: list[bytes | None] = []
    for name, value in columns:
        encoded: bytes | None
        if value is None:
            encoded = None
        elif isinstance(value, bool):
            encoded = bytes([value])
        elif isinstance(value, int):
            encoded = value.to_bytes(8, "big", signed=True)
        elif isinstance(value, str):
            encoded = value.encode()
        elif isinstance(value, datetime):
            encoded = microseconds(value).to_bytes(8, "big", signed=True)
        else:
            encoded = value
        body += [name.encode(), TAGS[type(value)], encoded]
    message = enc(ROW, table, schema, row_id, row_version, items(body))
    assert (
        RowSealer(table, schema, [name for name, _ in columns]).message(
            row_id, row_version, [value for _, value in columns]
        )
        == message
    )
    assert _seal(*row) == hmac.digest(KEY, message, "sha256")


@given(st.lists(_ANY, min_size=2, max_size=4))
def test_m2_a_value_moved_to_another_column_changes_the_seal(values: list[Any]) -> None:
    names = ["a", "b", "c", "d"][: len(values)]
    moved = values[1:] + values[:1]
    same = [(type(value), value) for value in values] == [(type(value), value) for value in moved]
    sealer = RowSealer("document", 1, names)
    assert same == (sealer.seal(KEY, b"id", 1, values) == sealer.seal(KEY, b"id", 1, moved))


def test_m2_values_that_print_alike_are_apart() -> None:
    """1, "1", b"1", True, 1 as 8 bytes, and the moment 1: what some database or driver would take for another."""
    alike = [
        1, "1", b"1", True, (1).to_bytes(8, "big"), datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC), None, 0, False,
        b"", "",
        b"\0", b"\x01", "None", -1,
    ]  # fmt: skip
    assert len({_seal("t", 1, b"id", 1, [("c", value)]) for value in alike}) == len(alike)


def test_m2_everything_around_the_columns_is_sealed() -> None:
    columns: list[tuple[str, Value]] = [("a", 1), ("b", "x")]
    seals = {
        _seal("t", 1, b"id", 1, columns), _seal("u", 1, b"id", 1, columns), _seal("t", 2, b"id", 1, columns),
        _seal("t", 1, b"ie", 1, columns), _seal("t", 1, b"id", 2, columns), _seal("t", 1, b"id", 1, columns[::-1]),
        _seal("t", 1, b"id", 1, columns[:1]), _seal("t", 1, b"id", 1, [("a", 1), ("c", "x")]),
        row_seal(new_secret(), table="t", schema=1, row_id=b"id", row_version=1, columns=columns),
    }  # fmt: skip
    assert len(seals) == 9


def test_a_time_is_sealed_the_same_in_every_zone() -> None:
    """One driver gives UTC, another its session's zone."""
    there = NOW.astimezone(timezone(timedelta(hours=-7)))
    assert _seal("t", 1, b"id", 1, [("c", NOW)]) == _seal("t", 1, b"id", 1, [("c", there)])


@pytest.mark.parametrize("value", [1.0, [], bytearray(b"x"), memoryview(b"x"), 2**63, -(2**63) - 1, object()])
def test_other_values_are_refused(value: Any) -> None:
    with pytest.raises(ValueError):
        _seal("t", 1, b"id", 1, [("c", value)])


def test_a_naive_time_or_a_lone_surrogate_is_refused() -> None:
    for value in (NOW.replace(tzinfo=None), "\ud800"):
        with pytest.raises(ValueError):
            _seal("t", 1, b"id", 1, [("c", value)])


def test_each_column_once_with_one_value() -> None:
    with pytest.raises(ValueError):
        RowSealer("t", 1, ["a", "a"])
    with pytest.raises(ValueError):
        RowSealer("t", 1, ["a", "b"]).seal(KEY, b"id", 1, [1])


def test_a_sealer_serves_several_master_keys() -> None:
    """During a rotation rows are under either."""
    sealer, other = RowSealer("t", 1, ["a"]), new_secret()
    seals = [sealer.seal(key, b"id", 1, [5]) for key in (KEY, other, KEY, other)]
    assert seals[0] == seals[2] == hmac.digest(KEY, sealer.message(b"id", 1, [5]), "sha256")
    assert seals[1] == seals[3] != seals[0]
    assert sealer.matches(KEY, seals[0], b"id", 1, [5])
    assert not sealer.matches(KEY, seals[1], b"id", 1, [5])
    assert not sealer.matches(KEY, seals[0], b"id", 1, [6])
    assert not sealer.matches(KEY, b"", b"id", 1, [5])


# Lines of backups


@given(_COLUMNS)
def test_a_row_comes_back_from_its_line_with_every_type(columns: list[tuple[str, Any]]) -> None:
    names, values = [name for name, _ in columns], [value for _, value in columns]
    line = encode_row(names, values)
    assert line.isascii() and line.endswith(b"\n") and line.count(b"\n") == 1
    found = decode_row(line)
    assert list(found) == names
    assert [(type(value), value) for value in found.values()] == [(type(value), value) for value in values]


@pytest.mark.parametrize(
    "line",
    [
        *(b"", b"\n", b"[]", b"1", b'{"a":1}', b'{"a":[]}', b'{"a":["i"]}', b'{"a":["i",1,1]}', b"{"),
        *(b'{"a":["i","1"]}', b'{"a":["i",true]}', b'{"a":["i",1.5]}', b'{"a":["b",1]}', b'{"a":["n",0]}'),
        *(b'{"a":["s",1]}', b'{"a":["y","0"]}', b'{"a":["y",0]}', b'{"a":["x",1]}', b'{"a":[[],1]}'),
        *(b'{"a":["t","x"]}', b'{"a":["t",99999999999999999999]}', b'{"a":["t",true]}', b"\xff", b"[" * 9999),
    ],
)
def test_a_line_that_is_none_is_unreadable(line: bytes) -> None:
    with pytest.raises(Unreadable):
        decode_row(line)


def test_a_row_of_a_backup_is_checked_against_its_seal() -> None:
    master, names = MasterKeys(KEY), ["at", "name"]
    sealer = RowSealer("user", 1, names)
    row: dict[str, Any] = {
        "id": b"i" * 16,
        "row_version": 3,
        "at": NOW,
        "name": "alice",
        "seal_key_id": master.key_id,
    }
    key = master.derive(MASTER_ROWS)
    row["seal"] = sealer.seal(key, row["id"], row["row_version"], [row[name] for name in names])
    check_row(master, sealer, row)
    for changed in (
        {"name": "alise"}, {"at": 1}, {"row_version": 4}, {"row_version": "3"}, {"row_version": None},
        {"id": b"j" * 16}, {"id": 5}, {"seal": b""}, {"seal": None}, {"name": 1.5}, {"row_version": -1},
    ):  # fmt: skip
        with pytest.raises(Unreadable):
            check_row(master, sealer, row | changed)  # type: ignore[operator]
    with pytest.raises(Unreadable):
        check_row(master, sealer, {name: value for name, value in row.items() if name != "name"})
    with pytest.raises(Unreadable):
        check_row(master, RowSealer("user", 1, ["at"]), row)
    with pytest.raises(KeyUnavailable):
        check_row(master, sealer, row | {"seal_key_id": b"k" * 8})
