"""Somebody at a browser, with a note of everything that must not happen there."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Download,
    Locator,
    Request,
    Response,
    WebError,
    expect,
)

NOTE_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) =>
  console.error(`policy violation: ${event.effectiveDirective} ${event.blockedURI} ${event.sample}`));
"""
AN_ERROR_STATUS = "Failed to load resource: the server responded with a status of "


class Visitor:
    """One browser with cookies of its own and one open page.

    ``wrong`` fills by itself: errors in the console, exceptions, reports of the Content-Security-Policy, requests that
    leave the vault, answers of 500 and more, and parts of pages that are missing. A test that meets a visitor by the
    fixture ``meet`` fails when anything is left in it, unless the visitor is ``attacked`` on purpose.
    """

    def __init__(
        self,
        browser: Browser,
        url: str,
        *,
        token: str | None = None,
        scripts: bool = True,
        attacked: bool = False,
        **options: Any,
    ) -> None:
        self.url = url
        self.attacked = attacked
        self.wrong: list[str] = []
        given = {"locale": "en-GB", "timezone_id": "Europe/Berlin", "reduced_motion": "reduce"} | options
        self.context = browser.new_context(base_url=url, java_script_enabled=scripts, **given)
        self.context.add_init_script(NOTE_VIOLATIONS)
        self.context.on("console", self._console)
        self.context.on("weberror", self._exception)
        self.context.on("request", self._request)
        self.context.on("response", self._response)
        if token:
            self.context.add_cookies([{"name": "docvault", "value": token, "url": url, "httpOnly": True}])
        self.context.set_default_timeout(20_000)
        self.page = self.context.new_page()

    def _console(self, message: ConsoleMessage) -> None:
        # An error status is no fault of the page; _response judges it.
        is_policy = "Content Security Policy" in message.text
        if is_policy or (message.type == "error" and not message.text.startswith(AN_ERROR_STATUS)):
            self.wrong.append(f"console: {message.text}")

    def _exception(self, error: WebError) -> None:
        self.wrong.append(f"exception: {error.error}")

    def _request(self, request: Request) -> None:
        if not request.url.startswith((f"{self.url}/", "data:", f"blob:{self.url}/")):
            self.wrong.append(f"request that leaves: {request.url}")

    def _response(self, response: Response) -> None:
        is_part = urlsplit(response.url).path.startswith("/static/")
        if response.status >= 500 or (is_part and response.status >= 400):
            self.wrong.append(f"{response.status}: {response.url}")

    def take_wrong(self) -> list[str]:
        """Return what went wrong so far, and forget it: for a test that made it happen."""
        taken, self.wrong = self.wrong, []
        return taken

    # Places

    def path(self) -> str:
        """The path, query and fragment that the page is at."""
        return self.page.url.removeprefix(self.url)

    def expect_heading(self, text: str) -> None:
        """The page with this heading is there, and its scripts have run: before, a click may act without them."""
        heading = self.page.get_by_role("main").get_by_role("heading", level=1)
        expect(heading).to_contain_text(text)
        self.page.wait_for_load_state()

    def follow(self, link: str, heading: str) -> None:
        """Click a link, and wait for the page that it leads to."""
        self.link(link).click()
        self.expect_heading(heading)

    def expect_notice(self, text: str) -> None:
        expect(self.page.get_by_role("status").filter(has_text=text)).to_be_visible()

    def expect_refusal(self, label: str, text: str) -> None:
        """The field is marked as wrong and says why, to those who see it and to those who hear it."""
        field = self.page.get_by_label(re.compile(f"^{re.escape(label)}( optional)?$"))
        expect(field).to_have_attribute("aria-invalid", "true")
        expect(field).to_have_accessible_description(re.compile(re.escape(text)))
        expect(self.page.get_by_text(text).last).to_be_visible()

    def dialog(self) -> Locator:
        return self.page.get_by_role("dialog")

    def button(self, name: str, *, exact: bool = True) -> Locator:
        return self.page.get_by_role("button", name=name, exact=exact)

    def link(self, name: str, *, exact: bool = True) -> Locator:
        return self.page.get_by_role("link", name=name, exact=exact)

    def row(self, text: str) -> Locator:
        """The row of a table that holds a text."""
        return self.page.get_by_role("row").filter(has_text=text)

    def names(self) -> list[str]:
        """The names of the documents that a list shows, in order."""
        return self.page.locator("a.document-link").all_inner_texts()

    # Acts

    def log_in(self, username: str, passphrase: str) -> None:
        """Type name and passphrase into the form of the login page that is open."""
        self.page.get_by_label("User name").fill(username)
        self.page.get_by_label("Passphrase", exact=True).fill(passphrase)
        self.button("Log in").click()

    def lock(self) -> None:
        self.button("Lock now").click()
        self.expect_heading("Log in")

    def shown_passphrase(self) -> str:
        """The passphrase on the page that shows it once; its seven words must be shown as well."""
        self.expect_heading("passphrase")
        passphrase = self.page.get_by_label("In one line").input_value()
        words = self.page.get_by_role("listitem").all_inner_texts()
        assert len(words) == 7 and " ".join(words) == passphrase
        return passphrase

    def download(self, click: Locator) -> tuple[str, bytes]:
        """Click what downloads; return the name that the browser gives the file, and its bytes."""
        with self.page.expect_download() as waiting:
            click.click()
        return named_bytes(waiting.value)

    def close(self) -> None:
        self.context.close()


def named_bytes(download: Download) -> tuple[str, bytes]:
    """Wait for a download to end; return its name and its bytes."""
    return download.suggested_filename, download.path().read_bytes()
