"""F17: share, revoke, replace, delete and re-key of one document at once equal some serial order: the audit chain's.

Each act runs in a thread of its own with a request id of its own, by which its entries in the chain are found. The
chain is replayed through a model of a few lines: every act that succeeded is in it and none that was refused, what the
database holds at the end is what the model says, and no grant was ever written for anybody but a reader of its moment.
"""

from __future__ import annotations

import contextlib
import os
import random  # noqa: TID251  (what each thread does, from a seed that is printed)
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import event, select

from tests.cast import Vault, reader
from vault.crypto.audit import decode_touched
from vault.crypto.randomness import new_id
from vault.errors import BadInput, Busy, Conflict, NotFound, VaultError
from vault.extensions import db
from vault.models import AuditEntry, AuditHead, DocumentVersion, SharedKeyRegistry
from vault.services.audit import HEAD_ID
from vault.wiring import Services, wiring

THREADS = 8
PART = 16384
ROUNDS = pytest.mark.parametrize("rounds", [20, pytest.param(500, marks=pytest.mark.long)])


@dataclass
class Model:
    """What a document is after some acts, one after the other."""

    content: bytes
    readers: set[bytes]
    number: int = 1
    generation: int = 1
    epoch: int = 0
    numbers: list[int] = field(default_factory=lambda: [1])
    exists: bool = True

    def act(self, entry: AuditEntry, contents: dict[bytes, bytes]) -> None:
        assert self.exists, f"{entry.action} of a document that is deleted"
        if entry.action == "share":
            self.readers.add(entry.subject_id or b"")
        elif entry.action == "revoke":
            self.readers.remove(entry.subject_id or b"")
            self.epoch += 1
        elif entry.action == "replace":
            self.content = contents[entry.request_id or b""]
            self.number += 1
            self.numbers.append(self.number)
        elif entry.action == "rekey":
            self.number += 1
            self.generation += 1
            self.numbers[-1] = self.number
        elif entry.action == "delete":
            self.exists = False


CHANGES = {"share", "revoke", "replace", "rekey", "delete"}


@dataclass
class Round:
    """One document, and eight threads at it."""

    vault: Vault
    grants: dict[bytes, tuple[bytes, bytes]]
    chance: random.Random
    content: bytes = field(default_factory=lambda: os.urandom(PART + 10))
    contents: dict[bytes, bytes] = field(default_factory=dict)
    succeeded: dict[bytes, str] = field(default_factory=dict)
    refused: dict[bytes, VaultError] = field(default_factory=dict)
    broken: list[BaseException] = field(default_factory=list)

    def run(self) -> None:
        vault = self.vault
        self.document = vault.upload("alice", self.content, share=("bob", "charlie"))
        with vault.services() as bundle, bundle.transactions.reading() as session:
            self.before = session.get_one(AuditHead, HEAD_ID).sequence
        start = threading.Barrier(THREADS)
        plans = [
            [self.chance.choice(ACTS) for _ in range(self.chance.choice((1, 1, 2)))]
            for _ in range(THREADS - 1)
        ]
        if self.chance.random() < 0.3:
            plans[0].append(delete)
        threads = [
            threading.Thread(target=self._thread, args=(start, plan)) for plan in [*plans, [bob_reads] * 3]
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert self.broken == []

    def _thread(self, start: threading.Barrier, plan: list[Callable[[Round, Services, bytes], None]]) -> None:
        start.wait()
        for act in plan:
            request_id = new_id()
            with self.vault.app.app_context():
                try:
                    act(self, Services(wiring(), db.session(), request_id), request_id)
                    self.succeeded[request_id] = act.__name__
                except (NotFound, Conflict, BadInput, Busy) as error:
                    self.refused[request_id] = error
                except BaseException as error:  # noqa: BLE001  (the main thread raises it)
                    self.broken.append(error)
                finally:
                    db.session.remove()

    def replay(self) -> Model:
        ids = {name: member.account.user_id for name, member in self.vault.members.items()}
        model = Model(self.content, {ids["bob"], ids["charlie"]})
        acted: dict[bytes, set[str]] = {}
        with self.vault.services() as bundle, bundle.transactions.reading() as session:
            entries = session.scalars(
                select(AuditEntry).where(AuditEntry.sequence > self.before).order_by(AuditEntry.sequence)
            ).all()
            assert not [entry for entry in entries if entry.action == "integrity_failure"]
            for transaction in transactions_of(list(entries)):
                for entry in transaction:
                    if entry.action in CHANGES and entry.succeeded:
                        model.act(entry, self.contents)
                        acted.setdefault(entry.request_id or b"", set()).add(entry.action)
                may_read = model.readers | {ids["alice"]}
                for table, row_id, version, _ in decode_touched(transaction[0].touched):
                    if table == "shared_key_registry" and version == 1:
                        assert self.grants[row_id][1] in may_read, (
                            "a grant for somebody who was no reader then"
                        )
        for request_id, name in self.succeeded.items():
            if name in ACTS_BY_NAME:
                assert ACTS_BY_NAME[name] in acted.get(request_id, set()), f"{name} said yes and did nothing"
        for request_id in self.refused:
            assert acted.get(request_id, set()) <= {"revoke"}, (
                "only the re-key behind a revocation can be refused"
            )
        return model

    def compare(self, model: Model) -> None:
        vault, names = self.vault, {m.account.user_id: n for n, m in self.vault.members.items()}
        for who in ("alice", "bob", "charlie", "dora"):
            if model.exists and (who == "alice" or vault.members[who].account.user_id in model.readers):
                assert vault.read(who, self.document) == model.content
            else:
                with pytest.raises(NotFound):
                    vault.read(who, self.document)
        with vault.services() as bundle, bundle.transactions.reading() as session:
            rows = session.scalars(
                select(DocumentVersion).where(DocumentVersion.document_id == self.document)
            ).all()
            assert sorted(row.number for row in rows) == (model.numbers if model.exists else [])
            current = {row.id for row in rows if row.number == model.number}
            grants = session.scalars(
                select(SharedKeyRegistry).where(SharedKeyRegistry.document_id == self.document)
            ).all()
            held = {names[row.reader_id] for row in grants if row.version_id in current}
            assert held == ({"alice"} | {names[one] for one in model.readers} if model.exists else set())
        if model.exists:
            with vault.services() as bundle:
                shown = bundle.documents.view(vault.alice.account, self.document)
            assert (shown.number, shown.generation) == (model.number, model.generation)
            assert shown.readers == len(model.readers)


def transactions_of(entries: list[AuditEntry]) -> list[list[AuditEntry]]:
    """Group entries by transaction: its first entry names the rows that it changed."""
    groups: list[list[AuditEntry]] = []
    for entry in entries:
        if not groups or decode_touched(entry.touched) or entry.request_id != groups[-1][0].request_id:
            groups.append([])
        groups[-1].append(entry)
    return groups


def share_bob(this: Round, bundle: Services, request_id: bytes) -> None:
    bundle.sharing.share(this.vault.alice.account, [this.document], ["bob"])


def share_dora(this: Round, bundle: Services, request_id: bytes) -> None:
    bundle.sharing.share(this.vault.alice.account, [this.document], ["dora"])


def revoke_bob(this: Round, bundle: Services, request_id: bytes) -> None:
    bundle.sharing.revoke(this.vault.alice.account, [this.document], ["bob"])


def revoke_bob_and_rekey(this: Round, bundle: Services, request_id: bytes) -> None:
    alice = this.vault.alice.account
    for work_id in bundle.sharing.revoke(alice, [this.document], ["bob"], rekey=True, at_once=True):
        with contextlib.suppress(NotFound, Conflict):
            bundle.work.finish(alice, work_id)


def replace(this: Round, bundle: Services, request_id: bytes) -> None:
    this.contents[request_id] = os.urandom(100)
    bundle.uploads.receive(
        this.vault.alice.account, reader(this.contents[request_id]), document_id=this.document
    )


def rekey(this: Round, bundle: Services, request_id: bytes) -> None:
    """Ask, and carry on part by part; another thread may end it first, or a new version overtake it."""
    alice = this.vault.alice.account
    work_id = bundle.rekey.ask(alice, this.document)
    for _ in range(9):
        with contextlib.suppress(Conflict):
            if bundle.work.go_on(alice, work_id, seconds=0) is None:
                return


def delete(this: Round, bundle: Services, request_id: bytes) -> None:
    bundle.documents.delete(this.vault.alice.account, [this.document])


def bob_reads(this: Round, bundle: Services, request_id: bytes) -> None:
    opened = bundle.downloads.open(this.vault.bob.account, this.document)
    found = b"".join(opened.stream(0, opened.size))
    assert found in {this.content, *this.contents.values()}, "neither an old nor a new content"


ACTS = [share_bob, share_dora, revoke_bob, revoke_bob_and_rekey, replace, rekey, rekey]
ACTS_BY_NAME = {
    "share_bob": "share", "share_dora": "share", "revoke_bob": "revoke", "revoke_bob_and_rekey": "revoke",
    "replace": "replace", "delete": "delete",
}  # fmt: skip


@pytest.fixture
def grants() -> Iterator[dict[bytes, tuple[bytes, bytes]]]:
    """Every grant that is ever written, also by a transaction that fails later: version and reader by its id."""
    found: dict[bytes, tuple[bytes, bytes]] = {}

    def note(mapper: Any, connection: Any, row: SharedKeyRegistry) -> None:
        found[row.id] = row.version_id, row.reader_id

    event.listen(SharedKeyRegistry, "after_insert", note)
    yield found
    event.remove(SharedKeyRegistry, "after_insert", note)


@ROUNDS
def test_f17_acts_on_one_document_at_once_equal_a_serial_order(
    any_vault: Vault, grants: dict[bytes, tuple[bytes, bytes]], rounds: int
) -> None:
    own = any_vault.settings
    kept = {"database_url": own.database_url, "master_key": own.master_key} if own.database_url else {}
    vault = any_vault.reopened(part_size=PART, **kept)
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    chance, seen = random.Random(seed), set()
    for number in range(rounds):
        this = Round(vault, grants, chance)
        try:
            this.run()
            model = this.replay()
            this.compare(model)
        except BaseException:
            print(f"round {number}: {this.succeeded.values()} {this.refused.values()}")
            raise
        seen |= set(this.succeeded.values())
        seen |= {"rekeyed"} if model.generation > 1 else set()
    with vault.services() as bundle:
        assert bundle.check.run().findings == []
    vault.close()
    assert seen >= {*ACTS_BY_NAME, "rekey", "rekeyed", "bob_reads"}, "each act came to pass"
