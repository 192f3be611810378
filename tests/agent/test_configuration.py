"""The configuration folder: private from the first byte, replaced as a whole, tells no name of a file."""

from __future__ import annotations

import json
import os
import stat
import threading
import time
from pathlib import Path

import pytest

from vault.agent.configuration import OLD_SECONDS, Configuration, default_folder, digest_of


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(
    ("environment", "platform", "found"),
    [
        ({"XDG_CONFIG_HOME": "/x"}, "linux", Path("/x/docvault")),
        ({"XDG_CONFIG_HOME": "x"}, "linux", Path.home() / ".config" / "docvault"),
        ({}, "linux", Path.home() / ".config" / "docvault"),
        ({"APPDATA": "/roaming", "XDG_CONFIG_HOME": "/x"}, "win32", Path("/roaming/docvault")),
    ],
)
def test_the_folder_is_where_the_system_keeps_such_things(
    environment: dict[str, str], platform: str, found: Path
) -> None:
    assert default_folder(environment, platform) == found


def test_folder_and_files_are_their_users_alone(configuration: Configuration) -> None:
    before = os.umask(0)
    try:
        configuration.write("session", {"token": "secret"})
    finally:
        os.umask(before)
    assert mode(configuration.folder) == 0o700
    assert mode(configuration.folder / "session") == 0o600
    assert configuration.read("session") == {"token": "secret"}


def test_a_folder_that_others_can_read_is_closed(configuration: Configuration) -> None:
    configuration.folder.mkdir(parents=True)
    configuration.folder.chmod(0o755)
    configuration.write("session", {})
    assert mode(configuration.folder) == 0o700


def test_a_file_is_private_while_it_is_written(
    configuration: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    replace = os.replace

    def look(source: Path, target: Path) -> None:
        seen.append((mode(source), Path(source).read_bytes()))
        replace(source, target)

    monkeypatch.setattr(os, "replace", look)
    before = os.umask(0)
    try:
        configuration.write("session", {"a": 1})
    finally:
        os.umask(before)
    assert seen == [(0o600, b'{"a": 1}')]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    configuration: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration.write("session", {"a": 1})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        configuration.write("session", {"a": 2})
    assert configuration.read("session") == {"a": 1}
    assert [path.name for path in configuration.folder.iterdir()] == ["session"]


def test_no_reader_sees_half_a_file(configuration: Configuration) -> None:
    configuration.write("session", {"a": "x" * 5000})
    ended = threading.Event()

    def write() -> None:
        for count in range(200):
            configuration.write("session", {"a": "x" * (5000 + count)})
        ended.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not ended.is_set():
        assert len(configuration.read("session")["a"]) >= 5000
    writer.join()


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff"])
def test_a_file_that_is_not_ours_is_nothing(configuration: Configuration, content: bytes) -> None:
    configuration.write("session", {})
    (configuration.folder / "session").write_bytes(content)
    assert configuration.read("session") == {}
    assert configuration.read("absent") == {}


def test_old_transfers_are_forgotten_and_the_login_is_not(configuration: Configuration) -> None:
    configuration.forget_old()
    for name in ("session", "put-1", "get-1", "put-2", ".1.new"):
        configuration.write(name, {})
    old = time.time() - OLD_SECONDS - 1
    for name in ("session", "put-1", "get-1", ".1.new"):
        os.utime(configuration.folder / name, (old, old))
    configuration.forget_old()
    assert {path.name for path in configuration.folder.iterdir()} == {"session", "put-2"}


def test_a_digest_keeps_fields_apart() -> None:
    made = {
        digest_of("ab", "c"),
        digest_of("a", "bc"),
        digest_of("abc"),
        digest_of("1"),
        digest_of(1),
        digest_of(None),
    }
    assert len(made) == 6
    assert digest_of("\udcff") != digest_of("\udcfe")
    assert json.dumps(sorted(made)).isascii()
