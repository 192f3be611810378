"""Read ahead: a thread takes from an iterator while the caller is busy with what it took before."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")


class _Over(Generic[T]):
    """The end of what is read ahead, with the error that was met there."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def read_ahead(source: Iterator[T], depth: int) -> Generator[T]:
    """Give what ``source`` gives, taken in a thread that is at most ``depth`` items ahead.

    An error of the source is raised here, in its place. The thread starts with the first item that is asked for and
    ends with the source, or soon after this generator is closed: nobody waits for a store that hangs. It is a daemon,
    so that a process can end meanwhile.
    """
    ready: SimpleQueue[T | _Over[T]] = SimpleQueue()
    room, closed = threading.Semaphore(depth), threading.Event()
    arguments = (source, ready, room, closed)
    threading.Thread(target=_take, args=arguments, name="read-ahead", daemon=True).start()
    try:
        while not isinstance(item := ready.get(), _Over):
            yield item
            room.release()
        if item.error is not None:
            raise item.error
    finally:
        closed.set()
        room.release()


def _take(
    source: Iterator[T],
    ready: SimpleQueue[T | _Over[T]],
    room: threading.Semaphore,
    closed: threading.Event,
) -> None:
    over: _Over[T] = _Over()
    try:
        while room.acquire() and not closed.is_set():
            try:
                ready.put(next(source))
            except StopIteration:
                break
    except BaseException as error:  # noqa: BLE001 - it is raised where the items are taken
        over = _Over(error)
    finally:
        if isinstance(source, Generator):
            source.close()
        ready.put(over)
