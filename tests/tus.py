"""A client of tus 1.0 for tests, which sends exactly what it is told to, wrong or right."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from tests.cast import Api, Vault

VERSION = "1.0.0"
PIECE = "application/offset+octet-stream"
UPLOADS = "/api/v1/uploads"


def metadata(**words: str | bytes) -> str:
    """Upload-Metadata of these words."""
    raw = {key: value.encode() if isinstance(value, str) else value for key, value in words.items()}
    return ",".join(f"{key} {b64encode(value).decode()}" for key, value in raw.items())


class Tus:
    """One of the cast with a tus client; headers are given with ``_`` for ``-``, and left out where ``None``."""

    def __init__(self, vault: Vault, name: str | None = "alice", *, api: Api | None = None) -> None:
        self.vault = vault
        self.api = api or vault.api(name)

    def send(self, method: str, place: str = UPLOADS, body: bytes | None = None, **headers: Any) -> Any:
        """Send one request to an address as the vault gave it."""
        given = {"Tus_Resumable": VERSION} | headers
        named = {name.replace("_", "-"): str(value) for name, value in given.items() if value is not None}
        options = {} if body is None else {"data": body}
        return self.api.open(method, place.removeprefix("/api/v1"), headers=named, **options)

    def create(self, length: int | None, body: bytes | None = None, **headers: Any) -> Any:
        """Ask for an upload; ``length`` ``None`` defers it."""
        told: dict[str, Any] = {"Upload_Length": length} if length is not None else {"Upload_Defer_Length": 1}
        if body is not None:
            told["Content_Type"] = PIECE
        return self.send("POST", UPLOADS, body, **(told | headers))

    def begin(self, length: int | None, **headers: Any) -> str:
        """Begin an upload and return its address."""
        answer = self.create(length, **headers)
        assert answer.status_code == 201, answer.text
        return str(answer.headers["Location"])

    def patch(self, place: str, offset: Any, body: bytes, **headers: Any) -> Any:
        told = {"Upload_Offset": offset, "Content_Type": PIECE}
        return self.send("PATCH", place, body, **(told | headers))

    def head(self, place: str, **headers: Any) -> Any:
        return self.send("HEAD", place, **headers)

    def offset(self, place: str) -> int:
        return int(self.head(place).headers["Upload-Offset"])

    def delete(self, place: str, **headers: Any) -> Any:
        return self.send("DELETE", place, **headers)

    def join(self, *places: str, **headers: Any) -> Any:
        return self.send("POST", UPLOADS, Upload_Concat=f"final;{' '.join(places)}", **headers)

    def upload(self, content: bytes, *, step: int | None = None, **headers: Any) -> bytes:
        """Upload a document, in pieces of ``step`` bytes where given; return its id."""
        place, answer, step = self.begin(len(content), **headers), None, step or len(content)
        for start in range(0, len(content), step):
            answer = self.patch(place, start, content[start : start + step])
            assert answer.status_code == 204, answer.text
        assert answer is not None
        return bytes.fromhex(answer.headers["X-Vault-Document"])
