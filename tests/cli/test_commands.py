"""``docvault users``, ``keys``, ``check`` and ``sweep``, as an operator types them."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from tests.cast import Vault
from vault.cli import main
from vault.services import clock


@dataclass
class Command:
    """The ``docvault`` command, run in this process on a test's vault."""

    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def __call__(self, vault: Vault | None, *words: str, code: int = 0) -> str:
        """Run it; return what it prints, or what it says on standard error when it fails."""
        for name in [name for name in os.environ if name.startswith("DOCVAULT_")]:
            self.monkeypatch.delenv(name)
        if vault is not None:
            self.monkeypatch.setenv("DOCVAULT_INSTANCE", str(vault.instance))
        self.monkeypatch.setattr(sys, "argv", ["docvault", *words])
        self.capsys.readouterr()
        ended = 0
        try:
            main()
        except SystemExit as leaving:
            ended = int(leaving.code or 0)
        printed = self.capsys.readouterr()
        assert ended == code, printed.out + printed.err
        return printed.err if code == 1 else printed.out


@pytest.fixture
def docvault(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


def test_help_names_every_command(docvault: Command) -> None:
    said = docvault(None, "--help")
    for command in ("serve", "users", "keys", "check", "sweep"):
        assert re.search(rf"^  {command} ", said, re.MULTILINE)


def test_help_imports_no_server(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "vault.cli", "--help"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "sqlalchemy" not in done.stderr and "flask" not in done.stderr


# users


def test_an_invited_person_registers_with_the_printed_code(vault: Vault, docvault: Command) -> None:
    link = docvault(vault, "users", "invite", "erin").strip()
    code = link.rpartition("/invitation#")[2]
    answer = vault.api().post("/users", json={"username": "erin", "code": code})
    assert answer.status_code == 201
    said = docvault(vault, "users", "invite", "erin", code=1)
    assert "taken" in said


def test_users_are_listed(vault: Vault, docvault: Command) -> None:
    listed = json.loads(docvault(vault, "users", "list", "--json"))
    assert [(user["username"], user["role"], user["state"]) for user in listed] == [
        ("alice", "user", "active"), ("bob", "user", "active"),
        ("charlie", "user", "active"), ("dora", "admin", "active"),
    ]  # fmt: skip
    assert "charlie" in docvault(vault, "users", "list")


def test_disabling_takes_hold_at_the_next_request(vault: Vault, docvault: Command) -> None:
    api = vault.api("bob")
    assert api.get("/me").status_code == 200
    docvault(vault, "users", "disable", "bob")
    assert api.get("/me").status_code == 401
    docvault(vault, "users", "enable", "bob")
    assert api.get("/me").status_code == 401, "the old session stays ended"


def test_promote(vault: Vault, docvault: Command) -> None:
    docvault(vault, "users", "promote", "alice")
    assert vault.api("alice").get("/accounts").status_code == 200


def test_the_last_administrator_stays(vault: Vault, docvault: Command) -> None:
    assert "last administrator" in docvault(vault, "users", "disable", "dora", code=1)


def test_an_unknown_user_is_said_so(vault: Vault, docvault: Command) -> None:
    assert "no such account" in docvault(vault, "users", "disable", "nobody", code=1)


# keys


def test_generate_prints_a_key_or_makes_a_private_file(tmp_path: Path, docvault: Command) -> None:
    keys = {docvault(None, "keys", "generate").strip() for _ in range(3)}
    assert len(keys) == 3 and all(re.fullmatch("[0-9a-f]{64}", key) for key in keys)
    file = tmp_path / "master.key"
    docvault(None, "keys", "generate", "--output", str(file))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    before = file.read_text()
    docvault(None, "keys", "generate", "--output", str(file), code=1)
    assert file.read_text() == before


def test_status_counts_rows_by_key_and_prints_none(vault: Vault, docvault: Command) -> None:
    (line,) = json.loads(docvault(vault, "keys", "status", "--json"))
    assert line["configured"] and line["seals"] and line["rows"] > 10
    key = (vault.instance / "master.key").read_text().strip()
    assert key[:16] not in docvault(vault, "keys", "status")


# check and sweep


def test_check_says_that_a_whole_vault_is_whole(vault: Vault, docvault: Command) -> None:
    vault.upload("alice", bytes(20_000), share=("bob",))
    assert "Everything is whole." in docvault(vault, "check")


def test_i1_a_lost_and_a_short_blob_are_found(vault: Vault, docvault: Command) -> None:
    for content in (b"one", b"two"):
        vault.upload("alice", content)
    lost, short = vault.blob_files()
    lost.unlink()
    short.write_bytes(short.read_bytes()[:-1])
    said = docvault(vault, "check", code=2)
    assert said.count("I1  blob") == 2 and "is lost" in said and "should be" in said


def test_i2_an_edited_row_is_found(vault: Vault, docvault: Command) -> None:
    document = vault.upload("alice")
    with vault.database() as database:
        database.execute("UPDATE document SET readers = 7")
    report = json.loads(docvault(vault, "check", "--json", code=2))
    assert not report["whole"]
    assert any(f["invariant"] == "I2" and document.hex() in f["text"] for f in report["findings"])


def test_i3_and_i4_a_removed_grant_is_found(vault: Vault, docvault: Command) -> None:
    vault.upload("alice", share=("bob",))
    with vault.database() as database:
        database.execute("DELETE FROM shared_key_registry WHERE permission = 'owner'")
    said = docvault(vault, "check", code=2)
    assert "I3" in said and "I4" in said


def test_i5_a_blob_that_nothing_names_is_reported_and_kept(vault: Vault, docvault: Command) -> None:
    stray = vault.blobs / ("ab" * 16) / ("0" * 16)
    stray.parent.mkdir()
    stray.write_bytes(b"whose?")
    old = (clock.now() - timedelta(hours=3)).timestamp()
    os.utime(stray, (old, old))
    assert "I5" in docvault(vault, "check", code=2)
    docvault(vault, "sweep")
    assert stray.exists(), "nothing is destroyed because no row names it"


def test_i8_an_upload_stuck_past_its_expiry_is_found_and_swept(
    vault: Vault, docvault: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched, vault.services() as bundle:
        past = clock.now() - timedelta(days=9)
        patched.setattr(clock, "now", lambda: past)
        with pytest.raises(OSError, match="gone"):
            bundle.uploads.receive(vault.alice.account, _breaks_off, name="x", length=9_000_000)
    assert "I8" in docvault(vault, "check", code=2)
    assert json.loads(docvault(vault, "sweep", "--json"))["uploads"] == 1
    assert "whole" in docvault(vault, "check")


def _breaks_off(size: int) -> bytes:
    raise OSError("gone")


def test_the_sweep_refuses_to_run_while_the_chain_is_broken(vault: Vault, docvault: Command) -> None:
    document = vault.upload("alice")
    with vault.services() as bundle:
        bundle.documents.delete(vault.alice.account, [document])
    with vault.database() as database:
        database.execute("UPDATE audit_entry SET detail = 'edited' WHERE sequence = 3")
    assert "position 3" in docvault(vault, "sweep", code=1)
    assert len(vault.blob_files()) == 1, "nothing is destroyed"
