"""Send a document: streamed, with ranges, as an attachment that no browser runs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import quote

from flask import Response, request, stream_with_context
from werkzeug.datastructures import Range
from werkzeug.http import is_resource_modified

from vault.errors import BadInput, RangeUnsatisfiable
from vault.services.downloads import Opened
from vault.services.zips import Zip

CONTENT_POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"
_ID = re.compile("[0-9a-f]{32}")


def disposition(name: str) -> str:
    """Build Content-Disposition after RFC 6266: a plain name for old clients, the true one percent-encoded."""
    plain = "".join(c if 32 <= ord(c) < 127 and c not in '"\\%' else "_" for c in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def wanted_range(opened: Opened) -> tuple[int, int] | None:
    """Return the one range that is asked for, or ``None`` for the whole.

    Raises ``RangeUnsatisfiable`` for several ranges, and for one that lies outside. A range whose If-Range names
    another version is passed over.
    """
    given = request.headers.get("Range")
    if given is None or request.method != "GET":
        return None
    condition = request.headers.get("If-Range")
    if condition is not None and condition.strip() != f'"{opened.etag}"':
        return None
    asked = request.range
    if asked is None or asked.units != "bytes" or len(asked.ranges) != 1:
        raise RangeUnsatisfiable(opened.size)
    first, stop = asked.ranges[0]
    # A suffix that is longer than the document is the whole of it (RFC 9110, 14.1.2).
    found = Range("bytes", [(max(first, -opened.size), stop)]).range_for_length(opened.size)
    if found is None:
        raise RangeUnsatisfiable(opened.size)
    return found


def send_document(opened: Opened) -> Response:
    """Answer with a document's content; what can be proved has been proved before the status line goes out."""
    if not is_resource_modified(request.environ, etag=opened.etag):
        response = Response(status=304)
    else:
        response = _content(opened, wanted_range(opened))
    response.headers["ETag"] = f'"{opened.etag}"'
    response.headers["Accept-Ranges"] = "bytes"
    return _as_attachment(response, opened.name)


def send_zip(opened: Zip) -> Response:
    """Answer with many documents as one file; it is made as it is sent, so it has no tag and no ranges."""
    pieces = stream_with_context(opened.stream()) if request.method != "HEAD" else ()
    response = Response(pieces, content_type="application/zip", direct_passthrough=True)
    response.content_length = opened.size
    response.headers["Accept-Ranges"] = "none"
    return _as_attachment(response, opened.name)


def asked_ids(texts: Sequence[str]) -> list[bytes]:
    """Read the ids of documents that somebody asks for; raises ``BadInput`` for what is no id."""
    if not all(_ID.fullmatch(text) for text in texts):
        raise BadInput("id", "An id has 32 hexadecimal digits.")
    return [bytes.fromhex(text) for text in texts]


def _as_attachment(response: Response, name: str) -> Response:
    response.headers["Content-Disposition"] = disposition(name)
    response.headers["Content-Security-Policy"] = CONTENT_POLICY
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    return response


def _content(opened: Opened, asked: tuple[int, int] | None) -> Response:
    start, stop = asked or (0, opened.size)
    # The context lives as long as the stream: damage found in the middle must reach the audit log.
    pieces = stream_with_context(opened.stream(start, stop)) if request.method == "GET" else iter(())
    response = Response(
        pieces, status=206 if asked else 200, content_type="application/octet-stream", direct_passthrough=True
    )
    response.content_length = stop - start
    if asked:
        response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{opened.size}"
    return response
