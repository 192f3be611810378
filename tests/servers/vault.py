"""Start ``docvault serve`` itself, as an operator does, on a free port."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from tests.servers.processes import LOOPBACK, ServerProcess, free_ports

ROOT = Path(__file__).resolve().parent.parent.parent
DOCVAULT = (sys.executable, "-m", "vault.cli")


class VaultServer:
    """A running vault; ``log`` is what it printed, ``url`` where it answers."""

    def __init__(self, instance: Path, log: Path, port: int, process: ServerProcess) -> None:
        self.instance = instance
        self.log = log
        self.port = port
        self.process = process
        self.url = f"http://{LOOPBACK}:{port}"

    def setup_code(self) -> str:
        """The code of the set-up link that the server printed."""
        found = re.search(r"/setup#(\S+)", self.log.read_text())
        if found is None:
            raise LookupError("no set-up link was printed")
        return found.group(1)

    def client(self, token: str | None = None) -> httpx.Client:
        """A client of the JSON API, logged in with ``token``."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=f"{self.url}/api/v1", headers=headers, timeout=60, trust_env=False)

    def register(self, username: str, code: str | None = None) -> str:
        """Register somebody and return his passphrase."""
        with self.client() as client:
            answer = client.post("/users", json={"username": username, "code": code})
            return str(answer.raise_for_status().json()["passphrase"])

    def log_in(self, username: str, passphrase: str) -> str:
        """Log somebody in and return his token."""
        with self.client() as client:
            answer = client.post("/token", json={"username": username, "passphrase": passphrase})
            return str(answer.raise_for_status().json()["token"])

    def crash(self) -> None:
        """End the server and its workers at once, as a power cut would; ``start_vault`` on the same port follows."""
        pid = self.process.pid
        workers = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        self.process.kill()
        for worker in workers:
            with suppress(ProcessLookupError):
                os.kill(int(worker), signal.SIGKILL)

    def stop(self, seconds: float = 30) -> float:
        """End the server; return how many seconds that took."""
        began = time.monotonic()
        self.process.stop(seconds)
        return time.monotonic() - began


def start_vault(
    instance: Path, port: int | None = None, command: Sequence[str | Path] = DOCVAULT, **settings: Any
) -> VaultServer:
    """Start a vault and wait until it answers; ``settings`` become ``DOCVAULT_*`` variables."""
    port = port or free_ports(1)[0]
    instance.mkdir(parents=True, exist_ok=True)
    log = instance.parent / f"{instance.name}-{port}.log"
    process = ServerProcess(
        [*command, "serve", "--port", str(port)],
        log,
        environment=environment_of(instance, **settings),
        folder=instance,
    )
    server = VaultServer(instance, log, port, process)
    process.wait_until(lambda: _answers(server.url), seconds=60)
    return server


def environment_of(instance: Path, **settings: Any) -> dict[str, str]:
    """Return the variables for a command on ``instance``; the tests' own modules are found too."""
    environment = {
        "DOCVAULT_REGISTRATION": "open",
        "DOCVAULT_INSTANCE": str(instance),
        "PYTHONPATH": str(ROOT),
    }
    return environment | {f"DOCVAULT_{name.upper()}": str(value) for name, value in settings.items()}


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", trust_env=False, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False
