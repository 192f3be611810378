"""Backups: all rows as one state of the database shows them, then every blob that these rows name.

The rows come first, in one transaction that only reads; blobs are never changed once they are there, so that a copy of
them made afterwards has all that the rows name, whatever the server does meanwhile. While a backup runs the sweep
destroys nothing (``under_way``). A blob that is gone all the same is told, and whether its version is gone too.

Sessions are left out: a session's row together with its token would open the account.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import IO, Any, Protocol

import structlog
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from vault.crypto.manifests import decode_parts
from vault.crypto.parts import blob_name, blob_size, digest_matches
from vault.crypto.randomness import new_id
from vault.crypto.rows import encode_row
from vault.errors import Busy, Missing, Unreadable, VaultError
from vault.failpoints import reach
from vault.models import Base, DocumentVersion, Lease, PartList
from vault.services import clock, seals
from vault.services.ahead import one_ahead
from vault.services.audit import Event
from vault.services.transactions import Transactions
from vault.storage.protocol import BlobStore

LEFT_OUT: dict[str, str] = {
    "login_session": "its row and its token together would open the account",
    "login_attempt": "counts the tries of the last minutes",
    "lease": "says which process works now",
    "upload": "leads to blobs without a document; whoever was uploading begins anew",
}
"""Tables whose rows no backup holds; the audit chain knows none of them."""

HOLDER = b"docvault backup "
HOLD = timedelta(minutes=10)
RENEWED = timedelta(minutes=1)

log = structlog.get_logger("vault.backup")

Moved = Callable[[int, int], None]
"""Told how many bytes of the blobs are written, of how many."""


class ArchiveOut(Protocol):
    """Where a backup is written to, from its beginning to its end."""

    counted: dict[str, int]

    def begin(self, about: dict[str, Any]) -> None: ...

    def row(self, table: str, line: bytes) -> None: ...

    def name_blob(self, name: str, size: int) -> None: ...

    def end_lines(self) -> None: ...

    def blob(self, name: str, data: bytes) -> None: ...

    def end(self, told: dict[str, Any]) -> None: ...


@dataclass
class Written:
    """What one backup holds, and which blobs it lacks: by name, with the reason."""

    rows: dict[str, int] = field(default_factory=dict)
    blobs: int = 0
    blob_bytes: int = 0
    named: int = 0
    named_bytes: int = 0
    deleted: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong; what was deleted while the backup ran is not."""
        return not (self.lost or self.damaged)


def under_way(session: Session) -> bool:
    """Tell whether a backup is being made: until it ends, or ten minutes after it died, no blob is destroyed.

    Ask in the transaction that finds out which blobs are due: what was due before a backup began, it does not name.
    """
    rows = session.scalars(select(Lease).where(Lease.holder == HOLDER, Lease.expires_at > clock.now())).all()
    return bool(rows)


class Backup:
    """Write everything that a vault needs, but its master key, into an archive."""

    def __init__(self, transactions: Transactions, store: BlobStore) -> None:
        self._transactions = transactions
        self._store = store

    def write(
        self,
        out: ArchiveOut,
        *,
        release: str,
        with_blobs: bool = True,
        moved: Moved = lambda done, total: None,
    ) -> Written:
        """Write the rows, then the blobs or their list alone. Memory is bounded by two blobs."""
        written = Written()
        with tempfile.TemporaryFile() as names, self._holding() as hold:
            self._write_rows(out, release, with_blobs, names, written)
            reach("backup.after_rows")
            if with_blobs:
                self._write_blobs(out, names, written, hold, moved)
            told = {name: getattr(written, name) for name in ("deleted", "lost", "damaged")}
            out.end(told | {"named": written.named, "named_bytes": written.named_bytes})
        written.rows = dict(out.counted)
        detail = "with blobs" if with_blobs else "without blobs"
        event = Event("backed_up", None, "backup", succeeded=written.whole, detail=detail)
        self._write(lambda session: self._transactions.record(event))
        return written

    def _write_rows(
        self, out: ArchiveOut, release: str, with_blobs: bool, names: IO[bytes], written: Written
    ) -> None:
        models = [model for model in _models() if model.__tablename__ not in LEFT_OUT]
        with self._transactions.snapshot() as session:
            out.begin(_about(session, models, release, with_blobs))
            for model in models:
                columns = [column.key for column in seals.columns(model)]
                for values in _rows(session, model):
                    out.row(model.__tablename__, encode_row(columns, values))
                    if model is PartList:
                        _note_blobs(dict(zip(columns, values, strict=True)), out, names, written)
        out.end_lines()

    def _write_blobs(
        self,
        out: ArchiveOut,
        names: IO[bytes],
        written: Written,
        hold: Callable[[], None],
        moved: Moved,
    ) -> None:
        names.seek(0)
        makers = (partial(_Fetched, self._store, *line.decode().split()) for line in names)
        for fetched in _fetched(makers, self._store.is_far):
            hold()
            if fetched.data is None:
                gone = written.lost if self._is_named(fetched.version_id) else written.deleted
                gone.append(fetched.name)
                continue
            if fetched.stored != fetched.size or not digest_matches(fetched.data):
                written.damaged.append(fetched.name)
            out.blob(fetched.name, fetched.data)
            written.blobs += 1
            written.blob_bytes += len(fetched.data)
            moved(written.blob_bytes, written.named_bytes)

    def _is_named(self, version_id: bytes) -> bool:
        """Tell whether a version is still there; a row that cannot be believed counts as there."""
        try:
            with self._transactions.reading() as session:
                return session.get(DocumentVersion, version_id) is not None
        except (*seals.Refusal, Busy):
            return True

    @contextmanager
    def _holding(self) -> Iterator[Callable[[], None]]:
        """Keep the sweep from destroying while the block runs; gives what renews that from time to time."""
        lease_id, renewed = new_id(), clock.now()
        self._write(lambda session: _hold(session, lease_id))

        def hold() -> None:
            nonlocal renewed
            if clock.now() - renewed > RENEWED:
                renewed = clock.now()
                self._write(lambda session: _hold(session, lease_id))

        try:
            yield hold
        finally:
            self._write(lambda session: _let_go(session, lease_id))

    def _write(self, work: Callable[[Session], None]) -> None:
        """Write beside the backup, if that can be done: a vault that takes nothing in must be backed up above all."""
        try:
            self._transactions.writing(work)
        except VaultError as error:
            log.warning("backup_not_written_down", error=type(error).__name__)


def _hold(session: Session, lease_id: bytes) -> None:
    lease, until = session.get(Lease, lease_id, with_for_update=True), clock.now() + HOLD
    if lease is None:
        session.add(Lease(id=lease_id, holder=HOLDER, expires_at=until, swept_at=None))
    else:
        lease.expires_at = until


def _let_go(session: Session, lease_id: bytes) -> None:
    """Forget this backup's hold, and those of backups that died."""
    for lease in session.scalars(select(Lease).where(Lease.holder == HOLDER)).all():
        if lease.id == lease_id or lease.expires_at <= clock.now():
            session.delete(lease)


def _models() -> list[type[Base]]:
    """Give all tables, those that others refer to first."""
    by_name = {mapper.class_.__tablename__: mapper.class_ for mapper in Base.registry.mappers}
    return [by_name[table.name] for table in Base.metadata.sorted_tables if table.name in by_name]


def _about(session: Session, models: list[type[Base]], release: str, with_blobs: bool) -> dict[str, Any]:
    schema = session.connection().execute(text("SELECT version_num FROM alembic_version")).scalar()
    return {
        "release": release,
        "schema": schema,
        "made_at": clock.now().isoformat(),
        "with_blobs": with_blobs,
        "seal_schema": seals.SCHEMA,
        "tables": [
            {"name": model.__tablename__, "sealed": list(seals.sealed_columns(model))} for model in models
        ],
        "left_out": LEFT_OUT,
    }


def _rows(session: Session, model: type[Base]) -> Iterator[tuple[Any, ...]]:
    """Give a table's rows as they lie there, whether their seals fit or not: a backup is evidence too."""
    columns = seals.columns(model)
    at = [column.key for column in columns].index("sequence" if hasattr(model, "sequence") else "id")
    statement = select(*columns).order_by(columns[at]).execution_options(yield_per=500)
    for row in session.connection().execute(statement):
        yield tuple(row)


def _note_blobs(row: dict[str, Any], out: ArchiveOut, names: IO[bytes], written: Written) -> None:
    try:
        parts = decode_parts(row["parts"])
    except Unreadable:
        written.damaged.append(f"part_list {row['id'].hex()}")
        return
    for part in parts:
        name, size = blob_name(part.segment, part.offset, part.suffix), blob_size(part.length)
        out.name_blob(name, size)
        names.write(f"{row['id'].hex()} {name} {size}\n".encode())
        written.named += 1
        written.named_bytes += size


class _Fetched:
    """A blob in memory, or ``None`` for one that is not there; of one that is too long no more than a byte too much."""

    def __init__(self, store: BlobStore, version: str, name: str, size: str) -> None:
        self.version_id, self.name, self.size = bytes.fromhex(version), name, int(size)
        self.data: bytes | None
        try:
            with store.get(name, 0, self.size + 1) as blob:
                self.stored, self.data = blob.size, blob.read()
        except Missing:
            self.data = None

    def close(self) -> None:
        self.data = None


def _fetched(makers: Iterable[Callable[[], _Fetched]], is_far: bool) -> Generator[_Fetched]:
    """Fetch one blob after the other; from a store that is far, the next while this one is written."""
    sources: Generator[_Fetched] = one_ahead(makers) if is_far else (make() for make in makers)
    with closing(sources):
        yield from sources
