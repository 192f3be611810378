"""``seal`` and ``unseal``: Cobblestone-256 (C2SP chunked-encryption) in one call, for everything but document content.

A sealed value is salt (24 bytes), key commitment (32), then chunks of 16 KiB with 16 bytes of tag each, the
last one shorter. The salt is drawn inside the library for every message, so sealing the same value twice
gives other bytes and no (key, nonce) pair comes twice (C6). Source: c2sp.org/chunked-encryption, FORMAT.md
section 3.
"""

from collections.abc import Callable

from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
from cryptography.exceptions import InvalidTag

from vault.errors import Unreadable

CHUNK = 16_384
TAG = 16
SEALED_CHUNK = CHUNK + TAG
SALT = 24
COMMITMENT = 32
HEADER = SALT + COMMITMENT

SMALLEST_PAD = 128

# The seam for the test that no (key, nonce) pair is used twice: called with key, salt and context of every
# message.
_on_message: Callable[[bytes, bytes, bytes], None] | None = None


def announce(key: bytes, salt: bytes, context: bytes) -> None:
    """Tell the recorder of a test, if there is one, which key and salt a message was made with."""
    if _on_message is not None:
        _on_message(key, salt, context)


def sealed_size(length: int) -> int:
    """Give the size in bytes of a sealed value of `length` bytes."""
    return HEADER + SEALED_CHUNK * (length // CHUNK) + length % CHUNK + TAG


def seal(key: bytes, plaintext: bytes, context: bytes) -> bytes:
    """Encrypt and authenticate `plaintext` under a 32-byte key, bound to `context`, which comes from `enc` only."""
    if not context:
        raise ValueError("a seal has a context")
    encryptor = Cobblestone256Encryptor(key, context)
    sealed = encryptor.update(plaintext) + encryptor.finalize()
    announce(key, sealed[:SALT], context)
    return sealed


def unseal(key: bytes, sealed: bytes, context: bytes) -> bytes:
    """Open what `seal` made under the same key and context; anything else raises Unreadable and gives out nothing."""
    decryptor = Cobblestone256Decryptor(key, context)
    try:
        return decryptor.update(sealed) + decryptor.finalize()
    except InvalidTag as error:
        raise Unreadable("seal does not open") from error


def padded_size(length: int) -> int:
    """Give the size that `pad` brings `length` bytes to: the next of 128, 256, 512 ..., the 4-byte prefix included."""
    return max(SMALLEST_PAD, 1 << (length + 3).bit_length())


def pad(plaintext: bytes) -> bytes:
    """Hide the length: u32 length, the bytes, zeros up to 128, 256, 512 ... bytes. `unpad` is the reverse."""
    size = padded_size(len(plaintext))
    return (len(plaintext).to_bytes(4, "big") + plaintext).ljust(size, b"\0")


def unpad(padded: bytes) -> bytes:
    """Take the padding off again; any size, prefix or filling that `pad` would not have made raises Unreadable."""
    length = int.from_bytes(padded[:4], "big")
    if len(padded) < SMALLEST_PAD or len(padded) != padded_size(length) or padded[4 + length :].strip(b"\0"):
        raise Unreadable("padding")
    return padded[4 : 4 + length]
