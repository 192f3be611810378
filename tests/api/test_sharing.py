"""``GET|POST documents/<id>/shares``, ``DELETE documents/<id>/shares/<username>`` (``me`` leaves)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.cast import Vault
from vault.services import clock


@pytest.fixture
def document(vault: Vault) -> str:
    return vault.upload("alice", b"content").hex()


@pytest.fixture(scope="module")
def shared_document(house: Vault) -> str:
    return house.upload("alice", b"content").hex()


def share(vault: Vault, document: str, *names: str, **more: Any) -> Any:
    return vault.api("alice").post(f"/documents/{document}/shares", json={"usernames": list(names), **more})


def in_(**span: int) -> str:
    return (datetime.now(UTC) + timedelta(**span)).isoformat()


def move(monkeypatch: pytest.MonkeyPatch, **span: int) -> None:
    by = timedelta(**span)
    monkeypatch.setattr(clock, "now", lambda: datetime.now(UTC) + by)


def test_a_share_is_given_listed_and_revoked(vault: Vault, document: str) -> None:
    assert share(vault, document, "bob", "CHARLIE").status_code == 204
    items = vault.api("alice").get(f"/documents/{document}/shares").json["items"]
    assert [(item["username"], item["owner"]) for item in items] == [
        ("alice", True), ("bob", False), ("charlie", False),
    ]  # fmt: skip
    assert all(len(item["fingerprint"].split()) == 6 and item["since"].endswith("Z") for item in items)
    assert vault.api("bob").get(f"/documents/{document}/content").data == b"content"
    assert vault.api("alice").delete(f"/documents/{document}/shares/Bob").status_code == 204
    assert vault.api("bob").get(f"/documents/{document}/content").status_code == 404
    assert vault.api("bob").get("/documents").json["items"] == []
    assert vault.api("charlie").get(f"/documents/{document}/content").data == b"content", "only bob is out"
    assert vault.api("alice").delete(f"/documents/{document}/shares/bob").status_code == 400, (
        "he is out already"
    )


def test_sharing_again_keeps_the_date_and_takes_the_new_end(vault: Vault, document: str) -> None:
    share(vault, document, "bob")
    since = vault.api("alice").get(f"/documents/{document}/shares").json["items"][1]["since"]
    end = in_(days=3)
    assert share(vault, document, "bob", expires_at=end).status_code == 204
    again = vault.api("alice").get(f"/documents/{document}/shares").json["items"][1]
    assert again["since"] == since
    assert datetime.fromisoformat(again["expires_at"]) == datetime.fromisoformat(end)
    share(vault, document, "bob")
    assert vault.api("alice").get(f"/documents/{document}/shares").json["items"][1]["expires_at"] is None
    assert vault.api("bob").get(f"/documents/{document}/content").data == b"content"


def test_a_share_ends_at_its_second_and_the_sweep_removes_its_row(
    vault: Vault, document: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    share(vault, document, "bob", expires_at=in_(minutes=10))
    bob = vault.api("bob")
    move(monkeypatch, minutes=9, seconds=50)
    assert bob.get(f"/documents/{document}/content").data == b"content"
    move(monkeypatch, minutes=10, seconds=1)
    for path in (f"/documents/{document}", f"/documents/{document}/content"):
        assert bob.get(path).status_code == 404
    assert bob.get("/documents").json["items"] == []
    assert bob.delete(f"/documents/{document}/shares/me").status_code == 404
    with vault.services() as bundle:
        assert bundle.sweep.run().shares == 1
        assert bundle.check.run().findings == []
    assert len(vault.api("alice").get(f"/documents/{document}/shares").json["items"]) == 1
    assert vault.api("alice").get(f"/documents/{document}").json["readers"] == 0


def test_a_share_that_has_ended_can_be_given_anew(
    vault: Vault, document: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    share(vault, document, "bob", expires_at=in_(minutes=1))
    move(monkeypatch, minutes=2)
    assert share(vault, document, "bob").status_code == 204
    assert vault.api("bob").get(f"/documents/{document}/content").data == b"content"


@pytest.mark.parametrize(
    "end",
    [
        "", "tomorrow", "2030-13-01T00:00:00Z", "2030-01-01T00:00:00", "2030-01-01", "2000-01-01T00:00:00Z", "0",
        "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "2030-01-01T00:00:00+99:00", "\ud800", "9" * 5000,
        "2030-W01-1T00:00Z2",
    ],
)  # fmt: skip
def test_an_end_that_is_no_time_to_come_is_400(house: Vault, shared_document: str, end: str) -> None:
    answer = share(house, shared_document, "bob", expires_at=end)
    assert (answer.status_code, answer.json["field"]) == (400, "expires_at")
    shares = house.api("alice").get(f"/documents/{shared_document}/shares").json["items"]
    assert all(item["expires_at"] is None or item["expires_at"] > "2100" for item in shares)


@pytest.mark.parametrize("end", ["2199-12-31T23:59:59Z", "9999-12-31T23:59:59Z", "2199-01-01T00:00:00+05:30"])
def test_a_far_end_is_an_end(house: Vault, shared_document: str, end: str) -> None:
    assert share(house, shared_document, "bob", expires_at=end).status_code == 204
    shown = house.api("bob").get(f"/documents/{shared_document}").json["expires_at"]
    assert datetime.fromisoformat(shown) == datetime.fromisoformat(end)
    assert house.api("bob").get(f"/documents/{shared_document}/content").data == b"content"


@pytest.mark.parametrize("usernames", ["bob", [1], [None], [["bob"]], {"bob": 1}, None, [], [""]])
def test_usernames_are_a_list_of_texts(house: Vault, shared_document: str, usernames: Any) -> None:
    answer = house.api("alice").post(f"/documents/{shared_document}/shares", json={"usernames": usernames})
    assert answer.status_code == 400


def test_a_reader_leaves_and_may_be_invited_again(vault: Vault, document: str) -> None:
    share(vault, document, "bob")
    vault.api("bob").get(f"/documents/{document}")
    assert vault.api("bob").delete(f"/documents/{document}/shares/me").status_code == 204
    assert vault.api("bob").get(f"/documents/{document}").status_code == 404
    assert vault.api("alice").get(f"/documents/{document}").json["readers"] == 0
    assert share(vault, document, "bob").status_code == 204
    assert vault.api("bob").get(f"/documents/{document}/content").data == b"content"


def test_the_owner_does_not_leave(vault: Vault, document: str) -> None:
    answer = vault.api("alice").delete(f"/documents/{document}/shares/me")
    assert answer.status_code == 403
    assert vault.api("alice").delete(f"/documents/{document}/shares/alice").status_code == 400
    assert vault.api("alice").get(f"/documents/{document}").status_code == 200


def test_a_reader_does_not_revoke_another_or_himself_by_name(vault: Vault, document: str) -> None:
    share(vault, document, "bob", "charlie")
    for name in ("charlie", "bob", "alice"):
        assert vault.api("bob").delete(f"/documents/{document}/shares/{name}").status_code == 403
    assert vault.api("charlie").get(f"/documents/{document}").status_code == 200


def test_readers_see_changes_and_the_count_fits(vault: Vault, document: str) -> None:
    share(vault, document, "bob", "charlie")
    assert vault.api("bob").get(f"/documents/{document}").json["readers"] == 2
    vault.api("alice").put(f"/documents/{document}/content", data=b"second")
    for name in ("bob", "charlie"):
        assert vault.api(name).get(f"/documents/{document}/content").data == b"second"
    with vault.services() as bundle:
        assert bundle.check.run().findings == []


def test_a_revoked_reader_finds_no_way_back(vault: Vault, document: str) -> None:
    """Checklist 38, for the requests that follow."""
    share(vault, document, "bob")
    etag = vault.api("bob").get(f"/documents/{document}/content").headers["ETag"]
    vault.api("alice").delete(f"/documents/{document}/shares/bob")
    for headers in (
        {},
        {"Range": "bytes=0-0"},
        {"If-None-Match": etag},
        {"If-Range": etag, "Range": "bytes=0-0"},
    ):
        assert vault.api("bob").get(f"/documents/{document}/content", headers=headers).status_code == 404
        assert vault.api("bob").head(f"/documents/{document}/content", headers=headers).status_code == 404


@pytest.mark.requirement(40)
def test_a_changed_key_of_the_reader_stops_the_share(vault: Vault, document: str) -> None:
    """Attack K2: the fingerprint that was met first counts; the answer says what to do."""
    from vault.crypto.accounts import seal_contact
    from vault.models import Contact
    from vault.services.audit import Event

    share(vault, document, "bob")
    alice, bob = vault.alice.account, vault.bob.account

    def replace(session: Any) -> None:
        row = session.query(Contact).filter_by(user_id=alice.user_id, other_id=bob.user_id).one()
        row.sealed_fingerprint = seal_contact(
            alice.account_key, b"\x01" * 32, user=alice.user_id, other=bob.user_id
        )
        bundle.transactions.record(Event("contact", alice.user_id, "user", bob.user_id))

    with vault.services() as bundle:
        bundle.transactions.writing(replace)
    other = vault.upload("alice", b"other").hex()
    answer = share(vault, other, "bob")
    assert (answer.status_code, answer.json["type"]) == (409, "urn:docvault:KeyChanged")
    assert "six words" in answer.json["detail"]
    assert vault.api("bob").get(f"/documents/{other}").status_code == 404
    sent = vault.api("alice").post("/documents?recipients=bob&name=a", data=b"x")
    assert sent.status_code == 409
