"""P3: guesses at a passphrase, spread over workers, names and addresses; and a lockout meant for somebody else."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from tests.attacks.attacker import Attacker
from tests.cast import Vault
from vault.services import passphrases, sessions, throttle


@pytest.fixture
def workers(vault: Vault) -> Iterator[list[Vault]]:
    """Four workers on one database, each an application of its own."""
    yield from beside(vault)


@pytest.fixture
def any_workers(any_vault: Vault) -> Iterator[list[Vault]]:
    """The same on each database in turn."""
    yield from beside(any_vault)


def beside(vault: Vault) -> Iterator[list[Vault]]:
    own = vault.settings
    others = [vault.reopened(database_url=own.database_url, master_key=own.master_key) for _ in range(3)]
    yield [vault, *others]
    for other in others:
        other.close()


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for each Argon2id that runs, the real one."""
    seen: list[str] = []
    real = passphrases.derive

    def counted(passphrase: str, *given: Any) -> bytes:
        seen.append(passphrase)
        return real(passphrase, *given)

    monkeypatch.setattr(sessions.passphrases, "derive", counted)
    return seen


def guess(worker: Vault, username: str, passphrase: str, address: str) -> int:
    body = {"username": username, "passphrase": passphrase}
    answer = worker.api().post("/token", json=body, environ_base={"REMOTE_ADDR": address})
    return int(answer.status_code)


@pytest.mark.requirement(22)
def test_p3_of_a_hundred_guesses_at_four_workers_ten_are_tried(workers: list[Vault], runs: list[str]) -> None:
    """Each from an address of its own, so that only the name counts; nothing is counted in a process."""

    def send(number: int) -> int:
        return guess(
            workers[number % 4], "alice", f"guess number {number}", f"198.51.{number // 250}.{number % 250}"
        )

    statuses = Counter(send(number) for number in range(100))
    assert len(runs) == throttle.PER_NAME, "each of which costs its memory and time"
    assert statuses == {401: throttle.PER_NAME, 429: 100 - throttle.PER_NAME}
    assert guess(workers[0], "alice", workers[0].alice.passphrase, "203.0.113.9") == 429, (
        "so it is for a stranger"
    )


def test_p3_guesses_that_come_at_once_are_counted_before_they_are_tried(
    any_workers: list[Vault], runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where each is slow between its count and its commit."""
    real = throttle.count_attempt

    def slow(*given: Any, **more: Any) -> list[bytes]:
        made = real(*given, **more)
        time.sleep(0.02)
        return made

    monkeypatch.setattr(throttle, "count_attempt", slow)
    with ThreadPoolExecutor(8) as pool:
        sent = [
            pool.submit(guess, any_workers[number % 4], "alice", f"guess {number}", f"198.51.100.{number}")
            for number in range(24)
        ]
        statuses = Counter(future.result() for future in sent)
    assert len(runs) <= throttle.PER_NAME
    assert statuses[429] + statuses[503] >= 24 - throttle.PER_NAME
    assert set(statuses) <= {401, 429, 503}


@pytest.mark.requirement(22)
def test_p3_one_passphrase_tried_on_many_names_is_counted_by_address(
    workers: list[Vault], runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttle, "PER_ADDRESS", 8)
    names = ["bob", "charlie", "dora", *[f"nobody-{number}" for number in range(17)]]
    addresses = ["2001:db8::1", "2001:db8::ffff:1", "2001:db8::2"]  # one /64
    statuses = Counter(
        guess(workers[number % 4], name, "Summer2026!", addresses[number % 3])
        for number, name in enumerate(names)
    )
    assert statuses == {401: 8, 429: 12}
    assert len(runs) == 8
    assert guess(workers[1], "bob", workers[0].bob.passphrase, "2001:db8:0:1::1") == 201, "the next network"


def test_p3_who_is_attacked_logs_in_from_where_he_was_before(workers: list[Vault]) -> None:
    """A lockout is a weapon: a known device and a live session are not locked out with the attacker."""
    vault = workers[0]
    with vault.services() as bundle:
        master = vault.app.extensions["docvault"].master
        for number in range(throttle.PER_NAME):
            address = f"198.51.100.{number}"
            bundle.transactions.writing(
                partial(throttle.count_attempt, master=master, name="alice", address=address)
            )
    body = {"username": "alice", "passphrase": vault.alice.passphrase}
    assert vault.api().post("/token", json=body).status_code == 429
    browser = vault.browser()
    browser.client.set_cookie("docvault_device", vault.alice.device, domain="localhost")
    assert browser.post("/login", body).status_code == 303, "the device of his last login"
    assert vault.api("alice").get("/me").status_code == 200, "a session that is there goes on"
    assert vault.api("alice").post("/token", json=body).status_code == 201, "and vouches for a new one"
    assert vault.api("bob").post("/token", json=body).status_code == 429, (
        "somebody else's session vouches for nothing"
    )


def test_p3_counters_that_somebody_removes_or_edits_stop_nobody_and_admit_no_more_than_ten(
    vault: Vault, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer can take counters away (he could try against a copy anyway); edited ones are refused."""
    monkeypatch.setattr(throttle, "PER_NAME", 4)
    for number in range(3):
        guess(vault, "alice", "guess", f"198.51.100.{number}")
    attacker = Attacker(vault)
    row = attacker.rows("login_attempt")[0]
    attacker.update("login_attempt", row["id"], at=row["at"] - 10**12)
    statuses = [guess(vault, "alice", "guess", f"198.51.101.{number}") for number in range(throttle.PER_NAME)]
    assert set(statuses) <= {401, 429, 500}
    assert len(runs) <= 3 + throttle.PER_NAME


def test_p3_an_address_that_somebody_makes_up_in_a_header_counts_as_his_own(
    vault: Vault, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attack X12: no proxy is configured, so no header says where a request comes from."""
    monkeypatch.setattr(throttle, "PER_ADDRESS", 2)
    statuses = []
    for number in range(5):
        spoofed = {"X-Forwarded-For": f"198.51.100.{number}", "X-Real-IP": f"198.51.100.{number}"}
        body = {"username": f"nobody-{number}", "passphrase": "guess"}
        statuses.append(vault.api().post("/token", json=body, headers=spoofed).status_code)
    assert statuses == [401, 401, 429, 429, 429]
    assert len(runs) == 2
