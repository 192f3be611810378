"""The attackers: somebody who writes to the database and the blob store, with or without the master key.

Neither has a passphrase. ``Attacker.reseal`` is what the master key adds: it makes a row's seal fit again.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import inspect

from tests.cast import Vault
from vault.crypto.masterkey import MasterKeys
from vault.crypto.purposes import MASTER_ROWS
from vault.crypto.rows import row_seal
from vault.extensions import Base
from vault.models import Moment
from vault.services import seals

CANARY = b"The goose that flies at midnight carries the launch codes of the cannery. "
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Row = dict[str, Any]


def models() -> dict[str, type[Base]]:
    """Every table of the schema, by name."""
    return {str(inspect(m.class_).local_table.name): m.class_ for m in Base.registry.mappers}


def column_type(table: str, column: str) -> Any:
    return inspect(models()[table]).local_table.c[column].type


class Attacker:
    """Somebody with write access to a vault's SQLite file and blob folder."""

    def __init__(self, vault: Vault) -> None:
        self.vault = vault

    @property
    def master(self) -> MasterKeys:
        """The master key; a test that uses it is about the attacker who has it."""
        keys: MasterKeys = self.vault.app.extensions["docvault"].master
        return keys

    # Rows

    def rows(self, table: str, **where: Any) -> list[Row]:
        condition = " AND ".join(f'"{name}" = ?' for name in where) or "1"
        with self.vault.database() as connection:
            found = connection.execute(f'SELECT * FROM "{table}" WHERE {condition}', tuple(where.values()))
            return [dict(row) for row in found]

    def row(self, table: str, **where: Any) -> Row:
        (found,) = self.rows(table, **where)
        return found

    def update(self, table: str, row_id: bytes, **columns: Any) -> None:
        named = ", ".join(f'"{name}" = ?' for name in columns)
        with self.vault.database() as connection:
            connection.execute(f'UPDATE "{table}" SET {named} WHERE id = ?', (*columns.values(), row_id))

    def put(self, table: str, *rows: Row) -> None:
        """Write whole rows; what has their ids or unique keys is gone."""
        with self.vault.database() as connection:
            for row in rows:
                _insert(connection, table, row)

    def remove(self, table: str, *row_ids: bytes) -> None:
        with self.vault.database() as connection:
            connection.executemany(f'DELETE FROM "{table}" WHERE id = ?', [(row_id,) for row_id in row_ids])

    def swap(self, table: str, one: Row, other: Row, *columns: str) -> None:
        """Exchange columns of two rows; without names all but the id."""
        chosen = columns or tuple(set(one) - {"id"})
        self.remove(table, one["id"], other["id"])
        self.put(
            table,
            one | {name: other[name] for name in chosen},
            other | {name: one[name] for name in chosen},
        )

    # What the master key adds

    def reseal(self, table: str, row_id: bytes) -> None:
        """Make the row's seal fit what the row says now."""
        row = self.row(table, id=row_id)
        names = seals.sealed_columns(models()[table])
        seal = row_seal(
            self.master.derive(MASTER_ROWS),
            table=table,
            schema=seals.SCHEMA,
            row_id=row_id,
            row_version=row["row_version"],
            columns=[(name, row_value(table, name, row[name])) for name in names],
        )
        self.update(table, row_id, seal=seal, seal_key_id=self.master.key_id)

    def forge(self, table: str, row: Row) -> None:
        """Write a row with a seal that fits."""
        self.put(table, row)
        self.reseal(table, row["id"])

    # Blobs

    def blob(self, document_id: bytes, part: int = 0) -> Any:
        """The path of a blob of a document's current version; the attacker sees it appear, the test looks it up."""
        return self.vault.blobs / self.blob_names(document_id)[part]

    def blob_names(self, document_id: bytes) -> list[str]:
        from vault.crypto.manifests import decode_parts
        from vault.crypto.parts import blob_name

        version = self.row("document", id=document_id)["version_id"]
        parts = decode_parts(self.row("part_list", id=version)["parts"])
        return [blob_name(part.segment, part.offset, part.suffix) for part in parts]


def write_blob(path: Any, content: bytes) -> None:
    """Overwrite a blob as somebody with access to the disk can."""
    path.chmod(0o600)
    path.write_bytes(content)


def flip(path: Any, at: int) -> bytes:
    """Flip one bit of a blob; return what it was."""
    was = bytes(path.read_bytes())
    damaged = bytearray(was)
    damaged[at] ^= 1
    write_blob(path, bytes(damaged))
    return was


def _insert(connection: sqlite3.Connection, table: str, row: Row) -> None:
    names = ", ".join(f'"{name}"' for name in row)
    marks = ", ".join("?" for _ in row)
    connection.execute(f'INSERT OR REPLACE INTO "{table}" ({names}) VALUES ({marks})', tuple(row.values()))


def row_value(table: str, column: str, raw: Any) -> Any:
    """What the vault reads where the database holds ``raw``."""
    kind = column_type(table, column)
    if raw is None:
        return None
    if isinstance(kind, Moment):
        return EPOCH + timedelta(microseconds=raw)
    return bool(raw) if kind.python_type is bool else raw


def another(table: str, column: str, raw: Any) -> Any:
    """Give a value of the same type that a column does not have: what an UPDATE would put there."""
    kind = column_type(table, column)
    python = int if isinstance(kind, Moment) else kind.python_type
    if python is bool:
        return 1 - raw
    if python is int:
        return (raw or 0) + 10**6
    if python is str:
        return "zz" if raw != "zz" else "yy"
    return bytes([raw[0] ^ 1]) + raw[1:] if raw else b"\x01" * 32


# The common oracle


@dataclass(frozen=True)
class Answer:
    """What came back: status, the bytes of the body that were sent, the type of the problem."""

    status: int
    body: bytes
    problem: str
    cut: bool


def answer(response: Any) -> Answer:
    """Read an answer to its end, or to where the connection is cut."""
    body, cut = bytearray(), False
    try:
        for piece in response.response:
            body += piece
    except Exception as error:  # noqa: BLE001
        assert "Unreadable" in type(error).__name__ or "Store" in type(error).__name__, error
        cut = True
    finally:
        response.close()
    length = response.headers.get("Content-Length", type=int)
    assert not cut or length is None or len(body) < length, "a cut answer that looks complete"
    problem = json.loads(body).get("type", "") if response.mimetype == "application/problem+json" else ""
    return Answer(response.status_code, bytes(body), problem, cut)


def failures(vault: Vault) -> list[tuple[str | None, str | None]]:
    """The integrity failures of the audit log, as (object id in hex, detail)."""
    return [(event[1], event[3]) for event in vault.audit() if event[0] == "integrity_failure"]


def assert_refused(
    vault: Vault,
    act: Callable[[], Any],
    object_id: bytes,
    *,
    problems: Sequence[str] = ("urn:docvault:Unreadable",),
    secret: bytes = CANARY,
) -> Answer:
    """The oracle of every tampering: an error, no byte of the secret, one event about the object, no traceback."""
    before = len(failures(vault))
    got = answer(act())
    assert got.status >= 400, f"answered {got.status}"
    assert got.problem in problems, f"{got.status} {got.body!r}"
    assert secret[:16] not in got.body, "a part of the secret was sent"
    assert b"Traceback" not in got.body
    events = failures(vault)[before:]
    assert [event[0] for event in events] == [object_id.hex()], events
    return got
