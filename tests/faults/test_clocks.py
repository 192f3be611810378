"""F15: clocks that differ, jump and go back. Sessions and shares end by the server's time, the chain has numbers."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from tests.cast import NAMES, Api, Vault
from tests.house import house, standing, vault
from vault.services import clock

__all__ = ["house", "standing", "vault"]

SKEW = timedelta(seconds=29)
HOUR = timedelta(hours=1)
YEAR = timedelta(days=400)


@contextmanager
def moved(by: timedelta) -> Iterator[None]:
    """Let the server's clock be off by this much, and go on from there."""
    real = clock.now
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "now", lambda: real() + by)
        yield


@pytest.fixture(scope="module")
def strict(house: Vault) -> Iterator[Vault]:
    """Sessions as long as an operator has them: half an hour idle, twelve hours at most; no test ends them."""
    own = house.reopened(session_idle_minutes=30, session_hours=12)
    with own.services() as bundle:
        own.members = {name: member.elsewhere() for name, member in house.members.items()}
        for member in own.members.values():
            logged_in = bundle.sessions.log_in(
                member.name, member.passphrase, address="127.0.0.1", client="tests", device=member.device
            )
            member.token, member.account = logged_in.token, logged_in.account
    yield own
    own.close()


def logged_in(vault: Vault) -> list[str]:
    return [name for name in NAMES if vault.api(name).get("/me").status_code == 200]


@pytest.mark.parametrize("by", [SKEW, -SKEW])
def test_f15_machines_whose_clocks_differ_by_less_than_30_s_log_nobody_out(
    strict: Vault, by: timedelta
) -> None:
    """Tokens that one machine gives out are good on the other, both ways, also for what they change there."""
    with moved(by):
        assert logged_in(strict) == list(NAMES)
        document = strict.api("alice").post("/documents?name=x", data=b"x").json["id"]
        renewed = strict.api("alice").post("/token/renew").json["token"]
        fresh = strict.api().post(
            "/token", json={"username": "bob", "passphrase": strict.bob.passphrase}
        ).json["token"]  # fmt: skip
    assert logged_in(strict) == list(NAMES)
    for token in (renewed, fresh):
        assert Api(strict.app, token).get("/me").status_code == 200
    assert strict.api("alice").get(f"/documents/{document}/content").data == b"x"


@pytest.mark.parametrize("by", [HOUR, -HOUR, YEAR, -YEAR])
def test_f15_who_is_logged_out_by_a_jump_is_in_again_when_the_clock_is_right(
    strict: Vault, by: timedelta
) -> None:
    document = strict.upload("alice", b"kept", share=("bob",))
    with moved(by):
        assert logged_in(strict) == [], "an hour is no skew"
        again = strict.api().post("/token", json={"username": "bob", "passphrase": strict.bob.passphrase})
        assert again.status_code == 201, "whoever knows his passphrase gets in at any hour"
    assert logged_in(strict) == list(NAMES)
    assert strict.read("bob", document) == b"kept"


@pytest.mark.parametrize("by", [HOUR, -HOUR, YEAR])
def test_f15_a_sweep_under_a_wrong_clock_costs_no_document(vault: Vault, by: timedelta) -> None:
    document = vault.upload("alice", b"kept", share=("bob",))
    blobs = vault.blob_files()
    with moved(by), vault.services() as bundle:
        bundle.sweep.run()
    assert vault.blob_files() == blobs
    assert vault.read("bob", document) == b"kept"
    with vault.services() as bundle:
        assert bundle.check.run().findings == []


def test_f15_a_share_ends_by_the_servers_time_whatever_the_readers_clock_says(vault: Vault) -> None:
    document = vault.upload("alice", b"x")
    ends = clock.now() + HOUR
    with vault.services() as bundle:
        bundle.sharing.share(vault.alice.account, [document], ["bob"], expires_at=ends)
    past = {"Date": "Thu, 01 Jan 1970 00:00:00 GMT", "If-Modified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"}
    for by, status in ((timedelta(), 200), (HOUR, 404), (timedelta(minutes=10), 200)):
        with moved(by):
            with vault.services() as bundle:
                vault.bob.token = bundle.sessions.token_for(vault.bob.account)
            answer = vault.api("bob").get(f"/documents/{document.hex()}/content", headers=past)
            assert answer.status_code == status, by


def test_f15_the_chain_is_whole_and_in_order_after_any_jump(vault: Vault) -> None:
    for by in (HOUR, YEAR, -HOUR, timedelta()):
        with moved(by):
            vault.upload("alice", b"x")
    with vault.services() as bundle:
        verdict = bundle.chain.verify()
        assert verdict.whole and len(verdict.went_back) == 1
        assert bundle.check.run().findings == []
        sequences = [each.sequence for each in bundle.history.log(vault.alice.account).items]
    assert sequences == sorted(sequences, reverse=True)


def test_f15_summer_time_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server counts in UTC; where its machine stands makes no hour come twice."""
    moments = []
    for zone in ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"):
        monkeypatch.setitem(os.environ, "TZ", zone)
        time.tzset()
        moments.append(clock.now())
    monkeypatch.undo()
    time.tzset()
    assert all(moment.tzinfo is UTC for moment in moments)
    assert moments == sorted(moments) and moments[-1] - moments[0] < timedelta(minutes=1)
    assert abs(datetime.now(UTC) - moments[-1]) < timedelta(minutes=1)
