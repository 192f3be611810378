"""A user's machine: a home of its own, in which ``docvault`` runs in this process or as one of its own."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.agent.conftest import login_to
from tests.cast import Vault
from tests.cli.commands import Ended
from tests.servers.vault import VaultServer
from vault.agent.client import SESSION_FILE
from vault.agent.configuration import Configuration
from vault.cli import main

ROOT = Path(__file__).resolve().parents[2]


class Machine:
    """``machine("ls", "--json")`` runs the command; files are in ``work``, the current folder."""

    def __init__(self, home: Path, patch: pytest.MonkeyPatch, captured: pytest.CaptureFixture[str]) -> None:
        self.work = home / "work"
        self.work.mkdir(parents=True)
        self.configuration = Configuration(home / "config" / "docvault")
        self.environment = {
            "XDG_CONFIG_HOME": str(home / "config"),
            "HOME": str(home),
            "PYTHONPATH": str(ROOT),
        }
        self._patch = patch
        self._captured = captured

    def as_user(self, server: VaultServer | str, name: str = "alice", vault: Vault | None = None) -> Machine:
        """Store a login as if this user had made it."""
        url = server if isinstance(server, str) else server.url
        login = login_to(url, name, vault.members[name].token if vault else "a.token.of-tests")
        self.configuration.write(SESSION_FILE, asdict(login))
        return self

    def __call__(self, *words: str, stdin: bytes = b"") -> Ended:
        self._patch.chdir(self.work)
        for name, value in self.environment.items():
            self._patch.setenv(name, value)
        self._patch.setattr(sys, "argv", ["docvault", *words])
        self._patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), "utf-8"))
        self._captured.readouterr()
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        return Ended(code, *self._captured.readouterr())

    def run(self, *words: str, module: str = "vault.cli", **given: Any) -> subprocess.CompletedProcess[bytes]:
        """Run it as a process of its own; standard input is ``input``, or nothing."""
        if "input" not in given:
            given["stdin"] = subprocess.DEVNULL
        return subprocess.run(
            [sys.executable, "-m", module, *words],
            cwd=self.work, env=os.environ | self.environment, capture_output=True, timeout=120, check=False, **given,
        )  # fmt: skip

    def on_terminal(self, *words: str, typed: bytes = b"") -> tuple[int, str]:
        """Run it on a terminal and type; return exit code and everything that the terminal showed."""
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "vault.cli", *words],
            cwd=self.work, env=os.environ | self.environment | {"TERM": "xterm", "COLUMNS": "100"},
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        shown = b""
        answers = typed.splitlines(keepends=True)
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # Linux says so when the other end is closed
                break
            if not piece:
                break
            shown += piece
            if answers and shown.rstrip().endswith((b":", b"]:")):
                os.write(ours, answers.pop(0))
                shown += b"\n"
        os.close(ours)
        return process.wait(60), shown.decode(errors="replace")
