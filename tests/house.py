"""Vaults that cost little: the application is made once, its folder is filled anew; or one vault serves a module.

Making an application takes a seventh of a second, most of it for the rules of its addresses. Copying a folder takes a
hundredth.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.cast import Member, Vault
from vault.extensions import db


def refill(vault: Vault, folder: Path, members: Mapping[str, Member]) -> Vault:
    """Put what ``folder`` holds in the place of everything in the vault's own; members get fresh tokens."""
    vault.close()
    shutil.rmtree(vault.instance)
    shutil.copytree(folder, vault.instance)
    vault.members = {name: member.elsewhere() for name, member in members.items()}
    with vault.services() as bundle:
        for member in vault.members.values():
            member.token = bundle.sessions.token_for(member.account)
    return vault


@pytest.fixture(scope="session")
def standing(
    cast_folder: tuple[Path, Vault], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Vault, Path]]:
    """An application for tests that follow one another, and the folder that its own is filled from."""
    folder, made = cast_folder
    instance = tmp_path_factory.mktemp("standing") / "instance"
    shutil.copytree(folder, instance)
    vault = made.copied_to(instance)
    vault.close()
    full = instance.with_name("full")
    shutil.copytree(instance, full)
    yield vault, full
    vault.close()


@pytest.fixture
def vault(standing: tuple[Vault, Path], cast_folder: tuple[Path, Vault]) -> Iterator[Vault]:
    """A vault with the cast registered and logged in and no document yet, as in ``tests/conftest.py``."""
    own, full = standing
    yield refill(own, full, cast_folder[1].members)
    with own.app.app_context():
        db.session.remove()


@pytest.fixture(scope="module")
def house(cast_folder: tuple[Path, Vault], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault]:
    """One vault for all tests of a module that only look, or touch nothing but what they made themselves."""
    folder, made = cast_folder
    instance = tmp_path_factory.mktemp("house") / "instance"
    shutil.copytree(folder, instance)
    own = made.copied_to(instance)
    yield own
    own.close()
