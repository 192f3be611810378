"""The audit chain: M5, and the encoding of what an entry touched."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.crypto.audit import FIRST, decode_touched, encode_touched, entry_hash
from vault.crypto.encoding import enc, items
from vault.crypto.purposes import TOUCHED_BODY
from vault.crypto.randomness import new_id, new_secret
from vault.errors import Unreadable

NOW = datetime(2026, 11, 22, 1, 2, 3, 456_789, tzinfo=UTC)
_FIELD = st.one_of(st.none(), st.integers(0, 2**40), st.binary(max_size=8), st.text("ab1", max_size=8))


@given(st.lists(_FIELD, max_size=4), st.lists(_FIELD, max_size=4))
def test_w9_two_different_entries_have_different_hashes(one: list[Any], other: list[Any]) -> None:
    same = [(type(f), f) for f in one] == [(type(f), f) for f in other]
    assert same == (entry_hash(FIRST, 1, one) == entry_hash(FIRST, 1, other))


def test_m5_an_entry_is_bound_to_its_place() -> None:
    fields: list[Any] = ["share", new_id(), 5, NOW, None]
    right = entry_hash(FIRST, 1, fields)
    assert entry_hash(new_secret(), 1, fields) != right
    assert entry_hash(FIRST, 2, fields) != right
    assert entry_hash(FIRST, 1, fields[::-1]) != right
    assert len(right) == 32


def test_m5_cutting_changing_or_reordering_breaks_every_later_hash() -> None:
    def chain(entries: list[list[Any]]) -> list[bytes]:
        hashes, previous = [], FIRST
        for number, fields in enumerate(entries, 1):
            previous = entry_hash(previous, number, fields)
            hashes.append(previous)
        return hashes

    entries = [["event", number] for number in range(6)]
    right = chain(entries)
    for at in range(5):
        for changed in (
            entries[:at] + entries[at + 1 :],
            [*entries[:at], ["other", at], *entries[at + 1 :]],
            [*entries[:at], entries[at + 1], entries[at], *entries[at + 2 :]],
        ):
            assert all(old != new for old, new in zip(right[at:], chain(changed)[at:], strict=False))


@pytest.mark.parametrize("field", [True, 1.0, [], bytearray(b"x"), 2**63])
def test_other_fields_are_refused(field: Any) -> None:
    with pytest.raises((ValueError, OverflowError)):
        entry_hash(FIRST, 1, [field])


def test_a_previous_hash_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError):
        entry_hash(b"", 1, [])


def test_touched_rows_round_trip() -> None:
    rows = [("document", new_id(), 3, new_secret()), ("shared_key_registry", new_id(), 2**63, b"")]
    assert decode_touched(encode_touched(rows)) == rows
    assert decode_touched(encode_touched([])) == []


def test_damaged_touched_rows_are_unreadable() -> None:
    right = encode_touched([("document", new_id(), 3, new_secret())])
    wrong = [
        right[:-1], right + b"\0", b"", enc(TOUCHED_BODY, items([b"document", bytes(16), bytes(8)])),
        enc(TOUCHED_BODY, items([b"document", bytes(16), bytes(7), b""])),
        enc(TOUCHED_BODY, items([b"document", None, bytes(8), b""])),
        enc(TOUCHED_BODY, items([b"\xff", bytes(16), bytes(8), b""])),
    ]  # fmt: skip
    for encoded in wrong:
        with pytest.raises(Unreadable):
            decode_touched(encoded)
