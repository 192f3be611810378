"""``GET|HEAD|PUT documents/<id>/content``: ranges, conditions, heads, new versions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.attacks.attacker import Attacker
from tests.cast import Vault
from tests.http.forms import CONTENT_TYPE, file, form

CONTENT = bytes(i % 251 for i in range(40_000))
SIZE = len(CONTENT)


@pytest.fixture
def document(house: Vault) -> str:
    return house.upload("alice", CONTENT, name="a.bin", share=("bob",)).hex()


def get(house: Vault, document: str, who: str = "alice", **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return house.api(who).get(f"/documents/{document}/content", headers=named)


RANGES = {
    "bytes=0-0": (0, 0),
    "bytes=0-9": (0, 9),
    "bytes=100-": (100, SIZE - 1),
    "bytes=-1": (SIZE - 1, SIZE - 1),
    "bytes=-100": (SIZE - 100, SIZE - 1),
    f"bytes=-{SIZE}": (0, SIZE - 1),
    "bytes=-999999": (0, SIZE - 1),
    f"bytes=0-{SIZE}": (0, SIZE - 1),
    "bytes=5-99999999999999999999": (5, SIZE - 1),
    f"bytes={SIZE - 1}-{SIZE - 1}": (SIZE - 1, SIZE - 1),
    "bytes=16383-16384": (16383, 16384),
    "bytes=16384-32767": (16384, 32767),
    "bytes= 7-9": (7, 9),
    "Bytes=1-2": (1, 2),
}


@pytest.mark.parametrize("header", RANGES)
def test_a_range_is_206_with_these_bytes(house: Vault, document: str, header: str) -> None:
    first, last = RANGES[header]
    answer = get(house, document, Range=header)
    assert answer.status_code == 206
    assert answer.data == CONTENT[first : last + 1]
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{SIZE}"
    assert answer.content_length == last - first + 1


ABSURD = [
    f"bytes={SIZE}-", f"bytes={SIZE}-{SIZE + 9}", "bytes=99999999999999999999-", "bytes=-0", "bytes=9-0", "bytes=",
    "bytes",
    "bytes=a-b", "bytes=1-2,5-6", "bytes=0-0,-1", "bytes=0-,0-,0-", "bytes=" + "0-0," * 2000 + "1-1", "bytes=--1",
    "bytes=1",
    "bytes=1-2-3", "bytes=0x1-0x9", "bytes=1.0-2.0", "bytes=1-2;3-4", "items=0-9", "0-9", "bytes 0-9", "bytes=-",
    "bytes=+1-+2",
    "bytes=\u0661-\u0662",
]  # fmt: skip


@pytest.mark.parametrize("header", ABSURD, ids=lambda header: header[:20])
@pytest.mark.requirement(46)
def test_a_range_that_cannot_be_is_416_with_the_size(house: Vault, document: str, header: str) -> None:
    """Checklist 46: several ranges and absurd ones."""
    answer = get(house, document, Range=header.encode().decode("latin-1"))
    assert answer.status_code == 416, answer.data[:50]
    assert answer.headers["Content-Range"] == f"bytes */{SIZE}"
    assert answer.content_type == "application/problem+json"


def test_an_empty_document_has_no_range(house: Vault) -> None:
    document = house.upload("alice", b"").hex()
    for header in ("bytes=0-0", "bytes=0-", "bytes=-1"):
        answer = get(house, document, Range=header)
        assert (answer.status_code, answer.headers["Content-Range"]) == (416, "bytes */0")


def test_the_pieces_together_are_the_whole(house: Vault, document: str) -> None:
    step = 9_999
    pieces = [get(house, document, Range=f"bytes={at}-{at + step - 1}").data for at in range(0, SIZE, step)]
    assert b"".join(pieces) == CONTENT


def test_the_whole_tells_its_length_and_takes_ranges(house: Vault, document: str) -> None:
    answer = get(house, document, "bob")
    assert (answer.status_code, answer.data, answer.content_length) == (200, CONTENT, SIZE)
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert "Content-Range" not in answer.headers


def test_a_head_is_the_answer_without_its_body(house: Vault, document: str) -> None:
    answer = house.api("alice").head(f"/documents/{document}/content")
    whole = get(house, document)
    assert (answer.status_code, answer.data) == (200, b"")
    for name in ("Content-Length", "Content-Type", "ETag", "Content-Disposition", "Accept-Ranges"):
        assert answer.headers[name] == whole.headers[name]
    assert (
        house.api("alice").head(f"/documents/{document}/content", headers={"Range": "bytes=0-1"}).status_code
        == 200
    )


def test_a_head_writes_no_download_into_the_audit_log(house: Vault, document: str) -> None:
    house.api("alice").head(f"/documents/{document}/content")
    assert downloads(house, document) == 0
    get(house, document, "bob").close()
    assert downloads(house, document) == 1


def downloads(house: Vault, document: str) -> int:
    return sum(entry[:2] == ("download", document) for entry in house.audit())


def test_what_one_has_already_is_304(house: Vault, document: str) -> None:
    tag = get(house, document).headers["ETag"]
    for condition in (tag, f'"other", {tag}', "*", f"W/{tag}"):
        answer = get(house, document, If_None_Match=condition)
        assert (answer.status_code, answer.data) == (304, b""), condition
        assert answer.headers["ETag"] == tag
    assert get(house, document, If_None_Match='"other"').status_code == 200
    assert get(house, document, "bob", If_None_Match=tag).status_code == 304, (
        "a version has one tag for all readers"
    )


def test_an_etag_changes_with_content_and_name_and_is_no_hash_of_the_content(
    house: Vault, document: str
) -> None:
    import hashlib

    tags = [get(house, document).headers["ETag"]]
    house.api("alice").patch(f"/documents/{document}", json={"name": "b.bin"})
    tags.append(get(house, document).headers["ETag"])
    house.api("alice").put(f"/documents/{document}/content", data=CONTENT)
    tags.append(get(house, document).headers["ETag"])
    assert len(set(tags)) == 3
    for algorithm in ("md5", "sha1", "sha256", "blake2b"):
        assert not any(tag.strip('"') in hashlib.new(algorithm, CONTENT).hexdigest() for tag in tags)


def test_if_range_gives_a_range_of_the_same_version_only(house: Vault, document: str) -> None:
    tag = get(house, document).headers["ETag"]
    assert get(house, document, Range="bytes=0-9", If_Range=tag).status_code == 206
    for other in ('"other"', f"W/{tag}", tag.strip('"'), "Wed, 21 Oct 2065 07:28:00 GMT", "*"):
        answer = get(house, document, Range="bytes=0-9", If_Range=other)
        assert (answer.status_code, answer.data) == (200, CONTENT), other
    house.api("alice").put(f"/documents/{document}/content", data=b"new content")
    answer = get(house, document, Range="bytes=0-9", If_Range=tag)
    assert (answer.status_code, answer.data) == (200, b"new content"), (
        "a resumed download never mixes versions"
    )


# Ranges and parts

PART = 32768
LONG = bytes(i * i % 251 for i in range(20 * PART + 100))
BORDERS = [
    (0, 1), (PART - 1, PART + 1), (PART, PART + 1), (PART, 2 * PART), (2 * PART - 1, 2 * PART), (1, 3 * PART - 1),
    (3 * PART, 6 * PART), (5 * PART + 16384, 7 * PART + 1), (20 * PART, 20 * PART + 1), (20 * PART - 1, 20 * PART + 1),
    (20 * PART + 99, 20 * PART + 100), (19 * PART, 20 * PART + 100), (0, len(LONG)), (1, len(LONG)), (0, len(LONG) - 1),
]  # fmt: skip


class Counting:
    """A blob store that counts which blobs are asked for, and how."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.is_far = store.is_far
        self.got: list[str] = []
        self.sized: list[str] = []
        self.listed: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def get(self, name: str, start: int = 0, length: int | None = None) -> Any:
        self.got.append(name)
        return self._store.get(name, start, length)

    def size(self, name: str) -> Any:
        self.sized.append(name)
        return self._store.size(name)

    def list(self, prefix: str = "") -> Any:
        self.listed.append(prefix)
        return self._store.list(prefix)


@pytest.fixture(scope="module")
def parted(house: Vault) -> Iterator[tuple[Vault, str, Counting]]:
    """The house with parts of 32 KiB, a document of 21 of them, and a store that counts."""
    own = house.reopened(part_size=PART)
    document = own.upload("alice", LONG, share=("bob",)).hex()
    wiring = own.app.extensions["docvault"]
    wiring.store = Counting(wiring.store)
    yield own, document, wiring.store
    own.close()


@pytest.mark.parametrize(("start", "stop"), BORDERS)
def test_a_range_over_the_borders_of_parts(
    parted: tuple[Vault, str, Counting], start: int, stop: int
) -> None:
    vault, document, _ = parted
    answer = get(vault, document, "bob", Range=f"bytes={start}-{stop - 1}")
    assert (answer.status_code, answer.data) == (206, LONG[start:stop])


@pytest.mark.parametrize("length", [1, 1024, PART])
@pytest.mark.parametrize("part", [0, 7, 20])
def test_a_small_range_reads_its_own_part_and_the_end_of_the_last(
    parted: tuple[Vault, str, Counting], part: int, length: int
) -> None:
    """However many parts there are: two requests to the store, one where it is the last part."""
    vault, document, store = parted
    store.got.clear(), store.sized.clear(), store.listed.clear()
    start = part * PART
    answer = get(vault, document, "bob", Range=f"bytes={start}-{start + length - 1}")
    assert answer.data == LONG[start : start + length]
    places = sorted(int(name.partition("/")[2], 16) // PART for name in store.got)
    assert set(places) == {part, 20} and len(places) <= 2
    assert (store.sized, store.listed) == ([], [])


def test_a_range_deep_in_a_part_costs_one_request_more(house: Vault) -> None:
    content = LONG * 3
    document = house.upload("alice", content).hex()
    wiring = house.app.extensions["docvault"]
    store = wiring.store = Counting(wiring.store)
    for start in (100, 500_000, 1_000_001):
        store.got.clear()
        assert get(house, document, Range=f"bytes={start}-{start + 9}").data == content[start : start + 10]
        assert len(store.got) <= 4, "a header and a range, of the part and of the last chunk"
    wiring.store = store._store


@pytest.mark.requirement(46)
def test_a_range_of_a_damaged_part_is_refused_and_one_beside_it_is_good(house: Vault) -> None:
    own = house.reopened(part_size=PART)
    document = own.upload("alice", LONG)
    path = Attacker(own).blob(document, 3)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:100] + b"?" + path.read_bytes()[101:])
    beside = get(own, document.hex(), Range=f"bytes={4 * PART}-{5 * PART - 1}")
    assert (beside.status_code, beside.data) == (206, LONG[4 * PART : 5 * PART])
    inside = get(own, document.hex(), Range=f"bytes={3 * PART + 5}-{3 * PART + 5}")
    assert (inside.status_code, inside.mimetype) == (500, "application/problem+json")
    own.close()


def test_an_old_tag_in_if_range_gives_the_whole_new_version(parted: tuple[Vault, str, Counting]) -> None:
    vault, _, _ = parted
    document = vault.upload("alice", LONG).hex()
    tag = get(vault, document).headers["ETag"]
    begun = get(vault, document, Range=f"bytes=0-{PART}").data
    vault.api("alice").put(f"/documents/{document}/content", data=LONG[::-1])
    answer = get(vault, document, Range=f"bytes={len(begun)}-", If_Range=tag)
    assert (answer.status_code, answer.data) == (200, LONG[::-1])
    new = answer.headers["ETag"]
    resumed = get(vault, document, Range=f"bytes={2 * PART}-", If_Range=new)
    assert (resumed.status_code, resumed.data) == (206, LONG[::-1][2 * PART :])


# New versions


def test_a_new_version_takes_the_place_of_the_old(house: Vault, document: str) -> None:
    answer = house.api("alice").put(
        f"/documents/{document}/content", data=b"second", content_type="text/plain"
    )
    assert answer.status_code == 200
    assert (answer.json["number"], answer.json["revision"], answer.json["size"]) == (2, 0, 6)
    assert answer.json["name"] == "a.bin", "it keeps its name"
    for name in ("alice", "bob"):
        assert get(house, document, name).data == b"second"


def test_a_new_version_may_bring_a_name(house: Vault, document: str) -> None:
    raw = house.api("alice").put(f"/documents/{document}/content?name=c.bin", data=b"third")
    assert raw.json["name"] == "c.bin"
    formed = house.api("alice").put(
        f"/documents/{document}/content", data=form(file(b"fourth", "d.bin")), content_type=CONTENT_TYPE
    )
    assert (formed.json["name"], formed.json["number"]) == ("d.bin", 3)


def test_a_cut_new_version_leaves_the_old_one(house: Vault, document: str) -> None:
    import io

    answer = house.api("alice").put(
        f"/documents/{document}/content",
        input_stream=io.BytesIO(b"half"),
        environ_overrides={"CONTENT_LENGTH": "8"},
    )
    assert answer.status_code == 400
    assert get(house, document).data == CONTENT
    assert house.api("alice").get(f"/documents/{document}").json["number"] == 1


def test_a_reader_cannot_replace(house: Vault, document: str) -> None:
    before = len(house.blob_files())
    assert house.api("bob").put(f"/documents/{document}/content", data=b"mine").status_code == 403
    assert house.api("charlie").put(f"/documents/{document}/content", data=b"mine").status_code == 404
    assert len(house.blob_files()) == before, "not a byte of it was stored"
