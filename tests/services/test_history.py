"""The security log and the timeline: who sees what, in which order, and what the past looks like."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import Any

import pytest

from tests.attacks.attacker import Attacker
from tests.cast import Vault, reader
from tests.house import house, standing, vault
from vault.errors import BadInput, Forbidden, NotFound, WrongLogin
from vault.services import clock, history
from vault.services.history import Happening, Reading

__all__ = ["house", "standing", "vault"]


def log(vault: Vault, who: str, **asked: Any) -> list[Happening]:
    with vault.services() as bundle:
        return bundle.history.log(vault.members[who].account, **asked).items


def timeline(vault: Vault, document: bytes) -> list[Happening]:
    with vault.services() as bundle:
        return bundle.history.timeline(vault.alice.account, document).items


def readings(vault: Vault, document: bytes) -> dict[str, list[Reading]]:
    with vault.services() as bundle:
        found = bundle.history.readings(vault.alice.account, document)
    return {
        name: [each for each in found if each.username == name]
        for name in dict.fromkeys(each.username for each in found)
    }


# The log


def test_a_log_tells_what_one_did_and_what_others_did_to_one(vault: Vault) -> None:
    document = vault.upload("alice", b"x", name="plan.txt", share=("bob",))
    vault.read("bob", document)
    with vault.services() as bundle:
        with contextlib.suppress(WrongLogin):
            bundle.sessions.log_in("bob", "not his passphrase", address="192.0.2.1", client="tests")
        bundle.accounts.change(vault.dora.account, "bob", role="admin")
    promoted, wrong, read, shared, *before = log(vault, "bob")
    assert (promoted.action, promoted.actor, promoted.person, promoted.about_self) == (
        "account_change", "dora", "bob", True,
    )  # fmt: skip
    assert (wrong.action, wrong.succeeded, wrong.actor, wrong.detail) == ("login", False, None, None)
    assert (read.action, read.by_self, read.document) == ("download", True, "plan.txt")
    assert (shared.action, shared.actor, shared.about_self, shared.document) == (
        "share", "alice", True, "plan.txt",
    )  # fmt: skip
    assert [each.action for each in before] == ["login", "register"]
    assert "download" not in {each.action for each in log(vault, "alice")}, "what Bob does is in the timeline"
    assert {each.action for each in log(vault, "charlie")} == {"login", "register"}


def test_a_log_is_read_in_pages_and_each_entry_is_on_one_of_them(vault: Vault) -> None:
    for _ in range(7):
        vault.upload("alice", b"x", share=("bob",))
    whole = [each.sequence for each in log(vault, "alice")]
    assert whole == sorted(whole, reverse=True) and len(whole) > 14
    seen, after = [], None
    with vault.services() as bundle:
        while True:
            page = bundle.history.log(vault.alice.account, limit=3, after=after)
            assert 0 < len(page.items) <= 3
            seen += [each.sequence for each in page.items]
            if page.next is None:
                break
            after = page.next
    assert seen == whole


@pytest.mark.parametrize("after", ["x", "-1", "1.5", "9" * 19, "", "\u0661"])
def test_a_page_that_cannot_be_is_refused(house: Vault, after: str) -> None:
    with house.services() as bundle, pytest.raises(BadInput):
        bundle.history.log(house.alice.account, after=after)


def test_a_document_that_is_gone_or_revoked_has_no_name_any_more(vault: Vault) -> None:
    document = vault.upload("alice", b"x", name="plan.txt", share=("bob",))
    vault.read("bob", document)
    with vault.services() as bundle:
        bundle.sharing.revoke(vault.alice.account, [document], ["bob"])
    assert {each.document for each in log(vault, "bob")} == {None}
    with vault.services() as bundle:
        bundle.documents.delete(vault.alice.account, [document])
    assert {each.document for each in log(vault, "alice")} == {None}


def test_why_something_does_not_open_is_for_the_operator_alone(vault: Vault) -> None:
    document = vault.upload("alice", b"x", share=("bob",))
    Attacker(vault).update("document", document, epoch=9)
    assert vault.api("bob").get(f"/documents/{document.hex()}").status_code == 500
    failure = log(vault, "bob")[0]
    assert (failure.action, failure.detail) == ("integrity_failure", None)
    assert vault.audit()[-1][3] == "seal:document"


def test_m5_an_entry_that_was_edited_is_shown_as_one_that_cannot_be_believed(vault: Vault) -> None:
    with vault.database() as connection:
        connection.execute("UPDATE audit_entry SET detail = 'forged' WHERE action = 'register'")
    shown = log(vault, "alice")[-1]
    assert (shown.action, shown.at, shown.actor, shown.succeeded) == ("unbelievable", None, None, False)


def test_one_remembered_name_that_does_not_open_takes_nothing_but_itself_away(vault: Vault) -> None:
    """With the master key an entry can be edited so that its row's seal fits, and not the seal within."""
    alice, attacker = vault.alice.account.user_id, Attacker(vault)
    damaged, sound = vault.upload("alice", b"x", name="one.txt"), vault.upload("alice", b"x", name="two.txt")
    entry = attacker.row("document_index", document_id=damaged, reader_id=alice)
    attacker.update("document_index", entry["id"], sealed_entry=bytes(len(entry["sealed_entry"])))
    attacker.reseal("document_index", entry["id"])
    named = {each.object_id: each.document for each in log(vault, "alice") if each.object_kind == "document"}
    assert named == {damaged: None, sound: "two.txt"}
    assert vault.browser("alice").get("/account/log").status_code == 200


def test_f15_the_order_is_that_of_the_chain_whatever_the_clock_said(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = vault.upload("alice", b"x", share=("bob",))
    for moved in (timedelta(hours=1), timedelta(days=400), -timedelta(hours=1)):
        with monkeypatch.context() as jump:
            then = clock.now() + moved
            jump.setattr(clock, "now", lambda then=then: then)
            with vault.services() as bundle:
                bundle.documents.rename(vault.alice.account, document, f"{moved.days}.txt")
    events = log(vault, "alice")
    assert [each.action for each in events[:3]] == ["rename"] * 3
    assert [each.sequence for each in events] == sorted((e.sequence for e in events), reverse=True)
    times = [each.at for each in events[:3] if each.at]
    assert times[1] > times[0], "the clock had gone back in between"


# The timeline


def test_the_timeline_is_for_the_owner(vault: Vault) -> None:
    document = vault.upload("alice", b"x", share=("bob",))
    for who, refusal in (("bob", Forbidden), ("charlie", NotFound), ("dora", NotFound)):
        with vault.services() as bundle:
            for ask in (bundle.history.timeline, bundle.history.readings):
                with pytest.raises(refusal):
                    ask(vault.members[who].account, document)


def test_the_timeline_tells_who_did_what(vault: Vault) -> None:
    document = vault.upload("alice", b"x", share=("bob",))
    vault.upload("alice", b"another", share=("bob",))
    vault.read("bob", document)
    with contextlib.suppress(NotFound):
        vault.read("charlie", document)
    with vault.services() as bundle:
        bundle.uploads.receive(vault.alice.account, reader(b"new"), document_id=document)
        bundle.sharing.revoke(vault.alice.account, [document], ["bob"])
    told = [(each.action, each.actor, each.subject) for each in timeline(vault, document)]
    assert told == [
        ("revoke", "alice", "bob"), ("replace", "alice", None), ("denied", "charlie", None),
        ("download", "bob", None), ("share", "alice", "bob"), ("upload", "alice", None),
    ]  # fmt: skip


def test_whose_download_was_cut_and_why(vault: Vault) -> None:
    document = vault.upload("alice", b"x" * 300_000, share=("bob",))
    with vault.services() as bundle:
        opened = bundle.downloads.open(vault.bob.account, document)
        pieces = opened.stream(0, opened.size)
        next(pieces)
        pieces.close()
    (cut, begun, *_) = timeline(vault, document)
    assert (cut.action, cut.actor, cut.detail) == ("download_cut", "bob", "aborted")
    assert begun.action == "download"
    (bob,) = readings(vault, document)["bob"]
    assert (bob.downloads, bob.cut, bob.last_download_at) == (1, 1, begun.at)


def test_from_when_to_when_somebody_could_read(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    document = vault.upload("alice", b"x", share=("bob", "charlie"))
    vault.read("bob", document)
    soon = clock.now() + timedelta(minutes=10)
    with vault.services() as bundle:
        alice = vault.alice.account
        bundle.sharing.revoke(alice, [document], ["bob"])
        bundle.sharing.leave(vault.charlie.account, [document])
        bundle.sharing.share(alice, [document], ["bob"])
        bundle.sharing.share(alice, [document], ["dora"], expires_at=soon)
    vault.read("bob", document)
    vault.read("bob", document)
    found = readings(vault, document)
    (owner,) = found["alice"]
    assert owner.is_owner and owner.until is None
    first, second = found["bob"]
    assert (first.ended_by, first.downloads, second.until, second.downloads) == ("revoke", 1, None, 2)
    assert first.until is not None and first.since < first.until < second.since
    (charlie,) = found["charlie"]
    assert charlie.ended_by == "leave" and charlie.until is not None
    (dora,) = found["dora"]
    assert (dora.until, dora.expires_at) == (None, soon)

    later = soon + timedelta(minutes=30)
    with monkeypatch.context() as jump:
        jump.setattr(clock, "now", lambda: later)
        for swept in (False, True):
            if swept:
                with vault.services() as bundle:
                    bundle.sweep.run()
            (dora,) = readings(vault, document)["dora"]
            assert (dora.until, dora.ended_by) == (soon, "share_expired"), "the moment, not that of the sweep"


def test_the_present_grants_decide_who_still_reads(vault: Vault) -> None:
    """An entry that was taken out makes nobody a reader and hides none who is; verify names its place."""
    document = vault.upload("alice", b"x", share=("bob", "charlie"))
    with vault.services() as bundle:
        bundle.sharing.revoke(vault.alice.account, [document], ["bob"])
    with vault.database() as connection:
        connection.execute("DELETE FROM audit_entry WHERE action IN ('revoke', 'share')")
    found = readings(vault, document)
    assert set(found) == {"alice", "charlie"}
    assert found["charlie"][0].until is None


def test_of_downloads_the_newest_are_counted(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    document = vault.upload("alice", b"x", share=("bob",))
    for _ in range(5):
        vault.read("bob", document)
    monkeypatch.setattr(history, "READINGS_COUNTED", 3)
    assert readings(vault, document)["bob"][0].downloads == 3
