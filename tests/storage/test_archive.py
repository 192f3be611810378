"""The archive of a backup: what was written is read at any place, and what is none is refused."""

from __future__ import annotations

import io
import tarfile
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path

import pytest

from vault.errors import Misconfigured, Missing, StoreFull, StoreUnavailable
from vault.storage.archive import PIECE, ArchiveReader, ArchiveWriter, NotAnArchive, new_archive

NOW = datetime(2026, 11, 27, tzinfo=UTC)
NAMES = [f"{n:032x}/{0:016x}" for n in range(3)]
SUFFIXED = f"{7:032x}/{0:016x}.{9:016x}"


def written(path: Path, *, end: bool = True) -> Path:
    """An archive with two tables, one of them in several members, and four blobs."""
    with path.open("wb") as file:
        writer = ArchiveWriter(file, NOW)
        writer.begin({"with_blobs": True, "tables": []})
        for n in range(3):
            writer.row("wide_table", f"{n}".encode() * (PIECE // 2 + 1) + b"\n")
        writer.row("user", b"alice\n")
        for name in [*NAMES, SUFFIXED]:
            writer.name_blob(name, 5)
        writer.end_lines()
        for name in [*NAMES, SUFFIXED]:
            writer.blob(name, name[-5:].encode())
        if end:
            writer.end({"lost": []})
    return path


def test_rows_and_blobs_are_read_at_any_place(tmp_path: Path) -> None:
    with ArchiveReader(written(tmp_path / "archive")) as archive:
        assert archive.is_whole and archive.has_blobs
        assert [line[:1] for line in archive.rows("wide_table")] == [b"0", b"1", b"2"]
        assert list(archive.rows("user")) == [b"alice\n"] and list(archive.rows("nothing")) == []
        assert list(archive.named()) == [(name, 5) for name in [*NAMES, SUFFIXED]]
        assert list(archive.blobs()) == [*NAMES, SUFFIXED]
        with archive.get(SUFFIXED, 1, 2) as blob:
            assert (blob.size, blob.read(1), blob.read(), blob.read()) == (
                5,
                SUFFIXED[-4:-3].encode(),
                SUFFIXED[-3:-2].encode(),
                b"",
            )
        with archive.get(NAMES[0], 9) as blob:
            assert blob.read() == b""
        with pytest.raises(Missing):
            archive.get(f"{99:032x}/{0:016x}")
        with pytest.raises(ValueError, match="not the name of a blob"):
            archive.get("../../etc/passwd")
        end = archive.end
        assert end is not None
        assert end["rows"] == {"user": 1, "wide_table": 3} and (end["blobs"], end["blob_bytes"]) == (4, 20)


def test_any_tar_reads_it(tmp_path: Path) -> None:
    with tarfile.open(written(tmp_path / "archive")) as tar:
        names = tar.getnames()
        assert all(info.isreg() and info.mode == 0o600 for info in tar)
    assert names[0] == "backup.json" and names[-1] == "end.json"
    assert names[1:5] == [
        "rows/wide_table/000001",
        "rows/wide_table/000002",
        "rows/user/000001",
        "list/000001",
    ]


def test_one_that_was_cut_anywhere_is_not_whole_and_opens_as_far_as_it_goes(tmp_path: Path) -> None:
    whole = written(tmp_path / "archive").read_bytes()
    with ArchiveReader(written(tmp_path / "no-end", end=False)) as archive:
        assert not archive.is_whole and len(list(archive.blobs())) == 4
    for length in (len(whole) - 2048, len(whole) - 2000, len(whole) - 5000, PIECE):
        (tmp_path / "cut").write_bytes(whole[:length])
        with ArchiveReader(tmp_path / "cut") as archive:
            assert not archive.is_whole


def _tar(*members: tuple[str, bytes], kind: bytes = tarfile.REGTYPE) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = len(data), kind, "/etc/passwd"
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


GOOD = ("backup.json", b'{"format": "docvault-backup", "version": 1}')


@pytest.mark.parametrize(
    "content",
    [
        b"", b"x" * 5000, bytes(10240), b"\x1f\x8b" + bytes(600), _tar(("other.json", b"{}")),
        _tar(("end.json", b"{}")), _tar(("backup.json", b"{")), _tar(("backup.json", b"[]")),
        _tar(("backup.json", b"[" * 99999)),
        _tar(("backup.json", b'{"format": "docvault-backup", "version": 2}')),
        _tar(GOOD, GOOD), _tar(GOOD, ("../rows/user/000001", b"")), _tar(GOOD, ("rows/user/../../x", b"")),
        _tar(GOOD, ("/etc/passwd", b"")), _tar(GOOD, ("rows/user/000001", b""), kind=tarfile.SYMTYPE),
        _tar(GOOD, ("end.json", b"nonsense")),
    ],
)  # fmt: skip
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "archive").write_bytes(content)
    with pytest.raises(NotAnArchive):
        ArchiveReader(tmp_path / "archive")
    with pytest.raises(Misconfigured):
        ArchiveReader(tmp_path / "absent")


def test_an_archive_that_shrinks_while_it_is_read_says_so(tmp_path: Path) -> None:
    with ArchiveReader(written(tmp_path / "archive")) as archive:
        (tmp_path / "archive").write_bytes(b"")
        with archive.get(NAMES[0]) as blob, pytest.raises(StoreUnavailable):
            blob.read()


def test_a_file_gets_its_name_when_it_is_whole_and_never_takes_anothers(tmp_path: Path) -> None:
    path = tmp_path / "archive"
    with pytest.raises(KeyboardInterrupt), new_archive(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(Misconfigured, match="already"), new_archive(path) as file:
        file.write(b"mine")
        path.write_bytes(b"another's")
    assert path.read_bytes() == b"another's" and list(tmp_path.iterdir()) == [path]
    with pytest.raises(StoreFull), open("/dev/full", "wb", buffering=0) as full:
        ArchiveWriter(full, NOW).begin({})


def test_memory_is_bounded_while_it_is_written() -> None:
    """Fifty blobs of four megabytes and as many rows take no more than a few of each."""
    with open("/dev/null", "wb") as nowhere:
        writer = ArchiveWriter(nowhere, NOW)
        line, blob = b"x" * 200 + b"\n", bytes(2**22)
        tracemalloc.start()
        for n in range(50):
            for _ in range(2000):
                writer.row("user", line)
            writer.blob(f"{n:032x}/{0:016x}", blob)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 3 * PIECE
