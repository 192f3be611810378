"""The administrator's page: accounts, invitations, and nothing of anybody's documents."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.conftest import Meet
from tests.browser.site import Site
from tests.browser.visitor import Visitor


def act(visitor: Visitor, word: str, name: str) -> Locator:
    """The button of an act on one person."""
    return visitor.button(re.compile(rf"^{word}.*\b{name}\b"))  # type: ignore[arg-type]


def do(visitor: Visitor, word: str, name: str) -> None:
    """Press the button, and say yes to its question."""
    act(visitor, word, name).click()
    visitor.dialog().get_by_role("button", name=re.compile(f"^{word}")).click()


def test_an_account_is_disabled_and_enabled_again(site: Site, meet: Meet) -> None:
    name = site.newcomer()
    site.upload(name, "kept.txt", b"x" * 2000)
    dora, nina = meet("dora"), meet(name)
    nina.page.goto("/")
    dora.page.goto("/people")
    expect(dora.row(name)).to_contain_text(re.compile(r"\b2\.\d kB"))
    act(dora, "Disable", name).click()
    expect(dora.dialog()).to_contain_text("every session ends at once. Documents stay.")
    dora.dialog().get_by_role("button", name="Cancel").click()
    expect(dora.dialog()).to_have_count(0)
    do(dora, "Disable", name)
    dora.expect_notice("The account is disabled and signed out everywhere.")
    expect(dora.row(name)).to_contain_text("disabled")

    nina.page.reload()
    nina.expect_heading("Log in")
    nina.log_in(name, site.passphrases[name])
    expect(nina.page.get_by_role("alert")).to_have_text("This account is disabled. Ask an administrator.")
    act(dora, "Enable", name).click()
    dora.expect_notice("The account is enabled again.")
    nina.log_in(name, site.passphrases[name])
    nina.expect_heading("My documents")
    assert nina.names() == ["kept.txt"]


def test_somebody_becomes_an_administrator_and_an_ordinary_user_again(site: Site, meet: Meet) -> None:
    name = site.newcomer()
    dora, nina = meet("dora"), meet(name)
    nina.page.goto("/")
    expect(nina.link("People")).to_have_count(0)
    dora.page.goto("/people")
    do(dora, "Make administrator", name)
    dora.expect_notice("One more administrator.")
    expect(dora.row(name)).to_contain_text("administrator")
    nina.page.reload()
    nina.follow("People", "People")
    do(dora, "Take", name)
    dora.expect_notice("One administrator less.")
    answer = nina.page.reload()
    assert answer is not None and answer.status == 403
    nina.expect_heading("This is not yours to do")


@pytest.mark.requirement(39)
def test_an_administrator_sees_no_document_of_anybody(site: Site, meet: Meet) -> None:
    document = site.upload("alice", "salaries-2031.xlsx", b"x" * 777_000, share=("bob",))
    dora = meet("dora")
    dora.page.goto("/people")
    expect(dora.row("alice")).to_contain_text(re.compile(r"\b77\d kB"))
    assert "salaries" not in dora.page.content()
    answer = dora.page.goto(f"/documents/{document}")
    assert answer is not None and answer.status == 404
    assert "salaries" not in dora.page.content()


def test_the_administrator_cannot_act_on_himself(meet: Meet) -> None:
    dora = meet("dora")
    dora.page.goto("/people")
    own = dora.row("dora").filter(has_text="(you)")
    expect(own).to_have_count(1)
    expect(own.get_by_role("button")).to_have_count(0)


def test_the_link_of_an_invitation_is_shown_once(site: Site, meet: Meet) -> None:
    dora = meet("dora", permissions=["clipboard-read", "clipboard-write"])
    dora.page.goto("/people")
    for wrong, text in (("", "Type a user name"), ("A B", "A user name has"), ("alice", "is taken")):
        dora.page.get_by_label("User name").fill(wrong)
        dora.button("Invite").click()
        dora.expect_refusal("User name", text)
    dora.page.get_by_label("User name").fill("peter-invited")
    dora.button("Invite").click()
    dora.expect_heading("Invitation for peter-invited")
    code = dora.page.get_by_label("Or the code alone").input_value()
    link = dora.page.get_by_label("Link", exact=True).input_value()
    assert link == f"{site.url}/invitation#{code}"
    dora.button("Copy").click()
    expect(dora.button("Copied")).to_be_visible()
    assert dora.page.evaluate("navigator.clipboard.readText()") == link

    dora.page.reload()
    assert code not in dora.page.content()
    dora.page.goto("/people")
    assert code not in dora.page.content()
    expect(dora.row("peter-invited").filter(has_text="dora")).to_have_count(1)
    dora.button("Withdraw the invitation of peter-invited").click()
    dora.expect_notice("withdrawn")
    expect(dora.row("peter-invited")).to_have_count(0)
