"""Uploads by tus in the browser: paused, cut, killed, reloaded, locked, in folders, in two streams, by keyboard."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import FilePayload, Locator, Page, Request, expect

from tests.browser.accessibility import violations
from tests.browser.conftest import Meet
from tests.browser.site import Site
from tests.browser.visitor import Visitor
from tests.cast import Vault
from tests.servers.line import Line
from tests.servers.vault import start_vault

SETTINGS = {"workers": 2, "max_document_bytes": 40_000_000, "part_size": 2**18}
LOST = "console: Failed to load resource: net::ERR_"
LARGE = 12_000_000
MIDDLE = 5_000_000


@pytest.fixture(scope="module")
def harbour(cast_folder: tuple[Path, Vault], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A vault of this file's own: it is killed and started again, and its parts are small."""
    folder, made = cast_folder
    instance = tmp_path_factory.mktemp("harbour") / "instance"
    shutil.copytree(folder, instance)
    server = start_vault(instance, **SETTINGS)
    site = Site(server, {member.name: member.passphrase for member in made.members.values()})
    yield site
    site.close()
    site.server.stop()


@pytest.fixture
def site(harbour: Site) -> Site:
    harbour.tidy()
    return harbour


@pytest.fixture
def line(site: Site) -> Iterator[Line]:
    with Line(site.server.port) as line:
        yield line


class Sender:
    """Somebody at the open upload dialog, who reaches the vault by a line that a test holds and cuts."""

    def __init__(self, visitor: Visitor, line: Line) -> None:
        self.visitor = visitor
        self.page = visitor.page
        self.line = line
        self.requests: list[Request] = []
        self.page.on("request", lambda request: self.requests.append(request))
        self.open()

    def open(self) -> None:
        self.page.goto("/")
        self.visitor.link("Upload").or_(self.visitor.link("Upload the first document")).first.click()
        expect(self.visitor.dialog().get_by_role("heading", name="Upload")).to_be_visible()

    def choose(self, *files: FilePayload | Path) -> None:
        self.visitor.dialog().get_by_label("Documents").set_input_files(files)  # type: ignore[arg-type]

    def send(self, *files: FilePayload | Path) -> None:
        self.choose(*files)
        self.button("Upload").click()

    def button(self, name: str) -> Locator:
        return self.visitor.dialog().get_by_role("button", name=name, exact=True)

    def row(self, name: str) -> Locator:
        return self.visitor.dialog().get_by_role("listitem").filter(has_text=name)

    def send_half(self, *files: FilePayload | Path) -> None:
        """Send files, and wait until the line lets no more pass: in the middle of the first one."""
        self.line.hold(MIDDLE)
        self.send(*files)
        self.line.wait_until_held()
        name = files[0].name if isinstance(files[0], Path) else files[0]["name"]
        expect(self.row(name)).to_contain_text(re.compile(r"\d\d % of"))

    def expect_stored(self, name: str) -> None:
        expect(self.row(name)).to_contain_text("stored and locked")

    def offsets(self) -> list[int]:
        """Where each piece that was sent began."""
        return [int(asked.headers["upload-offset"]) for asked in self.requests if asked.method == "PATCH"]

    def remembered(self) -> dict[str, Any]:
        kept: dict[str, str] = self.page.evaluate("({...localStorage})")
        return {key: json.loads(value) for key, value in kept.items() if key.startswith("vault-upload:")}

    def take_lost(self) -> None:
        """Connections were lost, as the test wanted: nothing else may have gone wrong."""
        assert [text for text in self.visitor.take_wrong() if not text.startswith(LOST)] == []


@pytest.fixture
def sender(site: Site, line: Line, visit: Meet) -> Sender:
    return Sender(visit(line.url, token=site.token("alice")), line)


def file(name: str, content: bytes = b"hello") -> FilePayload:
    return {"name": name, "mimeType": "application/octet-stream", "buffer": content}


def content_of(site: Site, name: str, who: str = "alice") -> bytes:
    (document,) = (document for document in site.documents(who) if document["name"] == name)
    return site.content(who, document["id"])


def on_disk(folder: Path, name: str, size: int = LARGE) -> tuple[Path, str]:
    path = folder / name
    path.write_bytes(os.urandom(size))
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def assert_stored(site: Site, name: str, digest: str, who: str = "alice") -> None:
    assert hashlib.sha256(content_of(site, name, who)).hexdigest() == digest


def test_an_upload_shows_how_far_it_is_is_paused_and_goes_on(
    site: Site, sender: Sender, tmp_path: Path
) -> None:
    path, digest = on_disk(tmp_path, "long film.mkv")
    sender.send_half(path)
    row = sender.row("long film.mkv")
    expect(row).to_contain_text(re.compile(r"\d+ % of 12 MB, .+/s, \d+ s left"))
    assert violations(sender.page) == []
    sender.button("Pause long film.mkv").click()
    expect(row).to_contain_text(re.compile(r"paused at \d\d % of 12 MB"))
    expect(sender.button("Go on with long film.mkv")).to_be_focused()
    assert site.documents("alice") == []
    sender.line.open()
    sender.page.keyboard.press("Enter")
    sender.expect_stored("long film.mkv")
    assert sender.offsets()[-1] > LARGE // 5, "only the rest is sent"
    assert_stored(site, "long film.mkv", digest)
    assert sender.remembered() == {}


def test_a_cancelled_upload_is_ended_on_the_server_too(site: Site, sender: Sender, tmp_path: Path) -> None:
    sender.send_half(on_disk(tmp_path, "wrong.bin")[0])
    (record,) = sender.remembered().values()
    with sender.page.expect_response(lambda answer: answer.request.method == "DELETE") as waiting:
        sender.button("Cancel wrong.bin").click()
    assert waiting.value.status == 204
    expect(sender.row("wrong.bin")).to_have_count(0)
    asked = site.api("alice").head(record["urls"][0], headers={"Tus-Resumable": "1.0.0"})
    assert asked.status_code == 410
    assert sender.remembered() == {}
    expect(sender.visitor.dialog().get_by_label("Documents")).to_be_focused()


def test_after_a_lost_connection_the_upload_goes_on_by_itself(
    site: Site, sender: Sender, tmp_path: Path
) -> None:
    path, digest = on_disk(tmp_path, "fragile.bin")
    sender.send_half(path)
    sender.line.cut()
    sender.line.open()
    sender.expect_stored("fragile.bin")
    assert sender.offsets()[0] == 0 and sender.offsets()[-1] > 0
    sender.take_lost()
    assert_stored(site, "fragile.bin", digest)


def test_a_server_that_is_killed_and_comes_back_gets_the_rest(
    site: Site, sender: Sender, tmp_path: Path
) -> None:
    """In two streams of one file, and with another one waiting behind it."""
    path, digest = on_disk(tmp_path, "two streams.bin", 2 * LARGE)
    other, other_digest = on_disk(tmp_path, "other.bin")
    sender.page.evaluate("document.querySelector('form[data-upload]').dataset.parallelFrom = 15000000")
    sender.send_half(path, other)
    site.server.crash()
    sender.line.cut()
    expect(sender.row("two streams.bin")).to_contain_text("connection lost")
    sender.line.open()
    site.server = start_vault(site.server.instance, site.server.port, **SETTINGS)
    sender.page.evaluate(
        "dispatchEvent(new Event('online'))"
    )  # else it may be ten seconds until the next try
    sender.expect_stored("two streams.bin")
    sender.expect_stored("other.bin")
    sender.take_lost()
    assert_stored(site, "two streams.bin", digest)
    assert_stored(site, "other.bin", other_digest)
    concat = [asked.headers.get("upload-concat", "").split(";")[0] for asked in sender.requests]
    assert concat.count("final") == 1
    begun = [a for a in sender.requests if a.method == "POST" and a.headers.get("upload-concat") == "partial"]
    assert len(begun) == 2, "the pieces from before the crash were gone on with"


def test_after_a_reload_the_same_file_goes_on_where_it_was(
    site: Site, sender: Sender, tmp_path: Path
) -> None:
    name = "Kündigung Müller.docx"
    path, digest = on_disk(tmp_path, name)
    sender.page.get_by_label("Share with").fill("bob")
    sender.send_half(path)
    sender.page.on("dialog", lambda dialog: dialog.accept())
    with sender.page.expect_event("dialog") as warning:
        sender.page.reload()
    assert warning.value.type == "beforeunload"
    kept = sender.page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")
    for secret in (name, "ndigung", "docx", "bob", "octet"):
        assert secret not in kept, "no name of a file stays in the browser"
    (place,) = sender.remembered()
    assert re.fullmatch(r"vault-upload:[0-9a-f]{64}", place)
    assert set(sender.remembered()[place]) == {"urls", "created", "size"}

    sender.requests.clear()
    sender.line.open()
    sender.open()
    sender.choose(path)
    expect(sender.row(name)).to_contain_text(re.compile(r"12 MB, \d\d % of it is there already"))
    expect(sender.page.get_by_label("Share with")).to_have_value("bob")
    sender.button("Upload").click()
    sender.expect_stored(name)
    assert min(sender.offsets()) > LARGE // 5, "only the rest is sent"
    assert_stored(site, name, digest)
    assert site.names("bob", "shared") == [name]
    assert sender.remembered() == {}


def test_what_was_begun_for_somebody_else_is_not_gone_on_with(
    site: Site, sender: Sender, tmp_path: Path
) -> None:
    path, digest = on_disk(tmp_path, "draft.txt")
    sender.page.get_by_label("Share with").fill("bob")
    sender.send_half(path)
    sender.page.keyboard.press("Escape")
    sender.visitor.button("Stop them").click()
    expect(sender.visitor.dialog()).to_have_count(0)
    sender.line.open()
    sender.open()
    sender.choose(path)
    expect(sender.page.get_by_label("Share with")).to_have_value("bob")
    sender.page.get_by_label("Share with").fill("charlie")
    sender.button("Upload").click()
    sender.expect_stored("draft.txt")
    assert_stored(site, "draft.txt", digest)
    assert sender.offsets()[-1] == 0
    (document,) = site.documents("alice")
    assert list(site.readers("alice", document["id"])) == ["charlie"]


def test_while_something_is_under_way_the_dialog_asks_before_it_closes(
    site: Site, sender: Sender, tmp_path: Path
) -> None:
    path, digest = on_disk(tmp_path, "slow.bin")
    sender.send_half(path)
    question = sender.page.get_by_role("dialog", name="Stop the uploads?")
    for _ in range(3):
        sender.page.keyboard.press("Escape")
        expect(question).to_contain_text("only the rest is sent")
        expect(question.get_by_role("button", name="Keep uploading")).to_be_focused()
        sender.page.keyboard.press("Escape")
        expect(question).to_have_count(0)
    sender.visitor.dialog().get_by_role("link", name="Cancel").click()
    question.get_by_role("button", name="Keep uploading").click()
    sender.line.open()
    sender.expect_stored("slow.bin")
    sender.visitor.dialog().get_by_role("link", name="Done").click()
    sender.visitor.expect_heading("My documents")
    expect(sender.visitor.row("slow.bin")).to_be_visible()
    assert_stored(site, "slow.bin", digest)


def test_a_session_that_ends_meanwhile_waits_for_a_new_login_and_the_upload_goes_on(
    site: Site, line: Line, visit: Meet, tmp_path: Path
) -> None:
    owner = site.newcomer()
    site.upload(owner, "secret plan.txt")
    sender = Sender(visit(line.url, token=site.token(owner)), line)
    path, digest = on_disk(tmp_path, "long.bin")
    small, _ = on_disk(tmp_path, "small.txt", 5)
    sender.send_half(path, small)
    site.end_session(owner)
    sender.line.open()
    alert = sender.visitor.dialog().get_by_role("alert")
    expect(alert).to_contain_text("Log in again in another tab: the uploads go on by themselves.")
    expect(sender.row("long.bin")).to_contain_text("waits for your login")
    expect(sender.page.get_by_text("secret plan.txt")).to_be_hidden()
    assert violations(sender.page) == []

    log_in_beside(sender, owner, site.passphrases[owner])
    sender.expect_stored("long.bin")
    sender.expect_stored("small.txt")
    expect(alert).to_have_count(0)
    expect(sender.page.get_by_text("secret plan.txt")).to_be_visible()
    assert_stored(site, "long.bin", digest, owner)
    sender.visitor.dialog().get_by_role("link", name="Done").click()
    sender.visitor.expect_heading("My documents")


def log_in_beside(sender: Sender, username: str, passphrase: str) -> Page:
    """Log in by the link that the page of the uploads shows, in the tab that it opens."""
    with sender.visitor.context.expect_page() as waiting:
        sender.visitor.link("Log in").click()
    tab = waiting.value
    tab.get_by_label("User name").fill(username)
    tab.get_by_label("Passphrase", exact=True).fill(passphrase)
    tab.get_by_role("button", name="Log in").click()
    expect(tab.get_by_role("heading", level=1)).to_have_text("My documents")
    return tab


def test_somebody_else_who_logs_in_gets_nothing_of_it(
    site: Site, line: Line, visit: Meet, tmp_path: Path
) -> None:
    owner, other = site.newcomer("first"), site.newcomer("second")
    sender = Sender(visit(line.url, token=site.token(owner)), line)
    path, _ = on_disk(tmp_path, "mine alone.bin")
    sender.send_half(path)
    site.end_session(owner)
    sender.line.open()
    expect(sender.visitor.dialog().get_by_role("alert")).to_be_visible()
    log_in_beside(sender, other, site.passphrases[other])
    sender.visitor.expect_heading("My documents")
    expect(sender.visitor.dialog()).to_have_count(0)
    expect(sender.page.get_by_text(f"Logged in as {other}.")).to_be_attached()
    assert site.documents(other) == site.documents(owner) == []


TREE = {
    "Steuer/2026/Belege/Quittung.pdf": b"receipt",
    "Steuer/2026/readme.txt": b"top",
    "Steuer/leer/.keep": b"",
    **{f"Steuer/viele/{number:03}.txt": str(number).encode() for number in range(101)},
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with folders in it, one of them with more files than a browser tells at once."""
    for path, content in TREE.items():
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return tmp_path / "Steuer"


def drop(page: Page, *paths: Path) -> None:
    """Drop files or folders of this machine on the form, as a file manager does."""
    session = page.context.new_cdp_session(page)
    box = page.locator("[data-drop]").bounding_box()
    assert box is not None
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + 5}
        session.send("Input.dispatchDragEvent", {"type": kind, "data": data, **place})


@pytest.mark.parametrize("how", ["dropped", "chosen"])
def test_the_paths_of_a_folder_are_kept(site: Site, sender: Sender, tree: Path, how: str) -> None:
    if how == "dropped":
        (tree.parent / "beside.txt").write_bytes(b"no folder")
        drop(sender.page, tree, tree.parent / "beside.txt")
    else:
        shutil.rmtree(tree / "viele")
        sender.page.locator("[data-folder]").set_input_files(tree)
    expected = {path: content for path, content in TREE.items() if how == "dropped" or "viele" not in path}
    if how == "dropped":
        expected["beside.txt"] = b"no folder"
    expect(sender.visitor.dialog().get_by_role("listitem")).to_have_count(len(expected))
    expect(sender.row("Quittung.pdf")).to_contain_text("Steuer/2026/Belege/Quittung.pdf")
    sender.button("Upload").click()
    expect(sender.visitor.link("Done")).to_be_focused(timeout=40_000)
    found = {
        "/".join([*document["path"], document["name"]]): document["id"]
        for document in site.documents("alice")
    }
    assert sorted(found) == sorted(expected)
    some = "Steuer/2026/Belege/Quittung.pdf"
    assert site.content("alice", found[some]) == TREE[some]


def test_a_folder_without_files_and_a_folder_for_a_version_are_refused(
    site: Site, sender: Sender, tmp_path: Path
) -> None:
    (tmp_path / "empty" / "inside").mkdir(parents=True)
    drop(sender.page, tmp_path / "empty")
    expect(sender.visitor.dialog().get_by_role("alert")).to_have_text("There is no file in this folder.")
    document = site.upload("alice", "notes.txt")
    sender.page.goto(f"/documents/{document}/version")
    sender.visitor.expect_heading("Upload a new version")
    drop(sender.page, tmp_path / "empty")
    expect(sender.page.get_by_role("alert")).to_have_text("This is a folder. Choose the file in it.")


def test_all_of_them_are_paused_and_gone_on_with_at_once(site: Site, sender: Sender, tmp_path: Path) -> None:
    files = [on_disk(tmp_path, f"{letter}.bin") for letter in "abc"]
    sender.send_half(*(path for path, _ in files))
    whole = sender.visitor.dialog().locator("[data-all-words]")
    expect(whole).to_contain_text(re.compile(r"0 of 3 stored, .* of 36 MB, .*/s, \d+ s left"))
    expect(sender.row("c.bin")).to_contain_text("waits its turn")
    sender.button("Pause all").click()
    expect(sender.visitor.dialog().get_by_text("paused at")).to_have_count(3)
    sender.line.open()
    sender.button("Go on with all").click()
    for path, digest in files:
        sender.expect_stored(path.name)
        assert_stored(site, path.name, digest)


def test_a_file_that_changes_meanwhile_is_told(site: Site, sender: Sender, tmp_path: Path) -> None:
    path, _ = on_disk(tmp_path, "ledger.xlsx")
    sender.send_half(path)
    sender.button("Pause ledger.xlsx").click()
    path.write_bytes(os.urandom(LARGE + 1))
    sender.line.open()
    sender.button("Go on with ledger.xlsx").click()
    expect(sender.row("ledger.xlsx").get_by_role("alert")).to_contain_text("changed, moved or deleted")
    sender.take_lost()
    assert site.documents("alice") == []


REFUSALS = {
    413: "This is larger than the vault accepts (20,000,000 bytes).",
    507: "There is no room for this: you may store 1,000 bytes, older versions included.",
    403: "This is not yours to do.",
}


@pytest.mark.parametrize("status", REFUSALS)
def test_what_the_server_refuses_is_told_in_its_words(site: Site, sender: Sender, status: int) -> None:
    problem = {"type": "urn:docvault:Refused", "status": status, "detail": REFUSALS[status]}
    body = json.dumps(problem)
    sender.page.route(
        "**/api/v1/uploads",
        lambda route: route.fulfill(status=status, content_type="application/problem+json", body=body),
    )
    sender.send(file("one.txt"), file("two.txt"))
    for name in ("one.txt", "two.txt"):
        expect(sender.row(name).get_by_role("alert")).to_have_text(REFUSALS[status])
    sender.visitor.take_wrong()
    sender.page.unroute("**/api/v1/uploads")
    sender.button("Try again with one.txt").click()
    sender.expect_stored("one.txt")
    assert site.names("alice") == ["one.txt"]


def test_a_name_that_cannot_be_stored_is_told_beside_its_file(site: Site, sender: Sender) -> None:
    sender.send(file("x" * 251 + ".text"), file("good.txt"))
    expect(sender.row("xxx").get_by_role("alert")).to_contain_text("at most 255 bytes")
    sender.expect_stored("good.txt")


def test_without_webcrypto_nothing_is_remembered_and_everything_arrives(
    site: Site, line: Line, visit: Meet, tmp_path: Path
) -> None:
    alice = visit(line.url, token=site.token("alice"))
    alice.context.add_init_script("Object.defineProperty(crypto, 'subtle', {value: undefined})")
    sender = Sender(alice, line)
    path, digest = on_disk(tmp_path, "plain.bin")
    sender.send_half(path)
    assert sender.remembered() == {}
    sender.page.keyboard.press("Escape")
    expect(sender.page.get_by_role("dialog", name="Stop the uploads?")).to_contain_text("is given up")
    sender.page.keyboard.press("Escape")
    sender.button("Pause plain.bin").click()
    sender.line.open()
    sender.button("Go on with plain.bin").click()
    sender.expect_stored("plain.bin")
    assert sender.offsets()[-1] > 0
    assert_stored(site, "plain.bin", digest)


def test_what_is_over_is_forgotten(site: Site, sender: Sender) -> None:
    """Entries of the day before yesterday, and what is no entry at all; a logout empties the storage anyway."""
    sender.page.evaluate(
        """() => {
          const entry = (created) => JSON.stringify({ urls: ["/x"], created, size: 1 });
          localStorage.setItem("vault-upload:old", entry(Date.now() - 48 * 3600 * 1000));
          localStorage.setItem("vault-upload:damaged", "{");
          localStorage.setItem("vault-upload:young", entry(Date.now()));
        }"""
    )
    sender.open()
    assert sorted(sender.page.evaluate("Object.keys(localStorage)")) == ["vault-upload:young"]
