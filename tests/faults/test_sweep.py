"""F19: a thousand orphans and a thousand expired uploads; the sweep destroys only what a sealed record names."""

from __future__ import annotations

import os
import threading
from datetime import timedelta

from sqlalchemy.orm import Session

from tests.faults.launcher import Order
from tests.faults.served import Served
from vault.crypto.randomness import new_id
from vault.models import Upload
from vault.services import clock

COUNT = 1000
LONG_AGO = 86400 * 3


def put_by_hand(doomed: Served, segment: bytes) -> str:
    """Lay a blob into the folder store without its syncs, as old as if it had been there for days."""
    name = f"{segment.hex()}/{0:016x}"
    path = doomed.vault.blobs / name
    path.parent.mkdir()
    path.write_bytes(b"x" * 100)
    then = clock.now().timestamp() - LONG_AGO
    os.utime(path, (then, then))
    return name


def expired_uploads(doomed: Served) -> set[str]:
    segments = [new_id() for _ in range(COUNT)]

    def work(session: Session) -> None:
        for segment in segments:
            session.add(
                Upload(
                    id=segment,
                    user_id=doomed.vault.bob.account.user_id,
                    kind="whole",
                    sealed_metadata=None,
                    document_id=None,
                    joined_id=None,
                    reserved_bytes=100,
                    created_at=clock.now() - timedelta(days=2),
                    expires_at=clock.now() - timedelta(minutes=1),
                )
            )

    with doomed.vault.services() as bundle:
        bundle.transactions.writing(work)
    return {put_by_hand(doomed, segment) for segment in segments}


def present(doomed: Served) -> set[str]:
    return {f"{path.parent.name}/{path.name}" for path in doomed.vault.blob_files()}


def test_f19_only_what_a_sealed_record_names_is_destroyed_wherever_the_sweep_is_killed(
    doomed: Served,
) -> None:
    orphans = {put_by_hand(doomed, new_id()) for _ in range(COUNT)}
    expired = expired_uploads(doomed)
    over, acknowledged = threading.Event(), dict[str, bytes]()

    def load() -> None:
        while not over.is_set():
            content = os.urandom(50_000)
            answer = doomed.ask("POST", "/documents?name=beside", content=content)
            if answer.status_code == 201:
                acknowledged[answer.json()["id"]] = content
            else:
                assert answer.status_code == 503

    loading = threading.Thread(target=load)
    loading.start()
    try:
        left = [len(present(doomed) & expired)]
        for order in (
            Order("uploads_expired.before_commit", 3),
            Order("uploads_expired.after_commit", 2),
            Order("sweep.before_destroying", 77),
            Order("sweep.after_destroying", 150),
            Order("destroyed.before_commit", 2),
            Order("destroyed.after_commit", 1),
        ):
            assert doomed.killed_sweep(order), order
            left.append(len(present(doomed) & expired))
            assert orphans <= present(doomed)
        assert left == sorted(left, reverse=True) and 0 < left[-1] < COUNT
        with doomed.vault.services() as bundle:
            bundle.sweep.run()
    finally:
        over.set()
        loading.join()
    assert present(doomed) & expired == set()
    assert orphans <= present(doomed), "nothing is destroyed because no row names it"
    assert len(acknowledged) > 3
    for document, content in acknowledged.items():
        assert doomed.content(document) == content
    found = doomed.findings()
    assert {each.invariant for each in found} == {"I5"}
    assert len(found) == COUNT
    for name in orphans:
        (doomed.vault.blobs / name).unlink()
        (doomed.vault.blobs / name).parent.rmdir()
    assert doomed.findings() == []
