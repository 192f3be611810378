"""The headers of every answer, in one place."""

from __future__ import annotations

import logging
import time

from flask import Flask, Response, g, request

from vault.services import counting
from vault.wiring import request_id, services

log = logging.getLogger("vault.http")

QUIET = frozenset({"health.alive", "health.ready", "metrics.scrape"})
"""What machines ask every few seconds."""

POLICY = {
    "default-src": ["'none'"],
    "script-src": ["'self'"],
    "style-src": ["'self'"],
    "img-src": ["'self'", "data:"],
    "font-src": ["'self'"],
    "connect-src": ["'self'"],
    "form-action": ["'self'"],
    "frame-ancestors": ["'none'"],
    "base-uri": ["'none'"],
}
CONTENT_SECURITY_POLICY = "; ".join(
    f"{directive} {' '.join(sources)}" for directive, sources in POLICY.items()
)


def _add_headers(response: Response) -> Response:
    headers = response.headers
    headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
    headers.setdefault("X-Content-Type-Options", "nosniff")
    # Not no-referrer: a form of such a page says "Origin: null", which the Origin check must refuse.
    headers.setdefault("Referrer-Policy", "same-origin")
    headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")
    headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
    headers.setdefault("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=()")
    headers.setdefault("X-Request-Id", request_id().hex())
    if services().settings.secure:
        headers.setdefault("Strict-Transport-Security", "max-age=63072000; includeSubDomains")
    if not _is_static(response):
        headers["Cache-Control"] = "no-store"
        headers.add("Vary", "Cookie")
    return response


def _is_static(response: Response) -> bool:
    return request.endpoint == "static" and response.status_code in {200, 206, 304}


def _begin() -> None:
    g.began = time.perf_counter()


def _log_answer(response: Response) -> Response:
    """Write one line a request: the endpoint and not the path, which may hold a user's name."""
    seconds = time.perf_counter() - g.get("began", time.perf_counter())
    counting.answered(response.status_code, seconds)
    if request.endpoint in QUIET and response.status_code == 200:
        return response
    told = {"method": request.method, "endpoint": request.endpoint, "status": response.status_code}
    log.info("answered", extra=told | {"ms": round(seconds * 1000, 1)})
    return response


def register(app: Flask) -> None:
    """Set the headers on every answer, errors included, and log it."""
    app.before_request(_begin)
    app.after_request(_log_answer)
    app.after_request(_add_headers)
