"""The pages ``/account/log`` and ``/documents/<id>/timeline``: words for everything, names that cannot hide."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.cast import Vault
from tests.web.forms import heading, words
from vault.services import clock
from vault.services.history import Happening
from vault.web.history import FAILED, WHY_CUT, WORDS, told

SERVICES = Path(__file__).resolve().parents[2] / "vault" / "services"
HOSTILE = "<b>plan\u202egnp.exe"


def recorded() -> set[str]:
    """Every action that a service records, read from the sources; two of them are chosen by who calls."""
    found = {"logout", "session_end", "session_end_all"}
    for file in SERVICES.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Event":
                first = node.args[0]
                if isinstance(first, ast.Constant):
                    found.add(first.value)
    return found


def test_every_action_has_its_words() -> None:
    assert len(recorded()) > 25
    assert recorded() - WORDS.keys() == set(), "say in vault/web/history.py what these are called"
    assert FAILED.keys() <= WORDS.keys()


def test_every_reason_of_a_cut_has_its_words() -> None:
    source = (SERVICES / "rights.py").read_text()
    assert set(re.findall(r'return "(\w+)"', source)) | {"expired", "aborted"} == WHY_CUT.keys()


def test_the_log_is_told_in_sentences(vault: Vault) -> None:
    document = vault.upload("alice", b"x", name="plan.txt", share=("bob",))
    vault.read("bob", document)
    vault.browser().post("/login", {"username": "bob", "passphrase": "not his passphrase"})
    vault.api("dora").patch("/accounts/bob", json={"role": "admin"})
    page = vault.browser("bob").get("/account/log")
    told = words(page.text)
    assert heading(page) == "Security log"
    for sentence in (
        "dora changed you: now an administrator, active",
        "Somebody typed a wrong passphrase for you",
        "You downloaded plan.txt",
        "alice shared plan.txt with you",
        "You logged in",
        "You registered",
    ):
        assert sentence in told, sentence
    assert f'href="/documents/{document.hex()}"' in page.text
    assert told.index("changed you") < told.index("downloaded") < told.index("registered"), "newest first"
    assert 'href="/account/log"' in vault.browser("bob").get("/account").text


def test_a_long_log_has_pages(vault: Vault) -> None:
    ids = [bytes([number]) * 16 for number in range(60)]
    with vault.services() as bundle:
        bundle.downloads.record_begun(vault.alice.account, ids)
    browser = vault.browser("alice")
    first = browser.get("/account/log")
    assert first.text.count("a document") == 50
    older = re.search(r'href="(/account/log\?after=\d+)" rel="next"', first.text)
    assert older
    second = browser.get(older.group(1))
    assert second.text.count("a document") == 10 and "You registered" in words(second.text)
    assert 'rel="next"' not in second.text and "Newest" in second.text
    assert browser.get("/account/log?after=1").status_code == 200
    assert browser.get("/account/log?after=x").status_code == 400


def test_what_reads_the_same_is_one_line(vault: Vault) -> None:
    document = vault.upload("alice", b"x", name="plan.txt", share=("bob",))
    for who in ("bob", "bob", "bob", "alice", "bob"):
        vault.read(who, document)
    told = words(vault.browser("alice").get(f"/documents/{document.hex()}/timeline").text)
    assert told.count("bob downloaded it") == 2 and "bob downloaded it (3 times)" in told
    assert "You downloaded it (" not in told


def test_x3_a_name_in_the_log_cannot_hide_what_it_is(vault: Vault) -> None:
    document = vault.upload("alice", b"x", name=HOSTILE, share=("bob",))
    vault.read("bob", document)
    for page in (
        vault.browser("bob").get("/account/log"),
        vault.browser("alice").get(f"/documents/{document.hex()}/timeline"),
    ):
        assert "<b>plan" not in page.text and "\u202e" not in page.text
        assert "U+202E" in page.text


def test_the_timeline_tells_who_could_read_and_what_happened(vault: Vault) -> None:
    document = vault.upload("alice", b"x", name="plan.txt", share=("bob", "charlie"))
    vault.read("bob", document)
    vault.api("alice").delete(f"/documents/{document.hex()}/shares/charlie")
    browser = vault.browser("alice")
    page = browser.get(f"/documents/{document.hex()}/timeline")
    told = words(page.text)
    assert heading(page) == "Timeline"
    assert "1 time last" in told and "you ended it" in told and "still, no end" in told
    assert "You ended the sharing of it with charlie" in told
    assert "bob downloaded it" in told
    assert f'href="/documents/{document.hex()}/timeline"' in browser.get(f"/documents/{document.hex()}").text
    assert "/timeline" not in vault.browser("bob").get(f"/documents/{document.hex()}").text


@pytest.mark.parametrize("action", sorted(WORDS.keys() | FAILED.keys()))
@pytest.mark.parametrize("succeeded", [True, False])
def test_a_sentence_about_oneself_says_you_as_its_place_asks(
    house: Vault, action: str, succeeded: bool
) -> None:
    event = Happening(1, clock.now(), action, succeeded, by_self=True, about_self=True)
    with house.app.test_request_context():
        sentence = str(told(event))
    assert " You" not in sentence and not sentence.startswith("you")
    assert not re.search(r"(?i)\b(of you|you has|you is|you were)\b", sentence), sentence
