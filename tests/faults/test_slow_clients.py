"""F26: many clients that are slow on purpose, of every kind; whoever else comes is served within a second."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from tests.cast import Vault
from tests.faults.served import Served, served
from tests.servers.processes import LOOPBACK
from vault.cli import gunicorn_server
from vault.cli.gunicorn_server import PacedSocket, TooSlow

SECONDS = 1.5
LARGE = bytes(12_000_000)


@pytest.fixture(scope="module")
def busy(cast_folder: tuple[Path, Vault], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The vault as it is set by default: two workers, eight transfers each."""
    made = served(cast_folder, tmp_path_factory.mktemp("busy"), workers=2, threads=8, part_size=8 * 2**20)
    yield made
    made.close()


class Slow:
    """Clients that send what begins a request, then a few bytes now and then; and read hardly anything."""

    def __init__(self, port: int, start: bytes, drip: bytes, count: int) -> None:
        self.drip = drip
        self.sockets = [self._connect(port, start) for _ in range(count)]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._trickle)

    def _connect(self, port: int, start: bytes) -> socket.socket:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(5)
        client.connect((LOOPBACK, port))
        client.sendall(start)
        client.setblocking(False)
        return client

    def _trickle(self) -> None:
        while not self._over.wait(0.3):
            for client in self.sockets:
                try:
                    client.send(self.drip) if self.drip else client.recv(1)
                except OSError:
                    continue

    def __enter__(self) -> Slow:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        for client in self.sockets:
            client.close()


def head(busy: Served, line: str, *headers: str, who: str | None = None) -> bytes:
    lines = [f"{line} HTTP/1.1", f"Host: {LOOPBACK}:{busy.server.port}", *headers]
    if who:
        lines.append(f"Authorization: Bearer {busy.vault.members[who].token}")
    return "\r\n".join([*lines, "", ""]).encode()


FORM = "Content-Type: application/x-www-form-urlencoded"
KINDS: dict[str, Callable[[Served, str], tuple[bytes, bytes]]] = {
    "silent": lambda busy, large: (b"", b""),
    "slow headers": lambda busy, large: (head(busy, "GET /login")[:-2], b"X-A: b\r\n"),
    "slow body": lambda busy, large: (head(busy, "POST /login", FORM, "Content-Length: 100000"), b"a"),
    "slow chunks": lambda busy, large: (
        head(busy, "POST /login", FORM, "Transfer-Encoding: chunked"), b"1\r\na\r\n",
    ),
    "slow upload": lambda busy, large: (
        head(busy, "POST /api/v1/documents?name=slow", "Content-Length: 100000", who="alice"), b"a",
    ),
    "slow read": lambda busy, large: (head(busy, f"GET /api/v1/documents/{large}/content", who="alice"), b""),
    "answered and not closed": lambda busy, large: (head(busy, "GET /healthz", "Connection: close"), b""),
}  # fmt: skip


@contextmanager
def watched(busy: Served) -> Iterator[list[float]]:
    """Ask for /healthz again and again, over new connections; gives the times, slowest last."""
    times: list[float] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.05):
            began = time.monotonic()
            try:
                httpx.get(f"{busy.server.url}/healthz", trust_env=False, timeout=8).raise_for_status()
            except httpx.HTTPError:
                times.append(99)
            times.append(time.monotonic() - began)

    watcher = threading.Thread(target=look)
    watcher.start()
    yield times
    over.set()
    watcher.join()
    times.sort()


@pytest.mark.parametrize("count", [160, pytest.param(1000, marks=pytest.mark.long)])
@pytest.mark.parametrize("kind", KINDS)
def test_f26_slow_clients_keep_nobody_else_waiting(busy: Served, kind: str, count: int) -> None:
    sent = busy.ask("POST", "/documents?name=large", content=LARGE)
    large = sent.raise_for_status().json()["id"]
    with watched(busy) as times, Slow(busy.server.port, *KINDS[kind](busy, large), count):
        until = time.monotonic() + SECONDS
        while time.monotonic() < until or len(times) <= 5:
            assert busy.ask("GET", "/documents").status_code == 200
            answer = busy.ask("POST", "/documents?name=quick", content=b"quick")
            assert answer.status_code in {201, 503}
            assert answer.status_code == 201 or int(answer.headers["Retry-After"]) > 0
            time.sleep(0.1)
    print(f"{kind}: {len(times)} answers, median {times[len(times) // 2]:.3f} s, slowest {times[-1]:.3f} s")
    assert len(times) > 5 and times[-1] < 1, times[-5:]
    assert busy.ask("DELETE", f"/documents/{large}").status_code == 204


# How long a client is waited for


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[PacedSocket, socket.socket]]:
    """The server's end and the client's; a fifth of a second's patience, and a second more for 10,000 bytes."""
    monkeypatch.setattr(gunicorn_server, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(gunicorn_server, "SLOWEST_BYTES", 10_000)
    left, right = socket.socketpair()
    ours = PacedSocket(fileno=left.detach())
    ours.begin()
    with ours, right:
        yield ours, right


def drip(client: socket.socket, pieces: int, size: int, pause: float) -> None:
    with suppress(OSError):
        for _ in range(pieces):
            client.sendall(bytes(size))
            time.sleep(pause)


def test_f26_a_client_that_sends_too_slowly_is_ended(pair: tuple[PacedSocket, socket.socket]) -> None:
    ours, client = pair
    threading.Thread(target=drip, args=(client, 100, 1, 0.02), daemon=True).start()
    began = time.monotonic()
    with pytest.raises(TooSlow):
        while ours.recv(100):
            pass
    assert 0.15 < time.monotonic() - began < 1.5
    ours.begin()
    assert ours.recv(1), "the next request begins anew"


def test_f26_a_client_that_reads_too_slowly_is_ended(pair: tuple[PacedSocket, socket.socket]) -> None:
    ours, client = pair

    def sip() -> None:
        with suppress(OSError):
            while client.recv(100):
                time.sleep(0.02)

    threading.Thread(target=sip, daemon=True).start()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, 50_000))
    with pytest.raises(OSError):
        ours.sendall(bytes(5_000_000))


def test_f26_a_steady_client_and_our_own_work_take_as_long_as_they_take(
    pair: tuple[PacedSocket, socket.socket],
) -> None:
    ours, client = pair
    feeder = threading.Thread(target=drip, args=(client, 20, 2000, 0.03), daemon=True)
    feeder.start()
    received = 0
    while received < 40_000:
        received += len(ours.recv(100_000))
    time.sleep(0.5)
    client.sendall(b"x")
    assert ours.recv(1) == b"x"
