"""Health: ``/healthz`` says that the process answers, ``/readyz`` that database and store do."""

from __future__ import annotations

from flask import Blueprint, Response, make_response

from vault.wiring import unready

health = Blueprint("health", __name__)


@health.get("/healthz")
def alive() -> Response:
    return make_response({"status": "ok"})


@health.get("/readyz")
def ready() -> Response:
    wrong = unready()
    return make_response(
        {"status": "unready", "wrong": wrong} if wrong else {"status": "ready"}, 503 if wrong else 200
    )
