"""Sending files by tus: what breaks goes on, what has changed does not, and nothing is sent twice or mixed."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from tests.agent.conftest import login_to
from tests.agent.death import Killed, killed_at
from tests.agent.pretence import Asked, MemoryTus, Pretence, Told, pretending
from tests.cast import Vault
from tests.servers.vault import VaultServer
from vault.agent.client import SESSION_FILE, Client, LoggedOut, Refused, Unreachable
from vault.agent.configuration import Configuration
from vault.agent.uploads import BLOCK, Changed, Sender, Sent, Wanted
from vault.errors import BadInput, Gone, Locked

Make = Callable[..., Client]
MIB = 1 << 20
NAME = "Quittengelee ganz geheim.odt"
CONTENT = os.urandom(3 * MIB + 12345)
WANTED = Wanted(NAME, "a/b", ("bob",))


def sender_for(client: Client, **given: Any) -> Sender:
    return Sender(client, **({"tries": 3, "first_pause": 0.01} | given))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / NAME
    path.write_bytes(CONTENT)
    return path


def put_files(configuration: Configuration) -> list[Path]:
    return sorted(configuration.folder.glob("put-*"))


def test_a_file_arrives_with_what_is_said_of_it(client_of: Make, file: Path) -> None:
    tus = MemoryTus()
    done: list[int] = []
    with pretending(tus) as server:
        client = client_of(server.url)
        sent = sender_for(client).send_file(file, WANTED, done.append)
        (patch,) = server.of("PATCH")
    assert sent.document is not None and tus.documents[sent.document] == CONTENT
    assert sent.size == done[-1] == len(CONTENT)
    assert tus.metadata[sent.document] == {
        "filename": NAME, "filetype": "application/vnd.oasis.opendocument.text", "path": "a/b", "recipients": "bob",
    }  # fmt: skip
    assert patch.headers["Content-Length"] == str(len(CONTENT)), "one PATCH, its length told"
    assert "Transfer-Encoding" not in patch.headers
    assert put_files(client.configuration) == []


def test_an_empty_file_and_a_new_version(client_of: Make, file: Path) -> None:
    tus = MemoryTus()
    file.write_bytes(b"")
    with pretending(tus) as server:
        sent = sender_for(client_of(server.url)).send_file(file, Wanted("e", document="0" * 32))
        assert server.of("PATCH") == []
    assert sent == Sent(sent.document, 0) and tus.documents[str(sent.document)] == b""
    assert tus.metadata[str(sent.document)] == {"filename": "e", "document": "0" * 32}


def test_an_empty_file_is_not_asked_for_twice_when_the_answer_is_lost(client_of: Make, file: Path) -> None:
    """Its creation completes it: the second one would be a second document."""
    file.write_bytes(b"")
    with pretending(lambda asked: Told(201, cut=-1)) as server:
        with pytest.raises(Unreachable):
            sender_for(client_of(server.url)).send_file(file, WANTED)
        assert len(server.of("POST")) == 1


@pytest.mark.parametrize("kind", ["connection", 500, 502, 503, 429, 409, 423])
def test_what_breaks_goes_on_from_the_offset_that_the_server_tells(
    client_of: Make, file: Path, kind: str | int
) -> None:
    tus = MemoryTus()
    with pretending(tus) as server:
        if kind == "connection":
            server.cuts += [0, MIB + 7, MIB]
        else:
            tus.faults["PATCH"] = [Told(int(kind))] * 2
        sent = sender_for(client_of(server.url)).send_file(file, WANTED)
        offsets = [int(asked.headers["Upload-Offset"]) for asked in server.of("PATCH")]
    assert tus.documents == {sent.document: CONTENT}
    assert offsets == ([0, 0, MIB + 7, 2 * MIB + 7] if kind == "connection" else [0, 0, 0])


@pytest.mark.parametrize("method", ["POST", "HEAD"])
def test_other_requests_are_tried_again_too(client_of: Make, file: Path, method: str) -> None:
    tus = MemoryTus()
    tus.faults[method] = [Told(503), Told(200, cut=-1)]
    with pretending(tus) as server:
        server.cuts += [MIB]
        sent = sender_for(client_of(server.url), tries=4).send_file(file, WANTED)
    assert tus.documents == {sent.document: CONTENT}


def test_a_lost_answer_of_the_last_piece_makes_no_second_document(client_of: Make, file: Path) -> None:
    tus = MemoryTus()
    with pretending(tus) as server:
        server.cuts += [len(CONTENT)]
        sent = sender_for(client_of(server.url)).send_file(file, WANTED)
        assert [asked.method for asked in server.asked] == ["POST", "PATCH", "HEAD"]
    assert list(tus.documents) == [sent.document]


def test_it_gives_up_after_so_many_tries_and_another_run_goes_on(client_of: Make, file: Path) -> None:
    tus = MemoryTus()
    told: list[str] = []
    with pretending(tus) as server:
        client = client_of(server.url)
        server.cuts += [MIB, 0, 0, 0]
        with pytest.raises(Unreachable, match="broke off"):
            sender_for(client, notice=told.append).send_file(file, WANTED)
        assert len(server.of("PATCH")) == 4, "one that got further, and three that did not"
        assert len(told) == 3 and all("Trying again in" in text for text in told)
        sent = sender_for(client).send_file(file, WANTED)
        assert [asked.headers["Upload-Offset"] for asked in server.of("PATCH")[4:]] == [str(MIB)]
        assert len(server.of("POST")) == 1
    assert tus.documents == {sent.document: CONTENT}


@pytest.mark.parametrize("status", [400, 403, 413, 415, 507])
def test_a_refusal_is_told_at_once(client_of: Make, file: Path, status: int) -> None:
    tus = MemoryTus()
    tus.faults["POST"] = [Told.problem(status, "Too much for you.")]
    with pretending(tus) as server:
        with pytest.raises(Refused, match="Too much for you"):
            sender_for(client_of(server.url)).send_file(file, WANTED)
        assert len(server.asked) == 1


# Across runs


def test_a_killed_put_goes_on_and_its_folder_tells_no_name(client_of: Make, file: Path) -> None:
    tus = MemoryTus()
    with pretending(tus) as server:
        client = client_of(server.url)
        with pytest.raises(Killed):
            sender_for(client).send_file(file, WANTED, killed_at(2 * MIB))
        server.wait_until_idle()
        (memory,) = put_files(client.configuration)
        assert memory.stat().st_mode & 0o777 == 0o600
        kept = b"".join(
            path.name.encode() + path.read_bytes() for path in client.configuration.folder.iterdir()
        )
        for secret in (NAME, "Quittengelee", str(file.parent), "bob", "a/b"):
            assert secret.encode() not in kept
        sent = sender_for(client).send_file(file, WANTED)
        assert len(server.of("POST")) == 1
        assert int(server.of("PATCH")[-1].headers["Upload-Offset"]) >= MIB
        assert put_files(client.configuration) == []
    assert tus.documents == {sent.document: CONTENT}


def change_size(path: Path) -> None:
    path.write_bytes(CONTENT + b"!")


def change_time(path: Path) -> None:
    found = path.stat()
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + 1))


def change_inode(path: Path) -> None:
    found = path.stat()
    other = path.with_name("other")
    other.write_bytes(CONTENT[::-1])
    os.utime(other, ns=(found.st_atime_ns, found.st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize("change", [change_size, change_time, change_inode])
def test_a_file_that_changed_between_two_runs_begins_anew(
    client_of: Make, file: Path, change: Callable[[Path], None]
) -> None:
    tus = MemoryTus()
    with pretending(tus) as server:
        client = client_of(server.url)
        with pytest.raises(Killed):
            sender_for(client).send_file(file, WANTED, killed_at(2 * MIB))
        change(file)
        sent = sender_for(client).send_file(file, WANTED)
    assert tus.documents == {sent.document: file.read_bytes()}


@pytest.mark.parametrize(
    "other", [replace(WANTED, recipients=()), replace(WANTED, name="b"), replace(WANTED, path=""),
              replace(WANTED, document="0" * 32)],
)  # fmt: skip
def test_another_wish_does_not_go_on_with_an_upload_that_was_promised_otherwise(
    client_of: Make, file: Path, other: Wanted
) -> None:
    tus = MemoryTus()
    with pretending(tus) as server:
        client = client_of(server.url)
        with pytest.raises(Killed):
            sender_for(client).send_file(file, WANTED, killed_at(2 * MIB))
        sent = sender_for(client).send_file(file, other)
        assert len(server.of("POST")) == 2
    assert tus.metadata[str(sent.document)]["filename"] == other.name
    assert tus.metadata[str(sent.document)].get("recipients", "") == ",".join(other.recipients)


@pytest.mark.parametrize("at", [MIB, 3 * MIB])
def test_a_file_that_changes_while_it_is_sent_becomes_no_document(
    client_of: Make, file: Path, at: int
) -> None:
    tus = MemoryTus()

    def moved(done: int) -> None:
        if done == at:
            with file.open("r+b") as opened:
                opened.write(b"changed")
            change_time(file)

    with pretending(tus) as server:
        client = client_of(server.url)
        with pytest.raises(Changed):
            sender_for(client).send_file(file, WANTED, moved)
        assert put_files(client.configuration) == []
    assert tus.documents == {}
    assert [held.ended for held in tus.uploads.values()] == [True], "and the server is told"


def test_a_file_that_becomes_shorter_is_no_document(client_of: Make, file: Path) -> None:
    tus = MemoryTus()
    with pretending(tus) as server, pytest.raises(Changed):
        sender_for(client_of(server.url)).send_file(file, WANTED, lambda done: os.truncate(file, 100))
    assert tus.documents == {}


@pytest.mark.parametrize("status", [404, 410])
def test_an_upload_that_the_server_forgot_begins_anew_once(client_of: Make, file: Path, status: int) -> None:
    tus = MemoryTus()
    with pretending(tus) as server:
        client = client_of(server.url)
        with pytest.raises(Killed):
            sender_for(client).send_file(file, WANTED, killed_at(2 * MIB))
        tus.faults["HEAD"] = [Told(status)]
        sent = sender_for(client).send_file(file, WANTED)
        assert tus.documents == {sent.document: CONTENT}
        tus.faults["PATCH"] = [Told(status)]
        with pytest.raises(Gone):
            sender_for(client).send_file(file, WANTED)


def test_a_folder_a_pipe_and_a_name_that_is_no_text_are_refused(client_of: Make, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    odd.write_bytes(b"x")
    with pretending(MemoryTus()) as server:
        sender = sender_for(client_of(server.url))
        for path in (tmp_path, tmp_path / "pipe"):
            with pytest.raises(BadInput, match="not a file"):
                sender.send_file(path, WANTED)
        with pytest.raises(BadInput, match="--name"):
            sender.send_file(odd, Wanted(odd.name))
        with pytest.raises(FileNotFoundError):
            sender.send_file(tmp_path / "absent", WANTED)
        assert server.asked == []


# A session that ends


def test_a_locked_session_says_so_and_the_same_put_goes_on_after_a_login(client_of: Make, file: Path) -> None:
    tus = MemoryTus()
    with pretending(tus) as server:
        client = client_of(server.url)
        server.cuts += [MIB]
        tus.faults["HEAD"] = [Told(423)]
        with pytest.raises(Locked, match="docvault login"):
            sender_for(client, tries=2).send_file(file, WANTED)
        sent = sender_for(client).send_file(file, WANTED)
        assert len(server.of("POST")) == 1 + len([a for a in server.asked if a.path.endswith("renew")])
    assert tus.documents == {sent.document: CONTENT}


@pytest.mark.parametrize("status", [401, 423])
def test_a_login_made_meanwhile_lets_it_go_on_by_itself(client_of: Make, file: Path, status: int) -> None:
    tus = MemoryTus()
    with pretending(tus) as server:
        client = client_of(server.url)

        def log_in_again(asked: Asked) -> Told:
            if asked.method == "PATCH" and asked.headers["Authorization"] != "Bearer newer":
                newer = replace(login_to(server.url, "alice", "newer"), number="2")
                client.configuration.write(SESSION_FILE, asdict(newer))
                return Told(status)
            return tus(asked)

        server.answer = log_in_again
        sent = sender_for(client, tries=1).send_file(file, WANTED)
    assert tus.documents == {sent.document: CONTENT}


def test_an_ended_session_is_told_at_once(client_of: Make, file: Path) -> None:
    tus = MemoryTus()
    tus.faults["PATCH"] = [Told(401)]
    with pretending(tus) as server, pytest.raises(LoggedOut, match="it continues"):
        sender_for(client_of(server.url)).send_file(file, WANTED)


# Where a server points to


@pytest.mark.parametrize(
    "location",
    ["http://evil.example/api/v1/uploads/{}", "//evil.example/api/v1/uploads/{}", "uploads/{}", "{}"],
)
def test_the_token_goes_to_no_other_host(client_of: Make, file: Path, location: str) -> None:
    tus = MemoryTus()
    tus.location = location
    with pretending(tus) as server:
        client = client_of(server.url)
        if location in {"uploads/{}"}:
            with pytest.raises(Refused):
                sender_for(client).send_file(file, WANTED)
        else:
            sent = sender_for(client).send_file(file, WANTED)
            assert tus.documents == {sent.document: CONTENT}


@pytest.mark.parametrize(
    "location", ["", "/elsewhere/1", "/api/v1/uploads/", "/api/v1/uploads/../documents", "/api/v1/uploads/a b",
                 "http://evil.example/api/v1/uploads/../me"],
)  # fmt: skip
def test_a_place_that_is_no_upload_is_refused(client_of: Make, file: Path, location: str) -> None:
    with pretending(lambda asked: Told(201, {"Location": location})) as server:
        with pytest.raises(Refused, match="not one of a vault"):
            sender_for(client_of(server.url)).send_file(file, WANTED)
        assert len(server.asked) == 1


@pytest.mark.parametrize("offset", ["", "-1", "x", "9" * 30])
def test_an_offset_that_is_none_is_refused(client_of: Make, file: Path, offset: str) -> None:
    tus = MemoryTus()
    with pretending(tus) as server:
        server.answer = lambda asked: (
            tus(asked) if asked.method == "POST" else Told(204, {"Upload-Offset": offset})
        )
        with pytest.raises(Refused):
            sender_for(client_of(server.url)).send_file(file, WANTED)


def test_a_server_that_takes_nothing_is_not_asked_for_ever(client_of: Make, file: Path) -> None:
    tus = MemoryTus()
    with pretending(tus) as server:
        server.answer = lambda asked: (
            tus(asked) if asked.method == "POST" else Told(204, {"Upload-Offset": "0"})
        )
        with pytest.raises(Unreachable):
            sender_for(client_of(server.url)).send_file(file, WANTED)


# A stream


def cut_stream(server: Pretence, tus: MemoryTus) -> None:
    server.cuts += [0, MIB, None, 5]
    tus.faults["HEAD"] = [Told(503)]


@pytest.mark.parametrize("length", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK])
@pytest.mark.parametrize("cut", [False, True])
def test_a_stream_arrives_whatever_its_length(client_of: Make, length: int, cut: bool) -> None:
    tus = MemoryTus()
    content = os.urandom(length)
    with pretending(tus) as server:
        if cut:
            cut_stream(server, tus)
        sent = sender_for(client_of(server.url), tries=4).send_stream(io.BytesIO(content), WANTED)
        assert server.of("POST")[0].headers["Upload-Defer-Length"] == "1"
        assert all(int(asked.headers["Content-Length"]) <= BLOCK for asked in server.of("PATCH"))
        assert [a.headers.get("Upload-Length") for a in server.of("PATCH")][-1] == str(length)
    assert tus.documents == {sent.document: content}
    assert sent.size == length


def test_a_stream_that_trickles_is_gathered(client_of: Make) -> None:
    reader, writer = os.pipe()
    content = os.urandom(200_000)

    def write() -> None:
        with os.fdopen(writer, "wb", buffering=0) as pipe:
            for start in range(0, len(content), 7001):
                pipe.write(content[start : start + 7001])

    beside = threading.Thread(target=write)
    beside.start()
    tus = MemoryTus()
    with pretending(tus) as server, os.fdopen(reader, "rb") as stream:
        sent = sender_for(client_of(server.url)).send_stream(stream, WANTED)
        assert len(server.of("PATCH")) == 1
    beside.join()
    assert tus.documents == {sent.document: content}


# Parallel


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / NAME
    path.write_bytes(os.urandom(3 * BLOCK + 4711))
    return path


def test_pieces_that_run_at_once_make_one_document(client_of: Make, large: Path) -> None:
    tus = MemoryTus()
    done: list[int] = []
    with pretending(tus) as server:
        server.cuts += [MIB, 0, None]
        sender = sender_for(client_of(server.url), parallel=3, parallel_from=BLOCK)
        sent = sender.send_file(large, WANTED, done.append)
        posts = server.of("POST")
    assert tus.documents == {sent.document: large.read_bytes()}
    assert tus.metadata[str(sent.document)]["recipients"] == "bob"
    assert [post.headers["Upload-Concat"].partition(";")[0] for post in posts] == [
        "partial",
        "partial",
        "final",
    ]
    assert [post.headers.get("Upload-Length") for post in posts] == [str(2 * BLOCK), str(BLOCK + 4711), None]
    assert max(done) == large.stat().st_size


def test_a_small_file_goes_in_one_piece_whatever_is_asked(client_of: Make, file: Path) -> None:
    with pretending(MemoryTus()) as server:
        sender_for(client_of(server.url), parallel=8).send_file(file, WANTED)
        assert "Upload-Concat" not in server.of("POST")[0].headers


def test_a_parallel_put_that_was_killed_goes_on_also_when_only_the_join_is_missing(
    client_of: Make, large: Path
) -> None:
    tus = MemoryTus()
    with pretending(tus) as server:
        client = client_of(server.url)
        with pytest.raises(Killed):
            sender_for(client, parallel=2, parallel_from=BLOCK).send_file(large, WANTED, killed_at(5 * MIB))
        server.wait_until_idle()
        assert sum(len(held.data) for held in tus.uploads.values()) > 0
        original = tus.create
        tus.create = lambda asked: (
            Told(403) if "final" in asked.headers.get("Upload-Concat", "") else original(asked)
        )  # type: ignore[method-assign]
        with pytest.raises(Refused):
            sender_for(client).send_file(large, WANTED)
        tus.create = original  # type: ignore[method-assign]
        patches = len(server.of("PATCH"))
        sent = sender_for(client).send_file(large, WANTED)
        assert len(server.of("PATCH")) == patches, "nothing was sent again"
    assert tus.documents == {sent.document: large.read_bytes()}


def test_one_piece_that_fails_ends_the_others(client_of: Make, large: Path) -> None:
    tus = MemoryTus()
    with pretending(tus) as server:
        server.answer = lambda asked: (
            Told.problem(413, "Too large.") if asked.method == "PATCH" else tus(asked)
        )
        with pytest.raises(Refused, match="Too large"):
            sender_for(client_of(server.url), parallel=3, parallel_from=BLOCK).send_file(large, WANTED)


def test_a_file_that_changed_before_the_join_becomes_no_document(client_of: Make, large: Path) -> None:
    tus = MemoryTus()
    size = large.stat().st_size
    with pretending(tus) as server, pytest.raises(Changed):
        sender_for(client_of(server.url), parallel=2, parallel_from=BLOCK).send_file(
            large, WANTED, lambda done: change_time(large) if done == size else None
        )
    assert tus.documents == {}
    assert all(held.ended for held in tus.uploads.values())


# The real server


@pytest.mark.parametrize("parallel", [1, 3])
def test_a_real_vault_takes_a_file_a_stream_and_a_new_version(
    served: tuple[VaultServer, Vault], client_of: Make, large: Path, parallel: int
) -> None:
    server, vault = served
    client = client_of(server.url, "alice", vault.alice.token)
    sender = sender_for(client, parallel=parallel, parallel_from=BLOCK)
    sent = sender.send_file(large, WANTED)
    document = bytes.fromhex(str(sent.document))
    assert vault.read("bob", document) == large.read_bytes()
    row = client.document(str(sent.document))
    assert (row["name"], row["path"], row["readers"], row["size"]) == (NAME, ["a", "b"], 1, sent.size)
    version = sender.send_stream(io.BytesIO(CONTENT), Wanted("second", document=str(sent.document)))
    assert version.document == sent.document
    assert vault.read("bob", document) == CONTENT
    empty = large.with_name("empty")
    empty.touch()
    assert vault.read("alice", bytes.fromhex(str(sender.send_file(empty, Wanted("empty")).document))) == b""
    for length in (0, BLOCK):
        stream = sender.send_stream(io.BytesIO(bytes(length)), Wanted("stream"))
        assert vault.read("alice", bytes.fromhex(str(stream.document))) == bytes(length)


def test_a_real_vault_refuses_what_others_may_not(
    served: tuple[VaultServer, Vault], client_of: Make, file: Path
) -> None:
    server, vault = served
    document = vault.upload("alice", b"plums", share=("bob",)).hex()
    for name, status in (("bob", 403), ("charlie", 404), ("dora", 404)):
        client = client_of(server.url, name, vault.members[name].token)
        with pytest.raises((Refused, Gone)) as caught:
            sender_for(client).send_file(file, Wanted("x", document=document))
        assert status == 404 or getattr(caught.value, "status", None) == 403
    assert vault.read("alice", bytes.fromhex(document)) == b"plums"


def test_a_session_that_ends_in_the_middle_loses_nothing(
    served: tuple[VaultServer, Vault], client_of: Make, large: Path
) -> None:
    server, vault = served
    old = server.log_in("charlie", vault.charlie.passphrase)
    client = client_of(server.url, "charlie", old)
    ended = []

    def moved(done: int) -> None:
        if done > BLOCK and not ended:
            ended.append(True)
            with server.client(old) as other:
                other.delete("/token").raise_for_status()

    with pytest.raises((Locked, LoggedOut), match="docvault login"):
        sender_for(client, tries=1).send_file(large, Wanted("x"), moved)
    again = client_of(server.url, "charlie", server.log_in("charlie", vault.charlie.passphrase))
    first: list[int] = []
    sent = sender_for(again).send_file(large, Wanted("x"), first.append)
    assert first[0] >= BLOCK, "it went on"
    assert vault.read("charlie", bytes.fromhex(str(sent.document))) == large.read_bytes()
