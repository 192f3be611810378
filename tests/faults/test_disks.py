"""F12 to F14: disks that are full, that fail, and that lose whatever was not synced when the power went."""

from __future__ import annotations

import errno
import logging
import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import pytest

from tests.cast import Member, Vault
from tests.faults.failing_os import DurableOs, FailingOs
from tests.house import house, refill, standing, vault
from tests.http.forms import CONTENT_TYPE, file, form
from vault import failpoints
from vault.errors import StorageError, VaultError
from vault.storage import folder as folder_store

__all__ = ["house", "standing", "vault"]

PART = 32768
CONTENT = os.urandom(2 * PART + 1000)
NEW = os.urandom(PART + 500)
SMALL = 2 * 2**20


def findings(vault: Vault) -> list[Any]:
    with vault.services() as bundle:
        return list(bundle.check.run().findings)


# F12


class SmallDisk:
    """A disk of 2 MiB that can be filled; where mounting one is not allowed, a limit on the size of any file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL}", "tmpfs", str(folder)]
        self.mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
        self._limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    @contextmanager
    def full(self) -> Iterator[None]:
        if self.mounted:
            ballast = self.folder / "ballast"
            with ballast.open("wb") as file, suppress(OSError):
                while True:
                    os.write(file.fileno(), bytes(4096))
            try:
                yield
            finally:
                ballast.unlink()
            return
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, self._limits[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, self._limits)

    def close(self) -> None:
        if self.mounted:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    disk = SmallDisk(tmp_path / "small")
    yield disk
    disk.close()


@pytest.fixture
def on_small(cast_folder: tuple[Path, Vault], tmp_path: Path, small_disk: SmallDisk) -> Iterator[Vault]:
    """A vault whose blobs lie on the small disk."""
    shutil.copytree(cast_folder[0], tmp_path / "instance")
    shutil.rmtree(tmp_path / "instance" / "blobs")
    (tmp_path / "instance" / "blobs").symlink_to(small_disk.folder)
    own = cast_folder[1].copied_to(tmp_path / "instance", part_size=PART)
    yield own
    own.close()


def test_f12_a_full_disk_of_blobs_is_507_reads_go_on_and_it_recovers(
    on_small: Vault, small_disk: SmallDisk
) -> None:
    vault = on_small
    document = vault.upload("alice", CONTENT, share=("bob",)).hex()
    alice, browser = vault.api("alice"), vault.browser("alice")
    token = browser.csrf("/upload")
    with small_disk.full():
        for answer in (
            alice.post("/documents?name=full", data=CONTENT),
            alice.put(f"/documents/{document}/content", data=NEW),
            browser.client.post("/upload", data={"csrf_token": token, "file": (reader_of(CONTENT), "a.bin")}),
        ):
            assert answer.status_code == 507, answer.text
            assert "full" in answer.text
        assert vault.api("bob").get(f"/documents/{document}/content").data == CONTENT
        assert browser.get("/").status_code == alice.get("/documents").status_code == 200
        assert alice.patch(f"/documents/{document}", json={"name": "renamed"}).status_code == 200
        assert findings(vault) == []
        assert list(vault.blobs.glob(".tmp/*")) == []
    assert len(alice.get("/documents").json["items"]) == 1
    sent = alice.post("/documents?name=room", data=NEW)
    assert sent.status_code == 201
    assert alice.get(f"/documents/{sent.json['id']}/content").data == NEW
    with vault.services() as bundle:
        bundle.sweep.run()
    assert findings(vault) == []


def reader_of(content: bytes) -> Any:
    from io import BytesIO

    return BytesIO(content)


def test_f12_a_disk_too_small_for_one_upload_is_507_and_takes_a_smaller_one(on_small: Vault) -> None:
    """It fills while parts arrive; what had arrived is destroyed by the sweep, and there is room again."""
    if not os.path.ismount(on_small.blobs.resolve()):
        return  # without a small disk of its own the test above says all there is to say
    for _ in range(2):
        answer = on_small.api("alice").post("/documents?name=large", data=bytes(3 * 2**20))
        assert answer.status_code == 507
        with on_small.services() as bundle:
            bundle.sweep.run()
        assert on_small.blob_files() == []
    assert on_small.api("alice").post("/documents?name=small", data=bytes(2**20)).status_code == 201
    assert findings(on_small) == []


def test_f12_a_full_disk_of_the_database_is_503_reads_go_on_and_it_recovers(
    cast_folder: tuple[Path, Vault], tmp_path: Path, small_disk: SmallDisk
) -> None:
    instance = tmp_path / "instance"
    shutil.copytree(cast_folder[0], instance)
    for path in instance.glob("vault.sqlite3*"):
        shutil.move(path, small_disk.folder / path.name)
    database = f"sqlite:///{small_disk.folder / 'vault.sqlite3'}"
    vault = cast_folder[1].copied_to(instance, database_url=database, part_size=PART)
    document = vault.upload("alice", CONTENT, share=("bob",)).hex()
    alice = vault.api("alice")
    with small_disk.full():
        statuses = []
        for number in range(40):  # the write-ahead log may still have room in it
            answer = alice.patch(f"/documents/{document}", json={"name": f"name {number}"})
            statuses.append(answer.status_code)
            if statuses[-3:] == [503] * 3:
                break
        assert statuses[-3:] == [503] * 3, "a full database is told"
        assert int(answer.headers["Retry-After"]) > 0
        for refused in (
            alice.post("/documents?name=full", data=NEW),
            alice.delete(f"/documents/{document}"),
            vault.api("bob").delete(f"/documents/{document}/shares/me"),
        ):
            assert refused.status_code in {503, 507}, refused.text
        for path in ("/documents", "/me", f"/documents/{document}"):
            assert alice.get(path).status_code == 200, path
        assert vault.browser("bob").get("/shared").status_code == 200
    assert alice.patch(f"/documents/{document}", json={"name": "room"}).status_code == 200
    assert vault.api("bob").get(f"/documents/{document}/content").data == CONTENT
    assert alice.post("/documents?name=new", data=NEW).status_code == 201
    assert findings(vault) == []
    vault.close()


def test_f12_a_full_temporary_folder_is_not_even_noticed(
    vault: Vault, small_disk: SmallDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk.folder))
    with small_disk.full() if small_disk.mounted else nullcontext():
        sent = vault.api("alice").post(
            "/documents", data=form(file(bytes(2_000_000))), content_type=CONTENT_TYPE
        )
    assert sent.status_code == 201, sent.text
    assert findings(vault) == []


def test_f12_a_full_disk_of_the_log_stops_nothing(vault: Vault, capsys: pytest.CaptureFixture[str]) -> None:
    (handler,) = [each for each in logging.getLogger().handlers if each.name == "docvault"]
    assert isinstance(handler, logging.StreamHandler)
    with TextIOWrapper(open("/dev/full", "wb", buffering=0), write_through=True) as full:
        before = handler.setStream(full)
        try:
            document = vault.api("alice").post("/documents?name=a", data=b"unlogged").json["id"]
            assert vault.api("alice").get(f"/documents/{document}/content").data == b"unlogged"
        finally:
            handler.setStream(before)
    assert "No space left" in capsys.readouterr().err


# F13


FAILURES: list[tuple[str, int | None]] = [
    ("write", errno.EIO),
    ("write", None),  # a short one, which is no failure
    ("fsync", errno.EIO),
    ("link", errno.EIO),
    ("open", errno.EIO),
    ("mkdir", errno.EROFS),
    ("fsync", errno.ENOSPC),
]


@pytest.fixture(scope="module")
def parted(cast_folder: tuple[Path, Vault], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault]:
    """One vault for this module, with parts of 32 KiB."""
    instance = tmp_path_factory.mktemp("parted") / "instance"
    shutil.copytree(cast_folder[0], instance)
    own = cast_folder[1].copied_to(instance, part_size=PART)
    yield own
    own.close()


@pytest.mark.parametrize(("call", "number"), FAILURES)
def test_f13_whichever_call_fails_nothing_acknowledged_is_missing(
    parted: Vault, monkeypatch: pytest.MonkeyPatch, call: str, number: int | None
) -> None:
    vault, api = parted, parted.api("alice")
    document, holds = vault.upload("alice", CONTENT).hex(), CONTENT
    acknowledged: dict[str, bytes] = {}
    nth, failing = 0, None
    while failing is None or failing.met:
        nth += 1
        failing = FailingOs(call, nth, number)
        with monkeypatch.context() as patch:
            patch.setattr(folder_store, "os", failing)
            sent = api.post(f"/documents?name={call}-{nth}", data=CONTENT)
            new = CONTENT[nth:] + NEW
            replaced = api.put(f"/documents/{document}/content", data=new)
        for answer in (sent, replaced):
            assert answer.status_code in {200, 201, 503, 507}, answer.text
        if number is None:
            assert (sent.status_code, replaced.status_code) == (201, 200)
        if sent.status_code == 201:
            acknowledged[sent.json["id"]] = CONTENT
        if replaced.status_code == 200:
            holds = new
        assert api.get(f"/documents/{document}/content").data == holds
    assert nth > 3, "there was a call to fail"
    shown = {item["id"] for item in api.get("/documents?limit=1000").json["items"]}
    for found, content in acknowledged.items():
        assert found in shown and api.get(f"/documents/{found}/content").data == content
    assert findings(vault) == []
    with vault.services() as bundle:
        bundle.sweep.run()
    assert findings(vault) == []


def test_f13_a_part_whose_name_was_not_synced_is_not_found_by_the_next_try(
    parted: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second sync succeeds although the first has lost what it was for."""
    store = parted.app.extensions["docvault"].store
    name = f"{'ab' * 16}/{0:016x}"
    for nth in (2, 3):  # the segment's folder, the root
        with monkeypatch.context() as patch:
            patch.setattr(folder_store, "os", FailingOs("fsync", nth))
            with pytest.raises(StorageError):
                store.put_new(name, b"x")
        assert [info.name for info in store.list("ab" * 16)] == []
    store.put_new(name, b"x")
    store.delete([name])


@pytest.mark.parametrize("call", ["unlink", "rmdir", "fsync", "listdir", "scandir"])
def test_f13_a_deletion_that_fails_is_done_by_the_next_sweep(
    parted: Vault, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    kept = parted.upload("alice", NEW)
    gone = parted.upload("alice", CONTENT)
    with parted.services() as bundle:
        bundle.documents.delete(parted.alice.account, [gone])
        for nth in (1, 2):
            with monkeypatch.context() as patch:
                patch.setattr(folder_store, "os", FailingOs(call, nth))
                with suppress(VaultError):
                    bundle.sweep.run()
            assert bundle.check.run().findings == []
        bundle.sweep.run()
    assert parted.read("alice", kept) == NEW
    with parted.database() as connection:
        assert connection.execute("SELECT count(*) FROM tombstone").fetchone()[0] == 0


def test_f13_a_disk_that_cannot_be_read_is_503_and_no_damage(
    parted: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = parted.upload("alice", CONTENT).hex()
    before = parted.audit()
    for call in ("open", "pread", "stat"):
        with monkeypatch.context() as patch:
            patch.setattr(folder_store, "os", FailingOs(call, 1, lasting=True))
            answer = parted.api("alice").get(f"/documents/{document}/content")
            assert (answer.status_code, answer.json["type"]) == (503, "urn:docvault:StoreUnavailable"), call
    assert [row for row in parted.audit()[len(before) :] if row[0] == "integrity_failure"] == []
    assert parted.api("alice").get(f"/documents/{document}/content").data == CONTENT


# F14


class PowerCuts:
    """Copies of a vault, one for each moment at which something was synced or committed; and what was promised then."""

    def __init__(self, vault: Vault, folder: Path) -> None:
        self.vault = vault
        self.folder = folder
        self.promised: dict[str, bytes | None] = {}
        self.under_way: set[str] = set()
        self.copies: list[tuple[Path, dict[str, bytes | None], set[str]]] = []
        self.os = DurableOs(vault.blobs, self.cut)

    def cut(self) -> None:
        """Keep what a power cut at this moment would leave: the database as it was committed, the blobs as synced."""
        copy = self.folder / f"{len(self.copies):03}"
        copy.mkdir(parents=True)
        for path in self.vault.instance.iterdir():
            if path.is_file() and not path.name.endswith("-shm"):
                shutil.copy(path, copy)
        self.os.write_to(copy / "blobs")
        self.copies.append((copy, dict(self.promised), set(self.under_way)))

    def reached(self, point: str) -> None:
        if point.endswith("_commit"):
            self.cut()

    def act(self, document: str, act: Callable[[], Any], promise: bytes | None) -> Any:
        """Run an act on a document; what it promises holds once it has returned."""
        self.under_way = {document}
        result = act()
        self.promised[document or result] = promise
        self.under_way = set()
        self.cut()
        return result


def test_f14_after_a_power_cut_at_any_sync_or_commit_all_that_was_promised_is_there(
    standing: tuple[Vault, Path],
    cast_folder: tuple[Path, Vault],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own, full = standing
    members: dict[str, Member] = cast_folder[1].members
    vault = refill(own, full, members)
    first = vault.upload("alice", CONTENT, share=("bob",)).hex()
    cuts = PowerCuts(vault, tmp_path / "cuts")
    cuts.promised[first] = CONTENT
    vault.app.extensions["docvault"].settings = vault.settings
    api = vault.api("alice")
    with monkeypatch.context() as patch:
        patch.setattr(folder_store, "os", cuts.os)
        patch.setattr(failpoints, "hook", cuts.reached)
        second = cuts.act("", lambda: api.post("/documents?name=b", data=NEW).json["id"], NEW)
        cuts.act(first, lambda: api.put(f"/documents/{first}/content", data=NEW), NEW)
        cuts.act("", lambda: api.post("/documents?name=c", data=CONTENT).json["id"], CONTENT)
        cuts.act(second, lambda: api.delete(f"/documents/{second}"), None)
        with vault.services() as bundle:
            bundle.sweep.run()
        cuts.cut()
    assert len(cuts.copies) > 30
    for copy, promised, under_way in cuts.copies:
        booted = refill(own, copy, members)
        assert findings(booted) == [], copy.name
        for document, content in promised.items():
            if document in under_way:
                continue
            answer = booted.api("alice").get(f"/documents/{document}/content")
            assert (answer.data if answer.status_code == 200 else None) == content, copy.name
        if first in under_way:
            assert booted.api("bob").get(f"/documents/{first}/content").data in {CONTENT, NEW}, copy.name
        with booted.services() as bundle:
            bundle.sweep.run()
            assert bundle.check.run().findings == [], copy.name
    print(f"{len(cuts.copies)} power cuts")
