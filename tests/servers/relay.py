"""A relay on loopback between a client and a real server, which can lose, cut and change what passes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from tests.servers.processes import LOOPBACK


class Relay:
    """Forward connections to ``port``; ``endpoint`` is where to connect.

    ``change`` is applied to each piece that the client sends. Of each of the first ``lost`` connections only
    ``keep`` bytes of the answer arrive, then it is reset; the server has done its work by then.
    """

    def __init__(
        self, port: int, *, change: Callable[[bytes], bytes] = bytes, lost: int = 0, keep: int = 0
    ) -> None:
        self._target = port
        self._change = change
        self._lost = lost
        self._keep = keep
        self._listener = socket.create_server((LOOPBACK, 0))
        self.endpoint = f"{LOOPBACK}:{self._listener.getsockname()[1]}"
        self.connections = 0
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
                keep = self._keep if self.connections < self._lost else None
                self.connections += 1
                server = socket.create_connection((LOOPBACK, self._target))
                threading.Thread(target=self._send, args=(client, server), daemon=True).start()
                threading.Thread(target=self._answer, args=(client, server, keep), daemon=True).start()

    def _send(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while piece := client.recv(2**16):
                server.sendall(self._change(piece))
            server.shutdown(socket.SHUT_WR)

    def _answer(self, client: socket.socket, server: socket.socket, keep: int | None) -> None:
        with suppress(OSError):
            while piece := server.recv(2**16):
                if keep is not None:
                    piece = piece[:keep]
                    keep -= len(piece)
                client.sendall(piece)
                if keep == 0:
                    client.shutdown(socket.SHUT_RDWR)
                    break
        client.close()
        server.close()


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
