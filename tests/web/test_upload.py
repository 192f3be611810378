"""The pages ``/upload`` and ``/documents/<id>/version``."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.cast import Browser, Vault
from tests.http.forms import CONTENT_TYPE, field, file, form
from tests.web.forms import errors, flashed, heading, words
from vault.crypto.accounts import upload_names_key


def send(browser: Browser, *files: tuple[bytes, str], path: str = "/upload", **fields: str) -> Any:
    """Send the page's form; where no file is chosen a browser sends one without name and content."""
    parts = [field("csrf_token", browser.csrf(path)), *(field(*pair) for pair in fields.items())]
    parts += [file(content, name) for content, name in files or ((b"", ""),)]
    return browser.client.post(path, data=form(*parts), content_type=CONTENT_TYPE)


def test_one_or_many_files_are_uploaded_and_shared(vault: Vault) -> None:
    browser = vault.browser("alice")
    assert heading(browser.get("/upload")) == "Upload"
    answer = send(browser, (b"one", "1.txt"), (b"zwei", "Brief an Björn 😀.txt"), recipients="bob")
    assert "Stored and locked." in flashed(browser, answer)
    listed = words(vault.browser("bob").get("/shared").text)
    assert "1.txt" in listed and "Brief an Björn 😀.txt" in listed


def test_the_token_and_the_names_stand_before_the_files(house: Vault) -> None:
    """The server reads the body as it comes, so the order of the fields on the page is part of the contract."""
    text = house.browser("alice").get("/upload").text
    sent = text[text.index("data-upload") :]
    assert sent.index('name="csrf_token"') < sent.index('name="recipients"') < sent.index('type="file"')
    assert 'enctype="multipart/form-data"' in text


@pytest.mark.parametrize(
    ("files", "fields", "beside", "said"),
    [
        ([], {}, "file", "Choose a file"),
        ([(b"", ""), (b"", "")], {}, "file", "Choose a file"),
        ([(b"x", "a")], {"recipients": "nobody"}, "recipients", "no user named nobody"),
        ([(b"x", "a")], {"recipients": "alice"}, "recipients", "own this document"),
        ([(b"x", "a" * 300)], {}, "", "255 bytes"),
        ([(b"x", "..")], {}, "", "path"),
    ],
)
def test_what_is_wrong_is_said_on_the_page_and_nothing_is_stored(
    vault: Vault, files: list[tuple[bytes, str]], fields: dict[str, str], beside: str, said: str
) -> None:
    answer = send(vault.browser("alice"), *files, **fields)
    assert answer.status_code == 400
    assert said in (errors(answer, beside) if beside else words(answer.text))
    assert vault.api("alice").get("/documents").json["items"] == []


def test_the_page_gives_its_script_a_key_for_the_names_of_files(vault: Vault) -> None:
    """One a person, the same after every login, and no key that opens anything."""

    def key(name: str) -> str:
        (found,) = re.findall(r'data-names-key="([0-9a-f]{64})"', vault.browser(name).get("/upload").text)
        return str(found)

    assert bytes.fromhex(key("alice")) == upload_names_key(vault.alice.account.account_key)
    assert key("alice") == key("alice") != key("bob")
    document = vault.upload("alice").hex()
    assert key("alice") in vault.browser("alice").get(f"/documents/{document}/version").text


def test_a_file_over_the_limit_is_a_page_of_its_own(vault: Vault) -> None:
    small = vault.reopened(max_document_bytes=1000)
    answer = send(small.browser("alice"), (b"x" * 1001, "big.bin"))
    assert answer.status_code == 413
    assert ("413" in answer.text and "1,000" in words(answer.text)) or "larger" in words(answer.text)
    assert "1.0 kB" in words(small.browser("alice").get("/upload").text), "the limit is said before"
    assert small.api("alice").get("/documents").json["items"] == []
    small.close()


def test_a_new_version_is_uploaded(vault: Vault) -> None:
    document = vault.upload("alice", b"first", name="a.txt", share=("bob",)).hex()
    browser, path = vault.browser("alice"), f"/documents/{document}/version"
    assert heading(browser.get(path)) == "Upload a new version"
    answer = send(browser, (b"second", "b.txt"), path=path)
    assert "The new version is stored" in flashed(browser, answer)
    assert vault.browser("bob").get(f"/documents/{document}/content").data == b"second"
    shown = vault.api("alice").get(f"/documents/{document}").json
    assert (shown["name"], shown["number"]) == ("b.txt", 2)


def test_a_new_version_without_a_file_says_so(vault: Vault) -> None:
    document = vault.upload("alice", b"first").hex()
    answer = send(vault.browser("alice"), path=f"/documents/{document}/version")
    assert answer.status_code == 400 and "Choose a file" in errors(answer, "file")
    assert vault.api("alice").get(f"/documents/{document}").json["number"] == 1
