"""Log in, the time that is left, lock, end sessions, change the passphrase."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Meet
from tests.browser.site import Site
from tests.browser.visitor import Visitor


@pytest.fixture(scope="module")
def nina(shared_site: Site) -> str:
    """Somebody whose sessions these tests end."""
    return shared_site.newcomer()


ELSEWHERE = (
    "//evil.example",
    "/\\evil.example",
    "////evil.example",
    "https://evil.example/",
    "/%09/evil.example",
    "/%0d%0a/evil.example",
    "javascript:alert(1)",
    "\\\\evil.example",
    "%20//evil.example",
)


def logged_in(site: Site, meet: Meet, name: str) -> Visitor:
    """Somebody who has just logged in on the login page."""
    visitor = meet()
    visitor.page.goto("/login")
    visitor.log_in(name, site.passphrases[name])
    visitor.expect_heading("My documents")
    return visitor


def test_unknown_name_and_wrong_passphrase_are_told_in_the_same_words(meet: Meet) -> None:
    guest = meet()
    guest.page.goto("/login")
    guest.button("Log in").click()
    guest.expect_refusal("User name", "Type your user name.")
    guest.expect_refusal("Passphrase", "Type your passphrase.")
    for name in ("alice", "nobody-of-this-name"):
        guest.log_in(name, "not the right words at all")
        expect(guest.page.get_by_role("alert")).to_have_text("User name and passphrase do not fit together.")
        expect(guest.page.get_by_label("User name")).to_have_value(name)
        expect(guest.page.get_by_label("Passphrase", exact=True)).to_have_value("")


def test_the_passphrase_can_be_seen_while_it_is_typed(meet: Meet) -> None:
    guest = meet()
    guest.page.goto("/login")
    field = guest.page.get_by_label("Passphrase", exact=True)
    expect(field).to_have_attribute("type", "password")
    guest.button("Show the passphrase").click()
    expect(field).to_have_attribute("type", "text")
    expect(guest.button("Show the passphrase")).to_have_attribute("aria-pressed", "true")


def test_a_login_goes_on_to_the_page_that_was_asked_for(site: Site, meet: Meet) -> None:
    document = site.upload("alice", "contract.pdf")
    alice = meet()
    alice.page.goto(f"/documents/{document}")
    assert alice.path() == f"/login?next=/documents/{document}"
    alice.log_in("alice", "wrong at first")
    expect(alice.page.get_by_role("alert")).to_be_visible()
    alice.log_in("alice", site.passphrases["alice"])
    alice.expect_heading("contract.pdf")
    assert alice.path() == f"/documents/{document}"


def test_x13_a_login_goes_on_to_no_other_site(site: Site, meet: Meet) -> None:
    alice = meet("alice")
    for target in ELSEWHERE:
        alice.page.goto(f"/login?next={target}")
        alice.expect_heading("My documents")
        assert alice.path() == "/", target
    guest = meet()
    guest.page.goto(f"/login?next={ELSEWHERE[0]}")
    guest.log_in("alice", site.passphrases["alice"])
    guest.expect_heading("My documents")
    assert guest.path() == "/"


def test_the_time_that_is_left_is_shown_and_runs_out(site: Site, meet: Meet, nina: str) -> None:
    visitor = meet(nina)
    visitor.page.clock.install()
    visitor.page.goto("/shared")
    left = visitor.page.locator("#time-left")
    expect(left).to_contain_text("30 min left")
    # The clock is the page's alone, so that what the server would say of the time must be said for it.
    answer = {"user": visitor.page.locator("body").get_attribute("data-user")}
    visitor.page.route("**/session?quiet", lambda route: route.fulfill(json=answer))
    answer["seconds_left"] = 600
    visitor.page.clock.fast_forward("20:00")
    expect(left).to_contain_text("10 min left")
    answer["seconds_left"] = 90
    visitor.page.clock.fast_forward("08:30")
    expect(left).to_contain_text(re.compile(r"\d\d s left"))
    warning = visitor.page.get_by_role("alert")
    expect(warning).to_contain_text("locks itself in two minutes")
    visitor.button("Stay logged in").click()
    expect(left).to_contain_text("30 min left")
    expect(warning).to_have_count(0)

    visitor.page.unroute("**/session?quiet")
    site.end_session(nina)
    visitor.page.clock.fast_forward("30:01")
    visitor.expect_heading("Log in")
    assert visitor.path() == "/login?next=%2Fshared"


def test_lock_now_ends_the_session_in_every_tab(site: Site, meet: Meet, nina: str) -> None:
    visitor = logged_in(site, meet, nina)
    other_tab = visitor.context.new_page()
    other_tab.goto("/account")
    expect(other_tab.get_by_role("heading", level=1)).to_contain_text(nina)

    visitor.lock()
    expect(other_tab.get_by_role("heading", level=1)).to_have_text("Log in")
    assert other_tab.url == f"{visitor.url}/login?next=%2Faccount"
    assert not [cookie for cookie in visitor.context.cookies() if cookie["name"] == "docvault"]
    visitor.page.go_back()
    visitor.expect_heading("Log in")


def test_sessions_are_ended_one_by_one_and_all_at_once(site: Site, meet: Meet, nina: str) -> None:
    site.api(nina).delete("/me/sessions").raise_for_status()
    here, there = logged_in(site, meet, nina), logged_in(site, meet, nina)
    here.follow("Account", nina)
    rows = here.page.get_by_role("table", name="Where you are logged in").get_by_role("row")
    expect(rows.filter(has_text="Chrome on Linux")).to_have_count(2)
    expect(rows.filter(has_text="this one")).to_have_count(1)
    here.button("End the session of Chrome on Linux").click()
    here.expect_notice("Signed out there.")
    expect(rows).to_have_count(2)
    there.link("Shared with me").click()
    there.expect_heading("Log in")
    assert there.path() == "/login?next=/shared"

    there.log_in(nina, site.passphrases[nina])
    there.expect_heading("Shared with me")
    here.button("End all sessions").click()
    expect(here.dialog()).to_contain_text("End every session, this one too?")
    here.dialog().get_by_role("button", name="Cancel").click()
    expect(here.dialog()).to_have_count(0)
    here.button("End all sessions").click()
    here.dialog().get_by_role("button", name="End all").click()
    here.expect_heading("Log in")
    there.page.reload()
    there.expect_heading("Log in")


def test_a_dialog_of_an_ended_session_leads_to_the_login_and_back(site: Site, meet: Meet) -> None:
    owner = site.newcomer()
    document = site.upload(owner, "plan.txt")
    visitor = meet(owner)
    visitor.page.goto(f"/documents/{document}")
    visitor.link("Rename").click()
    visitor.dialog().get_by_role("textbox", name="Name").fill("other.txt")
    site.end_session(owner)
    visitor.dialog().get_by_role("button", name="Rename").click()
    visitor.expect_heading("Log in")
    visitor.log_in(owner, site.passphrases[owner])
    visitor.expect_heading("plan.txt")


def test_the_passphrase_is_changed_for_one_that_is_made_and_for_one_of_ones_own(
    site: Site, meet: Meet
) -> None:
    person = site.newcomer()
    here, there = logged_in(site, meet, person), logged_in(site, meet, person)
    here.follow("Account", person)
    change_passphrase(here, "not the present one")
    here.expect_refusal("Current passphrase", "This is not your current passphrase.")
    change_passphrase(here, site.passphrases[person])
    made = here.shown_passphrase()
    here.page.get_by_label("Passphrase", exact=True).fill(made)
    here.button("Log in").click()
    here.expect_heading(person)
    there.page.reload()
    there.expect_heading("Log in")
    there.log_in(person, site.passphrases[person])
    expect(there.page.get_by_role("alert")).to_contain_text("do not fit together")

    own = "ein Lied von Möwen, Salz & 47 Fässern"
    expect(here.page.get_by_label("Your own passphrase")).to_be_hidden()
    here.page.get_by_label("I bring my own").check()
    change_passphrase(here, made, own, f"{own}?")
    here.expect_refusal("The same again", "The two are not the same.")
    change_passphrase(here, made, "alice")
    here.expect_refusal("Your own passphrase", "15")
    change_passphrase(here, made, own)
    here.expect_notice("Your passphrase is changed.")
    there.log_in(person, own)
    there.expect_heading("My documents")


def change_passphrase(visitor: Visitor, current: str, new: str = "", again: str | None = None) -> None:
    """Fill and send the form that changes the passphrase; without a new one it is made."""
    visitor.page.get_by_label("Current passphrase").fill(current)
    if new:
        expect(visitor.page.get_by_label("I bring my own")).to_be_checked()
        visitor.page.get_by_label("Your own passphrase").fill(new)
        visitor.page.get_by_label("The same again").fill(new if again is None else again)
    visitor.button("Change the passphrase").click()


def test_the_key_words_are_on_the_account_page(site: Site, meet: Meet) -> None:
    alice = meet("alice")
    alice.page.goto("/account")
    words = site.api("alice").get("/me").json()["fingerprint"]
    assert len(words.split()) == 6
    expect(alice.page.get_by_role("region", name="Key words")).to_contain_text(words)
