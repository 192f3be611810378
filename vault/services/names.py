"""Names of documents: data, never part of a path, a header or a query."""

from __future__ import annotations

import mimetypes
import unicodedata
from collections.abc import Sequence

from vault.crypto.manifests import IndexEntry
from vault.errors import BadInput

LONGEST_NAME_BYTES = 255
LONGEST_PATH = 32
UNTITLED = "Untitled"


def check_name(name: str) -> str:
    """Return a document's name as it is stored (NFC), or raise ``BadInput``.

    Any Unicode is a name except control characters, lone surrogates, the slash, and the two names of folders. A
    mark that turns the direction of text is kept: the pages show it, they do not obey it.
    """
    text = unicodedata.normalize("NFC", name).strip()
    if not text:
        return UNTITLED
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in text):
        raise BadInput("name", "A name cannot hold control characters.")
    if "/" in text or text in {".", ".."}:
        raise BadInput("name", "A name cannot be a path.")
    if len(text.encode()) > LONGEST_NAME_BYTES:
        raise BadInput("name", f"A name can be at most {LONGEST_NAME_BYTES} bytes long.")
    return text


def last_part(name: str) -> str:
    """Cut what a browser or a client sends as a path down to the name of the file."""
    return name.replace("\\", "/").rsplit("/", 1)[-1]


def check_path(path: tuple[str, ...]) -> tuple[str, ...]:
    """Return a folder path of at most 32 names, or raise ``BadInput``."""
    if len(path) > LONGEST_PATH:
        raise BadInput("path", f"A path can have at most {LONGEST_PATH} folders.")
    return tuple(check_name(part) for part in path)


UNTOLD = frozenset({"", "application/octet-stream", "application/x-www-form-urlencoded"})


def media_type(told: str | None, name: str) -> str:
    """Return the media type that a client told, or the one that the name suggests where it told none.

    A hint for people, shown and never acted on. ``curl`` tells ``x-www-form-urlencoded`` of every body.
    """
    plain = (told or "").split(";")[0].strip().lower()
    if plain in UNTOLD:
        plain = mimetypes.guess_type(name)[0] or ""
    fits = (
        len(plain) <= 100 and plain.count("/") == 1 and all(33 <= ord(character) < 127 for character in plain)
    )
    return plain if fits else "application/octet-stream"


def sort_key(name: str) -> tuple[str, str]:
    """Order names without regard to case and accents first, exactly second."""
    if name.isascii():
        return name.lower(), name
    plain = "".join(c for c in unicodedata.normalize("NFKD", name.casefold()) if not unicodedata.combining(c))
    return plain, name


def words_of(query: str | None) -> tuple[str, ...]:
    """Take a search apart into the words that ``matches`` looks for; none when nothing is searched."""
    return tuple(_plain(query or "").split())


def matches(entry: IndexEntry, words: Sequence[str]) -> bool:
    """Tell whether every word occurs in the name or a folder of an entry, whatever the case."""
    if not words:
        return True
    text = _plain("/".join((*entry.path, entry.name)))
    return all(word in text for word in words)


def _plain(text: str) -> str:
    return text.lower() if text.isascii() else unicodedata.normalize("NFC", text).casefold()
