"""What is measured, one function for each group of rows."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

from bench.clients import (
    Client,
    begin_upload,
    endless_downloads,
    fetch,
    fetch_range,
    many,
    request_bytes,
    send_file,
    send_form,
    send_piece,
)
from bench.keys import deep_check, key_pairs, master_key
from bench.servers import ALLOCATOR, WORKERS, Server, plain_server, vault_server
from bench.table import Row, median, percentile, transfer
from bench.world import World
from vault.crypto.keypairs import generate_keys

MIB = 2**20
OWNER = "owner"
PAUSE_SECONDS = 0.3


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    rounds: int = 5
    big: int = 1024 * MIB
    many_documents: int = 100_000
    readers: int = 1000
    requests: int = 400
    logins: int = 9

    @classmethod
    def small(cls) -> Scale:
        return cls(rounds=3, big=256 * MIB, many_documents=5000, readers=100, requests=150, logins=5)


@dataclass
class Bench:
    """The two servers, the vault's people and documents, and a folder for it all."""

    folder: Path
    world: World
    vault: Server
    plain: Server
    scale: Scale
    say: Callable[[str], None]
    _files: dict[int, Path] = field(default_factory=dict)
    _kept: dict[int, str] = field(default_factory=dict)

    @property
    def token(self) -> str:
        return self.world.token(OWNER)

    def file(self, size: int) -> Path:
        """A file of random bytes, made once and in the page cache."""
        found = self._files.get(size)
        if found is None:
            found = self._files[size] = self.folder / f"source-{size}"
            with found.open("wb") as file:
                block = os.urandom(min(size, 64 * MIB))
                for start in range(0, size, len(block)):
                    file.write(block[: size - start])
            os.sync()
        return found

    def upload(self, size: int, *, form: bool = False) -> tuple[float, str]:
        """Upload a document; return the seconds and its id."""
        url = f"{self.vault.url}/api/v1/documents"
        if form:
            took, answer = send_form(url, self.file(size), self.token)
        else:
            took, answer = send_file(f"{url}?name=measured.bin", self.file(size), self.token)
        return took, str(json.loads(answer)["id"])

    def upload_resumable(self, size: int) -> float:
        """Upload a document by tus in one piece; return the seconds, the creation included."""
        began = time.perf_counter()
        url, _ = begin_upload(self.vault, self.token, Upload_Length=str(size))
        send_piece(url, self.file(size), self.token)
        return time.perf_counter() - began

    def upload_joined(self, size: int, pieces: int) -> float:
        """Upload a document by tus as partial uploads that run at once, then joined; return the seconds in all."""
        file, token = self.file(size // pieces), self.token
        began = time.perf_counter()
        urls = [
            begin_upload(self.vault, token, Upload_Length=str(size // pieces), Upload_Concat="partial")[0]
            for _ in range(pieces)
        ]
        with ThreadPoolExecutor(pieces) as threads:
            list(threads.map(lambda url: send_piece(url, file, token), urls))
        begin_upload(self.vault, token, Upload_Concat="final;" + " ".join(urls))
        return time.perf_counter() - began

    def kept(self, size: int) -> str:
        """A document of a size that is uploaded once and then only read."""
        if size not in self._kept:
            self._kept[size] = self.upload(size)[1]
            os.sync()
        return self._kept[size]

    def content_url(self, document: str) -> str:
        return f"{self.vault.url}/api/v1/documents/{document}/content"

    def client(self, username: str = OWNER) -> Client:
        return Client(self.vault, self.world.token(username))

    def blobs(self) -> set[Path]:
        return set((self.world.instance / "blobs").glob("[0-9a-f]*"))

    def rest(self, *, keep: set[Path] | None = None) -> None:
        """Destroy the blobs that came since ``keep`` was looked up, write out what is dirty, and pause."""
        for segment in self.blobs() - keep if keep is not None else ():
            shutil.rmtree(segment)
        os.sync()
        time.sleep(PAUSE_SECONDS)

    @cached_property
    def readers(self) -> list[str]:
        self.say(f"making {self.scale.readers} people")
        return self.world.add_readers(self.scale.readers)


def _size(size: int) -> str:
    return f"{size // MIB // 1024} GiB" if size >= 1024 * MIB else f"{size // MIB} MiB"


def sizes(bench: Bench) -> tuple[int, ...]:
    return (bench.scale.big, 64 * MIB, MIB)


def _rounds(bench: Bench, size: int) -> int:
    return bench.scale.rounds if size > MIB else 3 * bench.scale.rounds


def resumable(bench: Bench) -> list[Row]:
    """tus in one piece, and in two that run at once over both workers, each between two plain uploads."""
    rows = []
    for size in sizes(bench):
        plain, one, joined = [], [], []
        for number in range(_rounds(bench, size)):
            before = bench.blobs()
            plain.append(_plain_upload(bench, size, number))
            bench.rest()
            one.append(bench.upload_resumable(size))
            bench.rest(keep=before)
            joined.append(bench.upload_joined(size, 2))
            bench.rest(keep=before)
        is_big = size == bench.scale.big
        name, base = _size(size), median(plain)
        rows += [
            transfer(f"upload {name}, tus", median(one), base, *((0.40, 0.65) if is_big else ())),
            transfer(f"upload {name}, tus, two pieces at once", median(joined), base),
        ]
    return rows


def _plain_upload(bench: Bench, size: int, number: int) -> float:
    took = send_file(f"{bench.plain.url}/up-{size}-{number}", bench.file(size))[0]
    (bench.folder / "plain" / f"up-{size}-{number}").unlink()
    return took


def uploads(bench: Bench) -> list[Row]:
    """Raw bodies and forms, each between two plain ones, all with fresh names."""
    rows = []
    for size in sizes(bench):
        plain, raw, form = [], [], []
        for number in range(_rounds(bench, size)):
            before = bench.blobs()
            plain.append(_plain_upload(bench, size, number))
            bench.rest()
            raw.append(bench.upload(size)[0])
            bench.rest(keep=before)
            form.append(bench.upload(size, form=True)[0])
            bench.rest(keep=before)
        is_big = size == bench.scale.big
        name, base = _size(size), median(plain)
        rows += [
            transfer(f"upload {name}, raw", median(raw), base, *((0.40, 0.65) if is_big else ())),
            transfer(f"upload {name}, form", median(form), base, *((0.29, 0.60) if is_big else ())),
        ]
    return rows


def downloads(bench: Bench) -> list[Row]:
    """The same file from both servers by turns."""
    rows = []
    for size in sizes(bench):
        document = bench.kept(size)
        (bench.folder / "plain" / f"down-{size}").hardlink_to(bench.file(size))
        plain, took = [], []
        for _ in range(_rounds(bench, size)):
            plain.append(fetch(f"{bench.plain.url}/down-{size}"))
            took.append(fetch(bench.content_url(document), bench.token))
        bounds = (0.41, 0.75) if size == bench.scale.big else ()
        rows.append(transfer(f"download {_size(size)}", median(took), median(plain), *bounds))
    return rows


def small_files(bench: Bench) -> list[Row]:
    """200 files of 100 KiB over 8 connections, each durable and committed before its answer."""
    count, body = 200, os.urandom(100 * 1024)
    rates: dict[str, list[float]] = {"up": [], "down": [], "plain up": [], "plain down": []}
    for number in range(bench.scale.rounds):
        before, token = bench.blobs(), bench.token
        names = [f"small-{number}-{one}.bin" for one in range(count)]
        took, answers = many(
            bench.vault,
            [request_bytes("POST", f"/api/v1/documents?name={quote(name)}", token, body) for name in names],
            8, 201,
        )  # fmt: skip
        rates["up"].append(count / took)
        ids = [json.loads(answer)["id"] for answer in answers]
        bench.rest()
        requests = [request_bytes("GET", f"/api/v1/documents/{one}/content", token) for one in ids]
        took, answers = many(bench.vault, requests, 8, 200)
        if any(answer != body for answer in answers):
            raise RuntimeError("a document came back changed")
        rates["down"].append(count / took)
        bench.rest(keep=before)
        plain = [request_bytes("POST", f"/{name}", "", body) for name in names]
        rates["plain up"].append(count / many(bench.plain, plain, 8, 201)[0])
        plain = [request_bytes("GET", f"/{name}") for name in names]
        rates["plain down"].append(count / many(bench.plain, plain, 8, 200)[0])
        bench.rest()
    what = "200 x 100 KiB, 8 connections"
    found = {name: median(values) for name, values in rates.items()}
    return [
        Row(f"{what}, up", found["up"], "/s", "more", 300, 700, plain=found["plain up"]),
        Row(f"{what}, down", found["down"], "/s", "more", 700, 1500, plain=found["plain down"]),
    ]


def ranges(bench: Bench) -> list[Row]:
    """1 KiB in the middle and at the start of a big document, the start of curl included."""
    url = bench.content_url(bench.kept(bench.scale.big))
    middle = 700 * MIB if bench.scale.big > 700 * MIB else bench.scale.big // 2
    token, rows = bench.token, []
    for start, must in ((middle, 15), (0, None)):
        took = [fetch_range(url, start + 1, 1024, token) * 1000 for _ in range(5 * bench.scale.rounds)]
        name = f"1 KiB range at {start // MIB} MiB, by curl"
        rows.append(Row(name, median(took), "ms", must=must, aim=10 if must else None))
    return rows


def sharing(bench: Bench) -> list[Row]:
    """Share one document with one more person each time, then fresh documents with everybody at once."""
    document, readers = bench.kept(MIB), bench.readers
    rounds = min(len(readers), 5 * bench.scale.rounds)
    with bench.client() as client:
        one = [
            client.ask("POST", f"/documents/{document}/shares", {"usernames": [name]}, 204)[0] * 1000
            for name in readers[:rounds]
        ]
        everybody = [_share_with(bench, client, readers) for _ in range(3)]
    name = f"share with {len(readers)} users"
    whole = len(readers) == 1000
    return [
        Row("share with one user", median(one), "ms", must=15, aim=8),
        Row(name, median(everybody), "s", must=2 if whole else None),
    ]


def _share_with(bench: Bench, client: Client, readers: Sequence[str]) -> float:
    document = bench.upload(MIB)[1]
    return client.ask("POST", f"/documents/{document}/shares", {"usernames": list(readers)}, 204)[0]


def lists(bench: Bench) -> list[Row]:
    """A thousand documents at once, and pages out of very many."""
    count = bench.scale.many_documents
    bench.say(f"making 1000 and {count} documents")
    bench.world.add_documents("thousand", 1000)
    bench.world.add_documents("hoarder", count)
    rows = []
    with bench.client("thousand") as client:
        took, answer = _repeated(client, "/documents?limit=1000", 3 * bench.scale.rounds)
        _expect(answer, 1000)
        rows.append(Row("list of 1000 documents", took * 1000, "ms", must=60, aim=45))
    whole = count == 100_000
    with bench.client("hoarder") as client:
        took, answer = _repeated(client, "/documents", 3 * bench.scale.rounds)
        _expect(answer, 50)
        rows.append(
            Row(f"page of 50 of {count}, newest", took * 1000, "ms", must=40 if whole else None, aim=20)
        )
        for name, query in (("by name", "sort=name"), ("search", "q=budget+letter")):
            took, answer = _repeated(client, f"/documents?{query}", bench.scale.rounds)
            _expect(answer, 50)
            rows.append(Row(f"page of 50 of {count}, {name}", took, "s", must=2 if whole else None, aim=1))
    return rows


def _repeated(client: Client, path: str, rounds: int) -> tuple[float, bytes]:
    answer = client.ask("GET", path)[1]
    return median([client.ask("GET", path)[0] for _ in range(rounds)]), answer


def _expect(answer: bytes, count: int) -> None:
    items = json.loads(answer)["items"]
    if len(items) != count or not all(item["readable"] and item["name"] for item in items):
        raise RuntimeError("the list is not whole")


def login(bench: Bench) -> list[Row]:
    """A login without the Argon2id inside it."""
    known = bench.world.somebody(OWNER)
    done = subprocess.run(
        [sys.executable, "-m", "bench.login", OWNER, str(bench.scale.logins)],
        env=os.environ | bench.world.environment | ALLOCATOR | {"BENCH_PASSPHRASE": known.passphrase},
        capture_output=True,
        check=True,
    )
    found = json.loads(done.stdout)
    note = f"login {found['login'] * 1000:.0f} ms, one Argon2id {found['argon2id'] * 1000:.0f} ms"
    return [Row("login without its Argon2id", found["beside"] * 1000, "ms", must=15, note=note)]


def memory(bench: Bench) -> list[Row]:
    """The peak of a worker that has run no Argon2id, while it takes or gives one big document."""
    size = bench.scale.big
    document, file, name = bench.kept(size), bench.file(size), _size(size)
    acts: dict[str, Callable[[Server, str], object]] = {
        "raw upload": lambda fresh, token: send_file(f"{fresh.url}/api/v1/documents?name=a.bin", file, token),
        "tus upload": lambda fresh, token: send_piece(
            begin_upload(fresh, token, Upload_Length=str(size))[0], file, token
        ),
        "form upload": lambda fresh, token: send_form(f"{fresh.url}/api/v1/documents", file, token),
        "download": lambda fresh, token: fetch(f"{fresh.url}/api/v1/documents/{document}/content", token),
    }
    rows, idle = [], 0.0
    for what, act in acts.items():
        keep = bench.blobs()
        with vault_server(bench.world.environment, bench.folder / "memory.log") as fresh:
            token = bench.token
            for _ in range(2 * WORKERS):
                with Client(fresh, token) as client:
                    client.ask("GET", "/me")
            idle = max(idle, *fresh.resident())
            with fresh.watched() as seen:
                for _ in range(2):
                    act(fresh, token)
            peak = max(fresh.peaks()) / 1e6
        note = f"{peak:.0f} MB with every page counted that it shares with the others"
        rows.append(
            Row(f"memory of a worker, {what} {name}", seen[0] / 1e6, "MB", must=100, aim=75, note=note)
        )
        bench.rest(keep=keep)
    return [Row("memory of a worker, idle", idle / 1e6, "MB"), *rows]


def latency(bench: Bench) -> list[Row]:
    """A small request while four downloads run as fast as they go; the clients are on the same cores."""
    document, times, token = bench.kept(bench.scale.big), [], bench.token
    with endless_downloads(bench.content_url(document), token, 4):
        for _ in range(bench.scale.requests // 10):
            with Client(bench.vault, token) as client:
                times += [client.ask("GET", "/me")[0] * 1000 for _ in range(10)]
                time.sleep(0.01)
    what = "small request beside four downloads"
    return [
        Row(f"{what}, median", median(times), "ms"),
        Row(f"{what}, p99", percentile(times, 0.99), "ms", must=15, aim=10),
    ]


def at_rest(bench: Bench) -> list[Row]:
    """What the blob store holds over the plaintext."""
    size, before = bench.scale.big, bench.blobs()
    bench.upload(size)
    stored = sum(file.stat().st_size for segment in bench.blobs() - before for file in segment.iterdir())
    bench.rest(keep=before)
    return [
        Row(
            f"at rest over the plaintext, {_size(size)}",
            100 * (stored - size) / size,
            "%",
            must=0.2,
            aim=0.11,
        )
    ]


def machine(bench: Bench) -> list[Row]:
    """One RSA-2048 signature: how fast the machine is at the moment, for rows that are no ratio."""
    keys = generate_keys()
    took = []
    for _ in range(100):
        began = time.perf_counter()
        keys.sign(b"machine")
        took.append((time.perf_counter() - began) * 1000)
    note = "0.27 ms where the targets in ms were measured; more here means that they are missed by that much"
    disk = "0.062 s where the targets were measured; no durable upload can be faster than its disk"
    return [
        Row("one RSA-2048 signature", median(took), "ms", note=note),
        Row("64 MiB to this disk, in files of 8 MiB with fsync", _durable_write(bench), "s", note=disk),
    ]


def _durable_write(bench: Bench) -> float:
    block, took = os.urandom(8 * MIB), []
    for _ in range(bench.scale.rounds):
        began = time.perf_counter()
        for number in range(8):
            with (bench.folder / f"disk-{number}").open("wb") as file:
                file.write(block)
                file.flush()
                os.fsync(file.fileno())
        took.append(time.perf_counter() - began)
        bench.rest()
    return median(took)


GROUPS: dict[str, Callable[[Bench], list[Row]]] = {
    "machine": machine,
    "download": downloads,
    "upload": uploads,
    "resumable": resumable,
    "small-files": small_files,
    "range": ranges,
    "share": sharing,
    "list": lists,
    "login": login,
    "latency": latency,
    "memory": memory,
    "at-rest": at_rest,
    "key-pairs": key_pairs,
    "deep-check": deep_check,
    "master-key": master_key,
}
"""Name of a group to what measures it, in the order in which they run."""


def measure(names: Sequence[str], folder: Path, scale: Scale, say: Callable[[str], None]) -> list[Row]:
    """Start both servers in ``folder`` and measure these groups."""
    world = World(folder / "instance")
    try:
        with (
            plain_server(folder / "plain") as plain,
            vault_server(world.environment, folder / "vault.log") as vault,
        ):
            bench = Bench(folder, world, vault, plain, scale, say)
            rows = []
            for name in names:
                say(name)
                rows += GROUPS[name](bench)
            return rows
    finally:
        world.close()
