"""Start a server, wait until it answers, end it; and find ports that nobody listens on."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

LOOPBACK = "127.0.0.1"


class ServerFailed(Exception):
    """A server ended, or did not answer in time; the text holds the end of its log."""


def free_ports(count: int, address: str = LOOPBACK) -> list[int]:
    """Return different ports on loopback, or on another address of 127/8, that were free a moment ago."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((address, 0))
        return [each.getsockname()[1] for each in sockets]


class ServerProcess:
    """One server process, with its output in ``log``; it is ended with this process, however that ends (Linux)."""

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        user: str | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self._log = log
        self._stop_signal = stop_signal
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [*_tied_to_us(), *(str(word) for word in command)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if environment is None else {**os.environ, **environment},
                cwd=folder,
                user=user,
                group=user,
                extra_groups=None if user is None else [],
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_until(self, answers: Callable[[], bool], seconds: float = 60) -> None:
        """Return once ``answers()`` is true; raises ``ServerFailed`` when the server ends first or takes too long."""
        deadline = time.monotonic() + seconds
        while not answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                end = self._log.read_text(errors="replace")[-2000:]
                raise ServerFailed(
                    f"{self._process.args!r} did not start (exit {self._process.returncode}):\n{end}"
                )
            time.sleep(0.05)

    def stop(self, seconds: float = 20) -> None:
        """End the server and wait for it; kill it when it does not end by itself."""
        if self._process.poll() is None:
            self._process.send_signal(self._stop_signal)
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def wait(self, seconds: float) -> int:
        """Wait until the server has ended by itself; return its exit code."""
        return self._process.wait(seconds)

    def kill(self) -> None:
        """End the server at once, as a power cut would."""
        self._process.kill()
        self._process.wait()

    def send(self, number: signal.Signals, seconds: float = 30) -> None:
        """End the server with another signal than usual, and wait for it."""
        self._process.send_signal(number)
        self._process.wait(seconds)

    def suspend(self) -> None:
        """Stop the server's clock: connections stay open and nothing answers."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)


def _tied_to_us() -> list[str]:
    """Return the words that have the kernel end a command with its parent, where util-linux is installed."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM"] if setpriv else []
