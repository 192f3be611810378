"""Passphrases: strength of own ones, and one Argon2id at a time in a process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from vault.crypto.passphrase import KdfParameters, derive_kek, normalise
from vault.errors import BadPassphrase, Busy

SHORTEST = 15
GUESSES = 10**12
JUDGED = 72
PRODUCT = ("docvault", "document vault")
WAITING = 3
PATIENCE_SECONDS = 3.0

_argon2id = threading.BoundedSemaphore(1)
_queue = threading.BoundedSemaphore(1 + WAITING)


def check_own(passphrase: str, username: str) -> None:
    """Refuse a passphrase that a person chose and that would not hold; raises ``BadPassphrase`` with what to change.

    zxcvbn raises beyond 72 characters, so it judges the first 72; none is ever cut when used as a key.
    """
    normalise(passphrase)
    if len(passphrase) < SHORTEST:
        raise BadPassphrase(f"A passphrase of your own needs at least {SHORTEST} characters.")
    if any(len(name) > 2 and name in passphrase.casefold() for name in (username, *PRODUCT)):
        raise BadPassphrase("Leave your user name and the name of the vault out of the passphrase.")
    from zxcvbn import (
        zxcvbn,
    )  # its word lists are nine megabytes, and few people bring a passphrase of their own

    judged = zxcvbn(passphrase[:JUDGED], user_inputs=[username, "document", "vault"])
    if judged["score"] < 4 or judged["guesses"] < GUESSES:
        hint = " ".join(judged["feedback"]["suggestions"])
        raise BadPassphrase(
            f"This passphrase is too easy to guess. Five or more unrelated words are good. {hint}".strip()
        )


@contextmanager
def _turn() -> Iterator[None]:
    if not _queue.acquire(blocking=False):
        raise Busy(3)
    try:
        if not _argon2id.acquire(timeout=PATIENCE_SECONDS):
            raise Busy(3)
        try:
            yield
        finally:
            _argon2id.release()
    finally:
        _queue.release()


def derive(passphrase: str, parameters: KdfParameters) -> bytes:
    """Derive the KEK (32 bytes) of ``passphrase``; costs 64 MiB and about 100 ms, so one runs at a time.

    Raises ``BadPassphrase`` before any work, and ``Busy`` when three others wait already or the wait exceeds 3 s.
    """
    prepared = normalise(passphrase)
    parameters.check()
    with _turn():
        return derive_kek(prepared, parameters)
