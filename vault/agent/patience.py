"""How long to try again: with growing pauses, no two clients in step, until nothing has moved for too long."""

from __future__ import annotations

import threading
from collections.abc import Callable

from vault.crypto.randomness import random_below
from vault.errors import VaultError

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
TRIES = 12


class Patience:
    """Counts failures in a row; what moved on since the last one starts the count anew."""

    def __init__(
        self,
        tries: int = TRIES,
        notice: Callable[[str], None] = lambda text: None,
        stopped: threading.Event | None = None,
        first_pause: float = FIRST_PAUSE,
    ) -> None:
        self._tries = tries
        self._notice = notice
        self._stopped = stopped or threading.Event()
        self._first_pause = first_pause
        self._failures = 0
        self._furthest = -1

    def pause(
        self, error: VaultError, reached: int, at_least: float | None = None, most: int | None = None
    ) -> None:
        """Wait before the next try; raises ``error`` when it was the last one, or the whole was given up.

        ``at_least`` is what the server asked for, in seconds; ``most`` lowers the number of tries for this error.
        """
        if reached > self._furthest:
            self._furthest, self._failures = reached, 0
        self._failures += 1
        if self._failures >= min(self._tries, most or self._tries) or self._stopped.is_set():
            raise error
        whole = min(self._first_pause * 2 ** (self._failures - 1), LONGEST_PAUSE)
        seconds = max(whole * (500 + random_below(501)) / 1000, at_least or 0.0)
        self._notice(f"{error} Trying again in {max(1, round(seconds))} s.")
        if self._stopped.wait(seconds):
            raise error
