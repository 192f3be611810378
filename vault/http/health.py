"""Health: ``/healthz`` says that the process answers, ``/readyz`` that database and store do, and take changes."""

from __future__ import annotations

from flask import Blueprint, Response, make_response, request

from vault.wiring import alarm, unready

health = Blueprint("health", __name__)


@health.get("/healthz")
def alive() -> Response:
    return make_response({"status": "ok"})


@health.get("/readyz")
def ready() -> Response:
    """Say what is wrong; a vault that is read-only is ready for who asks with ``?for=reading``."""
    wrong, stopped = unready(), alarm()
    if wrong or stopped is None:
        answer: dict[str, object] = {"status": "unready", "wrong": wrong} if wrong else {"status": "ready"}
        return make_response(answer, 503 if wrong else 200)
    answer = {"status": "read-only", "wrong": [stopped.said]}
    return make_response(answer, 200 if request.args.get("for") == "reading" else 503)
