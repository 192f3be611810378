"""Zips: names that extract anywhere, exact lengths, what is proved before the first byte, what cuts one short."""

from __future__ import annotations

import io
import shutil
import subprocess
import threading
import tracemalloc
import unicodedata
import zipfile
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path, PureWindowsPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.attacks.attacker import Attacker, failures
from tests.cast import Vault, reader
from tests.faults.test_downloads import Failing, cuts, no_thread_is_left
from vault.errors import BadInput, NotFound, Unreadable, VaultError
from vault.services import clock
from vault.services.zips import LONGEST, names_in_zip, safe_name

PART = 32768
LONG = bytes(i * i % 251 for i in range(3 * PART + 100))


@pytest.fixture
def parted(vault: Vault) -> Iterator[Vault]:
    own = vault.reopened(part_size=PART)
    yield own
    own.close()


def stored(vault: Vault, name: str, content: bytes = b"hello", path: tuple[str, ...] = ()) -> bytes:
    """A document of Alice's that Bob reads, in a folder."""
    document = vault.upload("alice", content, name=name, share=("bob",))
    if path:
        with vault.services() as bundle:
            bundle.documents.rename(vault.alice.account, document, path=path)
    return document


def zipped(vault: Vault, who: str, documents: list[bytes]) -> tuple[str, bytes]:
    """The name of a zip and its bytes, which are as many as was said."""
    with vault.services() as bundle:
        opened = bundle.zips.open(vault.members[who].account, documents)
        content = b"".join(opened.stream())
    assert len(content) == opened.size
    return opened.name, content


def members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        return {info.filename: archive.read(info) for info in archive.infolist()}


# What is in it


def test_documents_come_with_their_folders_names_contents_and_times(parted: Vault) -> None:
    texts = {"a.txt": b"", "b.bin": LONG, "Żółć 契約書 🗝.txt": b"unicode", "c": b"x" * PART}
    ids = [stored(parted, name, content) for name, content in texts.items()]
    ids.append(stored(parted, "deep.txt", b"deep", ("2026", "März")))
    for who in ("alice", "bob"):
        assert members(zipped(parted, who, ids)[1]) == texts | {"2026/März/deep.txt": b"deep"}
    with zipfile.ZipFile(io.BytesIO(zipped(parted, "bob", ids)[1])) as archive:
        infos = archive.infolist()
    now = datetime.now(UTC)
    for info in infos:
        assert info.compress_type == zipfile.ZIP_STORED
        assert bool(info.flag_bits & 0x800) == (not info.filename.isascii()), "the flag that says UTF-8"
        made = datetime(*info.date_time, tzinfo=UTC)
        assert now - timedelta(minutes=30) < made <= now
        assert info.external_attr >> 16 & 0o7777 == 0o600


def test_a_time_is_that_of_the_version(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    then = datetime(2031, 5, 6, 7, 8, 10, tzinfo=UTC)
    with monkeypatch.context() as patch:
        patch.setattr(clock, "now", lambda: then)
        document = vault.upload("alice")
    with zipfile.ZipFile(io.BytesIO(zipped(vault, "alice", [document])[1])) as archive:
        assert archive.infolist()[0].date_time == (2031, 5, 6, 7, 8, 10)


def test_unzip_takes_it(parted: Vault, tmp_path: Path) -> None:
    ids = [
        stored(parted, "a.txt", b""),
        stored(parted, "b.bin", LONG, ("x", "é")),
        stored(parted, "b.bin", LONG),
    ]
    file = tmp_path / "a.zip"
    file.write_bytes(zipped(parted, "bob", ids)[1])
    unzip = shutil.which("unzip")
    command = [unzip, "-t"] if unzip else ["python3", "-m", "zipfile", "-t"]
    done = subprocess.run([*command, str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_current_version_is_in_it_once(vault: Vault) -> None:
    document = stored(vault, "a.txt", b"first")
    with vault.services() as bundle:
        bundle.uploads.receive(vault.alice.account, reader(b"second"), document_id=document)
    assert members(zipped(vault, "bob", [document, document])[1]) == {"a.txt": b"second"}


def test_it_is_named_after_the_one_folder_or_the_day(vault: Vault) -> None:
    day = f"documents-{datetime.now(UTC):%Y-%m-%d}.zip"
    one, two = stored(vault, "a", path=("x", "Tax: 2026")), stored(vault, "b", path=("x", "Tax: 2026"))
    loose, other = stored(vault, "c"), stored(vault, "d", path=("x",))
    assert zipped(vault, "alice", [one, two])[0] == "Tax_ 2026.zip"
    for ids in ([loose], [loose, one], [one, other]):
        assert zipped(vault, "alice", ids)[0] == day


def test_each_document_is_in_the_audit_log(vault: Vault) -> None:
    ids = [stored(vault, name) for name in "abc"]
    zipped(vault, "bob", ids)
    begun = [entry[1] for entry in vault.audit() if entry[0] == "download"]
    assert begun == [document.hex() for document in ids]
    assert cuts(vault) == [], "who took everything has not gone away"


@pytest.mark.parametrize("count", [0, 1001])
def test_none_and_too_many_are_refused(vault: Vault, count: int) -> None:
    with vault.services() as bundle, pytest.raises(BadInput):
        bundle.zips.open(vault.alice.account, [bytes([1]) * 14 + n.to_bytes(2, "big") for n in range(count)])


# Names


def test_names_are_made_safe() -> None:
    for name, safe in {
        "a.txt": "a.txt", "..": "_", ".": "_", " . . ": "_", "../../etc/passwd": ".._.._etc_passwd",
        "C:\\Windows\\a.dll": "C__Windows_a.dll", "/abs": "_abs", "a\nb\x00c\x7f": "a_b_c_",
        'a<b>|?*".txt': "a_b_____.txt",
        "con": "_con", "CON.txt": "_CON.txt", "Lpt1 .tar.gz": "_Lpt1 .tar.gz", "com²": "_com²", "console": "console",
        "NUL.": "_NUL", "end.": "end", "end ": "end", ".hidden": ".hidden", "é" * 200 + ".pdf": "é" * 125 + ".pdf",
        "a" * 300: "a" * 255, "x" * 250 + "." + "y" * 30: "x" * 250 + ".yyyy", "\u2028": "_",
    }.items():  # fmt: skip
        assert safe_name(name) == safe, ascii(name)


def test_no_two_names_are_one_to_any_system() -> None:
    documents: list[tuple[tuple[str, ...], str]] = [
        ((), "a.txt"), ((), "A.TXT"), ((), "a.txt"), ((), "a (2).txt"), (("x",), "a.txt"), ((), "x"), (("X",), "b"),
        ((), "é"), ((), "e\u0301"), ((), "a:b"), ((), "a?b"), (("y", "z"), "w"), (("y",), "z"), ((), "n" * 255),
        ((), "n" * 255), ((), ".hidden"), ((), ".hidden"),
    ]  # fmt: skip
    names = names_in_zip(documents)
    assert names == [
        "a.txt", "A (2).TXT", "a (3).txt", "a (2) (2).txt", "x/a.txt", "x (2)", "X/b",
        "é", "e\u0301 (2)", "a_b", "a_b (2)", "y/z/w", "y/z (2)", "n" * 255,
        "n" * 251 + " (2)", ".hidden", ".hidden (2)",
    ]  # fmt: skip


def test_a_thousand_of_one_name_are_named_quickly() -> None:
    names = names_in_zip([((), "same.txt")] * 1000)
    assert names[0] == "same.txt" and names[-1] == "same (1000).txt" and len(set(names)) == 1000


ANY_NAME = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300)


@given(st.lists(st.tuples(st.lists(ANY_NAME, max_size=3).map(tuple), ANY_NAME), min_size=1, max_size=6))
def test_whatever_the_names_are_they_extract_inside(documents: list[tuple[tuple[str, ...], str]]) -> None:
    names = names_in_zip(documents)
    folded = {unicodedata.normalize("NFKC", name).casefold() for name in names}
    assert len(folded) == len(documents)
    for name in names:
        assert not any(other.startswith(f"{name}/") for other in names), "a file and a folder of one name"
        for part in name.split("/"):
            assert part not in {"", ".", ".."} and part == part.rstrip(" .") and len(part.encode()) <= LONGEST
            assert not any(c in '\\:*?"<>|' or unicodedata.category(c) == "Cc" for c in part)
            assert not PureWindowsPath(part).is_reserved()


def test_hostile_names_are_extracted_inside(vault: Vault, tmp_path: Path) -> None:
    names = ["..\\..\\up.txt", "C:\\a.txt", "CON", "a\u202egnp.exe", "W" * 251 + ".txt", "~", "-rf", "$(id)"]
    ids = [stored(vault, name, name.encode()) for name in names]
    _, content = zipped(vault, "bob", ids)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        archive.extractall(tmp_path / "out" / "in")
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert sorted(path.read_bytes() for path in files) == sorted(name.encode() for name in names)
    assert all(path.parent == tmp_path / "out" / "in" for path in files)


# Lengths


def test_lengths_are_exact_beyond_four_gibibytes(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Zip64: nothing of that size is stored here; its members claim it, and give it."""
    block = bytes(2**24)
    sizes = [2**31 - 1, 0, 2**32 + 5, 2**31, 1]
    ids = [stored(vault, f"{number}.bin") for number in range(len(sizes))]
    with vault.services() as bundle:
        opened_many = bundle.downloads.open_many

        def claimed(*asked: Any) -> list[Any]:
            found = opened_many(*asked)
            for member, size in zip(found, sizes, strict=True):
                object.__setattr__(member, "manifest", member.manifest._replace(size=size))
            return found

        def given(account: Any, document: bytes, pieces: Any) -> Iterator[bytes]:
            left = sizes[ids.index(document)]
            while left:
                yield block[:left]
                left -= min(left, len(block))

        monkeypatch.setattr(bundle.downloads, "open_many", claimed)
        monkeypatch.setattr(bundle.downloads, "verified", given)
        opened = bundle.zips.open(vault.alice.account, ids)
        tail, count = b"", 0
        for piece in opened.stream():
            count += len(piece)
            tail = (tail + piece)[-5000:]
    assert count == opened.size > 2**33
    assert b"PK\x06\x06" in tail and b"PK\x06\x07" in tail, "the zip64 end of the directory"


def test_no_document_is_held_whole(vault: Vault) -> None:
    size = 24 * 2**20
    ids = [stored(vault, f"{number}.bin", bytes(size)) for number in range(2)]
    with vault.services() as bundle:
        opened = bundle.zips.open(vault.bob.account, ids)
        tracemalloc.start()
        count = sum(map(len, opened.stream()))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert count == opened.size > 2 * size
    assert peak < 4 * 2**20


# Who may, and what is found before the first byte


def test_one_document_that_one_may_not_read_is_the_answer_for_all(vault: Vault) -> None:
    own, foreign = vault.upload("charlie", b"own"), vault.upload("alice", b"foreign")
    for other in (foreign, bytes(16)):
        with vault.services() as bundle, pytest.raises(NotFound):
            bundle.zips.open(vault.charlie.account, [own, other])


def test_damage_that_can_be_known_is_found_before_the_first_byte(parted: Vault) -> None:
    good = stored(parted, "good.bin", LONG)
    for number, part in enumerate((0, 1, 3)):
        bad = stored(parted, f"{number}.bin", LONG)
        path = Attacker(parted).blob(bad, part)
        path.chmod(0o600)
        path.write_bytes(path.read_bytes()[:-1]) if number else path.unlink()
        with parted.services() as bundle:
            opened = bundle.zips.open(parted.bob.account, [good, bad])
            with pytest.raises(Unreadable):
                opened.stream()
        assert failures(parted)[-1][0] == bad.hex()
    last = stored(parted, "last.bin", LONG)
    path = Attacker(parted).blob(last, 3)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:80] + b"????" + path.read_bytes()[84:])
    with parted.services() as bundle:
        opened = bundle.zips.open(parted.bob.account, [good, last])
        with pytest.raises(Unreadable):
            opened.stream()
    assert not any(entry[0] == "download" for entry in parted.audit()), "nothing was sent"


# What cuts one short


def begin(
    vault: Vault, ids: list[bytes], act: Any, beyond: int = 2 * PART
) -> tuple[bytes, type[VaultError] | None, int]:
    """Take a zip as Bob, let something happen once more than ``beyond`` bytes came, and take what still comes."""
    with vault.services() as bundle:
        opened = bundle.zips.open(vault.bob.account, ids)
        found, happened, stream = b"", False, opened.stream()
        with closing(stream):  # type: ignore[type-var]
            try:
                for piece in stream:
                    found += piece
                    if not happened and len(found) > beyond:
                        happened = True
                        act()
            except VaultError as error:
                return found, type(error), opened.size
    return found, None, opened.size


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("end", ["revoke", "delete"])
@pytest.mark.requirement(38)
def test_a_right_that_ends_cuts_the_zip_within_one_part(parted: Vault, which: int, end: str) -> None:
    ids = [stored(parted, f"{number}.bin", LONG) for number in range(2)]

    def act() -> None:
        with parted.services() as bundle:
            if end == "revoke":
                bundle.sharing.revoke(parted.alice.account, [ids[which]], ["bob"])
            else:
                bundle.documents.delete(parted.alice.account, [ids[which]])

    found, error, size = begin(parted, ids, act)
    assert error is NotFound
    assert len(found) < (2 * PART + 1000 if which == 0 else len(LONG) + 1000) < size
    assert cuts(parted) == [(ids[which].hex(), "revoked" if end == "revoke" else "deleted")]


def test_damage_in_the_middle_cuts_the_zip_and_tells_which(parted: Vault) -> None:
    ids = [stored(parted, f"{number}.bin", LONG) for number in range(3)]
    path = Attacker(parted).blob(ids[1], 1)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:80] + b"????" + path.read_bytes()[84:])
    found, error, size = begin(parted, ids, lambda: None)
    assert error is Unreadable and len(found) < size
    first, _, more = found.partition(LONG)
    assert len(first) < 100 and LONG[:PART] in more and LONG[: PART + 1] not in more
    assert [event[0] for event in failures(parted)] == [ids[1].hex()]


@pytest.mark.parametrize("pieces", [1, 3, 7, 8])
def test_who_goes_away_leaves_nothing_behind(parted: Vault, pieces: int) -> None:
    """A member is its header, its pieces (here four), and what says its checksum."""
    ids = [stored(parted, f"{number}.bin", LONG) for number in range(3)]
    with Failing(parted) as store:
        with parted.services() as bundle:
            opened = bundle.zips.open(parted.bob.account, ids)
            stream: Any = opened.stream()
            for _ in range(pieces):
                next(stream)
            stream.close()
        assert no_thread_is_left()
        assert store.open == 0
    assert cuts(parted) == [(ids[pieces // 7].hex(), "aborted")]


def test_a_far_store_is_asked_ahead_from_one_document_to_the_next(parted: Vault) -> None:
    ids = [stored(parted, f"{number}.bin", b"x" * 1000) for number in range(4)]
    names = [Attacker(parted).blob_names(document)[0] for document in ids]
    asked_ahead = threading.Event()
    with Failing(parted) as store, parted.services() as bundle:
        opened = bundle.zips.open(parted.bob.account, ids)
        stream: Any = opened.stream()
        assert store.asked == names, "each proved"
        store.before_get = lambda name: asked_ahead.set() if name == names[1] else None
        with closing(stream):
            assert next(stream).startswith(b"PK") and next(stream) == b"x" * 1000
            assert asked_ahead.wait(10)
            assert names[3] not in store.asked[4:]
            rest = b"".join(stream)
        assert rest.count(b"x" * 1000) == 3
    assert no_thread_is_left()
