"""Trying again: growing pauses, a count that progress starts anew, and an end."""

from __future__ import annotations

import threading
import time

import pytest

from vault.agent import patience as under_test
from vault.agent.patience import LONGEST_PAUSE, Patience
from vault.errors import Busy


class Waits(threading.Event):
    """Notes how long was to be waited, and does not."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.seconds.append(timeout or 0)
        return False


def test_pauses_grow_with_jitter_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    for drawn, share in ((0, 0.5), (500, 1.0)):
        monkeypatch.setattr(under_test, "random_below", lambda bound, drawn=drawn: drawn)
        waits = Waits()
        patience = Patience(10, stopped=waits)
        for _ in range(9):
            patience.pause(Busy(), 0)
        whole = [0.5, 1, 2, 4, 8, 16, LONGEST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE]
        assert waits.seconds == [seconds * share for seconds in whole]


def test_what_does_not_move_ends_and_what_moves_begins_to_count_anew() -> None:
    error, waits = Busy(), Waits()
    patience = Patience(3, stopped=waits)
    for reached in (0, 0, 1, 1, 2, 2):
        patience.pause(error, reached)
    with pytest.raises(Busy) as caught:
        patience.pause(error, 2)
    assert caught.value is error
    with pytest.raises(Busy):
        Patience(1, stopped=waits).pause(error, 0)
    with pytest.raises(Busy):
        Patience(9, stopped=waits).pause(error, 0, most=1)


def test_what_the_server_asks_for_is_waited_and_told() -> None:
    told: list[str] = []
    waits = Waits()
    Patience(3, told.append, waits).pause(Busy(), 0, 40)
    assert waits.seconds == [40]
    assert told == ["The vault is busy. Try again in a moment. Trying again in 40 s."]


def test_one_who_is_stopped_waits_no_longer() -> None:
    stopped = threading.Event()
    threading.Timer(0.1, stopped.set).start()
    began = time.monotonic()
    with pytest.raises(Busy):
        Patience(3, stopped=stopped).pause(Busy(), 0, 60)
    assert time.monotonic() - began < 30
