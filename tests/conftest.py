"""What every test may use: the cast, and a vault of its own.

Alice owns, Bob reads, Charlie is a stranger, Dora administers. They register once per run; every test works on a copy
of that vault. The servers (SeaweedFS, MinIO, PostgreSQL, Chromium) come from ``tests.servers.plugin``.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.cast import MASTER_KEY, NAMES, Vault, register_cast
from tests.crypto.recorder import MessageRecorder, recording
from tests.servers.postgres import PostgresServer

pytest_plugins = ["tests.servers.plugin"]

# A busy machine is no counter-example: no deadline for a single one of hundreds of examples.
settings.register_profile("no_deadline", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no_deadline")


@pytest.fixture(scope="session", autouse=True)
def every_message() -> Iterator[MessageRecorder]:
    """Checklist 9: over the whole run no (key, nonce) pair of a seal comes twice."""
    with recording() as recorder:
        yield recorder
    assert not recorder.repeated, "a (key, nonce) pair was used twice"


@pytest.fixture(scope="session")
def cast_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Vault]]:
    """A vault in which the cast has registered and logged in, made once per run. Copy it, never change it."""
    folder = tmp_path_factory.mktemp("cast")
    vault = register_cast(folder)
    vault.close()
    yield folder, vault


@pytest.fixture
def vault(cast_folder: tuple[Path, Vault], tmp_path: Path) -> Iterator[Vault]:
    """A vault of this test's own, with the cast registered and logged in and no document yet."""
    folder, made = cast_folder
    instance = tmp_path / "instance"
    shutil.copytree(folder, instance)
    own = made.copied_to(instance)
    yield own
    own.close()


@pytest.fixture(scope="session")
def postgresql_cast(
    postgresql: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Vault, str]:
    """The same as ``cast_folder`` on PostgreSQL, with the URL of its database."""
    folder, url = tmp_path_factory.mktemp("postgresql-cast"), postgresql.new_database()
    vault = register_cast(folder, database_url=url, master_key=MASTER_KEY)
    vault.close()
    return folder, vault, url


@pytest.fixture(params=["sqlite", "postgresql"])
def any_vault(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Vault]:
    """The same as ``vault``, on each database in turn."""
    if request.param == "sqlite":
        yield request.getfixturevalue("vault")
        return
    server: PostgresServer = request.getfixturevalue("postgresql")
    folder, made, url = request.getfixturevalue("postgresql_cast")
    instance = tmp_path / "instance"
    shutil.copytree(folder, instance)
    own = made.copied_to(instance, database_url=server.new_database(url), master_key=MASTER_KEY)
    yield own
    own.close()


@pytest.fixture(params=NAMES)
def anybody(request: pytest.FixtureRequest) -> str:
    """Each of the cast in turn, by name."""
    name: str = request.param
    return name
