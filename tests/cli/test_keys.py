"""``docvault keys rotate | verify`` and the states of ``status``; where a master key comes from, and docs/keys.md."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.cast import Vault, settings_for
from tests.cli.commands import Command
from tests.rotations import NEW, key_id, key_of
from tests.servers.processes import LOOPBACK, ServerProcess, free_ports
from tests.servers.vault import ROOT, start_vault
from vault.config import load_settings
from vault.errors import Misconfigured

NEW_ID = key_id(NEW).hex()


def states(command: Command) -> dict[str, str]:
    return {key["key"]: key["state"] for key in json.loads(command("keys", "status", "--json").out)}


def test_status_goes_through_the_three_steps(command: Command, vault: Vault) -> None:
    old = key_of(vault)
    command.set(master_key_fallbacks=NEW)
    assert states(command) == {key_id(old).hex(): "seals", NEW_ID: "announced"}
    command.set(master_key=NEW, master_key_fallbacks=old)
    command("users", "promote", "bob")
    assert states(command) == {NEW_ID: "seals", key_id(old).hex(): "retiring"}
    dry = command("keys", "rotate", "--dry-run")
    assert dry.code == 0 and re.search(r"^\d+ rows would be sealed anew\.", dry.out)
    assert states(command)[key_id(old).hex()] == "retiring"
    first = command("keys", "rotate")
    assert first.code == 0 and "Waiting for the end of 4 sessions" in first.out, first.text
    assert states(command)[key_id(old).hex()] == "waiting"
    assert "may be destroyed" not in command("keys", "status").out
    second = json.loads(command("keys", "rotate", "--end", "--json").out)
    assert second["retired"] == [key_id(old).hex()] and second["ended"] == {"sessions": 4}
    shown = command("keys", "status").out
    assert f"{key_id(old).hex()} may be destroyed" in shown
    command.set(master_key_fallbacks="")
    assert states(command) == {NEW_ID: "seals", key_id(old).hex(): "retired"}
    assert command("keys", "verify").out.endswith("Everything is whole.\n")
    assert old[:8] not in shown and NEW[:8] not in shown


def test_a_key_out_of_use_does_not_start_and_a_missing_one_is_named(command: Command, vault: Vault) -> None:
    old = key_of(vault)
    command.set(master_key=NEW, master_key_fallbacks=old)
    command("keys", "rotate", "--end")
    behind = command.set(master_key=old, master_key_fallbacks="")("serve")
    assert behind.code == 1 and "MASTER_KEY_FALLBACKS" in behind.err and old[:8] not in behind.err
    turned = command.set(master_key=old, master_key_fallbacks=NEW)("serve")
    assert turned.code == 1 and f"{key_id(old).hex()} is out of use" in turned.err


def test_a_row_that_is_refused_is_exit_code_2(command: Command, vault: Vault) -> None:
    document = vault.upload("alice")
    with vault.database() as connection:
        connection.execute("UPDATE document SET readers = 7 WHERE id = ?", (document,))
    command.set(master_key=NEW, master_key_fallbacks=key_of(vault))
    for words in (("--dry-run",), ()):
        ended = command("keys", "rotate", *words)
        assert ended.code == 2 and f"Refused: document {document.hex()}: does not open" in ended.out
    assert command("keys", "verify").code == 2


def test_compromised_asks_for_an_anchor_and_says_what_it_cannot_do(
    command: Command, vault: Vault, tmp_path: Path
) -> None:
    vault.upload("alice")
    command.set(master_key=NEW, master_key_fallbacks=key_of(vault))
    for words in (("--dry-run",), ()):
        refused = command("keys", "rotate", "--compromised", *words)
        assert refused.code == 1 and "DOCVAULT_ANCHOR_FILE" in refused.err
    empty = tmp_path / "empty"
    empty.write_text("")
    assert "has no line" in command("keys", "rotate", "--compromised", "--anchor", str(empty)).err
    wrong = tmp_path / "wrong"
    wrong.write_text(f"1 3 {'00' * 32} 2026-11-27T00:00:00Z\n")
    assert (
        "Position 3 of the audit chain"
        in command("keys", "rotate", "--compromised", "--anchor", str(wrong)).err
    )
    command.set(anchor_file=tmp_path / "anchor", master_key=key_of(vault), master_key_fallbacks=NEW)
    assert command("audit", "anchor").code == 0
    command.set(master_key=NEW, master_key_fallbacks=key_of(vault))
    done = command("keys", "rotate", "--compromised")
    assert done.code == 0, done.text
    assert "is retired" in done.out and "older key and the passphrase" in done.out
    assert vault.api("alice").get("/me").status_code in {401, 503}


def test_a_refused_row_is_accepted_by_its_name(command: Command, vault: Vault, tmp_path: Path) -> None:
    old = key_of(vault)
    assert command.set(anchor_file=tmp_path / "anchor")("audit", "anchor").code == 0
    shutil.copy(tmp_path / "anchor", tmp_path / "copy")
    command("users", "promote", "bob")
    command.set(master_key=NEW, master_key_fallbacks=old)
    how = ("keys", "rotate", "--compromised", "--anchor", str(tmp_path / "copy"))
    bob = f"user {vault.members['bob'].account.user_id.hex()}"
    for words in ((*how, "--dry-run"), how):
        refused = command(*words)
        assert refused.code == 2 and f"Refused: {bob}: the audit chain does not know it so" in refused.out
    told = command("keys", "status").out
    assert "somebody else" in told and "before the next key is promoted" in told.replace("\n", " ")
    plain = command("keys", "rotate")
    assert plain.code == 1 and "--compromised" in plain.err
    assert command("keys", "rotate", "--accept", bob.replace(" ", ":")).code == 2
    assert "not both" in command(*how, "--accept", "user:00", "--drop", "user:00").err
    assert command("keys", "rotate", "--broken-chain").code == command(*how, "--key", "no id").code == 2
    assert "no older master key" in command(*how, "--key", NEW_ID).err
    assert "cannot be tried" in command(*how, "--dry-run", "--drop", "user:00").err
    assert "TABLE:ID" in command(*how, "--accept", bob).err
    other = command(*how, "--drop", "user:00")
    assert other.code == 2 and "Not refused: user 00" in other.out
    done = command(*how, "--accept", bob.replace(" ", ":"))
    assert done.code == 0 and f"Accepted: {bob}" in done.out and "is retired" in done.out, done.text


def test_a_broken_chain_is_believed_up_to_the_last_line_of_the_anchor_that_fits(
    command: Command, vault: Vault, tmp_path: Path
) -> None:
    old, anchor = key_of(vault), tmp_path / "anchor"
    assert command.set(anchor_file=anchor)("audit", "anchor").code == 0
    first = len(vault.audit())
    while anchor.read_text().count("\n") < 2:
        vault.upload("alice")
        assert command("audit", "anchor").code == 0
    copy = tmp_path / "copy"
    lines = anchor.read_text().splitlines()
    command.set(master_key=NEW, master_key_fallbacks=old)
    copy.write_text("\n".join([*lines[:-1], re.sub("[0-9a-f]{64}", "00" * 32, lines[-1])]) + "\n")
    how = ("keys", "rotate", "--compromised", "--anchor", str(copy))
    assert "is not the one that" in command(*how).err
    done = command(*how, "--broken-chain")
    assert done.code == 2 and "Refused: document" in done.out, done.text
    noted = [detail for act, _, _, detail in vault.audit() if act == "key_compromised"]
    assert noted == [f"{key_id(old).hex()} {first}"]


# Where a key comes from


@pytest.mark.parametrize("source", ["fallbacks", "fallbacks_file", "fallbacks_command"])
def test_keys_that_only_open_come_from_three_places(tmp_path: Path, source: str) -> None:
    keys = ["a1" * 32, "b2" * 32]
    file = tmp_path / "keys"
    file.write_text("\n".join(keys) + "\n")
    file.chmod(0o600)
    given = {"fallbacks": ",".join(keys), "fallbacks_file": file, "fallbacks_command": f"cat {file}"}[source]
    assert load_settings(_env_file=None, **{f"master_key_{source}": given}).read_fallbacks() == keys


def test_only_one_place_for_each(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="FALLBACKS_FILE and DOCVAULT_MASTER_KEY_FALLBACKS_COMMAND"):
        load_settings(_env_file=None, master_key_fallbacks_file=tmp_path, master_key_fallbacks_command="true")


def test_a_command_that_hangs_or_asks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vault.config.KEY_COMMAND_SECONDS", 0.2)
    for command, told in (("sleep 5", "gave no key within"), ("read line && echo $line", "exit code 1")):
        with pytest.raises(Misconfigured, match=told):
            load_settings(_env_file=None, master_key_command=command).read_master_key()


def test_a_server_gets_both_keys_from_commands(tmp_path: Path) -> None:
    """The command source as it is used: ``serve`` and each of its workers run it."""
    count, instance = tmp_path / "count", tmp_path / "instance"
    given = {
        "master_key_command": f"echo >> {count}; printf %s {NEW}",
        "master_key_fallbacks_command": f"printf '%s\\n%s\\n' {'b2' * 32} {'c3' * 32}",
    }
    server = start_vault(instance, workers=1, **given)
    try:
        assert server.register("alice")
        assert httpx.get(f"{server.url}/readyz", trust_env=False).status_code == 200
    finally:
        server.stop()
    assert len(count.read_text().splitlines()) == 2, "once to begin, and once in its one worker"
    assert not (instance / "master.key").exists() and NEW not in server.log.read_text()
    with closing(sqlite3.connect(instance / "vault.sqlite3")) as database:
        assert database.execute("SELECT DISTINCT seal_key_id FROM user").fetchall() == [(key_id(NEW),)]


# The recipes


@pytest.fixture
def kms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A KMS server with an empty account, and the environment of a machine that may ask it."""
    (port,) = free_ports(1)
    url = f"http://{LOOPBACK}:{port}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    server = ServerProcess(
        [sys.executable, "-m", "moto.server", "-H", LOOPBACK, "-p", str(port)], tmp_path / "kms.log"
    )
    server.wait_until(lambda: _answers(url))
    yield url
    server.kill()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False, timeout=2).status_code < 600
    except httpx.HTTPError:
        return False


def recipe(title: str, folder: Path) -> list[str]:
    """The blocks of one recipe in docs/keys.md, with a folder of the test's in the place of the server's."""
    text = (ROOT / "docs" / "keys.md").read_text().partition(f"### {title}\n")[2].partition("\n### ")[0]
    return [
        block.replace("/etc/docvault", str(folder))
        for block in re.findall("```sh\n(.*?)```", text, re.DOTALL)
    ]


def run(script: str) -> str:
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_recipe_of_a_clouds_kms_serves_a_vault(tmp_path: Path, kms: str) -> None:
    """Both lines as they stand in the manual; then a vault that gets its key in this way."""
    made = json.loads(run("aws kms create-key"))["KeyMetadata"]["KeyId"]
    run(f"aws kms create-alias --alias-name alias/docvault --target-key-id {made}")
    put, setting = recipe("A cloud's key management", tmp_path)
    run(put)
    (assigned,) = shlex.split(setting)
    command = assigned.partition("=")[2]
    key = run(command)
    assert re.fullmatch("[0-9a-f]{64}", key)
    assert key.encode() not in (tmp_path / "master.key.kms").read_bytes()
    vault = Vault(tmp_path / "instance", settings_for(tmp_path / "instance", master_key_command=command))
    assert vault.app.extensions["docvault"].master.key_id == key_id(key)
    assert not (vault.instance / "master.key").exists()
    assert vault.app.test_client().get("/readyz").status_code == 200
    vault.close()
    (tmp_path / "master.key.kms").unlink()
    with pytest.raises(Misconfigured, match="printed nothing"):
        load_settings(_env_file=None, master_key_command=command).read_master_key()


@pytest.mark.parametrize("title", ["HashiCorp Vault", "systemd-creds", "pass"])
def test_the_other_recipes_are_shell_that_parses(title: str, tmp_path: Path) -> None:
    for block in recipe(title, tmp_path):
        subprocess.run(["/bin/sh", "-n", "-c", block], check=True, timeout=10)
