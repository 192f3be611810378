"""Relays on loopback between a client and a real server: they lose, cut, hold back, change and make up what passes.

``Relay`` knows connections and bytes (PostgreSQL, anything), ``HttpRelay`` knows requests and answers (S3).
"""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.servers.processes import LOOPBACK


class Relay:
    """Forward connections to ``port``; ``endpoint`` is where to connect.

    ``change`` is applied to each piece that the client sends, ``change_answer`` to each that it gets. Of each of the
    first ``lost`` connections only ``keep`` bytes of the answer arrive, then it is reset; the server has done its work
    by then. At run time: ``refusing`` resets each new connection, ``stalled`` lets nothing pass while it is set,
    ``delay`` holds each piece back for so many seconds, ``cut`` resets every connection there is.
    """

    def __init__(
        self,
        port: int,
        *,
        change: Callable[[bytes], bytes] = bytes,
        change_answer: Callable[[bytes], bytes] = bytes,
        lost: int = 0,
        keep: int = 0,
    ) -> None:
        self._target = port
        self._change = change
        self._change_answer = change_answer
        self._lost = lost
        self._keep = keep
        self._open: set[socket.socket] = set()
        self.refusing = False
        self.stalled = threading.Event()
        self.delay = 0.0
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port = self._listener.getsockname()[1]
        self.endpoint = f"{LOOPBACK}:{self.port}"
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stalled.clear()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Reset every connection."""
        for each in list(self._open):
            _reset(each)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                keep = self._keep if self.connections < self._lost else None
                self.connections += 1
                if self.refusing:
                    _reset(client)
                    client.close()
                    continue
                try:
                    server = socket.create_connection((LOOPBACK, self._target))
                except OSError:
                    client.close()
                    continue
                self._open |= {client, server}
                threading.Thread(target=self._send, args=(client, server), daemon=True).start()
                threading.Thread(target=self._answer, args=(client, server, keep), daemon=True).start()

    def _hold(self) -> None:
        time.sleep(self.delay)
        while self.stalled.is_set():
            time.sleep(0.02)

    def _send(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while piece := client.recv(2**16):
                self._hold()
                server.sendall(self._change(piece))
            server.shutdown(socket.SHUT_WR)

    def _answer(self, client: socket.socket, server: socket.socket, keep: int | None) -> None:
        with suppress(OSError):
            while piece := server.recv(2**16):
                self._hold()
                piece = self._change_answer(piece)
                if keep is not None:
                    piece = piece[:keep]
                    keep -= len(piece)
                client.sendall(piece)
                if keep == 0:
                    client.shutdown(socket.SHUT_RDWR)
                    break
        self._open -= {client, server}
        client.close()
        server.close()


def _reset(each: socket.socket) -> None:
    """End a connection at once, as a machine does that has never heard of it."""
    with suppress(OSError):
        each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        each.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True)
class Exchange:
    """One HTTP request, and what the real server answers to it when asked to."""

    method: str
    path: str
    request: bytes
    forward: Callable[[], bytes]

    @property
    def of_a_blob(self) -> bool:
        """Tell whether it is about one blob: a segment's 32 hex digits, a slash, an offset's 16."""
        return re.search(r"/[0-9a-f]{32}/[0-9a-f]{16}", self.path) is not None


class Cut(Exception):
    """The fault resets the connection."""


Fault = Callable[[Exchange], Iterator[bytes]]


class HttpRelay:
    """Forward HTTP requests one by one to ``port``; ``fault`` is what goes wrong with each, and may be changed.

    A fault gives the pieces of the answer; it may ask for the real one, wait between pieces, and raise ``Cut``.
    """

    def __init__(self, port: int, fault: Fault | None = None) -> None:
        self._target = port
        self.fault: Fault = fault or honest
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port = self._listener.getsockname()[1]
        self.endpoint = f"{LOOPBACK}:{self.port}"
        self.requests = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            client.settimeout(60)
            request = _read_message(client)
            if not request:
                return
            self.requests += 1
            method, path, _ = request.split(b" ", 2)
            exchange = Exchange(method.decode(), path.decode(), request, lambda: self._forward(request))
            try:
                for piece in self.fault(exchange):
                    client.sendall(piece)
                client.shutdown(socket.SHUT_WR)
                while client.recv(2**16):
                    pass
            except Cut:
                _reset(client)

    def _forward(self, request: bytes) -> bytes:
        """Ask the real server over a connection of its own, and read its answer to the end."""
        with socket.create_connection((LOOPBACK, self._target), timeout=60) as server:
            head, _, body = request.partition(b"\r\n\r\n")
            server.sendall(head + b"\r\nConnection: close\r\n\r\n" + body)
            answer = bytearray()
            while piece := server.recv(2**20):
                answer += piece
        return bytes(answer)


def _read_message(client: socket.socket) -> bytes:
    """Read a request with a body of known length; empty when the client has gone, or speaks something else (TLS)."""
    message = bytearray()
    while b"\r\n\r\n" not in message:
        if not (piece := client.recv(2**20)) or not (message + piece)[:1].isalpha():
            return b""
        message += piece
    head = message.partition(b"\r\n\r\n")[0]
    found = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    whole = len(head) + 4 + (int(found[1]) if found else 0)
    while len(message) < whole:
        if not (piece := client.recv(2**20)):
            return b""
        message += piece
    return bytes(message)


# What may go wrong


def honest(exchange: Exchange) -> Iterator[bytes]:
    yield exchange.forward()


def answering(status: str, body: bytes = b"", *headers: str) -> Fault:
    """Every answer is this one; the real server is never asked."""
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    whole = "\r\n".join(head).encode() + b"\r\n\r\n" + body

    def fault(exchange: Exchange) -> Iterator[bytes]:
        yield whole if exchange.method != "HEAD" else whole.removesuffix(body)

    return fault


def refusing(code: str, status: str) -> Fault:
    """Every answer is an error as S3 words it."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>".encode()
    return answering(status, body, "Content-Type: application/xml")


def garbage(exchange: Exchange) -> Iterator[bytes]:
    yield b"\x16\x03\x01 this is no HTTP \x00\xff" * 20


def gone(exchange: Exchange) -> Iterator[bytes]:
    yield b""
    raise Cut


def half_closed(exchange: Exchange) -> Iterator[bytes]:
    """The server stops sending in the middle, politely."""
    answer = exchange.forward()
    yield answer[: len(answer) // 2]


def cut_after(count: int) -> Fault:
    """The request is done, its answer breaks off after so many bytes."""

    def fault(exchange: Exchange) -> Iterator[bytes]:
        yield exchange.forward()[:count]
        raise Cut

    return fault


def hanging(after: int, seconds: float = 60) -> Fault:
    """The answer begins, and then nothing more comes."""

    def fault(exchange: Exchange) -> Iterator[bytes]:
        yield exchange.forward()[:after]
        time.sleep(seconds)

    return fault


def dripping(count: int, seconds: float) -> Fault:
    """The answer comes in pieces of so many bytes, with a pause before each."""

    def fault(exchange: Exchange) -> Iterator[bytes]:
        answer = exchange.forward()
        for start in range(0, len(answer), count):
            time.sleep(seconds)
            yield answer[start : start + count]

    return fault


def rewriting(change: Callable[[bytes], bytes]) -> Fault:
    """Bodies arrive changed, with 200 or 206 and a length that fits them."""

    def fault(exchange: Exchange) -> Iterator[bytes]:
        head, end, body = exchange.forward().partition(b"\r\n\r\n")
        body = change(body)
        yield re.sub(rb"(?i)content-length: *\d+", b"Content-Length: %d" % len(body), head) + end + body

    return fault


def only(fault: Fault, method: str, times: int | None = None) -> Fault:
    """The fault meets requests of one method about a blob, each or the first few; all others go well."""
    left = [10**9 if times is None else times]

    def chosen(exchange: Exchange) -> Iterator[bytes]:
        if exchange.method == method and exchange.of_a_blob and left[0] > 0:
            left[0] -= 1
            return fault(exchange)
        return honest(exchange)

    return chosen


class CannedServer:
    """Give the same HTTP answer to every request: for servers that misbehave in ways no real one can be made to."""

    def __init__(self, status: str, body: bytes, *headers: str) -> None:
        head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
        self._answer = "\r\n".join(head).encode() + b"\r\n\r\n" + body
        self._listener = socket.create_server((LOOPBACK, 0))
        self.endpoint = f"{LOOPBACK}:{self._listener.getsockname()[1]}"
        self.requests = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                with client, suppress(OSError):
                    client.settimeout(5)
                    request = b""
                    while b"\r\n\r\n" not in request:
                        request += client.recv(2**16)
                    self.requests += 1
                    client.sendall(self._answer)
                    client.shutdown(socket.SHUT_WR)
                    while client.recv(2**16):
                        pass
