"""What every blob store promises, on a folder, on SeaweedFS and on MinIO."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier

import pytest

from vault.errors import Exists, Missing
from vault.storage.folder import FolderStore
from vault.storage.protocol import BlobStore, check_name, check_prefix

PART = 8 * 2**20 + 512 * 16 + 56 + 32

HOSTILE_NAMES = [
    "",
    "/",
    ".",
    "..",
    "../" + "a" * 32 + "/ended",
    "a" * 32,
    "a" * 32 + "/",
    "a" * 32 + "/../" + "b" * 32 + "/ended",
    "a" * 32 + "/" + "0" * 15,
    "a" * 32 + "/" + "0" * 17,
    "a" * 32 + "/" + "0" * 16 + ".",
    "a" * 32 + "/" + "0" * 16 + "." + "0" * 15,
    "a" * 32 + "/ended\n",
    "a" * 32 + "/" + "0" * 16 + "\n",
    "a" * 32 + "/ended/",
    "a" * 32 + "//ended",
    "A" * 32 + "/ended",
    "a" * 31 + "g/ended",
    "a" * 32 + "/" + "٣" * 16,  # digits, but not of ASCII
    "a" * 32 + "/" + "0" * 16 + "?versionId=1",
    "%2e%2e/" + "a" * 32,
    ".tmp/" + "0" * 32,
    "a" * 32 + "\\ended",
    "a" * 32 + "/ended\0",
]


def new_segment() -> str:
    return os.urandom(16).hex()


def new_name() -> str:
    return f"{new_segment()}/{0:016x}"


def content(store: BlobStore, name: str, start: int = 0, length: int | None = None) -> bytes:
    with store.get(name, start, length) as blob:
        return blob.read()


@pytest.mark.parametrize("size", [0, 1, 16384, 100_000, PART])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_gives_back_what_it_was_given(store: BlobStore, size: int, kind: Callable[[bytes], bytes]) -> None:
    data = os.urandom(size)
    name = new_name()

    store.put_new(name, kind(data))

    assert content(store, name) == data
    assert store.size(name) == size


def test_takes_each_shape_of_name(store: BlobStore) -> None:
    segment = new_segment()
    names = [f"{segment}/{5:016x}", f"{segment}/{5:016x}.{6:016x}", f"{segment}/ended"]

    for name in names:
        store.put_new(name, name.encode())

    assert [content(store, name).decode() for name in names] == names


def test_never_overwrites(store: BlobStore) -> None:
    name = new_name()
    store.put_new(name, b"first")

    for other in (b"second", b"first", b""):
        with pytest.raises(Exists):
            store.put_new(name, other)

    assert content(store, name) == b"first"


@pytest.mark.parametrize(("size", "rounds"), [(1_000, 2), (PART, 1)])
def test_one_of_eight_writers_wins(store: BlobStore, size: int, rounds: int) -> None:
    for _ in range(rounds):
        name = new_name()
        offers = [bytes([writer]) * size for writer in range(8)]
        start = Barrier(8)

        def write(data: bytes, name: str = name, start: Barrier = start) -> bool:
            start.wait()
            try:
                store.put_new(name, data)
            except Exists:
                return False
            return True

        with ThreadPoolExecutor(8) as writers:
            won = list(writers.map(write, offers))

        assert won.count(True) == 1
        assert content(store, name) == offers[won.index(True)]


def test_a_second_try_can_be_told_from_a_collision(store: BlobStore) -> None:
    """What a service does when an answer was lost: ``Exists``, then size and trailing digest decide."""
    body = os.urandom(1000)
    ours = body + hashlib.sha256(body).digest()
    name = new_name()
    store.put_new(name, ours)

    with pytest.raises(Exists):
        store.put_new(name, ours)

    assert store.size(name) == len(ours)
    assert content(store, name, len(ours) - 32) == ours[-32:]


@pytest.mark.parametrize(
    ("start", "length"),
    [
        (0, None),
        (0, 1),
        (0, 0),
        (1, None),
        (56, 16400),
        (99_999, None),
        (99_999, 1),
        (99_999, 50),
        (50_000, 100_000),
        (100_000, None),
        (100_000, 10),
        (100_000, 0),
        (200_000, 10),
        (200_000, None),
    ],
)
def test_reads_ranges(store: BlobStore, start: int, length: int | None) -> None:
    data = os.urandom(100_000)
    name = new_name()
    store.put_new(name, data)

    with store.get(name, start, length) as blob:
        assert blob.size == len(data)
        assert blob.read() == data[start : None if length is None else start + length]
        assert blob.read() == b""


@pytest.mark.parametrize(("start", "length"), [(0, None), (0, 5), (1, None), (0, 0)])
def test_reads_ranges_of_an_empty_blob(store: BlobStore, start: int, length: int | None) -> None:
    name = new_name()
    store.put_new(name, b"")

    with store.get(name, start, length) as blob:
        assert (blob.size, blob.read()) == (0, b"")


@pytest.mark.parametrize("step", [1, 1000, 16400, 2**20])
def test_reads_full_steps_until_the_end(store: BlobStore, step: int) -> None:
    data = os.urandom(2500 if step == 1 else 2**21 + 77)
    name = new_name()
    store.put_new(name, data)

    with store.get(name) as blob:
        pieces = [blob.read(0)]
        while piece := blob.read(step):
            pieces.append(piece)

    assert b"".join(pieces) == data
    assert {len(piece) for piece in pieces[1:-1]} == {step}


def test_a_blob_can_be_closed_before_its_end(store: BlobStore) -> None:
    name = new_name()
    store.put_new(name, os.urandom(PART))

    for _ in range(40):  # more than the pool has connections
        with store.get(name) as blob:
            blob.read(10)
            blob.close()

    assert store.size(name) == PART


def test_refuses_ranges_that_are_none(store: BlobStore) -> None:
    name = new_name()
    store.put_new(name, b"abc")

    with pytest.raises(ValueError, match="range"):
        store.get(name, -1)
    with pytest.raises(ValueError, match="range"):
        store.get(name, 0, -1)


def test_says_what_is_missing(store: BlobStore) -> None:
    for start, length in [(0, None), (0, 10), (5, None), (0, 0)]:
        with pytest.raises(Missing):
            store.get(new_name(), start, length)
    with pytest.raises(Missing):
        store.size(new_name())


def test_deletes(store: BlobStore) -> None:
    segment = new_segment()
    gone, kept, never = (f"{segment}/{offset:016x}" for offset in range(3))
    store.put_new(gone, b"gone")
    store.put_new(kept, b"kept")

    store.delete([gone, never, new_name()])
    store.delete([gone])
    store.delete([])

    assert [info.name for info in store.list()] == [kept]
    with pytest.raises(Missing):
        store.get(gone)


def test_a_deleted_name_can_be_put_again(store: BlobStore) -> None:
    """The store's part only: that names are never used twice is for the services."""
    name = new_name()
    for data in (b"one", b"two"):
        store.put_new(name, data)
        assert content(store, name) == data
        store.delete([name])


def test_moves_blobs_out_of_the_way_and_destroys_nothing(store: BlobStore, tmp_path: Path) -> None:
    name, other, missing = new_name(), new_name(), new_name()
    store.put_new(name, b"first")
    store.put_new(other, b"stays")
    store.quarantine([name, missing], "20261127T083000Z")
    assert [info.name for info in store.list()] == [other]
    with pytest.raises(Missing):
        store.get(name)
    store.put_new(name, b"second")
    store.quarantine([name], "20261128T083000Z")
    assert [info.name for info in store.list()] == [other]
    if isinstance(store, FolderStore):
        kept = tmp_path / "blobs" / ".quarantine"
        found = [(kept / f"{folder}T083000Z" / name).read_bytes() for folder in ("20261127", "20261128")]
        assert found == [b"first", b"second"]
    for folder in ("", "..", "2026", "20261127T083000Z/..", "20261127T083000Z\n"):
        with pytest.raises(ValueError, match="not the time of a move"):
            store.quarantine([other], folder)


def test_lists_and_deletes_more_than_a_thousand(store: BlobStore) -> None:
    segment, other = sorted([new_segment(), new_segment()])
    names = [f"{segment}/{offset:016x}" for offset in range(1_050)]
    with ThreadPoolExecutor(8) as writers:
        list(writers.map(lambda name: store.put_new(name, b"abc"), names))
    store.put_new(f"{other}/ended", b"")

    assert [info.name for info in store.list(f"{segment}/")] == names
    assert [info.name for info in store.list()] == [*names, f"{other}/ended"]

    store.delete(names)

    assert [info.name for info in store.list()] == [f"{other}/ended"]


def test_lists_by_prefix_in_order_with_size_and_time(store: BlobStore) -> None:
    first, second = "a" * 32, "ab" * 16
    names = [
        f"{first}/{0:016x}",
        f"{first}/{1:016x}",
        f"{first}/{1:016x}.{7:016x}",
        f"{first}/ended",
        f"{second}/{0:016x}",
    ]
    assert list(store.list()) == []
    for size, name in enumerate(reversed(names)):
        store.put_new(name, b"x" * size)

    def listed(prefix: str) -> list[str]:
        return [info.name for info in store.list(prefix)]

    assert listed("") == listed("a") == names
    assert listed(first) == listed(f"{first}/") == names[:4]
    assert listed(f"{first}/{1:016x}") == names[1:3]
    assert listed(f"{first}/{1:016x}.") == names[2:3]
    assert listed(f"{first}/e") == names[3:4]
    assert listed(second[:3]) == names[4:]
    assert listed("b") == listed(f"{'c' * 32}/") == []
    assert [info.size for info in store.list()] == [4, 3, 2, 1, 0]
    for info in store.list():
        assert info.modified_at.utcoffset() == timedelta(0)
        assert abs(info.modified_at - datetime.now(UTC)) < timedelta(minutes=2)


def test_refuses_other_names(store: BlobStore) -> None:
    for name in HOSTILE_NAMES:
        for attempt in (
            lambda name=name: store.put_new(name, b"x"),
            lambda name=name: store.get(name),
            lambda name=name: store.size(name),
            lambda name=name: store.delete([new_name(), name]),
        ):
            with pytest.raises(ValueError, match="name"):
                attempt()
    assert list(store.list()) == []


def test_refuses_other_prefixes(store: BlobStore) -> None:
    for prefix in [".", "..", "/", ".tmp", "a/", "g", "a" * 33, "a" * 32 + "/..", "A", "a" * 32 + "/x"]:
        with pytest.raises(ValueError, match="name"):
            list(store.list(prefix))


def test_check_passes_and_leaves_nothing(store: BlobStore) -> None:
    store.check()
    store.check()

    assert list(store.list()) == []


def test_names_and_prefixes_fit_together() -> None:
    for name in ("ab" * 16 + "/ended", f"{'0' * 32}/{2**63:016x}", f"{'0' * 32}/{1:016x}.{2:016x}"):
        assert check_name(name) == name
        for end in range(len(name) + 1):
            assert check_prefix(name[:end]) == name[:end]
