"""Delete an account on the pages: one's own with the passphrase, somebody's with his name typed once more."""

from __future__ import annotations

from tests.cast import Vault
from tests.web.forms import errors, flashed, heading, words


def test_ones_own_account_asks_for_the_passphrase(vault: Vault) -> None:
    document = vault.upload("alice", b"mine", share=("bob",))
    browser = vault.browser("alice")
    page = browser.get("/account/delete")
    assert heading(page) == "Delete your account?" and "cannot be undone" in words(page.text)
    wrong = browser.post("/account/delete", {"current": "not it"})
    assert wrong.status_code == 400 and "not your current passphrase" in errors(wrong, "current")
    assert vault.read("bob", document) == b"mine"
    answer = browser.post("/account/delete", {"current": vault.alice.passphrase})
    assert "Your account is deleted." in flashed(browser, answer)
    assert vault.browser("alice").get("/").status_code == 302
    assert vault.browser("bob").get(f"/documents/{document.hex()}").status_code == 404


def test_the_last_administrator_is_told_why_not(house: Vault) -> None:
    browser = house.browser("dora")
    answer = browser.post("/account/delete", {"current": house.dora.passphrase})
    assert answer.status_code == 400 and "last administrator" in words(answer.text)
    assert browser.get("/people").status_code == 200


def test_an_administrator_types_the_name_once_more(vault: Vault) -> None:
    vault.upload("alice", b"mine")
    browser = vault.browser("dora")
    page = browser.get("/people/alice/delete")
    assert heading(page) == "Delete the account of alice?" and "1 document is destroyed" in words(page.text)
    wrong = browser.post("/people/alice/delete", {"confirm": "bob"})
    assert wrong.status_code == 400 and "Type the user name once more" in errors(wrong, "confirm")
    assert "name stays reserved" in flashed(
        browser, browser.post("/people/alice/delete", {"confirm": "alice"})
    )
    people = words(browser.get("/people").text)
    assert "1 deleted account: the names stay reserved alice" in people
    assert browser.get("/people/alice/delete").status_code == 404
