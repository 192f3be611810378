"""The cursor of a re-key: opened by its owner's account key, for its own row."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.crypto.derivation import derive
from vault.crypto.encoding import enc
from vault.crypto.parts import PART_SIZE
from vault.crypto.purposes import ACCOUNT_REKEY, REKEY, REKEY_BODY
from vault.crypto.rekey import RekeyCursor, open_rekey_cursor, seal_rekey_cursor
from vault.crypto.sealing import seal
from vault.errors import Unreadable

KEY, WORK, USER = os.urandom(32), os.urandom(16), os.urandom(16)
IDS, KEYS = st.binary(min_size=16, max_size=16), st.binary(min_size=32, max_size=32)
BEGUN = st.builds(
    RekeyCursor, st.booleans(), IDS, st.integers(0, 2**40), IDS, KEYS, st.integers(1, PART_SIZE), st.integers(0, 2**20)
)  # fmt: skip


@given(st.one_of(BEGUN, st.sampled_from([RekeyCursor(False), RekeyCursor(True)])))
def test_what_was_sealed_opens(cursor: RekeyCursor) -> None:
    assert (
        open_rekey_cursor(KEY, seal_rekey_cursor(KEY, cursor, work=WORK, user=USER), work=WORK, user=USER)
        == cursor
    )


def test_another_account_row_or_user_opens_nothing() -> None:
    sealed = seal_rekey_cursor(KEY, RekeyCursor(True), work=WORK, user=USER)
    for key, work, user in ((os.urandom(32), WORK, USER), (KEY, USER, USER), (KEY, WORK, WORK)):
        with pytest.raises(Unreadable):
            open_rekey_cursor(key, sealed, work=work, user=user)


@pytest.mark.parametrize(
    "fields",
    [
        (2, None, 0, None, None, 0, 0),
        (0, WORK, 0, None, KEY, 1, 0),
        (0, None, 0, WORK, KEY, 1, 0),
        (0, WORK, 0, WORK, None, 1, 0),
        (0, WORK, 0, WORK, KEY, 0, 0),
        (0, WORK, 0, WORK, KEY, PART_SIZE + 1, 0),
    ],
)
def test_a_cursor_that_no_rekey_has_is_refused(fields: tuple[int | bytes | None, ...]) -> None:
    sealed = seal(derive(KEY, ACCOUNT_REKEY), enc(REKEY_BODY, *fields), enc(REKEY, WORK, USER))
    with pytest.raises(Unreadable):
        open_rekey_cursor(KEY, sealed, work=WORK, user=USER)


def test_it_is_shown_without_its_key() -> None:
    assert repr(RekeyCursor(False, WORK, 0, WORK, KEY, 1, 3)) == "<RekeyCursor 3 parts>"
