"""``GET me/keys``, ``POST me/keys/rotate``, ``GET|POST me/work``, ``GET contacts``, ``PUT contacts/<username>``."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cast import Vault
from tests.services.test_confirming import begin_anew
from vault.crypto.keypairs import generate_keys


def test_keys_are_changed_and_the_work_is_advanced_to_its_end(vault: Vault) -> None:
    document = vault.upload("alice", b"content", share=("bob",)).hex()
    assert vault.api("bob").get(f"/documents/{document}/content").data == b"content"
    alice = vault.api("alice")
    before = alice.get("/me").json["fingerprint"]
    answer = alice.post("/me/keys/rotate", json={"current": vault.alice.passphrase})
    assert answer.status_code == 202
    work = answer.json
    assert (work["kind"], work["done"], work["total"], work["finished"]) == ("keypairs", 0, 3, False)
    assert alice.get("/me/work").json["items"] == [work] and alice.get(f"/me/work/{work['id']}").json == work
    assert alice.get("/me/keys").json["work"] == work
    again = alice.post("/me/keys/rotate", json={"current": vault.alice.passphrase})
    assert (again.status_code, again.json["type"]) == (409, "urn:docvault:Conflict")
    for _ in range(20):
        work = alice.post(f"/me/work/{work['id']}").json
        if work["finished"]:
            break
    assert (work["finished"], work["done"]) == (True, 3)
    assert alice.post(f"/me/work/{work['id']}").status_code == 404
    keys = alice.get("/me/keys").json
    assert keys["work"] is None
    assert [(key["version"], key["current"], key["retired_at"] is None) for key in keys["items"]] == [
        (2, True, True), (1, False, False),
    ]  # fmt: skip
    assert [key["fingerprint"] for key in keys["items"]] == [alice.get("/me").json["fingerprint"], before]
    for name in ("alice", "bob"):
        assert vault.api(name).get(f"/documents/{document}/content").data == b"content"
    (contact,) = vault.api("bob").get("/contacts").json["items"]
    assert (contact["username"], contact["state"]) == ("alice", "renewed")


@pytest.mark.parametrize("passphrase", ["wrong", "", None, 5])
def test_a_change_asks_for_the_passphrase(vault: Vault, passphrase: Any) -> None:
    answer = vault.api("alice").post("/me/keys/rotate", json={"current": passphrase})
    assert answer.status_code == (401 if passphrase == "wrong" else 400)
    assert len(vault.api("alice").get("/me/keys").json["items"]) == 1


def test_nothing_is_left_behind_where_nothing_is_left(vault: Vault) -> None:
    answer = vault.api("alice").post("/me/keys/leave-behind", json={"current": vault.alice.passphrase})
    assert answer.status_code == 404


def test_a_changed_contact_is_shown_and_confirmed(vault: Vault) -> None:
    document = vault.upload("alice", b"one", share=("bob",)).hex()
    begin_anew(vault, "bob", generate_keys())
    alice = vault.api("alice")
    refused = alice.post(f"/documents/{document}/shares", json={"usernames": ["bob"]})
    assert (refused.status_code, refused.json["type"], refused.json["username"]) == (
        409, "urn:docvault:KeyChanged", "bob",
    )  # fmt: skip
    assert alice.put(f"/documents/{document}/content", data=b"two").status_code == 200
    assert vault.api("bob").get(f"/documents/{document}/content").status_code == 404
    (contact,) = alice.get("/contacts").json["items"]
    assert (contact["state"], contact["waiting"]) == ("changed", 1)
    wrong = alice.put("/contacts/bob", json={"fingerprint": contact["known_fingerprint"]})
    assert (wrong.status_code, wrong.json["field"]) == (400, "fingerprint")
    confirmed = alice.put("/contacts/bob", json={"fingerprint": contact["fingerprint"]}).json
    assert confirmed["state"] == "known"
    assert alice.post(f"/me/work/{confirmed['work']['id']}").json["finished"]
    assert vault.api("bob").get(f"/documents/{document}/content").data == b"two"
