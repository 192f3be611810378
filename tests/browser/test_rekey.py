"""New keys: with the end of a share, for a document by itself, and later, from the page of work that waits."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import expect

from tests.browser.conftest import Meet
from tests.browser.site import Site
from tests.browser.test_sharing import send_dialog
from tests.cast import Vault


def test_a_share_ends_under_new_keys_and_a_document_gets_them_by_itself(
    site: Site, meet: Meet, cast_folder: tuple[Path, Vault]
) -> None:
    document = site.upload("alice", "plan.txt", b"secret plan", share=("bob", "charlie"))
    alice, charlie = meet("alice"), meet("charlie")
    alice.page.goto(f"/documents/{document}")
    generation = alice.page.locator("dt", has_text="Generation of its keys").locator("+ dd")
    expect(generation).to_have_text("1")
    alice.link("End sharing with bob").click()
    dialog = alice.dialog()
    expect(dialog).to_contain_text("Older versions keep their keys.")
    expect(dialog.get_by_label("Destroy what is under the old keys at once")).not_to_be_checked()
    dialog.get_by_label("Make new keys as well").check()
    send_dialog(alice, "End sharing")
    alice.expect_notice("The share has ended. The document has new keys.")
    expect(generation).to_contain_text("2 new keys since")
    expect(alice.link("End sharing with bob")).to_have_count(0)

    alice.link("New keys").click()
    alice.dialog().get_by_label("Destroy what is under the old keys at once").check()
    send_dialog(alice, "Make new keys")
    alice.expect_notice("The document has new keys.")
    expect(generation).to_contain_text("3 new keys since")
    charlie.page.goto(f"/documents/{document}")
    assert charlie.download(charlie.link("Download")) == ("plan.txt", b"secret plan")

    beside = cast_folder[1].copied_to(site.server.instance)
    with beside.services() as bundle:
        bundle.rekey.ask(beside.alice.account, bytes.fromhex(document))
    beside.close()
    alice.page.reload()
    expect(alice.page.get_by_role("heading", name="New keys are not made yet")).to_be_visible()
    alice.link("Go on").click()
    alice.expect_notice("The document has new keys.")
    expect(generation).to_contain_text("4 new keys since")
    assert site.content("charlie", document) == b"secret plan"
