"""``POST|DELETE me/recovery``, ``POST recovery``, ``accounts/<username>/reset``, ``POST reset``, and both deletions."""

from __future__ import annotations

import pytest

from tests.cast import Vault
from vault.crypto.recovery import new_recovery_code

OWN = "correct horse battery staple, and a purple umbrella"


def test_a_code_is_made_used_and_gone(vault: Vault) -> None:
    alice = vault.api("alice")
    assert alice.post("/me/recovery", json={"current": "not it"}).status_code == 401
    assert alice.get("/me").json["recovery_made_at"] is None
    made = alice.post("/me/recovery", json={"current": vault.alice.passphrase})
    assert made.status_code == 201 and alice.get("/me").json["recovery_made_at"]
    code = made.json["code"]
    for sent, status in (
        ({"username": "alice", "code": new_recovery_code()}, 401),
        ({"username": "bob", "code": code}, 401),
        ({"username": "alice", "code": code[:-1]}, 400),
        ({"username": "alice", "code": code, "new": "too short"}, 400),
    ):
        assert vault.api().post("/recovery", json=sent).status_code == status
    used = vault.api().post("/recovery", json={"username": "alice", "code": code, "new": OWN})
    assert used.json == {"username": "alice", "passphrase": None}
    assert alice.get("/me").status_code == 401
    assert vault.api().post("/recovery", json={"username": "alice", "code": code}).status_code == 401
    token = vault.api().post("/token", json={"username": "alice", "passphrase": OWN}).json["token"]
    me = vault.api()
    me.headers["Authorization"] = f"Bearer {token}"
    (notice,) = me.get("/me").json["notices"]
    assert (notice["kind"], notice["by"]) == ("recovery_used", None)
    assert me.delete(f"/me/notices/{notice['id']}").status_code == 204
    assert me.get("/me").json["notices"] == []


def test_a_made_passphrase_is_returned_once(vault: Vault) -> None:
    code = vault.api("alice").post("/me/recovery", json={"current": vault.alice.passphrase}).json["code"]
    made = vault.api().post("/recovery", json={"username": "alice", "code": code}).json["passphrase"]
    assert len(made.split(" ")) == 7
    assert vault.api().post("/token", json={"username": "alice", "passphrase": made}).status_code == 201


def test_a_code_is_removed(vault: Vault) -> None:
    alice = vault.api("alice")
    current = {"current": vault.alice.passphrase}
    assert alice.delete("/me/recovery", json=current).status_code == 404
    alice.post("/me/recovery", json=current)
    assert alice.delete("/me/recovery", json={"current": "not it"}).status_code == 401
    assert alice.delete("/me/recovery", json=current).status_code == 204
    assert alice.get("/me").json["recovery_made_at"] is None


def test_keys_are_reset_after_a_look_at_what_is_lost(vault: Vault) -> None:
    vault.upload("alice", b"lost", share=("bob",))
    vault.upload("bob", b"kept", share=("alice",))
    begun = vault.api("dora").post("/accounts/alice/reset")
    assert begun.status_code == 201
    code = begun.json["code"]
    loss = vault.api().post("/reset", json={"code": code}).json
    assert (loss["documents_lost"], loss["documents_lost_to_others"], loss["shared_by"]) == (1, 1, {"bob": 1})
    assert vault.api("alice").get("/me").status_code == 200
    new = vault.api().post("/reset", json={"code": code, "agreed": True}).json
    assert vault.api("alice").get("/me").status_code == 401
    assert (
        vault.api().post("/token", json={"username": "alice", "passphrase": new["passphrase"]}).status_code
        == 201
    )
    assert vault.api().post("/reset", json={"code": code}).status_code == 400


def test_accounts_are_deleted(vault: Vault) -> None:
    alice, dora = vault.api("alice"), vault.api("dora")
    assert alice.delete("/me", json={"current": "not it"}).status_code == 401
    assert alice.delete("/me", json={"current": vault.alice.passphrase}).status_code == 204
    assert alice.get("/me").status_code == 401
    assert dora.delete("/accounts/bob", json={"confirm": "alice"}).status_code == 400
    assert dora.delete("/accounts/bob", json={"confirm": "bob"}).status_code == 204
    assert dora.delete("/accounts/dora", json={"confirm": "dora"}).status_code == 400
    assert dora.delete("/me", json={"current": vault.dora.passphrase}).status_code == 409
    states = {account["username"]: account["state"] for account in dora.get("/accounts").json["items"]}
    assert states == {"alice": "deleted", "bob": "deleted", "charlie": "active", "dora": "active"}


PROVED = [
    ("PUT", "/me/passphrase"),
    ("POST", "/me/recovery"),
    ("POST", "/me/exposed"),
    ("POST", "/me/keys/rotate"),
    ("DELETE", "/me/recovery"),
    ("DELETE", "/me"),
]


@pytest.mark.requirement(33)
@pytest.mark.parametrize(("method", "path"), PROVED)
def test_requirement_33_what_matters_asks_for_the_passphrase_again(
    house: Vault, method: str, path: str
) -> None:
    """A stolen session changes none of it; sharing and revoking do not ask."""
    before = len([act for act, _, succeeded, _ in house.audit() if not succeeded])
    assert house.api("alice").open(method, path, json={}).status_code == 400
    wrong = house.api("alice").open(method, path, json={"current": "not my passphrase"})
    assert (wrong.status_code, wrong.json["type"]) == (401, "urn:docvault:WrongLogin")
    failed = [act for act, _, succeeded, _ in house.audit() if not succeeded]
    assert len(failed) == before + 1, "it is in the audit log"
    assert house.api("alice").get("/me").status_code == 200


@pytest.mark.requirement(33)
def test_requirement_33_sharing_and_revoking_do_not_ask(house: Vault) -> None:
    document = house.upload("alice", b"mine").hex()
    shares = f"/documents/{document}/shares"
    assert house.api("alice").post(shares, json={"usernames": ["bob"]}).status_code == 204
    assert house.api("alice").delete(f"{shares}/bob").status_code == 204
