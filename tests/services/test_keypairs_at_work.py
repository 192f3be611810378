"""Must-show 3: somebody with many grants changes his pairs while others share with him, on each database."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.attacks.attacker import failures
from tests.cast import Vault, reader
from vault.errors import Busy, VaultError
from vault.services import keypairs
from vault.services.access import Need
from vault.services.unlocked import UnlockedAccount
from vault.wiring import Services

AT_ONCE = 50


def fresh(bundle: Services, vault: Vault, who: str) -> UnlockedAccount:
    """Recognise somebody as his next request does."""
    return bundle.sessions.identify(bundle.sessions.token_for(vault.members[who].account))


def make_documents(vault: Vault, owner: str, count: int, share: str) -> list[bytes]:
    """Let somebody own ``count`` documents that somebody else reads; fifty of them in a transaction."""
    made: list[bytes] = []
    with vault.services() as bundle:
        account = vault.members[owner].account
        ids = {vault.members[share].account.user_id}

        def insert(session: Any) -> list[bytes]:
            people = list(bundle.contacts.people(session, ids).values())
            bundle.contacts.meet(session, account, *people)
            return [
                bundle.uploads.insert(session, account, bundle.uploads.prepare(account, draft), people)
                for draft in drafts
            ]

        for start in range(0, count, AT_ONCE):
            drafts = [
                bundle.uploads.store(account, reader(b"%d" % number), name=f"{number}")
                for number in range(start, min(count, start + AT_ONCE))
            ]
            made += bundle.transactions.writing(insert)
    return made


@contextmanager
def meanwhile(*acts: Callable[[int], None]) -> Iterator[list[Exception]]:
    """Repeat each of these in a thread of its own; what is busy is asked again. The rest of the errors are given."""
    over, errors = threading.Event(), []

    def repeat(act: Callable[[int], None]) -> None:
        number = 0
        while not over.is_set():
            try:
                act(number)
            except Busy:
                continue
            except Exception as error:  # noqa: BLE001  (shown by the test)
                errors.append(error)
                return
            number += 1

    threads = [threading.Thread(target=repeat, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    try:
        yield errors
    finally:
        over.set()
        for thread in threads:
            thread.join()


def opened_by(vault: Vault, who: str, documents: list[bytes]) -> int:
    """Open documents as somebody's next request does; return how many open."""
    with vault.services() as bundle:
        account, count = fresh(bundle, vault, who), 0
        with bundle.transactions.reading() as session:
            for document in documents:
                held = bundle.gate.find(session, account, document, Need.READ)
                count += bundle.gate.open(session, account, held).document_id == document
        assert not account.older, "with the new pairs only"
    return count


@pytest.mark.parametrize("count", [20, pytest.param(5000, marks=pytest.mark.long)])
def test_many_grants_are_moved_while_others_share(
    any_vault: Vault,
    count: int,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    vault = any_vault
    if count < 100:
        monkeypatch.setattr(keypairs, "READ_AT_ONCE", 3)
    received = make_documents(vault, "alice", count, "bob")
    signed = make_documents(vault, "bob", max(5, count // 50), "alice")
    fresh_ones: list[bytes] = []
    waiting = make_documents(vault, "charlie", 200 if count > 100 else 20, "dora")

    def share(number: int) -> None:
        document = waiting[number % len(waiting)]
        with vault.services() as bundle:
            bundle.sharing.share(vault.charlie.account, [document], ["bob"])
        fresh_ones.append(document)

    def upload(number: int) -> None:
        fresh_ones.append(vault.upload("alice", b"%d" % number, share=("bob",)))

    def answer(number: int) -> None:
        with vault.services() as bundle:
            account = fresh(bundle, vault, "bob")
            recipients = bundle.uploads.resolve(account, ["alice"])
            signed.append(bundle.uploads.receive(account, reader(b"%d" % number), recipients=recipients))

    with meanwhile(share, upload, answer) as errors:
        started, longest = time.monotonic(), 0.0
        with vault.services() as bundle:
            work_id = bundle.keypairs.rotate(vault.bob.account, vault.bob.passphrase)
            total = bundle.work.view(vault.bob.account, work_id).total
        begun = time.monotonic()
        while True:
            with vault.services() as bundle:
                asked = time.monotonic()
                try:
                    left = bundle.work.go_on(fresh(bundle, vault, "bob"), work_id)
                except Busy:
                    continue
                longest = max(longest, time.monotonic() - asked)
                if left is None:
                    break
        ended = time.monotonic()
    assert errors == []
    figures = {
        "made": round(begun - started, 2),
        "moved": round(ended - begun, 2),
        "per_1000": round((ended - begun) * 1000 / total, 2),
        "longest_request": round(longest, 2),
        "rows": total,
        "meanwhile": len(fresh_ones),
    }
    for name, value in figures.items():
        record_property(name, value)
    print(count, figures)
    received += fresh_ones
    assert opened_by(vault, "bob", received) == len(received)
    assert opened_by(vault, "bob", signed) == len(signed)
    assert opened_by(vault, "alice", signed) == len(signed), "what he signed verifies"
    assert failures(vault) == [] if vault.settings.database.startswith("sqlite") else True
    with vault.services() as bundle:
        former = bundle.keypairs.pairs(fresh(bundle, vault, "bob"))[1]
        assert former.retired_at is not None
        assert bundle.check.run().findings == []


def test_two_tabs_that_go_on_at_once_both_come_to_the_end(
    any_vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = any_vault
    monkeypatch.setattr(keypairs, "READ_AT_ONCE", 2)
    documents = make_documents(vault, "alice", 20, "bob")
    with vault.services() as bundle:
        work_id = bundle.keypairs.rotate(vault.bob.account, vault.bob.passphrase)
    ends: list[object] = []

    def tab() -> None:
        with vault.services() as bundle:
            account = fresh(bundle, vault, "bob")
            for _ in range(1000):
                try:
                    if bundle.work.go_on(account, work_id, seconds=0) is None:
                        break
                except Busy:
                    continue
                except VaultError as error:
                    ends.append(type(error).__name__)
                    return
            ends.append(None)

    tabs = [threading.Thread(target=tab) for _ in range(3)]
    for one in tabs:
        one.start()
    for one in tabs:
        one.join()
    assert None in ends and set(ends) <= {None, "NotFound"}, "the last ones find that it is done"
    assert opened_by(vault, "bob", documents) == 20
    with vault.services() as bundle:
        assert bundle.check.run().findings == []
