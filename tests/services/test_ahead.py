"""One ahead: order, errors in their place, nothing left open, nobody waits for what hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from vault.services.ahead import one_ahead


class Thing:
    """Something that must be closed, by whichever thread it was made."""

    def __init__(self, number: int, made: list[Thing]) -> None:
        self.number = number
        self.thread = threading.current_thread()
        self.closed = threading.Event()
        made.append(self)

    def close(self) -> None:
        self.closed.set()


@pytest.fixture
def made() -> Iterator[list[Thing]]:
    """What was made; at the end no thread of a series is left."""
    yield []
    for thread in threading.enumerate():
        if thread.name.startswith("ahead"):
            thread.join(10)
            assert not thread.is_alive()


def makers(made: list[Thing], count: int) -> list[Callable[[], Thing]]:
    return [partial(Thing, number, made) for number in range(count)]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 50])
def test_all_come_in_their_order(made: list[Thing], count: int) -> None:
    assert [thing.number for thing in one_ahead(makers(made, count))] == list(range(count))
    assert not any(thing.closed.is_set() for thing in made), "who takes a thing closes it"


def test_one_alone_takes_no_thread(made: list[Thing]) -> None:
    (thing,) = one_ahead(makers(made, 1))
    assert thing.thread is threading.current_thread()


def test_the_next_is_made_meanwhile_and_no_more(made: list[Thing]) -> None:
    things = one_ahead(makers(made, 5))
    for taken in range(1, 5):
        next(things)
        until(lambda taken=taken: len(made) == taken + 1)
    assert len({thing.thread for thing in made}) == 2
    things.close()


def test_what_was_made_in_vain_is_closed(made: list[Thing]) -> None:
    things = one_ahead(makers(made, 5))
    next(things)
    until(lambda: len(made) == 2)
    things.close()
    assert made[1].closed.wait(10) and not made[0].closed.is_set()


def test_nobody_waits_for_a_maker_that_hangs_and_what_it_makes_is_closed(made: list[Thing]) -> None:
    begun, free = threading.Event(), threading.Event()

    def hang() -> Thing:
        begun.set()
        assert free.wait(10)
        return Thing(1, made)

    things = one_ahead([*makers(made, 1), hang, *makers(made, 1)])
    next(things)
    assert begun.wait(10)
    things.close()
    assert len(made) == 1
    free.set()
    until(lambda: len(made) == 2)
    assert made[1].closed.wait(10)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_error_comes_in_its_place(made: list[Thing], place: int) -> None:
    def fail() -> Thing:
        raise LookupError

    series = makers(made, 3)
    series.insert(place, fail)
    things = one_ahead(series)
    for _ in range(place):
        next(things)
    with pytest.raises(LookupError):
        next(things)
    assert next(things, None) is None
    assert len(made) == place


def test_a_maker_that_fails_after_all_is_over_disturbs_nobody(made: list[Thing]) -> None:
    free = threading.Event()

    def fail() -> Thing:
        assert free.wait(10)
        raise LookupError

    things = one_ahead([*makers(made, 1), fail])
    next(things)
    things.close()
    free.set()
