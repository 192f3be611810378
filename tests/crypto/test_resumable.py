"""Upload tokens and metadata: what they carry comes back whole, and opens for nobody else (W10, X5, requirement 43)."""

import base64
import itertools
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.crypto.encoding import enc, moment
from vault.crypto.masterkey import MasterKeys
from vault.crypto.purposes import MASTER_UPLOADS, UPLOAD_METADATA, UPLOAD_SEGMENT_KEY, UPLOAD_TOKEN
from vault.crypto.randomness import new_id, new_secret
from vault.crypto.resumable import (
    LONGEST_UPLOAD_TOKEN,
    issue_upload_token,
    open_segment_key,
    open_upload_metadata,
    read_upload_token,
    seal_upload_metadata,
)
from vault.crypto.sealing import pad, seal, sealed_size
from vault.errors import Unreadable

OLD, NEW = new_secret(), new_secret()
MASTER = MasterKeys(OLD)
UPLOAD, USER, SEGMENT_KEY = new_id(), new_id(), new_secret()
TODAY, YESTERDAY, OTHER = new_secret(), new_secret(), new_secret()
KEYS = (TODAY, YESTERDAY)
EXPIRES = datetime(2026, 11, 24, tzinfo=UTC)
LONGEST = (1 << 63) - 3
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def issue(
    master: MasterKeys = MASTER, key: bytes = TODAY, segment_key: bytes = SEGMENT_KEY, **said: Any
) -> str:
    bound: dict[str, Any] = {"upload": UPLOAD, "user": USER, "length": 1000, "expires_at": EXPIRES}
    return issue_upload_token(master, key, segment_key, **{**bound, **said})


def refused(token: str, master: MasterKeys = MASTER) -> None:
    with pytest.raises(Unreadable) as raised:
        read_upload_token(master, token)
    assert str(raised.value) == Unreadable.text


ids = st.binary(min_size=16, max_size=16)
secrets = st.binary(min_size=32, max_size=32)
moments = st.integers(0, 10**17).map(lambda passed: moment(passed))


@given(
    upload=ids, user=ids, length=st.none() | st.integers(0, LONGEST), is_partial=st.booleans(), expires_at=moments,
    key=secrets, segment_key=secrets,
)  # fmt: skip
def test_a_token_round_trips(key: bytes, segment_key: bytes, **said: Any) -> None:
    token = issue(key=key, segment_key=segment_key, **said)
    assert len(token) == 310 <= LONGEST_UPLOAD_TOKEN
    assert set(token) <= set(ALPHABET)
    ticket = read_upload_token(MASTER, token)
    assert {name: getattr(ticket, name) for name in said} == said
    assert not ticket.is_final
    assert open_segment_key((key,), ticket) == segment_key


def test_the_token_of_a_joined_upload_says_so() -> None:
    ticket = read_upload_token(MASTER, issue(length=None, is_final=True))
    assert (ticket.is_final, ticket.is_partial, ticket.length) == (True, False, None)


@pytest.mark.parametrize("length", [-1, LONGEST + 1, 1 << 63, 1 << 64])
def test_a_length_that_would_say_something_else_is_refused(length: int) -> None:
    with pytest.raises(ValueError):
        issue(length=length)


@pytest.mark.parametrize(
    "wrong",
    [
        {"upload": b"short"},
        {"user": new_secret()},
        {"segment_key": b"short"},
        {"segment_key": new_secret() * 2},
    ],
    ids=["short id", "long id", "short key", "long key"],
)
def test_what_has_another_size_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        issue(**wrong)


def test_every_edited_character_is_refused() -> None:
    token = issue()
    for place in range(len(token)):
        for other in {ALPHABET[(ALPHABET.index(token[place]) + step) % 64] for step in (1, 16, 32, 63)}:
            refused(token[:place] + other + token[place + 1 :])


@given(st.text(max_size=400) | st.text(ALPHABET, max_size=400))
def test_what_is_no_token_is_unreadable_and_nothing_else(text: str) -> None:
    refused(text)


def test_no_second_spelling_of_a_token_is_read() -> None:
    token = issue()
    raw = base64.urlsafe_b64decode(token + "==")
    standard = base64.b64encode(raw).rstrip(b"=").decode()
    for other in (
        token + "=", token + "==", token + "\n", " " + token, token[:-1], token[1:], token + "A", token * 2, "",
        token[:100] + "\0" + token[100:], token[:100] + "!" + token[100:], token.swapcase(),
        token[:-1] + ALPHABET[ALPHABET.index(token[-1]) ^ 1],
    ):  # fmt: skip
        refused(other)
    if standard != token:
        refused(standard)


def test_two_tokens_of_the_same_upload_have_nothing_in_common_but_the_master_keys_id() -> None:
    one, two = (base64.urlsafe_b64decode(issue() + "==") for _ in range(2))
    assert one[:8] == two[:8] == MASTER.key_id
    assert one[8:40] != two[8:40]
    for secret in (UPLOAD, USER, SEGMENT_KEY):
        assert secret not in one


def test_a_token_outlives_the_change_of_the_master_key_while_the_old_one_is_known() -> None:
    token = issue()
    assert read_upload_token(MasterKeys(NEW, [OLD]), token).upload == UPLOAD
    refused(token, MasterKeys(NEW))
    refused(issue(MasterKeys(NEW)), MASTER)


def test_w10_the_master_key_opens_the_token_but_not_the_segment_key_in_it() -> None:
    """Who has an upload's address and the master key has no key of the user."""
    ticket = read_upload_token(MASTER, issue())
    for key in (OTHER, MASTER.derive(MASTER_UPLOADS), OLD, bytes(32)):
        with pytest.raises(Unreadable):
            open_segment_key((key,), ticket)
    assert SEGMENT_KEY.hex() not in repr(ticket) and SEGMENT_KEY not in ticket.sealed_key


def test_todays_and_yesterdays_keys_open_and_no_other() -> None:
    for issued, known in itertools.product(KEYS, (KEYS, KEYS[::-1])):
        assert open_segment_key(known, read_upload_token(MASTER, issue(key=issued))) == SEGMENT_KEY
    with pytest.raises(Unreadable):
        open_segment_key(KEYS, read_upload_token(MASTER, issue(key=OTHER)))


def test_a_segment_key_does_not_move_to_another_upload_or_user() -> None:
    ticket = read_upload_token(MASTER, issue())
    for changed in ({"upload": new_id()}, {"user": new_id()}, {"upload": USER, "user": UPLOAD}):
        with pytest.raises(Unreadable):
            open_segment_key(KEYS, ticket._replace(**changed))


def forged(payload: bytes, key: bytes | None = None, context: bytes = enc(UPLOAD_TOKEN)) -> str:
    sealed = seal(key or MASTER.derive(MASTER_UPLOADS), payload, context)
    return base64.urlsafe_b64encode(MASTER.key_id + sealed).rstrip(b"=").decode()


def test_a_payload_of_another_size_or_under_another_seal_is_refused() -> None:
    inner = seal(TODAY, SEGMENT_KEY, enc(UPLOAD_SEGMENT_KEY, UPLOAD, USER))
    payload = UPLOAD + USER + bytes(16) + inner
    assert read_upload_token(MASTER, forged(payload)).length == 0, (
        "so that the refusals are for what they change"
    )
    refused(forged(payload[:-1]))
    refused(forged(payload + b"\0"))
    refused(forged(b""))
    refused(forged(payload, key=OLD))
    refused(forged(payload, context=enc(UPLOAD_METADATA, UPLOAD, USER)))


@given(metadata=st.binary(max_size=5000))
def test_metadata_round_trip_and_hide_their_length(metadata: bytes) -> None:
    sealed = seal_upload_metadata(TODAY, metadata, upload=UPLOAD, user=USER)
    assert open_upload_metadata(KEYS, sealed, upload=UPLOAD, user=USER) == metadata
    assert len(sealed) in {sealed_size(1 << power) for power in range(7, 14)}


def test_metadata_of_yesterday_open_and_those_of_others_do_not() -> None:
    sealed = seal_upload_metadata(YESTERDAY, b"name", upload=UPLOAD, user=USER)
    assert open_upload_metadata(KEYS, sealed, upload=UPLOAD, user=USER) == b"name"
    for keys, owned in (
        ((TODAY, OTHER), {"upload": UPLOAD, "user": USER}),
        (KEYS, {"upload": new_id(), "user": USER}),
        (KEYS, {"upload": UPLOAD, "user": new_id()}),
    ):
        with pytest.raises(Unreadable):
            open_upload_metadata(keys, sealed, **owned)
    for place in range(0, len(sealed), 7):
        edited = bytearray(sealed)
        edited[place] ^= 1
        with pytest.raises(Unreadable):
            open_upload_metadata(KEYS, bytes(edited), upload=UPLOAD, user=USER)


def test_metadata_and_segment_keys_are_not_taken_for_each_other() -> None:
    ticket = read_upload_token(MASTER, issue())
    swapped = seal(TODAY, pad(SEGMENT_KEY), enc(UPLOAD_METADATA, UPLOAD, USER))
    with pytest.raises(Unreadable):
        open_segment_key(KEYS, ticket._replace(sealed_key=swapped))
    with pytest.raises(Unreadable):
        open_upload_metadata(KEYS, ticket.sealed_key, upload=UPLOAD, user=USER)
