"""The page ``/people``, for administrators."""

from __future__ import annotations

import re

import pytest

from tests.cast import Vault
from tests.web.forms import errors, flashed, heading, words


def test_the_page_lists_accounts_and_no_document(vault: Vault) -> None:
    document = vault.upload("alice", b"x" * 2000, name="canary.pdf").hex()
    answer = vault.browser("dora").get("/people")
    text = words(answer.text)
    for name in ("alice", "bob", "charlie", "dora"):
        assert name in text
    assert "canary" not in answer.text and document not in answer.text
    assert "administrator" in text and "1 document, 2.1 kB" in text


def test_the_page_shows_how_much_of_a_quota_is_used(vault: Vault) -> None:
    vault.upload("alice", b"x" * 2000)
    limited = vault.reopened(quota_bytes=1_000_000_000)
    assert "1 document, 2.1 kB of 1.0 GB" in words(limited.browser("dora").get("/people").text)
    limited.close()


def test_only_an_administrator_is_shown_the_way_there(house: Vault) -> None:
    assert 'href="/people"' in house.browser("dora").get("/").text
    assert 'href="/people"' not in house.browser("alice").get("/").text
    assert house.browser("alice").get("/people").status_code == 403


def test_an_invitation_is_shown_once_as_link_and_code(vault: Vault) -> None:
    dora = vault.browser("dora")
    answer = dora.post("/people/invite", {"username": "Zoe"}, form_on="/people")
    assert heading(answer) == "Invitation for zoe"
    link = re.search(r'value="http://localhost/invitation#([^"]+)"', answer.text)
    assert link and answer.headers["Cache-Control"] == "no-store"
    people = dora.get("/people")
    assert "zoe" in words(people.text) and link.group(1) not in people.text
    made = vault.browser().post("/invitation", {"code": link.group(1), "agreed": "1"})
    assert heading(made) == "Your passphrase"


@pytest.mark.parametrize(("name", "said"), [("alice", "taken"), ("", "Type a user name"), ("a b", "2 to 32")])
def test_an_invitation_that_cannot_be_is_said_beside_the_field(house: Vault, name: str, said: str) -> None:
    answer = house.browser("dora").post("/people/invite", {"username": name}, form_on="/people")
    assert answer.status_code == 400
    assert said in errors(answer, "username")


def test_an_invitation_is_withdrawn(vault: Vault) -> None:
    made = vault.api("dora").post("/invitations", json={"username": "zoe"}).json
    dora = vault.browser("dora")
    answer = dora.post(f"/people/invitations/{made['id']}/withdraw", form_on="/people")
    assert "The invitation is withdrawn" in flashed(dora, answer)
    assert vault.browser().post("/invitation", {"code": made["code"]}).status_code == 400


def test_an_account_is_disabled_and_enabled(vault: Vault) -> None:
    dora = vault.browser("dora")
    assert "disabled" in flashed(dora, dora.post("/people/alice/disable", form_on="/people"))
    assert vault.browser("alice").get("/").status_code == 302
    assert "enabled again" in flashed(dora, dora.post("/people/alice/enable", form_on="/people"))
    again = vault.browser().post("/login", {"username": "alice", "passphrase": vault.alice.passphrase})
    assert again.status_code == 303


def test_an_administrator_is_made_and_unmade(vault: Vault) -> None:
    dora = vault.browser("dora")
    flashed(dora, dora.post("/people/alice/promote", form_on="/people"))
    assert vault.browser("alice").get("/people").status_code == 200
    flashed(dora, dora.post("/people/alice/demote", form_on="/people"))
    assert vault.browser("alice").get("/people").status_code == 403


def test_the_last_administrator_stays(vault: Vault) -> None:
    dora = vault.browser("dora")
    for act in ("demote", "disable"):
        answer = dora.post(f"/people/dora/{act}", form_on="/people")
        assert answer.status_code == 409
        assert "last administrator" in words(answer.text)
    assert dora.get("/people").status_code == 200


@pytest.mark.parametrize("act", ["disable", "enable", "promote", "demote"])
def test_an_unknown_name_is_404(house: Vault, act: str) -> None:
    assert house.browser("dora").post(f"/people/nobody/{act}", form_on="/people").status_code == 404
