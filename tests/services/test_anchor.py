"""The anchor file: when lines are written, what makes an alarm, what a crash or a full disk leaves."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cast import Vault
from tests.faults.failing_os import FailingOs
from tests.house import house, standing, vault
from vault.crypto.randomness import new_secret
from vault.errors import Forbidden, ReadOnly
from vault.services import anchor as anchors
from vault.services import clock
from vault.services.anchor import Anchor, Line, binding, parse_line, read_lines
from vault.services.audit import Event, Position

__all__ = ["house", "standing", "vault"]

FEW = 20
"""How many events a line may be late in these tests: a thousand take seconds."""
NOW = datetime(2026, 11, 27, 8, 0, 0, tzinfo=UTC)


@pytest.fixture
def anchored(vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Vault]:
    """A vault with an anchor file that knows its chain's end."""
    assert anchors.EVENTS <= 500 and anchors.SPAN.total_seconds() <= 30
    monkeypatch.setattr(anchors, "EVENTS", FEW)
    own = vault.reopened(anchor_file=tmp_path / "anchor")
    keep(own)
    yield own
    own.close()


def keep(vault: Vault) -> None:
    with vault.services() as bundle:
        bundle.chain.keep_anchor()


def anchor_of(vault: Vault) -> Anchor:
    found: Anchor = vault.app.extensions["docvault"].halt.anchor
    return found


def happen(vault: Vault, count: int = 1) -> None:
    """Write so many entries in one transaction."""
    with vault.services() as bundle:

        def work(session: Any) -> None:
            for _ in range(count):
                bundle.transactions.record(Event("denied", None, "document", bytes(16), succeeded=False))

        bundle.transactions.writing(work)


def lines(vault: Vault) -> list[Line]:
    return read_lines(anchor_of(vault).path)


def end(vault: Vault) -> int:
    with vault.database() as connection:
        return int(connection.execute("SELECT sequence FROM audit_head").fetchone()[0])


# Lines


@given(st.integers(1, 10**18 - 1), st.binary(min_size=32, max_size=32), st.booleans())
def test_a_line_is_read_as_it_was_written_and_no_part_of_one_is_a_line(
    sequence: int, entry_hash: bytes, accepted: bool
) -> None:
    line = Line(sequence, entry_hash, NOW, accepted)
    text = line.encoded()
    assert text.endswith(b"\n") and parse_line(text[:-1]) == line
    plain = len(Line(sequence, entry_hash, NOW).encoded()) - 1
    torn = [parse_line(text[:length]) for length in range(len(text) - 1) if length != plain]
    assert torn == [None] * len(torn)


def test_lines_before_the_last_accepted_one_bind_no_more() -> None:
    one, two, three = (Line(n, new_secret(), NOW, n == 2) for n in (9, 2, 3))
    assert binding([one]) == [one]
    assert binding([one, two, three]) == [two, three]
    assert binding([]) == []


# When they are written


def test_the_file_begins_with_the_chains_end_and_is_its_owners_only(anchored: Vault) -> None:
    (line,) = lines(anchored)
    assert line.sequence == end(anchored)
    assert anchor_of(anchored).path.stat().st_mode & 0o777 == 0o600
    with anchored.services() as bundle:
        assert bundle.chain.verify().whole


def test_a_line_comes_half_a_minute_after_the_last_one_and_not_before(
    anchored: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    happen(anchored)
    keep(anchored)
    assert len(lines(anchored)) == 1
    later = clock.now() + anchors.SPAN
    monkeypatch.setattr(clock, "now", lambda: later)
    keep(anchored)
    keep(anchored)
    assert [line.sequence for line in lines(anchored)] == [end(anchored) - 1, end(anchored)]


def test_f15_a_clock_that_is_put_back_keeps_no_line_away(
    anchored: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    happen(anchored)
    earlier = clock.now() - timedelta(days=400)
    monkeypatch.setattr(clock, "now", lambda: earlier)
    keep(anchored)
    assert [line.sequence for line in lines(anchored)][-1] == end(anchored)
    assert anchor_of(anchored).alarm is None


def test_it_is_never_a_thousand_events_behind(anchored: Vault) -> None:
    before = end(anchored)
    happen(anchored, FEW - 1)
    assert len(lines(anchored)) == 1
    happen(anchored)
    assert lines(anchored)[-1].sequence == end(anchored) == before + FEW
    happen(anchored, 2 * FEW)
    assert lines(anchored)[-1].sequence == end(anchored)


def test_many_processes_append_under_one_lock_and_no_line_goes_back(tmp_path: Path) -> None:
    hashes = {number: new_secret() for number in range(1, 200)}
    writers = [Anchor(tmp_path / "anchor") for _ in range(6)]

    def run(writer: Anchor, start: int) -> None:
        for number in range(start, 200, 3):
            writer.note(Position(number, hashes[number]))

    threads = [threading.Thread(target=run, args=(writer, 1 + n % 3)) for n, writer in enumerate(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = read_lines(tmp_path / "anchor")
    numbers = [line.sequence for line in found]
    assert numbers == sorted(set(numbers)) and numbers[-1] == 199
    assert all(hashes[line.sequence] == line.entry_hash for line in found)
    assert (tmp_path / "anchor").read_bytes().count(b"\n") == len(found)


# What a crash leaves


@pytest.mark.parametrize("kept", [1, 20, 89])
def test_what_a_crash_left_of_a_line_is_passed_over(anchored: Vault, kept: int) -> None:
    path = anchor_of(anchored).path
    whole = path.read_bytes()
    happen(anchored, 3)
    torn = Line(end(anchored), new_secret(), NOW).encoded()[:kept]
    path.write_bytes(whole + torn)
    fresh = anchored.reopened(anchor_file=path)
    keep(fresh)
    assert anchor_of(fresh).alarm is None
    happen(fresh, FEW)
    assert path.read_bytes().startswith(whole + torn + b"\n"), "lines are only ever appended"
    assert [line.sequence for line in lines(fresh)][-1] == end(fresh)
    fresh.close()


def test_the_last_line_is_found_behind_any_amount_of_rubbish(anchored: Vault) -> None:
    path = anchor_of(anchored).path
    path.write_bytes(path.read_bytes() + b"x" * 3 * anchors.TAIL_BYTES)
    fresh = anchored.reopened(anchor_file=path)
    keep(fresh)
    assert anchor_of(fresh).alarm is None and anchor_of(fresh).last is not None
    fresh.close()


# Alarms


def refused(vault: Vault) -> str:
    """A change is refused; say why. Nothing of it is left."""
    before = len(vault.audit())
    anchor_of(vault)._looked = -1e9
    with vault.services() as bundle, pytest.raises(ReadOnly) as stopped:
        bundle.invitations.invite(vault.dora.account, "zoe")
    assert len(vault.audit()) == before
    return stopped.value.reason


def cut(path: Path) -> None:
    path.write_bytes(b"")


def rubbish(path: Path) -> None:
    path.write_bytes(b"1 12 no anchor at all\n")


def ahead(path: Path) -> None:
    (line,) = read_lines(path)
    path.write_bytes(path.read_bytes() + Line(line.sequence + 10**6, new_secret(), NOW).encoded())


def another(path: Path) -> None:
    (line,) = read_lines(path)
    path.write_bytes(Line(line.sequence, new_secret(), NOW).encoded())


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (cut, anchors.CUT), (rubbish, anchors.CUT), (Path.unlink, anchors.CUT),
        (ahead, anchors.OLDER), (another, anchors.ANOTHER),
    ],
)  # fmt: skip
def test_m6_a_running_server_sees_what_becomes_of_its_anchor(
    anchored: Vault, harm: Callable[[Path], None], said: str
) -> None:
    harm(anchor_of(anchored).path)
    assert refused(anchored) == said


@pytest.mark.parametrize("harm", [rubbish, ahead, another])
def test_m6_an_anchor_that_does_not_fit_stops_a_start_from_the_first_change_on(
    anchored: Vault, harm: Callable[[Path], None]
) -> None:
    path = anchor_of(anchored).path
    harm(path)
    before = path.read_bytes()
    fresh = anchored.reopened(anchor_file=path)
    assert refused(fresh)
    keep(fresh)
    assert path.read_bytes() == before, "no line covers it up"
    fresh.close()


def test_a_vault_without_an_anchor_file_is_never_stopped(vault: Vault) -> None:
    with vault.services() as bundle:
        bundle.chain.keep_anchor()
        assert bundle.transactions.halt.shown(bundle.transactions) is None
        assert bundle.chain.anchor_state().path is None


def test_m6_a_chain_that_falls_back_between_two_looks_is_seen_under_the_lock_of_its_head(
    anchored: Vault,
) -> None:
    """The look of some seconds ago said that all is well; the next transaction still commits nothing."""
    happen(anchored, 2 * FEW)
    ahead_of_it = anchor_of(anchored)
    assert ahead_of_it.last is not None
    ahead_of_it.last = Line(end(anchored) + 1, new_secret(), NOW)
    before = len(anchored.audit())
    with anchored.services() as bundle, pytest.raises(ReadOnly):
        bundle.invitations.invite(anchored.dora.account, "zoe")
    assert len(anchored.audit()) == before
    assert ahead_of_it.alarm is not None and ahead_of_it.alarm.said == anchors.OLDER


# F32


@pytest.mark.parametrize("call", ["open", "write", "fsync"])
def test_f32_an_anchor_that_cannot_be_written_stops_changes_and_recovers_by_itself(
    anchored: Vault, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    document = anchored.upload("alice", b"kept", share=("bob",))
    failing = FailingOs(call, 1, lasting=True)
    path = anchor_of(anchored).path
    before = path.read_bytes()
    monkeypatch.setattr(anchors, "os", failing)
    happen(anchored, FEW)
    if call == "open":
        anchor_of(anchored)._looked = -1e9
    assert refused(anchored) == anchors.UNWRITABLE
    assert anchored.read("bob", document) == b"kept"
    assert failing.met
    if call != "open":
        assert path.read_bytes() == before
    monkeypatch.setattr(anchors, "os", os)
    keep(anchored)
    assert anchor_of(anchored).alarm is None
    assert lines(anchored)[-1].sequence == end(anchored)
    happen(anchored)
    with anchored.services() as bundle:
        assert bundle.chain.verify().whole


def test_f32_half_a_line_on_a_disk_that_is_full_is_taken_back(
    anchored: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = anchor_of(anchored).path
    before = path.read_bytes()
    monkeypatch.setattr(anchors, "os", FailingOs("write", 1, None))
    happen(anchored, FEW)
    assert path.read_bytes() == before
    assert anchor_of(anchored).alarm is not None
    monkeypatch.setattr(anchors, "os", os)
    keep(anchored)
    assert lines(anchored)[-1].sequence == end(anchored)


@pytest.mark.parametrize("where", ["a folder", "no folder"])
def test_f32_an_anchor_file_that_cannot_be_there_stops_changes(
    vault: Vault, tmp_path: Path, where: str
) -> None:
    own = vault.reopened(anchor_file=tmp_path if where == "a folder" else tmp_path / "nothing" / "anchor")
    assert refused(own) == anchors.UNWRITABLE
    (tmp_path / "nothing").mkdir()
    if where == "no folder":
        keep(own)
        happen(own)
    own.close()


# Letting an older state stand


def test_an_older_state_is_let_stand_by_a_person_and_only_by_him(anchored: Vault) -> None:
    path = anchor_of(anchored).path
    ahead(path)
    assert refused(anchored) == anchors.OLDER
    with anchored.services() as bundle:
        assert not bundle.chain.verify().whole
        state = bundle.chain.accept()
        assert state.alarm == ""
        assert bundle.chain.verify().whole
    assert anchored.audit()[-1][0] == "anchor_accepted"
    assert [line.accepted for line in lines(anchored)][2] is True
    happen(anchored)
    fresh = anchored.reopened(anchor_file=path)
    happen(fresh)
    fresh.close()
    with anchored.services() as bundle, pytest.raises(Forbidden):
        bundle.invitations.invite(anchored.alice.account, "zoe")


def test_accepting_where_nothing_is_wrong_changes_nothing(anchored: Vault) -> None:
    before = lines(anchored), anchored.audit()
    with anchored.services() as bundle:
        assert bundle.chain.accept().alarm == ""
    assert (lines(anchored), anchored.audit()) == before
