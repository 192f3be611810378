"""enc() and its reverse: one encoding for one tuple, and nothing else is read (W9)."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.crypto.encoding import ABSENT, EPOCH, dec, enc, item, items, microseconds, moment, split
from vault.crypto.purposes import GRANT, PART, PREFIX, PURPOSES, RESERVED, SUBJECT, Purpose
from vault.errors import Unreadable

_TIMES = st.datetimes(
    min_value=EPOCH.replace(tzinfo=None),
    max_value=datetime(9999, 12, 31),  # noqa: DTZ001
    timezones=st.just(UTC),
)
_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "id": st.binary(min_size=16, max_size=16),
    "key": st.binary(min_size=32, max_size=32),
    "bytes": st.binary(max_size=40),
    "text": st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    "number": st.integers(0, 2**64 - 1),
    "time": _TIMES,
    "list": st.lists(st.none() | st.binary(max_size=8), max_size=4).map(items),
}


def _value(kind: str) -> st.SearchStrategy[Any]:
    values = _VALUES[kind.rstrip("?")]
    return st.none() | values if kind.endswith("?") else values


_TUPLES = st.sampled_from(PURPOSES + RESERVED).flatmap(
    lambda purpose: st.tuples(st.just(purpose), st.tuples(*[_value(kind) for kind in purpose.kinds]))
)


@given(_TUPLES, _TUPLES)
def test_w9_two_different_tuples_never_encode_equal(
    one: tuple[Purpose, tuple[Any, ...]], other: tuple[Purpose, tuple[Any, ...]]
) -> None:
    encoded = enc(one[0], *one[1]), enc(other[0], *other[1])
    assert (one == other) == (encoded[0] == encoded[1])


@given(st.sampled_from([GRANT, PART, SUBJECT]).flatmap(
    lambda purpose: st.tuples(
        st.just(purpose), *[st.tuples(*[_value(kind) for kind in purpose.kinds]) for _ in range(2)]
    )
))  # fmt: skip
def test_w9_two_tuples_of_one_purpose_never_encode_equal(drawn: tuple[Purpose, Any, Any]) -> None:
    purpose, one, other = drawn
    assert (one == other) == (enc(purpose, *one) == enc(purpose, *other))


@given(_TUPLES)
def test_w9_what_is_encoded_decodes_to_the_same(drawn: tuple[Purpose, tuple[Any, ...]]) -> None:
    purpose, fields = drawn
    assert tuple(dec(purpose, enc(purpose, *fields))) == fields


def test_w9_the_pair_that_broke_others() -> None:
    """ "1" with "11" and "11" with "1": version and position without a separator, CVE-2020-8133."""
    assert enc(SUBJECT, "1", "11") != enc(SUBJECT, "11", "1")


def test_w9_absent_is_not_empty_and_not_zero() -> None:
    segment = bytes(16)
    forms = {enc(PART, segment, 0, None), enc(PART, segment, 0, b""), enc(PART, segment, 0, bytes(8))}
    assert len(forms) == 3


def test_the_bytes_are_those_of_the_format() -> None:
    encoded = enc(PART, bytes(range(16)), 258, None)
    assert encoded == (
        b"\0\0\0\x10docvault/v1/part"
        + b"\0\0\0\x10"
        + bytes(range(16))
        + b"\0\0\0\x08"
        + b"\0\0\0\0\0\0\x01\x02"
        + ABSENT
    )


@pytest.mark.parametrize(
    "fields",
    [
        (),
        (bytes(16), 0),
        (bytes(16), 0, None, None),
        (bytes(15), 0, None),
        (bytes(17), 0, None),
        (bytearray(16), 0, None),
        ("0" * 16, 0, None),
        (None, 0, None),
        (bytes(16), -1, None),
        (bytes(16), 2**64, None),
        (bytes(16), True, None),
        (bytes(16), 1.0, None),
        (bytes(16), "0", None),
        (bytes(16), None, None),
        (bytes(16), 0, "suffix"),
        (bytes(16), 0, 7),
    ],
)
def test_a_wrong_count_type_or_size_raises(fields: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError):
        enc(PART, *fields)


def test_text_must_be_text() -> None:
    with pytest.raises(ValueError):
        enc(SUBJECT, "name", "\ud800")
    with pytest.raises(ValueError):
        enc(SUBJECT, "name", b"alice")


def test_a_naive_time_raises() -> None:
    with pytest.raises(ValueError):
        microseconds(datetime(2026, 11, 22))  # noqa: DTZ001


def test_a_time_is_the_same_in_every_zone() -> None:
    there = datetime(2026, 11, 22, 12, tzinfo=timezone(timedelta(hours=5, minutes=45)))
    assert microseconds(there) == microseconds(there.astimezone(UTC))


@given(_TIMES)
def test_times_keep_their_microseconds(time: datetime) -> None:
    assert moment(microseconds(time)) == time
    assert microseconds(EPOCH) == 0


def test_a_time_before_1970_or_after_9999_raises() -> None:
    with pytest.raises(ValueError):
        enc(
            GRANT, bytes(16), bytes(16), 0, bytes(16), 1, bytes(16), "read", EPOCH - timedelta(microseconds=1)
        )
    with pytest.raises(Unreadable):
        moment(2**64 - 1)


@given(st.binary(max_size=60))
def test_split_reads_exactly_what_items_wrote(body: bytes) -> None:
    try:
        found = split(body)
    except Unreadable:
        return
    assert items(found) == body


@pytest.mark.parametrize(
    "body", [b"\0", b"\0\0\0", b"\0\0\0\x01", b"\0\0\0\x02a", b"\0\0\0\0\0", b"\xff\xff\xff\xfe"]
)
def test_cut_items_are_unreadable(body: bytes) -> None:
    with pytest.raises(Unreadable):
        split(body)


def test_a_body_with_anything_else_is_unreadable() -> None:
    right = enc(PART, bytes(16), 5, b"12345678")
    wrong = [
        right[:-1], right + b"\0", right + item(b""), enc(SUBJECT, "a", "b"), b"", right.replace(b"/v1/", b"/v2/"),
        item(PART.name.encode()) + item(bytes(15)) + item(bytes(8)) + ABSENT,
        item(PART.name.encode()) + item(bytes(16)) + item(bytes(7)) + ABSENT,
        item(PART.name.encode()) + item(bytes(16)) + ABSENT + ABSENT,
    ]  # fmt: skip
    for body in wrong:
        with pytest.raises(Unreadable):
            dec(PART, body)
    with pytest.raises(Unreadable):
        dec(SUBJECT, item(SUBJECT.name.encode()) + item(b"name") + item(b"\xff"))


@pytest.mark.requirement(12)
def test_purposes_are_unique_and_prefixed() -> None:
    """Checklist 6 and 12: no two uses share a label, and none is empty."""
    names = [purpose.name for purpose in PURPOSES + RESERVED]
    assert len(set(names)) == len(names)
    assert all(name.startswith(PREFIX) and len(name) > len(PREFIX) for name in names)
    # No encoding of one can be the beginning of another's: the name's length goes first.
    assert len({purpose.head for purpose in PURPOSES + RESERVED}) == len(names)


@pytest.mark.parametrize("name", ["", "docvault/v1/", "other/v1/x", "docvault/v2/x"])
def test_an_empty_or_foreign_purpose_raises(name: str) -> None:
    with pytest.raises(ValueError):
        Purpose(name)


def test_a_field_of_an_unknown_type_raises() -> None:
    with pytest.raises(ValueError):
        Purpose("docvault/v1/x", ("a:float",))


def test_every_purpose_of_the_module_is_listed() -> None:
    from vault.crypto import purposes

    named = [value for value in vars(purposes).values() if isinstance(value, Purpose)]
    assert set(named) == set(PURPOSES) and len(named) == len(PURPOSES)
