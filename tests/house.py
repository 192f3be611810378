"""Vaults for tests that need not be alone: one copy a module instead of one a test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cast import Vault


@pytest.fixture(scope="module")
def house(cast_folder: tuple[Path, Vault], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault]:
    """One vault for all tests of a module that only look, or touch nothing but what they made themselves."""
    folder, made = cast_folder
    instance = tmp_path_factory.mktemp("house") / "instance"
    shutil.copytree(folder, instance)
    vault = made.copied_to(instance)
    yield vault
    vault.close()
