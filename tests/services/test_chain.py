"""Verify and export the audit chain: M5 by position, with and without the master key; the export without the vault."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.attacker import Attacker, Row, another
from tests.cast import Vault
from tests.house import house, standing, vault
from vault.services import clock
from vault.services.chain import COLUMNS
from vault.services.seals import sealed_columns

__all__ = ["house", "standing", "vault"]

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "verify_audit.py"


def entries(vault: Vault) -> list[Row]:
    return sorted(Attacker(vault).rows("audit_entry"), key=lambda row: row["sequence"])


def faults(vault: Vault, *copies: Path) -> list[tuple[int, str]]:
    with vault.services() as bundle:
        verdict = bundle.chain.verify(copies)
    assert verdict.whole == (not verdict.faults)
    return [(fault.position, fault.text) for fault in verdict.faults]


def exported(vault: Vault) -> bytes:
    written = BytesIO()
    with vault.services() as bundle:
        count = bundle.chain.export(written.write)
    assert written.getvalue().count(b"\n") == count + 1
    return written.getvalue()


def verified(export: bytes, folder: Path, *words: str) -> tuple[int, list[str]]:
    """Run the script as a stranger would: no site-packages, nothing of the vault in sight."""
    file = folder / "export.jsonl"
    file.write_bytes(export)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-W", "error", str(SCRIPT), str(file), *words],
        cwd=folder, env={}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.stderr == "", done.stderr
    return done.returncode, done.stdout.splitlines()


def position(rows: list[Row], where: str) -> Row:
    return {"first": rows[0], "middle": rows[len(rows) // 2], "last": rows[-1]}[where]


# Verify


def test_m5_a_whole_chain_is_whole(house: Vault) -> None:
    with house.services() as bundle:
        verdict = bundle.chain.verify()
    assert verdict.whole and verdict.end is not None
    assert verdict.entries == verdict.end.sequence == len(house.audit())


@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_m5_an_entry_that_was_taken_out_is_named(vault: Vault, where: str) -> None:
    rows = entries(vault)
    row = position(rows, where)
    Attacker(vault).remove("audit_entry", row["id"])
    assert faults(vault) == [(row["sequence"], "the entry is missing")]


def test_m5_several_faults_are_all_named(vault: Vault) -> None:
    rows = entries(vault)
    attacker = Attacker(vault)
    attacker.remove("audit_entry", rows[2]["id"], rows[3]["id"])
    attacker.update("audit_entry", rows[6]["id"], action="nothing")
    assert faults(vault) == [
        (3, "the entries up to 4 are missing"),
        (7, "the entry was changed: it does not bear its seal"),
    ]


@pytest.mark.parametrize("master_key", [False, True])
@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_m5_an_edited_byte_is_named(vault: Vault, where: str, master_key: bool) -> None:
    for column in ("action", "touched", "at", "entry_hash", "object_id"):
        row = position(entries(vault), where)
        attacker = Attacker(vault)
        attacker.update("audit_entry", row["id"], **{column: another("audit_entry", column, row[column])})
        if master_key:
            attacker.reseal("audit_entry", row["id"])
        found = faults(vault)
        assert found and found[0][0] == row["sequence"], column
        attacker.remove("audit_entry", row["id"])
        attacker.put("audit_entry", row)
    assert faults(vault) == []


@pytest.mark.parametrize("master_key", [False, True])
def test_m5_a_changed_order_is_named(vault: Vault, master_key: bool) -> None:
    one, other = entries(vault)[3:5]
    attacker = Attacker(vault)
    attacker.swap("audit_entry", one, other, "sequence")
    if master_key:
        attacker.reseal("audit_entry", one["id"])
        attacker.reseal("audit_entry", other["id"])
    assert [number for number, _ in faults(vault)][:2] == [4, 5]


@pytest.mark.parametrize("value", ["zz", b"zz", 2**62, -1, 0])
def test_m5_an_entry_with_an_impossible_number_is_a_fault_and_no_crash(vault: Vault, value: Any) -> None:
    row = entries(vault)[4]
    with vault.database() as connection:
        connection.execute("UPDATE audit_entry SET sequence = ? WHERE id = ?", (value, row["id"]))
    assert any(number == row["sequence"] for number, _ in faults(vault))


def test_m5_a_head_that_is_edited_or_gone_is_a_fault(vault: Vault) -> None:
    attacker = Attacker(vault)
    row = attacker.row("audit_head")
    attacker.update("audit_head", row["id"], sequence=3)
    assert faults(vault)[0] == (0, "The audit chain's head does not bear its seal.")
    attacker.reseal("audit_head", row["id"])
    assert faults(vault)[-1] == (len(entries(vault)) + 1, "the head of the chain says that it ends at 3")
    attacker.remove("audit_head", row["id"])
    assert faults(vault) == [(0, "The audit chain has no head.")]


def test_m5_cut_at_the_end_with_the_master_key_is_seen_by_a_copy_of_the_anchor_alone(
    vault: Vault, tmp_path: Path
) -> None:
    """Whoever can seal a head can end the chain earlier; what lies elsewhere contradicts him."""
    own = vault.reopened(anchor_file=tmp_path / "anchor")
    with own.services() as bundle:
        bundle.chain.keep_anchor()
    own.close()
    attacker, rows = Attacker(vault), entries(vault)
    head = attacker.row("audit_head")
    attacker.remove("audit_entry", rows[-1]["id"])
    attacker.update(
        "audit_head", head["id"], sequence=rows[-2]["sequence"], entry_hash=rows[-2]["entry_hash"]
    )
    attacker.reseal("audit_head", head["id"])
    assert faults(vault) == []
    ((number, text),) = faults(vault, tmp_path / "anchor")
    assert number == rows[-1]["sequence"] and "an older state was put back" in text


def test_m5_a_chain_written_anew_with_the_master_key_is_seen_by_a_copy_of_the_anchor(
    vault: Vault, tmp_path: Path
) -> None:
    own = vault.reopened(anchor_file=tmp_path / "anchor")
    with own.services() as bundle:
        bundle.chain.keep_anchor()
    own.close()
    text = (tmp_path / "anchor").read_text().split()
    text[2] = "0" * 64
    (tmp_path / "anchor").write_text(" ".join(text) + "\n")
    ((number, told),) = faults(vault, tmp_path / "anchor")
    assert number == len(entries(vault)) and "is not the one that" in told


def test_f15_a_clock_put_back_is_told_and_is_no_fault(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    vault.upload("alice")
    earlier = clock.now() - timedelta(hours=1)
    monkeypatch.setattr(clock, "now", lambda: earlier)
    vault.upload("alice")
    with vault.services() as bundle:
        verdict = bundle.chain.verify()
    assert verdict.whole
    assert verdict.went_back == [next(
        row["sequence"] for before, row in zip(entries(vault), entries(vault)[1:], strict=False)
        if row["at"] < before["at"]
    )]  # fmt: skip


# Export


def test_an_export_has_all_that_the_hash_covers() -> None:
    from vault.models import AuditEntry

    assert set(COLUMNS) == set(sealed_columns(AuditEntry))


def test_an_export_is_verified_by_the_standard_library_alone(vault: Vault, tmp_path: Path) -> None:
    document = vault.upload("alice", b"x", share=("bob",))
    vault.read("bob", document)
    own = vault.reopened(anchor_file=tmp_path / "anchor")
    with own.services() as bundle:
        bundle.chain.keep_anchor()
    own.close()
    export = exported(vault)
    assert verified(export, tmp_path) == (0, ["The chain is whole; 0 lines of anchors fit."])
    anchored = ("--anchor", str(tmp_path / "anchor"))
    assert verified(export, tmp_path, *anchored) == (0, ["The chain is whole; 1 lines of anchors fit."])
    for secret in ("alice", "bob", "hello.txt", vault.alice.passphrase):
        assert secret.encode() not in export


def edit(lines: list[dict[str, Any]]) -> None:
    lines[5]["action"] = "nothing"


def edit_bytes(lines: list[dict[str, Any]]) -> None:
    lines[5]["touched"] = lines[5]["touched"][:-2] + "00"


def rubbish(lines: list[dict[str, Any]]) -> None:
    lines[5] = {"sequence": "five"}


def take_out(lines: list[dict[str, Any]]) -> None:
    del lines[5]


def take_first(lines: list[dict[str, Any]]) -> None:
    del lines[1]


def take_last(lines: list[dict[str, Any]]) -> None:
    del lines[-1]


def exchange(lines: list[dict[str, Any]]) -> None:
    lines[5], lines[6] = lines[6], lines[5]


def renumber(lines: list[dict[str, Any]]) -> None:
    lines[5]["sequence"], lines[6]["sequence"] = 6, 5
    lines[5], lines[6] = lines[6], lines[5]


def another_hash(lines: list[dict[str, Any]]) -> None:
    lines[5]["entry_hash"] = "00" * 32


@pytest.mark.parametrize(
    ("harm", "at"),
    [
        (edit, 5), (edit_bytes, 5), (rubbish, 5), (take_out, 5), (take_first, 1), (take_last, -1),
        (exchange, 5), (renumber, 5), (another_hash, 5),
    ],
)  # fmt: skip
def test_m5_a_changed_export_names_the_position(
    house: Vault, tmp_path: Path, harm: Callable[[list[dict[str, Any]]], None], at: int
) -> None:
    lines = [json.loads(line) for line in exported(house).splitlines()]
    expected = at if at > 0 else lines[-1]["sequence"]
    harm(lines)
    code, told = verified(b"".join(json.dumps(line).encode() + b"\n" for line in lines), tmp_path)
    assert code == 2
    assert told[0].startswith(f"position {expected}: ")
    assert told[-1].endswith("faults.")


@pytest.mark.parametrize("export", [b"", b"{}\n", b"[]\n", b"null\n", b'{"format":"another","version":1}\n'])
def test_what_is_no_export_is_told(tmp_path: Path, export: bytes) -> None:
    assert verified(export, tmp_path)[0] == 2


def test_m6_an_anchor_that_knows_more_than_the_export_is_told(house: Vault, tmp_path: Path) -> None:
    export = exported(house)
    count = export.count(b"\n") - 1
    (tmp_path / "anchor").write_text(f"1 {count + 5} {'0' * 64} 2026-11-27T08:00:00Z\n")
    code, told = verified(export, tmp_path, "--anchor", str(tmp_path / "anchor"))
    assert code == 2 and told[0].startswith(f"position {count + 5}: an anchor knows this position")


def test_a_broken_chain_is_exported_all_the_same(vault: Vault, tmp_path: Path) -> None:
    row = entries(vault)[4]
    Attacker(vault).update("audit_entry", row["id"], detail="edited")
    code, told = verified(exported(vault), tmp_path)
    assert code == 2 and told[0] == "position 5: the entry was changed: its hash does not fit"
