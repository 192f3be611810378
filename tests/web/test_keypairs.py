"""The pages of keys, of people one knows, and of work that takes long, without scripts."""

from __future__ import annotations

import re

import pytest

from tests.attacks.attacker import Attacker
from tests.cast import Vault
from tests.services.test_confirming import begin_anew
from tests.web.forms import errors, flashed, heading, hidden, words
from vault.crypto.keypairs import generate_keys


def test_keys_are_changed_by_buttons_alone(vault: Vault) -> None:
    vault.upload("alice", b"content", share=("bob",))
    browser = vault.browser("alice")
    assert "/account/keys" in browser.get("/account").text
    answer = browser.post(
        "/account/keys/rotate", {"current": vault.alice.passphrase}, form_on="/account/keys"
    )
    assert answer.status_code == 303
    page = browser.get(answer.location)
    assert heading(page) == "Changing your keys" and "0 of 3" in words(page.text)
    under_way = browser.get("/account/keys")
    assert "A change is under way" in words(under_way.text) and "Change the keys" not in words(under_way.text)
    done = browser.post(answer.location, {})
    assert "Your new keys are in place" in flashed(browser, done)
    assert browser.get(answer.location).status_code == 404
    shown = words(browser.get("/account/keys").text)
    assert "current" in shown and "retired" in shown


def test_a_page_that_goes_on_says_how_far_it_is(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    from vault.services import keypairs
    from vault.web import work

    monkeypatch.setattr(keypairs, "READ_AT_ONCE", 1)
    monkeypatch.setattr(work, "SECONDS_BY_HAND", 0)
    vault.upload("alice", b"content", share=("bob",))
    browser = vault.browser("alice")
    answer = browser.post(
        "/account/keys/rotate", {"current": vault.alice.passphrase}, form_on="/account/keys"
    )
    more = browser.post(answer.location, {})
    assert more.status_code == 303 and more.location.endswith("?on=1")
    page = browser.get(more.location)
    assert "33 % are done." in words(page.text) and "1 of 3" in words(page.text)
    refresh = re.search(r'http-equiv="refresh" content="\d+; url=([^"]+)"', page.text)
    assert refresh and refresh.group(1) == answer.location
    assert "refresh" not in browser.get(answer.location).text, (
        "a page left open does not keep its session alive"
    )
    script = browser.client.post(
        answer.location, data={"csrf_token": browser.csrf(answer.location)}, headers={"X-Vault-Script": "1"}
    )
    assert set(script.json) in ({"done", "failed", "total"}, {"location"})


def test_who_waits_stands_on_the_page_and_in_the_question(vault: Vault) -> None:
    document = vault.upload("alice", b"one", share=("bob",)).hex()
    begin_anew(vault, "bob", generate_keys())
    vault.api("alice").put(f"/documents/{document}/content", data=b"two")
    browser = vault.browser("alice")
    page = browser.get(f"/documents/{document}")
    assert "waits until you confirm the key" in words(page.text) and "/contacts/bob/confirm" in page.text
    items = vault.api("alice").get(f"/documents/{document}/shares").json["items"]
    assert [(item["username"], item["waits"]) for item in items] == [("alice", False), ("bob", True)]
    asked = browser.get(f"/documents/{document}/revoke?reader=bob")
    assert 'value="bob" checked' in asked.text and "waits until you confirm the key" in words(asked.text)
    answer = browser.post(f"/documents/{document}/revoke", {"confirm": "1", "readers": ["bob"]})
    assert "The share has ended." in flashed(browser, answer)
    assert "waits" not in words(browser.get(f"/documents/{document}").text)


@pytest.mark.parametrize(
    ("typed", "said"), [("", "Type your passphrase"), ("wrong words", "not your current passphrase")]
)
def test_what_is_wrong_stands_beside_the_field(vault: Vault, typed: str, said: str) -> None:
    answer = vault.browser("alice").post("/account/keys/rotate", {"current": typed}, form_on="/account/keys")
    assert answer.status_code == 400 and said in errors(answer, "current")


def test_what_does_not_open_is_said_and_left_behind(vault: Vault) -> None:
    document = vault.upload("bob", b"song", share=("alice",))
    attacker = Attacker(vault)
    grant = attacker.row("shared_key_registry", document_id=document, reader_id=vault.alice.account.user_id)
    attacker.update("shared_key_registry", grant["id"], wrapped_dek=bytes(256))
    browser = vault.browser("alice")
    answer = browser.post(
        "/account/keys/rotate", {"current": vault.alice.passphrase}, form_on="/account/keys"
    )
    browser.post(answer.location, {})
    page = browser.get(answer.location)
    assert "one entry does not open" in words(page.text) and "data-work>" not in page.text
    form = {"current": vault.alice.passphrase}
    gone = browser.post("/account/keys/leave-behind", form, form_on="/account/keys")
    assert "Your former keys are gone." in flashed(browser, gone)


def test_a_changed_key_is_confirmed_from_the_page_that_refused(vault: Vault) -> None:
    document = vault.upload("alice", b"one", share=("bob",)).hex()
    begin_anew(vault, "bob", generate_keys())
    browser = vault.browser("alice")
    share = f"/documents/{document}/share"
    refused = browser.post(share, {"confirm": "1", "recipients": "bob"})
    assert refused.status_code == 400 and "Compare the key words of bob" in words(refused.text)
    (link,) = re.findall(r'href="(/contacts/bob/confirm\?next=[^"]+)"', refused.text)
    asked = browser.get(link)
    assert heading(asked) == "Is this still bob?"
    form = {"confirm": "1", "fingerprint": hidden(asked, "fingerprint"), "next": share}
    wrong = browser.post(link, form | {"fingerprint": "six words of somebody else"})
    assert wrong.status_code == 400 and "not the words" in words(wrong.text)
    away = browser.post(link, form | {"next": "//evil.example"})
    assert away.location == "/contacts"
    answer = browser.post(share, {"confirm": "1", "recipients": "bob"})
    assert "Shared." in flashed(browser, answer)
    assert "key changed" not in words(browser.get("/contacts").text)


def test_a_reader_is_led_from_the_refusal_to_the_words(vault: Vault) -> None:
    document = vault.upload("alice", b"one", share=("bob",)).hex()
    bob = vault.browser("bob")
    assert bob.get(f"/documents/{document}").status_code == 200
    attacker = Attacker(vault)
    with vault.services() as bundle:
        bundle.work.finish(
            vault.alice.account, bundle.keypairs.rotate(vault.alice.account, vault.alice.passphrase)
        )
    row = attacker.row("user_key", user_id=vault.alice.account.user_id, version=2)
    attacker.update("user_key", row["id"], statement=None)
    attacker.reseal("user_key", row["id"])
    refused = bob.get(f"/documents/{document}")
    assert refused.status_code == 409 and heading(refused) == "Is this still alice?"
    (link,) = re.findall(r'href="(/contacts/alice/confirm\?next=[^"]+)"', refused.text)
    asked = bob.get(link)
    form = {"confirm": "1", "fingerprint": hidden(asked, "fingerprint"), "next": hidden(asked, "next")}
    answer = bob.post(link, form)
    assert answer.location == f"/documents/{document}" and bob.get(answer.location).status_code == 200


def test_people_whom_one_knows(vault: Vault) -> None:
    browser = vault.browser("alice")
    assert "not met anybody yet" in words(browser.get("/contacts").text)
    vault.upload("alice", b"one", share=("bob", "charlie"))
    shown = words(browser.get("/contacts").text)
    assert "bob" in shown and "charlie" in shown and "Compare" not in shown
