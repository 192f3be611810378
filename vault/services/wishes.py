"""Wishes: what the metadata of an upload that resumes ask for, read from the header of the tus protocol."""

from __future__ import annotations

from base64 import b64decode
from dataclasses import dataclass

from vault.errors import BadInput
from vault.services.documents import read_id

WISHES = frozenset({"filename", "name", "filetype", "path", "recipients", "document"})
"""The keys of the metadata that ask for something."""


@dataclass(frozen=True)
class Wishes:
    """What the metadata of an upload asks for."""

    name: str | None = None
    media_type: str | None = None
    path: tuple[str, ...] = ()
    recipients: tuple[str, ...] = ()
    document_id: bytes | None = None


def wishes_of(header: str) -> Wishes:
    """Read tus metadata: pairs of a key and base64, separated by commas. Raises ``BadInput``.

    Keys that ask for nothing here are kept for the client and passed over, whatever bytes they hold.
    """
    given: dict[str, bytes] = {}
    for pair in filter(None, (part.strip() for part in header.split(","))):
        key, _, value = pair.partition(" ")
        if key in given:
            raise BadInput("Upload-Metadata", "A key of the metadata stands twice.")
        try:
            given[key] = b64decode(value.strip(), validate=True)
        except ValueError:
            raise BadInput("Upload-Metadata", "The metadata are pairs of a key and base64.") from None
    try:
        words = {key: given[key].decode() for key in given.keys() & WISHES}
    except UnicodeDecodeError:
        raise BadInput("Upload-Metadata", f"These are UTF-8 text: {', '.join(sorted(WISHES))}.") from None
    return Wishes(
        words.get("filename", words.get("name")) or None,
        words.get("filetype") or None,
        tuple(folder for folder in words.get("path", "").split("/") if folder),
        tuple(words.get("recipients", "").replace(",", " ").split()),
        read_id("document", words["document"]) if words.get("document") else None,
    )
