"""Bodies of multipart forms, byte for byte: what a browser sends, and what it never would."""

from __future__ import annotations

BOUNDARY = "----docvault-test-boundary"
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def field(name: str, value: str | bytes) -> bytes:
    """One ordinary field."""
    text = value.encode() if isinstance(value, str) else value
    return f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + text + b"\r\n"


def file(
    content: bytes, filename: str | bytes = "a.txt", name: str = "file", media_type: str = "text/plain"
) -> bytes:
    """One file; ``filename`` stands in the header as it is given."""
    shown = filename.encode() if isinstance(filename, str) else filename
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="'.encode() + shown
    return head + f'"\r\nContent-Type: {media_type}\r\n\r\n'.encode() + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    """A whole form."""
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()
