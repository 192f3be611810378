"""Read a page as a person without scripts does: its heading, its words, its forms, what stands beside a field."""

from __future__ import annotations

import html
import re
from typing import Any


def heading(answer: Any) -> str:
    """The words of the page's one ``h1``."""
    (found,) = re.findall(r"<h1[^>]*>(.*?)</h1>", answer.text, re.DOTALL)
    return words(found)


def words(markup: str) -> str:
    """The text of a piece of a page, as it is read."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", markup)).split())


def errors(answer: Any, field: str) -> str:
    """What stands beside a field; the field must point to it, or a screen reader does not say it."""
    found = re.search(rf'id="{field}-error"[^>]*>(.*?)</p>', answer.text, re.DOTALL)
    assert found, f"nothing stands beside {field}"
    described = re.search(rf'aria-describedby="[^"]*{field}-error', answer.text)
    assert described, f"{field} does not point to its error"
    return words(found.group(1))


def hidden(answer: Any, name: str) -> list[str]:
    """The values of the hidden fields of this name."""
    return [
        html.unescape(value)
        for value in re.findall(rf'type="hidden" name="{name}" value="([^"]*)"', answer.text)
    ]


def flashed(browser: Any, answer: Any) -> str:
    """Follow the redirect after a change; return the words of the page it leads to."""
    assert answer.status_code == 303, answer.text[:1000]
    return words(browser.get(answer.location).text)
