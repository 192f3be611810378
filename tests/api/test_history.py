"""``GET me/log``, ``GET documents/<id>/timeline``, ``GET documents/<id>/readings``."""

from __future__ import annotations

from tests.cast import Vault


def test_ones_own_log(vault: Vault) -> None:
    document = vault.upload("alice", b"x", share=("bob",)).hex()
    newest, *_ = vault.api("bob").get("/me/log").json["items"]
    assert newest.pop("at").endswith("Z") and newest.pop("sequence") > 0
    assert newest == {
        "action": "share", "succeeded": True, "detail": None, "actor": "alice", "subject": "bob",
        "object": {"kind": "document", "id": document},
    }  # fmt: skip
    page = vault.api("bob").get("/me/log?limit=1").json
    assert len(page["items"]) == 1
    (second,) = vault.api("bob").get(f"/me/log?limit=1&after={page['next']}").json["items"]
    assert second["action"] == "login"
    for query in ("limit=0", "limit=1001", "limit=0000019999999", "after=x"):
        assert vault.api("bob").get(f"/me/log?{query}").status_code == 400


def test_the_timeline_of_a_document(vault: Vault) -> None:
    document = vault.upload("alice", b"x", share=("bob",))
    vault.read("bob", document)
    alice = vault.api("alice")
    items = alice.get(f"/documents/{document.hex()}/timeline").json["items"]
    assert [(item["action"], item["actor"]) for item in items] == [
        ("download", "bob"), ("share", "alice"), ("upload", "alice"),
    ]  # fmt: skip
    assert vault.api("bob").get(f"/documents/{document.hex()}/timeline").status_code == 403
    assert vault.api("charlie").get(f"/documents/{document.hex()}/timeline").status_code == 404


def test_who_could_read_it(vault: Vault) -> None:
    document = vault.upload("alice", b"x", share=("bob",))
    vault.read("bob", document)
    vault.api("alice").delete(f"/documents/{document.hex()}/shares/bob")
    alice, bob = vault.api("alice").get(f"/documents/{document.hex()}/readings").json["items"]
    assert alice["owner"] is True and alice["until"] is None
    assert (bob["username"], bob["ended_by"], bob["downloads"], bob["downloads_cut"]) == (
        "bob",
        "revoke",
        1,
        0,
    )
    assert bob["since"] < bob["last_download_at"] < bob["until"]
