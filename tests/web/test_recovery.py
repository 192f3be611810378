"""The recovery code on the pages: asked for with the passphrase, shown once as a kit, used without a login."""

from __future__ import annotations

import re
from typing import Any

import pytest
import segno

from tests.cast import Browser, Vault
from tests.web.forms import errors, flashed, heading, words
from vault.crypto.recovery import new_recovery_code, read_recovery_code


def make(vault: Vault, browser: Browser | None = None) -> tuple[str, Any]:
    browser = browser or vault.browser("alice")
    answer = browser.post("/account/recovery", {"current": vault.alice.passphrase})
    assert answer.status_code == 200, answer.text
    shown = re.search(r'id="whole" readonly value="([^"]+)"', answer.text)
    assert shown
    return shown.group(1), answer


def test_a_kit_is_shown_once_with_a_picture_and_without_anything_inline(vault: Vault) -> None:
    browser = vault.browser("alice")
    code, answer = make(vault, browser)
    assert heading(answer) == "Your recovery kit"
    assert read_recovery_code(code)
    assert code.replace("-", "") in words(answer.text).replace(" ", "").replace("-", "")
    assert answer.text.count("<svg ") >= 2 and 'class="qr"' in answer.text
    assert " style=" not in answer.text and "<style" not in answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    page = browser.get("/account").text
    assert code not in page and "Replace or remove it" in words(page)
    assert vault.api("alice").get("/me").json["recovery_made_at"]


def test_the_picture_holds_the_address_with_the_code_behind_its_hash(vault: Vault) -> None:
    code, answer = make(vault)
    expected = segno.make(f"http://localhost/recover#{code}", error="m", micro=False)
    (path,) = re.findall(r' d="([^"]+)"', expected.svg_inline(border=3))
    assert path in answer.text


def test_a_code_sets_a_new_passphrase_once(vault: Vault) -> None:
    document = vault.upload("alice", b"mine")
    code, _ = make(vault)
    stranger = vault.browser()
    answer = stranger.post("/recover", {"username": "Alice", "code": code.lower()})
    assert answer.status_code == 200 and heading(answer) == "Your new passphrase"
    shown = re.search(r'id="whole" readonly value="([^"]+)"', answer.text)
    assert shown
    assert vault.browser("alice").get("/").status_code == 302, "every session has ended"
    again = vault.browser().post("/recover", {"username": "alice", "code": code})
    assert again.status_code == 400 and "do not fit together" in words(again.text)
    alice = vault.browser()
    assert alice.post("/login", {"username": "alice", "passphrase": shown.group(1)}).status_code == 303
    assert alice.get(f"/documents/{document.hex()}/content").data == b"mine"
    page = alice.get("/").text
    assert "Your recovery code was used" in words(page)
    (path,) = re.findall(r'action="(/account/notices/[0-9a-f]{32}/read)"', page)
    assert "Noted." in flashed(alice, alice.post(path, form_on="/account"))
    assert "Your recovery code was used" not in words(alice.get("/").text)


def test_unknown_name_no_code_and_wrong_code_are_one_answer(vault: Vault) -> None:
    """Law 4, and the work is the same: Argon2id runs for each before the code is tried."""
    make(vault)
    texts = set()
    for name in ("alice", "bob", "nobody"):
        answer = vault.browser().post("/recover", {"username": name, "code": new_recovery_code()})
        assert answer.status_code == 400
        texts.add(re.sub(r'value="[^"]*"', "", answer.text.replace(answer.headers["X-Request-Id"], "")))
    assert len(texts) == 1


@pytest.mark.parametrize(
    ("form", "field", "said"),
    [
        ({"username": ""}, "username", "Type your user name"),
        ({"code": ""}, "code", "Type the code"),
        ({"code": "ABCDE-FGHJK"}, "code", "a slip in this code"),
    ],
)
def test_what_is_wrong_is_said_beside_its_field(
    house: Vault, form: dict[str, str], field: str, said: str
) -> None:
    answer = house.browser().post("/recover", {"username": "alice", "code": "0" * 27} | form)
    assert answer.status_code == 400 and said in errors(answer, field)


def test_a_code_is_removed(vault: Vault) -> None:
    browser = vault.browser("alice")
    code, _ = make(vault, browser)
    wrong = browser.post("/account/recovery/remove", {"current": "not it"}, form_on="/account/recovery")
    assert wrong.status_code == 400 and "not your current passphrase" in errors(wrong, "current")
    answer = browser.post(
        "/account/recovery/remove", {"current": vault.alice.passphrase}, form_on="/account/recovery"
    )
    assert "no longer works" in flashed(browser, answer)
    assert vault.browser().post("/recover", {"username": "alice", "code": code}).status_code == 400


def test_the_page_says_what_a_passphrase_change_does_not_do(house: Vault) -> None:
    page = words(house.browser("alice").get("/account").text)
    assert "No document is touched" in page
    assert "your keys stay the same, your recovery code still works, and an old backup" in page
