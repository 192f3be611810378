"""Uploads that resume, through every fault: F1, F2, F16, F23, and connections that are cut at any byte.

What is acknowledged is kept, what is told as offset is durable, and no byte of one sender lies among another's.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import random  # noqa: TID251  (moments and places from a seed that is printed)
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cast import Vault
from tests.faults.launcher import Order
from tests.faults.served import Served, answers, restart, served, until
from tests.faults.test_kills import kill_worker, named
from tests.servers.processes import LOOPBACK
from tests.tus import PIECE, UPLOADS, VERSION, metadata

PART = 32768
CONTENT = os.urandom(4 * PART + 1000)  # five parts


def fresh_token(doomed: Served, who: str = "alice") -> str:
    """The token of a client that renews it beside its uploads, as ours do: a thousand of them take longer than one."""
    member = doomed.vault.members[who]
    with doomed.vault.services() as bundle:
        if bundle.sessions.is_worn(member.token):
            member.token = bundle.sessions.token_for(member.account)
    return member.token


HTTP = httpx.Client(trust_env=False, timeout=60)
"""One client for all: to make one costs more than a request."""


@dataclass
class Remote:
    """An upload of Alice's at the server that may die."""

    doomed: Served
    length: int
    place: str = ""
    who: str = "alice"

    def ask(self, method: str, place: str, **headers: Any) -> httpx.Response:
        content, token = headers.pop("content", None), fresh_token(self.doomed, self.who)
        given = {"Tus-Resumable": VERSION, "Authorization": f"Bearer {token}", "Connection": "close"}
        given |= {name.replace("_", "-"): str(value) for name, value in headers.items()}
        return HTTP.request(method, f"{self.doomed.server.url}{place}", headers=given, content=content)

    def begin(self, **headers: Any) -> Remote:
        answer = self.ask("POST", UPLOADS, Upload_Length=self.length, **headers)
        assert answer.status_code == 201, answer.text
        self.place = answer.headers["Location"]
        return self

    def head(self) -> httpx.Response:
        return self.ask("HEAD", self.place)

    def offset(self) -> int:
        answer = self.head()
        assert answer.status_code == 200
        return int(answer.headers["Upload-Offset"])

    def patch(self, offset: int, body: bytes) -> httpx.Response:
        return self.ask("PATCH", self.place, Upload_Offset=offset, Content_Type=PIECE, content=body)

    def finish(self, content: bytes) -> str:
        """Go on from where the server says, as often as it takes; return the document's id."""
        for _ in range(50):
            offset = self.offset()
            if offset == self.length:
                break
            with suppress(httpx.TransportError):
                assert self.patch(offset, content[offset:]).status_code in {204, 409, 503}
            until(lambda: answers(self.doomed.server))
        return str(self.head().headers["X-Vault-Document"])

    def stored(self) -> list[tuple[int, int]]:
        """Offset and size of each blob of the upload's own that the store holds, those of last parts aside."""
        names = [path for path in self.doomed.vault.blob_files() if path.parent.name == self.segment()]
        return sorted((int(path.name, 16), path.stat().st_size) for path in names if "." not in path.name)

    def segment(self) -> str:
        from vault.crypto.resumable import read_upload_token

        with self.doomed.vault.services() as bundle:
            return read_upload_token(bundle.resumable._master, self.place.rpartition("/")[2]).upload.hex()


def sure_of(doomed: Served, document: str, content: bytes) -> None:
    assert doomed.content(document) == content
    acts = [act for act, about, *_ in doomed.vault.audit() if about == document]
    assert acts.count("upload") == 1
    assert doomed.findings() == []


# F1

PIECES = [
    Order("upload.before_put"),
    Order("folder.before_link", 2),
    Order("folder.after_link", 2),
    Order("upload.after_put"),
    Order("upload.after_put", 3),
]


@pytest.mark.parametrize("order", PIECES, ids=named)
def test_f1_after_a_kill_in_a_piece_the_offset_is_durable_and_the_rest_follows(
    doomed: Served, order: Order
) -> None:
    remote = Remote(doomed, len(CONTENT)).begin()
    doomed.killed(order, lambda: remote.patch(0, CONTENT))
    offset = remote.offset()
    parts = remote.stored()
    assert offset % PART == 0
    assert [start for start, _ in parts] == list(range(0, offset, PART)), (
        "no part is there without those before it"
    )
    assert offset // PART >= order.number - (
        order.point != "upload.after_put" and order.point != "folder.after_link"
    )
    assert doomed.findings() == []
    sure_of(doomed, remote.finish(CONTENT), CONTENT)


@pytest.mark.parametrize("rounds", [20, pytest.param(1000, marks=pytest.mark.long)])
def test_f1_killed_at_random_moments_every_upload_ends_whole(doomed: Served, rounds: int) -> None:
    """Uploads go on side by side; each kill hits some of them anywhere."""
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    moments, done = random.Random(seed), threading.Event()

    def killing() -> None:
        for _ in range(rounds):
            if done.wait(moments.uniform(0, 0.3)):
                return
            with suppress(ProcessLookupError, IndexError):
                kill_worker(doomed)
            until(lambda: answers(doomed.server))

    killer = threading.Thread(target=killing)
    killer.start()
    made = 0
    while killer.is_alive():
        content = os.urandom(moments.randrange(1, 5 * PART))
        remote = Remote(doomed, len(content))
        while not remote.place:
            with suppress(httpx.TransportError):
                remote.begin()
        document = ""
        while not document:
            with suppress(httpx.TransportError, KeyError):
                document = remote.finish(content)
        made += 1
        while True:
            with suppress(httpx.TransportError, httpx.HTTPStatusError):
                assert doomed.content(document) == content, f"seed {seed}, upload {made}"
                break
    killer.join()
    assert made
    assert doomed.findings() == [], f"seed {seed}"


# F2

COMPLETIONS = [
    Order("upload.before_commit"),
    Order("upload.after_commit"),
    Order("upload.after_commit", 1, "all"),
]


@pytest.mark.parametrize("order", COMPLETIONS, ids=named)
def test_f2_a_completion_that_is_killed_is_done_or_not_and_repeated_is_the_same(
    doomed: Served, order: Order
) -> None:
    remote, last = Remote(doomed, len(CONTENT)).begin(Upload_Metadata=metadata(filename="f2")), 4 * PART
    assert remote.patch(0, CONTENT[:last]).status_code == 204
    before = doomed.documents()
    doomed.killed(order, lambda: remote.patch(last, CONTENT[last:]))
    done = order.point == "upload.after_commit"
    assert remote.offset() == (len(CONTENT) if done else last)
    assert len(doomed.documents()) == len(before) + done
    assert doomed.findings() == []
    again = remote.patch(last, CONTENT[last:])
    assert again.status_code == 204
    document = again.headers["X-Vault-Document"]
    assert remote.head().headers["X-Vault-Document"] == document
    assert set(doomed.documents()) == {*before, document}
    sure_of(doomed, document, CONTENT)


@pytest.mark.parametrize("order", COMPLETIONS[:2], ids=named)
def test_f2_a_join_that_is_killed_is_done_or_not_and_repeated_is_the_same(
    doomed: Served, order: Order
) -> None:
    halves = [CONTENT[: 2 * PART], CONTENT[2 * PART :]]
    places = []
    for half in halves:
        remote = Remote(doomed, len(half)).begin(Upload_Concat="partial")
        assert remote.patch(0, half).status_code == 204
        places.append(remote.place)
    before = doomed.documents()

    def join() -> httpx.Response:
        return remote.ask("POST", UPLOADS, Upload_Concat=f"final;{' '.join(places)}")

    doomed.killed(order, join)
    assert len(doomed.documents()) == len(before) + (order.point == "upload.after_commit")
    answers_ = [join(), join()]
    assert [answer.status_code for answer in answers_] == [201, 201]
    (document,) = {answer.headers["X-Vault-Document"] for answer in answers_}
    assert set(doomed.documents()) == {*before, document}
    sure_of(doomed, document, CONTENT)


@pytest.mark.parametrize(
    "order", [Order("upload_end.before_commit"), Order("upload_end.after_commit")], ids=named
)
def test_f2_an_end_that_is_killed_is_done_or_not(doomed: Served, order: Order) -> None:
    remote = Remote(doomed, len(CONTENT)).begin()
    assert remote.patch(0, CONTENT[:PART]).status_code == 204
    doomed.killed(order, lambda: remote.ask("DELETE", remote.place))
    assert remote.head().status_code == (410 if order.point == "upload_end.after_commit" else 200)
    assert doomed.findings() == []
    assert remote.ask("DELETE", remote.place).status_code in {204, 410}
    assert remote.patch(PART, CONTENT[PART:]).status_code == 410 or remote.head().status_code == 410
    assert remote.head().status_code == 410
    assert doomed.findings() == []


# F16


def letter(who: int, start: int, length: int) -> bytes:
    """What a client sends: each byte tells who sent it, and where it belongs."""
    first = (who * 37 + start) % 251
    return (ROUND * (length // 251 + 2))[first : first + length]


ROUND = bytes(range(251))


class Client:
    """One of many on the same upload: asks, sends, sends again, sends at wrong places, and breaks off."""

    def __init__(self, remote: Remote, who: int, seed: int, taken: list[tuple[int, int, int]]) -> None:
        self.remote = remote
        self.who = who
        self.chance = random.Random(f"{seed} {who}")
        self.taken = taken

    def run(self) -> None:
        for _ in range(6):
            self.act()

    def act(self) -> None:
        answer = self.remote.head()
        assert answer.status_code == 200, answer.status_code
        offset = int(answer.headers["Upload-Offset"])
        room = self.remote.length - offset
        if room <= 2 * PART:
            return
        start = offset if self.chance.random() < 0.8 else self.chance.randrange(offset + 1)
        size = min(self.chance.choice([1, 1000, PART, PART + 7, 3 * PART]), room - 1)
        body = letter(self.who, start, size)
        for _ in range(self.chance.choice([1, 1, 2])):
            sent = self.remote.patch(start, body)
            assert sent.status_code in {204, 409, 503}, sent.text
            if sent.status_code == 204:
                assert int(sent.headers["Upload-Offset"]) == start + size
                self.taken.append((self.who, start, size))


@pytest.mark.parametrize("rounds", [2, pytest.param(200, marks=pytest.mark.long)])
def test_f16_many_clients_on_one_upload_mix_no_byte(doomed: Served, rounds: int) -> None:
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    chance = random.Random(seed)
    for number in range(rounds):
        remote = Remote(doomed, 12 * PART).begin()
        taken: list[tuple[int, int, int]] = []
        clients = [Client(remote, who, seed + number, taken) for who in range(chance.randint(2, 8))]
        with ThreadPoolExecutor(len(clients)) as threads:
            for running in [threads.submit(client.run) for client in clients]:
                running.result(120)
        parts = remote.stored()
        offset = remote.offset()
        found = doomed.content(remote.finish(letter(99, 0, 12 * PART)))
        for who, start, size in taken:
            assert found[start : start + size] == letter(who, start, size), f"seed {seed}, round {number}"
        edges = [start for start, _ in parts if start < offset] + [offset]
        for start, end in pairwise(edges):
            assert found[start:end] in {letter(who, start, end - start) for who in range(8)}, (
                f"seed {seed}, round {number}: a part of two"
            )
        assert found[offset:] == letter(99, offset, 12 * PART - offset)
    assert doomed.findings() == [], f"seed {seed}"


def test_f16_who_deletes_while_others_send_has_deleted(doomed: Served) -> None:
    remote = Remote(doomed, 40 * PART).begin()
    with ThreadPoolExecutor(4) as threads:
        sending = [threads.submit(remote.patch, 0, letter(who, 0, 30 * PART)) for who in range(3)]
        deleted = threads.submit(remote.ask, "DELETE", remote.place).result(60)
        statuses = {future.result(60).status_code for future in sending}
    assert deleted.status_code == 204
    assert statuses <= {204, 409, 410}
    assert remote.head().status_code == remote.patch(0, b"x").status_code == 410
    assert doomed.findings() == []


# Connections cut at any byte


def cut(doomed: Served, remote: Remote, offset: int, body: bytes, chance: random.Random) -> None:
    """Send a piece, and break the connection after a random byte of it, in one of three ways."""
    head = (
        f"PATCH {remote.place} HTTP/1.1\r\nHost: vault\r\nTus-Resumable: {VERSION}\r\nUpload-Offset: {offset}\r\n"
        f"Authorization: Bearer {doomed.vault.alice.token}\r\nContent-Type: {PIECE}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    whole = head.encode() + body
    place = chance.randrange(len(whole) + 1)
    way = chance.choice(["close", "reset", "half-close"])
    address = (LOOPBACK, doomed.server.port)
    with socket.create_connection(address, timeout=30) as connection, suppress(ConnectionError):
        connection.sendall(whole[:place])
        if way == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif way == "half-close":
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(2**16):
                pass


@pytest.mark.parametrize("uploads", [20, pytest.param(1000, marks=pytest.mark.long)])
def test_f25_connections_cut_at_random_bytes_lose_and_mix_nothing(doomed: Served, uploads: int) -> None:
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    chance, lost, mixed, tokens = random.Random(seed), 0, 0, []
    for number in range(uploads):
        content = chance.randbytes(chance.randrange(1, 6 * PART))
        remote = Remote(doomed, len(content)).begin()
        tokens.append(remote.place.rpartition("/")[2])
        told = 0
        for _ in range(chance.randint(1, 3)):
            offset = remote.offset()
            assert offset >= told, f"seed {seed}, upload {number}: what was told as durable is gone"
            told = offset
            if offset == len(content):
                break
            cut(doomed, remote, offset, content[offset:], chance)
        document = remote.finish(content)
        found = remote.ask("GET", f"/api/v1/documents/{document}/content")
        lost += found.status_code != 200
        mixed += found.content != content
        remote.ask("DELETE", f"/api/v1/documents/{document}").raise_for_status()
    print(f"{uploads} uploads, {lost} lost, {mixed} mixed")
    assert (lost, mixed) == (0, 0), f"seed {seed}"
    assert doomed.findings() == [], f"seed {seed}"
    log = doomed.server.log.read_text()
    assert not any(token[40:120] in log for token in tokens), "law 5: an address in the log"


def test_f25_a_body_in_chunks_that_is_cut_keeps_what_arrived(doomed: Served) -> None:
    remote = Remote(doomed, len(CONTENT)).begin()
    head = (
        f"PATCH {remote.place} HTTP/1.1\r\nHost: vault\r\nTus-Resumable: {VERSION}\r\nUpload-Offset: 0\r\n"
        f"Authorization: Bearer {doomed.vault.alice.token}\r\nContent-Type: {PIECE}\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    )
    with socket.create_connection((LOOPBACK, doomed.server.port), timeout=30) as connection:
        connection.sendall(head.encode())
        connection.sendall(f"{3 * PART:x}\r\n".encode() + CONTENT[: 3 * PART] + b"\r\n")
        connection.sendall(b"ffff\r\n" + CONTENT[3 * PART : 3 * PART + 5])
    until(lambda: remote.offset() >= 3 * PART)
    sure_of(doomed, remote.finish(CONTENT), CONTENT)


# F23


def generated(start: int, stop: int) -> Iterator[bytes]:
    """A body that nobody holds: each MiB tells its number, and is otherwise the same noise."""
    for number in range(start // 2**20, -(-stop // 2**20)):
        piece = number.to_bytes(8, "big") + NOISE
        yield piece[max(0, start - number * 2**20) : stop - number * 2**20]


NOISE = os.urandom(2**20 - 8)


def most_memory(doomed: Served) -> int:
    """The most bytes that any process of the server has held so far."""
    pid, most = doomed.server.process.pid, 0
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for process in (str(pid), *children):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                most = max(most, int(line.split()[1]) * 1024)
    return most


def send_rest(doomed: Served, remote: Remote) -> int:
    """Send all from where the server is in one piece; return the answer's status, 0 where the server died."""
    start = remote.offset()
    connection = http.client.HTTPConnection(LOOPBACK, doomed.server.port, timeout=120)
    headers = {
        "Tus-Resumable": VERSION, "Upload-Offset": str(start), "Content-Type": PIECE,
        "Content-Length": str(remote.length - start), "Authorization": f"Bearer {fresh_token(doomed)}",
    }  # fmt: skip
    try:
        connection.request("PATCH", remote.place, body=generated(start, remote.length), headers=headers)
        return connection.getresponse().status
    except (ConnectionError, http.client.HTTPException, TimeoutError):
        return 0
    finally:
        connection.close()


@pytest.mark.long
@pytest.mark.parametrize("mebibytes", [1024, 10240])
@pytest.mark.requirement(48)
def test_f23_a_large_file_takes_no_memory_and_no_temporary_file_and_survives_three_kills(
    cast_folder: tuple[Path, Vault], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mebibytes: int
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    doomed = served(cast_folder, tmp_path, part_size=8 * 2**20)
    parts = mebibytes // 8
    remote, began = Remote(doomed, mebibytes * 2**20).begin(), time.monotonic()
    kills = [parts // 10, parts * 2 // 5, parts * 48 // 100]
    for puts in kills:
        Order("upload.after_put", puts, "all").write(doomed.order_file)
        assert send_rest(doomed, remote) == 0
        assert doomed.server.process.wait(30) == -9
        restart(doomed)
    assert send_rest(doomed, remote) == 204
    assert remote.offset() == remote.length
    digest, sent = hashlib.sha256(), hashlib.sha256()
    document = remote.head().headers["X-Vault-Document"]
    with (
        doomed.client(timeout=120) as client,
        client.stream("GET", f"/documents/{document}/content") as answer,
    ):
        for piece in answer.iter_bytes(2**20):
            digest.update(piece)
            if len(list(temporary.iterdir())):
                raise AssertionError("something was written to a temporary file")
    for piece in generated(0, remote.length):
        sent.update(piece)
    assert digest.digest() == sent.digest()
    most = most_memory(doomed)
    print(
        f"{mebibytes} MiB up and down, {len(kills)} kills, {time.monotonic() - began:.1f} s, "
        f"at most {most / 2**20:.0f} MiB of memory"
    )
    assert most < 200 * 2**20
    assert list(temporary.iterdir()) == []
    assert doomed.findings() == []
    doomed.close()
