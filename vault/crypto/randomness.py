"""Random bytes from the operating system, and nowhere else (C7).

The ciphers draw their own salts inside ``cryptography``, from the same source.
"""

import os
from collections.abc import Callable

# The seam for test vectors and tests, never for a caller: what goes in here decides every id and secret.
_source: Callable[[int], bytes] = os.urandom


def random_bytes(count: int) -> bytes:
    """Draw `count` bytes from the operating system's generator."""
    return _source(count)


def new_id() -> bytes:
    """Make an id: 16 random bytes. An id is public; it never serves as a secret."""
    return random_bytes(16)


def new_secret() -> bytes:
    """Make a secret or a key: 32 random bytes."""
    return random_bytes(32)


def new_suffix() -> bytes:
    """Make the suffix that keeps two writers of an upload's last part apart: 8 random bytes."""
    return random_bytes(8)


def random_below(bound: int) -> int:
    """Draw a whole number from 0 to `bound` - 1, each with the same chance (by rejection, without modulo bias)."""
    if bound < 1:
        raise ValueError("the bound is at least 1")
    bits = (bound - 1).bit_length()
    size = (bits + 7) // 8
    while True:
        drawn = int.from_bytes(random_bytes(size), "big") >> (8 * size - bits)
        if drawn < bound:
            return drawn
