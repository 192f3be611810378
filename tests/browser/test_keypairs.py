"""Keys are changed on a page that goes on by itself until all is moved."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.conftest import Meet
from tests.browser.site import Site


def test_keys_are_changed_while_the_page_looks_on(site: Site, meet: Meet) -> None:
    name = site.newcomer()
    document = site.upload(name, "plan.txt", b"plan", share=("bob",))
    nina = meet(name)
    nina.page.goto("/account")
    before = nina.page.locator("#fingerprint .fingerprint").inner_text()
    nina.follow("Keys", "Keys")
    nina.page.get_by_label("Your passphrase").fill("not the passphrase")
    nina.button("Change the keys").click()
    nina.expect_refusal("Your passphrase", "This is not your current passphrase.")
    nina.page.get_by_label("Your passphrase").fill(site.passphrases[name])
    nina.button("Change the keys").click()
    nina.expect_notice("Your new keys are in place. Your former ones are gone.")
    nina.expect_heading("Keys")
    expect(nina.row("current")).not_to_contain_text(before.split()[0] + "\n")
    expect(nina.row("retired")).to_have_count(1)
    nina.page.goto("/account")
    expect(nina.page.locator("#fingerprint .fingerprint")).not_to_have_text(before)
    nina.take_wrong()  # the refused passphrase
    for who in (name, "bob"):
        assert site.api(who).get(f"/documents/{document}/content").content == b"plan"
