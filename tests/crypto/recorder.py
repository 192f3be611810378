"""Record every message that is sealed, and find a (key, nonce) pair that comes twice (C6, checklist 9).

What is compared is the AES key that each message derives: where those differ, no pair can come twice, because within a
message the nonces count up. Of the keys only a digest is kept.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from vault.crypto import sealing


class MessageRecorder:
    def __init__(self) -> None:
        self.count = 0
        self.repeated: list[bytes] = []
        self._seen: set[bytes] = set()

    def __call__(self, key: bytes, salt: bytes, context: bytes) -> None:
        info = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0" + salt + context
        derived = HKDFExpand(algorithm=SHA512(), length=76, info=info).derive(key)
        mark = hashlib.sha256(derived[:32]).digest()[:16]
        self.count += 1
        if mark in self._seen:
            self.repeated.append(context)
        self._seen.add(mark)


@contextmanager
def recording() -> Iterator[MessageRecorder]:
    """Record what is sealed meanwhile, in this process; recorders may be nested."""
    recorder, before = MessageRecorder(), sealing._on_message

    def both(key: bytes, salt: bytes, context: bytes) -> None:
        recorder(key, salt, context)
        if before is not None:
            before(key, salt, context)

    sealing._on_message = both
    try:
        yield recorder
    finally:
        sealing._on_message = before
