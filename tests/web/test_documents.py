"""The lists, the page of a document, rename, versions, delete; and several documents at once."""

from __future__ import annotations

import re

import pytest

from tests.cast import Vault, reader
from tests.web.forms import errors, flashed, heading, hidden, words


@pytest.fixture
def document(vault: Vault) -> str:
    return vault.upload("alice", b"content", name="Vertrag.pdf", share=("bob",)).hex()


def test_an_empty_vault_says_what_to_do(house: Vault) -> None:
    assert "Your vault is empty" in house.browser("alice").get("/").text
    assert "Nothing is shared with you yet" in house.browser("alice").get("/shared").text


def test_a_document_stands_in_the_list_of_its_owner_and_of_its_reader(vault: Vault, document: str) -> None:
    own, shared = vault.browser("alice").get("/"), vault.browser("bob").get("/shared")
    for answer in (own, shared):
        assert f'href="/documents/{document}"' in answer.text
        assert "Vertrag.pdf" in words(answer.text) and "7 bytes" in words(answer.text)
    assert "Readers: 1" in words(own.text)
    assert "new" in words(shared.text) and "alice" in words(shared.text)
    assert document not in vault.browser("bob").get("/").text
    assert document not in vault.browser("dora").get("/shared").text


def test_lists_are_paged_by_fifty_sorted_and_searched(vault: Vault) -> None:
    with vault.services() as bundle:
        for number in range(53):
            bundle.uploads.receive(vault.alice.account, reader(b""), name=f"file {number:02}")
    browser = vault.browser("alice")
    first = browser.get("/?sort=name")
    assert first.text.count('name="documents"') == 50
    following = re.search(r'rel="next" href="([^"]+)"', first.text)
    assert following
    second = browser.get(following.group(1).replace("&amp;", "&"))
    assert second.text.count('name="documents"') == 3 and "file 52" in words(second.text)
    assert 'rel="next"' not in second.text and "First page" in words(second.text)
    found = browser.get("/?q=file+07")
    assert found.text.count('name="documents"') == 1
    assert "No name has" in words(browser.get("/?q=nothing+like+it").text)
    assert browser.get("/?sort=nothing").status_code == 400
    assert browser.get("/?after=nothing").status_code == 400


def test_the_page_tells_the_owner_who_can_open_it(vault: Vault, document: str) -> None:
    text = words(vault.browser("alice").get(f"/documents/{document}").text)
    words_of_bob = vault.api("bob").get("/me").json["fingerprint"]
    assert "bob" in text and words_of_bob.split()[0] in text
    assert "application/pdf" in text and "SHA-256" in text
    for act in ("Share", "New version", "Rename", "Delete", "Versions", "End sharing"):
        assert act in text, act


def test_the_page_shows_a_reader_what_is_for_readers(vault: Vault, document: str) -> None:
    vault.api("alice").post(f"/documents/{document}/shares", json={"usernames": ["charlie"]})
    text = words(vault.browser("bob").get(f"/documents/{document}").text)
    assert "owned by alice" in text and "Leave the share" in text and "The owner's key words" in text
    for act in ("charlie", "Rename", "Delete", "New version", "Versions"):
        assert act not in text, act


def test_a_document_is_downloaded(vault: Vault, document: str) -> None:
    for name in ("alice", "bob"):
        answer = vault.browser(name).get(f"/documents/{document}/content")
        assert answer.data == b"content"
        assert "Vertrag.pdf" in answer.headers["Content-Disposition"]


def test_a_document_is_renamed(vault: Vault, document: str) -> None:
    browser = vault.browser("alice")
    asked = browser.get(f"/documents/{document}/rename")
    assert 'value="Vertrag.pdf"' in asked.text
    form = {"name": "Neuer Name.pdf", "etag": hidden(asked, "etag")[0]}
    assert "new name" in flashed(browser, browser.post(f"/documents/{document}/rename", form))
    assert "Neuer Name.pdf" in words(vault.browser("bob").get("/shared").text)


@pytest.mark.parametrize(
    ("name", "said"), [("", "Type a name"), ("a/b", "path"), ("x" * 300, "255"), ("..", "path")]
)
def test_a_name_that_cannot_be_is_said_beside_the_field(
    vault: Vault, document: str, name: str, said: str
) -> None:
    etag = vault.api("alice").get(f"/documents/{document}").json["etag"]
    answer = vault.browser("alice").post(f"/documents/{document}/rename", {"name": name, "etag": etag})
    assert answer.status_code == 400
    assert said in errors(answer, "name")


def test_an_older_page_does_not_overwrite_a_newer_name(vault: Vault, document: str) -> None:
    browser = vault.browser("alice")
    etag = hidden(browser.get(f"/documents/{document}/rename"), "etag")[0]
    vault.api("alice").patch(f"/documents/{document}", json={"name": "meanwhile.pdf"})
    answer = browser.post(f"/documents/{document}/rename", {"name": "late.pdf", "etag": etag})
    assert answer.status_code == 412
    assert vault.api("alice").get(f"/documents/{document}").json["name"] == "meanwhile.pdf"


def test_versions_are_listed_and_downloaded(vault: Vault, document: str) -> None:
    vault.api("alice").put(f"/documents/{document}/content", data=b"second")
    browser = vault.browser("alice")
    page = browser.get(f"/documents/{document}/versions")
    links = re.findall(rf'href="(/documents/{document}/versions/[0-9a-f]+/content)"', page.text)
    assert [browser.get(link).data for link in links] == [b"second", b"content"]
    assert vault.browser("bob").get(links[1]).status_code == 403


def test_a_document_is_deleted_after_a_question(vault: Vault, document: str) -> None:
    browser = vault.browser("alice")
    asked = browser.get(f"/documents/{document}/delete")
    assert heading(asked) == "Delete this document?" and "Vertrag.pdf" in words(asked.text)
    assert browser.post(f"/documents/{document}/delete").status_code == 200, "without a yes it asks again"
    assert vault.api("alice").get(f"/documents/{document}").status_code == 200
    answer = browser.post(f"/documents/{document}/delete", {"confirm": "1"})
    assert "Deleted." in flashed(browser, answer)
    assert vault.browser("bob").get(f"/documents/{document}").status_code == 404


# Several at once


def several(vault: Vault, browser: object, action: str, documents: list[str], **more: object) -> object:
    form = {"action": action, "documents": documents, **more}
    return browser.post("/documents/selected", form, form_on="/upload")  # type: ignore[attr-defined]


def test_several_are_shared_revoked_and_deleted_each_after_a_question(vault: Vault) -> None:
    ids = [vault.upload("alice", b"x", name=f"{number}.txt").hex() for number in range(3)]
    browser = vault.browser("alice")
    asked = several(vault, browser, "share", ids)
    assert heading(asked) == "Share 3 documents" and hidden(asked, "documents") == ids
    shared = several(vault, browser, "share", ids, confirm="1", recipients="bob, charlie")
    assert "Shared." in flashed(browser, shared)
    assert len(vault.api("bob").get("/documents").json["items"]) == 3
    asked = several(vault, browser, "revoke", ids)
    assert "bob" in words(asked.text) and "charlie" in words(asked.text)  # type: ignore[attr-defined]
    flashed(browser, several(vault, browser, "revoke", ids, confirm="1", readers=["bob"]))
    assert vault.api("bob").get("/documents").json["items"] == []
    assert len(vault.api("charlie").get("/documents").json["items"]) == 3
    asked = several(vault, browser, "delete", ids)
    assert heading(asked) == "Delete 3 documents?"
    flashed(browser, several(vault, browser, "delete", ids, confirm="1"))
    assert vault.api("alice").get("/documents").json["items"] == []


def test_several_shares_are_left(vault: Vault) -> None:
    ids = [vault.upload("alice", b"x", share=("bob",)).hex() for _ in range(2)]
    bob = vault.browser("bob")
    assert heading(several(vault, bob, "leave", ids)) == "Leave the share of 2 documents?"
    flashed(bob, several(vault, bob, "leave", ids, confirm="1"))
    assert vault.api("bob").get("/documents").json["items"] == []


def test_nothing_ticked_says_so(house: Vault) -> None:
    browser = house.browser("alice")
    assert "Tick at least one" in flashed(browser, several(house, browser, "delete", []))


@pytest.mark.parametrize(
    ("action", "documents"),
    [("nothing", ["0" * 32]), ("delete", ["x"]), ("delete", ["00"]), ("share", ["0" * 33])],
)
def test_a_selection_that_is_none_is_400(vault: Vault, action: str, documents: list[str]) -> None:
    own = vault.upload("alice").hex()
    chosen = [own] if action == "nothing" else documents
    assert several(vault, vault.browser("alice"), action, chosen).status_code == 400  # type: ignore[attr-defined]


def test_more_than_a_page_at_once_is_400(house: Vault) -> None:
    ids = [f"{number:032x}" for number in range(51)]
    assert several(house, house.browser("alice"), "delete", ids).status_code == 400  # type: ignore[attr-defined]
