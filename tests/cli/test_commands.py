"""``docvault users | keys | check | sweep`` and its help."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys

import pytest

from tests.cast import Vault
from tests.cli.commands import Command
from vault import __version__


def test_help_and_version_name_every_command(command: Command) -> None:
    help_ = command("--help")
    assert help_.code == 0
    for name in (
        *("serve", "users", "keys", "check", "sweep", "backup", "restore", "recover"),
        *("login", "logout", "put", "get", "ls", "share", "revoke", "rm"),
    ):
        assert re.search(rf"^\s+{name}\s+\S", help_.out, re.MULTILINE), name
    assert __version__ in command("--version").out


def test_help_imports_no_server() -> None:
    """Each subcommand's module is imported when it is called."""
    script = (
        "import sys; sys.argv=['docvault','--help']\n"
        "from vault.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "names = ('flask','sqlalchemy','gunicorn','cryptography','httpx','rich')\n"
        "print([name for name in names if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.rstrip().endswith("[]"), done.stdout


@pytest.mark.parametrize(
    "words", [("nothing",), ("users", "nothing"), ("users", "invite"), ("serve", "--port", "x")]
)
def test_a_wrong_command_is_a_line_and_exit_code_2(command: Command, words: tuple[str, ...]) -> None:
    ended = command(*words)
    assert ended.code == 2
    assert "Usage" in ended.err and "Traceback" not in ended.err


# users


def test_an_operator_invites_and_the_link_works(command: Command, vault: Vault) -> None:
    ended = command.set(registration="invite", public_url="https://vault.example.org")(
        "users", "invite", "Zoe"
    )
    assert ended.code == 0
    link = re.fullmatch(r"https://vault\.example\.org/invitation#(\S+)\n", ended.out)
    assert link, ended.out
    new = vault.api().post("/users", json={"username": "zoe", "code": link.group(1)})
    assert new.status_code == 201


def test_an_invitation_in_json(command: Command) -> None:
    made = json.loads(command("users", "invite", "zoe", "--json").out)
    assert made["username"] == "zoe"
    assert made["link"] == f"http://127.0.0.1:8000/invitation#{made['code']}"


def test_an_operator_makes_the_link_for_new_keys(command: Command, vault: Vault) -> None:
    made = json.loads(command("users", "reset", "Dora", "--json").out)
    assert made["username"] == "dora" and made["link"] == f"http://127.0.0.1:8000/reset#{made['code']}"
    assert vault.api().post("/reset", json={"code": made["code"]}).json["username"] == "dora"
    ended = command("users", "reset", "nobody")
    assert (ended.code, ended.err) == (1, "docvault: There is no such account.\n")


def test_an_operator_deletes_who_is_named_twice(command: Command, vault: Vault) -> None:
    ended = command("users", "delete", "alice", "--confirm", "bob")
    assert ended.code == 1 and "Type the user name once more" in ended.err
    assert vault.api("alice").get("/me").status_code == 200
    assert command("users", "delete", "alice", "--confirm", "alice").out == "alice is deleted.\n"
    assert vault.api("alice").get("/me").status_code == 401


@pytest.mark.parametrize(("name", "words"), [("alice", "taken"), ("a b", "2 to 32"), ("", "2 to 32")])
def test_an_invitation_that_cannot_be_is_a_line_and_exit_code_1(
    command: Command, name: str, words: str
) -> None:
    ended = command("users", "invite", name)
    assert ended.code == 1
    assert ended.err.startswith("docvault: ") and words in ended.err
    assert "Traceback" not in ended.text


def test_users_are_listed(command: Command, vault: Vault) -> None:
    vault.upload("alice", b"x" * 1000, name="canary.pdf")
    listed = json.loads(command("users", "list", "--json").out)
    assert [user["username"] for user in listed] == ["alice", "bob", "charlie", "dora"]
    assert listed[0]["documents"] == 1 and listed[3]["role"] == "admin"
    table = command("users", "list").out
    assert "alice" in table and "canary" not in table


def test_a_user_is_disabled_enabled_and_promoted(command: Command, vault: Vault) -> None:
    assert command("users", "disable", "alice").out == "alice is disabled.\n"
    assert vault.api("alice").get("/me").status_code == 401
    assert command("users", "enable", "alice").out == "alice is active.\n"
    assert command("users", "promote", "bob").code == 0
    assert vault.api("bob").get("/accounts").status_code == 200
    assert command("users", "disable", "nobody").err == "docvault: There is no such account.\n"


def test_the_last_administrator_cannot_be_disabled(command: Command) -> None:
    ended = command("users", "disable", "dora")
    assert (ended.code, "last administrator" in ended.err) == (1, True)


# keys


def test_a_key_is_64_digits_and_new_each_time(command: Command) -> None:
    keys = {command("keys", "generate").out.strip() for _ in range(3)}
    assert len(keys) == 3
    assert all(re.fullmatch("[0-9a-f]{64}", key) for key in keys)


def test_a_key_goes_into_a_new_private_file(command: Command) -> None:
    path = command.instance.parent / "key"
    ended = command("keys", "generate", "--output", str(path))
    assert ended.code == 0
    assert re.fullmatch("[0-9a-f]{64}\n", path.read_text())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().strip() not in ended.text, "it is not printed as well"
    before = path.read_text()
    again = command("keys", "generate", "--output", str(path))
    assert again.code == 1 and "never overwritten" in again.err
    assert path.read_text() == before


def test_status_tells_which_key_seals_how_much(command: Command, vault: Vault) -> None:
    vault.upload("alice")
    (line,) = json.loads(command("keys", "status", "--json").out)
    assert line["configured"] and line["seals"] and line["rows"] > 20
    assert "seals and opens" in command("keys", "status").out
    key = (vault.instance / "master.key").read_text().strip()
    assert key not in command("keys", "status").text and line["key"] not in key


def test_status_shows_a_fallback_key_that_still_opens_rows(command: Command, vault: Vault) -> None:
    old = (vault.instance / "master.key").read_text().strip()
    command.set(master_key="a1" * 32, master_key_fallbacks=old)
    command("users", "promote", "bob")
    lines = {line["seals"]: line for line in json.loads(command("keys", "status", "--json").out)}
    assert lines[True]["rows"] >= 1 and lines[False]["configured"] is True
    assert command("check").code == 0


# check and sweep


def test_a_whole_vault_is_exit_code_0(command: Command, vault: Vault) -> None:
    vault.upload("alice", b"x", share=("bob",))
    ended = command("check")
    assert ended.code == 0
    assert "Everything is whole." in ended.out
    report = json.loads(command("check", "--json").out)
    assert report["whole"] is True and report["findings"] == [] and report["counted"]["document"] == 1


def test_a_deep_check_reads_everything_keeps_its_result_and_measures_itself(
    command: Command, vault: Vault
) -> None:
    vault.upload("alice", b"x" * 2_000_000)
    ended = command("check", "--deep")
    assert ended.code == 0
    assert re.search(r"Read 1 blobs, 2,00\d,\d{3} bytes, in \d+\.\d s \(\d+\.\d s per GiB\)\.", ended.out)
    assert "At risk: 1 document that one active account alone can read." in ended.out
    told = json.loads(command("check", "--deep", "--json").out)
    assert told["deep"] and told["blobs_read"] == 1 and len(told["one_reader"]) == 1
    assert len(told["no_recovery"]) == 4 and told["seconds"] > 0
    with vault.services() as bundle:
        kept = bundle.check_results.last(None)
    assert kept is not None and kept.found == 0 and kept.read_bytes == told["bytes_read"]


def test_repair_says_what_it_moved_and_why_it_did_not(command: Command, vault: Vault) -> None:
    segment = vault.blobs / ("ab" * 16)
    segment.mkdir()
    stray = segment / ("0" * 16)
    stray.write_bytes(b"stray")
    os.utime(stray, (0, 0))
    told = json.loads(command("check", "--json").out)
    assert told["quarantined"] == [] and stray.exists(), "only when it is asked for"
    with vault.database() as connection:
        connection.execute("UPDATE user SET role = 'admin' WHERE username = 'charlie'")
    ended = command("check", "--repair")
    assert ended.code == 2 and "Nothing was moved" in ended.out and stray.exists()
    with vault.database() as connection:
        connection.execute("UPDATE user SET role = 'user' WHERE username = 'charlie'")
    ended = command("check", "--repair")
    assert ended.code == 2 and "Moved 1 blobs to quarantine." in ended.out and not stray.exists()
    assert command("check").code == 0


def test_a_result_that_cannot_be_kept_is_said(command: Command, vault: Vault) -> None:
    with vault.database() as connection:  # somebody has taken the next place in the audit chain
        row = dict(connection.execute("SELECT * FROM audit_entry ORDER BY sequence DESC LIMIT 1").fetchone())
        row |= {"id": bytes(16), "sequence": row["sequence"] + 1}
        marks = ", ".join("?" for _ in row)
        connection.execute(f"INSERT INTO audit_entry VALUES ({marks})", tuple(row.values()))
    ended = command("check", "--deep")
    assert ended.code == 2 and "The result could not be kept: This was changed" in ended.out


def test_a_lost_blob_is_exit_code_2_and_named_by_its_id(command: Command, vault: Vault) -> None:
    vault.upload("alice", b"x", name="canary.pdf")
    (blob,) = vault.blob_files()
    blob.unlink()
    ended = command("check")
    assert ended.code == 2
    assert f"I1  blob {blob.parent.name}/{blob.name}: is lost" in ended.out
    assert "canary" not in ended.text
    report = json.loads(command("check", "--json").out)
    assert report["whole"] is False and report["findings"][0]["invariant"] == "I1"


def test_an_edited_row_is_exit_code_2(command: Command, vault: Vault) -> None:
    with vault.database() as connection:
        connection.execute("UPDATE user SET role = 'admin' WHERE username = 'charlie'")
    ended = command("check")
    assert ended.code == 2
    assert "I2  user" in ended.out and "charlie" not in ended.out


@pytest.mark.requirement(58)
def test_a_cut_audit_chain_is_exit_code_2_and_stops_the_sweep(command: Command, vault: Vault) -> None:
    vault.upload("alice")
    with vault.database() as connection:
        connection.execute("DELETE FROM audit_entry WHERE sequence = 3")
    assert command("check").code == 2
    ended = command("sweep")
    assert ended.code == 1 and "audit chain is broken at position 3" in ended.err


def test_the_sweep_destroys_what_was_deleted_and_says_how_much(command: Command, vault: Vault) -> None:
    document = vault.upload("alice", b"x" * 100)
    vault.upload("bob", b"stays")
    with vault.services() as bundle:
        bundle.documents.delete(vault.alice.account, [document])
    swept = json.loads(command("sweep", "--json").out)
    assert (swept["segments"], swept["blobs"], swept["uploads"]) == (1, 1, 0)
    assert len(vault.blob_files()) == 1
    assert "0 segments" in command("sweep").out
    assert command("check").code == 0
