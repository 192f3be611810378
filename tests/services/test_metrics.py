"""What the services count: each act once, by its kind, and nothing that tells who."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest

from tests.attacks.attacker import Attacker, flip
from tests.attacks.history import live_through
from tests.cast import Vault
from tests.house import standing, vault
from vault.errors import Busy, NotFound, StoreUnavailable, TooManyAttempts, Unreadable, VaultError, WrongLogin
from vault.services import clock
from vault.services.transactions import Transactions

__all__ = ["standing", "vault"]


def scrape(vault: Vault) -> dict[str, float]:
    """Every line of a scrape, by name and labels."""
    with vault.services() as bundle:
        text = bundle.metrics.scrape("text/plain")[0].decode()
    return {name: float(value) for name, value in re.findall(r"^(docvault\S+) (\S+)$", text, re.MULTILINE)}


@contextmanager
def counting(vault: Vault) -> Iterator[Callable[[], dict[str, float]]]:
    """Give what tells which counts have grown since, and by how much."""
    before = scrape(vault)

    def grown() -> dict[str, float]:
        now = scrape(vault)
        return {name: now[name] - before[name] for name in now if now[name] != before.get(name)}

    yield grown


def log_in(vault: Vault, name: str, passphrase: str) -> None:
    with vault.services() as bundle:
        bundle.sessions.log_in(name, passphrase, address="192.0.2.9", client="tests")


def test_logins_and_unlocks(vault: Vault) -> None:
    with counting(vault) as grown:
        log_in(vault, "alice", vault.alice.passphrase)
        with pytest.raises(WrongLogin):
            log_in(vault, "alice", "not her passphrase at all")
        with pytest.raises(WrongLogin):
            log_in(vault, "nobody", "not his passphrase at all")
        with vault.services() as bundle:
            bundle.accounts.set_state(None, "bob", "disabled")
        with pytest.raises(VaultError, match="disabled"):
            log_in(vault, "bob", vault.bob.passphrase)
        assert vault.api("alice").get("/me").status_code == 200
        found = grown()
    assert found['docvault_logins_total{outcome="ok"}'] == 1
    assert found['docvault_logins_total{outcome="wrong"}'] == 2
    assert found['docvault_logins_total{outcome="disabled"}'] == 1
    assert found["docvault_login_seconds_count"] == 1 and found["docvault_login_seconds_sum"] > 0.01
    assert found['docvault_unlocks_total{method="passphrase",outcome="ok"}'] == 2, "Bob's passphrase is right"
    assert found['docvault_unlocks_total{method="passphrase",outcome="failed"}'] == 2
    assert found['docvault_unlocks_total{method="session",outcome="ok"}'] == 1
    assert found['docvault_unlock_seconds_count{method="session"}'] == 1


def test_throttled_logins(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vault.services.throttle.PER_NAME", 1)
    with counting(vault) as grown:
        for _ in range(2):
            with suppress(WrongLogin, TooManyAttempts):
                log_in(vault, "nobody", "not his passphrase at all")
        assert grown()['docvault_logins_total{outcome="throttled"}'] == 1


def test_opens_and_bytes(vault: Vault) -> None:
    content = b"x" * 100_000
    with counting(vault) as grown:
        document = vault.upload("alice", content, share=("bob",))
        assert vault.read("bob", document) == content
        with vault.services() as bundle:
            bundle.documents.view(vault.alice.account, document)
        with pytest.raises(NotFound):
            vault.read("charlie", document)
        found = grown()
    assert found['docvault_opens_total{outcome="ok"}'] == 2
    assert 'docvault_opens_total{outcome="failed"}' not in found, "a stranger has met no failure"
    assert found["docvault_open_seconds_count"] == 2
    assert found['docvault_content_bytes_total{direction="received"}'] == 100_000
    assert found['docvault_content_bytes_total{direction="sent"}'] == 100_000
    (size,) = (path.stat().st_size for path in vault.blob_files())
    assert found['docvault_store_bytes_total{direction="put"}'] == size
    assert found['docvault_store_bytes_total{direction="got"}'] >= 100_000
    assert found['docvault_store_seconds_count{operation="put"}'] == 1


def test_a_damaged_document_is_a_failure_by_kind_and_an_integrity_failure(vault: Vault) -> None:
    document = vault.upload("alice", b"x" * 1000)
    flip(Attacker(vault).blob(document), -40)
    with counting(vault) as grown:
        with pytest.raises(Unreadable):
            vault.read("alice", document)
        found = grown()
    assert found['docvault_opens_total{outcome="failed"}'] == 1
    assert found['docvault_open_failures_total{kind="integrity"}'] == 1
    assert found['docvault_integrity_failures_total{object="document"}'] == 1
    assert 'docvault_opens_total{outcome="ok"}' not in found


def test_a_store_that_fails_is_no_integrity_failure(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    document = vault.upload("alice", b"x" * 1000)

    def away(*given: Any) -> Any:
        raise StoreUnavailable

    monkeypatch.setattr(vault.app.extensions["docvault"].store._store, "get", away)
    with counting(vault) as grown:
        with pytest.raises(StoreUnavailable):
            vault.read("alice", document)
        found = grown()
    assert found['docvault_store_errors_total{kind="unavailable",operation="get"}'] == 1
    assert found['docvault_open_failures_total{kind="store"}'] == 1
    assert not [name for name in found if "integrity" in name]


def test_database_errors(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vault.services.transactions.TURN_SECONDS", 0.01)
    turn = vault.app.extensions["docvault"].turn
    with counting(vault) as grown, turn:
        with vault.services() as bundle, suppress(VaultError):
            bundle.accounts.set_role(None, "bob", "admin")
        assert grown()['docvault_database_errors_total{kind="busy"}'] == 1


def test_a_rotation_is_counted_when_it_is_committed(vault: Vault) -> None:
    with counting(vault) as grown, vault.services() as bundle:
        bundle.accounts.change_passphrase(vault.alice.account, vault.alice.passphrase)
        assert grown()['docvault_rotations_total{kind="passphrase"}'] == 1
        with suppress(WrongLogin):
            bundle.accounts.change_passphrase(vault.alice.account, "not her passphrase at all")
        assert grown()['docvault_rotations_total{kind="passphrase"}'] == 1


def test_a_recovery_code_is_an_unlock_and_a_new_account_key(vault: Vault) -> None:
    with vault.services() as bundle:
        code = bundle.recovery.make(vault.alice.account, vault.alice.passphrase)
        with counting(vault) as grown:
            with suppress(WrongLogin):
                bundle.recovery.use("bob", code, address="192.0.2.9")
            bundle.recovery.use("alice", code, address="192.0.2.9")
            found = grown()
    assert found['docvault_unlocks_total{method="recovery",outcome="ok"}'] == 1
    assert found['docvault_unlocks_total{method="recovery",outcome="failed"}'] == 1
    assert found['docvault_rotations_total{kind="account_key"}'] == 1


def test_a_rotation_makes_the_master_key_young(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """While rows may still be under the old key it is the old one's age that counts."""
    old = (vault.instance / "master.key").read_text().strip()
    before = scrape(vault)["docvault_master_key_timestamp_seconds"]
    later = clock.now() + timedelta(days=100)
    monkeypatch.setattr(clock, "now", lambda: later)
    both = vault.reopened(master_key="c3" * 32, master_key_fallbacks=old)
    try:
        with both.services() as bundle:
            bundle.accounts.set_role(None, "bob", "admin")
            assert scrape(both)["docvault_master_key_timestamp_seconds"] == before, "promoted, not rotated"
            with counting(both) as grown:
                bundle.masterkey.rotate(end=True)
                assert grown()['docvault_rotations_total{kind="master_key"}'] == 1
        assert scrape(both)["docvault_master_key_timestamp_seconds"] == pytest.approx(later.timestamp())
    finally:
        both.close()


# Gauges


def test_the_age_of_the_key_and_of_the_check_are_those_of_the_vault_while_there_was_none(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    with vault.database() as connection:
        (made,) = connection.execute("SELECT at FROM audit_entry WHERE sequence = 1").fetchone()
        (promoted,) = connection.execute("SELECT promoted_at FROM master_key").fetchone()
    found = scrape(vault)
    assert found["docvault_master_key_timestamp_seconds"] == pytest.approx(promoted / 1e6)
    assert found["docvault_deep_check_timestamp_seconds"] == pytest.approx(made / 1e6)
    assert "docvault_deep_check_findings" not in found
    vault.upload("alice", b"x" * 1000)
    now = clock.now() + timedelta(days=1)
    monkeypatch.setattr(clock, "now", lambda: now)
    with vault.services() as bundle:
        report = bundle.check.run(deep=True)
        bundle.check_results.keep(report)
    found = scrape(vault)
    assert found["docvault_deep_check_timestamp_seconds"] == pytest.approx(now.timestamp())
    assert found["docvault_deep_check_findings"] == 0
    assert found["docvault_deep_check_bytes"] == report.read_bytes > 1000


def test_a_scrape_audits_nothing_even_where_they_are_edited(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    with vault.services() as bundle:
        bundle.check_results.keep(bundle.check.run(deep=True))
    with vault.database() as connection:
        connection.execute("UPDATE check_result SET findings = 0, ended_at = ended_at + 10000000000000")
        connection.execute("UPDATE audit_entry SET at = at + 1 WHERE sequence = 1")
        connection.execute("UPDATE master_key SET promoted_at = promoted_at + 1")
    before = vault.audit()
    found = scrape(vault)
    assert "docvault_deep_check_timestamp_seconds" not in found
    assert "docvault_master_key_timestamp_seconds" not in found
    assert found['docvault_opens_total{outcome="ok"}'] >= 0
    assert vault.audit() == before


def test_without_the_database_there_are_the_counters(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def away(self: Transactions, *given: Any) -> Iterator[Any]:
        raise Busy
        yield

    monkeypatch.setattr(Transactions, "reading", away)
    found = scrape(vault)
    assert 'docvault_requests_total{status="2"}' in found
    assert "docvault_deep_check_timestamp_seconds" not in found


def test_law_5_a_scrape_tells_nobody_s_name_and_no_id(vault: Vault) -> None:
    live_through(vault)
    with vault.services() as bundle:
        text = bundle.metrics.scrape("text/plain")[0].decode()
    for name in ("alice", "bob", "charlie", "dora", "letter"):
        assert name not in text
    assert not re.search(r"[0-9a-f]{16}", re.sub(r" \S+$", "", text, flags=re.MULTILINE))
