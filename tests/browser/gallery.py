"""Every page that the vault has, in every state worth looking at, full of names that are meant to do harm.

A place is a function that brings a page of a visitor into one state. ``endpoints`` are the routes that render it: a
route without a place fails a test.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from playwright.sync_api import FilePayload, Page, Route, expect

from tests.browser.site import LARGEST, Site
from tests.servers.vault import DOCVAULT, environment_of

CANARY = "globalThis.ranInTheVault"
HOSTILE_NAMES = (
    "<img src=x onerror=globalThis.ranInTheVault=1>.pdf",
    "<script>globalThis.ranInTheVault=2<script>",
    '"><svg onload=globalThis.ranInTheVault=3>',
    "' autofocus onfocus='globalThis.ranInTheVault=4",
    "javascript:globalThis.ranInTheVault=5",
    "{{7*7}}${7*7}<%= 7*7 %>{% raw %}.html",
    "\u202efdp.exe invoice\u2066\u200b.png",
    "W" * 251 + ".txt",
    "Żółć 契約書 עברית 🗝.txt",
    "&lt;b onmouseover=globalThis.ranInTheVault=6&gt;&#x3c;.csv",
)
HOSTILE_QUERY = "%3Cimg%20src=x%20onerror=globalThis.ranInTheVault=7%3E"

PHONE = {"width": 390, "height": 844}
NARROWEST = {"width": 320, "height": 640}
DESK = {"width": 1280, "height": 900}


@dataclass(frozen=True)
class Place:
    """One state of one page: who goes there, which routes render it, which status it has."""

    name: str
    who: str
    endpoints: tuple[str, ...]
    status: int
    go: Callable[[Page, Gallery], None]


PLACES: list[Place] = []


def place(
    who: str, *endpoints: str, status: int = 200
) -> Callable[[Callable[[Page, Gallery], None]], Callable[[Page, Gallery], None]]:
    def add(go: Callable[[Page, Gallery], None]) -> Callable[[Page, Gallery], None]:
        PLACES.append(Place(go.__name__, who, endpoints, status, go))
        return go

    return add


class Gallery:
    """The people and documents that the places show: an owner, a reader with a long name, somebody with nothing."""

    def __init__(self, site: Site, archivist: str) -> None:
        self.site = site
        self.archivist = archivist
        self.owner = site.newcomer("gail")
        self.reader = site.newcomer("g" + "w" * 27)
        self.empty = site.newcomer("eve")
        self.ids = {
            name: site.upload(self.owner, name, b"x" * 1000, (self.reader,)) for name in HOSTILE_NAMES
        }
        self.shown = self.ids[HOSTILE_NAMES[0]]
        self.private = site.upload(self.owner, "private.txt")
        self.checked = False
        self.stuck, self.work = self.change_that_is_stuck()
        self.codes = {name: self.invite(name) for name in ("q" * 32, "to.be.welcomed")}

    def change_that_is_stuck(self) -> tuple[str, str]:
        """Somebody whose change of keys has met a grant that does not open; also his work."""
        name = self.site.newcomer("stuck")
        document = self.site.upload(self.site.newcomer("donor"), "damaged.txt", share=(name,))
        with sqlite3.connect(self.site.server.instance / "vault.sqlite3", timeout=10) as connection:
            connection.execute(
                "UPDATE shared_key_registry SET wrapped_dek = ? WHERE document_id = ? AND permission = 'read'",
                (bytes(256), bytes.fromhex(document)),
            )
        connection.close()
        api = self.site.api(name)
        made = api.post("/me/keys/rotate", json={"current": self.site.passphrases[name]}).raise_for_status()
        work = str(made.json()["id"])
        while not api.post(f"/me/work/{work}").raise_for_status().json()["failed"]:
            pass
        return name, work

    def check(self) -> None:
        """Lose the blob of a document, then run the deep check beside the server, once."""
        if self.checked:
            return
        self.checked = True
        instance = self.site.server.instance
        before = set(instance.glob("blobs/*/*"))
        self.site.upload(self.owner, HOSTILE_NAMES[1])
        for blob in set(instance.glob("blobs/*/*")) - before:
            blob.unlink()
        done = subprocess.run(
            [*DOCVAULT, "check", "--deep"],
            env={**os.environ, **environment_of(instance)},
            capture_output=True,
        )
        assert done.returncode == 2, done.stderr

    def invite(self, username: str) -> str:
        answer = self.site.api("dora").post("/invitations", json={"username": username})
        return str(answer.raise_for_status().json()["code"])

    def token(self, who: str) -> str | None:
        """The token of a part: "guest" has none, "admin" is Dora."""
        names = {
            "owner": self.owner,
            "reader": self.reader,
            "nobody": self.empty,
            "archivist": self.archivist,
            "stuck": self.stuck,
            "admin": "dora",
        }
        return self.site.token(names[who]) if who in names else None

    @property
    def hostile_files(self) -> list[FilePayload]:
        return [{"name": name, "mimeType": "text/html", "buffer": b"x"} for name in HOSTILE_NAMES]


def dialog_is_open(page: Page) -> None:
    expect(page.get_by_role("dialog")).to_be_visible()


def send(page: Page, button: str) -> None:
    page.get_by_role("main").get_by_role("button", name=button, exact=True).click()
    page.wait_for_load_state()


# Who is not in yet


@place("guest", "web.login")
def login(page: Page, gallery: Gallery) -> None:
    page.goto("/login?next=%22%3E%3Cimg%20src=x%20onerror=globalThis.ranInTheVault=8%3E")


@place("guest", "web.login", status=400)
def login_refused(page: Page, gallery: Gallery) -> None:
    page.goto("/login")
    page.get_by_label("User name").fill(HOSTILE_NAMES[2])
    send(page, "Log in")


@place("guest", "web.register")
def register(page: Page, gallery: Gallery) -> None:
    page.goto("/register")


@place("guest", "web.register", status=400)
def register_refused(page: Page, gallery: Gallery) -> None:
    page.goto("/register")
    page.get_by_label("User name").fill(HOSTILE_NAMES[3])
    send(page, "Create my account")


@place("guest", "web.register")
def passphrase_shown_once(page: Page, gallery: Gallery) -> None:
    page.goto("/register")
    page.get_by_label("User name").fill("shown.once")
    send(page, "Create my account")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_be_visible()


@place("guest", "web.setup")
def setup_is_over(page: Page, gallery: Gallery) -> None:
    page.goto("/setup")


@place("guest", "web.invitation")
def invitation(page: Page, gallery: Gallery) -> None:
    page.goto("/invitation")


@place("guest", "web.invitation", status=400)
def invitation_refused(page: Page, gallery: Gallery) -> None:
    with page.expect_navigation(url="**/invitation"):
        page.goto(f"/invitation#{HOSTILE_QUERY}")


@place("guest", "web.invitation")
def invitation_welcomes(page: Page, gallery: Gallery) -> None:
    page.goto("/invitation")
    page.get_by_label("Invitation code").fill(gallery.codes["to.be.welcomed"])
    send(page, "Continue")
    expect(page.get_by_role("heading", level=1)).to_have_text("Welcome, to.be.welcomed")


# Lists


@place("nobody", "web.documents")
def empty_vault(page: Page, gallery: Gallery) -> None:
    page.goto("/")


@place("nobody", "web.shared")
def nothing_shared(page: Page, gallery: Gallery) -> None:
    page.goto("/shared")


@place("owner", "web.documents")
def my_documents(page: Page, gallery: Gallery) -> None:
    page.goto("/?sort=name")


@place("archivist", "web.documents")
def my_documents_next_page(page: Page, gallery: Gallery) -> None:
    page.goto("/")
    page.get_by_role("link", name="Next page").click()
    expect(page.get_by_role("link", name="First page")).to_be_visible()


@place("owner", "web.documents")
def my_documents_ticked(page: Page, gallery: Gallery) -> None:
    page.goto("/?sort=-name")
    page.get_by_label("Tick all on this page").check()
    expect(page.get_by_role("button", name="Delete")).to_be_visible()


@place("owner", "web.documents")
def search_without_a_result(page: Page, gallery: Gallery) -> None:
    page.goto(f"/?q={HOSTILE_QUERY}")


@place("owner", "web.documents")
def search_with_a_result(page: Page, gallery: Gallery) -> None:
    page.goto("/?q=%3Cimg%20src=x%20onerror")


@place("reader", "web.shared")
def shared_with_me(page: Page, gallery: Gallery) -> None:
    page.goto("/shared")
    page.get_by_label("Tick javascript").check()


# One document


@place("owner", "web.document")
def document_of_mine(page: Page, gallery: Gallery) -> None:
    page.goto(f"/documents/{gallery.shown}")


@place("owner", "web.document")
def document_for_me_alone(page: Page, gallery: Gallery) -> None:
    page.goto(f"/documents/{gallery.private}")
    page.get_by_text("What are the key words?").click()


@place("owner", "web.document")
def document_with_a_long_name(page: Page, gallery: Gallery) -> None:
    page.goto(f"/documents/{gallery.ids[HOSTILE_NAMES[7]]}")


@place("reader", "web.document")
def document_of_another(page: Page, gallery: Gallery) -> None:
    page.goto(f"/documents/{gallery.ids[HOSTILE_NAMES[6]]}")


@place("owner", "web.share")
def share(page: Page, gallery: Gallery) -> None:
    page.goto(f"/documents/{gallery.shown}/share")


@place("owner", "web.share", status=400)
def share_refused(page: Page, gallery: Gallery) -> None:
    page.goto(f"/documents/{gallery.shown}/share")
    page.get_by_role("combobox", name="User names").fill(HOSTILE_NAMES[0])
    send(page, "Share")


@place("owner", "web.share", "web.suggest")
def share_dialog_with_suggestions(page: Page, gallery: Gallery) -> None:
    page.goto(f"/documents/{gallery.shown}")
    page.get_by_role("link", name="Share", exact=True).click()
    page.get_by_role("combobox", name="User names").press_sequentially("gww")
    expect(page.get_by_role("option").first).to_be_visible()
    page.keyboard.press("ArrowDown")


@place("owner", "web.revoke")
def end_sharing(page: Page, gallery: Gallery) -> None:
    page.goto(f"/documents/{gallery.shown}/revoke")


@place("owner", "web.revoke")
def end_sharing_with_nobody(page: Page, gallery: Gallery) -> None:
    page.goto(f"/documents/{gallery.private}/revoke")


@place("owner", "web.rename")
def rename_dialog(page: Page, gallery: Gallery) -> None:
    page.goto(f"/documents/{gallery.shown}")
    page.get_by_role("link", name="Rename").click()
    dialog_is_open(page)


@place("owner", "web.rename", status=400)
def rename_refused(page: Page, gallery: Gallery) -> None:
    page.goto(f"/documents/{gallery.shown}/rename")
    page.get_by_role("textbox", name="Name").fill("<b>/<i>")
    send(page, "Rename")


@place("owner", "web.rekey")
def new_keys(page: Page, gallery: Gallery) -> None:
    page.goto(f"/documents/{gallery.shown}/rekey")


@place("owner", "web.delete")
def delete(page: Page, gallery: Gallery) -> None:
    page.goto(f"/documents/{gallery.shown}/delete")


@place("reader", "web.leave")
def leave(page: Page, gallery: Gallery) -> None:
    page.goto(f"/documents/{gallery.shown}/leave")


@place("owner", "web.timeline")
def timeline(page: Page, gallery: Gallery) -> None:
    page.goto(f"/documents/{gallery.shown}/timeline")


@place("owner", "web.security_log")
def security_log(page: Page, gallery: Gallery) -> None:
    page.goto("/account/log")


@place("owner", "web.versions")
def versions(page: Page, gallery: Gallery) -> None:
    page.goto(f"/documents/{gallery.shown}/versions")


@place("owner", "web.version")
def new_version(page: Page, gallery: Gallery) -> None:
    page.goto(f"/documents/{gallery.shown}/version")


@place("owner", "web.send_version", status=400)
def new_version_refused(page: Page, gallery: Gallery) -> None:
    page.goto(f"/documents/{gallery.shown}/version")
    page.evaluate("document.querySelector('form[data-upload]').submit()")
    expect(page.get_by_text("Choose a file.")).to_be_visible()


# Several documents


@place("owner", "web.selected")
def share_several(page: Page, gallery: Gallery) -> None:
    several(page, "/", "Share")


@place("owner", "web.selected")
def end_sharing_of_several(page: Page, gallery: Gallery) -> None:
    several(page, "/", "End sharing")


@place("owner", "web.selected")
def delete_several(page: Page, gallery: Gallery) -> None:
    several(page, "/", "Delete")


@place("reader", "web.selected")
def leave_several(page: Page, gallery: Gallery) -> None:
    several(page, "/shared", "Leave the share")


def several(page: Page, path: str, button: str) -> None:
    page.goto(f"{path}?sort=name")
    page.get_by_label("Tick all on this page").check()
    page.get_by_role("button", name=button, exact=True).click()
    dialog_is_open(page)
    page.get_by_role("dialog").get_by_text(" documents", exact=False).last.click()


# Uploads


@place("owner", "web.upload")
def upload(page: Page, gallery: Gallery) -> None:
    page.goto("/upload")


@place("owner", "web.send_upload", status=400)
def upload_refused(page: Page, gallery: Gallery) -> None:
    page.goto("/upload")
    page.get_by_label("Share with").fill(HOSTILE_NAMES[1])
    page.evaluate(
        """() => {
          const form = document.querySelector("form[data-upload]");
          const data = new DataTransfer();
          data.items.add(new File(["x"], "x.txt"));
          form.elements.file.files = data.files;
          form.submit();
        }"""
    )
    expect(page.locator("[data-error-for=recipients]")).to_be_visible()


@place("owner", "web.upload", "web.session")
def upload_dialog_at_work(page: Page, gallery: Gallery) -> None:
    page.goto("/")
    page.get_by_role("link", name="Upload", exact=True).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Share with").fill("nobody-here")
    dialog.get_by_label("Documents").set_input_files(
        [*gallery.hostile_files, {"name": "large.bin", "mimeType": "", "buffer": bytes(LARGEST + 1)}]
    )
    dialog.get_by_role("button", name="Upload", exact=True).click()
    expect(dialog.get_by_role("alert")).to_have_count(2)


def hold_uploads(page: Page, *answers: dict[str, object] | None) -> None:
    """Answer the first pieces that are sent: ``None`` lets one through. What follows waits for ever."""
    rest = list(answers)

    def answer(route: Route) -> None:
        if route.request.method != "PATCH":
            route.continue_()
        elif rest:
            given = rest.pop(0)
            route.continue_() if given is None else route.fulfill(**given)  # type: ignore[arg-type]

    page.route("**/api/v1/uploads/*", answer)


REFUSED = {"status": 413, "json": {"detail": "This is larger than the vault accepts (3,000,000 bytes)."}}


@place("owner", "web.upload")
def uploads_in_every_state(page: Page, gallery: Gallery) -> None:
    hold_uploads(page, None, REFUSED)
    page.goto("/upload")
    files = page.get_by_label("Documents")
    files.set_input_files(gallery.hostile_files[:8])
    send(page, "Upload")
    for state in ("done", "failed"):
        expect(page.locator(f"li[data-state={state}]")).to_have_count(1)
    page.locator("li[data-state=sending]").first.get_by_role("button").first.click()
    files.set_input_files(
        [*gallery.hostile_files[8:], {"name": "large.bin", "mimeType": "", "buffer": bytes(LARGEST + 1)}]
    )
    for state in ("done", "failed", "paused", "sending", "queued", "waiting", "refused"):
        expect(page.locator(f"li[data-state={state}]").first).to_be_attached()
    expect(page.get_by_role("progressbar", name="All files")).to_be_visible()


@place("owner", "web.upload", status=423)
def uploads_that_wait_for_a_login(page: Page, gallery: Gallery) -> None:
    locked = {"status": 423, "json": {"detail": "Log in again to go on with this upload."}}
    hold_uploads(page, locked, locked)
    page.route("**/session?quiet", lambda route: route.fulfill(status=401))
    page.goto("/")
    page.get_by_role("link", name="Upload", exact=True).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Documents").set_input_files(gallery.hostile_files[:3])
    dialog.get_by_role("button", name="Upload", exact=True).click()
    expect(dialog.get_by_role("alert")).to_contain_text("Log in again in another tab")
    expect(dialog.get_by_text("waits for your login")).to_have_count(2)


@place("owner", "web.upload")
def question_before_uploads_stop(page: Page, gallery: Gallery) -> None:
    hold_uploads(page)
    page.goto("/")
    page.get_by_role("link", name="Upload", exact=True).click()
    page.get_by_role("dialog").get_by_label("Documents").set_input_files(gallery.hostile_files[:3])
    page.get_by_role("dialog").get_by_role("button", name="Upload", exact=True).click()
    expect(page.get_by_text("waits its turn")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Stop the uploads?")).to_be_visible()


# Account and people


@place("reader", "web.account")
def account(page: Page, gallery: Gallery) -> None:
    page.goto("/account")
    page.get_by_label("I bring my own").check()


@place("owner", "web.passphrase", status=400)
def passphrase_refused(page: Page, gallery: Gallery) -> None:
    page.goto("/account")
    page.get_by_label("I bring my own").check()
    send(page, "Change the passphrase")


@place("owner", "web.passphrase")
def passphrase_changed(page: Page, gallery: Gallery) -> None:
    page.goto("/account")
    page.get_by_label("Current passphrase").fill(gallery.site.passphrases[gallery.owner])
    send(page, "Change the passphrase")
    gallery.site.passphrases[gallery.owner] = page.get_by_label("In one line").input_value()


@place("owner", "web.account")
def question(page: Page, gallery: Gallery) -> None:
    page.goto("/account")
    page.get_by_role("button", name="End all sessions").click()
    dialog_is_open(page)


# Getting back in, and leaving


@place("guest", "web.recover")
def recover(page: Page, gallery: Gallery) -> None:
    page.goto("/recover#0123-45678")
    expect(page.get_by_label("Recovery code")).to_have_value("0123-45678")


@place("guest", "web.recover", status=400)
def recover_refused(page: Page, gallery: Gallery) -> None:
    page.goto("/recover")
    page.get_by_label("User name").fill(HOSTILE_NAMES[1])
    page.get_by_label("Recovery code").fill(HOSTILE_NAMES[0])
    send(page, "Set a new passphrase")


@place("owner", "web.make_recovery", status=400)
def recovery_refused(page: Page, gallery: Gallery) -> None:
    page.goto("/account/recovery")
    send(page, "Make the code")


@place("owner", "web.make_recovery")
def recovery_kit(page: Page, gallery: Gallery) -> None:
    page.goto("/account/recovery")
    page.get_by_label("Your passphrase").fill(gallery.site.passphrases[gallery.owner])
    send(page, "Make the code")
    expect(page.get_by_role("img", name="The address and the code as a QR code")).to_be_visible()


@place("owner", "web.remove_recovery", status=400)
def recovery_not_removed(page: Page, gallery: Gallery) -> None:
    page.goto("/account/recovery")
    page.get_by_label("Your passphrase").fill("not it")
    send(page, "Remove mine")


@place("owner", "web.exposed", status=400)
def exposed_refused(page: Page, gallery: Gallery) -> None:
    page.goto("/account/exposed")
    send(page, "Replace passphrase and keys")


@place("owner", "web.delete_account", status=400)
def delete_account_refused(page: Page, gallery: Gallery) -> None:
    page.goto("/account/delete")
    send(page, "Delete my account")


@place("admin", "web.delete_person")
def delete_person(page: Page, gallery: Gallery) -> None:
    page.goto(f"/people/{gallery.reader}/delete")


@place("admin", "web.reset_person")
def reset_person(page: Page, gallery: Gallery) -> None:
    page.goto(f"/people/{gallery.owner}/reset")
    expect(page.get_by_role("button", name="Make the link")).to_be_visible()


@place("admin", "web.reset_person")
def reset_begun(page: Page, gallery: Gallery) -> None:
    page.goto(f"/people/{gallery.reader}/reset")
    send(page, "Make the link")
    expect(page.get_by_label("Link", exact=True)).to_be_visible()


@place("guest", "web.reset", status=400)
def reset_refused(page: Page, gallery: Gallery) -> None:
    with page.expect_navigation(url="**/reset"):
        page.goto(f"/reset#{HOSTILE_QUERY}")


@place("guest", "web.reset")
def reset_asks(page: Page, gallery: Gallery) -> None:
    begun = gallery.site.api("dora").post(f"/accounts/{gallery.owner}/reset").raise_for_status()
    page.goto("/reset")
    page.get_by_label("Reset code").fill(begun.json()["code"])
    send(page, "Continue")
    expect(page.get_by_role("heading", level=1)).to_have_text(f"New keys for {gallery.owner}")


@place("owner", "web.account")
def account_with_a_notice(page: Page, gallery: Gallery) -> None:
    page.goto("/account")
    expect(page.get_by_text("made a code to reset your keys").first).to_be_visible()


@place("owner", "web.keys")
def keys(page: Page, gallery: Gallery) -> None:
    page.goto("/account/keys")


@place("owner", "web.rotate_keys", status=400)
def change_of_keys_refused(page: Page, gallery: Gallery) -> None:
    page.goto("/account/keys")
    page.get_by_label("Your passphrase").fill("not the passphrase")
    send(page, "Change the keys")


@place("stuck", "web.work")
def work_that_is_stuck(page: Page, gallery: Gallery) -> None:
    page.goto(f"/work/{gallery.work}")


@place("stuck", "web.leave_behind", status=400)
def leaving_behind_refused(page: Page, gallery: Gallery) -> None:
    page.goto("/account/keys")
    send(page, "Let the former keys go")


@place("owner", "web.contacts")
def contacts(page: Page, gallery: Gallery) -> None:
    page.goto("/contacts")


@place("nobody", "web.contacts")
def no_contacts(page: Page, gallery: Gallery) -> None:
    page.goto("/contacts")


@place("owner", "web.confirm_contact")
def words_of_a_contact(page: Page, gallery: Gallery) -> None:
    page.goto(f"/contacts/{gallery.reader}/confirm")


@place("admin", "web.people")
def people(page: Page, gallery: Gallery) -> None:
    page.goto("/people")


@place("admin", "web.rotation")
def rotation(page: Page, gallery: Gallery) -> None:
    page.goto("/rotation")


@place("admin", "web.check")
def deep_check(page: Page, gallery: Gallery) -> None:
    gallery.check()
    page.goto("/check")
    expect(page.get_by_text("is lost")).not_to_have_count(0)


@place("owner", "web.own_check")
def own_check(page: Page, gallery: Gallery) -> None:
    gallery.check()
    page.goto("/account/check")
    expect(page.get_by_text("is lost")).to_have_count(1)


@place("admin", "web.invite", status=400)
def invite_refused(page: Page, gallery: Gallery) -> None:
    page.goto("/people")
    page.get_by_label("User name").fill(HOSTILE_NAMES[0])
    send(page, "Invite")


@place("admin", "web.invite")
def invited(page: Page, gallery: Gallery) -> None:
    page.goto("/people")
    page.get_by_label("User name").fill("v" * 32)
    send(page, "Invite")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Invitation for v")


# Errors


@place("owner", status=400)
def error_400(page: Page, gallery: Gallery) -> None:
    page.goto(f"/?after={HOSTILE_QUERY}")


@place("guest", status=401)
def error_401(page: Page, gallery: Gallery) -> None:
    page.goto("/login")
    page.evaluate(
        """() => {
          const form = document.querySelector("main form");
          form.setAttribute("action", "/account/sessions/end-all");
          form.submit();
        }"""
    )
    expect(page.get_by_role("heading", level=1)).to_have_text("The vault is locked")


@place("reader", status=403)
def error_403(page: Page, gallery: Gallery) -> None:
    page.goto(f"/documents/{gallery.shown}/rename")


@place("owner", status=404)
def error_404(page: Page, gallery: Gallery) -> None:
    page.goto(f"/{HOSTILE_QUERY}")


@place("owner", status=405)
def error_405(page: Page, gallery: Gallery) -> None:
    page.goto("/logout")


@place("owner", status=413)
def error_413(page: Page, gallery: Gallery) -> None:
    page.goto("/upload")
    page.evaluate(
        """(size) => {
          const form = document.querySelector("form[data-upload]");
          const data = new DataTransfer();
          data.items.add(new File([new Uint8Array(size)], "x.txt"));
          form.elements.file.files = data.files;
          form.submit();
        }""",
        LARGEST + 2_000_000,
    )
    expect(page.get_by_role("heading", level=1)).to_have_text("This is too large")


@place("guest", status=429)
def error_429(page: Page, gallery: Gallery) -> None:
    with gallery.site.server.client() as client:
        for _ in range(10):
            client.post("/token", json={"username": "guessed", "passphrase": "x"})
    page.goto("/login")
    page.get_by_label("User name").fill("guessed")
    page.get_by_label("Passphrase", exact=True).fill("x")
    send(page, "Log in")
    expect(page.get_by_role("heading", level=1)).to_have_text("Too many attempts")


@place("owner", status=500)
def error_500(page: Page, gallery: Gallery) -> None:
    blobs = gallery.site.server.instance / "blobs"
    before = set(blobs.glob("*/*"))
    document = gallery.site.upload(gallery.owner, HOSTILE_NAMES[1])
    for blob in set(blobs.glob("*/*")) - before:
        blob.unlink()
    page.goto(f"/documents/{document}/content")


@place("owner", status=503)
def error_503(page: Page, gallery: Gallery) -> None:
    blobs = gallery.site.server.instance / "blobs"
    away = blobs.rename(blobs.with_name("unmounted"))
    page.goto(f"/documents/{gallery.shown}/content")
    away.rename(blobs)
