"""Read JSON bodies strictly: explicit fields, explicit types, nothing taken on the side."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from flask import request
from werkzeug.exceptions import UnsupportedMediaType

from vault.errors import BadInput
from vault.http.identity import check_csrf


def read_json(by_cookie: bool = True, /, **fields: type) -> dict[str, Any]:
    """Return the named fields of the JSON body; an absent one is ``None``, an unknown one or a wrong type is 400.

    Checks the CSRF token of a request that a cookie authorises, unless ``by_cookie`` is false: where no cookie counts.
    """
    if by_cookie:
        check_csrf()
    if request.mimetype != "application/json":
        raise UnsupportedMediaType("Send the body as application/json.")
    try:
        body = request.get_json()
    except RecursionError as error:
        raise BadInput("body", "The body is nested too deeply.") from error
    if not isinstance(body, dict):
        raise BadInput("body", "The body must be a JSON object.")
    for name, value in body.items():
        if name not in fields:
            raise BadInput(str(name)[:64], "There is no such field.")
        if value is not None and type(value) is not fields[name]:
            raise BadInput(name, f"This must be of type {fields[name].__name__}.")
    return {name: body.get(name) for name in fields}


def flag(name: str) -> bool:
    """Read ``?name=true`` from the address; absent is false, another word is 400."""
    word = request.args.get(name, "false")
    if word not in {"true", "false"}:
        raise BadInput(name, "This is true or false.")
    return word == "true"


def required(body: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return ``body`` when each of ``names`` is there; raises ``BadInput`` naming the first that is not."""
    for name in names:
        if body[name] is None:
            raise BadInput(name, "This field is required.")
    return body


def names_in(values: list[Any], field: str) -> list[str]:
    """Return ``values`` when each is a text."""
    if not all(isinstance(value, str) for value in values):
        raise BadInput(field, "This must be a list of texts.")
    return values


def moment(text: str | None, field: str) -> datetime | None:
    """Read a time in ISO 8601 with its zone; raises ``BadInput``."""
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
        if time.tzinfo is None:
            raise BadInput(field, "Write the time with its zone, like 2030-01-31T12:00:00Z.")
        return time.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise BadInput(field, "Write a time like 2030-01-31T12:00:00Z.") from error


def shown(time: datetime | None) -> str | None:
    """Write a time in ISO 8601, UTC."""
    return None if time is None else time.isoformat().replace("+00:00", "Z")


def limit_asked() -> int:
    """Return how many items of a list are asked for: 50, or ``?limit=`` up to 1,000."""
    text = request.args.get("limit", "50")
    if not text.isdecimal() or len(text) > 4 or not 1 <= int(text) <= 1000:
        raise BadInput("limit", "The limit is a number from 1 to 1000.")
    return int(text)
