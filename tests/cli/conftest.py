"""The command line on a vault of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cast import Vault
from tests.cli.commands import Command
from tests.house import house

__all__ = ["house"]


@pytest.fixture
def command(vault: Vault, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """``docvault`` on the cast's vault."""
    return Command(vault.instance, monkeypatch, capfd)


@pytest.fixture
def fresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Command]:
    """``docvault`` where nothing is there yet."""
    yield Command(tmp_path / "fresh", monkeypatch, capfd)
