"""The archives of all releases open for ever: by ``docvault recover``, by a second reader, and as a running vault."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.cast import Vault, settings_for
from tests.cli.commands import Command
from tests.servers.vault import ROOT

ARCHIVES = ROOT / "tests" / "archives"
RELEASES = {"0.1.0": "046339de687458cc5fc8e7b0d43f346db2b57af0c91db1bb12445a4c7f1b8185"}
SECOND_READER = ROOT / "docs" / "second_reader.py"


@pytest.fixture(params=sorted(RELEASES))
def archived(request: pytest.FixtureRequest) -> Path:
    """The folder of each release in turn."""
    folder: Path = ARCHIVES / request.param
    return folder


def secrets(archived: Path, name: str) -> list[str]:
    return (archived / f"{name}.txt").read_text().splitlines()


def expected(archived: Path, name: str) -> dict[str, str]:
    found: dict[str, str] = json.loads((archived / "documents.json").read_text("utf-8"))[name]
    return found


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_no_archive_was_changed() -> None:
    found = {
        path.parent.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in ARCHIVES.glob("*/archive.tar")
    }
    assert found == RELEASES


@pytest.mark.parametrize(
    ("name", "words"),
    [("alice", []), ("alice", ["--recovery-code"]), ("bob", [])],
    ids=["alice", "code", "bob"],
)
def test_recover_opens_it(
    archived: Path,
    fresh: Command,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
    words: list[str],
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(secrets(archived, name)[bool(words)] + "\n"))
    ended = fresh(
        "recover", "--backup", str(archived / "archive.tar"), "--user", name, "--secret-stdin",
        "--master-key-file", str(archived / "master.key"), "--output", str(tmp_path / "out"), *words,
    )  # fmt: skip
    assert ended.code == 0, ended.text
    assert digests(tmp_path / "out") == expected(archived, name)


def read_by_the_second(
    archive: Path, archived: Path, folder: Path, *words: str
) -> subprocess.CompletedProcess[str]:
    """Run the second reader in a process that sees nothing of the vault."""
    shutil.copy(SECOND_READER, folder.parent / "second_reader.py")
    return subprocess.run(
        [sys.executable, "-I", folder.parent / "second_reader.py", archive, "alice", archived / "master.key", folder,
         *words],
        input=secrets(archived, "alice")[bool(words)] + "\n",
        capture_output=True, text=True, encoding="utf-8", timeout=120, check=False,
    )  # fmt: skip


def test_must_show_6_a_second_reader_written_from_the_format_opens_it(archived: Path, tmp_path: Path) -> None:
    """It imports nothing of the vault, and refuses what does not fit: it checks, and does not just decrypt."""
    source = SECOND_READER.read_text()
    assert not re.search(r"^\s*(import|from) (vault|blake3)\b", source, re.MULTILINE)
    for folder, words in (("by-passphrase", ()), ("by-code", ("--recovery-code",))):
        done = read_by_the_second(archived / "archive.tar", archived, tmp_path / folder, *words)
        assert done.returncode == 0, done.stdout + done.stderr
        assert sorted(digests(tmp_path / folder).values()) == sorted(expected(archived, "alice").values())
    whole = (archived / "archive.tar").read_bytes()
    with tarfile.open(archived / "archive.tar") as tar:
        largest = max((info for info in tar if info.name.startswith("blobs/")), key=lambda info: info.size)
    at = largest.offset_data + 20_000
    (tmp_path / "changed").write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    done = read_by_the_second(tmp_path / "changed", archived, tmp_path / "changed-out")
    assert done.returncode == 1 and done.stdout.count("refused ") == 1, done.stdout + done.stderr
    (tmp_path / "edited").write_bytes(whole.replace(b'"readers":["i",0]', b'"readers":["i",1]'))
    done = read_by_the_second(tmp_path / "edited", archived, tmp_path / "edited-out")
    assert done.returncode == 1 and "does not bear its seal" in done.stdout + done.stderr


def test_a_vault_comes_of_it(archived: Path, fresh: Command, tmp_path: Path) -> None:
    """Restored with its own schema, migrated to this release's, checked, logged in to, read."""
    fresh.instance.mkdir(mode=0o700)
    shutil.copy(archived / "master.key", fresh.instance / "master.key")
    (fresh.instance / "master.key").chmod(0o600)
    ended = fresh("restore", str(archived / "archive.tar"))
    assert ended.code == 0 and "Everything is whole." in ended.out, ended.text
    vault = Vault(fresh.instance, settings_for(fresh.instance))
    with vault.services() as bundle:
        passphrase = secrets(archived, "alice")[0]
        account = bundle.sessions.log_in("alice", passphrase, address="127.0.0.1", client="tests").account
        found = {}
        for item in bundle.lists.page(account).items:
            opened = bundle.downloads.open(account, item.id)
            content = b"".join(opened.stream(0, opened.size))
            found["/".join([*item.path, item.name])] = hashlib.sha256(content).hexdigest()
    vault.close()
    assert found == expected(archived, "alice")
