"""K1, K2, K3, K6: somebody's keys are overwritten, exchanged or mixed."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from tests.attacks.attacker import CANARY, Attacker, answer, assert_refused
from tests.cast import Vault
from vault.crypto.accounts import directory_mac, seal_account_key, seal_private_keys
from vault.crypto.derivation import derive
from vault.crypto.encoding import enc
from vault.crypto.keypairs import PrivateKeys
from vault.crypto.passphrase import KdfParameters, derive_kek, normalise
from vault.crypto.purposes import ACCOUNT_PRIVATE_KEYS, PRIVATE_SIGN_KEY, PRIVATE_WRAP_KEY
from vault.crypto.sealing import seal
from vault.errors import Unreadable

METHOD_COLUMNS = ("memory_kib", "iterations", "lanes", "salt", "master_key_id", "sealed_account_key")
PRIVATE_COLUMNS = ("sealed_wrap_private", "sealed_sign_private")
EVIL = "a passphrase of the attacker's own"
NOBODY = ("urn:docvault:LoginRequired",)


def content(vault: Vault, who: str, document: bytes) -> Any:
    return vault.api(who).get(f"/documents/{document.hex()}/content")


def log_in(vault: Vault, username: str, passphrase: str) -> Any:
    return vault.api().post("/token", json={"username": username, "passphrase": passphrase})


def put_public_key(attacker: Attacker, user: bytes, keys: PrivateKeys, *, master_key: bool) -> None:
    """Write another public key into a user's row; with the master key everything that vouches for it, too."""
    row, public = attacker.row("user_key", user_id=user), keys.public
    new = {
        "wrap_public": public.wrap_der,
        "sign_public": public.sign_der,
        "fingerprint": public.fingerprint,
    }
    if master_key:
        new["directory_mac"] = directory_mac(
            attacker.master, user=user, key_version=1, fingerprint=public.fingerprint
        )
    attacker.update("user_key", row["id"], **new)
    if master_key:
        attacker.reseal("user_key", row["id"])


# K1


def test_k1_another_users_account_key_in_the_victims_row_opens_nothing(vault: Vault) -> None:
    attacker = Attacker(vault)
    bobs = attacker.row("unlock_method", user_id=vault.bob.account.user_id)
    charlies = attacker.row("unlock_method", user_id=vault.charlie.account.user_id)
    attacker.update("unlock_method", bobs["id"], **{name: charlies[name] for name in METHOD_COLUMNS})
    for passphrase in (vault.charlie.passphrase, vault.bob.passphrase):
        assert_refused(vault, partial(log_in, vault, "bob", passphrase), bobs["id"])
    assert log_in(vault, "charlie", vault.charlie.passphrase).status_code == 201


@pytest.mark.parametrize("column", PRIVATE_COLUMNS)
def test_k1_another_users_private_key_in_the_victims_row_opens_nothing(vault: Vault, column: str) -> None:
    document, other = vault.upload("alice", CANARY, share=("bob",)), vault.upload("charlie", b"safe")
    attacker = Attacker(vault)
    bobs = attacker.row("user_key", user_id=vault.bob.account.user_id)
    charlies = attacker.row("user_key", user_id=vault.charlie.account.user_id)
    attacker.update("user_key", bobs["id"], **{column: charlies[column]})
    session = vault.bob.account.session_id
    assert_refused(vault, partial(content, vault, "bob", document), session, problems=NOBODY)
    attacker.reseal("user_key", bobs["id"])  # with the master key
    assert_refused(vault, partial(content, vault, "bob", document), document)
    assert vault.read("charlie", other) == b"safe"
    assert vault.read("alice", document) == CANARY


def test_k1_with_the_master_key_an_account_key_of_ones_own_reads_no_content_and_no_name(vault: Vault) -> None:
    document = vault.upload("alice", CANARY, name="canary-name.txt", share=("bob",))
    attacker, user = Attacker(vault), vault.bob.account.user_id
    method = attacker.row("unlock_method", user_id=user)
    parameters = KdfParameters.fresh()
    forged = seal_account_key(
        attacker.master, derive_kek(normalise(EVIL), parameters), bytes(range(32)),
        user=user, method=method["id"], kind="passphrase", parameters=parameters,
    )  # fmt: skip
    attacker.update("unlock_method", method["id"], salt=parameters.salt, sealed_account_key=forged)
    attacker.reseal("unlock_method", method["id"])
    entered = log_in(vault, "bob", EVIL)
    assert entered.status_code == 201, "he poses as Bob: the account key is his own"
    vault.members["eve"] = type(vault.bob)("bob", EVIL, vault.bob.account, entered.json["token"])
    assert_refused(vault, partial(content, vault, "eve", document), document)
    assert "canary-name" not in vault.api("eve").get("/documents").text
    assert "canary-name" not in vault.api("eve").get("/documents?sort=name").text


# K2


@pytest.mark.parametrize("share", ["share", "upload"])
def test_k2_a_public_key_put_in_by_hand_is_wrapped_to_by_nobody(
    vault: Vault, stranger_keys: PrivateKeys, share: str
) -> None:
    document = vault.upload("alice", CANARY)
    attacker = Attacker(vault)
    put_public_key(attacker, vault.bob.account.user_id, stranger_keys, master_key=False)
    grants, documents = attacker.rows("shared_key_registry"), attacker.rows("document")
    row = attacker.row("user_key", user_id=vault.bob.account.user_id)
    if share == "share":
        act = partial(
            vault.api("alice").post, f"/documents/{document.hex()}/shares", json={"usernames": ["bob"]}
        )
        assert_refused(vault, act, document)
    else:
        act = partial(vault.api("alice").post, "/documents?name=new&recipients=bob", data=CANARY)
        assert_refused(vault, act, row["id"])
    assert attacker.rows("shared_key_registry") == grants
    assert attacker.rows("document") == documents
    assert vault.read("alice", document) == CANARY


@pytest.mark.parametrize("half", ["wrap_public", "sign_public"])
def test_k2_a_public_key_beside_its_fingerprint_is_compared_with_it(
    vault: Vault, stranger_keys: PrivateKeys, half: str
) -> None:
    """Fingerprint, HMAC and seal are all good, and Alice has not met Bob: the key is not that of the fingerprint."""
    document = vault.upload("alice", CANARY)
    attacker = Attacker(vault)
    row = attacker.row("user_key", user_id=vault.bob.account.user_id)
    public = stranger_keys.public
    attacker.update(
        "user_key", row["id"], **{half: public.wrap_der if half == "wrap_public" else public.sign_der}
    )
    attacker.reseal("user_key", row["id"])
    share = partial(
        vault.api("alice").post, f"/documents/{document.hex()}/shares", json={"usernames": ["bob"]}
    )
    assert_refused(vault, share, document)
    assert len(attacker.rows("shared_key_registry")) == 1


@pytest.mark.parametrize("share", ["share", "upload"])
@pytest.mark.requirement(40)
def test_k2_with_the_master_key_a_key_that_alice_has_not_met_is_refused(
    vault: Vault, stranger_keys: PrivateKeys, share: str
) -> None:
    vault.upload("alice", b"they meet", share=("bob",))
    document = vault.upload("alice", CANARY)
    attacker = Attacker(vault)
    put_public_key(attacker, vault.bob.account.user_id, stranger_keys, master_key=True)
    before = {table: attacker.rows(table) for table in ("shared_key_registry", "document", "contact")}
    if share == "share":
        path = f"/documents/{document.hex()}/shares"
        got = answer(vault.api("alice").post(path, json={"usernames": ["bob"]}))
    else:
        got = answer(vault.api("alice").post("/documents?name=new&recipients=bob", data=CANARY))
    assert (got.status, got.problem) == (409, "urn:docvault:KeyChanged")
    assert {table: attacker.rows(table) for table in before} == before


def test_k2_with_the_master_key_a_new_version_waits_for_a_reader_whose_key_changed(
    vault: Vault, stranger_keys: PrivateKeys
) -> None:
    document = vault.upload("alice", b"first", share=("bob", "charlie"))
    attacker = Attacker(vault)
    put_public_key(attacker, vault.bob.account.user_id, stranger_keys, master_key=True)
    assert vault.api("alice").put(f"/documents/{document.hex()}/content", data=CANARY).status_code == 200
    current = attacker.row("document", id=document)["version_id"]
    readers = {row["reader_id"] for row in attacker.rows("shared_key_registry", version_id=current)}
    assert readers == {vault.alice.account.user_id, vault.charlie.account.user_id}
    assert attacker.row("work")["other_id"] == vault.bob.account.user_id
    assert content(vault, "bob", document).status_code == 404
    assert vault.read("charlie", document) == CANARY


def test_k2_with_the_master_key_a_document_of_an_owner_whose_key_changed_is_not_opened(
    vault: Vault, stranger_keys: PrivateKeys
) -> None:
    document = vault.upload("alice", CANARY, share=("bob",))
    assert vault.read("bob", document) == CANARY, "they meet"
    attacker = Attacker(vault)
    put_public_key(attacker, vault.alice.account.user_id, stranger_keys, master_key=True)
    got = answer(content(vault, "bob", document))
    assert (got.status, got.problem) == (409, "urn:docvault:KeyChanged")
    assert CANARY[:16] not in got.body
    attacker.remove("contact", *[row["id"] for row in attacker.rows("contact")])
    assert_refused(vault, partial(content, vault, "bob", document), document)


def test_k2_an_edited_key_of_a_reader_hides_no_document_from_its_owner(
    vault: Vault, stranger_keys: PrivateKeys
) -> None:
    document = vault.upload("alice", CANARY, share=("bob",))
    put_public_key(Attacker(vault), vault.bob.account.user_id, stranger_keys, master_key=False)
    with vault.services() as bundle:
        words = {view.username: view.fingerprint_words for view in bundle.documents.view(
            vault.alice.account, document
        ).readers_list}  # fmt: skip
        assert words["bob"] == "", "no words for a key that nobody vouches for"
        assert words["alice"]
        bundle.sharing.revoke(vault.alice.account, [document], ["bob"])
    assert vault.read("alice", document) == CANARY


# K3


@pytest.mark.parametrize("half", ["wrap", "sign", "both"])
def test_k3_private_keys_that_do_not_belong_to_the_public_ones_are_refused(
    vault: Vault, stranger_keys: PrivateKeys, half: str
) -> None:
    """The worst case: the thief also has the account key, so every seal fits; only the derived public key tells."""
    document = vault.upload("alice", CANARY, share=("bob",))
    attacker, bob = Attacker(vault), vault.bob.account
    row = attacker.row("user_key", user_id=bob.user_id)
    key = derive(bob.account_key, ACCOUNT_PRIVATE_KEYS)
    bound = (bob.user_id, 1, row["fingerprint"])
    new = {}
    if half in {"wrap", "both"}:
        new["sealed_wrap_private"] = seal(key, stranger_keys.wrap_der, enc(PRIVATE_WRAP_KEY, *bound))
    if half in {"sign", "both"}:
        new["sealed_sign_private"] = seal(key, stranger_keys.sign_der, enc(PRIVATE_SIGN_KEY, *bound))
    attacker.update("user_key", row["id"], **new)
    attacker.reseal("user_key", row["id"])
    assert_refused(vault, partial(content, vault, "bob", document), document)
    with vault.services() as bundle, pytest.raises(Unreadable) as refusal:
        bundle.sessions.identify(vault.bob.token).private  # noqa: B018
    assert refusal.value.reason == "private keys are not those of the public keys"
    true_wrap, true_sign = seal_private_keys(
        bob.account_key, bob.private, user=bob.user_id, key_version=1
    )  # sealing the true ones anew is accepted: it is the keys that were refused, not the edit
    attacker.update("user_key", row["id"], sealed_wrap_private=true_wrap, sealed_sign_private=true_sign)
    attacker.reseal("user_key", row["id"])
    assert answer(content(vault, "bob", document)).body == CANARY


def test_k3_wrap_and_sign_key_cannot_change_places(vault: Vault) -> None:
    document = vault.upload("alice", CANARY, share=("bob",))
    attacker = Attacker(vault)
    row = attacker.row("user_key", user_id=vault.bob.account.user_id)
    attacker.update(
        "user_key",
        row["id"],
        sealed_wrap_private=row["sealed_sign_private"],
        sealed_sign_private=row["sealed_wrap_private"],
    )
    attacker.reseal("user_key", row["id"])
    assert_refused(vault, partial(content, vault, "bob", document), document)


# K6


@pytest.mark.parametrize("table", ["user", "unlock_method", "user_key"])
def test_k6_two_users_rows_exchanged_wholesale_log_nobody_in(vault: Vault, table: str) -> None:
    attacker = Attacker(vault)
    named = "id" if table == "user" else "user_id"
    alices = attacker.row(table, **{named: vault.alice.account.user_id})
    bobs = attacker.row(table, **{named: vault.bob.account.user_id})
    attacker.swap(table, alices, bobs)
    for name in ("alice", "bob"):
        # By name Alice finds the row that now has Bob's id, and the reverse.
        found = {"alice": bobs, "bob": alices}[name]["id"]
        about = vault.members[name].account.user_id if table == "user_key" else found
        assert_refused(vault, partial(log_in, vault, name, vault.members[name].passphrase), about)


@pytest.mark.parametrize("table", ["unlock_method", "user_key"])
def test_k6_with_the_master_key_two_users_exchanged_keys_log_nobody_in(vault: Vault, table: str) -> None:
    attacker = Attacker(vault)
    alices = attacker.row(table, user_id=vault.alice.account.user_id)
    bobs = attacker.row(table, user_id=vault.bob.account.user_id)
    attacker.swap(table, alices, bobs, *sorted(set(alices) - {"id", "user_id"}))
    attacker.reseal(table, alices["id"])
    attacker.reseal(table, bobs["id"])
    for name in ("alice", "bob"):
        got = answer(log_in(vault, name, vault.members[name].passphrase))
        refusals = {
            "unlock_method": (401, "urn:docvault:WrongLogin"),
            "user_key": (500, "urn:docvault:Unreadable"),
        }
        assert (got.status, got.problem) == refusals[table]
