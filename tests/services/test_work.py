"""Work that takes long: shown to its owner, advanced in small batches, lost at no point."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.attacks.attacker import Attacker
from tests.cast import Vault
from vault.errors import NotFound, Unreadable
from vault.services import work
from vault.services.audit import Event
from vault.services.transactions import Transactions
from vault.services.unlocked import UnlockedAccount
from vault.services.work import Position, Works
from vault.wiring import Services


class Counter:
    """A worker that counts, some units a transaction; ``stuck`` lets it do nothing from a unit on."""

    def __init__(self, transactions: Transactions, step: int = 3, stuck: int | None = None) -> None:
        self.transactions = transactions
        self.step = step
        self.stuck = stuck

    def advance(self, account: UnlockedAccount, work_id: bytes, until: float) -> None:
        while self.transactions.writing(lambda session: self._some(session, account, work_id)):
            if time.monotonic() >= until:
                return

    def _some(self, session: object, account: UnlockedAccount, work_id: bytes) -> bool:
        row = work.locked(session, account, work_id)  # type: ignore[arg-type]
        at = work.position(row)
        if self.stuck is not None and at.done >= self.stuck:
            return False
        self.transactions.record(Event("counted", account.user_id, "work", work_id))
        if at.done + self.step >= row.total:
            session.delete(row)  # type: ignore[attr-defined]
            return False
        work.move(row, Position(at.done + self.step, at.failed, b"%d" % at.done))
        return True


@contextmanager
def counting(
    vault: Vault, total: int = 10, step: int = 3, stuck: int | None = None
) -> Iterator[tuple[Services, Works, bytes]]:
    """Work of Alice's that counts to ``total``."""
    with vault.services() as bundle:
        works = Works(bundle.transactions, {"count": Counter(bundle.transactions, step, stuck)})

        def start(session: object) -> bytes:
            row = work.begin(session, vault.alice.account, "count", total)  # type: ignore[arg-type]
            bundle.transactions.record(Event("count_started", vault.alice.account.user_id, "work", row.id))
            return row.id

        yield bundle, works, bundle.transactions.writing(start)


def test_work_is_shown_goes_on_and_ends(vault: Vault) -> None:
    alice = vault.alice.account
    with counting(vault) as (bundle, works, work_id):
        (shown,) = works.open(alice)
        assert (shown.id, shown.kind, shown.done, shown.total, shown.percent) == (work_id, "count", 0, 10, 0)
        after = works.go_on(alice, work_id, seconds=0)
        assert after is not None and (after.done, after.percent) == (3, 30), "one batch, and no more"
        assert works.view(alice, work_id) == after
        assert works.go_on(alice, work_id) is None
        assert works.open(alice) == []
        assert bundle.check.run().findings == []


def test_a_command_goes_on_to_the_end(vault: Vault) -> None:
    alice = vault.alice.account
    with counting(vault, total=100) as (_, works, work_id):
        works.finish(alice, work_id)
        assert works.open(alice) == []


def test_work_that_can_do_no_more_does_not_hold_a_command(vault: Vault) -> None:
    alice = vault.alice.account
    with counting(vault, stuck=6) as (_, works, work_id):
        works.finish(alice, work_id)
        (left,) = works.open(alice)
        assert left.done == 6


@pytest.mark.parametrize("who", ["bob", "dora"])
def test_nobody_else_sees_or_moves_it(vault: Vault, who: str) -> None:
    other = vault.members[who].account
    with counting(vault) as (_, works, work_id):
        assert works.open(other) == []
        for act in (works.view, works.go_on, works.finish):
            with pytest.raises(NotFound):
                act(other, work_id)
        assert works.view(vault.alice.account, work_id).done == 0


def test_work_of_a_kind_that_only_waits_is_not_shown(vault: Vault) -> None:
    with counting(vault) as (bundle, _, work_id):
        assert bundle.work.open(vault.alice.account) == [], "nobody does this kind"
        with pytest.raises(NotFound):
            bundle.work.go_on(vault.alice.account, work_id)


def test_a_position_that_somebody_edits_is_refused(vault: Vault) -> None:
    with counting(vault) as (_, works, work_id):
        attacker = Attacker(vault)
        attacker.update("work", work_id, cursor=work._HEAD.pack(9, 0))
        with pytest.raises(Unreadable):
            works.go_on(vault.alice.account, work_id)
        attacker.update("work", work_id, cursor=b"short")
        attacker.reseal("work", work_id)
        with pytest.raises(Unreadable):
            works.open(vault.alice.account)
