"""``POST|DELETE token``, ``POST token/renew``, ``GET me/sessions``, ``DELETE me/sessions[/<id>]``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.cast import Api, Vault
from vault.services import clock
from vault.services.sessions import TOKEN_LIFE


def log_in(vault: Vault, name: str = "alice", **headers: str) -> Any:
    sent = {"username": name, "passphrase": vault.members[name].passphrase}
    return vault.api().post("/token", json=sent, headers=headers)


def test_a_login_gives_a_bearer_token_and_no_cookie(vault: Vault) -> None:
    answer = log_in(vault)
    assert answer.status_code == 201
    assert (answer.json["token_type"], answer.json["username"]) == ("Bearer", "alice")
    assert answer.json["expires_in"] == 15 * 60
    assert answer.headers.getlist("Set-Cookie") == []
    assert Api(vault.app, answer.json["token"]).get("/me").json["username"] == "alice"


@pytest.mark.parametrize("name", ["ALICE", " Alice "])
def test_a_name_is_folded_at_the_login(vault: Vault, name: str) -> None:
    answer = vault.api().post("/token", json={"username": name, "passphrase": vault.alice.passphrase})
    assert (answer.status_code, answer.json["username"]) == (201, "alice")


@pytest.mark.parametrize(
    "body", [{}, {"username": "alice"}, {"passphrase": "x"}, {"username": None, "passphrase": "x"}]
)
def test_name_and_passphrase_are_both_needed(vault: Vault, body: dict[str, Any]) -> None:
    answer = vault.api().post("/token", json=body)
    assert (answer.status_code, answer.json["detail"]) == (400, "This field is required.")


def test_a_renewed_token_is_the_same_session_for_longer(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = log_in(vault).json["token"]
    monkeypatch.setattr(clock, "now", lambda: datetime.now(UTC) + TOKEN_LIFE * 0.9)
    second = Api(vault.app, first).post("/token/renew")
    assert (second.status_code, second.json["token_type"]) == (200, "Bearer")
    assert second.json["token"] != first
    monkeypatch.setattr(clock, "now", lambda: datetime.now(UTC) + TOKEN_LIFE * 1.5)
    assert Api(vault.app, first).get("/me").status_code == 401
    renewed = Api(vault.app, second.json["token"])
    assert renewed.get("/me").status_code == 200
    assert len(renewed.get("/me/sessions").json["items"]) == 2, "the one of the cast, and this one"


@pytest.mark.requirement(30)
def test_a_session_is_not_renewed_beyond_its_end(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    short = vault.reopened(session_hours=1, session_idle_minutes=60)
    token = log_in(short).json["token"]
    for minutes in (10, 20, 30, 40, 50, 59):
        moment = datetime.now(UTC) + timedelta(minutes=minutes)
        monkeypatch.setattr(clock, "now", lambda moment=moment: moment)
        token = Api(short.app, token).post("/token/renew").json["token"]
    monkeypatch.setattr(clock, "now", lambda: datetime.now(UTC) + timedelta(minutes=61))
    assert Api(short.app, token).get("/me").status_code == 401
    short.close()


@pytest.mark.requirement(30)
def test_an_idle_session_ends(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    short = vault.reopened(session_idle_minutes=5)
    token = log_in(short).json["token"]
    monkeypatch.setattr(clock, "now", lambda: datetime.now(UTC) + timedelta(minutes=4))
    assert Api(short.app, token).get("/me").status_code == 200, "asking is a sign of life"
    monkeypatch.setattr(clock, "now", lambda: datetime.now(UTC) + timedelta(minutes=8))
    assert Api(short.app, token).get("/me").status_code == 200
    monkeypatch.setattr(clock, "now", lambda: datetime.now(UTC) + timedelta(minutes=14))
    assert Api(short.app, token).get("/me").status_code == 401
    short.close()


def test_a_logout_ends_this_session_and_no_other(vault: Vault) -> None:
    token = log_in(vault).json["token"]
    assert Api(vault.app, token).delete("/token").status_code == 204
    assert Api(vault.app, token).get("/me").status_code == 401
    assert Api(vault.app, token).post("/token/renew").status_code == 401
    assert vault.api("alice").get("/me").status_code == 200


@pytest.mark.requirement(32)
def test_sessions_are_listed_with_what_they_log_in_with(vault: Vault) -> None:
    token = log_in(vault, **{"User-Agent": "curl/8.5.0"}).json["token"]
    items = Api(vault.app, token).get("/me/sessions").json["items"]
    assert [item["client"] for item in items] == ["curl/8.5.0", "tests"]
    assert [item["current"] for item in items] == [True, False]
    assert set(items[0]) == {"id", "client", "created_at", "last_seen_at", "expires_at", "current"}
    for item in items:
        for name in ("created_at", "last_seen_at", "expires_at"):
            assert item[name].endswith("Z") and datetime.fromisoformat(item[name])


@pytest.mark.requirement(32)
def test_one_session_is_ended_from_another(vault: Vault) -> None:
    token = log_in(vault).json["token"]
    (this,) = (i["id"] for i in Api(vault.app, token).get("/me/sessions").json["items"] if i["current"])
    assert vault.api("alice").delete(f"/me/sessions/{this}").status_code == 204
    assert Api(vault.app, token).get("/me").status_code == 401
    assert vault.api("alice").delete(f"/me/sessions/{this}").status_code == 404, "it is gone"


def test_all_sessions_are_ended_at_once_this_one_too(vault: Vault) -> None:
    tokens = [vault.alice.token, log_in(vault).json["token"]]
    assert Api(vault.app, tokens[1]).delete("/me/sessions").status_code == 204
    assert [Api(vault.app, token).get("/me").status_code for token in tokens] == [401, 401]
    assert vault.api("bob").get("/me").status_code == 200


@pytest.mark.requirement(31)
def test_a_disabled_account_is_out_with_the_next_request(vault: Vault) -> None:
    assert vault.api("dora").patch("/accounts/alice", json={"state": "disabled"}).status_code == 204
    assert vault.api("alice").get("/me").status_code == 401
    assert log_in(vault).status_code == 403
    vault.api("dora").patch("/accounts/alice", json={"state": "active"})
    assert vault.api("alice").get("/me").status_code == 401, "old tokens stay worthless"
    assert log_in(vault).status_code == 201
