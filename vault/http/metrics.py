"""``/metrics`` for Prometheus: at an address of its own, or for whoever brings ``DOCVAULT_METRICS_TOKEN``; else 404.

At the address of its own there is nothing else: it may stand in a network where no passphrase must ever travel.
"""

from __future__ import annotations

from hmac import compare_digest

from flask import Blueprint, Flask, Response, make_response, request

from vault.errors import NotFound
from vault.wiring import services

metrics = Blueprint("metrics", __name__)


@metrics.get("/metrics")
def scrape() -> Response:
    token = services().settings.metrics_token.get_secret_value()
    if token and not _brought(token):
        response = make_response("The token is missing or wrong.\n", 401)
        response.mimetype = "text/plain"
        response.headers["WWW-Authenticate"] = "Bearer"
        return response
    if not token and not _at_own_address():
        raise NotFound
    body, content_type = services().metrics.scrape(request.headers.get("Accept", ""))
    return Response(body, content_type=content_type)


def _brought(token: str) -> bool:
    given = request.authorization
    if given is None or given.type != "bearer":
        return False
    return compare_digest((given.token or "").encode(), token.encode())


def _at_own_address() -> bool:
    """Tell whether the connection came in at the metrics' own port.

    Asked of the socket itself: what the request says of its host and port is anybody's word.
    """
    port, socket = services().settings.metrics_port, request.environ.get("gunicorn.socket")
    return port is not None and socket is not None and socket.getsockname()[1] == port


def _keep_apart() -> None:
    if request.endpoint != "metrics.scrape" and _at_own_address():
        raise NotFound


def register(app: Flask) -> None:
    """Let nothing but the metrics answer at their own address."""
    app.before_request(_keep_apart)
