"""``docvault serve`` before it serves: the set-up link, the master key, and everything that it refuses."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from tests.cast import Vault
from tests.cli.commands import Command
from vault.config import load_settings
from vault.errors import Misconfigured

GOOD = "5f0c7a1e93d24b68" * 4


@pytest.mark.requirement(24)
def test_a_first_start_makes_a_key_and_prints_the_set_up_link(fresh: Command) -> None:
    first = fresh("serve", "--port", "8123")
    assert first.code == 0, first.err
    key_file = fresh.instance / "master.key"
    assert f"A master key was made in {key_file}. Back it up" in first.out
    assert re.search(r"http://127\.0\.0\.1:8123/setup#[0-9A-Z-]{20,}", first.out)
    assert "the server runs" in first.out
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(fresh.instance.stat().st_mode) & 0o077 == 0
    assert key_file.read_text().strip() not in first.text, "no key byte is printed"
    second = fresh("serve")
    assert "master key was made" not in second.out
    assert "/setup#" in second.out, "until there is an administrator"


def test_only_the_newest_set_up_code_works_and_once(fresh: Command) -> None:
    codes = [re.search(r"/setup#(\S+)", fresh("serve").out) for _ in range(2)]
    assert codes[0] and codes[1]
    vault = Vault(fresh.instance, load_settings(_env_file=None, instance=fresh.instance))
    try:
        old = vault.api().post("/users", json={"username": "eve", "code": codes[0].group(1)})
        assert (old.status_code, old.json["field"]) == (400, "code")
        new = vault.api().post("/users", json={"username": "dora", "code": codes[1].group(1)})
        assert new.status_code == 201
        again = vault.api().post("/users", json={"username": "eve", "code": codes[1].group(1)})
        assert again.status_code == 400
    finally:
        vault.close()
    assert "/setup#" not in fresh("serve").out


def test_the_link_is_at_the_public_address(fresh: Command) -> None:
    out = fresh.set(public_url="https://vault.example.org/", proxies=1)("serve", "--host", "0.0.0.0").out
    assert "https://vault.example.org/setup#" in out


# Plain http


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "vault.example.org", "10.0.0.1", "[::]"])
def test_plain_http_on_a_public_address_is_refused_with_what_to_set(fresh: Command, host: str) -> None:
    ended = fresh("serve", "--host", host)
    assert ended.code == 1
    assert "DOCVAULT_PUBLIC_URL=https://" in ended.err and "DOCVAULT_PROXIES=1" in ended.err
    assert "the server runs" not in ended.out
    assert not fresh.instance.exists(), "nothing was made"


@pytest.mark.parametrize(
    "settings",
    [{"public_url": "https://v.example.org"}, {"proxies": 1}, {"public_url": "http://v.example.org", "proxies": 1}],
)  # fmt: skip
def test_half_of_the_settings_is_not_enough(fresh: Command, settings: dict[str, str]) -> None:
    assert fresh.set(**settings)("serve", "--host", "0.0.0.0").code == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.9.1"])
def test_loopback_needs_no_more(fresh: Command, host: str) -> None:
    assert "the server runs" in fresh("serve", "--host", host).out


# The master key (attack P9)

BAD_KEYS = {
    "31 bytes": GOOD[:62],
    "33 bytes": GOOD + "ab",
    "an odd digit": GOOD[:63],
    "zero": "0" * 64,
    "raw bytes": "x" * 32,
    "base64": "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=",
    "not hexadecimal": "g" * 64,
    "with 0x": "0x" + GOOD,
    "with spaces": " ".join(GOOD[i : i + 8] for i in range(0, 64, 8)),
    "other digits": "\u0661" * 64,
}


def assert_no_key_byte(text: str, *keys: str) -> None:
    for key in keys:
        for start in range(0, max(1, len(key) - 8), 4):
            assert key[start : start + 8] not in text, "a part of the key is printed"


@pytest.mark.parametrize("case", BAD_KEYS)
def test_a_bad_key_is_refused_with_what_to_do(command: Command, case: str) -> None:
    ended = command.set(master_key=BAD_KEYS[case])("serve")
    assert ended.code == 1
    assert "docvault keys generate" in ended.err and "Traceback" not in ended.err
    assert "the server runs" not in ended.out
    if case != "zero":
        assert_no_key_byte(ended.text, BAD_KEYS[case])


def test_a_bad_fallback_key_is_refused_too(command: Command) -> None:
    ended = command.set(master_key_fallbacks=f"{GOOD},{GOOD[:-2]}")("serve")
    assert ended.code == 1
    assert_no_key_byte(ended.text, GOOD)


def test_the_key_of_another_vault_is_refused_and_nothing_is_touched(command: Command, vault: Vault) -> None:
    before = {path: path.read_bytes() for path in vault.instance.rglob("*") if path.is_file()}
    for words in (("serve",), ("check",), ("sweep",), ("users", "list"), ("keys", "status")):
        ended = command.set(master_key=GOOD)(*words)
        assert ended.code == 1, words
        assert "not the one of this database" in ended.err and "MASTER_KEY_FALLBACKS" in ended.err
        assert_no_key_byte(ended.text, GOOD)
    database = vault.instance / "vault.sqlite3"
    assert database.read_bytes() == before[database]
    command.set(master_key="")
    assert command("check").code == 0, "with the right key all is as it was"


def test_a_missing_key_of_a_vault_that_exists_is_refused(command: Command) -> None:
    key_file = command.instance / "master.key"
    key = key_file.read_text()
    key_file.unlink()
    ended = command("serve")
    assert ended.code == 1
    assert "no master key" in ended.err and "Put the key back" in ended.err
    assert not key_file.exists(), "no key is made that could not open it"
    key_file.write_text(key)
    key_file.chmod(0o600)
    assert command("serve").code == 0


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o666, 0o660])
def test_a_key_that_others_can_read_is_refused(command: Command, mode: int) -> None:
    key_file = command.instance / "master.key"
    key_file.chmod(mode)
    ended = command("serve")
    assert ended.code == 1
    assert f"chmod 600 {key_file}" in ended.err
    assert_no_key_byte(ended.text, key_file.read_text().strip())


def test_a_key_file_that_is_named_and_missing_is_refused(command: Command, tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        ended = command.set(master_key_file=path)("serve")
        assert ended.code == 1 and str(path) in ended.err and "Traceback" not in ended.err


def test_a_key_comes_from_a_file_or_a_command(command: Command, vault: Vault, tmp_path: Path) -> None:
    key = (vault.instance / "master.key").read_text()
    (vault.instance / "master.key").unlink()
    path = tmp_path / "elsewhere"
    path.write_text(key)
    path.chmod(0o600)
    assert "the server runs" in command.set(master_key_file=path)("serve").out
    both = command.set(master_key_command=f"cat {path}")("serve")
    assert (
        both.code == 1 and "only one of DOCVAULT_MASTER_KEY_FILE and DOCVAULT_MASTER_KEY_COMMAND" in both.err
    )
    command.set(master_key_file="")


def test_a_key_command_that_fails_is_refused(command: Command) -> None:
    ended = command.set(master_key_command="echo 5f0c7a1e93d24b685f0c; exit 3")("serve")
    assert ended.code == 1
    assert "exit code 3" in ended.err
    assert_no_key_byte(ended.text, "5f0c7a1e93d24b685f0c")


# Everything else


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"storage": "minio"}, "DOCVAULT_MINIO_ENDPOINT"),
        ({"storage": "disk"}, "DOCVAULT_STORAGE"),
        ({"port": "99999"}, "DOCVAULT_PORT"),
        ({"workers": "0"}, "DOCVAULT_WORKERS"),
        ({"registration": "maybe"}, "DOCVAULT_REGISTRATION"),
        ({"rsa_bits": "1024"}, "DOCVAULT_RSA_BITS"),
        ({"public_url": "vault.example.org"}, "DOCVAULT_PUBLIC_URL"),
        ({"public_url": "https://vault.example.org/path"}, "DOCVAULT_PUBLIC_URL"),
        ({"part_size": "1000"}, "DOCVAULT_PART_SIZE"),
        ({"max_document_bytes": "-1"}, "DOCVAULT_MAX_DOCUMENT_BYTES"),
        ({"proxies": "one"}, "DOCVAULT_PROXIES"),
    ],
)
def test_a_setting_that_cannot_be_is_named(fresh: Command, settings: dict[str, str], named: str) -> None:
    ended = fresh.set(**settings)("serve")
    assert ended.code == 1
    assert named in ended.err and "Traceback" not in ended.err
    assert not fresh.instance.exists()


def test_a_wrong_setting_shows_no_secret() -> None:
    with pytest.raises(Misconfigured) as refused:
        load_settings(_env_file=None, master_key=GOOD, master_key_command="cat secret", minio_secret_key="canary",
                      storage="minio")  # fmt: skip
    assert_no_key_byte(str(refused.value), GOOD)
    assert "canary" not in str(refused.value)


def test_settings_show_no_secret() -> None:
    settings = load_settings(
        _env_file=None, master_key=GOOD, minio_secret_key="canary-secret", metrics_token="canary-token-1234",
        database_url="postgresql://user:canary-password@host/db", master_key_fallbacks=GOOD[::-1],
    )  # fmt: skip
    for shown in (repr(settings), str(settings), settings.model_dump_json()):
        assert "canary" not in shown
        assert_no_key_byte(shown, GOOD, GOOD[::-1])


def test_a_store_that_cannot_be_used_stops_the_start(command: Command, vault: Vault) -> None:
    blobs = vault.blobs
    for path in blobs.iterdir():
        path.rmdir()
    blobs.rmdir()
    blobs.write_text("not a folder")
    ended = command("serve")
    assert ended.code == 1
    assert str(blobs) in ended.err and "Traceback" not in ended.err


@pytest.mark.parametrize(
    "url", ["sqlite:////nowhere/at/all.sqlite3", "postgresql://user:canary-password@127.0.0.1:1/vault"]
)
def test_a_database_that_cannot_be_reached_stops_the_start(command: Command, url: str) -> None:
    ended = command.set(database_url=url, master_key=GOOD)("serve")
    assert ended.code == 1
    assert "DOCVAULT_DATABASE_URL" in ended.err and "Traceback" not in ended.err
    assert "canary" not in ended.text
