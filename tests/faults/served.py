"""A vault that the real server serves, and the same vault at hand in this process."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.cast import Vault
from tests.faults.launcher import Killer, Order
from tests.servers.vault import VaultServer, environment_of, start_vault
from vault import failpoints
from vault.extensions import db
from vault.services.sweep import new_holder

LAUNCHER = (sys.executable, "-m", "tests.faults.launcher")


@dataclass
class Served:
    """The server, the vault in this process, and the file that arms a fail point in the server."""

    server: VaultServer
    vault: Vault
    order_file: Path
    settings: dict[str, Any]

    def client(self, name: str | None = "alice", timeout: float = 60) -> httpx.Client:
        """A client of the API, with a connection of its own for each request: a killed worker breaks the others."""
        client = self.server.client(self.vault.members[name].token if name else None)
        client.headers["Connection"] = "close"
        client.timeout = httpx.Timeout(timeout)
        return client

    def ask(self, method: str, path: str, who: str = "alice", **options: Any) -> httpx.Response:
        with self.client(who) as client:
            return client.request(method, path, **options)

    def killed(self, order: Order, act: Callable[[], httpx.Response]) -> None:
        """Let the server be killed at the point while ``act`` runs; it answers nothing, and a new worker follows."""
        order.write(self.order_file)
        try:
            answer = act()
        except httpx.TransportError:
            assert not self.order_file.exists(), "it died of something else"
        else:
            self.order_file.unlink(missing_ok=True)
            raise AssertionError(f"{order.point} was never reached: {answer.status_code}")
        if order.whom == "all":
            self.server.process.kill()
            self.server = serve(self.vault, self.order_file, self.settings)
        until(lambda: answers(self.server))

    def documents(self, who: str = "alice") -> dict[str, str]:
        """The documents that somebody sees, name by id."""
        items = self.ask("GET", "/documents?limit=1000", who).raise_for_status().json()["items"]
        return {item["id"]: item["name"] for item in items}

    def content(self, document: str, who: str = "alice") -> bytes:
        return self.ask("GET", f"/documents/{document}/content", who).raise_for_status().content

    def findings(self) -> list[Any]:
        """What ``docvault check`` finds."""
        with self.vault.services() as bundle:
            return list(bundle.check.run().findings)

    def command(self, *words: str, order: Order | None = None) -> subprocess.CompletedProcess[str]:
        """Run ``docvault`` on the same instance, with a fail point armed where an order is given."""
        if order is not None:
            order.write(self.order_file)
        return subprocess.run(
            [*LAUNCHER, str(self.order_file), *words],
            env={**environment_of(self.vault.instance, **self.settings), "PATH": ""},
            cwd=self.vault.instance,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def killed_sweep(self, order: Order) -> bool:
        """Sweep in a child of this process that is killed at the point; tell whether it was."""
        order.write(self.order_file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the child only sweeps and dies
            child = os.fork()
        if child == 0:
            failpoints.hook = Killer(self.order_file)
            with self.vault.services() as bundle:
                db.engine.dispose(close=False)
                bundle.sweep.run()
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL

    def close(self) -> None:
        self.server.stop()
        self.vault.close()


def restart(made: Served) -> None:
    """Start the server anew where it was: clients find it at the same address."""
    made.server = start_vault(
        made.vault.instance, made.server.port, command=(*LAUNCHER, made.order_file), **made.settings
    )


def serve(vault: Vault, order_file: Path, settings: dict[str, Any]) -> VaultServer:
    return start_vault(vault.instance, command=(*LAUNCHER, order_file), **settings)


def served(cast: tuple[Path, Vault], folder: Path, **settings: Any) -> Served:
    """Serve a copy of the cast's vault through the launcher; one worker, unless ``settings`` say otherwise.

    It was swept just now, so that the server's hourly sweep runs into no test.
    """
    instance = folder / "instance"
    shutil.copytree(cast[0], instance)
    vault = cast[1].copied_to(instance)
    with vault.services() as bundle:
        bundle.sweep.take_lease(new_holder())
        bundle.sweep.note_swept()
    settings = {"workers": 1, "threads": 4, "part_size": 32768} | settings
    return Served(serve(vault, folder / "order", settings), vault, folder / "order", settings)


def answers(server: VaultServer) -> bool:
    try:
        return httpx.get(f"{server.url}/healthz", trust_env=False, timeout=2).status_code == 200
    except httpx.TransportError:
        return False


def until(true: Callable[[], Any], seconds: float = 30) -> None:
    """Wait for a condition; raises ``AssertionError`` when it does not come in time."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
