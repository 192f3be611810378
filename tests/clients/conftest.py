"""One server for a module of clients, which is killed as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cast import Vault
from tests.faults.served import Served, served


@pytest.fixture(scope="module")
def doomed(cast_folder: tuple[Path, Vault], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The cast's vault under a server that is killed whole, with the parts that everybody has."""
    made = served(cast_folder, tmp_path_factory.mktemp("clients"), part_size=8 * 2**20)
    yield made
    made.close()
