"""The sweep's lease: one process sweeps at a time, renews while it does, and is followed when it died."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from tests.cast import Vault
from vault.errors import Conflict
from vault.services import audit, clock, sweep
from vault.services.sweep import new_holder

COUNT = 6


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the clock shows, to be moved on."""
    moment = [clock.now()]
    monkeypatch.setattr(clock, "now", lambda: moment[0])
    return moment


def doomed(vault: Vault) -> None:
    documents = [vault.upload("alice") for _ in range(COUNT)]
    with vault.services() as bundle:
        bundle.documents.delete(vault.alice.account, documents)


def take(vault: Vault, holder: bytes) -> bool:
    with vault.services() as bundle:
        return bundle.sweep.take_lease(holder)


class Slow:
    """A store that takes forty seconds for each blob; before them ``meanwhile`` happens."""

    def __init__(self, store: Any, shown: list[Any], meanwhile: Any) -> None:
        self._store = store
        self._shown = shown
        self._meanwhile = meanwhile
        self.deleted = 0

    def list(self, prefix: str) -> Iterator[Any]:
        found: Iterator[Any] = self._store.list(prefix)
        return found

    def delete(self, names: list[str]) -> None:
        self._meanwhile()
        self._shown[0] += timedelta(seconds=40)
        self.deleted += len(names)
        self._store.delete(names)


def test_who_sweeps_for_long_renews_his_lease(any_vault: Vault, shown: list[Any]) -> None:
    first, second, refused = new_holder(), new_holder(), list[bool]()
    doomed(any_vault)
    assert take(any_vault, first)
    with any_vault.services() as bundle:
        began, slow = clock.now(), Slow(bundle.sweep._store, shown, lambda: refused.append(other()))

        def other() -> bool:
            with any_vault.services() as beside:
                return beside.sweep.take_lease(second)

        bundle.sweep._store = slow  # type: ignore[assignment]
        assert bundle.sweep.run(first).blobs == COUNT
    assert clock.now() - began > 3 * sweep.LEASE_LIFE
    assert refused == [False] * COUNT
    shown[0] += timedelta(seconds=10)
    assert not take(any_vault, second), "nor right after"


def test_a_lease_is_taken_over_a_minute_after_its_holder_died(any_vault: Vault, shown: list[Any]) -> None:
    """Whoever was not dead but slow finds out before he destroys anything more."""
    first, second = new_holder(), new_holder()
    doomed(any_vault)
    assert take(any_vault, first)
    with any_vault.services() as bundle:

        def hangs() -> None:
            if slow.deleted == 2:
                shown[0] += sweep.LEASE_LIFE - timedelta(seconds=1)
                assert not take(any_vault, second)
                shown[0] += timedelta(seconds=1)
                assert take(any_vault, second)

        slow = Slow(bundle.sweep._store, shown, hangs)
        bundle.sweep._store = slow  # type: ignore[assignment]
        with pytest.raises(Conflict):
            bundle.sweep.run(first)
    assert slow.deleted == 3
    with any_vault.services() as bundle:
        bundle.sweep.run(second)
    assert any_vault.blob_files() == []


def test_a_long_audit_chain_is_verified_by_and_by(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    holder, renewals = new_holder(), list[bool]()
    renew = sweep.Sweep._renew
    monkeypatch.setattr(sweep, "STEP_SECONDS", 0)
    monkeypatch.setattr(sweep, "RENEWED", timedelta(0))
    monkeypatch.setattr(
        sweep.Sweep, "_renew", lambda self, session: renewals.append(True) or renew(self, session)
    )
    assert take(vault, holder)
    with vault.services() as bundle:
        bundle.sweep.run(holder)
        with bundle.transactions.reading() as session:
            entries = audit.end(session).sequence
    assert len(renewals) > entries > 4
    with vault.database() as connection:
        connection.execute("UPDATE audit_entry SET action = 'logout' WHERE sequence = 3")
    with vault.services() as bundle, pytest.raises(audit.AuditBroken):
        bundle.sweep.run(holder)
