"""M3, M8: folders that somebody plants, and what is admitted to be readable."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.attacker import CANARY, Attacker, models
from tests.cast import Vault
from vault.crypto.manifests import IndexEntry, seal_index_entry
from vault.crypto.randomness import new_id, new_secret

PROJECT = Path(__file__).resolve().parent.parent.parent
FOLDER = "Familienarchiv-Kanzlei"


# M3


def test_m3_there_is_no_row_that_makes_a_folder(vault: Vault) -> None:
    """A folder is a path in sealed manifests and nothing else, so there is nothing to put in."""
    columns = {column.key for model in models().values() for column in model.__table__.columns}  # type: ignore[attr-defined]
    assert not {name for name in columns if re.search("folder|path|parent|directory(?!_)|tree", name)}
    assert not {name for name in models() if re.search("folder|directory", name)}
    with vault.database() as database, pytest.raises(sqlite3.OperationalError):
        database.execute("INSERT INTO folder (id, name) VALUES (?, ?)", (new_id(), FOLDER))


@pytest.mark.parametrize("master_key", [False, True], ids=["without", "with-master-key"])
def test_m3_a_folder_in_a_memory_that_is_not_alices_is_not_shown(vault: Vault, master_key: bool) -> None:
    document = vault.upload("alice", CANARY, name="letter.txt")
    other = vault.upload("alice", b"safe", name="safe.txt")
    vault.api("alice").get("/documents")
    attacker, alice = Attacker(vault), vault.alice.account
    row = attacker.row("document_index", document_id=document)
    entry = IndexEntry(alice.user_id, alice.fingerprint, 1, 0, 0, "letter.txt", (FOLDER,), "text/plain", 1)
    sealed = seal_index_entry(new_secret(), entry, document=document, reader=alice.user_id)
    attacker.update("document_index", row["id"], sealed_entry=sealed)
    if master_key:
        attacker.reseal("document_index", row["id"])
    for path in (
        "/documents",
        "/documents?sort=name",
        f"/documents?q={FOLDER}",
        f"/documents/{document.hex()}",
    ):
        assert FOLDER not in vault.api("alice").get(path).text
    assert FOLDER not in vault.browser("alice").get("/").text
    assert vault.read("alice", other) == b"safe"


# M8


def described() -> dict[str, set[str]]:
    """The table "What the database shows" of SECURITY.md: for each table the columns that it names."""
    text = (PROJECT / "SECURITY.md").read_text()
    section = text.split("## What the database shows", 1)[1].split("\n## ", 1)[0]
    lines: dict[str, set[str]] = {}
    for line in section.splitlines():
        cells = line.strip("| ").split(" | ")
        if line.startswith("|") and len(cells) > 1:
            names = re.findall(r"`([a-z0-9_]+)`", cells[0])
            for name in names or (["*"] if cells[0] == "each table" else []):
                lines[name] = set(re.findall(r"`([a-z0-9_]+)`", " ".join(cells[1:])))
    return lines


@pytest.mark.parametrize("table", sorted(models()))
def test_m8_the_page_of_limits_names_every_column_that_can_be_read(table: str) -> None:
    told: Any = described()
    assert table in told, f"SECURITY.md does not say what the table {table} shows"
    columns = {column.key for column in models()[table].__table__.columns}  # type: ignore[attr-defined]
    assert columns - told["*"] == told[table] & columns, f"SECURITY.md leaves out columns of {table}"


def test_m8_sizes_times_and_the_graph_of_shares_are_admitted(vault: Vault) -> None:
    text = (PROJECT / "SECURITY.md").read_text()
    assert "sizes, times, user names, who shares with whom" in text
    document = vault.upload("alice", CANARY, share=("bob",))
    attacker = Attacker(vault)
    readers = {row["reader_id"] for row in attacker.rows("shared_key_registry", document_id=document)}
    assert readers == {vault.alice.account.user_id, vault.bob.account.user_id}, (
        "so that the page does not lie"
    )
