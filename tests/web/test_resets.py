"""Reset my keys on the pages: the administrator's link, the list of what is lost, the new passphrase."""

from __future__ import annotations

import re

from tests.cast import Vault
from tests.web.forms import errors, flashed, heading, hidden, words


def begin(vault: Vault) -> str:
    browser = vault.browser("dora")
    page = browser.get("/people/alice/reset")
    assert heading(page) == "Reset the keys of alice?"
    answer = browser.post("/people/alice/reset")
    assert heading(answer) == "New keys for alice"
    link = re.search(r'id="link" readonly value="http://localhost/reset#([^"]+)"', answer.text)
    assert link
    return link.group(1)


def test_a_person_sees_what_is_lost_before_it_is(vault: Vault) -> None:
    vault.upload("alice", b"lost", share=("bob",))
    vault.upload("bob", b"kept", share=("alice",))
    code, browser = begin(vault), vault.browser()
    seen = browser.post("/reset", {"code": code})
    said = words(seen.text)
    assert heading(seen) == "New keys for alice" and hidden(seen, "agreed") == ["1"]
    assert "1 document that you own is destroyed" in said and "Others read 1 of these" in said
    assert "bob (1) can share again" in said
    assert vault.api("alice").get("/documents").json["items"], "nothing is lost yet"
    answer = browser.post("/reset", {"code": code, "agreed": "1"})
    assert heading(answer) == "Your passphrase" and "bob: 1 document" in words(answer.text)
    shown = re.search(r'id="whole" readonly value="([^"]+)"', answer.text)
    assert shown
    alice = vault.browser()
    assert alice.post("/login", {"username": "alice", "passphrase": shown.group(1)}).status_code == 303
    assert "Your keys were reset" in words(alice.get("/").text)
    again = vault.browser().post("/reset", {"code": code, "agreed": "1"})
    assert again.status_code == 400 and "not valid" in errors(again, "code")


def test_a_login_ends_the_reset_and_says_who_began_it(vault: Vault) -> None:
    code, alice = begin(vault), vault.browser()
    assert (
        alice.post("/login", {"username": "alice", "passphrase": vault.alice.passphrase}).status_code == 303
    )
    assert "dora made a code to reset your keys" in words(alice.get("/").text)
    assert vault.browser().post("/reset", {"code": code}).status_code == 400


def test_an_open_reset_is_listed_and_withdrawn(vault: Vault) -> None:
    code, browser = begin(vault), vault.browser("dora")
    page = browser.get("/people").text
    assert "Withdraw the reset of alice" in page
    (path,) = re.findall(r'action="(/people/invitations/[0-9a-f]{32}/withdraw)"', page)
    assert "no longer works" in flashed(browser, browser.post(path, form_on="/people"))
    assert vault.browser().post("/reset", {"code": code}).status_code == 400
