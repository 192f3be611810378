"""Attack X3: a name is data. It comes back as it was sent or is refused with 400, and never splits a header."""

from __future__ import annotations

import shutil
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from tests.cast import Vault
from tests.http.forms import CONTENT_TYPE, file, form
from tests.http.hostile import KEPT_NAMES, PATHS, REFUSED_NAMES


@pytest.fixture(scope="module")
def shared(
    cast_folder: tuple[Path, Vault], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Vault, str]]:
    """One vault for all names, and a document whose name changes."""
    folder, made = cast_folder
    instance = tmp_path_factory.mktemp("names") / "instance"
    shutil.copytree(folder, instance)
    vault = made.copied_to(instance)
    yield vault, vault.upload("alice", share=("bob",)).hex()
    vault.close()


def as_kept(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip()


def hold_together(answer: Any, name: str) -> None:
    """Assert that the headers of a download are whole, and tell exactly this name."""
    for header, value in answer.headers:
        assert "\r" not in value and "\n" not in value, header
    assert "X-Injected" not in answer.headers
    disposition = answer.headers["Content-Disposition"]
    assert disposition.isascii()
    assert unquote(disposition.rpartition("filename*=UTF-8''")[2]) == name
    plain = disposition.partition('filename="')[2].partition('"')[0]
    assert "/" not in plain and "\\" not in plain and disposition.count('"') == 2


@pytest.mark.parametrize("name", KEPT_NAMES)
def test_a_name_comes_back_from_a_rename_as_it_was(shared: tuple[Vault, str], name: str) -> None:
    vault, document = shared
    alice = vault.api("alice")
    if "/" in name:
        assert alice.patch(f"/documents/{document}", json={"name": name}).status_code == 400
        return
    changed = alice.patch(f"/documents/{document}", json={"name": name})
    assert changed.status_code == 200, changed.text
    assert changed.json["name"] == as_kept(name)
    assert vault.api("bob").get(f"/documents/{document}").json["name"] == as_kept(name)
    hold_together(alice.get(f"/documents/{document}/content"), as_kept(name))


@pytest.mark.parametrize("name", REFUSED_NAMES, ids=lambda name: repr(name[:20]) + str(len(name)))
def test_a_name_that_cannot_be_is_400_everywhere(shared: tuple[Vault, str], name: str) -> None:
    vault, document = shared
    alice = vault.api("alice")
    before = alice.get(f"/documents/{document}").json
    count = len(alice.get("/documents?limit=1000").json["items"])
    renamed = alice.patch(f"/documents/{document}", json={"name": name})
    assert (renamed.status_code, renamed.json["field"]) == (400, "name")
    moved = alice.patch(f"/documents/{document}", json={"path": [name]})
    assert moved.status_code == 400
    raw = alice.post("/documents", query_string={"name": name}, data=b"x")
    assert (raw.status_code, raw.json["field"]) == (400, "name")
    if "\r\n" not in name:
        sent = alice.post("/documents", data=form(file(b"x", name)), content_type=CONTENT_TYPE)
        assert sent.status_code == 400
    page = vault.browser("alice").post(
        f"/documents/{document}/rename", {"name": name, "etag": before["etag"]}
    )
    assert page.status_code == 400
    assert alice.get(f"/documents/{document}").json == before
    assert len(alice.get("/documents?limit=1000").json["items"]) == count


@pytest.mark.parametrize(("sent", "kept"), PATHS)
def test_a_path_sent_as_a_name_is_cut_to_its_last_part(
    shared: tuple[Vault, str], sent: str, kept: str
) -> None:
    vault, _ = shared
    alice = vault.api("alice")
    raw = alice.post("/documents", query_string={"name": sent}, data=b"x")
    formed = alice.post("/documents", data=form(file(b"x", sent)), content_type=CONTENT_TYPE)
    for answer in (raw, formed):
        assert answer.status_code == 201
        assert alice.get(f"/documents/{answer.json['id']}").json["name"] == kept


def test_names_sent_as_browsers_and_old_clients_quote_them(shared: tuple[Vault, str]) -> None:
    vault, _ = shared
    alice = vault.api("alice")
    quoted = {
        b"a%22b.txt": 'a"b.txt',
        b'a\\"b.txt': 'a"b.txt',
        "ä.txt".encode(): "ä.txt",
        b"100%.txt": "100%.txt",
        b"a%20b": "a%20b",
    }
    for raw, name in quoted.items():
        answer = alice.post("/documents", data=form(file(b"x", raw)), content_type=CONTENT_TYPE)
        assert answer.status_code == 201, raw
        assert alice.get(f"/documents/{answer.json['id']}").json["name"] == name
    for raw in (b"a%0D%0Ab", b"a%0Ab"):
        answer = alice.post("/documents", data=form(file(b"x", raw)), content_type=CONTENT_TYPE)
        assert answer.status_code == 400, raw


@pytest.mark.parametrize("name", ["\ud800", "a\udfffb", "\ud83d"])
def test_half_a_character_is_no_name(shared: tuple[Vault, str], name: str) -> None:
    vault, document = shared
    escaped = "".join(f"\\u{ord(c):04x}" for c in name)
    body = f'{{"name": "{escaped}"}}'
    answer = vault.api("alice").patch(f"/documents/{document}", data=body, content_type="application/json")
    assert (answer.status_code, answer.json["field"]) == (400, "name")


def test_names_are_shown_as_text_with_nothing_hidden(shared: tuple[Vault, str]) -> None:
    """Markup stands escaped, and a mark that turns the direction of text is shown, not obeyed."""
    vault, document = shared
    alice, page = vault.api("alice"), vault.browser("alice")
    for name, shown in {
        "<b>&\"'": "&lt;b&gt;&amp;&#34;&#39;",
        "\u202egnp.exe": '<span class="code-point">U+202E</span>gnp.exe',
        "a\u200bb": 'a<span class="code-point">U+200B</span>b',
    }.items():
        alice.patch(f"/documents/{document}", json={"name": name})
        for path in ("/", f"/documents/{document}", f"/documents/{document}/delete", "/?q=."):
            html = page.get(path).text
            assert name not in html, path
            if path != "/?q=.":
                assert shown in html, path


def test_a_name_can_be_searched_for_whatever_it_holds(shared: tuple[Vault, str]) -> None:
    vault, document = shared
    alice = vault.api("alice")
    for name in ("100%_done.txt", "[a-z]*", "a\\b", "'; --", "Straße ÄÖ.pdf"):
        alice.patch(f"/documents/{document}", json={"name": name})
        for query in (name, name[:3], name.upper()):
            items = alice.get("/documents", query_string={"q": query}).json["items"]
            assert document in [item["id"] for item in items], query
        for wildcard in ("%_%", "_-_", ".*"):
            found = alice.get("/documents", query_string={"q": wildcard}).json["items"]
            assert all(wildcard in item["name"] for item in found)


@pytest.mark.requirement(44)
def test_no_name_reaches_a_path_of_the_store(shared: tuple[Vault, str]) -> None:
    vault, _ = shared
    for path in vault.blobs.rglob("*"):
        relative = path.relative_to(vault.blobs).as_posix()
        assert all(c in "0123456789abcdef/." for c in relative.removeprefix(".tmp")), relative
