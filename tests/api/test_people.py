"""For administrators: ``GET accounts``, ``PATCH accounts/<username>``, ``GET|POST|DELETE invitations``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.cast import Vault
from vault.services import clock


def test_accounts_are_listed_with_counts_and_no_name_of_a_document(vault: Vault) -> None:
    vault.upload("alice", b"x" * 1000, name="canary.pdf")
    answer = vault.api("dora").get("/accounts")
    items = {item["username"]: item for item in answer.json["items"]}
    assert list(items) == ["alice", "bob", "charlie", "dora"]
    assert (items["alice"]["documents"], items["dora"]["documents"]) == (1, 0)
    assert items["alice"]["stored_bytes"] > 1000
    assert (items["dora"]["role"], items["alice"]["role"]) == ("admin", "user")
    assert items["alice"]["last_login_at"].endswith("Z")
    assert "canary" not in answer.text


def test_a_role_is_given_and_taken(vault: Vault) -> None:
    dora = vault.api("dora")
    assert dora.patch("/accounts/alice", json={"role": "admin"}).status_code == 204
    assert vault.api("alice").get("/accounts").status_code == 200, "from the next request on"
    assert vault.api("alice").patch("/accounts/dora", json={"role": "user"}).status_code == 204
    assert dora.get("/accounts").status_code == 403


@pytest.mark.parametrize(
    "change", [{"state": "disabled"}, {"role": "user"}, {"state": "disabled", "role": "user"}]
)
def test_the_last_administrator_stays_one(vault: Vault, change: dict[str, str]) -> None:
    answer = vault.api("dora").patch("/accounts/dora", json=change)
    assert (answer.status_code, answer.json["type"]) == (409, "urn:docvault:Conflict")
    assert vault.api("dora").get("/accounts").status_code == 200


@pytest.mark.parametrize(
    ("change", "field"),
    [({"state": "deleted"}, "state"), ({"role": "owner"}, "role"), ({"state": "Active"}, "state"),
     ({"role": ""}, "role")],
)  # fmt: skip
def test_a_state_or_role_that_does_not_exist_is_400(vault: Vault, change: dict[str, str], field: str) -> None:
    answer = vault.api("dora").patch("/accounts/alice", json=change)
    assert (answer.status_code, answer.json["field"]) == (400, field)


@pytest.mark.parametrize("name", ["nobody", "no body", "..", "%00", "é", "a" * 500])
def test_an_unknown_account_is_404(vault: Vault, name: str) -> None:
    assert vault.api("dora").patch(f"/accounts/{name}", json={"state": "active"}).status_code == 404


def test_an_account_is_found_in_any_case(vault: Vault) -> None:
    assert vault.api("dora").patch("/accounts/ALICE", json={"state": "disabled"}).status_code == 204
    assert vault.api("alice").get("/me").status_code == 401


@pytest.mark.requirement(39)
def test_an_administrator_opens_no_document_by_any_of_this(vault: Vault) -> None:
    """Checklist 39."""
    document = vault.upload("alice", b"content", share=("bob",)).hex()
    dora = vault.api("dora")
    dora.patch("/accounts/alice", json={"state": "disabled"})
    for path in (f"/documents/{document}", f"/documents/{document}/content", f"/documents/{document}/shares"):
        assert dora.get(path).status_code == 404
    assert dora.delete(f"/documents/{document}").status_code == 404
    assert vault.api("bob").get(f"/documents/{document}/content").data == b"content"


def test_an_invitation_is_made_listed_and_withdrawn(vault: Vault) -> None:
    dora = vault.api("dora")
    made = dora.post("/invitations", json={"username": "Zoe"})
    assert made.status_code == 201
    assert (made.json["username"], made.json["created_by"]) == ("zoe", "dora")
    days = datetime.fromisoformat(made.json["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=6, hours=23) < days <= timedelta(days=7)
    (listed,) = dora.get("/invitations").json["items"]
    assert listed == {name: value for name, value in made.json.items() if name != "code"}
    assert dora.delete(f"/invitations/{made.json['id']}").status_code == 204
    assert dora.get("/invitations").json["items"] == []
    assert dora.delete(f"/invitations/{made.json['id']}").status_code == 404
    used = vault.api().post("/users", json={"username": "zoe", "code": made.json["code"]})
    assert (used.status_code, used.json["field"]) == (400, "code")


def test_one_name_has_one_open_invitation(vault: Vault) -> None:
    dora = vault.api("dora")
    assert dora.post("/invitations", json={"username": "zoe"}).status_code == 201
    assert dora.post("/invitations", json={"username": "ZOE"}).status_code == 400


def test_an_invitation_lasts_seven_days(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = {}
    for name in ("zoe", "yves"):
        codes[name] = vault.api("dora").post("/invitations", json={"username": name}).json["code"]
    late = timedelta(days=7, minutes=-5)
    monkeypatch.setattr(clock, "now", lambda: datetime.now(UTC) + late)
    assert vault.api().post("/users", json={"username": "zoe", "code": codes["zoe"]}).status_code == 201
    monkeypatch.setattr(clock, "now", lambda: datetime.now(UTC) + timedelta(days=7, minutes=1))
    late_one = vault.api().post("/users", json={"username": "yves", "code": codes["yves"]})
    assert (late_one.status_code, late_one.json["type"]) == (400, "urn:docvault:CodeInvalid")
