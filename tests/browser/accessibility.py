"""What axe-core finds on a page, and whether the page is wider than its window.

axe-core is the one inside the package ``axe-playwright-python``. It is run by ``page.evaluate``, which the
Content-Security-Policy of the page does not touch, so that nothing of the policy is switched off for the test.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from playwright.sync_api import Page

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
RUN = """async (rules) => {
  const found = await axe.run(document, {runOnly: rules, resultTypes: ["violations"]});
  return found.violations.map(({id, help, nodes}) =>
    `${id}: ${help}: ${nodes.map((node) => `${node.html} (${node.any.map((check) => check.message)})`).join("; ")}`);
}"""
WIDER = """() => {
  const room = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= room) return "";
  return [...document.querySelectorAll("body *")]
    .filter((part) => part.getBoundingClientRect().right > room + 1)
    .map((part) => `${part.tagName} ${part.getAttribute("class")} to ${Math.round(part.getBoundingClientRect().right)}`)
    .slice(0, 8).concat(`the page is ${document.documentElement.scrollWidth} wide in a window of ${room}`).join("; ");
}"""


@cache
def axe_source() -> str:
    return files("axe_playwright_python").joinpath("axe.min.js").read_text()


def violations(page: Page) -> list[str]:
    """Run every rule of WCAG 2.2 AA, and the recommended ones, on the page as it is shown now."""
    if not page.evaluate("Boolean(globalThis.axe)"):
        page.evaluate(axe_source())
    return list(page.evaluate(RUN, RULES))


def wider_than_window(page: Page) -> str:
    """What makes the page scroll sideways; empty when nothing does."""
    return str(page.evaluate(WIDER))
