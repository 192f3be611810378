"""tus 1.0 at ``/api/v1/uploads``: core, creation, creation-with-upload, creation-defer-length, checksum, expiration,
termination, concatenation. Source: tus.io/protocols/resumable-upload, version 1.0.0.

The address of an upload opens nothing without its owner's token, and reaches no log all the same.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from email.utils import format_datetime
from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, Response, make_response, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import UnsupportedMediaType

from vault.errors import BadInput, Locked, LoginRequired, PreconditionFailed
from vault.extensions import csrf
from vault.http.identity import check_csrf, current_account, sender
from vault.http.receiving import receive_piece
from vault.services.resumable import CHECKSUMS, FINAL, PARTIAL, Checksum, Progress, Told
from vault.services.unlocked import UnlockedAccount
from vault.services.wishes import wishes_of
from vault.wiring import services

VERSION = "1.0.0"
EXTENSIONS = (
    "creation,creation-with-upload,creation-defer-length,checksum,expiration,termination,concatenation"
)
PIECE = "application/offset+octet-stream"
MOST_BYTES = 1 << 63

resumable = Blueprint("resumable", __name__, url_prefix="/api/v1/uploads")
csrf.exempt(resumable)


@resumable.before_request
def _check_version() -> None:
    """Refuse another version of the protocol before anything else; OPTIONS is how a client learns ours."""
    method = request.headers.get("X-HTTP-Method-Override", request.method).upper()
    if method != "OPTIONS" and request.headers.get("Tus-Resumable") != VERSION:
        raise PreconditionFailed("This server speaks tus 1.0.0; say so in Tus-Resumable.")


@resumable.after_request
def _tell_version(response: Response) -> Response:
    response.headers["Tus-Resumable"] = VERSION
    if response.status_code == 412:
        response.headers["Tus-Version"] = VERSION
    return response


@resumable.route("", methods=["OPTIONS"], provide_automatic_options=False)
@resumable.route("/<token>", methods=["OPTIONS"], provide_automatic_options=False)
def options(token: str = "") -> ResponseReturnValue:
    told = {
        "Tus-Version": VERSION,
        "Tus-Extension": EXTENSIONS,
        "Tus-Max-Size": str(services().resumable.largest),
        "Tus-Checksum-Algorithm": ",".join(CHECKSUMS),
        "Allow": "OPTIONS, POST, HEAD, PATCH, DELETE",
    }
    return "", 204, told


@resumable.post("")
def begin() -> ResponseReturnValue:
    account = current_account()
    check_csrf()
    concat, metadata = request.headers.get("Upload-Concat", ""), request.headers.get("Upload-Metadata", "")
    told = Told(metadata, wishes_of(metadata), concat)
    if concat.startswith(f"{FINAL};"):
        return _created(_join(account, concat, told))
    if concat not in {"", PARTIAL}:
        raise BadInput("Upload-Concat", "This is partial, or final; with the addresses of partial uploads.")
    begun = services().resumable.begin(account, _total(), told, partial=concat == PARTIAL)
    if request.mimetype == PIECE:
        begun = _append(begun.token, 0, None)
    return _created(begun)


def _join(account: UnlockedAccount, concat: str, told: Told) -> Progress:
    if "Upload-Length" in request.headers:
        raise BadInput("Upload-Length", "The length of a final upload is that of its parts.")
    places = concat.removeprefix(f"{FINAL};").split()
    return services().resumable.join(account, [_token_in(place) for place in places], told)


def _token_in(place: str) -> str:
    """Take an upload's token out of an address of ours, whole or only its path; anything else is refused (X5)."""
    path, prefix = urlsplit(place).path, url_for("resumable.begin") + "/"
    if not path.startswith(prefix) or not path.removeprefix(prefix):
        raise BadInput("Upload-Concat", "Name partial uploads by the addresses that this vault gave them.")
    return path.removeprefix(prefix)


def _total() -> int | None:
    """Read the length that a creation must tell, or defer."""
    deferred = request.headers.get("Upload-Defer-Length")
    if deferred is None:
        return _number("Upload-Length")
    if deferred != "1" or "Upload-Length" in request.headers:
        raise BadInput("Upload-Defer-Length", "This is 1, and stands without Upload-Length.")
    return None


def _number(header: str) -> int:
    text = request.headers.get(header, "")
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and int(text) < MOST_BYTES):
        raise BadInput(header, f"{header} must be a whole number that is not negative.")
    return int(text)


def _created(begun: Progress) -> ResponseReturnValue:
    headers = _headers(begun) | {"Location": url_for("resumable.look", token=begun.token)}
    return "", 201, headers


def _headers(state: Progress) -> dict[str, str]:
    headers = {
        "Upload-Offset": str(state.offset),
        "Upload-Expires": format_datetime(state.expires_at, usegmt=True),
    }
    if state.document_id is not None:
        headers["X-Vault-Document"] = state.document_id.hex()
    return headers


@resumable.route("/<token>", methods=["HEAD"], provide_automatic_options=False)
def look(token: str) -> ResponseReturnValue:
    found = services().resumable.look(_owner(token), token)
    headers = _headers(found)
    if found.length is None:
        headers["Upload-Defer-Length"] = "1"
    else:
        headers["Upload-Length"] = str(found.length)
    if found.metadata:
        headers["Upload-Metadata"] = found.metadata
    if found.kind in {PARTIAL, FINAL}:
        headers["Upload-Concat"] = found.joins or PARTIAL
    return "", 200, headers


def _owner(token: str) -> UnlockedAccount:
    """Return who asks about an upload; while nobody is logged in, an upload that is there waits for its owner."""
    try:
        return current_account()
    except LoginRequired:
        if services().resumable.exists(token):
            raise Locked from None
        raise


@resumable.patch("/<token>")
def append(token: str) -> ResponseReturnValue:
    if request.mimetype != PIECE:
        raise UnsupportedMediaType(f"Send a piece of an upload as {PIECE}.")
    declared = _number("Upload-Length") if "Upload-Length" in request.headers else None
    return "", 204, _headers(_append(token, _number("Upload-Offset"), declared))


def _append(token: str, offset: int, declared: int | None) -> Progress:
    try:
        claims = sender()
    except LoginRequired:
        if services().resumable.exists(token):
            raise Locked from None
        raise
    return receive_piece(claims, token, offset, declared=declared, checksum=_checksum())


def _checksum() -> Checksum | None:
    given = request.headers.get("Upload-Checksum")
    if given is None:
        return None
    algorithm, _, text = given.partition(" ")
    if algorithm not in CHECKSUMS:
        raise BadInput("Upload-Checksum", f"Known algorithms: {', '.join(CHECKSUMS)}.")
    try:
        digest = b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        digest = b""
    if len(digest) != CHECKSUMS[algorithm]:
        raise BadInput("Upload-Checksum", f"This is no base64 of a digest by {algorithm}.")
    return Checksum(algorithm, digest)


@resumable.delete("/<token>")
def end(token: str) -> ResponseReturnValue:
    account = _owner(token)
    check_csrf()
    services().resumable.end(account, token)
    return "", 204


@resumable.post("/<token>")
def act(token: str = "") -> ResponseReturnValue:
    """Take POST at an upload's address only for what X-HTTP-Method-Override makes of it."""
    return make_response("", 405, {"Allow": "OPTIONS, HEAD, PATCH, DELETE"})


_ACTS: dict[str, dict[str, Any]] = {
    "begin": {"POST": begin, "OPTIONS": options},
    "act": {"HEAD": look, "PATCH": append, "DELETE": end, "OPTIONS": options},
}


@resumable.before_request
def _override() -> ResponseReturnValue | None:
    """Do what X-HTTP-Method-Override says instead: some networks let no PATCH or DELETE through."""
    wanted = request.headers.get("X-HTTP-Method-Override")
    if wanted is None or wanted.upper() == request.method:
        return None
    given = request.view_args or {}
    chosen = _ACTS["act" if "token" in given else "begin"].get(wanted.upper(), act)
    answer: ResponseReturnValue = chosen(**given)
    return answer
