"""From the set-up link of a new vault to the first login of an invited person."""

from __future__ import annotations

import pytest
from playwright.sync_api import Error, expect

from tests.browser.conftest import Meet
from tests.browser.site import Site
from tests.browser.visitor import Visitor
from tests.servers.vault import VaultServer


def invitation_link(dora: Visitor, username: str) -> str:
    """Invite somebody on the page People; return the link that is shown once."""
    dora.follow("People", "People")
    dora.page.get_by_label("User name").fill(username)
    dora.button("Invite").click()
    dora.expect_heading(f"Invitation for {username}")
    return dora.page.get_by_label("Link", exact=True).input_value()


def test_a_new_vault_is_set_up_and_an_invited_person_gets_in(fresh_server: VaultServer, visit: Meet) -> None:
    dora = visit(fresh_server.url)
    dora.page.goto(f"/setup#{fresh_server.setup_code()}")
    expect(dora.page.get_by_label("Set-up code")).to_have_value(fresh_server.setup_code())
    assert dora.path() == "/setup", "the code leaves the address bar"

    dora.page.get_by_label("User name").fill("Dora Smith")
    dora.button("Create my account").click()
    dora.expect_refusal("User name", "A user name has 2 to 32 characters")
    expect(dora.page.get_by_label("User name")).to_be_focused()
    dora.page.get_by_label("User name").fill("dora")
    dora.button("Create my account").click()

    passphrase = dora.shown_passphrase()
    expect(dora.page.get_by_text("A lost passphrase means lost documents.")).to_be_visible()
    type_the_passphrase_back(dora, passphrase)
    dora.expect_heading("My documents")
    expect(dora.page.get_by_role("heading", name="Your vault is empty")).to_be_visible()
    dora.page.goto("/setup")
    dora.expect_heading("This vault is set up")

    dora.page.goto("/")
    link = invitation_link(dora, "alice")
    alice = visit(fresh_server.url)
    alice.page.goto(link)
    alice.expect_heading("Welcome, alice")
    assert alice.path() == "/invitation", "the code leaves the address bar"
    alice.button("Create my account").click()
    own = alice.shown_passphrase()
    alice.page.reload()
    expect(alice.page.get_by_text("This code is not valid")).to_be_visible()
    assert own not in alice.page.content(), (
        "a reload sends the form again, and the passphrase is not shown again"
    )
    alice.page.goto("/login")
    alice.log_in("alice", own)
    alice.expect_heading("My documents")
    alice.page.go_back()
    with pytest.raises(Error, match="ERR_CACHE_MISS"):
        alice.page.go_back()

    dora.follow("Done", "People")
    expect(dora.row("alice")).to_have_count(1)
    link = invitation_link(dora, "zoe")
    dora.follow("Done", "People")
    dora.button("Withdraw the invitation of zoe").click()
    dora.expect_notice("withdrawn")
    zoe = visit(fresh_server.url)
    zoe.page.goto(link)
    expect(zoe.page.get_by_text("This code is not valid")).to_be_visible()

    zoe.page.goto("/login")
    expect(zoe.link("Create an account")).to_have_count(0)
    zoe.page.goto("/register")
    expect(zoe.page.get_by_text("This vault is for invited people.")).to_be_visible()


def type_the_passphrase_back(visitor: Visitor, passphrase: str) -> None:
    """Make a slip at the third word, be told so while the page is still there, then do it right."""
    words = passphrase.split(" ")
    field = visitor.page.get_by_label("Passphrase", exact=True)
    field.fill(" ".join([*words[:2], "slip", *words[3:]]))
    visitor.button("Log in").click()
    expect(visitor.page.get_by_role("alert")).to_contain_text("compare from word 3 on")
    assert visitor.shown_passphrase() == passphrase
    field.fill(f"  {passphrase.upper()} ")
    visitor.button("Log in").click()


def test_the_passphrase_is_copied_printed_and_downloaded(site: Site, meet: Meet) -> None:
    nina = meet(permissions=["clipboard-read", "clipboard-write"])
    nina.page.goto("/register")
    nina.page.get_by_label("User name").fill("nina-keeps")
    nina.button("Create my account").click()
    passphrase = nina.shown_passphrase()

    nina.button("Copy").click()
    expect(nina.button("Copied")).to_be_visible()
    assert nina.page.evaluate("navigator.clipboard.readText()") == passphrase
    name, content = nina.download(nina.link("Download"))
    assert (name, content) == ("vault-passphrase.txt", f"{passphrase}\n".encode())
    nina.page.evaluate("window.print = () => { document.documentElement.dataset.printed = 'yes'; }")
    nina.button("Print").click()
    assert nina.page.locator("html").get_attribute("data-printed") == "yes"


@pytest.mark.parametrize("taken", ["alice", "Alice", " ALICE "])
def test_a_taken_name_is_refused_beside_its_field(meet: Meet, taken: str) -> None:
    somebody = meet()
    somebody.page.goto("/register")
    somebody.page.get_by_label("User name").fill(taken)
    somebody.button("Create my account").click()
    somebody.expect_refusal("User name", "This user name is taken." if taken.isalpha() else "A user name has")
    expect(somebody.page).to_have_title("Error: Create an account · Document Vault")


def test_a_wrong_code_is_refused_beside_its_field(meet: Meet) -> None:
    somebody = meet()
    somebody.page.goto("/invitation")
    somebody.button("Continue").click()
    somebody.expect_refusal("Invitation code", "Type the code of your invitation.")
    somebody.page.get_by_label("Invitation code").fill("ABCDE-FGHJK")
    somebody.button("Continue").click()
    somebody.expect_refusal("Invitation code", "This code is not valid")
