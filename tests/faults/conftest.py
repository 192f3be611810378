"""Servers that may be killed, one for each module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cast import Vault
from tests.faults.served import Served, served


@pytest.fixture(scope="module")
def doomed(cast_folder: tuple[Path, Vault], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The cast's vault under a server whose fail points can be armed; parts of 32 KiB, one worker."""
    made = served(cast_folder, tmp_path_factory.mktemp("doomed"))
    yield made
    made.close()
