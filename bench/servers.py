"""Start and end the two servers, and read what their workers hold in memory."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from vault.cli.server import ALLOCATOR

WORKERS = 2
THREADS = 8
HOST = "127.0.0.1"


class Server:
    """A gunicorn that was started here: where it answers, and its worker processes."""

    def __init__(self, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
        self.port = port
        self.process = process
        self.log = log
        self.url = f"http://{HOST}:{port}"

    def workers(self) -> list[int]:
        """The process ids of the workers (Linux)."""
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def forget_peaks(self) -> None:
        """Let each worker's peak begin anew."""
        for pid in self.workers():
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def peaks(self) -> list[int]:
        """The peak of each worker's resident memory in bytes since `forget_peaks`, shared pages included."""
        return [_status(pid, "VmHWM") for pid in self.workers()]

    def resident(self) -> list[int]:
        """Each worker's resident memory now, in bytes."""
        return [_status(pid, "VmRSS") for pid in self.workers()]

    @contextmanager
    def watched(self) -> Iterator[list[int]]:
        """Collect each worker's memory in bytes while the block runs, shared pages by their share; the peak first."""
        seen: list[int] = []
        over = threading.Event()

        def look() -> None:
            while not over.wait(0.01):
                seen.extend(_shared_fairly(pid) for pid in self.workers())

        watcher = threading.Thread(target=look)
        watcher.start()
        try:
            yield seen
        finally:
            over.set()
            watcher.join()
            seen.sort(reverse=True)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def _shared_fairly(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise LookupError("Pss")


def _status(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(field)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def running(
    command: list[str], port: int, ready: str, log: Path, environment: Mapping[str, str]
) -> Iterator[Server]:
    """Run a server until the block ends; it is there when anything answers at ``ready``."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | environment,
        )
    server = Server(port, process, log)
    try:
        _wait_until_it_answers(server, ready)
        yield server
    finally:
        server.stop()


def _wait_until_it_answers(server: Server, path: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.process.poll() is None:
        try:
            with urllib.request.urlopen(server.url + path, timeout=2):
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"the server did not start:\n{server.log.read_text(errors='replace')[-2000:]}")


@contextmanager
def plain_server(folder: Path) -> Iterator[Server]:
    """Run the plain Flask application on files in ``folder``."""
    folder.mkdir(exist_ok=True)
    port = free_port()
    command = [sys.executable, "-m", "bench.plain", str(port), str(folder), str(WORKERS), str(THREADS)]
    with running(command, port, "/none", folder.parent / "plain.log", ALLOCATOR) as server:
        yield server


@contextmanager
def vault_server(environment: Mapping[str, str], log: Path) -> Iterator[Server]:
    """Run `docvault serve`, as an operator does."""
    port = free_port()
    command = [sys.executable, "-m", "vault.cli", "serve", "--port", str(port), "--workers", str(WORKERS)]
    with running(command, port, "/healthz", log, environment) as server:
        yield server
