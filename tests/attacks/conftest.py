"""What the attacks share: key pairs of an attacker's own, and a vault with a row in every table."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.attacks.history import live_through
from tests.cast import Vault
from tests.house import house
from vault.crypto.keypairs import PrivateKeys, generate_keys

__all__ = ["house"]

settings.register_profile(
    "attacks", max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)


@pytest.fixture(scope="session")
def stranger_keys() -> PrivateKeys:
    """Key pairs that the attacker made."""
    return generate_keys()


@pytest.fixture(scope="module")
def lived_in(cast_folder: tuple[Path, Vault], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault]:
    """A vault with a row in every table, for a whole module: whoever edits a row puts it back."""
    folder, made = cast_folder
    instance = tmp_path_factory.mktemp("lived-in") / "instance"
    shutil.copytree(folder, instance)
    vault = made.copied_to(instance)
    live_through(vault)
    yield vault
    vault.close()
