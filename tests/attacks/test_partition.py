"""P2, W4: one ciphertext that opens under two keys, to try two passphrases at once or to show two contents."""

from __future__ import annotations

import os

import pytest

from tests.attacks.attacker import Attacker
from tests.attacks.collision import message, two_key_chunk
from tests.cast import Vault
from vault.crypto.encoding import enc
from vault.crypto.passphrase import KdfParameters, derive_kek, normalise
from vault.crypto.purposes import MANIFEST, MASTER_ACCOUNTS, UNLOCK_INNER, UNLOCK_OUTER
from vault.crypto.sealing import SALT, seal, unseal
from vault.errors import Unreadable

GUESSES = ("correct horse battery staple one", "correct horse battery staple two")


def opened(key: bytes, sealed: bytes, context: bytes) -> bool:
    try:
        unseal(key, sealed, context)
    except Unreadable:
        return False
    return True


def test_w4_a_message_that_two_keys_open_is_refused_to_one_of_them() -> None:
    """Bare AES-GCM shows Alice and Bob two contracts under one tag; the commitment fits one key alone."""
    keys, salt, context = (
        (os.urandom(32), os.urandom(32)),
        os.urandom(SALT),
        enc(MANIFEST, bytes(16), bytes(16), 0),
    )
    messages = [message(key, salt, context) for key in keys]
    chunk = two_key_chunk(messages[0], messages[1], os.urandom(512))
    shown = [each.opens(chunk) for each in messages]
    assert shown[0] != shown[1], "both open it, and read different things"
    for number in (0, 1):
        sealed = salt + messages[number].commitment + chunk
        assert [opened(key, sealed, context) for key in keys] == [number == 0, number == 1]
    halves = messages[0].commitment[:16] + messages[1].commitment[16:]
    assert not any(opened(key, salt + halves + chunk, context) for key in keys)


@pytest.mark.parametrize("committed", [0, 1, None], ids=["to the first", "to the second", "half and half"])
def test_p2_one_login_tries_one_passphrase(vault: Vault, committed: int | None) -> None:
    """The attacker has the master key and one login to watch: a row that two passphrases open would halve his work."""
    attacker, bob = Attacker(vault), vault.bob.account.user_id
    row = attacker.row("unlock_method", user_id=bob)
    parameters = KdfParameters(row["memory_kib"], row["iterations"], row["lanes"], row["salt"])
    bound = (bob, row["id"], "passphrase", row["memory_kib"], row["iterations"], row["lanes"], row["salt"])
    salt, context = os.urandom(SALT), enc(UNLOCK_INNER, *bound)
    messages = [message(derive_kek(normalise(guess), parameters), salt, context) for guess in GUESSES]
    chunk = two_key_chunk(messages[0], messages[1], os.urandom(32))
    assert all(len(each.opens(chunk)) == 32 for each in messages), "without the commitment both open it"
    commitment = (
        messages[0].commitment[:16] + messages[1].commitment[16:]
        if committed is None
        else messages[committed].commitment
    )
    sealed = seal(
        attacker.master.derive(MASTER_ACCOUNTS), salt + commitment + chunk, enc(UNLOCK_OUTER, *bound)
    )
    attacker.update("unlock_method", row["id"], sealed_account_key=sealed)
    attacker.reseal("unlock_method", row["id"])
    for number, guess in enumerate(GUESSES):
        status = vault.api().post("/token", json={"username": "bob", "passphrase": guess}).status_code
        assert (status == 401) == (number != committed)
