"""What services count while they work, so that a scrape can tell it. Never a name, never an id."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from vault.errors import (
    AccountDisabled,
    BadPassphrase,
    Busy,
    Forbidden,
    KeyChanged,
    KeyUnavailable,
    LoginRequired,
    NotFound,
    RangeUnsatisfiable,
    StorageError,
    StoreUnavailable,
    TooManyAttempts,
    Unreadable,
    VaultError,
    WrongLogin,
)
from vault.metrics import (
    INTEGRITY_FAILURES,
    INTEGRITY_OBJECTS,
    LOGIN_SECONDS,
    LOGINS,
    OPEN_FAILURES,
    OPEN_SECONDS,
    OPENS,
    REQUEST_SECONDS,
    REQUESTS,
    ROTATIONS,
    UNLOCK_SECONDS,
    UNLOCKS,
)

NOTHING_TO_OPEN = (NotFound, Forbidden, LoginRequired, RangeUnsatisfiable)
"""Whoever asks for what is not his, or for no part of it, has met no failure to open."""

Kinds = tuple[tuple[type[VaultError], str], ...]

OPENING: Kinds = (
    (Unreadable, "integrity"),
    (KeyChanged, "key_changed"),
    (KeyUnavailable, "key_unavailable"),
    (StorageError, "store"),
    (Busy, "busy"),
)
LOGGING_IN: Kinds = (
    (WrongLogin, "wrong"),
    (BadPassphrase, "wrong"),
    (AccountDisabled, "disabled"),
    (TooManyAttempts, "throttled"),
    (Busy, "busy"),
)
ROTATED = {
    "passphrase_change": "passphrase",
    "recovery_used": "account_key",
    "exposed": "account_key",
    "keys_reset": "account_key",
    "keys_retired": "key_pair",
    "rekey": "document",
    "key_retired": "master_key",
}
"""The audit entries that say that a key was exchanged, and which kind of key."""


def _kind(error: VaultError, kinds: Kinds, otherwise: str) -> str:
    return next((name for kind, name in kinds if isinstance(error, kind)), otherwise)


@contextmanager
def logging_in() -> Iterator[None]:
    """Count an attempt to log in, and time it where it succeeds."""
    began = time.perf_counter()
    try:
        yield
    except VaultError as error:
        LOGINS.add(_kind(error, LOGGING_IN, "error"))
        raise
    LOGINS.add("ok")
    LOGIN_SECONDS.observe(time.perf_counter() - began)


def unlocked(method: str, began: float) -> None:
    """Count an account key that was opened by ``method``, and the time since ``began`` (``time.perf_counter``)."""
    UNLOCKS.add(method, "ok")
    UNLOCK_SECONDS.observe(time.perf_counter() - began, method)


def not_unlocked(method: str) -> None:
    """Count an account key that did not open."""
    UNLOCKS.add(method, "failed")


@contextmanager
def opening() -> Iterator[None]:
    """Count and time the opening of a document."""
    began = time.perf_counter()
    with failing_to_open():
        yield
    opened(time.perf_counter() - began)


@contextmanager
def failing_to_open() -> Iterator[None]:
    """Count what goes wrong while a document is opened, by kind."""
    try:
        yield
    except VaultError as error:
        if not isinstance(error, NOTHING_TO_OPEN):
            OPENS.add("failed")
            OPEN_FAILURES.add(_kind(error, OPENING, "other"))
        raise


def opened(seconds: float) -> None:
    """Count a document that was opened up to its first byte."""
    OPENS.add("ok")
    OPEN_SECONDS.observe(seconds)


def unreadable(kind: str | None, reason: str) -> None:
    """Count a seal, signature or chunk that did not fit; a store that breaks off in a blob's middle is none of them."""
    if reason != f"stream:{StoreUnavailable.__name__}":
        INTEGRITY_FAILURES.add(kind if kind in INTEGRITY_OBJECTS else "row")


def happened(action: str, succeeded: bool) -> None:
    """Count a committed event where it says that a key was exchanged."""
    if succeeded and action in ROTATED:
        ROTATIONS.add(ROTATED[action])


def answered(status: int, seconds: float) -> None:
    """Count an answer, by the first digit of its status."""
    REQUESTS.add(str(status)[:1])
    REQUEST_SECONDS.observe(seconds)
