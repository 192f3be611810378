"""Restore: put a backup into an empty database and a store, so that a vault can be served from them.

Blobs go first, then all rows in one transaction: what was broken off is begun again with the same archive. Rows are
written as they are in the archive, seals and all; nothing is sealed anew, so that ``check`` finds in the restored
vault whatever somebody did to the backup.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Any, Protocol

from sqlalchemy import Connection, column, insert, inspect, literal_column, select, table

from vault.crypto.encoding import microseconds
from vault.crypto.masterkey import MasterKeys
from vault.crypto.rows import RowSealer, Value, check_row, decode_row
from vault.errors import KeyUnavailable, Misconfigured, Unreadable
from vault.failpoints import reach
from vault.models import AuditHead
from vault.services.audit import Event
from vault.services.backup import Moved
from vault.services.pipeline import put_once
from vault.services.transactions import Transactions
from vault.storage.protocol import Blob, BlobStore

BATCH = 500


class ArchiveIn(Protocol):
    """A backup, open for reading."""

    about: dict[str, Any]
    end: dict[str, Any] | None

    @property
    def is_whole(self) -> bool: ...

    @property
    def has_blobs(self) -> bool: ...

    def rows(self, table: str) -> Iterator[bytes]: ...

    def blobs(self) -> Iterator[str]: ...

    def get(self, name: str, start: int = 0, length: int | None = None) -> Blob: ...


class Restore:
    """Put an archive into this vault's empty database and its store."""

    def __init__(self, transactions: Transactions, store: BlobStore, master: MasterKeys) -> None:
        self._transactions = transactions
        self._store = store
        self._master = master

    def refuse_unfit(self, archive: ArchiveIn) -> None:
        """Raise ``Misconfigured`` for an archive that was cut or changed, and for one under another master key."""
        if archive.end is None or not archive.is_whole:
            raise Misconfigured(
                "The archive is not whole: it was cut. Nothing was restored. `docvault recover` reads what is there."
            )
        digest = hashlib.sha256()
        for described in archive.about["tables"]:
            for line in archive.rows(described["name"]):
                digest.update(line)
        if digest.hexdigest() != archive.end["rows_sha256"]:
            raise Misconfigured(
                "The rows in the archive are not those that were written. Nothing was restored."
            )
        self._refuse_another_key(archive)

    def _refuse_another_key(self, archive: ArchiveIn) -> None:
        sealed = {one["name"]: one["sealed"] for one in archive.about["tables"]}
        sealer = RowSealer("audit_head", archive.about["seal_schema"], sealed["audit_head"])
        try:
            for line in archive.rows(AuditHead.__tablename__):
                check_row(self._master, sealer, decode_row(line))
        except KeyUnavailable as error:
            raise Misconfigured(
                "The master key is not the one of this backup. Nothing was restored. Put the vault's key in its place, "
                "or add it to DOCVAULT_MASTER_KEY_FALLBACKS."
            ) from error
        except Unreadable as error:
            raise Misconfigured(
                "The end of the audit chain in this archive does not bear its seal: somebody has changed the archive. "
                "Nothing was restored."
            ) from error

    def refuse_full(self) -> None:
        """Raise ``Misconfigured`` where the database holds anything: a backup never goes over a vault."""
        with self._transactions.reading() as session:
            connection = session.connection()
            for name in _tables(connection):
                if (
                    name != "alembic_version"
                    and connection.execute(select(literal_column("1")).select_from(table(name))).first()
                ):
                    raise Misconfigured(
                        "The database is not empty. A backup is restored into a new one, never over a vault."
                    )

    def put_blobs(self, archive: ArchiveIn, moved: Moved = lambda done, total: None) -> int:
        """Put all blobs of the archive into the store; those that are there already, and the same, are fine."""
        done, total = 0, int((archive.end or {}).get("blob_bytes", 0))
        count = 0
        for name in archive.blobs():
            with archive.get(name) as blob:
                data = blob.read()
            put_once(self._store, name, data)
            reach("restore.after_blob")
            done, count = done + len(data), count + 1
            moved(done, total)
        return count

    def put_rows(self, archive: ArchiveIn) -> dict[str, int]:
        """Write all rows in one transaction, into a database that has the archive's schema; counts them by table."""
        session = self._transactions.session
        counted: dict[str, int] = {}
        try:
            connection = session.connection(execution_options={"docvault_writing": True})
            known = _tables(connection)
            for described in archive.about["tables"]:
                counted[described["name"]] = _insert(connection, known, described["name"], archive)
            reach("restore.before_commit")
            session.commit()
        finally:
            session.close()
        return counted

    def note(self) -> None:
        """Write into the audit chain that the vault was restored here."""
        self._transactions.record_alone(Event("restored", None, "backup"))


def _tables(connection: Connection) -> list[str]:
    return inspect(connection).get_table_names()


def _insert(connection: Connection, known: list[str], name: str, archive: ArchiveIn) -> int:
    """Insert a table's rows; the names of its columns are the database's own, never the archive's."""
    if name not in known:
        raise Misconfigured(f"This release has no table {name!r:.70}. Nothing was restored.")
    columns = [found["name"] for found in inspect(connection).get_columns(name)]
    statement = insert(table(name, *[column(each) for each in columns]))
    lines, count = archive.rows(name), 0
    while batch := [_stored(decode_row(line)) for line in islice(lines, BATCH)]:
        if any(row.keys() != set(columns) for row in batch):
            raise Misconfigured(
                f"A row of the table {name} has other columns than the database. Nothing was restored."
            )
        connection.execute(statement, batch)
        count += len(batch)
    return count


def _stored(row: dict[str, Value]) -> dict[str, Value]:
    return {
        name: microseconds(value) if isinstance(value, datetime) else value for name, value in row.items()
    }
