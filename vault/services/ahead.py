"""One ahead: make the next of a series in a thread while the caller is busy with the present one."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar


class Closable(Protocol):
    def close(self) -> None: ...


C = TypeVar("C", bound=Closable)


def one_ahead(makers: Iterable[Callable[[], C]]) -> Generator[C]:
    """Call each of ``makers`` and give what it made, for the caller to close; the next is called meanwhile.

    The first is called by the caller's own thread, so a series of one takes no other. What a maker raises is raised
    in its place. When this generator is closed, nobody waits for a maker that hangs: what it makes is closed then.
    """
    waiting = iter(makers)
    threads: ThreadPoolExecutor | None = None
    coming: Future[C] | None = None
    try:
        make = next(waiting, None)
        made = make() if make is not None else None
        while made is not None:
            make = next(waiting, None)
            if make is not None:
                threads = threads or ThreadPoolExecutor(max_workers=1, thread_name_prefix="ahead")
                coming = threads.submit(make)
            yield made
            made, coming = coming.result() if coming is not None else None, None
    finally:
        if coming is not None:
            coming.add_done_callback(_close_made)
        if threads is not None:
            threads.shutdown(wait=False, cancel_futures=True)


def _close_made(coming: Future[C]) -> None:
    if not coming.cancelled() and coming.exception() is None:
        coming.result().close()
