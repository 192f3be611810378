"""The master key: P9, and one key for one purpose (checklist 6)."""

import pytest

from vault.crypto.masterkey import MasterKeys, parse_master_key
from vault.crypto.purposes import KEY_ID, MASTER_ROWS, MASTER_TOKENS, PURPOSES
from vault.crypto.randomness import new_secret
from vault.errors import KeyUnavailable, Misconfigured

GOOD = "8f" * 31 + "07"


def test_a_good_key_is_parsed() -> None:
    assert parse_master_key(GOOD) == bytes.fromhex(GOOD)
    assert parse_master_key("\n " + GOOD.upper() + "\n") == bytes.fromhex(GOOD)


@pytest.mark.parametrize("text", [
    "", " ", GOOD[:-1], GOOD[:-2], GOOD + "0", GOOD + "00", "g" + GOOD[1:], "0x" + GOOD, "0" * 64,
    GOOD[:32] + " " + GOOD[32:],
    "\u0661" * 64, "\uff11" * 64, "'" + GOOD + "'", "secret" * 10, GOOD + "\n" + GOOD,
])  # fmt: skip
def test_p9_missing_short_long_zero_and_raw_keys_are_refused(text: str) -> None:
    with pytest.raises(Misconfigured) as raised:
        parse_master_key(text)
    said = str(raised.value)
    assert "64" in said and "docvault keys generate" in said
    # No part of the key is repeated, in the text or in a chained error.
    assert raised.value.__cause__ is None and raised.value.__context__ is None
    pieces = [text[at : at + 6] for at in range(0, len(text) - 5, 6)]
    assert not any(piece.strip() and piece in said for piece in pieces)


def test_checklist_6_every_purpose_has_a_key_of_its_own() -> None:
    master = MasterKeys(new_secret())
    without_fields = [purpose for purpose in PURPOSES if not purpose.fields]
    keys = {master.derive(purpose) for purpose in without_fields}
    assert len(keys) == len(without_fields)
    assert all(len(key) == 32 for key in keys)
    assert master.key_id not in {
        key[:8] for purpose in without_fields if purpose != KEY_ID for key in [master.derive(purpose)]
    }


def test_fallbacks_open_and_unknown_keys_are_unavailable() -> None:
    old, new = new_secret(), new_secret()
    before, after = MasterKeys(old), MasterKeys(new, [old])
    assert before.key_id != after.key_id and after.key_ids == (after.key_id, before.key_id)
    assert after.derive(MASTER_ROWS, before.key_id) == before.derive(MASTER_ROWS)
    assert after.derive(MASTER_ROWS) == after.derive(MASTER_ROWS, after.key_id) != before.derive(MASTER_ROWS)
    for unknown in (after.key_id, b"", bytes(8)):
        with pytest.raises(KeyUnavailable):
            before.derive(MASTER_ROWS, unknown)


def test_a_fallback_that_is_the_primary_counts_once() -> None:
    key = new_secret()
    assert len(MasterKeys(key, [key]).key_ids) == 1


def test_a_key_of_another_size_is_refused() -> None:
    for size in (0, 16, 31, 33, 64):
        with pytest.raises(ValueError):
            MasterKeys(bytes(size))


def test_p9_nothing_is_shown() -> None:
    key = new_secret()
    master = MasterKeys(key, [new_secret()])
    master.derive(MASTER_TOKENS)
    assert repr(master) == str(master) == "<MasterKeys, 2 of them>"
