"""The clients: curl for what is big, one connection kept open for what is small, eight of them for many files."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.servers import HOST, Server


class Failed(Exception):
    """A server gave another answer than the one that is measured."""


def curl(url: str, *words: str, token: str = "", status: int) -> tuple[float, bytes]:
    """Run curl once; return the seconds of the transfer and the body, or nothing where ``-o`` took it."""
    command = ["curl", "-sS", "-H", "Expect:", "-w", "%{stderr}%{http_code} %{time_total}", *words]
    if token:
        command += ["-H", f"Authorization: Bearer {token}"]
    done = subprocess.run([*command, url], capture_output=True, check=False)
    said = done.stderr.decode().split()
    if done.returncode or said[0] != str(status):
        raise Failed(f"{url}: {done.stderr.decode()} {done.stdout[:300].decode(errors='replace')}")
    return float(said[1]), done.stdout


def send_file(url: str, file: Path, token: str = "") -> tuple[float, bytes]:
    """POST a file as the body itself."""
    return curl(url, "-X", "POST", "-T", str(file), token=token, status=201)


def send_form(url: str, file: Path, token: str) -> tuple[float, bytes]:
    """POST a file as a browser's form does."""
    return curl(url, "-F", f"file=@{file}", token=token, status=201)


TUS = {"Tus-Resumable": "1.0.0"}


def begin_upload(server: Server, token: str, **headers: str) -> tuple[str, str]:
    """Begin or join a resumable upload; return its address and, where it is complete already, the document's id."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection = http.client.HTTPConnection(HOST, server.port, timeout=120)
    try:
        connection.request(
            "POST", "/api/v1/uploads", headers=TUS | named | {"Authorization": f"Bearer {token}"}
        )
        answer = connection.getresponse()
        if answer.status != 201:
            raise Failed(f"POST uploads: {answer.status} {answer.read()[:300]!r}")
        return server.url + answer.headers["Location"], answer.headers.get("X-Vault-Document", "")
    finally:
        connection.close()


def send_piece(url: str, file: Path, token: str) -> float:
    """PATCH a whole file to a fresh upload in one piece."""
    words = [word for name, value in TUS.items() for word in ("-H", f"{name}: {value}")]
    words += ["-H", "Upload-Offset: 0", "-H", "Content-Type: application/offset+octet-stream"]
    return curl(url, "-X", "PATCH", "-T", str(file), *words, token=token, status=204)[0]


def put_file(url: str, file: Path) -> float:
    """PUT a file, as WebDAV and nginx take it."""
    return curl(url, "-T", str(file), status=201)[0]


def fetch(url: str, token: str = "") -> float:
    """GET a file and throw it away."""
    return curl(url, "-o", "/dev/null", token=token, status=200)[0]


def fetch_range(url: str, start: int, length: int, token: str) -> float:
    """GET a range; return the seconds from starting curl to its end."""
    began = time.perf_counter()
    body = curl(url, "-r", f"{start}-{start + length - 1}", token=token, status=206)[1]
    took = time.perf_counter() - began
    if len(body) != length:
        raise Failed(f"a range of {len(body)} bytes")
    return took


class Client:
    """A client of the JSON API over one connection that is kept open."""

    def __init__(self, server: Server, token: str) -> None:
        self._connection = http.client.HTTPConnection(HOST, server.port, timeout=120)
        self._connection.connect()
        assert self._connection.sock is not None
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._headers = {"Authorization": f"Bearer {token}"}

    def ask(self, method: str, path: str, body: Any = None, status: int = 200) -> tuple[float, bytes]:
        """Send one request; return the seconds until its answer was read, and the answer."""
        headers, data = self._headers, None
        if body is not None:
            data, headers = json.dumps(body).encode(), headers | {"Content-Type": "application/json"}
        began = time.perf_counter()
        self._connection.request(method, f"/api/v1{path}", data, headers)
        answer = self._connection.getresponse()
        given = answer.read()
        took = time.perf_counter() - began
        if answer.status != status:
            raise Failed(f"{method} {path}: {answer.status} {given[:300]!r}")
        return took, given

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def many(
    server: Server, requests: Sequence[bytes], connections: int, status: int
) -> tuple[float, list[bytes]]:
    """Send ready-made requests over some connections at once; return the seconds in all and the bodies in order."""
    answers: list[bytes] = [b""] * len(requests)
    failures: list[BaseException] = []
    waiting = iter(range(len(requests)))
    lock = threading.Lock()

    def run() -> None:
        try:
            with socket.create_connection((HOST, server.port), timeout=120) as connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while True:
                    with lock:
                        number = next(waiting, None)
                    if number is None:
                        return
                    connection.sendall(requests[number])
                    answers[number] = _answer(connection, status)
        except (OSError, Failed) as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(connections)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    if failures:
        raise Failed("many files at once") from failures[0]
    return took, answers


def _answer(connection: socket.socket, status: int) -> bytes:
    data = bytearray()
    while (end := data.find(b"\r\n\r\n")) < 0:
        piece = connection.recv(2**18)
        if not piece:
            raise Failed("the connection ended")
        data += piece
    lines = bytes(data[:end]).split(b"\r\n")
    length = next((int(line[15:]) for line in lines if line[:15].lower() == b"content-length:"), 0)
    whole = end + 4 + length
    while len(data) < whole:
        piece = connection.recv(2**18)
        if not piece:
            raise Failed("the connection ended")
        data += piece
    if lines[0].split()[1] != str(status).encode():
        raise Failed(bytes(data[:500]).decode(errors="replace"))
    return bytes(data[end + 4 :])


def request_bytes(method: str, path: str, token: str = "", body: bytes = b"") -> bytes:
    """Make a request's bytes beforehand, so that the clock sees the server and not this client."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {HOST}", f"Content-Length: {len(body)}"]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    if body:
        lines.append("Content-Type: application/octet-stream")
    return "\r\n".join([*lines, "", ""]).encode() + body


@contextmanager
def endless_downloads(url: str, token: str, count: int) -> Iterator[None]:
    """Keep ``count`` downloads running as fast as they go, each begun again when it ends."""
    over = threading.Event()
    running: list[subprocess.Popen[bytes]] = []

    def run() -> None:
        while not over.is_set():
            process = subprocess.Popen(
                ["curl", "-sS", "-o", "/dev/null", "-H", f"Authorization: Bearer {token}", url],
                stderr=subprocess.DEVNULL,
            )
            running.append(process)
            process.wait()

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(0.5)
        yield
    finally:
        over.set()
        for process in running:
            if process.poll() is None:
                process.terminate()
        for thread in threads:
            thread.join()
