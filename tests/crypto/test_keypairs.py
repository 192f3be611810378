"""RSA keys as an attacker's input: K3, K4, K5."""

import base64
from pathlib import Path

import cryptography_vectors
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.crypto.conftest import Person
from vault.crypto.keypairs import (
    EXPONENT,
    PrivateKeys,
    PublicKeys,
    admit_keys,
    generate_keys,
    load_private,
    sign_statement,
    verify_statement,
)
from vault.crypto.randomness import new_id
from vault.errors import Unreadable

RSA_OID = bytes.fromhex("06092a864886f70d0101010500")


def _der(tag: int, body: bytes) -> bytes:
    size = len(body)
    length = (
        bytes([size])
        if size < 128
        else bytes([0x80 | (size.bit_length() + 7) // 8]) + size.to_bytes((size.bit_length() + 7) // 8, "big")
    )
    return bytes([tag]) + length + body


def _integer(number: int) -> bytes:
    return _der(2, number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True))


def _spki(n: int, e: int) -> bytes:
    """SubjectPublicKeyInfo of any two numbers, which no library would make."""
    key = _der(0x30, _integer(n) + _integer(e))
    return _der(0x30, _der(0x30, RSA_OID) + _der(3, b"\0" + key))


def _numbers(keys: PrivateKeys) -> rsa.RSAPublicNumbers:
    return keys._sign.public_key().public_numbers()


def odd_keys(good: PrivateKeys) -> dict[str, bytes]:
    n = _numbers(good).n
    spki = PublicFormat.SubjectPublicKeyInfo
    der = good.public.sign_der
    return {
        "e is 1": _spki(n, 1),
        "e is 3": _spki(n, 3),
        "e is 17": _spki(n, 17),
        "e is even": _spki(n, 65_536),
        "e is 65539": _spki(n, 65_539),
        "e is 0": _spki(n, 0),
        "e is negative": _spki(n, -65_537),
        "e is as long as n": _spki(n, n - 2),
        "n is even": _spki(n & ~1, EXPONENT),
        "n is 0": _spki(0, EXPONENT),
        "n is 1": _spki(1, EXPONENT),
        "n is negative": _spki(-n, EXPONENT),
        "512 bits": _spki(n >> 1536 | 1, EXPONENT),
        "1024 bits": _spki(n >> 1024 | 1, EXPONENT),
        "2040 bits": _spki(n >> 8 | 1, EXPONENT),
        "2047 bits": _spki(n >> 1 | 1, EXPONENT),
        "2049 bits": _spki(n << 1 | 1, EXPONENT),
        "4104 bits": _spki(n << 2056 | 1, EXPONENT),
        "16384 bits": _spki(n << 14_336 | 1, EXPONENT),
        "131072 bits": _spki(n << 129_024 | 1, EXPONENT),
        "P-256": ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(Encoding.DER, spki),
        "Ed25519": ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.DER, spki),
        "a private key": good.sign_der,
        "PKCS#1": good._sign.public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1),
        "PEM": good._sign.public_key().public_bytes(Encoding.PEM, spki),
        "cut": der[:-1],
        "with a byte more": der + b"\0",
        "nothing": b"",
        "garbage": b"garbage" * 40,
        "n with a leading zero": der.replace(b"\x02\x82\x01\x01\x00", b"\x02\x82\x01\x02\x00\x00"),
    }


def test_k5_odd_public_keys(alice: Person) -> None:
    """Only 2048 to 4096 bits with e = 65537, in the one encoding; whichever place they stand in."""
    good = alice.keys.public
    for name, der in odd_keys(alice.keys).items():
        for pair in ((der, good.sign_der), (good.wrap_der, der)):
            with pytest.raises(Unreadable):
                PublicKeys(*pair)
                pytest.fail(name)


def test_k5_a_huge_key_is_refused_before_it_is_parsed(alice: Person) -> None:
    huge = _spki(_numbers(alice.keys).n << 14_336 | 1, EXPONENT)
    with pytest.raises(Unreadable) as raised:
        PublicKeys(huge, alice.keys.public.sign_der)
    assert raised.value.reason == "public key too long"


def test_k5_a_key_of_one_pair_twice(alice: Person) -> None:
    with pytest.raises(Unreadable):
        PublicKeys(alice.keys.public.wrap_der, alice.keys.public.wrap_der)
    with pytest.raises(Unreadable):
        PrivateKeys(alice.keys.wrap_der, alice.keys.wrap_der)


@settings(max_examples=300)
@given(st.data())
def test_k5_damaged_public_keys_never_raise_anything_else(alice: Person, data: st.DataObject) -> None:
    der = bytearray(alice.keys.public.wrap_der)
    for _ in range(data.draw(st.integers(1, 4))):
        der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    try:
        keys = PublicKeys(bytes(der), alice.keys.public.sign_der)
    except Unreadable:
        return
    assert keys.wrap_der == bytes(der)
    assert (keys.fingerprint == alice.keys.public.fingerprint) == (bytes(der) == alice.keys.public.wrap_der)


def test_k5_the_published_bad_private_key(alice: Person) -> None:
    """rsa-bad-1025-q-is-2.pem: q = 2, which a library without checks takes."""
    folder = Path(cryptography_vectors.__file__).parent / "asymmetric" / "PEM_Serialization"
    lines = (folder / "rsa-bad-1025-q-is-2.pem").read_text("ascii").splitlines()
    der = base64.b64decode("".join(line for line in lines if not line.startswith("-")))
    for admit in (admit_keys, PrivateKeys):
        with pytest.raises(Unreadable):
            admit(der, alice.keys.sign_der)


def _pkcs8(p: int, q: int, e: int, d: int) -> bytes:
    numbers = [0, p * q, e, d, p, q, d % (p - 1), d % (q - 1), pow(q, -1, p)]
    key = _der(0x30, b"".join(_integer(number) for number in numbers))
    return _der(0x30, _integer(0) + _der(0x30, RSA_OID) + _der(4, key))


def test_k4_inconsistent_private_numbers_are_not_admitted(alice: Person) -> None:
    """When a key enters, its numbers are checked against each other: composite p, foreign d, n that is not p q."""
    numbers = alice.keys._wrap.private_numbers()
    p, q, d = numbers.p, numbers.q, numbers.d
    assert admit_keys(_pkcs8(p, q, EXPONENT, d), alice.keys.sign_der)
    for der in (_pkcs8(p - 2, q, EXPONENT, d), _pkcs8(p, q, EXPONENT, d + 2), _pkcs8(p, q, 3, d)):
        with pytest.raises(Unreadable):
            admit_keys(der, alice.keys.sign_der)


@pytest.mark.parametrize("bits", [1024, 2047, 2049, 4104, 16_384])
@pytest.mark.requirement(1)
def test_k5_no_such_keys_are_made(bits: int) -> None:
    with pytest.raises(ValueError):
        generate_keys(bits)


def test_k5_small_and_foreign_private_keys_are_refused(alice: Person) -> None:
    small = rsa.generate_private_key(EXPONENT, 1024)
    curve = ec.generate_private_key(ec.SECP256R1())
    for key in (small, curve):
        der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        for take in (admit_keys, PrivateKeys):
            with pytest.raises(Unreadable):
                take(der, alice.keys.sign_der)


def test_k3_a_private_key_that_does_not_fit_the_public_one(alice: Person, mallory: Person) -> None:
    mine, theirs = alice.keys, mallory.keys
    assert (
        load_private(mine.wrap_der, mine.sign_der, mine.public).public.fingerprint == mine.public.fingerprint
    )
    for wrap, sign in (
        (theirs.wrap_der, mine.sign_der),
        (mine.wrap_der, theirs.sign_der),
        (mine.sign_der, mine.wrap_der),
        (theirs.wrap_der, theirs.sign_der),
    ):
        with pytest.raises(Unreadable):
            load_private(wrap, sign, mine.public)


@pytest.mark.requirement(1)
def test_larger_keys_work() -> None:
    keys = generate_keys(3072)
    assert keys.unwrap(b"label", keys.public.wrap(b"label", bytes(32))) == bytes(32)
    keys.public.verify(b"message", keys.sign(b"message"))


def test_a_wrap_is_bound_to_its_label_and_key(alice: Person, bob: Person) -> None:
    wrapped = alice.keys.public.wrap(b"label", bytes(32))
    assert alice.keys.unwrap(b"label", wrapped) == bytes(32)
    for keys, label, changed in (
        (alice.keys, b"other", wrapped),
        (alice.keys, b"", wrapped),
        (bob.keys, b"label", wrapped),
        (alice.keys, b"label", wrapped[:-1]),
        (alice.keys, b"label", b""),
        (alice.keys, b"label", bytes(256)),
        (alice.keys, b"label", b"\xff" * 256),
        (alice.keys, b"label", bytes([wrapped[0] ^ 1]) + wrapped[1:]),
    ):
        with pytest.raises(Unreadable):
            keys.unwrap(label, changed)
    with pytest.raises(ValueError):
        alice.keys.public.wrap(b"", bytes(32))


def test_a_signature_is_bound_to_its_message_and_key(alice: Person, bob: Person) -> None:
    signature = alice.keys.sign(b"message")
    alice.keys.public.verify(b"message", signature)
    for keys, message, changed in (
        (alice, b"Message", signature),
        (bob, b"message", signature),
        (alice, b"message", signature[:-1]),
        (alice, b"message", b""),
        (alice, b"message", bytes([signature[0] ^ 1]) + signature[1:]),
    ):
        with pytest.raises(Unreadable):
            keys.keys.public.verify(message, changed)


def test_wrap_and_sign_keys_do_not_serve_each_other(alice: Person) -> None:
    swapped = PublicKeys(alice.keys.public.sign_der, alice.keys.public.wrap_der)
    assert swapped.fingerprint != alice.keys.public.fingerprint
    with pytest.raises(Unreadable):
        swapped.verify(b"message", alice.keys.sign(b"message"))
    with pytest.raises(Unreadable):
        alice.keys.unwrap(b"label", swapped.wrap(b"label", bytes(32)))


def test_nothing_of_a_private_key_is_shown(alice: Person) -> None:
    assert len(repr(alice.keys)) < 40


@pytest.mark.parametrize("changed", ["user", "old_key_version", "new_key_version", "new_fingerprint"])
def test_k2_a_statement_is_bound_to_user_versions_and_fingerprints(
    alice: Person, bob: Person, changed: str
) -> None:
    bound = {
        "user": alice.id,
        "old_key_version": 3,
        "new_key_version": 4,
        "new_fingerprint": bob.keys.public.fingerprint,
    }
    statement = sign_statement(alice.keys, **bound)  # type: ignore[arg-type]
    verify_statement(alice.keys.public, statement, **bound)  # type: ignore[arg-type]
    other = {"user": new_id(), "old_key_version": 2, "new_key_version": 5, "new_fingerprint": bytes(32)}
    for public, terms in (
        (alice.keys.public, bound | {changed: other[changed]}),
        (bob.keys.public, bound),
    ):
        with pytest.raises(Unreadable):
            verify_statement(public, statement, **terms)  # type: ignore[arg-type]


def test_a_pair_tells_its_size(alice: Person) -> None:
    assert alice.keys.public.bits == 2048
