"""Law 1, F2 and F4: kill -9 at every point of every act; then look, check, and send the same request again.

Put blobs, then commit; commit, then delete blobs. Raw and form uploads carry no id of their own, so what was committed
while its answer was lost is seen in the list; a request that was killed before its commit is sent again.
"""

from __future__ import annotations

import itertools
import os
import random  # noqa: TID251  (moments of a kill, from a seed that is printed)
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.faults.launcher import Order
from tests.faults.served import Served, answers, until

CONTENT = os.urandom(100_000)  # four parts of 32 KiB
OLD = os.urandom(70_000)
NUMBERS = itertools.count()

PUTS = [
    Order("unrecorded.before_commit"),
    Order("unrecorded.after_commit"),
    Order("upload.before_put"),
    Order("folder.before_link", 2),
    Order("folder.after_link", 3),
    Order("upload.after_put", 2),
    Order("upload.after_put", 4),
]
UPLOADS = [*PUTS, Order("upload.before_commit"), Order("upload.after_commit")]
REPLACES = [PUTS[3], PUTS[6], Order("replace.before_commit"), Order("replace.after_commit")]
SWEEPS = [
    Order("uploads_expired.before_commit"),
    Order("uploads_expired.after_commit"),
    Order("sweep.before_destroying", 2),
    Order("sweep.after_destroying", 1),
    Order("destroyed.before_commit"),
    Order("destroyed.after_commit"),
]


def named(order: Order) -> str:
    return f"{order.point}-{order.number}-{order.whom}"


def raw(doomed: Served, name: str) -> httpx.Response:
    return doomed.ask("POST", f"/documents?name={name}&recipients=bob", content=CONTENT)


def form(doomed: Served, name: str) -> httpx.Response:
    return doomed.ask("POST", "/documents", data={"recipients": "bob"}, files={"file": (name, CONTENT)})


def replace(doomed: Served, document: str, content: bytes = CONTENT) -> httpx.Response:
    return doomed.ask("PUT", f"/documents/{document}/content?name=new", content=content)


def stored(doomed: Served, *readers: str) -> str:
    """Upload a document of old content; return its id."""
    sent = doomed.ask(
        "POST", f"/documents?name=old-{next(NUMBERS)}&recipients={','.join(readers)}", content=OLD
    )
    return str(sent.raise_for_status().json()["id"])


def reads(doomed: Served, who: str, document: str) -> bytes | int:
    """What somebody reads, or the status that he gets instead."""
    answer = doomed.ask("GET", f"/documents/{document}/content", who)
    return answer.content if answer.status_code == 200 else answer.status_code


def whole(doomed: Served) -> bool:
    return doomed.findings() == []


# F2


@pytest.mark.parametrize(
    ("order", "send"),
    [
        *itertools.product(UPLOADS, [raw]),
        *itertools.product(UPLOADS[-3:], [form]),
        (Order("upload.after_put", 3, "all"), raw),
    ],
    ids=lambda given: named(given) if isinstance(given, Order) else given.__name__,
)
@pytest.mark.requirement(60)
def test_f2_an_upload_that_is_killed_is_a_whole_document_or_none(
    doomed: Served, order: Order, send: Callable[[Served, str], httpx.Response]
) -> None:
    name, safe = f"late-{next(NUMBERS)}", stored(doomed)
    doomed.killed(order, lambda: send(doomed, name))
    there = [found for found, shown in doomed.documents().items() if shown == name]
    assert len(there) == (order.point == "upload.after_commit")
    assert whole(doomed), "what is left of the parts has an upload row that has not expired"
    if not there:
        there = [send(doomed, name).raise_for_status().json()["id"]]
    assert [found for found, shown in doomed.documents().items() if shown == name] == there
    assert reads(doomed, "alice", there[0]) == reads(doomed, "bob", there[0]) == CONTENT
    assert reads(doomed, "alice", safe) == OLD
    assert [act for act, about, *_ in doomed.vault.audit() if about == there[0]].count("upload") == 1
    assert whole(doomed)


def test_f2_what_a_killed_upload_left_goes_when_its_row_expires(doomed: Served) -> None:
    """Not before: the sealed row is the order to destroy, and it says when."""
    doomed.killed(Order("upload.before_commit"), lambda: raw(doomed, "left"))
    with doomed.vault.services() as bundle:
        before = len(doomed.vault.blob_files())
        bundle.sweep.run()
        assert len(doomed.vault.blob_files()) == before
        expire_all(doomed)
        bundle.sweep.run()
    assert len(doomed.vault.blob_files()) <= before - 4
    assert whole(doomed)


def expire_all(doomed: Served) -> int:
    """Let all open uploads expire, by the services; return how many there were."""
    from sqlalchemy import select

    from vault.models import Upload

    with doomed.vault.services() as bundle:
        session = bundle.transactions.session
        with bundle.transactions.reading():
            ids = [row.id for row in session.scalars(select(Upload))]
        bundle.uploads._let_expire(dict.fromkeys(ids, 0))
    return len(ids)


# F4


@pytest.mark.parametrize("order", REPLACES, ids=named)
def test_f4_the_old_version_is_read_until_the_new_one_is_committed(doomed: Served, order: Order) -> None:
    document = stored(doomed, "bob")
    doomed.killed(order, lambda: replace(doomed, document))
    done = order.point == "replace.after_commit"
    for who in ("alice", "bob"):
        assert reads(doomed, who, document) == (CONTENT if done else OLD)
    assert reads(doomed, "charlie", document) == 404
    assert whole(doomed)
    assert replace(doomed, document, CONTENT[::-1]).raise_for_status().json()["number"] == (3 if done else 2)
    assert reads(doomed, "bob", document) == CONTENT[::-1]
    assert whole(doomed)


@pytest.mark.parametrize(
    "order",
    [Order("revoke.before_commit"), Order("revoke.after_commit"), Order("revoke.after_commit", 1, "all")],
    ids=named,
)
def test_f4_a_revocation_is_done_or_not_and_never_undone(doomed: Served, order: Order) -> None:
    document = stored(doomed, "bob", "charlie")

    def revoke() -> httpx.Response:
        return doomed.ask("DELETE", f"/documents/{document}/shares/bob")

    doomed.killed(order, revoke)
    done = order.point == "revoke.after_commit"
    assert reads(doomed, "bob", document) == (404 if done else OLD)
    assert reads(doomed, "charlie", document) == OLD
    assert whole(doomed)
    assert revoke().status_code == (400 if done else 204), "400: nobody of these may read this"
    assert reads(doomed, "bob", document) == 404
    assert reads(doomed, "alice", document) == reads(doomed, "charlie", document) == OLD
    assert whole(doomed)


@pytest.mark.parametrize("order", [Order("delete.before_commit"), Order("delete.after_commit")], ids=named)
def test_f4_a_deletion_is_done_or_not(doomed: Served, order: Order) -> None:
    document = stored(doomed, "bob")

    def delete() -> httpx.Response:
        return doomed.ask("DELETE", f"/documents/{document}")

    doomed.killed(order, delete)
    done = order.point == "delete.after_commit"
    for who in ("alice", "bob"):
        assert reads(doomed, who, document) == (404 if done else OLD)
    assert whole(doomed)
    assert delete().status_code == (404 if done else 204)
    with doomed.vault.services() as bundle:
        bundle.sweep.run()
    assert whole(doomed)


@pytest.mark.parametrize("order", SWEEPS, ids=named)
def test_f19_a_sweep_that_is_killed_is_finished_by_the_next(doomed: Served, order: Order) -> None:
    safe = stored(doomed, "bob")
    doomed.killed(Order("upload.after_put", 3), lambda: raw(doomed, "left"))
    expire_all(doomed)
    gone = stored(doomed)
    assert doomed.ask("DELETE", f"/documents/{gone}").status_code == 204
    assert doomed.killed_sweep(order)
    assert whole(doomed)
    assert reads(doomed, "bob", safe) == OLD
    with doomed.vault.services() as bundle:
        bundle.sweep.run()
    kept = {path.parent.name for path in doomed.vault.blob_files()}
    with doomed.vault.database() as connection:
        assert connection.execute("SELECT count(*) FROM tombstone").fetchone()[0] == 0
        assert connection.execute("SELECT count(*) FROM upload").fetchone()[0] == 0
        versions = connection.execute("SELECT count(*) FROM document_version").fetchone()[0]
    assert len(kept) == versions, "nothing is left that no document needs"
    assert reads(doomed, "bob", safe) == OLD
    assert whole(doomed)


def test_f19_the_commands_themselves_say_that_all_is_whole(doomed: Served) -> None:
    died = doomed.command("sweep", order=Order("unrecorded.before_commit"))
    assert died.returncode == -signal.SIGKILL, died.stderr
    checked = doomed.command("check")
    assert checked.returncode == 0 and "Everything is whole." in checked.stdout, checked.stdout


# At any moment, not only at a point that has a name


def kill_worker(doomed: Served) -> None:
    pid = doomed.server.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)


@pytest.mark.parametrize("rounds", [4, pytest.param(500, marks=pytest.mark.long)])
def test_f2_f4_killed_at_random_moments_nothing_acknowledged_is_lost(doomed: Served, rounds: int) -> None:
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    moments = random.Random(seed)
    document, holds = stored(doomed, "bob"), [OLD]
    acknowledged: set[str] = set()
    for number in range(rounds):
        name, new = f"random-{seed}-{number}", os.urandom(70_000)
        killer = threading.Timer(moments.uniform(0, 0.12), kill_worker, [doomed])
        killer.start()
        try:
            if raw(doomed, name).status_code == 201:
                acknowledged.add(name)
            holds.append(new)
            if replace(doomed, document, new).status_code == 200:
                holds = [new]
        except httpx.TransportError:
            pass
        killer.join()
        until(lambda: answers(doomed.server))
        found = reads(doomed, "bob", document)
        assert found in holds, f"seed {seed}, round {number}"
        holds = [found] if isinstance(found, bytes) else []
        shown = list(doomed.documents().values())
        assert all(shown.count(name) == 1 for name in acknowledged), f"seed {seed}, round {number}"
        if number % 20 == 0:
            assert whole(doomed), f"seed {seed}, round {number}"
    assert whole(doomed), f"seed {seed}"
    for found, name in doomed.documents().items():
        if name.startswith(f"random-{seed}"):
            assert doomed.content(found) == CONTENT
