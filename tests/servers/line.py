"""A line on loopback between a client and a vault, which a test holds in the middle of a body, opens and cuts."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from tests.servers.processes import LOOPBACK

SMALL = 2**16
HEAD = 2**13


class Line:
    """Forward connections to ``port``, the server behind it there or not; ``url`` is where to connect.

    After ``hold(count)`` so many bytes of bodies pass, all connections counted together, and then no more until
    ``open()``: what a client sends in small pieces, a request without a body, passes all the same. Its buffers are
    small, so that a client cannot believe to have sent much more than has arrived.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        self._listener.bind((LOOPBACK, 0))
        self._listener.listen()
        self.url = f"http://{LOOPBACK}:{self._listener.getsockname()[1]}"
        self._room: int | None = None
        self._changed = threading.Condition()
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.open()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def hold(self, count: int) -> None:
        """Let ``count`` bytes of bodies pass from now on, and hold what follows."""
        with self._changed:
            self._room = count

    def open(self) -> None:
        """Let everything pass again, also what is held."""
        with self._changed:
            self._room = None
            self._changed.notify_all()

    def wait_until_held(self, seconds: float = 20) -> None:
        """Return once so much has passed as was let; raises ``TimeoutError``."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._room == 0, seconds):
                raise TimeoutError(f"{self._room} bytes are still let pass")

    def cut(self) -> None:
        """End every connection as it is; new ones are taken."""
        with self._changed:
            doomed, self._open = self._open, set()
            self._changed.notify_all()
        for each in doomed:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection((LOOPBACK, self._target))
                except OSError:
                    client.close()
                    continue
                with self._changed:
                    self._open |= {client, server}
                threading.Thread(target=self._send, args=(client, server), daemon=True).start()
                threading.Thread(target=self._answer, args=(client, server), daemon=True).start()

    def _send(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while piece := client.recv(SMALL):
                if len(piece) < HEAD:
                    server.sendall(piece)
                    continue
                while piece:
                    count = self._let(len(piece), client)
                    server.sendall(piece[:count])
                    piece = piece[count:]
            server.shutdown(socket.SHUT_WR)

    def _let(self, wanted: int, client: socket.socket) -> int:
        """Wait until something may pass; return how much. Raises ``OSError`` once the connection was cut."""
        with self._changed:
            self._changed.wait_for(lambda: self._room is None or self._room > 0 or client not in self._open)
            if client not in self._open:
                raise ConnectionAbortedError
            if self._room is None:
                return wanted
            count = min(wanted, self._room)
            self._room -= count
            self._changed.notify_all()
            return count

    def _answer(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while piece := server.recv(SMALL):
                client.sendall(piece)
        for each in (client, server):
            with self._changed:
                self._open.discard(each)
                self._changed.notify_all()
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
