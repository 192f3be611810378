"""A process that dies in the middle, as the code under test sees it."""

from __future__ import annotations

from collections.abc import Callable


class Killed(BaseException):
    """The process ends here."""


def killed_at(count: int) -> Callable[[int], None]:
    """Make a progress callback that dies once so many bytes have passed."""

    def moved(done: int) -> None:
        if done >= count:
            raise Killed

    return moved
