"""Passphrases: P1 (KDF parameters), P4 (long and odd text), and the words."""

import hashlib
import time
import unicodedata
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from argon2.low_level import Type, hash_secret_raw
from hypothesis import given
from hypothesis import strategies as st

from vault.crypto import randomness
from vault.crypto.passphrase import (
    CODE_ALPHABET,
    KDF_CEILING,
    KDF_DEFAULT,
    KDF_FLOOR,
    LONGEST,
    WORDS,
    KdfParameters,
    derive_kek,
    fingerprint_words,
    generate_passphrase,
    new_code,
    normalise,
    normalise_code,
)
from vault.errors import BadPassphrase, CodeInvalid, Unreadable

SALT = bytes(range(16))
RIGHT = KdfParameters(*KDF_DEFAULT, SALT)


def seconds(verb: Callable[[], None]) -> float:
    """Processor time, best of three: what the verb needs, and not what else this machine does."""
    times = []
    for _ in range(3):
        began = time.thread_time()
        verb()
        times.append(time.thread_time() - began)
    return min(times)


def refused(text: str) -> None:
    with pytest.raises(BadPassphrase):
        normalise(text)


# --- P1 ---

OUT_OF_BOUNDS: list[tuple[Any, Any, Any, Any]] = [
    (8, 1, 1, SALT), (65_535, 3, 4, SALT), (65_536, 2, 4, SALT), (65_536, 3, 3, SALT), (65_536, 0, 4, SALT),
    (65_536, -1, 4, SALT), (0, 0, 0, SALT), (262_145, 3, 4, SALT), (2**32, 3, 4, SALT), (2**26, 3, 4, SALT),
    (2**63, 2**63, 2**63, SALT), (65_536, 11, 4, SALT), (65_536, 2**32 - 1, 4, SALT), (65_536, 3, 9, SALT),
    (65_536, 3, 2**24, SALT), (65_536.0, 3, 4, SALT), ("65536", 3, 4, SALT), (True, 3, 4, SALT), (None, 3, 4, SALT),
    (65_536, 3, 4, b""), (65_536, 3, 4, SALT[:-1]), (65_536, 3, 4, SALT * 2), (65_536, 3, 4, "0123456789abcdef"),
    (65_536, 3, 4, None), (float("nan"), 3, 4, SALT), (65_536, float("inf"), 4, SALT),
]  # fmt: skip


@pytest.mark.parametrize("parameters", OUT_OF_BOUNDS)
@pytest.mark.requirement(4)
def test_p1_parameters_outside_floor_and_ceiling_are_refused_at_once(parameters: tuple[Any, ...]) -> None:
    def refuse() -> None:
        with pytest.raises(Unreadable):
            derive_kek(b"passphrase", KdfParameters(*parameters))

    assert seconds(refuse) < 0.05


@pytest.mark.requirement(3)
def test_p1_the_bounds_are_those_of_the_design() -> None:
    """Checklist 3: at least RFC 9106's second option."""
    assert KDF_FLOOR == KDF_DEFAULT == (64 * 1024, 3, 4)
    assert KDF_CEILING == (256 * 1024, 10, 8)
    for parameters in (KDF_FLOOR, KDF_CEILING):
        KdfParameters(*parameters, SALT).check()


@pytest.mark.requirement(3)
def test_fresh_parameters_are_current_and_have_a_salt_of_their_own() -> None:
    fresh = [KdfParameters.fresh() for _ in range(1000)]
    assert len({parameters.salt for parameters in fresh}) == 1000
    assert all(parameters.is_current() for parameters in fresh)
    assert not KdfParameters(131_072, 3, 4, SALT).is_current()
    fresh[0].check()


@pytest.mark.requirement(3)
def test_the_kek_is_argon2id_of_the_reference_implementation() -> None:
    expected = hash_secret_raw(
        b"passphrase", SALT, time_cost=3, memory_cost=65_536, parallelism=4, hash_len=32, type=Type.ID
    )
    assert derive_kek(b"passphrase", RIGHT) == expected


# --- P4 ---


def test_p4_a_mebibyte_is_refused_before_any_work() -> None:
    for text in ("x" * 2**20, "é" * 2**20, "e\u0301" * 2**20, "\U0001f333" * 2**20):
        assert seconds(partial(refused, text)) < 0.1


def test_p4_a_hostile_run_of_combining_marks_takes_no_time() -> None:
    assert seconds(lambda: refused("a" + "\u0315\u0316" * 2047)) < 0.1


@pytest.mark.parametrize("length", [1, 64, 65, 72, 73, 128, 255, 256, 1023, 1024])
def test_p4_every_byte_matters_up_to_the_limit(length: int) -> None:
    one, other = normalise("x" * (length - 1) + "y"), normalise("x" * length)
    assert len(one) == len(other) == length and one != other


@pytest.mark.parametrize("length", [65, 73, 1024])
def test_p4_the_last_byte_of_a_long_passphrase_reaches_the_kdf(length: int) -> None:
    one, other = ("x" * (length - 1) + last for last in "yz")
    assert derive_kek(normalise(one), RIGHT) != derive_kek(normalise(other), RIGHT)


def test_p4_one_byte_too_long() -> None:
    assert len(normalise("x" * LONGEST)) == LONGEST
    for text in ("x" * (LONGEST + 1), "é" * (LONGEST // 2) + "x", "\U0001f333" * 257):
        with pytest.raises(BadPassphrase):
            normalise(text)


def test_p4_the_limit_is_measured_after_nfc() -> None:
    """Four characters that become one of three bytes: typed longer than the limit, normalised shorter."""
    alpha = "\u03b1\u0313\u0342\u0345"
    assert unicodedata.normalize("NFC", alpha) == "\u1f86"
    assert len(normalise(alpha * 341)) == 1023


def test_p4_nfc_and_nfd_are_one_passphrase() -> None:
    typed = "Köln straße Ångström \u1e69 한국어"
    assert normalise(unicodedata.normalize("NFD", typed)) == normalise(unicodedata.normalize("NFC", typed))
    # Compatibility characters stay apart: NFKC would weaken what people typed.
    assert normalise("ﬁ") != normalise("fi")


def test_p4_nul_is_a_character_like_any_other() -> None:
    assert normalise("a\0b") == b"a\0b"
    assert derive_kek(normalise("a\0b"), RIGHT) != derive_kek(normalise("a\0c"), RIGHT)


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "\udc80", "x" * 500 + "\ud83c"])
def test_p4_lone_surrogates_are_refused(text: str) -> None:
    with pytest.raises(BadPassphrase):
        normalise(text)


@pytest.mark.requirement(19)
def test_p4_nothing_is_trimmed() -> None:
    assert len({normalise(text) for text in ("word", " word", "word ", "word\n", "Word", "word\u00a0")}) == 6
    with pytest.raises(BadPassphrase):
        normalise("")


@given(st.text(max_size=60))
def test_p4_any_text_is_bytes_or_refused(text: str) -> None:
    try:
        encoded = normalise(text)
    except BadPassphrase:
        return
    assert 0 < len(encoded) <= LONGEST
    assert normalise(encoded.decode()) == encoded


def test_errors_do_not_repeat_the_passphrase() -> None:
    for text in ("\ud800 geheim", "geheim" * 1000):
        with pytest.raises(BadPassphrase) as raised:
            normalise(text)
        assert "geheim" not in str(raised.value)


# --- words ---


def test_the_word_list_is_the_eff_long_list() -> None:
    assert len(WORDS) == len(set(WORDS)) == 7776 == 6**5
    assert (WORDS[0], WORDS[-1]) == ("abacus", "zoom")
    assert all(word.isascii() and " " not in word for word in WORDS)


def test_generated_passphrases_have_seven_words_of_the_list() -> None:
    made = [generate_passphrase() for _ in range(500)]
    assert len(set(made)) == 500
    for passphrase in made:
        words = passphrase.split(" ")
        assert len(words) == 7 and set(words) <= set(WORDS)
        assert normalise(passphrase) == passphrase.encode("ascii")


def test_every_word_has_the_same_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """13 bits are drawn from two bytes, and numbers from 7776 on are drawn again."""
    for number in (0, 1, 7775):
        monkeypatch.setattr(randomness, "_source", lambda count, n=number: (n << 3).to_bytes(count, "big"))
        assert generate_passphrase() == " ".join([WORDS[number]] * 7)
    drawn = iter([8191, 7776, 5] * 7)
    monkeypatch.setattr(randomness, "_source", lambda count: (next(drawn) << 3).to_bytes(count, "big"))
    assert generate_passphrase() == " ".join([WORDS[5]] * 7)


def test_fingerprints_are_shown_as_six_words() -> None:
    assert fingerprint_words(bytes(32)) == " ".join(["abacus"] * 6)
    assert fingerprint_words(bytes(31) + b"\1") == " ".join(["abacus"] * 5 + [WORDS[1]])
    number = int.from_bytes(hashlib.sha256(b"x").digest(), "big") % 7776**6
    shown = [WORDS.index(word) for word in fingerprint_words(hashlib.sha256(b"x").digest()).split(" ")]
    assert sum(digit * 7776 ** (5 - at) for at, digit in enumerate(shown)) == number
    with pytest.raises(ValueError):
        fingerprint_words(bytes(31))


# --- codes ---


def test_codes_have_130_bits_and_are_read_as_people_type_them() -> None:
    codes = {new_code() for _ in range(500)}
    assert len(codes) == 500
    for code in codes:
        plain = normalise_code(code)
        assert len(plain) == 26 and set(plain) <= set(CODE_ALPHABET) and code.count("-") == 4
        typed = "  " + code.lower().replace("-", " ").replace("0", "o").replace("1", "l") + "\n"
        assert normalise_code(typed) == plain


@pytest.mark.parametrize(
    "code", ["", "x", "0" * 25, "0" * 27, "U" * 26, "ß" * 26, "0" * 10_000, "٠" * 26, "\ud800" * 26]
)
def test_other_codes_are_invalid(code: str) -> None:
    with pytest.raises(CodeInvalid):
        normalise_code(code)
