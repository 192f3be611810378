"""``docvault check``: prove that what the database says is whole, and that the store holds it.

The names I1 to I8 are the invariants of the operations manual. Nothing here changes or destroys anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from vault.crypto.manifests import decode_parts
from vault.crypto.parts import blob_name, blob_size
from vault.errors import AuditBroken, KeyUnavailable, Unreadable
from vault.models import Base, Document, DocumentVersion, PartList, SharedKeyRegistry, Tombstone, Upload, User
from vault.services import audit, clock, seals
from vault.services.access import OWNER
from vault.services.transactions import Transactions
from vault.storage.protocol import BlobStore

GRACE = timedelta(hours=1)
TOLD = 20


@dataclass
class Finding:
    """One thing that is not as it should be: which invariant, and which row or blob, by id."""

    invariant: str
    text: str


@dataclass
class Report:
    """What was looked at, and what was found; ``whole`` when nothing was."""

    findings: list[Finding] = field(default_factory=list)
    counted: dict[str, int] = field(default_factory=dict)
    refused: set[tuple[str, bytes]] = field(default_factory=set)

    @property
    def whole(self) -> bool:
        return not self.findings

    def add(self, invariant: str, text: str) -> None:
        self.findings.append(Finding(invariant, text))


class Check:
    """Look at every row and every blob's size."""

    def __init__(self, transactions: Transactions, store: BlobStore) -> None:
        self._transactions = transactions
        self._store = store

    def run(self) -> Report:
        """Check I1 to I9, and every row's version against the audit chain."""
        report = Report()
        with self._transactions.reading() as session:
            rows = {model: list(_verified(session, model, report)) for model in _models()}
            self._chain(session, rows, report)
        self._grants(rows, report)
        expected = self._expected_blobs(rows, report)
        self._blobs(rows, expected, report)
        self._uploads(rows, report)
        self._counters(rows, report)
        report.counted = {model.__tablename__: len(found) for model, found in rows.items()}
        report.counted["blob"] = len(expected)
        return report

    def rows_by_key(self) -> dict[str, int]:
        """Count the rows under each master key, by the key's id in hex."""
        counted: dict[str, int] = {}
        with self._transactions.reading() as session:
            for model in _models():
                key_id = seals.columns(model)[[c.key for c in seals.columns(model)].index("seal_key_id")]
                statement = select(key_id, func.count()).group_by(key_id)
                for key, count in session.execute(
                    statement.execution_options(unverified="a figure for a report")
                ):
                    counted[key.hex()] = counted.get(key.hex(), 0) + count
        return counted

    def _chain(self, session: Session, rows: dict[type[Base], list[Any]], report: Report) -> None:
        """I6: the chain is whole; and each tracked row bears the version that the chain named last."""
        try:
            latest = audit.latest_versions(session)
        except AuditBroken as broken:
            report.add("I6", str(broken))
            return
        present = {
            (model.__tablename__, row.id): (row.row_version, row.seal)
            for model, found in rows.items()
            if model.__tablename__ not in seals.UNTRACKED
            for row in found
        }
        for (table, row_id), version in present.items():
            said = latest.get((table, row_id))
            if said is None:
                report.add("I4", f"{table} {row_id.hex()}: no audit entry knows this row")
            elif said != version:
                report.add(
                    "I2", f"{table} {row_id.hex()}: is version {version[0]}, the audit chain says {said[0]}"
                )
        for table, row_id in latest.keys() - present.keys() - report.refused:
            report.add("I4", f"{table} {row_id.hex()}: the audit chain knows this row, the database lost it")

    def _grants(self, rows: dict[type[Base], list[Any]], report: Report) -> None:
        """I3: every document has its current version, and its owner's grant on it."""
        versions = {row.id: row for row in rows[DocumentVersion]}
        owners = {
            (row.version_id, row.reader_id) for row in rows[SharedKeyRegistry] if row.permission == OWNER
        }
        readers: dict[bytes, int] = {}
        for row in rows[SharedKeyRegistry]:
            readers[row.version_id] = readers.get(row.version_id, 0) + (row.permission != OWNER)
            version = versions.get(row.version_id)
            if version is None or version.epoch != row.epoch or version.document_id != row.document_id:
                report.add("I4", f"shared_key_registry {row.id.hex()}: does not fit its version")
        for document in rows[Document]:
            version = versions.get(document.version_id)
            if version is None or (version.number, version.revision, version.epoch) != (
                document.number, document.revision, document.epoch,
            ):  # fmt: skip
                report.add(
                    "I3", f"document {document.id.hex()}: its current version is missing or another one"
                )
            if (document.version_id, document.owner_id) not in owners:
                report.add("I3", f"document {document.id.hex()}: its owner holds no grant")
            if readers.get(document.version_id, 0) != document.readers:
                report.add("I3", f"document {document.id.hex()}: counts {document.readers} readers")

    def _expected_blobs(self, rows: dict[type[Base], list[Any]], report: Report) -> dict[str, int]:
        parts = {row.id: row for row in rows[PartList]}
        expected: dict[str, int] = {}
        for version in rows[DocumentVersion]:
            row = parts.get(version.id)
            if row is None:
                report.add("I1", f"document_version {version.id.hex()}: its part list is missing")
                continue
            try:
                decoded = decode_parts(row.parts)
            except Unreadable:
                report.add("I2", f"part_list {version.id.hex()}: cannot be decoded")
                continue
            sizes = {blob_name(p.segment, p.offset, p.suffix): blob_size(p.length) for p in decoded}
            if sum(sizes.values()) != version.stored_bytes:
                report.add("I1", f"document_version {version.id.hex()}: its sizes do not add up")
            expected |= sizes
        return expected

    def _blobs(self, rows: dict[type[Base], list[Any]], expected: dict[str, int], report: Report) -> None:
        """I1: every part is there with its exact size. I5: no blob is there that nothing names."""
        known = {row.segment_id for row in rows[Tombstone]} | {row.id for row in rows[Upload]}
        missing, old = dict(expected), clock.now() - GRACE
        for info in self._store.list():
            size = missing.pop(info.name, None)
            if size is not None and size != info.size:
                report.add("I1", f"blob {info.name}: is {info.size} bytes, should be {size}")
            named = size is not None or bytes.fromhex(info.name.split("/", 1)[0]) in known
            if not named and info.modified_at < old:
                report.add("I5", f"blob {info.name}: nothing names it (it is kept)")
        for name in missing:
            report.add("I1", f"blob {name}: is lost")

    def _uploads(self, rows: dict[type[Base], list[Any]], report: Report) -> None:
        """I8: no upload is stuck past its expiry."""
        for row in rows[Upload]:
            if row.expires_at + 2 * GRACE < clock.now():
                report.add("I8", f"upload {row.id.hex()}: expired, and the sweep has not run")

    def _counters(self, rows: dict[type[Base], list[Any]], report: Report) -> None:
        """I7: each account's counters equal the sums."""
        stored: dict[bytes, int] = {}
        count: dict[bytes, int] = {}
        for version in rows[DocumentVersion]:
            stored[version.owner_id] = stored.get(version.owner_id, 0) + version.stored_bytes
        for document in rows[Document]:
            count[document.owner_id] = count.get(document.owner_id, 0) + 1
        for user in rows[User]:
            if (user.stored_bytes, user.documents) != (stored.get(user.id, 0), count.get(user.id, 0)):
                report.add("I7", f"user {user.id.hex()}: the counters do not equal the sums")


def _models() -> list[type[Base]]:
    return [mapper.class_ for mapper in Base.registry.mappers]


def _verified(session: Session, model: type[Base], report: Report) -> Iterator[Any]:
    """I2: every sealed row verifies, and is there once."""
    seen: set[bytes] = set()
    for (row,) in seals.verified_rows(session, select(*seals.columns(model)), model):
        if isinstance(row, Unreadable):
            name = row.object_id.hex() if row.object_id else "?"
            report.refused.add((model.__tablename__, row.object_id or b""))
            report.add("I2", f"{model.__tablename__} {name}: its seal does not fit")
        elif isinstance(row, KeyUnavailable):
            report.add("I9", f"{model.__tablename__}: a row is sealed under a master key that is not here")
        else:
            if row.id in seen:
                report.add("I2", f"{model.__tablename__} {row.id.hex()}: is there twice")
            seen.add(row.id)
            yield row
