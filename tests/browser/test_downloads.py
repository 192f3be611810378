"""Ticked documents are downloaded: several as a zip, one as itself, with and without scripts."""

from __future__ import annotations

import io
import zipfile
from datetime import UTC, datetime

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Meet
from tests.browser.site import Site


def contents(zipped: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(zipped)) as archive:
        assert archive.testzip() is None
        return {info.filename: archive.read(info) for info in archive.infolist()}


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without scripts"])
@pytest.mark.parametrize(("who", "page"), [("alice", "/"), ("bob", "/shared")])
def test_ticked_documents_come_as_one_file(
    site: Site, meet: Meet, who: str, page: str, scripts: bool
) -> None:
    texts = {
        "Brief an Björn.txt": b"Lieber Bj\xc3\xb6rn",
        "big.bin": bytes(range(256)) * 8000,
        "empty.txt": b"",
    }
    for name, content in texts.items():
        site.upload("alice", name, content, share=("bob",))
    visitor = meet(who, scripts=scripts)
    visitor.page.goto(page)
    for name in list(texts)[:2]:
        visitor.page.get_by_label(f"Tick {name}").check()
    name, zipped = visitor.download(visitor.button("Download"))
    assert name == f"documents-{datetime.now(UTC):%Y-%m-%d}.zip"
    assert contents(zipped) == {name: texts[name] for name in list(texts)[:2]}
    assert visitor.path() == page, "the page stays"
    expect(visitor.dialog()).to_have_count(0)
    visitor.page.get_by_label("Tick empty.txt").check()
    assert set(contents(visitor.download(visitor.button("Download"))[1])) == set(texts), "and goes on working"


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without scripts"])
def test_one_ticked_document_comes_as_itself(site: Site, meet: Meet, scripts: bool) -> None:
    site.upload("alice", "one.txt", b"one")
    alice = meet("alice", scripts=scripts)
    alice.page.goto("/")
    alice.page.get_by_label("Tick one.txt").check()
    assert alice.download(alice.button("Download")) == ("one.txt", b"one")


def test_the_other_buttons_still_ask(site: Site, meet: Meet) -> None:
    site.upload("alice", "one.txt", b"one")
    alice = meet("alice")
    alice.page.goto("/")
    alice.page.get_by_label("Tick one.txt").check()
    alice.download(alice.button("Download"))
    alice.button("Share").click()
    expect(alice.dialog()).to_contain_text("one.txt")


def test_what_is_gone_meanwhile_is_a_page_that_says_so(site: Site, meet: Meet) -> None:
    ids = [site.upload("alice", name, share=("bob",)) for name in ("one.txt", "two.txt")]
    bob = meet("bob")
    bob.page.goto("/shared")
    for name in ("one.txt", "two.txt"):
        bob.page.get_by_label(f"Tick {name}").check()
    site.api("alice").delete(f"/documents/{ids[0]}/shares/bob").raise_for_status()
    bob.button("Download").click()
    expect(bob.page.get_by_role("main")).to_contain_text("There is nothing here.")
