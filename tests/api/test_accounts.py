"""``POST users``, ``GET users?q=``, ``GET me``, ``PUT me/passphrase``."""

from __future__ import annotations

import pytest

from tests.cast import Api, Vault
from vault.services.unlocked import UnlockedAccount

OWN = "correct horse battery staple, and a purple umbrella"


def test_who_registers_gets_his_passphrase_this_once(vault: Vault) -> None:
    answer = vault.api().post("/users", json={"username": "Zoe"})
    assert answer.status_code == 201
    assert answer.headers["Cache-Control"] == "no-store"
    assert set(answer.json) == {"id", "username", "passphrase", "fingerprint"}
    assert answer.json["username"] == "zoe"
    assert len(answer.json["passphrase"].split()) == 7
    assert len(answer.json["fingerprint"].split()) == 6
    sent = {"username": "zoe", "passphrase": answer.json["passphrase"]}
    token = vault.api().post("/token", json=sent).json["token"]
    me = Api(vault.app, token).get("/me").json
    assert (me["id"], me["role"]) == (answer.json["id"], "user")
    assert me["fingerprint"] == answer.json["fingerprint"]
    assert "passphrase" not in me


def test_me_tells_what_is_stored_and_the_quota_where_there_is_one(vault: Vault) -> None:
    vault.upload("alice", b"x" * 2000)
    stored = vault.api("dora").get("/accounts").json["items"][0]["stored_bytes"]
    me = vault.api("alice").get("/me").json
    assert (me["stored_bytes"], me["quota_bytes"]) == (stored, None)
    assert stored > 2000
    vault.api("alice").put(
        f"/documents/{vault.api('alice').get('/documents').json['items'][0]['id']}/content", data=b"y"
    )
    limited = vault.reopened(quota_bytes=1_000_000_000)
    me = limited.api("alice").get("/me").json
    assert me["quota_bytes"] == 1_000_000_000
    assert me["stored_bytes"] > stored, "older versions count"
    limited.close()


def test_registration_by_invitation_asks_for_a_code(vault: Vault) -> None:
    closed = vault.reopened(registration="invite")
    assert closed.api().post("/users", json={"username": "zoe"}).status_code == 403
    for bad in ("", "ABCDE", "0" * 40, "\ud800", "x" * 100_000):
        answer = closed.api().post("/users", json={"username": "zoe", "code": bad})
        assert answer.status_code in {400, 403}, bad[:9]
    code = closed.api("dora").post("/invitations", json={"username": "zoe"}).json["code"]
    assert closed.api().post("/users", json={"username": "yves", "code": code}).status_code == 400, (
        "the code is for zoe"
    )
    typed = f" {code.lower().replace('-', ' ')} "
    assert closed.api().post("/users", json={"username": "zoe", "code": typed}).status_code == 201
    again = closed.api().post("/users", json={"username": "yves", "code": code})
    assert (again.status_code, again.json["field"]) == (400, "code"), "a code works once"
    closed.close()


def test_the_set_up_code_makes_no_second_administrator(vault: Vault) -> None:
    from vault.errors import Forbidden

    with vault.services() as bundle:
        assert bundle.invitations.setup_pending() is False
        with pytest.raises(Forbidden):
            bundle.invitations.make_setup_code()


def test_names_are_suggested_from_two_letters_on(vault: Vault) -> None:
    def suggested(query: str, by: str = "charlie") -> list[str]:
        items = vault.api(by).get("/users", query_string={"q": query}).json["items"]
        return [item["username"] for item in items]

    assert suggested("bo") == ["bob"]
    assert suggested("BO") == ["bob"]
    assert suggested("al") == ["alice"]
    assert suggested("al", by="alice") == [], "never oneself"
    for query in ("", "b", "%%", "__", "b%", "x" * 5000, "bo\x00", "ob"):
        assert suggested(query) == [], query
    vault.api("dora").patch("/accounts/bob", json={"state": "disabled"})
    assert suggested("bo") == []


def test_at_most_ten_names_are_suggested(vault: Vault) -> None:
    from vault.models import User
    from vault.services import clock

    def many(session: object) -> None:
        for number in range(15):
            session.add(  # type: ignore[attr-defined]
                User(
                    id=number.to_bytes(16, "big"),
                    username=f"user{number:02}",
                    role="user",
                    state="active",
                    credential_generation=1,
                    key_version=1,
                    stored_bytes=0,
                    documents=0,
                    created_at=clock.now(),
                    last_login_at=None,
                    previous_login_at=None,
                    device_mac=None,
                )
            )
        bundle.transactions.record(Event("register", None, "user", bytes(16)))

    from vault.services.audit import Event

    with vault.services() as bundle:
        bundle.transactions.writing(many)
    items = vault.api("alice").get("/users?q=us").json["items"]
    assert [item["username"] for item in items] == [f"user{number:02}" for number in range(10)]


def test_me_tells_who_one_is_and_how_long(vault: Vault) -> None:
    me = vault.api("dora").get("/me").json
    assert (me["username"], me["role"]) == ("dora", "admin")
    assert 0 < me["seconds_left"] <= 24 * 3600
    assert set(me) == {
        "id", "username", "role", "fingerprint", "session_expires_at", "seconds_left", "stored_bytes", "quota_bytes",
        "recovery_made_at", "notices",
    }  # fmt: skip


def test_a_passphrase_is_changed_to_one_that_is_made(vault: Vault) -> None:
    document = vault.upload("alice", b"mine").hex()
    other = (
        vault.api()
        .post("/token", json={"username": "alice", "passphrase": vault.alice.passphrase})
        .json["token"]
    )
    answer = vault.api("alice").put("/me/passphrase", json={"current": vault.alice.passphrase})
    assert answer.status_code == 200
    made = answer.json["passphrase"]
    assert len(made.split()) == 7
    assert vault.api("alice").get("/me").status_code == 200, "this session goes on"
    assert Api(vault.app, other).get("/me").status_code == 401, "every other has ended"
    old = vault.api().post("/token", json={"username": "alice", "passphrase": vault.alice.passphrase})
    assert old.status_code == 401
    new = vault.api().post("/token", json={"username": "alice", "passphrase": made})
    assert Api(vault.app, new.json["token"]).get(f"/documents/{document}/content").data == b"mine"


def test_a_passphrase_is_changed_to_ones_own(vault: Vault) -> None:
    sent = {"current": vault.alice.passphrase, "new": OWN}
    answer = vault.api("alice").put("/me/passphrase", json=sent)
    assert answer.json == {"passphrase": None}, "what somebody typed is not sent back"
    assert vault.api().post("/token", json={"username": "alice", "passphrase": OWN}).status_code == 201


WEAK = {
    "short": "x7#Kq",
    "fourteen": "aZ3$kP9!qW2@xx",
    "repeated": "a" * 40,
    "well known": "passwordpassword1",
    "with the user's name": "alice likes purple umbrellas in october",
    "of the product": "document vault document vault",
    "a row of keys": "qwertyuiopasdfghjkl",
}


@pytest.mark.parametrize("case", WEAK)
@pytest.mark.requirement(20)
def test_a_weak_passphrase_is_refused_with_what_to_change(vault: Vault, case: str) -> None:
    answer = vault.api("alice").put(
        "/me/passphrase", json={"current": vault.alice.passphrase, "new": WEAK[case]}
    )
    assert (answer.status_code, answer.json["field"]) == (400, "passphrase")
    assert WEAK[case] not in answer.text
    right = {"username": "alice", "passphrase": vault.alice.passphrase}
    assert vault.api().post("/token", json=right).status_code == 201


@pytest.mark.requirement(21)
def test_a_change_needs_the_present_passphrase(vault: Vault) -> None:
    for wrong in ("not it at all, no", vault.bob.passphrase):
        answer = vault.api("alice").put("/me/passphrase", json={"current": wrong, "new": OWN})
        assert answer.status_code == 401
    assert vault.api("alice").get("/me").status_code == 200
    assert vault.api().post("/token", json={"username": "alice", "passphrase": OWN}).status_code == 401


def test_every_byte_of_a_long_passphrase_counts(vault: Vault) -> None:
    """Attack P4: nothing is cut off, up to 1,024 bytes."""
    current = vault.alice.passphrase
    for new in (OWN + "x" * 60, OWN + "ä" * ((1024 - len(OWN)) // 2)):
        account = log_in(vault, current)
        with vault.services() as bundle:
            bundle.accounts.change_passphrase(account, current, new)
        for wrong in (new[:-1], new[:72]):
            sent = {"username": "alice", "passphrase": wrong}
            assert vault.api().post("/token", json=sent).status_code == 401
        current = new


def log_in(vault: Vault, passphrase: str) -> UnlockedAccount:
    with vault.services() as bundle:
        return bundle.sessions.log_in("alice", passphrase, address="127.0.0.1", client="tests").account
