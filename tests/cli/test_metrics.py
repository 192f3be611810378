"""``/metrics`` of a started server: one answer for all its workers, before and after one of them dies."""

from __future__ import annotations

import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.servers.processes import LOOPBACK, free_ports
from tests.servers.vault import VaultServer, start_vault


def scrape(port: int) -> dict[str, float]:
    text = httpx.get(f"http://{LOOPBACK}:{port}/metrics", trust_env=False, timeout=30).raise_for_status().text
    return {name: float(value) for name, value in re.findall(r"^(docvault\S+) (\S+)$", text, re.MULTILINE)}


def workers(server: VaultServer) -> list[int]:
    pid = server.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def ask(server: VaultServer, times: int) -> None:
    """Send requests, each on a connection of its own, so that every worker gets some."""

    def one(number: int) -> int:
        return httpx.get(f"{server.url}/login", trust_env=False, timeout=30).status_code

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(one, range(times))) == {200}


def wait_until(server: VaultServer, gone: set[int], count: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        now = set(workers(server))
        if len(now) == count and not now & gone:
            return
        time.sleep(0.1)
    raise AssertionError(f"workers: {workers(server)}")


def test_all_workers_are_counted_whichever_answers_and_whichever_dies(tmp_path: Path) -> None:
    port, metrics = free_ports(2)
    server = start_vault(
        tmp_path / "instance", port, workers=2, metrics_address=f"{LOOPBACK}:{metrics}", threads=2
    )
    name = 'docvault_requests_total{status="2"}'
    try:
        start = scrape(metrics)[name]
        ask(server, 60)
        # Each scrape is answered by some worker, and is itself a request that was answered.
        seen = [scrape(metrics)[name] - start for _ in range(12)]
        assert seen == [61.0 + number for number in range(12)], "one sum, whoever tells it"

        old = set(workers(server))
        os.kill(min(old), signal.SIGKILL)
        wait_until(server, {min(old)}, 2)
        assert scrape(metrics)[name] - start >= 73, "what the dead one counted is still there"
        before = scrape(metrics)[name]
        ask(server, 30)
        assert scrape(metrics)[name] - before == 31

        os.kill(server.process.pid, signal.SIGHUP)
        wait_until(server, set(workers(server)) & old, 2)
        before = scrape(metrics)[name]
        assert before - start >= 105
        ask(server, 30)
        assert scrape(metrics)[name] - before == 31

        assert httpx.get(f"{server.url}/metrics", trust_env=False).status_code == 404
        for path in ("/login", "/healthz"):
            address = f"http://{LOOPBACK}:{metrics}{path}"
            assert httpx.get(address, trust_env=False).status_code == 404
        assert not [path.name for path in server.instance.rglob("*.db")], (
            "there is no folder of files to clean"
        )
    finally:
        server.stop()
