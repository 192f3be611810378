"""Template filters: how names, sizes, types, times and numbers are shown."""

import re
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from markupsafe import Markup, escape

from vault.web import pages

NEEDED_TO_WRITE = frozenset("\u200c\u200d")  # joiners that Persian, Hindi and emoji are written with
HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
PREPENDED_MARKS = re.compile("[\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd]")
UNITS = ("kB", "MB", "GB", "TB", "PB")


class FileKind(NamedTuple):
    label: str
    icon: str


KINDS_BY_TYPE = {
    "application/pdf": FileKind("PDF", "file-earmark-pdf"),
    "application/zip": FileKind("Archive", "file-earmark-zip"),
    "application/gzip": FileKind("Archive", "file-earmark-zip"),
    "application/x-tar": FileKind("Archive", "file-earmark-zip"),
    "application/x-7z-compressed": FileKind("Archive", "file-earmark-zip"),
    "application/vnd.rar": FileKind("Archive", "file-earmark-zip"),
    "application/json": FileKind("Code", "file-earmark-code"),
    "application/xml": FileKind("Code", "file-earmark-code"),
    "text/html": FileKind("Web page", "file-earmark-code"),
    "text/css": FileKind("Code", "file-earmark-code"),
    "text/javascript": FileKind("Code", "file-earmark-code"),
    "text/x-python": FileKind("Code", "file-earmark-code"),
    "text/csv": FileKind("Spreadsheet", "file-earmark-spreadsheet"),
    "application/msword": FileKind("Text document", "file-earmark-word"),
    "application/rtf": FileKind("Text document", "file-earmark-word"),
    "application/vnd.oasis.opendocument.text": FileKind("Text document", "file-earmark-word"),
    "application/vnd.oasis.opendocument.spreadsheet": FileKind("Spreadsheet", "file-earmark-spreadsheet"),
    "application/vnd.oasis.opendocument.presentation": FileKind("Slides", "file-earmark-slides"),
    "application/vnd.ms-excel": FileKind("Spreadsheet", "file-earmark-spreadsheet"),
    "application/vnd.ms-powerpoint": FileKind("Slides", "file-earmark-slides"),
    "message/rfc822": FileKind("Mail", "envelope"),
}
KINDS_BY_PREFIX = {
    "application/vnd.openxmlformats-officedocument.wordprocessingml": FileKind(
        "Text document", "file-earmark-word"
    ),
    "application/vnd.openxmlformats-officedocument.spreadsheetml": FileKind(
        "Spreadsheet", "file-earmark-spreadsheet"
    ),
    "application/vnd.openxmlformats-officedocument.presentationml": FileKind("Slides", "file-earmark-slides"),
    "image/": FileKind("Picture", "file-earmark-image"),
    "audio/": FileKind("Sound", "file-earmark-music"),
    "video/": FileKind("Video", "file-earmark-play"),
    "font/": FileKind("Font", "file-earmark-font"),
    "text/": FileKind("Text", "file-earmark-text"),
}


def is_hidden(character: str) -> bool:
    """Tell whether a character shows nothing, or changes the order or look of what stands around it."""
    if character in NEEDED_TO_WRITE or PREPENDED_MARKS.match(character):
        return False
    return unicodedata.category(character) in HIDDEN_CATEGORIES


def pieces(name: str) -> Iterator[tuple[bool, str]]:
    """Cut a name into runs of text and single hidden characters, in order."""
    run = ""
    for character in name:
        if is_hidden(character):
            if run:
                yield False, run
            run = ""
            yield True, f"U+{ord(character):04X}"
        else:
            run += character
    if run:
        yield False, run


@pages.app_template_filter()
def visible(name: str) -> Markup:
    """Show a name so that nothing in it can hide (X3): code points in place of controls, isolated in direction.

    ``gnp.exe`` turned round by U+202E must not look like ``exe.png``.
    """
    shown = (
        Markup('<span class="code-point">{}</span>').format(text) if hidden else escape(text)
        for hidden, text in pieces(name)
    )
    return Markup('<bdi class="name">{}</bdi>').format(Markup("").join(shown))


@pages.app_template_filter()
def visible_text(name: str) -> str:
    """The same for an attribute, where no markup can stand."""
    return "".join(f"\u2039{text}\u203a" if hidden else text for hidden, text in pieces(name))


@pages.app_template_filter()
def size(count: int) -> str:
    """Show a number of bytes in decimal units, as file managers do: 1,234,567 is ``1.2 MB``."""
    if count < 1000:
        return "1 byte" if count == 1 else f"{count} bytes"
    value, unit = count / 1000, 0
    while value >= 999.5 and unit < len(UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.1f} {UNITS[unit]}" if value < 9.95 else f"{value:.0f} {UNITS[unit]}"


@pages.app_template_filter()
def kind(media_type: str) -> FileKind:
    """Turn a media type into a word and an icon."""
    plain = media_type.partition(";")[0].strip().lower()
    if plain in KINDS_BY_TYPE:
        return KINDS_BY_TYPE[plain]
    for prefix, found in KINDS_BY_PREFIX.items():
        if plain.startswith(prefix):
            return found
    return FileKind("File", "file-earmark")


@pages.app_template_filter()
def utc(moment: datetime) -> str:
    """Show a time to a person without scripts; with scripts the ``<time>`` around it becomes local."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


@pages.app_template_filter()
def iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


@pages.app_template_filter()
def counted(count: int, one: str, many: str) -> str:
    return f"1 {one}" if count == 1 else f"{count:,} {many}"
