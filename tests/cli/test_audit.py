"""``docvault audit verify | export | anchor``, and what the other commands do while the vault is read-only."""

from __future__ import annotations

import io
import json
import stat
import sys
from pathlib import Path

import pytest

from tests.cast import Vault
from tests.cli.commands import Command
from vault.services.anchor import OLDER, Line, parse_line
from vault.services.clock import now


@pytest.fixture
def anchored(command: Command, tmp_path: Path) -> Command:
    """The command with an anchor file that knows the chain's end."""
    command.set(anchor_file=tmp_path / "anchor")
    assert command("audit", "anchor").code == 0
    return command


def ahead(path: Path) -> None:
    """Let the anchor know a position that the chain has not reached: the database is an older one."""
    path.write_bytes(path.read_bytes() + Line(10**6, bytes(32), now()).encoded())


def test_a_whole_chain_is_exit_code_0(anchored: Command, vault: Vault) -> None:
    ended = anchored("audit", "verify")
    count = len(vault.audit())
    assert (ended.code, ended.out) == (
        0, f"{count} entries; 1 lines of anchors compared.\nThe audit chain is whole.\n",
    )  # fmt: skip
    told = json.loads(anchored("audit", "verify", "--json").out)
    assert told["whole"] is True and told["entries"] == told["end"]["sequence"] == count


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        ("DELETE FROM audit_entry WHERE sequence = 3", "position 3: the entry is missing"),
        ("UPDATE audit_entry SET action = 'x' WHERE sequence = 4", "position 4: the entry was changed"),
        ("UPDATE audit_head SET sequence = 4", "position 0: The audit chain's head does not bear its seal."),
        ("DELETE FROM audit_head", "position 0: The audit chain has no head."),
    ],
)
def test_m5_a_broken_chain_is_exit_code_2_and_the_position(
    command: Command, vault: Vault, harm: str, told: str
) -> None:
    with vault.database() as connection:
        connection.execute(harm)
    ended = command("audit", "verify")
    assert ended.code == 2 and told in ended.out
    assert "1 thing is not as it should be." in ended.out
    assert command("check").code == 2


def test_m5_no_command_makes_a_new_end_for_a_chain_that_lost_its_own(command: Command, vault: Vault) -> None:
    with vault.database() as connection:
        connection.execute("DELETE FROM audit_head")
    ended = command("users", "invite", "zoe")
    assert ended.code == 1 and "The audit chain has no head." in ended.err
    with vault.database() as connection:
        assert connection.execute("SELECT count(*) FROM audit_head").fetchone()[0] == 0


def test_m6_an_older_database_is_told_by_every_command_that_looks_and_stops_those_that_change(
    anchored: Command, vault: Vault, tmp_path: Path
) -> None:
    ahead(tmp_path / "anchor")
    verified = anchored("audit", "verify")
    assert verified.code == 2 and "position 1000000: " in verified.out and "older state" in verified.out
    checked = anchored("check")
    assert checked.code == 2 and f"I6  {OLDER}" in checked.out
    state = anchored("audit", "anchor")
    assert state.code == 2 and state.out.startswith(f"READ-ONLY: {OLDER}")
    for words in (("sweep",), ("users", "invite", "zoe"), ("users", "disable", "bob")):
        refused = anchored(*words)
        assert refused.code == 1 and OLDER in refused.err, words
    served = anchored("serve")
    assert served.code == 0 and f"READ-ONLY: {OLDER}" in served.err and "the server runs" in served.out
    assert anchored("users", "list").code == 0


def test_an_older_state_is_accepted_after_asking(
    anchored: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead(tmp_path / "anchor")
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    refused = anchored("audit", "anchor", "--accept")
    assert refused.code != 0 and "Everything after the state" in refused.text
    accepted = anchored("audit", "anchor", "--accept", "--yes", "--json")
    assert accepted.code == 0 and json.loads(accepted.out)["satisfied"] is True
    assert anchored("users", "invite", "zoe").code == 0
    assert anchored("audit", "verify").code == 0


def test_without_an_anchor_file_the_line_is_printed_and_fits_as_a_copy(
    command: Command, tmp_path: Path
) -> None:
    printed = command("audit", "anchor").out
    assert parse_line(printed.encode().rstrip(b"\n")) is not None
    (tmp_path / "copy").write_text(printed)
    ended = command("audit", "verify", "--anchor", str(tmp_path / "copy"))
    assert ended.code == 0 and "1 lines of anchors" in ended.out


def test_an_export_goes_to_a_new_file_of_ones_own_or_to_standard_output(
    command: Command, tmp_path: Path
) -> None:
    file = tmp_path / "audit.jsonl"
    ended = command("audit", "export", "--output", str(file))
    assert ended.code == 0 and ended.out == "" and str(file) in ended.err
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert command("audit", "export").out == file.read_text()
    again = command("audit", "export", "--output", str(file))
    assert again.code == 1 and "exists already" in again.err


def test_f32_an_anchor_file_that_cannot_be_written_is_told(command: Command, tmp_path: Path) -> None:
    command.set(anchor_file=tmp_path / "nothing" / "anchor")
    ended = command("users", "invite", "zoe")
    assert ended.code == 1 and "The anchor of its audit chain cannot be written." in ended.err
    state = command("audit", "anchor")
    assert state.code == 2 and "nothing/anchor" in state.out
