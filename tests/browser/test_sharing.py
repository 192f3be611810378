"""Share, end a share, leave one, several documents at once, and two people at the same time."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Meet
from tests.browser.site import Site
from tests.browser.visitor import Visitor


def send_dialog(visitor: Visitor, button: str) -> None:
    visitor.dialog().get_by_role("button", name=button, exact=True).click()


def tick(visitor: Visitor, *names: str) -> None:
    for name in names:
        visitor.page.get_by_label(f"Tick {name}").check()


def test_a_document_is_shared_with_suggested_people_until_a_time(site: Site, meet: Meet) -> None:
    document = site.upload("alice", "plan.txt")
    alice = meet("alice", timezone_id="Asia/Kolkata")
    alice.page.goto(f"/documents/{document}")
    alice.link("Share").click()
    names = alice.dialog().get_by_role("combobox", name="User names")
    expect(names).to_be_focused()
    names.press_sequentially("bo")
    expect(alice.page.get_by_role("option")).to_have_text(["bob"])
    names.press("ArrowDown")
    names.press("Enter")
    expect(names).to_have_value("bob, ")
    names.press_sequentially("Char")
    alice.page.get_by_role("option", name="charlie").click()
    expect(names).to_have_value("bob, charlie, ")
    expect(alice.dialog()).to_contain_text("Your local time.")
    alice.dialog().get_by_label("Until").fill("2040-03-01T05:00")
    send_dialog(alice, "Share")
    alice.expect_notice("Shared.")
    readers = alice.page.get_by_role("table", name="People, since when")
    expect(readers.get_by_role("row")).to_have_count(4)
    expect(readers.get_by_role("row").filter(has_text="bob")).to_contain_text("1 Mar 2040")
    assert site.readers("alice", document) == dict.fromkeys(["bob", "charlie"], "2040-02-29T23:30:00Z")

    bob = meet("bob")
    bob.page.goto("/shared")
    expect(bob.row("plan.txt")).to_contain_text("until 1 Mar 2040")
    expect(bob.row("plan.txt")).to_contain_text("alice")


def test_what_is_wrong_with_a_share_is_said_beside_its_field(site: Site, meet: Meet) -> None:
    document = site.upload("alice", "plan.txt")
    alice = meet("alice")
    alice.page.goto(f"/documents/{document}")
    alice.link("Share").click()
    names = alice.dialog().get_by_role("combobox", name="User names")
    for wrong, text in (
        ("", "Type at least one"),
        ("bob nobody-here", "nobody-here"),
        ("alice", "You own this document"),
    ):
        names.fill(wrong)
        send_dialog(alice, "Share")
        expect(names).to_have_attribute("aria-invalid", "true")
        expect(names).to_have_value(wrong)
        expect(alice.dialog().locator("[data-error-for=recipients]")).to_contain_text(text)
    names.fill("bob")
    alice.dialog().get_by_label("Until").fill("2020-01-01T00:00")
    send_dialog(alice, "Share")
    expect(alice.dialog().get_by_label("Until")).to_have_attribute("aria-invalid", "true")
    assert site.readers("alice", document) == {}


def test_a_reader_whose_share_has_ended_finds_nothing(site: Site, meet: Meet) -> None:
    document = site.upload("alice", "plan.txt", b"secret plan", share=("bob", "charlie"))
    alice, bob, charlie = meet("alice"), meet("bob"), meet("charlie")
    for reader in (bob, charlie):
        reader.page.goto("/shared")
        reader.follow("plan.txt", "plan.txt")
        assert reader.download(reader.link("Download")) == ("plan.txt", b"secret plan")

    alice.page.goto(f"/documents/{document}")
    alice.link("End sharing with bob").click()
    expect(alice.dialog().get_by_label("bob")).to_be_checked()
    expect(alice.dialog().get_by_label("charlie")).not_to_be_checked()
    send_dialog(alice, "End sharing")
    alice.expect_notice("The share has ended.")
    expect(alice.link("End sharing with bob")).to_have_count(0)

    bob.link("Download").click()
    bob.expect_heading("There is nothing here for you")
    answer = bob.page.goto(f"/documents/{document}")
    assert answer is not None and answer.status == 404
    bob.expect_heading("There is nothing here for you")
    bob.follow("Shared with me", "Shared with me")
    expect(bob.page.get_by_role("heading", name="Nothing is shared with you yet")).to_be_visible()
    assert charlie.download(charlie.link("Download")) == ("plan.txt", b"secret plan")


def test_a_reader_leaves_a_share(site: Site, meet: Meet) -> None:
    document = site.upload("alice", "newsletter.txt", share=("bob", "charlie"))
    bob = meet("bob")
    bob.page.goto(f"/documents/{document}")
    bob.link("Leave the share").click()
    expect(bob.dialog()).to_contain_text("Only the owner can share it with you again.")
    send_dialog(bob, "Leave the share")
    bob.expect_notice("You have left the share.")
    expect(bob.page.get_by_role("heading", name="Nothing is shared with you yet")).to_be_visible()
    assert list(site.readers("alice", document)) == ["charlie"]


def test_several_documents_are_shared_revoked_left_and_deleted_at_once(site: Site, meet: Meet) -> None:
    ids = {name: site.upload("alice", name) for name in ("a.txt", "b.txt", "c.txt", "d.txt")}
    alice, bob = meet("alice"), meet("bob")
    alice.page.goto("/")
    expect(alice.button("Share")).to_be_hidden()
    tick(alice, "a.txt", "b.txt", "c.txt")
    expect(alice.page.get_by_text("3 ticked")).to_be_visible()
    alice.button("Share").click()
    expect(alice.dialog().get_by_role("heading", name="Share 3 documents")).to_be_visible()
    alice.dialog().get_by_role("combobox", name="User names").fill("bob charlie")
    send_dialog(alice, "Share")
    alice.expect_notice("Shared.")
    assert site.names("bob", "shared") == ["a.txt", "b.txt", "c.txt"]
    expect(alice.row("a.txt").get_by_role("cell").last).to_contain_text("2")

    bob.page.goto("/shared")
    tick(bob, "a.txt", "b.txt")
    bob.button("Leave the share").click()
    send_dialog(bob, "Leave the share")
    bob.expect_notice("You have left the share.")
    assert site.names("bob", "shared") == ["c.txt"]

    tick(alice, "b.txt", "c.txt")
    alice.button("End sharing").click()
    readers = alice.dialog().get_by_role("group", name="Who can no longer open them?")
    expect(readers.get_by_role("checkbox")).to_have_count(2)
    alice.dialog().get_by_label("bob").check()
    send_dialog(alice, "End sharing")
    alice.expect_notice("The share has ended.")
    assert site.names("bob", "shared") == []
    assert site.names("charlie", "shared") == ["a.txt", "b.txt", "c.txt"]

    alice.page.get_by_label("Tick all on this page").check()
    expect(alice.page.get_by_text("4 ticked")).to_be_visible()
    alice.page.get_by_label("Tick d.txt").uncheck()
    alice.button("Delete").click()
    expect(alice.dialog().get_by_role("heading", name="Delete 3 documents?")).to_be_visible()
    send_dialog(alice, "Delete")
    alice.expect_notice("Deleted.")
    assert alice.names() == ["d.txt"] and site.documents("charlie", "shared") == []
    assert site.documents("alice")[0]["id"] == ids["d.txt"]


@pytest.mark.parametrize("action", ["share", "revoke", "delete", "leave"])
def test_an_act_on_nothing_asks_for_a_tick(meet: Meet, site: Site, action: str) -> None:
    site.upload("alice", "a.txt")
    site.upload("bob", "b.txt", share=("alice",))
    alice = meet("alice", scripts=False)
    back = "/shared" if action == "leave" else "/"
    alice.page.goto(back)
    alice.page.locator(f"button[name=action][value={action}]").click()
    alice.expect_notice("Tick at least one document first.")
    assert alice.path() == back


def test_two_people_work_at_the_same_time(site: Site, meet: Meet) -> None:
    """Each sees what the other does at the next page, and neither the other's documents."""
    alice, bob = meet("alice"), meet("bob")
    alice.page.goto("/")
    bob.page.goto("/")
    hers, his = site.upload("alice", "hers.txt"), site.upload("bob", "his.txt")
    for visitor, own in ((alice, "hers.txt"), (bob, "his.txt")):
        visitor.page.reload()
        assert visitor.names() == [own]
    for visitor, other in ((alice, his), (bob, hers)):
        answer = visitor.page.goto(f"/documents/{other}")
        assert answer is not None and answer.status == 404

    alice.page.goto(f"/documents/{hers}")
    bob.page.goto(f"/documents/{his}")
    for visitor in (alice, bob):
        visitor.link("Share").click()
        expect(visitor.dialog()).to_be_visible()
    for visitor, other in ((alice, "bob"), (bob, "alice")):
        visitor.dialog().get_by_role("combobox", name="User names").fill(other)
        send_dialog(visitor, "Share")
        visitor.expect_notice("Shared.")
    for visitor, name, owner in ((alice, "his.txt", "bob"), (bob, "hers.txt", "alice")):
        visitor.follow("Shared with me", "Shared with me")
        assert visitor.names() == [name]
        expect(visitor.row(name)).to_contain_text(owner)
