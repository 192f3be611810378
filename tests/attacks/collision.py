"""One AES-GCM message that two keys open: the tool of W4 and P2.

GHASH is linear, so the last block can be solved for such that both keys give the same tag. The keys are those that
Cobblestone derives from salt and context, so that only its commitment stands between such a message and two readers.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import ECB
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

LABEL = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0"
REDUCTION = 0xE1 << 120


@dataclass(frozen=True)
class Message:
    """The key, nonce and commitment that a sealing key gives with a salt and a context."""

    key: bytes
    nonce: bytes
    commitment: bytes

    def opens(self, chunk: bytes) -> bytes:
        """What bare AES-GCM says; raises ``InvalidTag``."""
        return AESGCM(self.key).decrypt(self.nonce, chunk, None)

    def block(self, block: bytes) -> int:
        encryptor = Cipher(AES256(self.key), ECB()).encryptor()
        return int.from_bytes(encryptor.update(block) + encryptor.finalize(), "big")


def message(key: bytes, salt: bytes, context: bytes) -> Message:
    derived = HKDFExpand(algorithm=SHA512(), length=76, info=LABEL + salt + context).derive(key)
    return Message(derived[:32], derived[32:44], derived[44:])


def product(x: int, y: int) -> int:
    """Multiply in GCM's field of 2^128 elements, whose first bit is the highest."""
    z = 0
    for bit in range(127, -1, -1):
        if x >> bit & 1:
            z ^= y
        y = y >> 1 ^ (REDUCTION if y & 1 else 0)
    return z


def inverse(x: int) -> int:
    """x to the power of 2^128 - 2."""
    result = 1 << 127
    for _ in range(127):
        x = product(x, x)
        result = product(result, x)
    return result


def two_key_chunk(one: Message, other: Message, ciphertext: bytes) -> bytes:
    """Replace the last 16 bytes of ``ciphertext`` and add a tag so that both keys open it."""
    blocks = [int.from_bytes(ciphertext[at : at + 16], "big") for at in range(0, len(ciphertext) - 16, 16)]
    bits = len(ciphertext) * 8
    points = [each.block(bytes(16)) for each in (one, other)]
    masks = [each.block(each.nonce + b"\0\0\0\x01") for each in (one, other)]

    def hashed(point: int, last: int) -> int:
        total = 0
        for block in [*blocks, last, bits]:
            total = product(total ^ block, point)
        return total

    difference = hashed(points[0], 0) ^ hashed(points[1], 0) ^ masks[0] ^ masks[1]
    square = product(points[0], points[0]) ^ product(points[1], points[1])
    last = product(difference, inverse(square))
    tag = hashed(points[0], last) ^ masks[0]
    return ciphertext[:-16] + last.to_bytes(16, "big") + tag.to_bytes(16, "big")
