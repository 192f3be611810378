"""Recovery codes: 130 bits, written for people, and what a slip does."""

from __future__ import annotations

import itertools

import pytest

from vault.crypto.passphrase import CODE_ALPHABET
from vault.crypto.randomness import new_id
from vault.crypto.recovery import (
    BITS,
    CHECK_SYMBOLS,
    new_recovery_code,
    read_recovery_code,
    recovery_kek,
    write_recovery_code,
)
from vault.errors import CodeMistyped

LARGEST = ((1 << BITS) - 1).to_bytes(32, "big")


def test_codes_have_130_bits_26_digits_and_a_check_symbol_in_groups() -> None:
    codes = {new_recovery_code() for _ in range(300)}
    assert len(codes) == 300
    for code in codes:
        assert [len(group) for group in code.split("-")] == [5, 5, 5, 5, 5, 2]
        assert set(code[:-1]) <= set(CODE_ALPHABET) | {"-"} and code[-1] in CHECK_SYMBOLS
    assert BITS == 130
    numbers = [int.from_bytes(read_recovery_code(code), "big") for code in codes]
    assert max(numbers).bit_length() == 130, "the highest bit is drawn as well"


@pytest.mark.parametrize("secret", [bytes(32), bytes(31) + b"\1", LARGEST, LARGEST[:-1] + b"\0"])
def test_a_code_is_read_back(secret: bytes) -> None:
    assert read_recovery_code(write_recovery_code(secret)) == secret


def test_the_check_symbol_is_crockfords() -> None:
    """His own example of base 37: the number 1234 is 16J, and 1234 mod 37 is 13, a D."""
    assert write_recovery_code((1234).to_bytes(32, "big")).endswith("16-JD")
    assert CHECK_SYMBOLS == "0123456789ABCDEFGHJKMNPQRSTVWXYZ*~$=U"


@pytest.mark.parametrize("secret", [bytes(31), bytes(33), b"\1" + bytes(31), (1 << BITS).to_bytes(32, "big")])
def test_what_is_no_code_is_not_written(secret: bytes) -> None:
    with pytest.raises(ValueError, match="130 bits"):
        write_recovery_code(secret)


def test_a_code_is_read_as_people_type() -> None:
    code = write_recovery_code(int("10" * 65, 2).to_bytes(32, "big"))
    plain = code.replace("-", "")
    typed = plain.lower().replace("0", "o").replace("1", "i", 1).replace("1", "l")
    for form in (code, plain, f"  {code.lower()}\n", " ".join(plain), typed):
        assert read_recovery_code(form) == read_recovery_code(code)


def test_every_wrong_character_and_every_exchange_is_noticed() -> None:
    code = new_recovery_code().replace("-", "")
    for place in range(len(code)):
        for other in set(CODE_ALPHABET if place < 26 else CHECK_SYMBOLS) - {code[place]}:
            with pytest.raises(CodeMistyped):
                read_recovery_code(code[:place] + other + code[place + 1 :])
    for one, two in itertools.combinations(range(26), 2):
        if code[one] != code[two]:
            digits = list(code)
            digits[one], digits[two] = digits[two], digits[one]
            with pytest.raises(CodeMistyped):
                read_recovery_code("".join(digits))


@pytest.mark.parametrize(
    "typed", ["", "A", "0" * 26, "0" * 28, "U" + "0" * 26, "0" * 26 + "ü", "0" * 5000, "٠" * 27]
)
def test_what_is_no_code_is_refused(typed: str) -> None:
    with pytest.raises(CodeMistyped):
        read_recovery_code(typed)


def test_the_key_belongs_to_one_method_of_one_user() -> None:
    secret, user, method = read_recovery_code(new_recovery_code()), new_id(), new_id()
    keys = {
        recovery_kek(secret, user=user, method=method),
        recovery_kek(secret, user=method, method=user),
        recovery_kek(secret, user=user, method=new_id()),
        recovery_kek(bytes(32), user=user, method=method),
    }
    assert len(keys) == 4 and {len(key) for key in keys} == {32}
