"""Run ``docvault`` with a fail point armed: ``python -m tests.faults.launcher ORDER_FILE serve --port 8000``.

The order file is JSON with ``point``, ``number`` and ``whom``; it is read at each point that is reached, so that a
test arms a server that runs. The process takes the file away, then kills itself (``worker``) or itself and all its
kin (``all``), at the n-th time that it reaches the point.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from vault import failpoints
from vault.cli import main
from vault.cli.server import ALLOCATOR

STATEMENT = "migration.statement"


@dataclass(frozen=True)
class Order:
    """Where to die: at the ``number``-th time that one process reaches ``point``; ``whom`` is worker or all."""

    point: str
    number: int = 1
    whom: str = "worker"

    def write(self, file: Path) -> None:
        unfinished = file.with_suffix(".new")
        unfinished.write_text(json.dumps(asdict(self)))
        unfinished.rename(file)


@dataclass
class Killer:
    """The hook of the fail points."""

    file: Path
    reached: Counter[Order] = field(default_factory=Counter)

    def __call__(self, point: str) -> None:
        try:
            order = Order(**json.loads(self.file.read_text()))
        except FileNotFoundError:
            self.reached.clear()
            return
        if order.point == point:
            self.reached[order] += 1
            if self.reached[order] == order.number:
                self.file.unlink()
                kill = os.kill if order.whom == "worker" else os.killpg
                kill(os.getpid() if order.whom == "worker" else os.getpgrp(), signal.SIGKILL)


def reach_statements(killer: Killer) -> None:
    """Make a point of each statement that changes the schema, after it has run."""

    def after(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.lstrip().upper().startswith(("CREATE", "ALTER", "DROP")):
            killer(STATEMENT)

    event.listen(Engine, "after_cursor_execute", after)


if __name__ == "__main__":
    os.setpgid(0, 0)
    failpoints.hook = Killer(Path(sys.argv[1]))
    reach_statements(failpoints.hook)
    os.environ.update(ALLOCATOR)  # else serve begins a new process, in which nothing is armed
    sys.argv = ["docvault", *sys.argv[2:]]
    main()
