"""What an error becomes: a page with a status for people, problem+json (RFC 9457) for the API.

The only table of HTTP numbers. An unknown error is a plain 500 with an id; its detail is in the log alone.
"""

from __future__ import annotations

import logging
from functools import partial
from http import HTTPStatus

from flask import Flask, Response, g, make_response, redirect, render_template, request, url_for
from flask.json import dumps
from flask_wtf.csrf import CSRFError
from jinja2 import TemplateNotFound
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from vault import errors
from vault.http.receiving import drain
from vault.wiring import request_id

log = logging.getLogger("vault.http")

STATUS: dict[type[errors.VaultError], int] = {
    errors.BadInput: 400,
    errors.NameTaken: 409,
    errors.BrokenOff: 400,
    errors.LoginRequired: 401,
    errors.WrongLogin: 401,
    errors.AccountDisabled: 403,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.KeyChanged: 409,
    errors.PreconditionFailed: 412,
    errors.TooLarge: 413,
    errors.RangeUnsatisfiable: 416,
    errors.Gone: 410,
    errors.Locked: 423,
    errors.TooManyAttempts: 429,
    errors.ChecksumMismatch: 460,
    errors.Unreadable: 500,
    errors.AuditBroken: 500,
    errors.KeyUnavailable: 503,
    errors.Busy: 503,
    errors.StoreUnavailable: 503,
    errors.StoreFull: 507,
    errors.QuotaExceeded: 507,
    errors.TooManyUploads: 507,
}
RETRY_SECONDS = 10
CHECKSUM_MISMATCH = 460
"""The number that tus 1.0 gives it; HTTP has none."""


def status_of(error: errors.VaultError) -> int:
    """Return the status of an error, of its nearest family where it has none of its own."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)


def is_api() -> bool:
    return request.path.startswith("/api/")


def answer(
    status: int, text: str, *, kind: str = "about:blank", field: str | None = None, changed: str | None = None
) -> Response:
    """Build the answer for an error: a page, or problem+json; ``changed`` names somebody whose key has changed."""
    title = "Checksum Mismatch" if status == CHECKSUM_MISMATCH else HTTPStatus(status).phrase
    if is_api():
        problem = {
            "type": kind,
            "title": title,
            "status": status,
            "detail": text,
            "instance": request_id().hex(),
        }
        more = {"field": field} if field else {"username": changed} if changed else {}
        body = dumps(problem | more)
        response = make_response(body, status)
        response.content_type = "application/problem+json"
    else:
        response = make_response(_page(status, title, text, kind, changed), status)
    return response


def _page(status: int, title: str, text: str, kind: str, changed: str | None = None) -> str:
    shown = {
        "status": status,
        "title": title,
        "text": text,
        "kind": kind,
        "request_id": request_id().hex(),
        "changed": changed,
        "path": request.path,
    }
    try:
        return render_template(f"errors/{status}.html", **shown)
    except TemplateNotFound:
        return render_template("errors/error.html", **shown)


def _vault_error(error: errors.VaultError) -> Response:
    status = status_of(error)
    if isinstance(error, errors.LoginRequired) and not is_api() and request.method in {"GET", "HEAD"}:
        # The query is left out: it may hold words of a name, and this address reaches a proxy's log.
        return redirect(url_for("web.login", next=None if request.path == "/" else request.path))  # type: ignore[return-value]
    text = str(error)
    if status >= 500:
        log.error("refused", extra={"error": type(error).__name__, "status": status, "reason": text})
    if isinstance(error, errors.StorageError):
        text = error.text  # where the store lies, and what it answered, is for the log
    kind = f"urn:docvault:{type(error).__name__}"
    changed = error.username if isinstance(error, errors.KeyChanged) else None
    response = answer(status, text, kind=kind, field=getattr(error, "field", None), changed=changed)
    if status in {423, 429, 503}:
        response.headers["Retry-After"] = str(getattr(error, "retry_after", RETRY_SECONDS))
    if isinstance(error, errors.RangeUnsatisfiable):
        response.headers["Content-Range"] = f"bytes */{error.size}"
    if status == 401 and is_api():
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _http_error(error: HTTPException) -> Response:
    if error.response is not None and error.code is not None and error.code < 400:
        return error.response  # type: ignore[return-value]
    text = str(error.description) if isinstance(error, CSRFError) or error.code in {400, 415} else ""
    if isinstance(error, CSRFError):
        text = "This form is too old, or not from this vault. Go back, reload the page and try again."
    if isinstance(error, RequestEntityTooLarge):
        g.drain_body = True
        text = "This is larger than the vault accepts."
    response = answer(error.code or 500, text or HTTPStatus(error.code or 500).description)
    for name, value in error.get_headers():
        if name in {"Allow", "Retry-After", "Location"}:
            response.headers[name] = value
    return response


def _drain_refused(response: Response) -> Response:
    """After the answer to a body that was refused in the middle, read on for a moment, then close."""
    if g.pop("drain_body", False):
        response.headers["Connection"] = "close"
        response.call_on_close(partial(drain, request.environ))
    return response


def _unknown_error(error: Exception) -> Response:
    log.exception("unexpected", extra={"error": type(error).__name__})
    return answer(
        500, "Something went wrong that should not. It was noted; nothing that was confirmed is lost."
    )


def register(app: Flask) -> None:
    """Answer every error in the form that its asker understands."""
    app.after_request(_drain_refused)
    app.register_error_handler(errors.VaultError, _vault_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unknown_error)
