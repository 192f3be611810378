"""M3, M7, M8: folders that somebody plants, plaintext that gets out, and what is admitted to be readable."""

from __future__ import annotations

import re
import resource
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.attacker import CANARY, Attacker, models
from tests.cast import MASTER_KEY, Vault
from tests.servers.vault import VaultServer, start_vault
from vault.crypto.manifests import IndexEntry, seal_index_entry
from vault.crypto.randomness import new_id, new_secret

PROJECT = Path(__file__).resolve().parent.parent.parent
NAME = "Zwetschgendatschi-Rezept.odt"
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


# M7


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[VaultServer, dict[str, bytes]]]:
    """A started server, its master key in a file, and what was told to it in secret."""
    folder = tmp_path_factory.mktemp("leaks")
    temporary, key = folder / "temporary", folder / "master.key"
    temporary.mkdir()
    key.write_text(MASTER_KEY + "\n")
    key.chmod(0o600)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(temporary))
        server = start_vault(folder / "instance", registration="open", workers=1, master_key_file=key)
    try:
        passphrase = server.register("alice")
        server.register("bob")
        token = server.log_in("alice", passphrase)
        with server.client(token) as client:
            path = f"/documents?name={NAME}&recipients=bob"
            document = client.post(path, content=CANARY * 20_000).raise_for_status().json()["id"]
            client.patch(f"/documents/{document}", json={"path": [FOLDER]}).raise_for_status()
            assert client.get(f"/documents/{document}/content").content == CANARY * 20_000
            client.get(f"/documents?q={FOLDER}")
            client.get(f"/documents/{'0' * 32}")
            client.post("/token", json={"username": "alice", "passphrase": passphrase + "x"})
        yield (
            server,
            {
                "content": CANARY[:24],
                "name": NAME.encode(),
                "folder": FOLDER.encode(),
                "passphrase": passphrase.encode(),
                "token": token.encode()[-60:],
                "master key": MASTER_KEY.encode(),
            },
        )
    finally:
        server.stop()
        shutil.rmtree(folder)


def workers(server: VaultServer) -> list[int]:
    pid = server.process.pid
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def test_m7_nothing_that_was_told_lies_in_a_file_or_an_environment(
    lived: tuple[VaultServer, dict[str, bytes]],
) -> None:
    server, secrets = lived
    files = [
        path for path in server.instance.parent.rglob("*") if path.is_file() and path.name != "master.key"
    ]
    assert any(path.name.startswith("vault.sqlite3") for path in files) and server.log in files
    assert any("blobs" in path.parts for path in files)
    places = {str(path): path.read_bytes() for path in files}
    places |= {f"environment of {pid}": Path(f"/proc/{pid}/environ").read_bytes() for pid in workers(server)}
    places |= {f"command of {pid}": Path(f"/proc/{pid}/cmdline").read_bytes() for pid in workers(server)}
    found = [
        (what, place) for place, held in places.items() for what, secret in secrets.items() if secret in held
    ]
    assert found == []
    assert not [path for path in files if "temporary" in path.parts]


def test_m7_a_process_that_crashes_writes_no_core(lived: tuple[VaultServer, dict[str, bytes]]) -> None:
    server, _ = lived
    for pid in workers(server):
        assert resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0)
    assert "LimitCORE=0" in (PROJECT / "ops" / "docvault.service").read_text()


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
