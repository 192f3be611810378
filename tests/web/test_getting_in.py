"""The pages ``/setup``, ``/invitation``, ``/register`` and ``/login``."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.cast import Vault, settings_for
from tests.web.forms import errors, heading, hidden, words


def passphrase_on(answer: Any) -> str:
    """The passphrase that a page shows: in one line, and word by word."""
    assert heading(answer) == "Your passphrase"
    shown = re.search(r'id="whole" readonly value="([^"]+)"', answer.text)
    assert shown and shown.group(1).split() == re.findall(r'<span class="word">([a-z-]+)</span>', answer.text)
    assert len(shown.group(1).split()) == 7
    return shown.group(1)


def log_in(vault: Vault, name: str, passphrase: str) -> Any:
    return vault.browser().post("/login", {"username": name, "passphrase": passphrase})


def test_the_first_administrator_comes_in_by_the_set_up_code(tmp_path: Any) -> None:
    vault = Vault(tmp_path, settings_for(tmp_path))
    try:
        with vault.services() as bundle:
            code = bundle.invitations.make_setup_code()
        browser = vault.browser()
        assert heading(browser.get("/setup")) == "Set up this vault"
        wrong = browser.post("/setup", {"username": "Dora", "code": "AAAAA-AAAAA"})
        assert wrong.status_code == 400 and "not valid" in errors(wrong, "code")
        assert 'value="Dora"' in wrong.text, "what was typed is still there"
        nameless = browser.post("/setup", {"username": "d", "code": code})
        assert "2 to 32" in errors(nameless, "username")
        made = browser.post("/setup", {"username": "Dora", "code": code})
        passphrase = passphrase_on(made)
        assert log_in(vault, "dora", passphrase).status_code == 303
        assert heading(browser.get("/setup")) == "This vault is set up"
        again = browser.post("/setup", {"username": "eve", "code": code}, form_on="/login")
        assert heading(again) == "This vault is set up"
        assert heading(browser.get("/register")) == "Create an account"
        assert "for invited people" in browser.get("/register").text
    finally:
        vault.close()


def test_the_passphrase_is_shown_once_and_nowhere_else(vault: Vault) -> None:
    """It stands in the answer to the POST: reloading, going back and the cookies have nothing of it."""
    browser = vault.browser()
    made = browser.post("/register", {"username": "zoe"})
    passphrase = passphrase_on(made)
    assert made.headers["Cache-Control"] == "no-store"
    assert "lost documents" in words(made.text)
    for path in ("/register", "/", "/login", "/account"):
        assert passphrase not in browser.get(path, follow_redirects=True).text
    assert passphrase not in " ".join(made.headers.getlist("Set-Cookie"))
    reloaded = browser.post("/register", {"username": "zoe"})
    assert reloaded.status_code == 400 and "taken" in errors(reloaded, "username")
    assert passphrase not in reloaded.text


def test_typing_it_back_is_the_first_login(vault: Vault) -> None:
    browser = vault.browser()
    made = browser.post("/register", {"username": "zoe"})
    token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', made.text)
    assert token
    form = {"username": "zoe", "passphrase": passphrase_on(made), "csrf_token": token.group(1), "next": ""}
    answer = browser.client.post("/login", data=form)
    assert (answer.status_code, answer.location) == (303, "/")
    assert "Your vault is empty" in browser.get("/").text


def test_an_invited_person_sees_for_whom_it_is_and_agrees(vault: Vault) -> None:
    by_invitation = vault.reopened(registration="invite")
    code = by_invitation.api("dora").post("/invitations", json={"username": "zoe"}).json["code"]
    browser = by_invitation.browser()
    assert heading(browser.get("/invitation")) == "You are invited"
    shown = browser.post("/invitation", {"code": f" {code.lower()} "})
    assert heading(shown) == "Welcome, zoe"
    made = browser.post("/invitation", {"code": hidden(shown, "code")[0], "agreed": "1"})
    assert log_in(by_invitation, "zoe", passphrase_on(made)).status_code == 303
    used = browser.post("/invitation", {"code": code})
    assert used.status_code == 400 and "not valid" in errors(used, "code")
    by_invitation.close()


@pytest.mark.parametrize("code", ["", "x", "AAAAA-" * 5, "a" * 5000, "\u202e", "<b>"])
def test_a_code_that_is_none_is_said_beside_its_field(house: Vault, code: str) -> None:
    answer = house.browser().post("/invitation", {"code": code})
    assert answer.status_code == 400
    assert errors(answer, "code")
    assert "<b>" not in answer.text.replace("<b>Document", "")


def test_a_closed_vault_registers_nobody_not_even_by_invitation(vault: Vault) -> None:
    closed = vault.reopened(registration="closed")
    browser = closed.browser()
    code = vault.api("dora").post("/invitations", json={"username": "zoe"}).json["code"]
    assert browser.post("/invitation", {"code": code, "agreed": "1"}).status_code == 403
    answer = browser.post("/register", {"username": "zoe"}, form_on="/login")
    assert "for invited people" in words(answer.text)
    assert closed.api("dora").get("/accounts").text.count('"username"') == 4
    refused = closed.api("dora").post("/invitations", json={"username": "yan"})
    assert (refused.status_code, refused.json["detail"]) == (403, "Registration is closed.")
    page = closed.browser("dora").get("/people").text
    assert "Registration is closed" in page and 'name="username"' not in page
    closed.close()


def test_a_wrong_login_keeps_the_name_and_forgets_the_passphrase(house: Vault) -> None:
    answer = house.browser().post("/login", {"username": "alice", "passphrase": "not the words"})
    assert answer.status_code == 400
    assert "do not fit together" in words(answer.text)
    assert 'value="alice"' in answer.text and "not the words" not in answer.text


@pytest.mark.parametrize("missing", ["username", "passphrase"])
def test_an_empty_field_is_said_beside_it(house: Vault, missing: str) -> None:
    form = {"username": "alice", "passphrase": "x"} | {missing: ""}
    answer = house.browser().post("/login", form)
    assert answer.status_code == 400
    assert errors(answer, missing).startswith("Type your")


def test_who_is_logged_in_is_led_on(house: Vault) -> None:
    answer = house.browser("alice").get("/login?next=/shared")
    assert (answer.status_code, answer.location) == (303, "/shared")


def test_a_disabled_account_is_told_so_after_the_right_passphrase(vault: Vault) -> None:
    with vault.services() as bundle:
        bundle.accounts.set_state(None, "bob", "disabled")
    answer = log_in(vault, "bob", vault.bob.passphrase)
    assert answer.status_code == 400 and "disabled" in words(answer.text)
