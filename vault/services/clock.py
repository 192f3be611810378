"""The time, in one place, so that a test can move it."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    """Return the current time in UTC, to the microsecond."""
    return datetime.now(UTC)
