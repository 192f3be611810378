"""Clients of servers that pretend, and of a real vault with the cast in it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.agent.pretence import TOKEN
from tests.cast import Vault
from tests.servers.vault import VaultServer, start_vault
from vault.agent.client import SESSION_FILE, Client, Login
from vault.agent.configuration import Configuration


def login_to(url: str, username: str = "alice", token: str = TOKEN) -> Login:
    return Login(url, username, token, 900, time.time(), "1")


@pytest.fixture
def configuration(tmp_path: Path) -> Configuration:
    """The configuration folder of a user's machine; nothing is in it yet."""
    return Configuration(tmp_path / "configuration" / "docvault")


@pytest.fixture
def client_of(configuration: Configuration) -> Iterator[Callable[..., Client]]:
    """Make a client that is logged in, with its login stored."""
    with ExitStack() as opened:

        def make(url: str, username: str = "alice", token: str = TOKEN) -> Client:
            login = login_to(url, username, token)
            configuration.write(SESSION_FILE, asdict(login))
            return opened.enter_context(Client(configuration, login))

        yield make


@pytest.fixture(scope="module")
def served(
    cast_folder: tuple[Path, Vault], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[VaultServer, Vault]]:
    """The cast's vault under ``docvault serve``, and the same vault at hand."""
    folder, made = cast_folder
    instance = tmp_path_factory.mktemp("served") / "instance"
    shutil.copytree(folder, instance)
    vault = made.copied_to(instance)
    server = start_vault(instance, workers=2, threads=4)
    yield server, vault
    server.stop()
    vault.close()
