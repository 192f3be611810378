"""Must-show 4: a forgotten passphrase; the code works once, sets a new one, and every document opens."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.conftest import Meet
from tests.browser.site import Site


def test_must_show_4_a_forgotten_passphrase_is_replaced_with_the_kit(site: Site, meet: Meet) -> None:
    nina = site.newcomer()
    own = {f"note {number}.txt": b"note %d" % number for number in range(3)}
    for name, content in own.items():
        site.upload(nina, name, content)
    site.upload("alice", "from Alice.txt", b"from Alice", (nina,))

    inside = meet(nina)
    inside.page.goto("/account")
    inside.follow("Make a recovery code", "Make a recovery code")
    inside.page.get_by_label("Your passphrase").fill(site.passphrases[nina])
    inside.button("Make the code").click()
    inside.expect_heading("Your recovery kit")
    code = inside.page.get_by_label("In one line").input_value()
    expect(inside.page.get_by_role("img", name="The address and the code as a QR code")).to_be_visible()
    inside.page.evaluate("window.print = () => { document.documentElement.dataset.printed = 'yes'; }")
    inside.button("Print").click()
    assert inside.page.locator("html").get_attribute("data-printed") == "yes"

    outside = meet()
    outside.page.goto(f"/recover#{code}")  # what the picture leads to
    expect(outside.page.get_by_label("Recovery code")).to_have_value(code)
    assert outside.path() == "/recover", "the code leaves the address bar"
    outside.page.get_by_label("User name").fill(nina)
    outside.button("Set a new passphrase").click()
    passphrase = outside.shown_passphrase()
    outside.page.get_by_label("Passphrase", exact=True).fill(passphrase)
    outside.button("Log in").click()
    outside.expect_heading(nina)
    expect(outside.page.get_by_text("Your recovery code was used")).to_be_visible()
    outside.button("I have read this").click()
    outside.expect_notice("Noted.")
    expect(outside.page.get_by_text("Your recovery code was used")).to_have_count(0)

    outside.follow("My documents", "My documents")
    assert sorted(outside.names()) == sorted(own)
    for name, content in own.items():
        outside.follow(name, name)
        assert outside.download(outside.link("Download")) == (name, content)
        outside.page.go_back()
        outside.expect_heading("My documents")
    outside.follow("Shared with me", "Shared with me")
    outside.follow("from Alice.txt", "from Alice.txt")
    assert outside.download(outside.link("Download"))[1] == b"from Alice"

    inside.page.goto("/")
    inside.expect_heading("Log in")
    outside.lock()
    outside.page.goto("/recover")
    outside.page.get_by_label("User name").fill(nina)
    outside.page.get_by_label("Recovery code").fill(code)
    outside.button("Set a new passphrase").click()
    expect(outside.page.get_by_text("do not fit together")).to_be_visible()
