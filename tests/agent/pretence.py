"""A server of the tests' own that answers what a test wants it to: hostile, broken, or tus from memory with faults."""

from __future__ import annotations

import json
import secrets
import threading
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.servers.processes import LOOPBACK

TOKEN = "a.token.of-tests"


@dataclass(frozen=True)
class Asked:
    """A request as it arrived; ``whole`` is false where the body was cut off."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = field(repr=False)
    whole: bool = True

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Told:
    """An answer. ``cut`` closes the connection after so many bytes of the body; -1 before any of the answer."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut: int | None = None

    @classmethod
    def json(cls, value: Any, status: int = 200) -> Told:
        return cls(status, {"Content-Type": "application/json"}, json.dumps(value).encode())

    @classmethod
    def problem(cls, status: int, detail: str, kind: str = "Forbidden", **headers: str) -> Told:
        body = json.dumps({"detail": detail, "status": status, "type": f"urn:docvault:{kind}"}).encode()
        return cls(status, {"Content-Type": "application/problem+json", **headers}, body)


Answer = Callable[[Asked], Told]


class Pretence:
    """A running server. ``cuts`` holds, for each PATCH to come, after how many bytes of it the connection ends."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[Asked] = []
        self.cuts: list[int | None] = []
        self.running = 0
        self.changed = threading.Condition()
        self.server = ThreadingHTTPServer((LOOPBACK, 0), _handler_of(self))
        self.server.daemon_threads = True
        self.url = f"http://{LOOPBACK}:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def wait_until_idle(self) -> None:
        """Return once every request that began to arrive has been dealt with."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.running == 0, timeout=30)

    def count(self, change: int) -> None:
        with self.changed:
            self.running += change
            self.changed.notify_all()

    def of(self, method: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.method == method]


@contextmanager
def pretending(answer: Answer) -> Iterator[Pretence]:
    pretence = Pretence(answer)
    try:
        yield pretence
    finally:
        pretence.close()


def _handler_of(pretence: Pretence) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def handle_any(self) -> None:
            pretence.count(1)
            try:
                self.answer()
            finally:
                pretence.count(-1)

        def answer(self) -> None:
            length = int(self.headers.get("Content-Length", "0"))
            cut = pretence.cuts.pop(0) if self.command == "PATCH" and pretence.cuts else None
            body = self.rfile.read(length if cut is None else min(cut, length))
            asked = Asked(self.command, self.path, dict(self.headers.items()), body, len(body) == length)
            pretence.asked.append(asked)
            told = pretence.answer(asked)
            if cut is not None or told.cut == -1:
                self.close_connection = True
                return
            if not asked.whole:
                self.close_connection = True
                return
            self.send_response(told.status)
            for name, value in ({"Content-Length": str(len(told.body))} | told.headers).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD" and told.body:
                self.wfile.write(told.body[: told.cut])
            self.close_connection = self.close_connection or told.cut is not None

        do_GET = do_POST = do_PATCH = do_HEAD = do_DELETE = handle_any

    return Handler


@dataclass
class Held:
    """One upload in memory."""

    length: int | None
    metadata: str
    partial: bool
    data: bytearray = field(default_factory=bytearray)
    document: str = ""
    ended: bool = False


class MemoryTus:
    """tus 1.0 in memory. ``faults`` are answers to give in the place of the next ones to a method."""

    def __init__(self) -> None:
        self.uploads: dict[str, Held] = {}
        self.documents: dict[str, bytes] = {}
        self.metadata: dict[str, dict[str, str]] = {}
        self.faults: dict[str, list[Told]] = {}
        self.location = "/api/v1/uploads/{}"

    def __call__(self, asked: Asked) -> Told:
        if asked.path == "/api/v1/token/renew":
            return Told.json({"token": TOKEN, "expires_in": 900})
        if self.faults.get(asked.method):
            return self.faults[asked.method].pop(0)
        if asked.method == "POST":
            return self.create(asked)
        held = self.uploads.get(asked.path.rpartition("/")[2])
        if held is None:
            return Told(404)
        if held.ended:
            return Told(410)
        if asked.method == "DELETE":
            held.ended = True
            return Told(204)
        return self.append(held, asked) if asked.method == "PATCH" else self._state(held, 200)

    def create(self, asked: Asked) -> Told:
        concat = asked.headers.get("Upload-Concat", "")
        length = asked.headers.get("Upload-Length")
        held = Held(
            None if length is None else int(length),
            asked.headers.get("Upload-Metadata", ""),
            concat == "partial",
        )
        if concat.startswith("final;"):
            joined = [self.uploads[url.rpartition("/")[2]] for url in concat.removeprefix("final;").split()]
            assert all(len(each.data) == each.length and each.partial for each in joined)
            held.data = bytearray(b"".join(each.data for each in joined))
            held.length = len(held.data)
            self._complete(held)
        if held.length == 0:
            self._complete(held)
        number = secrets.token_hex(8)
        self.uploads[number] = held
        return Told(
            201,
            {"Location": self.location.format(number)}
            | ({"X-Vault-Document": held.document} if held.document else {}),
        )

    def append(self, held: Held, asked: Asked) -> Told:
        if int(asked.headers["Upload-Offset"]) != len(held.data):
            return Told(409)
        if "Upload-Length" in asked.headers:
            held.length = int(asked.headers["Upload-Length"])
        held.data += asked.body
        if len(held.data) == held.length and not held.partial:
            self._complete(held)
        return self._state(held, 204)

    def _complete(self, held: Held) -> None:
        if not held.document:
            held.document = secrets.token_hex(16)
            self.documents[held.document] = bytes(held.data)
            pairs = (pair.split(" ") for pair in held.metadata.split(",") if pair)
            self.metadata[held.document] = {key: b64decode(value).decode() for key, value in pairs}

    def _state(self, held: Held, status: int) -> Told:
        headers = {"Upload-Offset": str(len(held.data))}
        if held.document:
            headers["X-Vault-Document"] = held.document
        return Told(status, headers)
