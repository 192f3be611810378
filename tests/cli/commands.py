"""Run ``docvault`` in this process, as its entry point does, with an environment of its own."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vault.cli import gunicorn_server, main
from vault.cli.server import ALLOCATOR


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


class Command:
    """The command with the instance folder of a test; what is set stays set for this test."""

    def __init__(
        self, instance: Path, patch: pytest.MonkeyPatch, captured: pytest.CaptureFixture[str]
    ) -> None:
        self.instance = instance
        self._patch = patch
        self._captured = captured
        self.set(instance=instance, registration="open")
        patch.chdir(instance.parent)
        for name, value in ALLOCATOR.items():
            patch.setenv(name, value)
        patch.setattr(gunicorn_server, "run", lambda settings: print("the server runs"))

    def set(self, **settings: Any) -> Command:
        for name, value in settings.items():
            self._patch.setenv(f"DOCVAULT_{name.upper()}", str(value))
        return self

    def __call__(self, *words: str) -> Ended:
        self._patch.setattr(sys, "argv", ["docvault", *words])
        self._captured.readouterr()
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        return Ended(code, *self._captured.readouterr())
