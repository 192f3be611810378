"""The page ``/account``: fingerprint, sessions, passphrase; and "Lock now"."""

from __future__ import annotations

import re

import pytest

from tests.cast import Vault
from tests.web.forms import errors, flashed, heading, words

OWN = "correct horse battery staple, and a purple umbrella"


def test_the_page_shows_name_key_words_and_sessions(house: Vault) -> None:
    answer = house.browser("alice").get("/account")
    fingerprint = house.api("alice").get("/me").json["fingerprint"]
    assert heading(answer) == "alice"
    assert fingerprint in words(answer.text)
    assert "this one" in words(answer.text) and "tests" in words(answer.text)
    assert "administrator" in words(house.browser("dora").get("/account").text)
    assert house.alice.passphrase not in answer.text


def test_the_page_shows_what_is_stored_and_the_quota_where_there_is_one(vault: Vault) -> None:
    vault.upload("alice", b"x" * 2000)
    assert "Stored 2.1 kB What" in words(vault.browser("alice").get("/account").text)
    limited = vault.reopened(quota_bytes=1_000_000_000)
    assert "Stored 2.1 kB of 1.0 GB What" in words(limited.browser("alice").get("/account").text)
    assert "Stored 0 bytes of 1.0 GB What" in words(limited.browser("bob").get("/account").text)
    limited.close()


def test_the_page_tells_the_time_that_is_left(house: Vault) -> None:
    browser = house.browser("alice")
    assert re.search(r"data-seconds-left|seconds", browser.get("/account").text)
    left = browser.get("/session").json["seconds_left"]
    assert 0 < left <= 24 * 3600


def test_a_page_that_outlived_a_login_is_told_whose_it_is_and_the_token_of_its_forms(house: Vault) -> None:
    browser = house.browser("alice")
    told = browser.get("/session?quiet").json
    assert told["user"] == house.alice.account.user_id.hex()
    assert f'data-user="{told["user"]}"' in browser.get("/account").text
    form = {"csrf_token": told["csrf_token"]}
    assert "Type your current passphrase." in words(
        browser.client.post("/account/passphrase", data=form).text
    )


def test_lock_now_stands_on_every_page(house: Vault) -> None:
    for path in ("/", "/shared", "/upload", "/account"):
        assert re.search(r'<form[^>]*action="/logout"', house.browser("alice").get(path).text), path


def test_a_made_passphrase_is_shown_once(vault: Vault) -> None:
    browser = vault.browser("alice")
    form = {"current": vault.alice.passphrase, "choice": "generated"}
    answer = browser.post("/account/passphrase", form, form_on="/account")
    assert answer.status_code == 200 and heading(answer) == "Your new passphrase"
    shown = re.search(r'id="whole" readonly value="([^"]+)"', answer.text)
    assert shown and vault.alice.passphrase not in answer.text
    assert shown.group(1) not in browser.get("/account").text
    assert (
        vault.browser().post("/login", {"username": "alice", "passphrase": shown.group(1)}).status_code == 303
    )


def test_ones_own_passphrase_is_taken_and_not_shown(vault: Vault) -> None:
    browser = vault.browser("alice")
    form = {"current": vault.alice.passphrase, "choice": "own", "passphrase": OWN, "again": OWN}
    answer = browser.post("/account/passphrase", form, form_on="/account")
    assert "Your passphrase is changed" in flashed(browser, answer)
    assert OWN not in answer.text
    assert vault.browser().post("/login", {"username": "alice", "passphrase": OWN}).status_code == 303


@pytest.mark.parametrize(
    ("form", "field", "said"),
    [
        ({"current": ""}, "current", "Type your current passphrase"),
        ({"choice": "own", "passphrase": OWN, "again": OWN + "x"}, "again", "not the same"),
        ({"choice": "own", "passphrase": "Qz7.kurz", "again": "Qz7.kurz"}, "passphrase", "15 characters"),
        ({"choice": "own", "passphrase": "", "again": ""}, "passphrase", ""),
        ({"choice": "own", "passphrase": "a" * 30, "again": "a" * 30}, "passphrase", "easy to guess"),
    ],
)
def test_what_is_wrong_is_said_beside_its_field(
    house: Vault, form: dict[str, str], field: str, said: str
) -> None:
    sent = {"current": house.alice.passphrase} | form
    answer = house.browser("alice").post("/account/passphrase", sent, form_on="/account")
    assert answer.status_code == 400
    assert said in errors(answer, field)
    for value in sent.values():
        assert len(value) < 5 or value not in answer.text or value == "generated"


def test_a_wrong_current_passphrase_is_said_beside_it(vault: Vault) -> None:
    form = {"current": "not my passphrase", "choice": "generated"}
    answer = vault.browser("alice").post("/account/passphrase", form, form_on="/account")
    assert answer.status_code == 400
    assert "not your current passphrase" in errors(answer, "current")


def test_a_session_is_ended_from_the_page(vault: Vault) -> None:
    other = vault.browser()
    other.post("/login", {"username": "alice", "passphrase": vault.alice.passphrase})
    assert other.get("/").status_code == 200
    alice = vault.browser("alice")
    sessions = vault.api("alice").get("/me/sessions").json["items"]
    (theirs,) = (session["id"] for session in sessions if not session["current"])
    answer = alice.post(f"/account/sessions/{theirs}/end", form_on="/account")
    assert "Signed out there." in flashed(alice, answer)
    assert other.get("/").status_code == 302
    assert alice.get("/").status_code == 200


def test_ending_ones_own_session_locks(vault: Vault) -> None:
    alice = vault.browser("alice")
    (own,) = (s["id"] for s in vault.api("alice").get("/me/sessions").json["items"] if s["current"])
    answer = alice.post(f"/account/sessions/{own}/end", form_on="/account")
    assert (answer.status_code, answer.location) == (303, "/login")
    assert alice.get("/").status_code == 302


def test_all_sessions_are_ended_from_the_page(vault: Vault) -> None:
    alice = vault.browser("alice")
    answer = alice.post("/account/sessions/end-all", form_on="/account")
    assert answer.location == "/login"
    assert vault.api("alice").get("/me").status_code == 401
    assert vault.browser("bob").get("/").status_code == 200
