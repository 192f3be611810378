"""``docvault login | logout | put | get | ls | share | revoke | rm`` against a running vault."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agent.conftest import served
from tests.agent.pretence import Asked, MemoryTus, Told, pretending
from tests.cast import Vault
from tests.cli.commands import Ended
from tests.cli.machine import Machine
from tests.servers.processes import free_ports
from tests.servers.relay import Relay
from tests.servers.vault import VaultServer, start_vault
from vault.agent.client import SESSION_FILE
from vault.cli import client as under_test

__all__ = ["served"]

MIB = 1 << 20
Served = tuple[VaultServer, Vault]


@pytest.fixture
def machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Machine]:
    yield Machine(tmp_path / "home", monkeypatch, capsys)


@pytest.fixture
def alice(served: Served, machine: Machine) -> Iterator[Machine]:
    """Alice's machine, logged in; her documents go when the test has ended."""
    server, vault = served
    yield machine.as_user(server, "alice", vault)
    with server.client(vault.alice.token) as api:
        for row in api.get("/documents?scope=owned").json()["items"]:
            api.delete(f"/documents/{row['id']}").raise_for_status()


def another(machine: Machine, served: Served, name: str) -> Machine:
    """The same machine, with somebody else logged in."""
    return machine.as_user(served[0], name, served[1])


def out(ended: Ended) -> Any:
    assert ended.code == 0, ended.text
    return json.loads(ended.out)


def one_line(ended: Ended) -> str:
    """The error of a command: one line, exit code 1, nothing on standard output."""
    assert ended.code == 1 and ended.out == "", ended.text
    assert ended.err.count("\n") == 1 and ended.err.startswith("docvault: "), ended.err
    return ended.err.removeprefix("docvault: ").rstrip()


def document(content: bytes, vault: Vault, who: str = "alice") -> bool:
    return any(vault.read(who, row) == content for row in ids(vault, who))


def ids(vault: Vault, who: str) -> list[bytes]:
    with vault.services() as bundle:
        return [row.id for row in bundle.lists.page(vault.members[who].account).items]


# login, logout


def test_login_and_logout(served: Served, machine: Machine) -> None:
    server, vault = served
    ended = machine(
        "login",
        server.url,
        "--username",
        "Alice",
        "--passphrase-stdin",
        stdin=vault.alice.passphrase.encode() + b"\n",
    )
    assert ended.out == f"You are logged in to {server.url} as alice.\n"
    folder = machine.configuration.folder
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [(path.name, path.stat().st_mode & 0o777) for path in folder.iterdir()] == [(SESSION_FILE, 0o600)]
    assert vault.alice.passphrase not in (folder / SESSION_FILE).read_text()
    assert out(machine("ls", "--json")) == []
    again = machine(
        "login", "--username", "alice", "--passphrase-stdin", "--json", stdin=vault.alice.passphrase.encode()
    )
    assert out(again) == {"server": server.url, "username": "alice"}, "the last server is known"
    assert machine("logout").out == f"You are logged out of {server.url}.\n"
    assert list(folder.iterdir()) == []
    assert "docvault login" in one_line(machine("ls"))
    assert "docvault login" in one_line(machine("logout"))


def test_login_asks_on_the_terminal_and_shows_no_passphrase(served: Served, machine: Machine) -> None:
    server, vault = served
    typed = f"{server.url}\nalice\n{vault.alice.passphrase}\n".encode()
    code, shown = machine.on_terminal("login", typed=typed)
    assert code == 0 and "You are logged in" in shown, shown
    assert vault.alice.passphrase not in shown
    assert out(machine("ls", "--json")) == []


def test_login_refuses_what_would_show_or_guess(served: Served, machine: Machine) -> None:
    server, vault = served
    secret = vault.alice.passphrase.encode()
    words = ("--username", "alice", "--passphrase-stdin")
    assert "use https" in one_line(machine("login", "http://vault.example.org", *words, stdin=secret))
    wrong = machine("login", server.url, *words, stdin=b"wrong words\n")
    assert "do not fit together" in one_line(wrong) and "wrong words" not in wrong.text
    for given in (("login",), ("login", server.url), ("login", server.url, "--username", "alice")):
        ended = machine(*given)
        assert ended.code == 2 and "Usage" in ended.err
    assert not machine.configuration.folder.exists()


def test_logout_takes_the_login_away_whatever_the_server_says(served: Served, machine: Machine) -> None:
    for url in (served[0].url, f"http://127.0.0.1:{free_ports(1)[0]}"):
        machine.as_user(url)
        machine("logout")
        assert list(machine.configuration.folder.iterdir()) == []


def test_an_ended_session_says_log_in_again(served: Served, machine: Machine) -> None:
    machine.as_user(served[0])
    (machine.work / "a").write_bytes(b"x")
    for words in (
        ("ls",),
        ("put", "a"),
        ("get", "0" * 32),
        ("rm", "a", "--yes"),
        ("share", "a", "bob"),
        ("revoke", "a", "bob"),
    ):
        ended = machine(*words)
        assert re.search("log in again", one_line(ended), re.IGNORECASE)
        assert "a.token.of-tests" not in ended.text


def test_a_server_that_is_not_there_is_one_line(machine: Machine) -> None:
    machine.as_user(f"http://127.0.0.1:{free_ports(1)[0]}")
    assert "does not answer" in one_line(machine("ls"))


# put


def test_put_one_and_many(served: Served, alice: Machine) -> None:
    (alice.work / "plums.txt").write_bytes(b"plums")
    ended = alice("put", "plums.txt", "--share", "bob", "--share", "charlie", "--path", "a/b")
    (row,) = out(alice("ls", "--json"))
    assert ended.out == f"{row['id']}  plums.txt\n" and ended.err == ""
    assert (row["name"], row["path"], row["readers"], row["media_type"]) == (
        "plums.txt",
        ["a", "b"],
        2,
        "text/plain",
    )
    assert served[1].read("charlie", bytes.fromhex(row["id"])) == b"plums"
    (alice.work / "more").write_bytes(b"more")
    ended = alice("put", "plums.txt", "absent", "more", "--json")
    assert ended.code == 1
    first, failed, last = json.loads(ended.out)
    assert (first["name"], last["name"], last["size"]) == ("plums.txt", "more", 4)
    assert failed == {"file": "absent", "name": "absent", "error": "absent: No such file or directory"}
    assert ended.err == "docvault: absent: absent: No such file or directory\n"
    assert "No such file" in one_line(alice("put", "absent"))
    assert "not a file" in one_line(alice("put", "."))


def test_put_a_new_version_by_id_and_by_name(served: Served, alice: Machine) -> None:
    (alice.work / "plums.txt").write_bytes(b"one")
    (made,) = out(alice("put", "plums.txt", "--json", "--share", "bob"))
    for content, named in ((b"two", made["id"]), (b"three", "plums.txt")):
        (alice.work / "plums.txt").write_bytes(content)
        (again,) = out(alice("put", "plums.txt", "--json", "--new-version", named))
        assert again["id"] == made["id"]
        assert served[1].read("bob", bytes.fromhex(made["id"])) == content
    for name, words in (("bob", "owner"), ("charlie", "nothing here"), ("dora", "nothing here")):
        refused = another(alice, served, name)("put", "plums.txt", "--new-version", made["id"])
        assert words in one_line(refused).lower()


def test_put_standard_input(served: Served, alice: Machine) -> None:
    content = os.urandom(9 * MIB)
    (made,) = out(alice("put", "-", "--name", "stream.bin", "--json", stdin=content))
    assert made["size"] == len(content)
    assert served[1].read("alice", bytes.fromhex(made["id"])) == content


@pytest.mark.parametrize(
    "words",
    [("put",), ("put", "-"), ("put", "a", "b", "--name", "c"), ("put", "a", "b", "--new-version", "c"),
     ("put", "a", "--new-version", "c", "--share", "bob"), ("put", "a", "--share", "bob,charlie"),
     ("put", "a", "--parallel", "17"), ("get",), ("get", "a", "-o", "-", "--json"), ("get", "a", "-o", "."),
     ("ls", "--sort", "x"), ("share", "a"), ("share", "a", "bob", "--until", "tomorrow"), ("revoke", "a"), ("rm",)],
)  # fmt: skip
def test_what_cannot_be_meant_is_usage_and_exit_code_2(machine: Machine, words: tuple[str, ...]) -> None:
    machine.as_user("http://127.0.0.1:9")
    ended = machine(*words)
    assert ended.code == 2 and "Usage" in ended.err and ended.out == ""


def test_put_tells_what_the_server_refuses(alice: Machine) -> None:
    (alice.work / "a").write_bytes(b"x")
    assert "nobody-here" in one_line(alice("put", "a", "--share", "nobody-here"))
    assert "path" in one_line(alice("put", "a", "--path", "..")).lower()


def test_put_shows_a_bar_on_a_terminal_only(served: Served, alice: Machine) -> None:
    name = "evil\x1b[31m[bold]name"
    (alice.work / name).write_bytes(os.urandom(20 * MIB))
    code, shown = alice.on_terminal("put", name, "--name", "plain")
    assert code == 0, shown
    assert re.search(r"MB|bytes|kB", shown), "the bar"
    code, shown = alice.on_terminal("put", name)
    assert code == 1 and "\x1b[31m[bold]" not in shown and "control characters" in shown
    silent = alice.run("put", name, "--name", "other")
    assert silent.returncode == 0 and silent.stderr == b""


# get


def test_get_by_name_and_id_to_a_file_and_to_standard_output(served: Served, alice: Machine) -> None:
    content = os.urandom(2 * MIB)
    document_id = served[1].upload("alice", content, name="plums.odt", share=("bob",)).hex()
    assert alice("get", "plums.odt").out == "plums.odt\n"
    target = alice.work / "plums.odt"
    assert target.read_bytes() == content and target.stat().st_mode & 0o777 == 0o600
    assert "already" in one_line(alice("get", document_id))
    target.write_bytes(b"mine")
    assert "already" in one_line(alice("get", document_id)) and target.read_bytes() == b"mine"
    made = out(alice("get", document_id, "--force", "--json"))
    assert made == {"id": document_id, "name": "plums.odt", "file": "plums.odt", "size": len(content)}
    assert target.read_bytes() == content
    (alice.work / "sub").mkdir()
    assert alice("get", document_id, "-o", "sub/x").code == 0
    assert (alice.work / "sub" / "x").read_bytes() == content
    piped = alice.run("get", "plums.odt", "-o", "-")
    assert piped.stdout == content and piped.stderr == b""
    assert sorted(os.listdir(alice.work)) == ["plums.odt", "sub"]
    assert another(alice, served, "bob")("get", "plums.odt", "-o", "of-bob").code == 0
    for name in ("charlie", "dora"):
        assert (
            "nothing here" in one_line(another(alice, served, name)("get", document_id, "-o", name)).lower()
        )
        assert "no document named" in one_line(another(alice, served, name)("get", "plums.odt", "-o", name))


def test_get_an_older_version(served: Served, alice: Machine) -> None:
    server, vault = served
    document_id = vault.upload("alice", b"one", name="plums.odt", share=("bob",)).hex()
    (alice.work / "two").write_bytes(b"two")
    assert alice("put", "two", "--new-version", document_id).code == 0
    with server.client(vault.alice.token) as api:
        versions = api.get(f"/documents/{document_id}/versions").json()["items"]
    old = next(version["id"] for version in versions if not version["current"])
    assert alice("get", document_id, "--version", old, "-o", "old").code == 0
    assert (alice.work / "old").read_bytes() == b"one"
    assert alice("get", document_id, "-o", "new").code == 0
    assert (alice.work / "new").read_bytes() == b"two"
    assert another(alice, served, "bob")("get", document_id, "--version", old, "-o", "bob").code == 1


def hostile(name: str, content: bytes = b"owned") -> Any:
    def answer(asked: Asked) -> Told:
        if asked.path.endswith("/content"):
            return Told(
                200,
                {"ETag": '"1"', "Content-Disposition": f'attachment; filename="{"../" * 9}tmp/x"'},
                content,
            )
        return Told.json(
            {"id": "0" * 32, "name": name, "path": ["..", ".."], "size": len(content), "etag": "1"}
        )

    return answer


@pytest.mark.parametrize(
    ("name", "made"),
    [("../../x", "x"), ("/etc/cron.d/x", "x"), ("..\\..\\x", "x"), ("..", None), ("a/..", None), (".bashrc", None),
     ("a\nb", None), ("x\x1b[2J", None), ("", None)],
)  # fmt: skip
def test_x6_a_hostile_server_writes_only_a_file_of_this_folder(
    machine: Machine, name: str, made: str | None
) -> None:
    before = {path for path in machine.work.parent.rglob("*") if "config" not in path.parts}
    with pretending(hostile(name)) as server:
        ended = machine.as_user(server.url)("get", "0" * 32)
        assert ended.code == (0 if made else 1)
        assert all(c.isprintable() or c == "\n" for c in ended.text)
        after = {path for path in machine.work.parent.rglob("*") if "config" not in path.parts}
        assert after - before == ({machine.work / made} if made else set())
        if not made:
            assert machine("get", "0" * 32, "-o", "chosen").code == 0
            assert (machine.work / "chosen").read_bytes() == b"owned"


# ls


def test_ls_lists_sorts_searches_and_shows_no_raw_control_character(served: Served, alice: Machine) -> None:
    vault = served[1]
    vault.upload("alice", b"x" * 2000, name="plum jam.txt")
    vault.upload("alice", b"x", name="gpj.\u202efdp", share=("bob",))
    shared = vault.upload("bob", b"xx", name="of bob", share=("alice",))
    names = [row["name"] for row in out(alice("ls", "--json", "--sort", "name"))]
    assert names == ["gpj.\u202efdp", "of bob", "plum jam.txt"]
    assert [row["name"] for row in out(alice("ls", "--json", "--sort", "-size", "--owned"))] == [
        "plum jam.txt",
        "gpj.\u202efdp",
    ]
    assert [row["name"] for row in out(alice("ls", "--json", "--shared"))] == ["of bob"]
    assert [row["name"] for row in out(alice("ls", "--json", "--search", "JAM plum"))] == ["plum jam.txt"]
    short = alice("ls", "--sort", "name").out.splitlines()
    assert len(short) == 3 and short[2].startswith(
        names and out(alice("ls", "--json", "--sort", "name"))[2]["id"]
    )
    assert "gpj.\\u202efdp" in short[0] and "2.0 kB" in short[2]
    long = alice("ls", "--long", "--sort", "name").out.splitlines()
    assert "alice" in long[0] and "1 reader " in long[0] and "text/plain" in long[2] and "2000" in long[2]
    assert "\u202e" not in "".join(short + long) and "\u202e" not in alice("ls", "--json").out
    with server_of(served, "bob") as api:
        api.delete(f"/documents/{shared.hex()}").raise_for_status()


def server_of(served: Served, name: str) -> Any:
    return served[0].client(served[1].members[name].token)


def test_ls_follows_every_page(alice: Machine, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        served[1].upload("alice", b"x", name=f"plum {number}")
    monkeypatch.setattr("vault.agent.client.LARGEST_PAGE", 2)
    assert [row["name"] for row in out(alice("ls", "--json", "--sort", "name"))] == [
        f"plum {n}" for n in range(5)
    ]
    assert len(alice("ls").out.splitlines()) == 5


def test_ls_into_a_pipe_that_closes_is_quiet(alice: Machine, served: Served) -> None:
    served[1].upload("alice", b"x", name="plum")
    process = subprocess.Popen(
        [sys.executable, "-m", "vault.cli", "ls"], cwd=alice.work, env=os.environ | alice.environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()
    process.wait(60)


def test_nothing_to_list_is_nothing(alice: Machine) -> None:
    ended = alice("ls")
    assert (ended.code, ended.text) == (0, "")


# share, revoke, rm


def test_share_and_revoke(served: Served, alice: Machine) -> None:
    vault = served[1]
    document_id = vault.upload("alice", b"plums", name="plums.txt")
    ended = alice("share", "plums.txt", "bob", "--until", "2099-01-31T12:00:00+02:00")
    assert re.fullmatch(r"bob may read it\. His key: (\S+ ){5}\S+\n", ended.out)
    readers = out(alice("share", document_id.hex(), "charlie", "--json"))["readers"]
    assert [(reader["username"], reader["expires_at"]) for reader in readers] == [
        ("alice", None), ("bob", "2099-01-31T10:00:00Z"), ("charlie", None),
    ]  # fmt: skip
    assert vault.read("bob", document_id) == b"plums"
    assert "nobody-here" in one_line(alice("share", "plums.txt", "nobody-here"))
    assert alice("revoke", "plums.txt", "bob").out == "bob may no longer read it.\n"
    left = another(alice, served, "charlie")("revoke", "plums.txt", "me")
    assert left.out == "You have left it.\n"
    assert another(alice, served, "bob")("get", document_id.hex(), "-o", "x").code == 1
    readers = out(another(alice, served, "alice")("share", "plums.txt", "bob", "--json"))["readers"]
    assert [reader["username"] for reader in readers] == ["alice", "bob"]
    refused = another(alice, served, "bob")("share", document_id.hex(), "charlie")
    assert "Only the owner" in one_line(refused)
    assert out(another(alice, served, "alice")("revoke", "plums.txt", "bob", "--json"))["readers"][1:] == []
    alice("share", "plums.txt", "bob", "charlie")
    ended = alice("revoke", "plums.txt", "bob", "charlie", "--rekey", "--at-once")
    assert ended.out.splitlines()[-1] == "It has new keys." and len(ended.out.splitlines()) == 3
    another(alice, served, "alice")("share", "plums.txt", "bob")
    half = alice("revoke", "plums.txt", "bob", "nobody-here", "--rekey", "--at-once")
    assert half.code == 1 and "bob may no longer read it." in half.out and "It has new keys." in half.err
    with vault.services() as bundle:
        assert bundle.documents.view(vault.alice.account, document_id).generation == 3
    shown = another(alice, served, "alice")("revoke", document_id.hex(), "nobody-here", "--rekey")
    assert shown.code == 1 and "new keys" not in shown.out
    assert alice("revoke", document_id.hex(), "..").code == 1
    assert vault.read("alice", document_id) == b"plums", "a name of dots deletes nothing"


def test_rm_asks_and_tells(served: Served, alice: Machine) -> None:
    vault = served[1]
    ids = [
        vault.upload("alice", b"x", name=name).hex()
        for name in ("a\u202eb", "twice", "twice", "last", "kept")
    ]
    assert all(each in one_line(alice("rm", "twice", "--yes")) for each in ids[1:3])
    assert alice("rm", "last").code == 130, "nobody said yes"
    assert alice("rm", "last", stdin=b"n\n").code == 130
    assert len(out(alice("ls", "--json"))) == 5
    ended = alice("rm", ids[0], "last", stdin=b"y\n")
    assert ended.out == "a\\u202eb is deleted.\nlast is deleted.\n"
    assert out(alice("rm", *ids[1:3], "--yes", "--json")) == ids[1:3]
    assert [row["name"] for row in out(alice("ls", "--json"))] == ["kept"]
    assert "no document named" in one_line(alice("rm", "kept", "absent", "--yes")), "all of them or none"
    assert [row["name"] for row in out(alice("ls", "--json"))] == ["kept"]
    for name in ("bob", "charlie", "dora"):
        assert "nothing here" in one_line(another(alice, served, name)("rm", ids[4], "--yes")).lower()
    another(alice, served, "alice")


# Kills


def big_file(machine: Machine, mib: int = 40) -> tuple[Path, bytes]:
    path, content = machine.work / "big film.mov", os.urandom(mib * MIB + 4711)
    path.write_bytes(content)
    return path, content


def kept_names(machine: Machine) -> bytes:
    files = [path for path in machine.configuration.folder.rglob("*") if path.is_file()]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in files)
    return b"".join(path.name.encode() + path.read_bytes() for path in files)


def test_a_put_that_was_killed_sends_only_the_rest(served: Served, alice: Machine) -> None:
    server, vault = served
    path, content = big_file(alice)
    sent = 0

    def counted(piece: bytes) -> bytes:
        nonlocal sent
        sent += len(piece)
        return piece

    with Relay(server.port, change=counted) as relay:
        alice.as_user(f"http://{relay.endpoint}", "alice", vault)
        killed = alice.run(str(24 * MIB), "put", path.name, module="tests.cli.killed_client")
        assert killed.returncode == -signal.SIGKILL
        (memory,) = alice.configuration.folder.glob("put-*")
        assert b"film" not in kept_names(alice) and str(alice.work).encode() not in kept_names(alice)
        offset = settled_offset(server, vault, json.loads(memory.read_text())["spans"][0][0])
        assert 0 < offset < len(content)
        sent = 0
        (made,) = out(alice("put", path.name, "--json"))
        assert len(content) - offset <= sent < len(content) - offset + 100_000, "only the rest was sent"
    assert vault.read("alice", bytes.fromhex(made["id"])) == content
    assert len(out(alice.as_user(server, "alice", vault)("ls", "--json"))) == 1
    assert list(alice.configuration.folder.glob("put-*")) == []


def settled_offset(server: VaultServer, vault: Vault, place: str) -> int:
    """The offset of an upload once the server has noticed that its sender is gone: two answers that are the same."""
    headers = {"Tus-Resumable": "1.0.0"}
    with server.client(vault.alice.token) as api:
        before = -1
        for _ in range(100):
            offset = int(api.head(f"{server.url}{place}", headers=headers).headers["Upload-Offset"])
            if offset == before > 0:
                return offset
            before = offset
            time.sleep(0.3)
    raise AssertionError("nothing of the upload was kept")


def test_a_put_that_was_killed_is_not_gone_on_with_when_the_file_has_changed(
    served: Served, alice: Machine
) -> None:
    path, content = big_file(alice, 16)
    killed = alice.run(str(12 * MIB), "put", path.name, module="tests.cli.killed_client")
    assert killed.returncode == -signal.SIGKILL
    changed = bytes([content[0] ^ 1]) + content[1:]
    path.write_bytes(changed)
    (made,) = out(alice("put", path.name, "--json"))
    assert served[1].read("alice", bytes.fromhex(made["id"])) == changed


def test_a_get_that_was_killed_fetches_only_the_rest(served: Served, alice: Machine) -> None:
    path, content = big_file(alice)
    (made,) = out(alice("put", path.name, "--json"))
    path.unlink()
    killed = alice.run(str(24 * MIB), "get", made["id"], module="tests.cli.killed_client")
    assert killed.returncode == -signal.SIGKILL
    part = alice.work / f"{path.name}.part"
    have = part.stat().st_size
    assert 23 * MIB <= have < len(content) and part.stat().st_mode & 0o777 == 0o600
    assert not path.exists() and b"film" not in kept_names(alice)
    begun: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(under_test.Shown, "bar", lambda self, name, size: begun.append)
        assert alice("get", "big film.mov").code == 0
    assert have < begun[0] < have + MIB, "it went on where it was"
    assert path.read_bytes() == content and not part.exists()
    assert list(alice.configuration.folder.glob("get-*")) == []


def kill_all(server: VaultServer) -> None:
    """Kill master and workers at once (SIGKILL), as a power cut would."""
    pid = server.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for child in (pid, *map(int, children)):
        os.kill(child, signal.SIGKILL)
    server.process.kill()


@pytest.mark.parametrize("parallel", ["1", "3"])
def test_a_put_goes_on_by_itself_when_the_server_is_killed_and_comes_back(
    cast_folder: tuple[Path, Vault], machine: Machine, tmp_path: Path, parallel: str
) -> None:
    folder, made = cast_folder
    shutil.copytree(folder, tmp_path / "instance")
    vault = made.copied_to(tmp_path / "instance")
    server = start_vault(vault.instance, workers=2)
    servers = [server]
    path, content = big_file(machine, 72)
    restarted: list[threading.Thread] = []
    up, over = threading.Event(), threading.Event()

    def restart() -> None:
        # The kernel ends the server with the thread that started it: this one stays until the test is over.
        servers.append(start_vault(vault.instance, server.port, workers=2))
        up.set()
        over.wait()

    def moved(done: int) -> None:
        if done >= 30 * MIB and not restarted:
            kill_all(server)
            restarted.append(threading.Thread(target=restart))
            restarted[0].start()

    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(under_test.Shown, "bar", lambda self, name, size: moved)
            machine.as_user(server, "alice", vault)
            ended = machine("put", path.name, "--json", "--tries", "50", "--parallel", parallel)
        assert up.is_set()
        (sent,) = out(ended)
        assert "Trying again" in ended.err
        assert vault.read("alice", bytes.fromhex(sent["id"])) == content
        assert len(out(machine("ls", "--json"))) == 1
        with vault.services() as bundle:
            assert bundle.check.run().whole
    finally:
        if restarted:
            up.wait(60)
        servers[-1].stop()
        over.set()
        for thread in restarted:
            thread.join()
        vault.close()


def test_a_locked_session_says_so_and_the_same_put_goes_on_after_a_login(machine: Machine) -> None:
    tus = MemoryTus()
    (machine.work / "a").write_bytes(b"plums")
    tus.faults["PATCH"] = [Told(423, {"Retry-After": "0"})]
    with pretending(tus) as server:
        machine.as_user(server.url)
        ended = machine("put", "a", "--tries", "1")
        assert "locked" in one_line(ended) and "docvault login" in ended.err
        assert out(machine("put", "a", "--json"))[0]["id"] in tus.documents
        assert len([asked for asked in server.of("POST") if asked.path.endswith("uploads")]) == 1
