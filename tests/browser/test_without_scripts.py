"""The same story with JavaScript switched off: every act has a form and a page that asks."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import FilePayload, expect

from tests.browser.conftest import Meet
from tests.browser.site import LARGEST, Site
from tests.browser.visitor import Visitor
from tests.servers.vault import VaultServer


def file(name: str, content: bytes = b"hello") -> FilePayload:
    return {"name": name, "mimeType": "text/plain", "buffer": content}


def get_in(visitor: Visitor, username: str, heading: str = "My documents") -> str:
    """Type back the passphrase that is shown; return it."""
    passphrase = visitor.shown_passphrase()
    expect(visitor.button("Copy")).to_be_hidden()
    assert visitor.download(visitor.link("Download"))[1] == f"{passphrase}\n".encode()
    visitor.page.get_by_label("Passphrase", exact=True).fill(passphrase)
    visitor.button("Log in").click()
    visitor.expect_heading(heading)
    visitor.page.goto("/account")
    visitor.expect_heading(username)
    return passphrase


def test_a_new_vault_is_set_up_and_an_invited_person_gets_in(fresh_server: VaultServer, visit: Meet) -> None:
    dora, alice = visit(fresh_server.url, scripts=False), visit(fresh_server.url, scripts=False)
    dora.page.goto(f"/setup#{fresh_server.setup_code()}")
    dora.page.get_by_label("Set-up code").fill(fresh_server.setup_code().lower().replace("-", " "))
    dora.page.get_by_label("User name").fill("dora")
    dora.button("Create my account").click()
    get_in(dora, "dora")

    dora.page.goto("/people")
    dora.page.get_by_label("User name").fill("alice")
    dora.button("Invite").click()
    code = dora.page.get_by_label("Or the code alone").input_value()
    alice.page.goto("/login")
    alice.link("Use your invitation").click()
    alice.page.get_by_label("Invitation code").fill(code)
    alice.button("Continue").click()
    alice.expect_heading("Welcome, alice")
    alice.button("Create my account").click()
    passphrase = get_in(alice, "alice")
    expect(alice.page.get_by_text("min left")).to_be_visible()
    alice.lock()
    alice.page.goto("/shared")
    alice.log_in("alice", passphrase)
    alice.expect_heading("Shared with me")


def test_documents_are_uploaded_listed_renamed_replaced_and_deleted(site: Site, meet: Meet) -> None:
    alice = meet("alice", scripts=False)
    alice.page.goto("/")
    alice.link("Upload the first document").click()
    alice.button("Upload").click()
    expect(alice.page.get_by_text("Choose a file.")).to_be_visible()
    alice.page.get_by_label("Share with").fill("nobody-here")
    alice.page.get_by_label("Documents").set_input_files([file("lost.txt")])
    alice.button("Upload").click()
    alice.expect_refusal("Share with", "nobody-here")
    assert site.documents("alice") == []
    alice.page.get_by_label("Share with").fill("bob, charlie")
    alice.page.get_by_label("Documents").set_input_files(
        [file("Brief.txt"), file("leer.txt", b""), file("c.txt")]
    )
    alice.button("Upload").click()
    alice.expect_notice("Stored and locked.")
    assert sorted(alice.names()) == ["Brief.txt", "c.txt", "leer.txt"]

    alice.link("Name").click()
    alice.page.wait_for_url("**/?sort=name")
    assert alice.names() == ["Brief.txt", "c.txt", "leer.txt"]
    alice.page.get_by_label("Search by name").fill("brief")
    alice.page.get_by_label("Search by name").press("Enter")
    expect(alice.page.get_by_role("row")).to_have_count(2)
    alice.follow("Brief.txt", "Brief.txt")
    assert alice.download(alice.link("Download")) == ("Brief.txt", b"hello")

    alice.follow("Rename", "Rename")
    alice.page.get_by_role("textbox", name="Name").fill("a/b")
    alice.button("Rename").click()
    alice.expect_refusal("Name", "A name cannot be a path.")
    alice.page.get_by_role("textbox", name="Name").fill("Überschrift.txt")
    alice.button("Rename").click()
    alice.expect_heading("Überschrift.txt")
    alice.follow("New version", "Upload a new version")
    alice.page.get_by_label("The file that replaces version 1").set_input_files([file("neu.txt", b"second")])
    alice.button("Upload").click()
    alice.expect_notice("The new version is stored and locked.")
    assert alice.download(alice.link("Download")) == ("neu.txt", b"second")
    alice.follow("Versions", "Versions")
    assert alice.download(alice.link("Download version 1")) == ("Überschrift.txt", b"hello")

    alice.follow("Back to the document", "neu.txt")
    alice.follow("Delete", "Delete this document?")
    alice.link("Cancel").click()
    alice.expect_heading("neu.txt")
    alice.follow("Delete", "Delete this document?")
    alice.button("Delete").click()
    alice.expect_notice("Deleted.")
    assert site.names("bob", "shared") == ["c.txt", "leer.txt"]


def test_documents_are_shared_revoked_and_left(site: Site, meet: Meet) -> None:
    document = site.upload("alice", "plan.txt", b"secret plan")
    site.upload("alice", "other.txt")
    alice, bob = meet("alice", scripts=False), meet("bob", scripts=False)
    alice.page.goto(f"/documents/{document}")
    alice.follow("Share", "Share")
    expect(alice.page.get_by_text("In UTC.")).to_be_visible()
    alice.page.get_by_label("User names").fill("alice")
    alice.button("Share").click()
    expect(alice.page.get_by_label("User names")).to_have_attribute("aria-invalid", "true")
    alice.page.get_by_label("User names").fill("bob charlie")
    alice.page.get_by_label("Until").fill("2040-03-01T05:00")
    alice.button("Share").click()
    alice.expect_notice("Shared.")
    assert site.readers("alice", document) == dict.fromkeys(["bob", "charlie"], "2040-03-01T05:00:00Z")

    bob.page.goto("/shared")
    bob.follow("plan.txt", "plan.txt")
    expect(bob.page.get_by_role("region", name="Details")).to_contain_text("2040-03-01 05:00 UTC")
    assert bob.download(bob.link("Download")) == ("plan.txt", b"secret plan")
    alice.link("End sharing with bob").click()
    alice.expect_heading("End sharing")
    expect(alice.page.get_by_label("bob")).to_be_checked()
    alice.button("End sharing").click()
    alice.expect_notice("The share has ended.")
    bob.page.reload()
    bob.expect_heading("There is nothing here for you")

    alice.page.goto("/")
    for name in ("plan.txt", "other.txt"):
        alice.page.get_by_label(f"Tick {name}").check()
    alice.button("Share").click()
    alice.expect_heading("Share 2 documents")
    alice.page.get_by_label("User names").fill("bob")
    alice.button("Share").click()
    alice.expect_notice("Shared.")
    bob.page.goto("/shared")
    assert sorted(bob.names()) == ["other.txt", "plan.txt"]
    for name in ("plan.txt", "other.txt"):
        bob.page.get_by_label(f"Tick {name}").check()
    bob.button("Leave the share").click()
    bob.expect_heading("Leave the share of 2 documents?")
    bob.button("Leave the share").click()
    bob.expect_notice("You have left the share.")
    assert site.documents("bob", "shared") == []


def test_sessions_passphrase_and_people(site: Site, meet: Meet) -> None:
    name = site.newcomer()
    nina, dora = meet(name, scripts=False), meet("dora", scripts=False)
    nina.page.goto("/account")
    nina.page.get_by_label("Current passphrase").fill(site.passphrases[name])
    nina.button("Change the passphrase").click()
    passphrase = get_in(nina, name, heading=name)
    nina.page.get_by_role("button", name="End the session of").click()
    nina.expect_notice("Signed out there.")
    nina.button("End all sessions").click()
    nina.expect_heading("Log in")

    dora.page.goto("/people")
    dora.button(f"Disable {name}").click()
    dora.expect_notice("The account is disabled")
    nina.log_in(name, passphrase)
    expect(nina.page.get_by_role("alert")).to_contain_text("This account is disabled.")
    dora.button(f"Enable {name}").click()
    dora.expect_notice("The account is enabled again.")
    nina.log_in(name, passphrase)
    nina.expect_heading("My documents")
    answer = nina.page.goto("/people")
    assert answer is not None and answer.status == 403


def test_a_body_that_is_announced_as_too_large_ends_on_a_page(site: Site, meet: Meet, tmp_path: Path) -> None:
    large = tmp_path / "large.bin"
    large.write_bytes(bytes(LARGEST + 2_000_000))
    alice = meet("alice", scripts=False)
    alice.page.goto("/upload")
    alice.page.get_by_label("Documents").set_input_files(large)
    alice.button("Upload").click()
    alice.expect_heading("This is too large")
    assert site.documents("alice") == []
