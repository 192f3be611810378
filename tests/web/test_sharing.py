"""The pages that share, end sharing, and leave; and the suggestions for names."""

from __future__ import annotations

import pytest

from tests.cast import Vault
from tests.web.forms import errors, flashed, heading, words


@pytest.fixture
def document(vault: Vault) -> str:
    return vault.upload("alice", b"content", name="Vertrag.pdf").hex()


def test_a_document_is_shared_with_several_until_a_time(vault: Vault, document: str) -> None:
    browser = vault.browser("alice")
    form = {"confirm": "1", "recipients": " bob,  charlie ", "expires_at": "2199-12-31T23:59"}
    assert "Shared." in flashed(browser, browser.post(f"/documents/{document}/share", form))
    for name in ("bob", "charlie"):
        shown = vault.api(name).get(f"/documents/{document}").json
        assert shown["expires_at"] == "2199-12-31T23:59:00Z", "the time on the page is UTC"
    assert "You can open it until" in words(vault.browser("bob").get(f"/documents/{document}").text)


def test_the_page_asks_first(vault: Vault, document: str) -> None:
    browser = vault.browser("alice")
    asked = browser.post(f"/documents/{document}/share", {"recipients": "bob"})
    assert asked.status_code == 200 and heading(asked) == "Share"
    assert vault.api("bob").get("/documents").json["items"] == []


@pytest.mark.parametrize(
    ("form", "field", "said"),
    [
        ({"recipients": ""}, "recipients", "Type at least one"),
        ({"recipients": "nobody"}, "recipients", "no user named nobody"),
        ({"recipients": "alice"}, "recipients", "own this document"),
        ({"recipients": "bob bob"}, "recipients", "twice"),
        ({"recipients": "<b>"}, "recipients", "<b>"),
        ({"recipients": "bob", "expires_at": "2000-01-01T00:00"}, "expires_at", "future"),
        ({"recipients": "bob", "expires_at": "tomorrow"}, "expires_at", ""),
    ],
)
def test_what_is_wrong_is_said_beside_its_field(
    vault: Vault, document: str, form: dict[str, str], field: str, said: str
) -> None:
    answer = vault.browser("alice").post(f"/documents/{document}/share", {"confirm": "1"} | form)
    assert answer.status_code == 400
    assert said in errors(answer, field)
    assert "<b>" not in answer.text
    assert vault.api("bob").get("/documents").json["items"] == []


def test_a_share_is_ended_for_one_of_two(vault: Vault, document: str) -> None:
    vault.api("alice").post(f"/documents/{document}/shares", json={"usernames": ["bob", "charlie"]})
    browser = vault.browser("alice")
    asked = browser.get(f"/documents/{document}/revoke?reader=bob")
    assert 'value="bob" checked' in asked.text and 'value="charlie" checked' not in asked.text
    answer = browser.post(f"/documents/{document}/revoke", {"confirm": "1", "readers": ["bob"]})
    assert "The share has ended." in flashed(browser, answer)
    assert vault.browser("bob").get(f"/documents/{document}").status_code == 404
    assert vault.browser("charlie").get(f"/documents/{document}").status_code == 200


@pytest.mark.parametrize("readers", [[], ["nobody"], ["charlie"], ["alice"]])
def test_ending_it_for_nobody_is_said(vault: Vault, document: str, readers: list[str]) -> None:
    vault.api("alice").post(f"/documents/{document}/shares", json={"usernames": ["bob"]})
    form = {"confirm": "1", "readers": readers}
    answer = vault.browser("alice").post(f"/documents/{document}/revoke", form)
    assert answer.status_code == 400
    assert vault.browser("bob").get(f"/documents/{document}").status_code == 200


def test_a_document_that_nobody_else_reads_has_nothing_to_end(vault: Vault, document: str) -> None:
    assert "there is nothing to end" in words(
        vault.browser("alice").get(f"/documents/{document}/revoke").text
    )


def test_a_reader_leaves_after_a_question(vault: Vault, document: str) -> None:
    vault.api("alice").post(f"/documents/{document}/shares", json={"usernames": ["bob"]})
    bob = vault.browser("bob")
    assert heading(bob.get(f"/documents/{document}/leave")) == "Leave this share?"
    answer = bob.post(f"/documents/{document}/leave", {"confirm": "1"})
    assert "You have left the share." in flashed(bob, answer)
    assert bob.get(f"/documents/{document}").status_code == 404


def test_names_are_suggested(house: Vault) -> None:
    browser = house.browser("alice")
    assert browser.get("/users/suggest?q=bo").json == {"usernames": ["bob"]}
    for query in ("", "b", "%25%25", "x" * 500, "alice"):
        assert browser.get(f"/users/suggest?q={query}").json == {"usernames": []}
