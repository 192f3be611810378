"""F6 and F18: a rotation of the master key is killed anywhere, and servers get a key too few or a wrong one."""

from __future__ import annotations

import os
import random  # noqa: TID251  (moments of a kill, from a seed that is printed)
import secrets
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import pytest

from tests.cast import Vault, settings_for
from tests.faults.launcher import Killer, Order
from tests.rotations import NEW, key_id, key_of, keys_in_rows, server
from tests.servers.vault import VaultServer, start_vault
from vault import failpoints
from vault.app import create_app, migrate_schema
from vault.errors import Misconfigured
from vault.extensions import db
from vault.services.seals import UNTRACKED

# F6: batches of one row, so that each stop point is a number of rows.

ROWS = 50
HALF, ALL_BUT_ONE = -2, -1
STOPS = [
    Order("rotation_started.before_commit"),
    Order("rotation_started.after_commit"),
    Order("waiting_ended.before_commit"),
    Order("waiting_ended.after_commit", 3),
    Order("rows_resealed.before_commit"),  # 0 rows
    Order("rows_resealed.after_commit"),  # 1 row
    Order("rows_resealed.after_commit", HALF),
    Order("rows_resealed.after_commit", ALL_BUT_ONE),
    Order("unrecorded.before_commit", 2),  # rows that the chain does not name
    Order("key_retired.before_commit"),
    Order("key_retired.after_commit"),
]


def child(vault: Vault, act: Callable[[], None]) -> int:
    """Run ``act`` in a child of this process, with database connections of its own; return its id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child only rotates and dies
        made = os.fork()
    if made == 0:
        with vault.app.app_context():
            db.engine.dispose(close=False)
        try:
            act()
        finally:
            os._exit(0)
    return made


def tracked_rows(vault: Vault) -> int:
    with vault.services() as bundle:
        report = bundle.masterkey.verify()
    return sum(count for table, count in report.counted.items() if table not in UNTRACKED)


def rotation(vault: Vault, batch: int = 200) -> None:
    with vault.services() as bundle:
        bundle.masterkey._batch = batch
        bundle.masterkey.rotate(end=True)


def was_killed(pid: int) -> bool:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


@pytest.fixture
def rotating(vault: Vault) -> Iterator[tuple[Vault, Vault, bytes]]:
    """Two servers of one vault with exchanged keys, and a document that both must go on to serve."""
    document = vault.upload("alice", b"read throughout", share=("bob",))
    while tracked_rows(vault) < ROWS:
        vault.upload("alice", b"one more", share=("bob",))
    with server(vault, NEW, key_of(vault)) as promoted, server(vault, key_of(vault), NEW) as announced:
        yield promoted, announced, document


@pytest.mark.parametrize("order", STOPS, ids=lambda order: f"{order.point}-{order.number}")
def test_f6_a_rotation_killed_anywhere_goes_on_and_reads_work_throughout(
    rotating: tuple[Vault, Vault, bytes], order: Order, tmp_path: Path
) -> None:
    promoted, announced, document = rotating
    old, rows = key_of(announced), tracked_rows(announced)
    number = {HALF: rows // 2, ALL_BUT_ONE: rows - 1}.get(order.number, order.number)
    replace(order, number=number).write(tmp_path / "order")

    def killed() -> None:
        failpoints.hook = Killer(tmp_path / "order")
        rotation(promoted, batch=1)

    assert was_killed(child(promoted, killed)), f"{order.point} was never reached"
    is_retired = order.point == "key_retired.after_commit"
    for one in (promoted,) if is_retired else (promoted, announced):
        for who in ("alice", "bob"):
            assert one.read(who, document) == b"read throughout"
    with promoted.services() as bundle:
        assert bundle.check.run().findings == bundle.masterkey.verify().findings == []
        done = bundle.masterkey.rotate(end=True)
        assert done.refused == [] and done.retired == ([] if is_retired else [key_id(old)])
        assert bundle.masterkey.verify().findings == []
    with server(promoted, NEW) as alone:
        assert {key for found in keys_in_rows(alone).values() for key in found} == {key_id(NEW)}
        assert alone.read("bob", document) == b"read throughout"


# F18

WRONG = {
    "missing": "",
    "short": "5f" * 31,
    "no hexadecimal digits": "z" * 64,
    "another vault's": secrets.token_hex(32),
}


@pytest.mark.parametrize("case", WRONG)
def test_f18_a_wrong_master_key_stops_the_start_and_marks_nothing(vault: Vault, case: str) -> None:
    document = vault.upload("alice", b"whole")
    before, file = vault.audit(), vault.instance / "master.key"
    right = file.read_text()
    if WRONG[case]:
        file.write_text(WRONG[case])
    else:
        file.unlink()
    with pytest.raises(Misconfigured) as refused:
        app = create_app(settings_for(vault.instance))
        with app.app_context():
            migrate_schema(app)
    assert right.strip()[:8] not in str(refused.value)
    assert vault.audit() == before
    file.write_text(right)
    file.chmod(0o600)
    reopened = vault.reopened()
    assert reopened.read("alice", document) == b"whole"
    with reopened.services() as bundle:
        assert bundle.check.run().findings == []
    reopened.close()


def test_f18_a_key_that_one_server_was_not_told_of_turns_it_red_and_damages_nothing(vault: Vault) -> None:
    old = key_of(vault)
    document = vault.upload("alice", b"whole")
    with server(vault, old) as behind, server(vault, NEW, old) as promoted:
        assert behind.app.test_client().get("/readyz").status_code == 200
        later = promoted.upload("alice", b"later")
        before = promoted.api("alice").get("/documents").json["items"]
        client = behind.app.test_client()
        assert client.get("/readyz").status_code == 503
        for path in ("/documents", f"/documents/{document.hex()}", f"/documents/{later.hex()}/content"):
            answer = behind.api("alice").get(path)
            assert (answer.status_code, answer.json["type"]) == (503, "urn:docvault:KeyUnavailable")
        named = pytest.raises(Misconfigured, match=f"{key_id(NEW).hex()}|not the one of this database")
        with behind.app.app_context(), named:
            migrate_schema(behind.app)
        assert promoted.api("alice").get("/documents").json["items"] == before
        with promoted.services() as bundle:
            assert bundle.check.run().findings == []
    with server(vault, old, NEW) as told:
        assert told.app.test_client().get("/readyz").status_code == 200
        assert told.read("alice", later) == b"later"


# Must show 2


def moved(vault: Vault) -> tuple[int, int]:
    """How many rows are under the older key, and how many there are."""
    with vault.services() as bundle:
        keys = bundle.masterkey.status()
    return sum(key.rows for key in keys if not key.is_primary), sum(key.rows for key in keys)


class Readers:
    """Alice and Bob, who read by turns over two servers that were given the keys in different order."""

    def __init__(self, vault: Vault, servers: list[VaultServer], documents: dict[bytes, bytes]) -> None:
        self.clients = [
            each.client(vault.members[name].token) for each in servers for name in ("alice", "bob")
        ]
        self.turns = cycle(self.clients)
        self.documents = cycle(documents.items())
        self.read = 0
        self.slowest = 0.0

    def __call__(self) -> None:
        document, content = next(self.documents)
        began = time.monotonic()
        answer = next(self.turns).get(f"/documents/{document.hex()}/content")
        self.slowest = max(self.slowest, time.monotonic() - began)
        assert (answer.status_code, answer.content) == (200, content)
        self.read += 1

    def close(self) -> None:
        for client in self.clients:
            client.close()


@pytest.mark.parametrize(
    ("count", "kills"), [(30, 4), pytest.param(1000, 20, marks=pytest.mark.long)], ids=["small", "10000-rows"]
)
def test_must_show_2_rotation_under_reads_and_kills(
    vault: Vault, count: int, kills: int, record_property: Callable[[str, object], None]
) -> None:
    old, chance = key_of(vault), random.Random(20261127)
    documents = {}
    for number in range(count):
        content = b"document %d" % number
        documents[vault.upload("alice", content, share=("bob",))] = content
    servers = [
        start_vault(vault.instance, workers=1, master_key=old, master_key_fallbacks=NEW),
        start_vault(vault.instance, workers=1, master_key=NEW, master_key_fallbacks=old),
    ]
    killed, figures = 0, {}
    try:
        readers = Readers(vault, servers, documents)
        readers()
        with server(vault, NEW, old) as promoted:
            figures["rows"] = moved(promoted)[0]
            for _ in range(kills):
                rotating = child(promoted, lambda: rotation_batches(promoted, count))
                end = time.monotonic() + chance.uniform(0.01, 0.3)
                while time.monotonic() < end:
                    readers()
                os.kill(rotating, signal.SIGKILL)
                killed += was_killed(rotating)
                readers()
            figures["left after the kills"] = moved(promoted)[0]
            with promoted.services() as bundle:
                assert bundle.masterkey.verify().findings == []
                began = time.monotonic()
                done = bundle.masterkey.rotate()
                figures["seconds for the rest"] = round(time.monotonic() - began, 2)
                assert done.refused == [] and done.retired == []
            readers()
            readers.close()
            assert readers.read >= kills
        figures |= {"kills": killed, "reads": readers.read, "slowest read": round(readers.slowest, 3)}
    finally:
        for each in servers:
            each.stop()
    with server(vault, NEW, old) as promoted, promoted.services() as bundle:
        assert bundle.masterkey.rotate(end=True).retired == [key_id(old)]
    (vault.instance / "master.key").unlink()
    with server(vault, NEW) as alone:
        for name in ("alice", "bob"):
            with alone.services() as bundle:
                alone.members[name].account = bundle.sessions.log_in(
                    name, vault.members[name].passphrase, address="192.0.2.1", client="tests"
                ).account
            for document, content in documents.items():
                assert alone.read(name, document) == content
        with alone.services() as bundle:
            assert bundle.check.run().findings == bundle.masterkey.verify().findings == []
    assert killed >= kills // 2
    record_property("must_show_2", figures)
    print(figures)


def rotation_batches(vault: Vault, count: int) -> None:
    """Rotate without ending anything; in small vaults by small batches, so that a kill finds it at work."""
    with vault.services() as bundle:
        bundle.masterkey._batch = 200 if count > 100 else 5
        bundle.masterkey.rotate()
