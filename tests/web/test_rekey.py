"""The pages that make new keys: with the end of a share, for a document by itself, and where it stands."""

from __future__ import annotations

import pytest

from tests.cast import Vault
from tests.web.forms import flashed, heading, words
from vault.services import rekey as rekeying


@pytest.fixture
def document(vault: Vault) -> str:
    return vault.upload("alice", b"content", name="Vertrag.pdf", share=("bob", "charlie")).hex()


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """No request has time for anything but to begin."""
    monkeypatch.setattr(rekeying.Rekey, "_copy", lambda self, account, begun, until: begun.cursor.done)


def generation(vault: Vault, document: str) -> int:
    return int(vault.api("alice").get(f"/documents/{document}").json["generation"])


def test_the_dialog_that_ends_a_share_makes_new_keys_as_well(vault: Vault, document: str) -> None:
    browser, place = vault.browser("alice"), f"/documents/{document}/revoke"
    asked = browser.get(place).text
    assert 'name="rekey"' in asked and 'name="at_once"' in asked and " checked" not in asked
    assert "opens nothing of it" in words(asked) and "cannot be taken back" in words(asked)
    answer = browser.post(place, {"confirm": "1", "readers": "bob", "rekey": "y", "at_once": "y"})
    assert "The share has ended. The document has new keys." in flashed(browser, answer)
    assert generation(vault, document) == 2 and len(vault.blob_files()) == 1
    browser.post(place, {"confirm": "1", "readers": "charlie"})
    assert generation(vault, document) == 2, "only where it was ticked"


def test_a_document_by_itself(vault: Vault, document: str) -> None:
    browser, place = vault.browser("alice"), f"/documents/{document}/rekey"
    asked = browser.post(place)
    assert asked.status_code == 200 and heading(asked) == "Make new keys?", "the page asks first"
    assert generation(vault, document) == 1
    shown = words(browser.get(f"/documents/{document}").text)
    assert "Generation of its keys 1 " in shown and "new keys since" not in shown
    answer = browser.post(place, {"confirm": "1"})
    assert "The document has new keys." in flashed(browser, answer)
    shown = words(browser.get(f"/documents/{document}").text)
    assert "Generation of its keys 2 new keys since" in shown
    assert "Generation of its keys 2" in words(vault.browser("bob").get(f"/documents/{document}").text)
    assert len(vault.blob_files()) == 2, "the old content has an hour"


@pytest.mark.usefixtures("slow")
def test_what_takes_longer_has_a_page_and_can_be_stopped(
    vault: Vault, document: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = vault.browser("alice")
    answer = browser.post(
        f"/documents/{document}/revoke", {"confirm": "1", "readers": ["bob", "charlie"], "rekey": "y"}
    )
    page = browser.get(answer.location)
    assert heading(page) == "Making new keys" and "0 of 1" in words(page.text)
    assert "The share has ended. New keys are being made." in words(page.text)
    shown = browser.get(f"/documents/{document}").text
    assert answer.location in shown and "New keys are not made yet" in words(shown)
    stopped = browser.post(f"/documents/{document}/rekey/stop", form_on=f"/documents/{document}")
    assert "keeps the keys" in flashed(browser, stopped)
    assert "not made yet" not in browser.get(f"/documents/{document}").text
    answer = browser.post(f"/documents/{document}/rekey", {"confirm": "1"})
    monkeypatch.undo()
    done = browser.post(answer.location, form_on=answer.location)
    assert done.location == f"/documents/{document}" and generation(vault, document) == 2


@pytest.mark.usefixtures("slow")
def test_several_at_once_follow_one_another(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [vault.upload("alice", b"content", share=("bob",)).hex() for _ in range(2)]
    browser = vault.browser("alice")
    form = {"action": "revoke", "documents": ids, "confirm": "1", "readers": "bob", "rekey": "y"}
    place = browser.post("/documents/selected", form, form_on="/").location
    monkeypatch.undo()
    second = browser.post(place, form_on=place).location
    assert second.startswith("/work/") and second != place
    assert browser.post(second, form_on=second).location in {f"/documents/{document}" for document in ids}
    assert [generation(vault, document) for document in ids] == [2, 2]
