"""K4, K5: keys as an attacker's input. With the master key he writes anything into the rows that hold them."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Any

import pytest

from tests.attacks.attacker import CANARY, Answer, Attacker, assert_refused, failures
from tests.cast import Vault
from tests.crypto.test_keypairs import odd_keys
from vault.crypto.accounts import directory_mac
from vault.crypto.encoding import enc
from vault.crypto.keypairs import PrivateKeys
from vault.crypto.purposes import FINGERPRINT


def content(vault: Vault, who: str, document: bytes) -> Any:
    return vault.api(who).get(f"/documents/{document.hex()}/content")


def without_id(got: Answer, response: Any) -> tuple[int, bytes]:
    return got.status, got.body.replace(response.headers["X-Request-Id"].encode(), b"")


# K4


@pytest.mark.parametrize("column", ["sealed_wrap_private", "sealed_sign_private"])
def test_k4_any_byte_of_a_locked_private_key_gives_one_answer_before_anything_is_parsed(
    vault: Vault, column: str
) -> None:
    """The row's seal fits: what refuses is the seal around the key. A parser that answered would leak its bits."""
    document, other = vault.upload("alice", CANARY, share=("bob",)), vault.upload("charlie", b"safe")
    attacker = Attacker(vault)
    row = attacker.row("user_key", user_id=vault.bob.account.user_id)
    sealed: bytes = row[column]
    answers, details = set(), set()
    for at in [*range(0, len(sealed), 97), len(sealed) - 1]:
        flipped = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
        attacker.update("user_key", row["id"], **{column: flipped})
        attacker.reseal("user_key", row["id"])
        asked: list[Any] = []

        def act(asked: list[Any] = asked) -> Any:
            asked.append(content(vault, "bob", document))
            return asked[0]

        got = assert_refused(vault, act, document)
        answers.add(without_id(got, asked[0]))
        details.add(failures(vault)[-1][1])
    assert len(answers) == 1 and len(details) == 1, (answers, details)
    assert vault.read("charlie", other) == b"safe"


def test_k4_a_locked_account_key_that_was_touched_is_told_as_a_wrong_passphrase(vault: Vault) -> None:
    """At its seal a wrong passphrase and damage cannot be told apart, and the answer does not try."""
    attacker = Attacker(vault)
    row = attacker.row("unlock_method", user_id=vault.bob.account.user_id)
    sealed: bytes = row["sealed_account_key"]
    sent = {"username": "bob", "passphrase": vault.bob.passphrase}
    answers = set()
    for at in (0, len(sealed) // 2, len(sealed) - 1):
        flipped = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
        attacker.update("unlock_method", row["id"], sealed_account_key=flipped)
        attacker.reseal("unlock_method", row["id"])
        response = vault.api().post("/token", json=sent)
        answers.add((response.status_code, response.json["type"]))
    assert answers == {(401, "urn:docvault:WrongLogin")}


# K5

ODD = [
    "e is 1", "e is 3", "e is even", "n is even", "512 bits", "1024 bits", "2049 bits", "16384 bits", "131072 bits",
    "P-256", "a private key", "PEM", "nothing", "garbage", "n with a leading zero",
]  # fmt: skip


@pytest.mark.parametrize("half", ["wrap_public", "sign_public"])
def test_k5_no_weak_or_odd_public_key_is_wrapped_to(
    vault: Vault, stranger_keys: PrivateKeys, half: str
) -> None:
    """Fingerprint, the directory's HMAC and the row's seal all vouch for it, and Alice has not met Bob."""
    document = vault.upload("alice", CANARY)
    attacker, bob = Attacker(vault), vault.bob.account.user_id
    row = attacker.row("user_key", user_id=bob)
    odd = odd_keys(stranger_keys)
    share = partial(
        vault.api("alice").post, f"/documents/{document.hex()}/shares", json={"usernames": ["bob"]}
    )
    for name in ODD:
        keys = {"wrap_public": row["wrap_public"], "sign_public": row["sign_public"], half: odd[name]}
        fingerprint = hashlib.sha256(enc(FINGERPRINT, keys["wrap_public"], keys["sign_public"])).digest()
        mac = directory_mac(attacker.master, user=bob, key_version=1, fingerprint=fingerprint)
        attacker.update("user_key", row["id"], fingerprint=fingerprint, directory_mac=mac, **keys)
        attacker.reseal("user_key", row["id"])
        assert_refused(vault, share, document)
        assert len(attacker.rows("shared_key_registry")) == 1, name
        assert attacker.rows("contact") == [], name
    assert vault.read("alice", document) == CANARY
