"""My passphrase may be known, on the pages: said with it, replaced, gone on with after the next login."""

from __future__ import annotations

import re

from tests.cast import Vault
from tests.web.forms import errors, flashed, heading, words

OWN = "correct horse battery staple, and a purple umbrella"


def test_everything_is_replaced_by_buttons_alone(vault: Vault) -> None:
    document = vault.upload("alice", b"mine")
    browser = vault.browser("alice")
    page = browser.get("/account/exposed")
    assert heading(page) == "My passphrase may be known" and "What it cannot do" in words(page.text)
    answer = browser.post("/account/exposed", {"current": vault.alice.passphrase, "choice": "generated"})
    assert heading(answer) == "Your new passphrase"
    shown = re.search(r'id="whole" readonly value="([^"]+)"', answer.text)
    assert shown
    assert browser.get("/account").status_code == 302
    alice = vault.browser()
    assert alice.post("/login", {"username": "alice", "passphrase": shown.group(1)}).status_code == 303
    assert "Your passphrase and keys were replaced" in words(alice.get("/").text)
    (keys,) = re.findall(r'href="(/work/[0-9a-f]{32})"', alice.get("/account/keys").text)
    assert "Your new keys are in place" in flashed(alice, moved := alice.post(keys))
    assert moved.location.startswith("/work/"), "from the keys to the documents"
    assert heading(alice.get(moved.location)) == "New keys for all your documents"
    assert "all your documents have new keys." in flashed(alice, alice.post(moved.location))
    assert "Go on with my documents" not in words(alice.get("/account").text)
    assert alice.get(f"/documents/{document.hex()}/content").data == b"mine"


def test_ones_own_new_passphrase_leads_to_the_login(vault: Vault) -> None:
    browser = vault.browser("alice")
    form = {"current": vault.alice.passphrase, "choice": "own", "passphrase": OWN, "again": OWN}
    answer = browser.post("/account/exposed", form)
    assert "Your passphrase and keys are replaced" in flashed(browser, answer)
    assert vault.browser().post("/login", {"username": "alice", "passphrase": OWN}).status_code == 303


def test_what_is_wrong_is_said_beside_its_field(vault: Vault) -> None:
    browser = vault.browser("alice")
    wrong = browser.post("/account/exposed", {"current": "not it", "choice": "generated"})
    assert wrong.status_code == 400 and "not your current passphrase" in errors(wrong, "current")
    weak = {"current": vault.alice.passphrase, "choice": "own", "passphrase": "a" * 30, "again": "a" * 30}
    assert "easy to guess" in errors(browser.post("/account/exposed", weak), "passphrase")
