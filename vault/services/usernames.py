"""User names: what may be one, and the form in which it is stored."""

from __future__ import annotations

import re

from vault.errors import BadInput

USERNAME = re.compile(r"[a-z0-9._-]{2,32}", re.ASCII)
RESERVED = frozenset({"me"})


def fold_username(text: str) -> str | None:
    """Fold a typed user name to the stored form, or return ``None`` when nobody can have this name."""
    folded = text.strip().lower()
    return folded if USERNAME.fullmatch(folded) else None


def new_username(text: str) -> str:
    """Fold a name that somebody wants to have; raises ``BadInput`` when nobody can have it."""
    folded = fold_username(text)
    if folded is None or folded in RESERVED:
        raise BadInput("username", "Use 2 to 32 of the characters a-z, 0-9, dot, underscore and hyphen.")
    return folded
