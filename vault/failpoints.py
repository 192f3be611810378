"""Named points that acts pass on their way; the tests kill the process at them. In production they do nothing.

``hook`` is ``None`` and nothing in the product sets it: no setting, no variable, no option. A room of its own that
imports nothing, so that services and storage may pass its points.
"""

from __future__ import annotations

from collections.abc import Callable

hook: Callable[[str], None] | None = None


def reach(point: str) -> None:
    """Pass ``point``, such as ``upload.after_put``."""
    if hook is not None:
        hook(point)
