"""``docvault backup`` and ``restore`` as an operator types them, and the restore drill."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.attacks.attacker import flip
from tests.cast import MASTER_KEY, Vault, reader
from tests.cli.commands import Command
from tests.servers.postgres import PostgresServer
from tests.servers.s3 import S3Server
from tests.servers.vault import DOCVAULT, environment_of, start_vault
from vault.config import load_settings


def test_an_archive_is_a_new_file_for_its_owner_alone(command: Command, vault: Vault, tmp_path: Path) -> None:
    vault.upload("alice", b"a" * 50_000, "a")
    archive = tmp_path / "archive"
    ended = command("backup", str(archive))
    assert ended.code == 0, ended.text
    assert "1 of 1 blobs" in ended.out
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    assert not archive.with_name("archive.part").exists()
    again = command("backup", str(archive))
    assert again.code == 1 and "is there already" in again.err
    archive.with_name("other.part").touch()
    running = command("backup", str(archive.with_name("other")))
    assert running.code == 1 and "is being written, or one broke off" in running.err
    nowhere = command("backup", str(tmp_path / "no" / "where"))
    assert nowhere.code == 1 and "cannot be written" in nowhere.err


def test_what_is_lost_or_damaged_is_exit_code_2_and_named(
    command: Command, vault: Vault, tmp_path: Path
) -> None:
    vault.upload("alice", b"a" * 50_000, "a")
    vault.upload("alice", b"b" * 50_000, "b")
    one, two = vault.blob_files()
    one.unlink()
    flip(two, -1)
    names = [f"{path.parent.name}/{path.name}" for path in (one, two)]
    ended = command("backup", str(tmp_path / "archive"))
    assert ended.code == 2
    assert f"{names[0]}: is lost" in ended.out and f"{names[1]}: is damaged" in ended.out
    told = json.loads(command("backup", str(tmp_path / "other"), "--json").out)
    assert (told["lost"], told["damaged"], told["whole"]) == ([names[0]], [names[1]], False)


def test_an_archive_goes_through_a_pipe_and_a_disk_that_is_full_leaves_nothing(
    command: Command, vault: Vault, tmp_path: Path
) -> None:
    vault.upload("alice", b"a" * 50_000, "a")
    environment = {**environment_of(vault.instance), "PATH": ""}
    done = subprocess.run(
        [*DOCVAULT, "backup", "-", "--without-blobs"],
        env=environment,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"0 of 1 blobs" in done.stderr
    (tmp_path / "piped").write_bytes(done.stdout)
    key, other = vault.instance / "master.key", tmp_path / "other"
    command.set(instance=other)
    other.mkdir(mode=0o700)
    absent = command("restore", str(tmp_path / "piped"))
    assert absent.code == 1 and "There is no master key" in absent.err
    assert list(other.iterdir()) == []
    shutil.copy(key, other / "master.key")
    ended = command("restore", str(tmp_path / "piped"), "--json")
    told = json.loads(ended.out)
    assert (ended.code, told["whole"], told["blobs"]) == (2, False, 0)
    (finding,) = told["findings"]
    assert finding["invariant"] == "I1" and "is lost" in finding["text"]
    command.set(instance=vault.instance)
    full = Path("/dev/full")
    with full.open("wb") as sink:
        done = subprocess.run(
            [*DOCVAULT, "backup", "-"],
            env=environment,
            stdout=sink,
            stderr=subprocess.PIPE,
            timeout=120,
            check=False,
        )
    assert done.returncode == 1 and b"could not be written" in done.stderr


def test_f29_the_restore_drill(
    fresh: Command,
    postgresql: PostgresServer,
    seaweedfs: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A backup is taken while people upload, restored on the other database and store, and from there back again.

    At each end `check` finds everything whole, the user logs in and reads, and `recover` reads without a server.
    """
    folder = {"database_url": "", "storage": "folder"}
    bucket = {
        name.removeprefix("DOCVAULT_").lower(): value for name, value in seaweedfs.environment().items()
    }
    away = {"database_url": postgresql.new_database(), **bucket}
    fresh.set(master_key=MASTER_KEY, part_size=65536)
    server = start_vault(tmp_path / "home", workers=1, threads=4, part_size=65536, master_key=MASTER_KEY)
    passphrase = server.register("alice")
    try:
        with server.client(server.log_in("alice", passphrase)) as client:
            kept = os.urandom(200_000)
            document = client.post("/documents?name=kept.bin", content=kept).raise_for_status().json()["id"]
            fresh.set(instance=tmp_path / "home")
            done = _while_uploading(client, lambda: fresh("backup", str(tmp_path / "live.tar")))
    finally:
        server.stop()
    assert done.code == 0, done.text
    for name, archive, given in (("away", "live.tar", away), ("back", "away.tar", folder)):
        (tmp_path / name).mkdir(mode=0o700)
        done = fresh.set(instance=tmp_path / name, **given)("restore", str(tmp_path / archive))
        assert done.code == 0 and "Everything is whole." in done.out, done.text
        done = fresh("backup", str(tmp_path / f"{name}.tar"))
        assert done.code == 0, done.text
    vault = Vault(tmp_path / "back", load_settings(_env_file=None))
    with vault.services() as bundle:
        account = bundle.sessions.log_in("alice", passphrase, address="127.0.0.1", client="tests").account
        opened = bundle.downloads.open(account, bytes.fromhex(document))
        assert b"".join(opened.stream(0, opened.size)) == kept
        bundle.uploads.receive(account, reader(b"after the restore"), name="after.txt")
        assert bundle.check.run().findings == []
    vault.close()
    monkeypatch.setattr(sys, "stdin", io.StringIO(passphrase + "\n"))
    words = ("--user", "alice", "--secret-stdin", "--output", str(tmp_path / "out"))
    done = fresh("recover", "--backup", str(tmp_path / "back.tar"), *words)
    assert done.code == 0, done.text
    assert (tmp_path / "out" / "kept.bin").read_bytes() == kept


def _while_uploading(client: httpx.Client, act: Any) -> Any:
    """Do something while documents come, change and go in another thread; at least one comes before and one after."""
    begun, over, errors = threading.Event(), threading.Event(), []

    def upload() -> None:
        try:
            number = 0
            while not over.is_set():
                number += 1
                answer = client.post(f"/documents?name={number}.bin", content=bytes([number % 256]) * 100_000)
                made = answer.raise_for_status().json()["id"]
                if number % 2:
                    client.delete(f"/documents/{made}").raise_for_status()
                if number == 2:
                    begun.set()
        except Exception as error:  # noqa: BLE001
            errors.append(error)
            begun.set()

    thread = threading.Thread(target=upload)
    thread.start()
    try:
        assert begun.wait(60)
        return act()
    finally:
        over.set()
        thread.join()
        assert errors == []
