"""The master key: 32 bytes that live outside the database, and the keys made of it."""

import re
from collections.abc import Sequence
from threading import Lock

from vault.crypto.derivation import derive
from vault.crypto.purposes import KEY_ID, Purpose
from vault.errors import KeyUnavailable, Misconfigured

_HEX = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)

_HOW = (
    "A master key is exactly 64 hexadecimal digits (32 random bytes). "
    "Make a new one with `docvault keys generate`; for a vault that has documents, use the key that it was made with."
)


def parse_master_key(text: str) -> bytes:
    """Read a master key from 64 hex digits; white space around them is dropped.

    Anything else, all zeros included, raises Misconfigured. The text says what to do and repeats nothing of
    the key (P9).
    """
    digits = text.strip()
    if not digits:
        raise Misconfigured("The master key is empty. " + _HOW)
    if not _HEX.fullmatch(digits):
        raise Misconfigured(
            "The master key has the wrong length or characters that are not hexadecimal digits. " + _HOW
        )
    key = bytes.fromhex(digits)
    if not any(key):
        raise Misconfigured("The master key is all zeros, which is no secret. " + _HOW)
    return key


class MasterKeys:
    """Hold the key that seals and those that only still open; give the derived key for a purpose.

    A row says under which master key it is (`key_id`, 8 bytes); a key that is not here raises KeyUnavailable.
    """

    def __init__(self, primary: bytes, fallbacks: Sequence[bytes] = ()) -> None:
        self._keys: dict[bytes, bytes] = {}
        for key in (primary, *fallbacks):
            self._keys.setdefault(derive(key, KEY_ID, length=8), key)
        self.key_ids: tuple[bytes, ...] = tuple(self._keys)
        self.key_id: bytes = self.key_ids[0]
        self._derived: dict[tuple[bytes, Purpose], bytes] = {}
        self._lock = Lock()

    def derive(self, purpose: Purpose, key_id: bytes | None = None) -> bytes:
        """Give the 32-byte key for a purpose, of the primary or of the named master key; made once, then remembered."""
        wanted = (self.key_id if key_id is None else key_id, purpose)
        found = self._derived.get(wanted)
        if found is None:
            try:
                found = derive(self._keys[wanted[0]], purpose)
            except KeyError as error:
                raise KeyUnavailable() from error
            with self._lock:
                self._derived[wanted] = found
        return found

    @property
    def older_first(self) -> list[bytes]:
        """The ids from the last fallback to the key that seals: how libraries that sign expect a list of keys."""
        return list(reversed(self.key_ids))

    def __repr__(self) -> str:
        return f"<MasterKeys, {len(self._keys)} of them>"
