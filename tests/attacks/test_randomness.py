"""C6, C7, C10: nothing is drawn twice, nothing is guessed, nothing is the same twice."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.attacker import CANARY, Attacker, models
from tests.attacks.history import live_through
from tests.cast import Vault
from tests.crypto.recorder import MessageRecorder, recording
from tests.tus import Tus
from vault.crypto.parts import seal_part
from vault.crypto.randomness import new_id, new_secret
from vault.crypto.sealing import SALT

PROJECT = Path(__file__).resolve().parent.parent.parent


# C6


@pytest.mark.requirement(9)
def test_c6_no_key_and_nonce_meet_twice_through_retries_and_a_whole_life(
    vault: Vault, every_message: MessageRecorder
) -> None:
    """The same parts sent again, ended, begun anew; the recorder watches over the whole run of the suite as well."""
    with recording() as recorder:
        live_through(vault)
        tus = Tus(vault)
        for _ in range(3):
            place = tus.begin(3 * len(CANARY))
            assert tus.patch(place, 0, CANARY).status_code == 204
            assert tus.patch(place, 0, CANARY).status_code == 409, "sealed anew or not at all"
            assert tus.patch(place, len(CANARY), CANARY).status_code == 204
            assert tus.delete(place).status_code == 204
    assert recorder.count > 30 and not recorder.repeated
    assert not every_message.repeated
    salts = [path.read_bytes()[:SALT] for path in vault.blob_files() if path.name != "ended"]
    attacker = Attacker(vault)
    salts += [
        row[column][:SALT]
        for table in models()
        for row in attacker.rows(table)
        for column in row
        if column.startswith("sealed_") and row[column] is not None
    ]
    assert len(salts) > 30 and len(set(salts)) == len(salts)


def test_c6_a_forked_process_draws_other_salts() -> None:
    """Workers are forked from one process, as a machine is from a snapshot: both would go on with the same state."""
    key, segment = new_secret(), new_id()

    def drawn() -> bytes:
        return b"".join(seal_part(key, b"x", segment=segment, offset=0)[:SALT] for _ in range(50))

    drawn()
    readable, writable = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        os.write(writable, drawn())
        os._exit(0)
    mine, theirs = drawn(), os.read(readable, 50 * SALT)
    os.waitpid(child, 0)
    os.close(readable)
    os.close(writable)
    salts = [both[at : at + SALT] for both in (mine, theirs) for at in range(0, 50 * SALT, SALT)]
    assert len(theirs) == 50 * SALT and len(set(salts)) == 100


# C7


def test_c7_the_lint_refuses_the_module_random(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("import random\n\nprint(random.random())\n")
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "TID251", "--config"]
    banned = 'lint.flake8-tidy-imports.banned-api."random".msg = "no"'
    told = subprocess.run([*command, banned, str(bad)], capture_output=True, text=True, check=False)
    assert told.returncode == 1 and "TID251" in told.stdout, "the rule works"
    configured = (PROJECT / "pyproject.toml").read_text()
    assert '"random".msg' in configured and '"TID251"' in configured
    for path in sorted((PROJECT / "vault").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert "random" not in names and getattr(node, "module", None) != "random", path.name


@pytest.mark.requirement(7)
def test_c7_ten_thousand_salts_are_all_different() -> None:
    key, segment = new_secret(), new_id()
    salts = {bytes(seal_part(key, b"", segment=segment, offset=0)[:SALT]) for _ in range(10_000)}
    assert len(salts) == 10_000
    ones = sum(int.from_bytes(salt, "big").bit_count() for salt in salts)
    assert abs(ones / (10_000 * SALT * 8) - 0.5) < 0.005, "as many ones as zeros"


# C10


@pytest.mark.requirement(8)
def test_c10_one_file_of_two_users_and_twice_of_one_has_nothing_in_common(vault: Vault) -> None:
    """Whoever has a file cannot find out from blobs and rows who else has it."""
    documents = [vault.upload(who, CANARY * 400, name="same.txt") for who in ("alice", "charlie", "alice")]
    attacker = Attacker(vault)
    windows: list[set[bytes]] = []
    names: list[set[str]] = []
    for document in documents:
        path = attacker.blob(document)
        sealed = path.read_bytes()
        windows.append({sealed[at : at + 16] for at in range(len(sealed) - 15)})
        names.append({path.name if path.name != f"{0:016x}" else "", path.parent.name})
    rows = [attacker.row("document_version", document_id=document) for document in documents]
    for column in ("sealed_manifest", "parts_digest", "signature"):
        assert len({bytes(row[column]) for row in rows}) == 3
    for one in range(3):
        for other in range(one):
            assert not windows[one] & windows[other]
            assert not names[one] & names[other] - {""}
    etags = [
        _etag(vault, who, document)
        for who, document in zip(("alice", "charlie", "alice"), documents, strict=True)
    ]
    assert len(set(etags)) == 3, "a tag is no hash of the content"


def _etag(vault: Vault, who: str, document: bytes) -> Any:
    return vault.api(who).head(f"/documents/{document.hex()}/content").headers["ETag"]
