"""Run ``docvault put`` or ``get`` and be killed (SIGKILL) once so many bytes have moved.

``python -m tests.cli.killed_client BYTES put ...``
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from unittest import mock

from vault.cli import client, main


def killed_at(count: int) -> Callable[..., Callable[[int], None]]:
    def moved(done: int) -> None:
        if done >= count:
            os.kill(os.getpid(), signal.SIGKILL)

    return lambda self, name, size: moved


if __name__ == "__main__":
    count = int(sys.argv.pop(1))
    with mock.patch.object(client.Shown, "bar", killed_at(count)):
        main()
