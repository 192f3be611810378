"""Transfers: only so many bodies are received and sent at once in a process, so that everything else goes on.

A transfer holds buffers of some parts, and lasts as long as its client or the store takes. Whoever finds no place
waits a moment, then is told when to come again. Pages, lists and small requests need no place.
"""

from __future__ import annotations

from collections.abc import Iterator
from threading import Semaphore

from flask import Flask, Response, g, request

from vault.errors import Busy
from vault.wiring import wiring

WAIT_SECONDS = 5
RETRY_SECONDS = 10


class _Place:
    """One of the places, left once however often that is said."""

    def __init__(self, places: Semaphore) -> None:
        if not places.acquire(timeout=WAIT_SECONDS):
            raise Busy(RETRY_SECONDS)
        self._places: Semaphore | None = places

    def __del__(self) -> None:
        """The last resort, for an answer that nobody ever reads or closes."""
        if hasattr(self, "_places"):
            self.leave()

    def leave(self) -> None:
        places, self._places = self._places, None
        if places is not None:
            places.release()


class _Held:
    """A streamed answer that keeps its place until its last piece is sent, or the client is gone."""

    def __init__(self, pieces: Iterator[bytes], place: _Place) -> None:
        self._pieces = pieces
        self._place = place

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._pieces)
        except BaseException:
            self._place.leave()
            raise

    def close(self) -> None:
        try:
            if hasattr(self._pieces, "close"):
                self._pieces.close()
        finally:
            self._place.leave()


def enter_transfer() -> None:
    """Take a place for the request under way, until its answer is sent; raises ``Busy`` when none gets free.

    Before anything is read or opened: who waits must cost nothing.
    """
    _enter(wiring().transfers)


def enter_reading() -> None:
    """The same for a large body that is no file and is held in memory, which anybody may send."""
    _enter(wiring().readings)


def _enter(places: Semaphore) -> None:
    if "place" not in g:
        g.drain_body = True
        g.place = _Place(places)
        g.drain_body = False


def _pass_on(response: Response) -> Response:
    place = g.pop("place", None)
    if place is not None and response.is_streamed and request.method != "HEAD":
        response.response = _Held(iter(response.response), place)  # type: ignore[arg-type]
    elif place is not None:
        place.leave()
    return response


def _leave(error: BaseException | None) -> None:
    place = g.pop("place", None)
    if place is not None:
        place.leave()


def register(app: Flask) -> None:
    """See that each place is left, whatever becomes of its request."""
    app.after_request(_pass_on)
    app.teardown_request(_leave)
