"""Everything by keyboard: skip link, dialogs, ticks, suggestions."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Meet
from tests.browser.site import Site


@pytest.mark.parametrize("path", ["/", "/account", "/login", "/nowhere"])
def test_the_first_key_leads_past_the_head_of_the_page(meet: Meet, path: str) -> None:
    visitor = meet(None if path == "/login" else "alice")
    visitor.page.goto(path)
    visitor.page.evaluate("document.activeElement.blur()")  # the login page begins in its first field
    visitor.page.locator("body").press("Tab")
    if path != "/login":
        expect(visitor.link("Skip to the content")).to_be_focused()
    visitor.link("Skip to the content").focus()
    expect(visitor.link("Skip to the content")).to_be_in_viewport()
    visitor.page.keyboard.press("Enter")
    expect(visitor.page.get_by_role("main")).to_be_focused()
    visitor.page.keyboard.press("Tab")
    assert visitor.page.evaluate("document.querySelector('main').contains(document.activeElement)")


@pytest.mark.parametrize(
    ("opener", "focused"),
    [("Share", "#recipients"), ("Rename", "#name"), ("Delete", "[data-close]"), ("New version", "#file")],
)
def test_a_dialog_takes_the_focus_keeps_it_and_gives_it_back(
    site: Site, meet: Meet, opener: str, focused: str
) -> None:
    document = site.upload("alice", "plan.txt")
    alice = meet("alice")
    alice.page.goto(f"/documents/{document}")
    alice.link(opener).focus()
    alice.page.keyboard.press("Enter")
    dialog = alice.dialog()
    expect(dialog).to_have_accessible_name(dialog.get_by_role("heading", level=1).inner_text())
    expect(dialog.locator(focused)).to_be_focused()
    for _ in range(10):
        alice.page.keyboard.press("Tab")
        where = (
            "document.activeElement === document.body || document.activeElement.closest('dialog') !== null"
        )
        assert alice.page.evaluate(where), "the page behind a dialog takes no focus"
    alice.page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(alice.link(opener)).to_be_focused()


def test_a_question_begins_at_the_harmless_answer(site: Site, meet: Meet) -> None:
    alice = meet("alice")
    alice.page.goto("/account")
    opener = alice.button("End all sessions")
    opener.focus()
    alice.page.keyboard.press("Enter")
    expect(alice.dialog().get_by_role("button", name="Cancel")).to_be_focused()
    alice.page.keyboard.press("Escape")
    expect(alice.dialog()).to_have_count(0)
    expect(opener).to_be_focused()


def test_suggestions_close_before_their_dialog(site: Site, meet: Meet) -> None:
    document = site.upload("alice", "plan.txt")
    alice = meet("alice")
    alice.page.goto(f"/documents/{document}")
    alice.link("Share").click()
    names = alice.dialog().get_by_role("combobox", name="User names")
    names.press_sequentially("cha")
    expect(names).to_have_attribute("aria-expanded", "true")
    names.press("ArrowDown")
    expect(alice.page.get_by_role("option", name="charlie")).to_have_attribute("aria-selected", "true")
    names.press("Escape")
    expect(names).to_have_attribute("aria-expanded", "false")
    expect(alice.dialog()).to_be_visible()
    expect(names).to_have_value("cha")
    names.press("Escape")
    expect(alice.dialog()).to_have_count(0)


def test_a_document_is_ticked_and_deleted_by_keyboard_alone(site: Site, meet: Meet) -> None:
    site.upload("alice", "old.txt")
    site.upload("alice", "kept.txt")
    alice = meet("alice")
    alice.page.goto("/")
    alice.page.get_by_label("Tick old.txt").focus()
    alice.page.keyboard.press("Space")
    expect(alice.page.get_by_text("1 ticked")).to_be_visible()
    alice.button("Delete").focus()
    alice.page.keyboard.press("Enter")
    expect(alice.dialog().get_by_role("link", name="Cancel")).to_be_focused()
    alice.page.keyboard.press("Shift+Tab")
    expect(alice.dialog().get_by_role("button", name="Delete")).to_be_focused()
    alice.page.keyboard.press("Enter")
    alice.expect_notice("Deleted.")
    assert alice.names() == ["kept.txt"]
