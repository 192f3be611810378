"""seal, unseal, and padding."""

import pytest
from cryptography.cobblestone import Cobblestone256Decryptor
from hypothesis import given
from hypothesis import strategies as st

from tests.crypto.recorder import recording
from vault.crypto.encoding import enc
from vault.crypto.purposes import CONTACT, INDEX
from vault.crypto.randomness import new_id, new_secret
from vault.crypto.sealing import CHUNK, HEADER, SALT, TAG, pad, padded_size, seal, sealed_size, unpad, unseal
from vault.errors import Unreadable

SIZES = [0, 1, 15, 16, 17, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK - 1, 2 * CHUNK, 2 * CHUNK + 1, 3 * CHUNK]
CONTEXT = enc(CONTACT, bytes(16), bytes(16))


@pytest.mark.parametrize("size", SIZES)
def test_round_trip_and_size(size: int) -> None:
    """Checklist 13, for seals."""
    key, plaintext = new_secret(), bytes(range(256)) * (size // 256 + 1)
    sealed = seal(key, plaintext[:size], CONTEXT)
    assert len(sealed) == sealed_size(size) == 56 + 16400 * (size // 16384) + size % 16384 + 16
    assert unseal(key, sealed, CONTEXT) == plaintext[:size]


def test_c1_every_flipped_byte_is_unreadable() -> None:
    key = new_secret()
    sealed = seal(key, b"twenty-one characters", CONTEXT)
    for at in range(len(sealed)):
        for bit in range(8):
            damaged = bytearray(sealed)
            damaged[at] ^= 1 << bit
            with pytest.raises(Unreadable):
                unseal(key, bytes(damaged), CONTEXT)


def test_c3_every_cut_and_every_appended_byte_is_unreadable() -> None:
    key = new_secret()
    sealed = seal(key, b"twenty-one characters", CONTEXT)
    for size in range(len(sealed)):
        with pytest.raises(Unreadable):
            unseal(key, sealed[:size], CONTEXT)
    for more in (b"\0", bytes(TAG), sealed):
        with pytest.raises(Unreadable):
            unseal(key, sealed + more, CONTEXT)


def test_another_key_context_or_purpose_is_unreadable() -> None:
    key, one, other = new_secret(), new_id(), new_id()
    sealed = seal(key, b"secret", enc(CONTACT, one, other))
    for wrong_key, context in [
        (new_secret(), enc(CONTACT, one, other)),
        (key, enc(CONTACT, other, one)),
        (key, enc(INDEX, one, other)),
        (key, b""),
    ]:
        with pytest.raises(Unreadable):
            unseal(wrong_key, sealed, context)


def test_an_empty_context_is_refused() -> None:
    with pytest.raises(ValueError):
        seal(new_secret(), b"secret", b"")


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_key_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError):
        seal(bytes(size), b"secret", CONTEXT)


@pytest.mark.requirement(15)
def test_nothing_tells_which_check_failed() -> None:
    """Checklist 15: one error, one text; the reason is an attribute for the audit log."""
    key = new_secret()
    sealed = seal(key, b"secret", CONTEXT)
    texts = set()
    for damaged in (
        sealed[:10],
        sealed[:-1],
        b"\0" * len(sealed),
        sealed[:HEADER] + bytes(len(sealed) - HEADER),
    ):
        with pytest.raises(Unreadable) as raised:
            unseal(key, damaged, CONTEXT)
        texts.add((type(raised.value), str(raised.value), raised.value.reason))
    assert len(texts) == 1


def test_c6_sealing_twice_draws_another_salt() -> None:
    """Checklist 9: the recorder sees each message with a salt of its own."""
    key = new_secret()
    with recording() as recorder:
        salts = {seal(key, b"the same", CONTEXT)[:SALT] for _ in range(10_000)}
    assert len(salts) == recorder.count == 10_000
    assert not recorder.repeated


@pytest.mark.requirement(9)
def test_c6_the_recorder_sees_a_repeated_pair() -> None:
    with recording() as recorder:
        from vault.crypto import sealing

        hook = sealing._on_message
        assert hook is not None
        recorder(bytes(32), bytes(24), b"context")
        recorder(bytes(32), bytes(24), b"context")
    assert recorder.repeated == [b"context"]


def test_the_librarys_stream_reads_a_seal() -> None:
    key = new_secret()
    sealed = seal(key, b"secret" * 5000, CONTEXT)
    decryptor = Cobblestone256Decryptor(key, CONTEXT)
    opened = (
        b"".join(decryptor.update(sealed[at : at + 7]) for at in range(0, len(sealed), 7))
        + decryptor.finalize()
    )
    assert opened == b"secret" * 5000


@pytest.mark.parametrize(
    ("length", "size"),
    [(0, 128), (1, 128), (124, 128), (125, 256), (252, 256), (253, 512), (70_000, 131_072)],
)
def test_padding_hides_the_length(length: int, size: int) -> None:
    assert len(pad(b"x" * length)) == padded_size(length) == size
    assert unpad(pad(b"x" * length)) == b"x" * length


@given(st.binary(max_size=300))
def test_unpad_reads_exactly_what_pad_wrote(padded: bytes) -> None:
    try:
        plaintext = unpad(padded)
    except Unreadable:
        return
    assert pad(plaintext) == padded


@pytest.mark.parametrize(
    "padded",
    [b"", bytes(127), bytes(129), bytes(256), b"\0\0\0\x7d" + bytes(124), bytes(127) + b"\1",
     b"\xff\xff\xff\xff" + bytes(124)],
)  # fmt: skip
def test_other_padding_is_unreadable(padded: bytes) -> None:
    with pytest.raises(Unreadable):
        unpad(padded)
