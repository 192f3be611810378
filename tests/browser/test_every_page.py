"""Every page in every state: accessible in light and dark, no wider than a phone, quiet, deaf to hostile names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.accessibility import violations, wider_than_window
from tests.browser.conftest import Meet
from tests.browser.gallery import CANARY, DESK, HOSTILE_NAMES, NARROWEST, PHONE, PLACES, Gallery, Place
from tests.browser.site import Site
from tests.browser.visitor import Visitor
from tests.cast import Vault
from tests.servers.vault import VaultServer

ANSWERS_WITHOUT_A_PAGE = {
    "web.logout", "web.end_session", "web.end_all_sessions",
    "web.withdraw", "web.disable", "web.enable", "web.promote", "web.demote",
    "web.download", "web.download_version", "web.download_zip", "web.read_notice", "web.go_on", "web.stop_rekey",
}  # fmt: skip
WHO = sorted({place.who for place in PLACES})


@pytest.fixture(scope="module")
def gallery(shared_site: Site, archivist: str) -> Gallery:
    return Gallery(shared_site, archivist)


@pytest.fixture(scope="module")
def visitors(browser: Browser, gallery: Gallery) -> Iterator[dict[str, Visitor]]:
    met = {who: Visitor(browser, gallery.site.url, token=gallery.token(who)) for who in WHO}
    yield met
    for visitor in met.values():
        visitor.close()


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
def test_x2_x3_a_page(place: Place, gallery: Gallery, visitors: dict[str, Visitor]) -> None:
    visitor = visitors[place.who]
    page = visitor.context.new_page()
    page.set_viewport_size(DESK)
    statuses: list[int] = []
    page.on("response", lambda answer: statuses.append(answer.status) if is_page(answer.request) else None)
    place.go(page, gallery)
    page.wait_for_load_state()
    assert place.status in statuses

    for name in HOSTILE_NAMES:
        assert name not in page.title(), "titles stay in the history of the browser"
    assert page.title().endswith(" · Document Vault")
    assert violations(page) == []
    for window in (PHONE, NARROWEST):
        page.set_viewport_size(window)
        assert wider_than_window(page) == ""
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size(PHONE)
    assert violations(page) == []
    assert page.evaluate(CANARY) is None, "a script in a name ran"
    page.close()
    wrong = [text for text in visitor.take_wrong() if not text.startswith(f"{place.status}: ")]
    assert wrong == []


def is_page(request: object) -> bool:
    return request.resource_type in {"document", "fetch", "xhr"}  # type: ignore[attr-defined]


def test_every_route_that_renders_a_page_has_a_place(cast_folder: tuple[Path, Vault]) -> None:
    routes = {
        rule.endpoint for rule in cast_folder[1].app.url_map.iter_rules() if rule.endpoint.startswith("web.")
    }
    shown = {endpoint for place in PLACES for endpoint in place.endpoints}
    assert routes - ANSWERS_WITHOUT_A_PAGE == shown
    assert shown & ANSWERS_WITHOUT_A_PAGE == set()
    assert {400, 401, 403, 404, 413, 429, 500, 503} <= {place.status for place in PLACES}


def test_the_page_that_sets_a_vault_up(fresh_server: VaultServer, visit: Meet) -> None:
    dora = visit(fresh_server.url)
    for wrong in ("", "<img src=x onerror=globalThis.ranInTheVault=9>"):
        dora.page.goto("/setup")
        dora.page.get_by_label("Set-up code").fill(wrong)
        dora.page.get_by_label("User name").fill("dora")
        dora.button("Create my account").click()
        expect(dora.page.get_by_label("Set-up code")).to_have_attribute("aria-invalid", "true")
        for colours in ("light", "dark"):
            dora.page.emulate_media(color_scheme=colours)  # type: ignore[arg-type]
            assert violations(dora.page) == []
        dora.page.set_viewport_size(PHONE)
        assert wider_than_window(dora.page) == ""
    assert dora.page.evaluate(CANARY) is None


def test_pages_without_scripts_are_accessible_too(meet: Meet, site: Site) -> None:
    """The vault's own scripts are left out, not scripts as such: axe-core is one."""
    site.upload("alice", HOSTILE_NAMES[0], share=("bob",))
    alice = meet("alice")
    alice.page.route("**/static/js/**", lambda route: route.fulfill(body="", content_type="text/javascript"))
    for path in ("/", "/account", "/upload", f"/documents/{site.documents('alice')[0]['id']}/share"):
        alice.page.set_viewport_size(DESK)
        alice.page.goto(path)
        expect(alice.page.locator("html.with-script")).to_have_count(0)
        for colours in ("light", "dark"):
            alice.page.emulate_media(color_scheme=colours)  # type: ignore[arg-type]
            assert violations(alice.page) == []
        alice.page.set_viewport_size(PHONE)
        assert wider_than_window(alice.page) == ""
