"""Places for transfers: taken before anything is opened, left however the request ends, and never by a small one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cast import Vault
from vault.http import transfers
from vault.wiring import Wiring

LARGE_FORM = {"username": "x" * 100_000}


@pytest.fixture
def wired(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wiring]:
    """A vault in which nobody waits for a place; at the end every place must be free again."""
    monkeypatch.setattr(transfers, "WAIT_SECONDS", 0)
    found: Wiring = vault.app.extensions["docvault"]
    yield found
    for places, count in ((found.transfers, vault.settings.threads), (found.readings, 4)):
        taken = 0
        while places.acquire(blocking=False):
            taken += 1
        assert taken == count
        for _ in range(taken):
            places.release()


def fill(places: Any) -> int:
    taken = 0
    while places.acquire(blocking=False):
        taken += 1
    return taken


def test_f26_who_finds_no_place_is_told_when_to_come_again(vault: Vault, wired: Wiring) -> None:
    document = vault.upload("alice", b"content").hex()
    taken = fill(wired.transfers)
    alice, browser = vault.api("alice"), vault.browser("alice")
    for answer in (
        alice.get(f"/documents/{document}/content"),
        browser.get(f"/documents/{document}/content"),
        alice.post("/documents?name=new", data=b"new"),
        alice.put(f"/documents/{document}/content", data=b"new"),
        browser.client.post("/upload", data={"file": (b"x", "a.txt")}),
    ):
        assert answer.status_code == 503, answer.text
        assert int(answer.headers["Retry-After"]) > 0
    assert alice.get("/documents").status_code == browser.get("/").status_code == 200
    assert alice.patch(f"/documents/{document}", json={"name": "new"}).status_code == 200
    assert vault.api().get(f"/documents/{document}/content").status_code == 401
    wired.transfers.release(taken)
    assert alice.get(f"/documents/{document}/content").data == b"content"


def test_f26_a_place_is_left_however_the_request_ends(vault: Vault, wired: Wiring) -> None:
    content = bytes(1_000_000)
    document = vault.upload("alice", content).hex()
    alice, path = vault.api("alice"), f"/documents/{document}/content"
    for _ in range(vault.settings.threads * 2):
        assert alice.get(path).data == content
        with alice.get(path) as broken_off:
            next(broken_off.iter_encoded())
        alice.get(path).close()
        assert alice.head(path).status_code == 200
        assert alice.get(path, headers={"Range": "bytes=7-7"}).status_code == 206
        assert alice.get(path, headers={"Range": "bytes=9999999-"}).status_code == 416
        assert alice.get(path, headers={"If-None-Match": alice.head(path).headers["ETag"]}).status_code == 304
        assert vault.api("charlie").get(path).status_code == 404
        assert alice.post("/documents?name=a", data=b"x").status_code == 201
        assert alice.post("/documents?name=a&recipients=nobody", data=b"x").status_code == 400


def test_f26_a_damaged_blob_leaves_the_place(vault: Vault, wired: Wiring) -> None:
    document = vault.upload("alice", b"content").hex()
    (blob,) = vault.blob_files()
    blob.unlink()
    for _ in range(vault.settings.threads * 2):
        assert vault.api("alice").get(f"/documents/{document}/content").status_code == 500


def test_f26_large_bodies_that_are_no_files_have_places_of_their_own(vault: Vault, wired: Wiring) -> None:
    token = {"username": "alice", "passphrase": "x" * 100_000}
    taken = fill(wired.readings)
    assert vault.api().post("/token", json=token).status_code == 503
    assert vault.browser().client.post("/login", data=LARGE_FORM).status_code == 503
    assert vault.api().post("/token", json=token | {"passphrase": ""}).status_code == 400, "a small one"
    assert vault.api("alice").post("/documents?name=a", data=b"x").status_code == 201
    wired.readings.release(taken)
    for _ in range(8):
        assert vault.api().post("/token", json=token).status_code == 400
