"""The cast of the crypto tests, made once: Alice owns, Bob reads, Mallory attacks; and the vectors."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.servers.plugin import need
from vault.crypto.keypairs import PrivateKeys, generate_keys
from vault.crypto.randomness import new_id, new_secret

OWN_VECTORS = Path(__file__).resolve().parent.parent / "vectors"


@dataclass(frozen=True)
class Person:
    id: bytes
    account_key: bytes
    keys: PrivateKeys


def _person() -> Person:
    return Person(new_id(), new_secret(), generate_keys())


@pytest.fixture(scope="session")
def alice() -> Person:
    return _person()


@pytest.fixture(scope="session")
def bob() -> Person:
    return _person()


@pytest.fixture(scope="session")
def mallory() -> Person:
    return _person()


@pytest.fixture(scope="session")
def own_vectors() -> Callable[[str], dict[str, Any]]:
    """One of our own vector files by its name."""

    def load(name: str) -> dict[str, Any]:
        whole: dict[str, Any] = json.loads((OWN_VECTORS / f"{name}.json").read_text("utf-8"))
        return whole

    return load


@pytest.fixture(scope="session")
def published() -> Callable[[str], list[dict[str, Any]]]:
    """The test groups of a published vector file; once the variable is set, a missing folder or file is a failure."""

    def load(name: str) -> list[dict[str, Any]]:
        named = os.environ.get("DOCVAULT_TEST_VECTORS")
        if named and not Path(named).is_dir():
            pytest.fail("DOCVAULT_TEST_VECTORS names a folder that does not exist")
        groups: list[dict[str, Any]] = json.loads((need("vectors") / name).read_text("utf-8"))["testGroups"]
        return groups

    return load
