"""The JSON API at ``/api/v1``: the same services as the pages, errors as problem+json (RFC 9457).

A bearer token, or the page's cookie together with ``X-CSRFToken``. A view here parses, calls one service and shapes
the answer.
"""

from __future__ import annotations

from flask import Blueprint

from vault.extensions import csrf

api = Blueprint("api", __name__, url_prefix="/api/v1")
csrf.exempt(api)

from vault.api import (  # noqa: E402
    accounts,
    check,
    contacts,
    documents,
    history,
    keypairs,
    people,
    recovery,
    rekey,
    resets,
    sessions,
    sharing,
    work,
)

__all__ = [
    "accounts",
    "api",
    "check",
    "contacts",
    "documents",
    "history",
    "keypairs",
    "people",
    "recovery",
    "rekey",
    "resets",
    "sessions",
    "sharing",
    "work",
]
