"""M6: yesterday's database put back under today's blobs. The server says so, destroys nothing, serves what it can."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from tests.access_table import TABLE, UNSAFE
from tests.cast import Vault
from tests.house import house, standing, vault
from tests.servers.vault import start_vault
from tests.web.forms import words
from vault.errors import ReadOnly
from vault.http.readonly import STILL_ALLOWED
from vault.services import anchor as anchors
from vault.services import clock

__all__ = ["house", "standing", "vault"]

SAID = anchors.OLDER


@dataclass
class PutBack:
    """A vault whose database is yesterday's: what was there then, and what came and went since."""

    vault: Vault
    kept: bytes
    deleted: bytes
    swept: bytes
    new_blobs: set[Path]


def snapshot(vault: Vault, folder: Path) -> None:
    vault.close()
    folder.mkdir()
    for file in vault.instance.glob("vault.sqlite3*"):
        shutil.copy2(file, folder)


def put_back(vault: Vault, folder: Path) -> None:
    vault.close()
    for file in vault.instance.glob("vault.sqlite3*"):
        file.unlink()
    for file in folder.iterdir():
        shutil.copy2(file, vault.instance)


def today(vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PutBack:
    """Live through a day with an anchor, then put the morning's database back under the evening's blobs."""
    own = vault.reopened(anchor_file=tmp_path / "anchor")
    kept = own.upload("alice", b"kept", share=("bob", "charlie"))
    deleted, swept = own.upload("alice", b"deleted"), own.upload("alice", b"swept")
    with own.services() as bundle:
        bundle.chain.keep_anchor()
    snapshot(own, tmp_path / "yesterday")
    before = set(own.blob_files())
    with own.services() as bundle:
        alice = own.alice.account
        bundle.documents.delete(alice, [swept])
        hour = clock.now() + timedelta(hours=2)
        with monkeypatch.context() as later:
            later.setattr(clock, "now", lambda: hour)
            bundle.sweep.run()
        bundle.documents.delete(alice, [deleted])
        bundle.sharing.revoke(alice, [kept], ["charlie"])
    own.upload("bob", b"of today")
    with own.services() as bundle, monkeypatch.context() as later:
        hour = clock.now() + timedelta(minutes=1)
        later.setattr(clock, "now", lambda: hour)
        bundle.chain.keep_anchor()
    new = set(own.blob_files()) - before
    put_back(own, tmp_path / "yesterday")
    return PutBack(own.reopened(anchor_file=tmp_path / "anchor"), kept, deleted, swept, new)


@pytest.fixture
def back(vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PutBack]:
    made = today(vault, tmp_path, monkeypatch)
    yield made
    made.vault.close()


def test_m6_the_server_says_so(back: PutBack) -> None:
    vault = back.vault
    ready = vault.app.test_client().get("/readyz")
    assert (ready.status_code, ready.json) == (503, {"status": "read-only", "wrong": [SAID]})
    assert vault.app.test_client().get("/readyz?for=reading").status_code == 200
    for path in ("/", "/account", "/shared"):
        page = words(vault.browser("alice").get(path).text)
        assert "Read-only. You can read and download" in page and SAID in page, path
    assert SAID in words(vault.browser().get("/login").text)
    with vault.services() as bundle:
        findings = [finding.text for finding in bundle.check.run().findings if finding.invariant == "I6"]
        faults = [fault.text for fault in bundle.chain.verify().faults]
    assert len(findings) == 1 and findings[0].startswith(f"{SAID} The audit chain ends at position ")
    assert len(faults) == 1 and faults[0].endswith("the chain does not: an older state was put back")


def test_m6_it_serves_what_it_can(back: PutBack) -> None:
    vault = back.vault
    assert vault.read("bob", back.kept) == b"kept"
    assert vault.read("alice", back.deleted) == b"deleted", (
        "its blobs were not destroyed yet, and never will be"
    )
    lost = vault.api("alice").get(f"/documents/{back.swept.hex()}/content")
    assert (lost.status_code, lost.json["type"]) == (500, "urn:docvault:Unreadable")
    assert {item["id"] for item in vault.api("alice").get("/documents").json["items"]} == {
        back.kept.hex(), back.deleted.hex(), back.swept.hex(),
    }  # fmt: skip
    many = vault.api("alice").post("/documents/zip", json={"ids": [back.kept.hex(), back.deleted.hex()]})
    assert many.status_code == 200 and many.data[:2] == b"PK"
    newcomer = vault.browser()
    logged_in = newcomer.post("/login", {"username": "bob", "passphrase": vault.bob.passphrase})
    assert logged_in.status_code == 303
    content = newcomer.get(f"/documents/{back.kept.hex()}/content")
    assert content.data == b"kept"
    assert newcomer.post("/logout", form_on="/account").status_code == 303
    assert [event[0] for event in vault.audit()][-2:] == ["download", "logout"]


def test_m6_it_destroys_nothing(back: PutBack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what the older database calls doomed, nor what it has never heard of; not days later either."""
    vault, blobs = back.vault, set(back.vault.blob_files())
    assert back.new_blobs and back.new_blobs <= blobs
    days = clock.now() + timedelta(days=40)
    monkeypatch.setattr(clock, "now", lambda: days)
    with vault.services() as bundle:
        with pytest.raises(ReadOnly):
            bundle.sweep.run()
        with pytest.raises(ReadOnly):
            bundle.sweep.take_lease(bytes(16))
        bundle.check.run()
    assert set(vault.blob_files()) == blobs


@pytest.mark.parametrize("key", UNSAFE)
def test_m6_every_change_is_503_with_a_clear_answer(
    read_only: tuple[Vault, dict[str, str]], key: str
) -> None:
    vault, names = read_only
    method, rule = key.split(" ", 1)
    path, line = rule, TABLE[key]
    for name, value in names.items():
        path = path.replace(name, value)
    endpoint = next(
        found.endpoint for found in vault.app.url_map.iter_rules()
        if found.rule == rule and method in (found.methods or ())
    )  # fmt: skip
    before = vault.audit()
    if path.startswith("/api/"):
        answer = vault.api("alice").open(
            method, path.removeprefix("/api/v1"), json=line.json, data=line.body, headers=line.headers
        )
    else:
        answer = vault.browser("alice").client.post(path, data=line.form)
    if endpoint in STILL_ALLOWED:
        assert answer.status_code != 503
        return
    assert answer.status_code == 503 and int(answer.headers["Retry-After"]) > 0
    assert "read-only" in answer.text and SAID in answer.text
    assert vault.audit() == before
    if path.startswith("/api/"):
        assert answer.json["type"] == "urn:docvault:ReadOnly"
    else:
        assert "The vault is read-only" in answer.text


@pytest.fixture(scope="module")
def read_only(
    house: Vault, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Vault, dict[str, str]]]:
    """A vault that its anchor has stopped, for requests that change nothing."""
    document = house.upload("alice", b"there", share=("bob",)).hex()
    path = tmp_path_factory.mktemp("anchor") / "anchor"
    later = anchors.Line(10**6, bytes(32), clock.now())
    path.write_bytes(later.encoded())
    own = house.reopened(anchor_file=path)
    names = {
        "<id:document_id>": document, "<id:session_id>": "0" * 32, "<id:invitation_id>": "0" * 32,
        "<id:notice_id>": "0" * 32, "<id:work_id>": "0" * 32, "<username>": "bob", "<token>": "x" * 310,
    }  # fmt: skip
    yield own, names
    own.close()


def test_m6_what_is_still_allowed_are_routes_that_there_are(house: Vault) -> None:
    endpoints = {rule.endpoint for rule in house.app.url_map.iter_rules()}
    assert endpoints >= STILL_ALLOWED


def test_m6_the_older_state_is_let_stand_and_work_goes_on(back: PutBack) -> None:
    vault = back.vault
    with vault.services() as bundle:
        assert bundle.chain.accept().alarm == ""
    assert vault.app.test_client().get("/readyz").status_code == 200
    assert "Read-only" not in vault.browser("alice").get("/").text
    document = vault.upload("alice", b"after")
    assert vault.read("alice", document) == b"after"
    with vault.services() as bundle:
        bundle.sweep.run()
        assert bundle.chain.verify().whole
    assert back.new_blobs <= set(vault.blob_files()), (
        "what only today knew is reported by check, never destroyed"
    )


def test_m6_the_right_database_put_back_ends_it(back: PutBack, tmp_path: Path) -> None:
    """The entries that people's logins left in the older one go with it; nothing else was in it."""
    evening = tmp_path / "evening"
    own = back.vault
    path = tmp_path / "anchor"
    assert own.app.test_client().get("/readyz").status_code == 503
    lines = path.read_bytes()
    snapshot(own, evening)
    put_back(own, tmp_path / "yesterday")
    last = lines.split(b"\n")[0] + b"\n"
    path.write_bytes(last)
    fresh = own.reopened(anchor_file=path)
    assert fresh.app.test_client().get("/readyz").status_code == 200
    fresh.close()


def test_m6_docvault_serve_starts_read_only_with_a_clear_alarm(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Must-show 7, as an operator sees it; two workers, and a login while it lasts."""
    back = today(vault, tmp_path, monkeypatch)
    back.vault.close()
    blobs = set(back.vault.blob_files())
    server = start_vault(back.vault.instance, workers=2, anchor_file=tmp_path / "anchor")
    try:
        assert f"READ-ONLY: {SAID} The audit chain ends at position " in server.log.read_text()
        ready = httpx.get(f"{server.url}/readyz", trust_env=False)
        assert (ready.status_code, ready.json()["status"]) == (503, "read-only")
        token = server.log_in("bob", back.vault.bob.passphrase)
        with server.client(token) as bob:
            assert bob.get(f"/documents/{back.kept.hex()}/content").content == b"kept"
            for _ in range(4):
                refused = bob.post("/documents?name=new", content=b"new")
                assert refused.status_code == 503 and SAID in refused.json()["detail"]
    finally:
        server.stop()
    assert '"event": "read_only"' in server.log.read_text()
    assert set(back.vault.blob_files()) == blobs
