"""One browser and one server for this folder; every test begins with empty lists and ends with nothing gone wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.browser.site import LARGEST, Site
from tests.browser.visitor import Visitor
from tests.cast import Vault
from tests.servers.vault import VaultServer, start_vault

CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
Meet = Callable[..., Visitor]


@pytest.fixture(scope="package")
def browser(chromium: Path) -> Iterator[Browser]:
    """Debian's own Chromium, cut off from every name but this machine."""
    expect.set_options(timeout=10_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def shared_site(cast_folder: tuple[Path, Vault], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder, made = cast_folder
    instance = tmp_path_factory.mktemp("site") / "instance"
    shutil.copytree(folder, instance)
    server = start_vault(instance, workers=2, max_document_bytes=LARGEST)
    site = Site(server, {member.name: member.passphrase for member in made.members.values()})
    yield site
    site.close()
    server.stop()


@pytest.fixture(scope="package")
def archivist(shared_site: Site) -> str:
    """Somebody with one document more than a page of a list shows."""
    name = shared_site.newcomer("archie")
    reports = {f"report {number:02}.txt": b"x" * (2000 - number) for number in range(49)}
    shared_site.upload_many(name, reports | {"Zebra.pdf": b"x" * 3000, "Äpfel.txt": b""})
    return name


@pytest.fixture
def site(shared_site: Site) -> Site:
    """A running vault in which the cast is logged in and nobody of it owns a document."""
    shared_site.tidy()
    return shared_site


@pytest.fixture
def fresh_server(tmp_path: Path) -> Iterator[VaultServer]:
    """A vault that was never used, as its operator first starts it: it waits for its first administrator."""
    server = start_vault(tmp_path / "fresh", workers=2, registration="invite")
    yield server
    server.stop()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Meet]:
    """Open a browser at any server's ``url``; at the end nothing may have gone wrong in any of them."""
    visitors: list[Visitor] = []

    def open_one(url: str, **options: object) -> Visitor:
        visitors.append(Visitor(browser, url, **options))
        return visitors[-1]

    yield open_one
    for visitor in visitors:
        visitor.close()
    assert [wrong for visitor in visitors if not visitor.attacked for wrong in visitor.wrong] == []


@pytest.fixture
def meet(visit: Meet, site: Site) -> Meet:
    """Open a browser at the shared site: of somebody who is logged in, by name, or of somebody who is not."""

    def open_one(name: str | None = None, **options: object) -> Visitor:
        return visit(site.url, token=site.token(name) if name else None, **options)

    return open_one
