"""The folder store: order of syncs, modes, full and missing disks, and what a crash leaves."""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from vault.errors import Exists, Misconfigured, Missing, StoreFull, StoreUnavailable
from vault.storage.folder import STALE_SECONDS, FolderStore

SEGMENT = "ab" * 16
NAME = f"{SEGMENT}/{0:016x}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "deeper" / "blobs"


@pytest.fixture
def store(root: Path) -> FolderStore:
    store = FolderStore(root)
    store.check()
    return store


def unfinished(root: Path) -> list[Path]:
    return list((root / ".tmp").iterdir())


def test_only_the_owner_can_look(store: FolderStore, root: Path) -> None:
    before = os.umask(0)
    try:
        store.put_new(NAME, b"x")
    finally:
        os.umask(before)

    for path in (root, root / ".tmp", root / SEGMENT):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE((root / NAME).stat().st_mode) == 0o600


def test_syncs_the_bytes_before_the_name_and_the_name_before_it_returns(
    store: FolderStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real calls run; only their order is written down."""
    seen: list[str] = []
    real_fsync, real_link = os.fsync, os.link

    def fsync(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        seen.append("bytes" if path.parent.name == ".tmp" else f"folder {path.name}")
        real_fsync(descriptor)

    def link(source: Path, target: Path) -> None:
        seen.append("name")
        real_link(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "link", link)

    store.put_new(NAME, b"x")
    assert seen == ["bytes", "name", f"folder {SEGMENT}", "folder blobs"]

    seen.clear()
    with pytest.raises(Exists):
        store.put_new(NAME, b"x")
    assert seen == ["bytes", "name", f"folder {SEGMENT}", "folder blobs"]

    seen.clear()
    store.put_new(f"{SEGMENT}/ended", b"")
    store.delete([NAME])
    assert seen[-1] == f"folder {SEGMENT}"
    store.delete([f"{SEGMENT}/ended"])
    assert seen[-1] == "folder blobs"


def test_leaves_no_temporary_file(store: FolderStore, root: Path) -> None:
    store.put_new(NAME, b"x")
    with pytest.raises(Exists):
        store.put_new(NAME, b"y")

    assert unfinished(root) == []


def test_an_emptied_folder_goes_away(store: FolderStore, root: Path) -> None:
    store.put_new(NAME, b"x")
    store.put_new(f"{SEGMENT}/ended", b"")
    store.delete([NAME])
    assert (root / SEGMENT).is_dir()
    store.delete([f"{SEGMENT}/ended"])
    assert not (root / SEGMENT).exists()


def test_putting_and_deleting_in_one_segment_do_not_meet(store: FolderStore) -> None:
    """``delete`` takes the emptied folder away while ``put_new`` is about to link into it."""

    def put_and_delete(writer: int) -> None:
        for round_ in range(60):
            name = f"{SEGMENT}/{writer * 1000 + round_:016x}"
            store.put_new(name, b"x")
            store.delete([name])

    with ThreadPoolExecutor(4) as writers:
        list(writers.map(put_and_delete, range(4)))
    assert list(store.list()) == []


def test_a_deleted_blob_can_be_read_to_its_end(store: FolderStore) -> None:
    store.put_new(NAME, b"x" * 100)
    with store.get(NAME) as blob:
        store.delete([NAME])
        assert blob.read() == b"x" * 100


def test_a_file_that_shrinks_is_not_an_end(store: FolderStore, root: Path) -> None:
    store.put_new(NAME, b"x" * 100)
    with store.get(NAME) as blob:
        os.truncate(root / NAME, 10)
        with pytest.raises(StoreUnavailable, match="shorter"):
            blob.read()


def test_a_full_disk_is_told_and_leaves_nothing(store: FolderStore, root: Path) -> None:
    """A limit on the size of a file stands for the full disk: the kernel refuses in the middle of the write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StoreFull):
            store.put_new(NAME, b"x" * 150_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert unfinished(root) == []
    with pytest.raises(Missing):
        store.get(NAME)
    store.put_new(NAME, b"x" * 150_000)


def test_a_disk_that_is_not_mounted_loses_no_document(store: FolderStore, root: Path) -> None:
    store.put_new(NAME, b"x")
    root.rename(root.with_name("unplugged"))

    for call in (
        lambda: store.put_new(NAME, b"x"),
        lambda: store.get(NAME),
        lambda: store.size(NAME),
        lambda: list(store.list()),
    ):
        with pytest.raises(StoreUnavailable, match="Is its disk mounted"):
            call()
    assert not root.exists()

    root.with_name("unplugged").rename(root)
    assert store.size(NAME) == 1


def test_check_says_why_a_folder_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", tmp_path / "file" / "blobs"):
        with pytest.raises(Misconfigured, match="cannot be used"):
            FolderStore(root).check()


def test_follows_no_link(store: FolderStore, root: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of somebody else")
    store.put_new(f"{SEGMENT}/ended", b"")
    (root / NAME).symlink_to(secret)

    with pytest.raises(StoreUnavailable):
        store.get(NAME)
    store.delete([NAME])
    assert secret.exists()


def test_lists_only_blobs(store: FolderStore, root: Path) -> None:
    store.put_new(NAME, b"x")
    (root / "lost+found").mkdir()
    (root / "lost+found" / "ended").write_text("x")
    (root / "README").write_text("x")
    (root / SEGMENT / "notes").write_text("x")
    (root / ("cd" * 16)).write_text("a file where a segment's folder would be")

    assert [info.name for info in store.list()] == [NAME]


def test_killed_while_putting_shows_only_whole_blobs(store: FolderStore, root: Path) -> None:
    """Law 1: kill -9 at any point shows no half blob; what was left in the temporary folder goes when it is old."""
    program = f"""
import hashlib, os, pathlib
from vault.storage.folder import FolderStore
store = FolderStore(pathlib.Path({str(root)!r}))
body = os.urandom(2**20)
print("ready", flush=True)
for n in range(10**6):
    data = n.to_bytes(8) + body
    store.put_new(f"{{os.getpid():032x}}/{{n:016x}}", data + hashlib.sha256(data).digest())
    print(n, flush=True)
"""
    acknowledged = 0
    for pause in (0.01, 0.02, 0.035, 0.05):
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            time.sleep(pause)
            writer.send_signal(signal.SIGKILL)
            acknowledged = len(writer.stdout.read().splitlines())
        whole = list(store.list(f"{writer.pid:032x}/"))
        assert len(whole) in {acknowledged, acknowledged + 1}
        for info in whole:
            with store.get(info.name) as blob:
                data = blob.read()
            assert hashlib.sha256(data[:-32]).digest() == data[-32:]

    (root / ".tmp" / "young").write_bytes(b"x")
    for path in unfinished(root):
        if path.name != "young":
            os.utime(path, (time.time() - STALE_SECONDS - 60,) * 2)
    (root / ".tmp" / "old").write_bytes(b"x")
    os.utime(root / ".tmp" / "old", (time.time() - STALE_SECONDS - 60,) * 2)
    store.check()
    assert [path.name for path in unfinished(root)] == ["young"]
