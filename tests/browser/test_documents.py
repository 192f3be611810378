"""Upload, lists, the page of a document, download, rename, new versions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import FilePayload, expect

from tests.browser.conftest import Meet
from tests.browser.site import LARGEST, Site
from tests.browser.visitor import Visitor

UNICODE_NAME = "Żółć 契約書 עברית Brief an Björn 🗝.txt"


def file(name: str, content: bytes = b"hello") -> FilePayload:
    return {"name": name, "mimeType": "application/octet-stream", "buffer": content}


def open_upload(visitor: Visitor) -> None:
    visitor.page.goto("/")
    visitor.link("Upload").or_(visitor.link("Upload the first document")).first.click()
    expect(visitor.dialog().get_by_role("heading", name="Upload")).to_be_visible()


def send_files(visitor: Visitor, *files: FilePayload) -> None:
    visitor.dialog().get_by_label("Documents").set_input_files(files)
    visitor.dialog().get_by_role("button", name="Upload").click()


def transfer(visitor: Visitor, name: str):
    return visitor.dialog().get_by_role("listitem").filter(has_text=name)


def drop_files(visitor: Visitor, selector: str, *names: str) -> None:
    """Drop files from outside of the browser on a part of the page."""
    data = visitor.page.evaluate_handle(
        """(names) => {
          const data = new DataTransfer();
          for (const name of names) data.items.add(new File([`content of ${name}`], name));
          return data;
        }""",
        list(names),
    )
    visitor.page.dispatch_event(selector, "dragover", {"dataTransfer": data})
    visitor.page.dispatch_event(selector, "drop", {"dataTransfer": data})


def test_the_first_document_is_uploaded_in_a_dialog_and_downloaded(site: Site, meet: Meet) -> None:
    alice = meet("alice")
    alice.page.goto("/")
    expect(alice.page.get_by_role("heading", name="Your vault is empty")).to_be_visible()
    alice.link("Upload the first document").click()
    content = bytes(range(256)) * 5000
    send_files(alice, file("holiday.bin", content))
    expect(transfer(alice, "holiday.bin")).to_contain_text("stored and locked")
    expect(alice.dialog().get_by_role("link", name="Done")).to_be_focused()
    alice.page.keyboard.press("Enter")
    expect(alice.row("holiday.bin")).to_contain_text("1.3 MB")
    expect(alice.row("holiday.bin")).to_contain_text("only me")

    alice.follow("holiday.bin", "holiday.bin")
    assert alice.download(alice.link("Download")) == ("holiday.bin", content)


def test_many_files_are_uploaded_at_once_whatever_their_names_and_sizes(site: Site, meet: Meet) -> None:
    alice = meet("alice")
    open_upload(alice)
    alice.page.get_by_label("Share with").fill("bob, charlie")
    files = {UNICODE_NAME: b"hello", "empty.txt": b"", "a b%20c;d.txt": b"1", "x" * 251 + ".txt": b"2"}
    send_files(alice, *(file(name, content) for name, content in files.items()))
    for name in files:
        expect(transfer(alice, name)).to_contain_text("stored and locked")
    alice.dialog().get_by_role("link", name="Done").click()
    expect(alice.page.get_by_role("row")).to_have_count(5)
    assert sorted(alice.names()) == sorted(files)
    for document in site.documents("bob", "shared"):
        assert site.content("bob", document["id"]) == files[document["name"]]

    alice.page.get_by_text(UNICODE_NAME).click()
    alice.expect_heading(UNICODE_NAME)
    assert alice.download(alice.link("Download")) == (UNICODE_NAME, b"hello")
    alice.page.goto("/")
    alice.follow("empty.txt", "empty.txt")
    assert alice.download(alice.link("Download")) == ("empty.txt", b"")


def test_files_that_are_dropped_on_the_list_or_on_the_dialog_are_uploaded(site: Site, meet: Meet) -> None:
    alice = meet("alice")
    alice.page.goto("/")
    drop_files(alice, "main", "dropped one.txt", "dropped two.txt")
    expect(alice.dialog().get_by_role("listitem")).to_have_count(2)
    drop_files(alice, "[data-drop]", "dropped three.txt")
    expect(alice.dialog().get_by_role("listitem")).to_have_count(3)
    alice.button("Remove dropped two.txt").click()
    alice.dialog().get_by_role("button", name="Upload").click()
    expect(alice.dialog().get_by_text("stored and locked")).to_have_count(2)
    alice.dialog().get_by_role("link", name="Done").click()
    expect(alice.row("dropped one.txt")).to_be_visible()
    assert site.names("alice") == ["dropped one.txt", "dropped three.txt"]
    assert site.content("alice", site.documents("alice")[0]["id"]) == b"content of dropped one.txt"


def test_a_name_that_nobody_has_stops_the_upload_beside_its_field(site: Site, meet: Meet) -> None:
    alice = meet("alice")
    open_upload(alice)
    alice.page.get_by_label("Share with").fill("bob nobody-here")
    send_files(alice, file("one.txt"), file("two.txt"))
    expect(alice.dialog().get_by_role("alert")).to_contain_text("nobody-here")
    expect(alice.page.get_by_label("Share with")).to_be_focused()
    expect(alice.page.get_by_label("Share with")).to_have_attribute("aria-invalid", "true")
    assert site.documents("alice") == []
    alice.page.get_by_label("Share with").fill("bob")
    alice.dialog().get_by_role("button", name="Upload").click()
    expect(alice.dialog().get_by_text("stored and locked")).to_have_count(2)
    assert site.names("bob", "shared") == ["one.txt", "two.txt"]


def test_without_a_file_nothing_is_sent(meet: Meet) -> None:
    alice = meet("alice")
    open_upload(alice)
    alice.dialog().get_by_role("button", name="Upload").click()
    expect(alice.dialog().get_by_role("alert")).to_have_text("Choose a file first.")
    expect(alice.dialog().get_by_label("Documents")).to_be_focused()


def test_a_file_that_is_too_large_is_refused_before_it_is_sent(
    site: Site, meet: Meet, tmp_path: Path
) -> None:
    large = tmp_path / "large.bin"
    large.write_bytes(bytes(LARGEST + 1))
    alice = meet("alice")
    open_upload(alice)
    sent: list[str] = []
    alice.page.on("request", lambda request: sent.append(request.method))
    alice.dialog().get_by_label("Documents").set_input_files(large)
    expect(transfer(alice, "large.bin")).to_contain_text("Too large: at most 3.0 MB.")
    alice.dialog().get_by_role("button", name="Upload").click()
    expect(alice.dialog().get_by_text("Choose a file first.")).to_be_visible()
    assert set(sent) <= {"GET"}, "pictures, but no file"


def test_a_list_is_sorted_searched_and_turned_over(meet: Meet, archivist: str) -> None:
    visitor = meet(archivist)
    visitor.page.goto("/")
    assert len(visitor.names()) == 50 and visitor.names()[:2] == ["Äpfel.txt", "Zebra.pdf"]
    visitor.follow("Next page", "My documents")
    expect(visitor.link("First page")).to_be_visible()
    assert visitor.names() == ["report 00.txt"]

    visitor.link("First page").click()
    visitor.link("Name").click()
    expect(visitor.page.get_by_role("columnheader", name="Name")).to_have_attribute("aria-sort", "ascending")
    assert visitor.names()[:2] == ["Äpfel.txt", "report 00.txt"]
    visitor.link("Name").click()
    expect(visitor.page.get_by_role("columnheader", name="Name")).to_have_attribute("aria-sort", "descending")
    assert visitor.names()[:2] == ["Zebra.pdf", "report 48.txt"]
    visitor.link("Size").click()
    expect(visitor.page.get_by_role("columnheader", name="Size")).to_have_attribute("aria-sort", "descending")
    assert visitor.names()[:2] == ["Zebra.pdf", "report 00.txt"]

    search = visitor.page.get_by_role("searchbox", name="Search by name")
    search.fill("ÄPFEL")
    search.press("Enter")
    expect(visitor.page.get_by_role("row")).to_have_count(2)
    assert visitor.names() == ["Äpfel.txt"]
    search.fill("3 REPORT")
    search.press("Enter")
    expect(visitor.page.get_by_role("row")).to_have_count(15)
    expect(visitor.page.get_by_role("columnheader", name="Size")).to_have_attribute("aria-sort", "descending")
    search.fill("no such <name>")
    search.press("Enter")
    expect(visitor.page.get_by_role("heading", name="No name has “no such <name>” in it")).to_be_visible()
    visitor.follow("Search in what is shared with me", "Shared with me")
    expect(visitor.page.get_by_role("heading", name="No name has “no such <name>” in it")).to_be_visible()
    visitor.link("Show all").click()
    expect(visitor.page.get_by_role("heading", name="Nothing is shared with you yet")).to_be_visible()


def test_what_came_since_the_last_visit_is_new(site: Site, meet: Meet) -> None:
    reader = site.newcomer()
    bob = meet()
    bob.page.goto("/login")
    bob.log_in(reader, site.passphrases[reader])
    bob.expect_heading("My documents")
    site.upload("alice", "fresh.txt", share=(reader,))
    for is_new in (True, False):
        bob.lock()
        bob.log_in(reader, site.passphrases[reader])
        bob.expect_heading("My documents")
        bob.follow("Shared with me", "Shared with me")
        expect(bob.row("fresh.txt").get_by_text("new", exact=True)).to_have_count(1 if is_new else 0)


@pytest.mark.requirement(40)
def test_the_page_of_a_document_says_who_may_read_it_and_whose_key_that_is(site: Site, meet: Meet) -> None:
    document = site.upload("alice", "will.pdf", b"x" * 1234, share=("bob",))
    alice, bob = meet("alice"), meet("bob")
    alice.page.goto(f"/documents/{document}")
    readers = alice.page.get_by_role("table", name="People, since when")
    for name in ("alice", "bob"):
        words = site.api(name).get("/me").json()["fingerprint"]
        expect(readers.get_by_role("row").filter(has_text=name)).to_contain_text(words)
    expect(readers.get_by_role("row").filter(has_text="bob")).to_contain_text("no end")
    details = alice.page.get_by_role("region", name="Details")
    expect(details).to_contain_text("1,234 bytes")
    expect(alice.page.get_by_text("PDF", exact=True)).to_be_visible()
    expect(details.get_by_role("time").first).to_have_attribute(
        "datetime", re.compile(r"^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
    )

    bob.page.goto(f"/documents/{document}")
    bob.expect_heading("will.pdf")
    expect(bob.page.get_by_text("owned by alice")).to_be_visible()
    words = site.api("alice").get("/me").json()["fingerprint"]
    expect(bob.page.get_by_role("region", name="Details")).to_contain_text(words)
    for act in ("Share", "Rename", "Delete", "New version", "Versions", "End sharing"):
        expect(bob.link(act)).to_have_count(0)
    assert bob.download(bob.link("Download")) == ("will.pdf", b"x" * 1234)


def test_a_document_is_renamed_in_a_dialog(site: Site, meet: Meet) -> None:
    document = site.upload("alice", "draft.txt", share=("bob",))
    alice = meet("alice")
    alice.page.goto(f"/documents/{document}")
    alice.link("Rename").click()
    name = alice.dialog().get_by_role("textbox", name="Name")
    expect(name).to_be_focused()
    for wrong, text in (
        ("a/b.txt", "A name cannot be a path."),
        ("x" * 256, "at most 255 bytes"),
        ("", "Type"),
    ):
        name.fill(wrong)
        alice.dialog().get_by_role("button", name="Rename").click()
        expect(alice.dialog().get_by_text(text)).to_be_visible()
        expect(name).to_have_attribute("aria-invalid", "true")
    name.fill(UNICODE_NAME)
    alice.dialog().get_by_role("button", name="Rename").click()
    alice.expect_notice("The document has its new name.")
    alice.expect_heading(UNICODE_NAME)
    expect(alice.page.get_by_text("renamed once")).to_be_visible()
    assert alice.page.title() == "Document · Document Vault", "titles stay in the history of the browser"
    assert site.names("bob", "shared") == [UNICODE_NAME]


def test_of_two_renames_at_once_the_second_is_told(site: Site, meet: Meet) -> None:
    document = site.upload("alice", "draft.txt")
    alice = meet("alice")
    alice.page.goto(f"/documents/{document}")
    alice.link("Rename").click()
    alice.dialog().get_by_role("textbox", name="Name").fill("mine.txt")
    other = alice.context.new_page()
    other.goto(f"/documents/{document}/rename")
    other.get_by_role("textbox", name="Name").fill("theirs.txt")
    other.get_by_role("button", name="Rename").click()
    expect(other.get_by_role("heading", level=1)).to_have_text("theirs.txt")
    alice.dialog().get_by_role("button", name="Rename").click()
    expect(alice.dialog().get_by_role("alert")).to_contain_text("This was changed since you last looked.")
    assert site.names("alice") == ["theirs.txt"]


def test_a_new_version_replaces_the_content_and_the_owner_keeps_the_old_one(site: Site, meet: Meet) -> None:
    document = site.upload("alice", "notes.txt", b"first", share=("bob",))
    alice = meet("alice")
    alice.page.goto(f"/documents/{document}")
    alice.link("New version").click()
    alice.dialog().get_by_label("The file that replaces version 1").set_input_files(
        [file("notes 2.txt", b"2nd")]
    )
    alice.dialog().get_by_role("button", name="Upload").click()
    expect(alice.dialog().get_by_text("stored and locked")).to_be_visible()
    alice.dialog().get_by_role("link", name="Done").click()
    alice.expect_heading("notes 2.txt")
    assert site.content("bob", document) == b"2nd"

    alice.follow("Versions", "Versions")
    expect(alice.page.get_by_role("row")).to_have_count(3)
    expect(alice.row("notes 2.txt")).to_contain_text("current")
    assert alice.download(alice.link("Download version 1")) == ("notes.txt", b"first")
    assert alice.download(alice.link("Download version 2")) == ("notes 2.txt", b"2nd")


@pytest.mark.parametrize("where", ["list", "page"])
def test_a_document_is_deleted_after_a_question(site: Site, meet: Meet, where: str) -> None:
    document = site.upload("alice", "secret.txt", share=("bob",))
    alice = meet("alice")
    alice.page.goto("/" if where == "list" else f"/documents/{document}")
    if where == "list":
        alice.page.get_by_label("Tick secret.txt").check()
    delete = alice.button("Delete") if where == "list" else alice.link("Delete")
    delete.click()
    expect(alice.dialog()).to_contain_text("This cannot be undone.")
    alice.dialog().get_by_role("link", name="Cancel").click()
    expect(alice.dialog()).to_have_count(0)
    delete.click()
    alice.dialog().get_by_role("button", name="Delete").click()
    alice.expect_notice("Deleted.")
    expect(alice.page.get_by_role("heading", name="Your vault is empty")).to_be_visible()
    assert site.documents("bob", "shared") == []
