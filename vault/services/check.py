"""``docvault check``: prove that what the database says is whole, and that the store holds it.

The names I1 to I10 are the invariants of the operations manual. No passphrase is needed: the row seals, the directory,
the outer seal of each unlock method and the owners' signatures are verified with the master key and the public keys,
each blob by the digest that stands behind it. Nothing here changes or destroys anything but ``repair``, which moves
blobs that nothing names out of the way.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from vault.crypto.manifests import decode_parts, parts_digest
from vault.crypto.masterkey import MasterKeys
from vault.crypto.parts import blob_name, blob_size, digest_matches
from vault.crypto.randomness import random_below
from vault.errors import AuditBroken, KeyUnavailable, Missing, StoreUnavailable, Unreadable
from vault.models import Base, DocumentVersion, MasterKey, PartList, UserKey
from vault.services import audit, clock, seals
from vault.services.access import OWNER
from vault.services.audit import Event
from vault.services.signatures import Signatures
from vault.services.transactions import Transactions
from vault.storage.protocol import BlobInfo, BlobStore

GRACE = timedelta(hours=1)
QUARANTINE_AFTER = timedelta(days=30)
SAMPLE = 32
READERS = 4
HOPELESS = 20
"""So many blobs in a row that cannot be read are a store that is away, and no damage."""
ABOUT_ROWS = frozenset({"I2", "I3", "I4", "I6", "I9"})
"""While something is wrong with the rows, nobody can tell which blobs are of use."""

MEANINGS = {
    "I1": "A part of a document is missing, or has another size.",
    "I2": "A row is damaged, edited or put back: a seal or signature does not fit.",
    "I3": "A document has lost its current version, its owner’s grant, or miscounts its readers.",
    "I4": "A row was removed or put in, against the audit chain.",
    "I5": "A blob is there that nothing names. It is kept; `check --repair` moves it away once it is 30 days old.",
    "I6": "The audit chain is broken.",
    "I7": "The counters of an account do not equal the sums.",
    "I8": "An upload has expired, and the sweep has not run.",
    "I9": "A row is under a master key that this server does not have.",
    "I10": "A blob has rotted: its digest does not fit, or it cannot be read.",
}

Told = Callable[[str, int, int], None]
"""Is told of progress: what is being looked at, how much of it is done, and how much there is."""


@dataclass
class Finding:
    """One thing that is not as it should be: which invariant, which row or blob by id, and whose document it is."""

    invariant: str
    text: str
    document_id: bytes | None = None
    owner_id: bytes | None = None

    def shown(self) -> dict[str, str | None]:
        """What a script is told."""
        document = self.document_id.hex() if self.document_id else None
        return {"invariant": self.invariant, "text": self.text, "document": document}


@dataclass
class Risks:
    """What is whole, and one forgotten passphrase or one leaver away from being lost; by id."""

    one_reader: dict[bytes, bytes] = field(default_factory=dict)
    """Documents that one active account alone can read, with their owners."""
    no_reader: dict[bytes, bytes] = field(default_factory=dict)
    """Documents that no active account can read, with their owners."""
    no_recovery: list[bytes] = field(default_factory=list)
    """Active accounts that nothing but their passphrase opens."""


def _untold(what: str, done: int, total: int) -> None:
    """Tell nobody."""


@dataclass
class Report:
    """What was looked at, and what was found; ``whole`` when nothing was."""

    deep: bool = False
    began_at: datetime = field(default_factory=lambda: clock.now())
    ended_at: datetime = field(default_factory=lambda: clock.now())
    findings: list[Finding] = field(default_factory=list)
    risks: Risks = field(default_factory=Risks)
    counted: dict[str, int] = field(default_factory=dict)
    refused: set[tuple[str, bytes]] = field(default_factory=set)
    blobs_read: int = 0
    read_bytes: int = 0
    unnamed: list[BlobInfo] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        return not self.findings

    @property
    def seconds(self) -> float:
        return (self.ended_at - self.began_at).total_seconds()

    def add(self, invariant: str, text: str, document_id: bytes | None = None) -> None:
        self.findings.append(Finding(invariant, text, document_id))


class _Seen:
    """What is kept of the rows while they pass: no more than the invariants need, for there may be millions."""

    def __init__(self) -> None:
        self.versions: dict[bytes, tuple[bytes, tuple[int, int, int], bytes, int, bytes]] = {}
        self.documents: dict[bytes, Any] = {}
        self.current: dict[bytes, bytes] = {}
        self.grants: dict[bytes, tuple[bytes, bytes, int, bytes, str, datetime | None]] = {}
        self.users: dict[bytes, tuple[str, int, int]] = {}
        self.methods: dict[bytes, set[str]] = {}
        self.uploads: dict[bytes, datetime] = {}
        self.buried: set[bytes] = set()
        self.blobs: dict[str, tuple[int, bytes]] = {}
        self.lists: dict[bytes, tuple[int, bytes]] = {}
        self.tracked: dict[tuple[str, bytes], tuple[int, bytes]] = {}

    def document_version(self, row: Any) -> None:
        state = (row.number, row.revision, row.epoch)
        self.versions[row.id] = (row.document_id, state, row.owner_id, row.stored_bytes, row.parts_digest)

    def document(self, row: Any) -> None:
        self.documents[row.id] = row
        self.current[row.version_id] = row.id

    def shared_key_registry(self, row: Any) -> None:
        self.grants[row.id] = (
            row.document_id, row.version_id, row.epoch, row.reader_id, row.permission, row.expires_at,
        )  # fmt: skip

    def user(self, row: Any) -> None:
        self.users[row.id] = (row.state, row.stored_bytes, row.documents)

    def unlock_method(self, row: Any) -> None:
        self.methods.setdefault(row.user_id, set()).add(row.kind)

    def upload(self, row: Any) -> None:
        self.uploads[row.id] = row.expires_at

    def tombstone(self, row: Any) -> None:
        self.buried.add(row.segment_id)

    def part_list(self, row: Any) -> None:
        """Raises ``Unreadable`` for a list that cannot be decoded."""
        parts = decode_parts(row.parts)
        sizes = {blob_name(p.segment, p.offset, p.suffix): (blob_size(p.length), row.id) for p in parts}
        self.lists[row.id] = (sum(size for size, _ in sizes.values()), parts_digest(row.parts))
        self.blobs |= sizes

    def document_of(self, table: str, row_id: bytes) -> bytes | None:
        """Tell which document a row belongs to, where a row that can be believed says so."""
        if table == "document":
            return row_id
        if table in {"document_version", "part_list"}:
            return self.versions[row_id][0] if row_id in self.versions else self.current.get(row_id)
        if table == "shared_key_registry" and row_id in self.grants:
            return self.grants[row_id][0]
        return None

    def owners(self) -> dict[bytes, bytes]:
        """Tell whose each document is."""
        by_version = {version[0]: version[2] for version in self.versions.values()}
        return by_version | {document.id: document.owner_id for document in self.documents.values()}


class Check:
    """Look at every row and at the store."""

    def __init__(self, transactions: Transactions, store: BlobStore, master: MasterKeys) -> None:
        self._transactions = transactions
        self._store = store
        self._master = master

    def run(self, *, deep: bool = False, told: Told | None = None) -> Report:
        """Check I1 to I10, and every row's version against the audit chain.

        ``deep`` also verifies each signature, and reads every blob; without it some are read, drawn by lot.
        """
        report, tell = Report(deep), told or _untold
        seen = self.rows(report, tell)
        self._grants(seen, report)
        self._part_lists(seen, report)
        self._uploads(seen, report)
        self._counters(seen, report)
        self._blobs(seen, report, tell)
        report.counted["blob"] = len(seen.blobs)
        report.risks = _risks(seen)
        owners = seen.owners()
        for finding in report.findings:
            finding.owner_id = owners.get(finding.document_id or b"")
        report.ended_at = clock.now()
        return report

    def rows(self, report: Report, tell: Told = _untold) -> _Seen:
        """Read every row and compare it with the audit chain: I2, I4, I6, I9, and each signature where it is deep.

        What is under a key that somebody else has is read like all rows, so that the chain tells what does not fit it.
        """
        seen = _Seen()
        with self._transactions.snapshot() as session, seals.unsafe_believing_all_keys(session):
            self._rows(session, seen, report, tell)
            self._chain(session, seen, report)
        return seen

    def repair(self, report: Report) -> list[str]:
        """Move the blobs older than 30 days that nothing names to quarantine, and nothing else; return their names.

        Raises ``AuditBroken`` where something is wrong with the rows: who lost rows must not lose their blobs too.
        """
        if any(finding.invariant in ABOUT_ROWS for finding in report.findings):
            raise AuditBroken(
                "Nothing was moved: as long as rows are damaged, missing or put back, a blob that none of them names "
                "may be of use."
            )
        old = report.began_at - QUARANTINE_AFTER
        names = [info.name for info in report.unnamed if info.modified_at < old]
        if names:
            self._transactions.record_alone(
                Event("quarantine", None, "blob", None, detail=f"{len(names)} blobs")
            )
            self._store.quarantine(names, f"{report.began_at:%Y%m%dT%H%M%SZ}")
        return names

    # Rows

    def _rows(self, session: Session, seen: _Seen, report: Report, tell: Told) -> None:
        """I2: every sealed row verifies, and with ``deep`` each signature in it. I9: under a key that is here."""
        signatures = Signatures(self._master) if report.deep else None
        totals = {model: _count(session, model) for model in _models()}
        done, total, over = 0, sum(totals.values()), _keys_over(session)
        for model in totals:
            table, away, ids = model.__tablename__, 0, set[bytes]()
            report.counted[table] = 0
            keep, tracked = getattr(seen, table, None), table not in seals.UNTRACKED
            for row in _each(session, model):
                done += 1
                if done % 500 == 0:
                    tell("rows", done, total)
                if isinstance(row, KeyUnavailable):
                    away += 1
                    continue
                if isinstance(row, Unreadable):
                    report.refused.add((table, row.object_id or b""))
                    self._damaged(seen, report, table, row.object_id, "its seal does not fit")
                    continue
                report.counted[table] += 1
                if row.id in ids:
                    self._damaged(seen, report, table, row.id, "is there twice")
                ids.add(row.id)
                if row.seal_key_id in over:
                    why = over[row.seal_key_id]
                    report.add("I9", f"{table} {row.id.hex()}: is under a master key that {why}")
                if tracked:
                    seen.tracked[table, row.id] = row.row_version, row.seal
                try:
                    if keep is not None:
                        keep(row)
                    wrong = signatures.wrong(table, row) if signatures is not None else None
                except KeyUnavailable:
                    report.add("I9", f"{table} {row.id.hex()}: needs a master key that is not here")
                except Unreadable:
                    self._damaged(seen, report, table, row.id, "cannot be decoded")
                else:
                    if wrong is not None:
                        self._damaged(seen, report, table, row.id, wrong)
            if away:
                report.refused |= _under_other_keys(session, model, self._master)
                count = "a row is" if away == 1 else f"{away} rows are"
                report.add("I9", f"{table}: {count} sealed under a master key that is not here")
        tell("rows", total, total)

    def _damaged(self, seen: _Seen, report: Report, table: str, row_id: bytes | None, why: str) -> None:
        document = seen.document_of(table, row_id) if row_id else None
        report.add("I2", f"{table} {row_id.hex() if row_id else '?'}: {why}", document)

    def _chain(self, session: Session, seen: _Seen, report: Report) -> None:
        """I6: the chain is whole and reaches the anchor; and each tracked row bears the version that it named last."""
        anchor = self._transactions.halt.anchor
        if anchor is not None:
            anchor.look(session)
            if anchor.alarm is not None:
                report.add("I6", f"{anchor.alarm.said} {anchor.alarm.detail}")
        try:
            latest = audit.latest_versions(session)
        except AuditBroken as broken:
            report.add("I6", str(broken))
            return
        for (table, row_id), version in seen.tracked.items():
            said, document = latest.get((table, row_id)), seen.document_of(table, row_id)
            if said is None:
                report.add("I4", f"{table} {row_id.hex()}: no audit entry knows this row", document)
            elif said != version:
                put_back = f"is version {version[0]}, the audit chain says {said[0]}"
                report.add("I2", f"{table} {row_id.hex()}: {put_back}", document)
        for table, row_id in latest.keys() - seen.tracked.keys() - report.refused:
            lost = f"{table} {row_id.hex()}: the audit chain knows this row, the database lost it"
            report.add("I4", lost, seen.document_of(table, row_id))

    def _grants(self, seen: _Seen, report: Report) -> None:
        """I3: every document has its current version, and its owner's grant on it."""
        owners, readers = set(), Counter[bytes]()
        for grant_id, (document_id, version_id, epoch, reader_id, permission, _) in seen.grants.items():
            if permission == OWNER:
                owners.add((version_id, reader_id))
            else:
                readers[version_id] += 1
            version = seen.versions.get(version_id)
            if version is None or version[0] != document_id or version[1][2] != epoch:
                text = f"shared_key_registry {grant_id.hex()}: does not fit its version"
                report.add("I4", text, document_id)
        for row in seen.documents.values():
            version, name = seen.versions.get(row.version_id), f"document {row.id.hex()}"
            if version is None or version[1] != (row.number, row.revision, row.epoch):
                report.add("I3", f"{name}: its current version is missing or another one", row.id)
            if (row.version_id, row.owner_id) not in owners:
                report.add("I3", f"{name}: its owner holds no grant", row.id)
            if readers[row.version_id] != row.readers:
                report.add("I3", f"{name}: counts {row.readers} readers", row.id)

    def _part_lists(self, seen: _Seen, report: Report) -> None:
        """I1: every version has its part list, which is the signed one and adds up."""
        for version_id, (document_id, _, _, stored_bytes, digest) in seen.versions.items():
            name, found = f"document_version {version_id.hex()}", seen.lists.get(version_id)
            if found is None:
                report.add("I1", f"{name}: its part list is missing", document_id)
            elif found[0] != stored_bytes:
                report.add("I1", f"{name}: its sizes do not add up", document_id)
            elif found[1] != digest:
                report.add("I2", f"{name}: its part list is another one", document_id)

    def _uploads(self, seen: _Seen, report: Report) -> None:
        """I8: no upload is stuck past its expiry."""
        for upload_id, expires_at in seen.uploads.items():
            if expires_at + 2 * GRACE < clock.now():
                report.add("I8", f"upload {upload_id.hex()}: expired, and the sweep has not run")

    def _counters(self, seen: _Seen, report: Report) -> None:
        """I7: each account's counters equal the sums."""
        stored, count = Counter[bytes](), Counter[bytes]()
        for _, _, owner_id, stored_bytes, _ in seen.versions.values():
            stored[owner_id] += stored_bytes
        count.update(document.owner_id for document in seen.documents.values())
        for user_id, (_, stored_bytes, documents) in seen.users.items():
            if (stored_bytes, documents) != (stored[user_id], count[user_id]):
                report.add("I7", f"user {user_id.hex()}: the counters do not equal the sums")

    # Blobs

    def _blobs(self, seen: _Seen, report: Report, tell: Told) -> None:
        """I1: every part is there with its exact size. I5: nothing is there that nothing names. I10: each is intact."""
        known, old = seen.buried | seen.uploads.keys(), report.began_at - GRACE
        missing, wrong, whole = dict(seen.blobs), dict[str, str](), dict[str, int]()
        for info in self._store.list():
            size, _ = missing.pop(info.name, (None, None))
            segment, _, part = info.name.partition("/")
            if size is not None and size != info.size:
                wrong[info.name] = f"is {info.size} bytes, should be {size}"
            elif size is not None or (bytes.fromhex(segment) in seen.uploads and part != "ended"):
                whole[info.name] = info.size
            elif bytes.fromhex(segment) not in known and info.modified_at < old:
                report.unnamed.append(info)
        wrong |= dict.fromkeys(missing, "is lost")
        chosen = whole if report.deep else _by_lot(whole)
        damaged = dict(self._read(chosen, report, tell))
        self._still_named(seen, report, "I1", wrong)
        self._still_named(seen, report, "I10", damaged)
        for info in report.unnamed:
            report.add("I5", f"blob {info.name}: nothing names it (it is kept)")

    def _still_named(self, seen: _Seen, report: Report, invariant: str, wrong: dict[str, str]) -> None:
        """Report what is wrong with blobs, but for those whose version was deleted while they were looked at."""
        versions = {seen.blobs[name][1] for name in wrong if name in seen.blobs}
        with self._transactions.reading() as session:
            there = {version for version in versions if session.get(PartList, version) is not None}
        for name, text in sorted(wrong.items()):
            version = seen.blobs[name][1] if name in seen.blobs else None
            if version is None or version in there:
                document = seen.document_of("document_version", version) if version else None
                report.add(invariant, f"blob {name}: {text}", document)

    def _read(self, chosen: dict[str, int], report: Report, tell: Told) -> Iterator[tuple[str, str]]:
        """Read blobs, some at once, and give those whose digest does not fit; raises when the store is away."""
        total, failed = sum(chosen.values()), 0
        for name, wrong in _some_at_once(self._judge, chosen):
            report.blobs_read += 1
            report.read_bytes += chosen[name]
            tell("bytes", report.read_bytes, total)
            if wrong is not None:
                failed = failed + 1 if wrong == UNREADABLE else 0
                if failed > HOPELESS:
                    raise StoreUnavailable("The blob store does not answer any more; the check was given up.")
                yield name, wrong
            else:
                failed = 0

    def _judge(self, name: str) -> str | None:
        """Read one blob and say what is wrong with it."""
        try:
            with self._store.get(name) as blob:
                return None if digest_matches(blob.read()) else "does not match its digest"
        except Missing:
            return "is lost"
        except StoreUnavailable:
            return UNREADABLE


UNREADABLE = "cannot be read"


def _some_at_once(
    judge: Callable[[str], str | None], names: Iterable[str]
) -> Iterator[tuple[str, str | None]]:
    """Call ``judge`` for each name in some threads, never many ahead: each holds a blob in memory."""
    waiting: deque[tuple[str, Future[str | None]]] = deque()
    with ThreadPoolExecutor(READERS, thread_name_prefix="check") as threads:
        try:
            for name in names:
                waiting.append((name, threads.submit(judge, name)))
                if len(waiting) > READERS:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            threads.shutdown(cancel_futures=True)


def _by_lot(blobs: dict[str, int]) -> dict[str, int]:
    """Draw some blobs, each with the same chance."""
    names = list(blobs)
    drawn: dict[str, int] = {}
    while names and len(drawn) < SAMPLE:
        at = random_below(len(names))
        names[at], names[-1] = names[-1], names[at]
        name = names.pop()
        drawn[name] = blobs[name]
    return drawn


def _risks(seen: _Seen) -> Risks:
    """Find out who could still read what, if somebody left or forgot."""
    now, risks = clock.now(), Risks()
    living = {
        user for user, (state, _, _) in seen.users.items() if state == "active" and user in seen.methods
    }
    readers = Counter[bytes]()
    for _, version_id, _, reader_id, _, expires_at in seen.grants.values():
        if reader_id in living and (expires_at is None or expires_at > now):
            readers[version_id] += 1
    for document in seen.documents.values():
        if readers[document.version_id] == 0:
            risks.no_reader[document.id] = document.owner_id
        elif readers[document.version_id] == 1:
            risks.one_reader[document.id] = document.owner_id
    risks.no_recovery = sorted(user for user in living if seen.methods[user] <= {"passphrase"})
    return risks


def _models() -> list[type[Base]]:
    """List all tables, those first that others are verified with."""
    models = [mapper.class_ for mapper in Base.registry.mappers]
    return sorted(models, key=lambda model: _FIRST.get(model, len(_FIRST)))


_FIRST: dict[type[Base], int] = {UserKey: 0, DocumentVersion: 1}


def _count(session: Session, model: type[Base]) -> int:
    statement = select(func.count()).select_from(model)
    return session.scalar(statement.execution_options(unverified="a figure for a progress bar")) or 0


def _keys_over(session: Session) -> dict[bytes, str]:
    """Tell of each key that no row should be under any more why not; a rotation that still runs is no finding."""
    over: dict[bytes, str] = {}
    for (row,) in seals.verified_rows(session, select(*seals.columns(MasterKey)), MasterKey):
        if isinstance(row, seals.Refusal):
            continue
        if row.retired_at is not None:
            over[row.key_id] = "was retired"
        elif row.compromised_at is not None and row.rotating_since is None:
            over[row.key_id] = "somebody else has"
    return over


def _each(session: Session, model: type[Base]) -> Iterator[Any]:
    statement = select(*seals.columns(model)).execution_options(yield_per=500)
    for (row,) in seals.verified_rows(session, statement, model):
        yield row


def _under_other_keys(session: Session, model: type[Base], master: MasterKeys) -> set[tuple[str, bytes]]:
    columns = {column.key: column for column in seals.columns(model)}
    statement = select(columns["id"]).where(columns["seal_key_id"].not_in(master.key_ids))
    found = session.scalars(statement.execution_options(unverified="rows that cannot be verified"))
    return {(model.__tablename__, row_id) for row_id in found}
