"""Every tampering that the schema admits, made from its metadata: a new table, column or index is attacked by itself.

The attacker writes past the unit of work, in a transaction of the vault's own that is never committed: an edit costs
a tenth of a millisecond, and nothing has to be put back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from sqlalchemy import UniqueConstraint, select

from tests.attacks.attacker import Row, another, models, row_value
from tests.cast import Vault
from vault.crypto.masterkey import MasterKeys
from vault.crypto.purposes import MASTER_ROWS
from vault.crypto.randomness import new_id
from vault.crypto.rows import row_seal
from vault.errors import Unreadable
from vault.services import seals
from vault.wiring import Services

TABLES = sorted(models())
TRACKED = sorted(set(TABLES) - set(seals.UNTRACKED))

State = dict[str, list[Row]]


@dataclass(frozen=True)
class Edit:
    """One column of one row gets another value."""

    table: str
    row: Row
    column: str
    value: Any


def covered(table: str) -> list[str]:
    """The columns that a seal covers: all but the list of exceptions."""
    left_out = {*seals.UNSEALED["*"], *seals.UNSEALED.get(table, {})}
    return [
        column.key
        for column in models()[table].__table__.columns  # type: ignore[attr-defined]
        if column.key not in left_out
    ]


def unique_columns(table: str) -> set[str]:
    """Columns of which two rows cannot have the same value, alone or together with others."""
    sql_table: Any = models()[table].__table__  # type: ignore[attr-defined]
    bound = [
        constraint.columns for constraint in sql_table.constraints if isinstance(constraint, UniqueConstraint)
    ]
    bound += [index.columns for index in sql_table.indexes if index.unique]
    return {column.key for columns in bound for column in columns} | {"id"}


def edits(state: State, table: str) -> Iterator[Edit]:
    """Change each sealed column of each row, to another value and, where it may be, to none."""
    for row in state[table]:
        for column in covered(table):
            yield Edit(table, row, column, another(table, column, row[column]))
            nullable = models()[table].__table__.c[column].nullable  # type: ignore[attr-defined]
            if nullable and row[column] is not None:
                yield Edit(table, row, column, None)


def pairs(state: State, table: str) -> Iterator[tuple[Row, Row]]:
    """Each two rows of a table."""
    yield from combinations(state[table], 2)


def telling(state: State, table: str) -> Iterator[Edit]:
    """One edit for each column, in a row that has a value there."""
    for column in covered(table):
        row = next((row for row in state[table] if row[column] is not None), state[table][0])
        yield Edit(table, row, column, another(table, column, row[column]))


def count(state: State) -> dict[str, int]:
    """How many tamperings the tests of ``test_generated.py`` make, each of which must be detected."""
    edited = sum(len(list(edits(state, table))) for table in TABLES)
    told = {table: len(list(telling(state, table))) for table in TABLES}
    every = sum(told.values())
    return {
        "a column of a row changed": edited + every,
        "a column changed and sealed with the master key": sum(told[table] for table in TRACKED),
        "two rows of a table exchanged": sum(len(list(pairs(state, table))) for table in TABLES),
        "two rows exchanged and sealed with the master key": sum(
            len(list(pairs(state, table))) for table in TRACKED
        ),
        "an older state of a row put back": sum(len(state[table]) for table in TRACKED),
        "a row removed": sum(len(state[table]) for table in TRACKED),
        "a removed row put back": sum(len(state[table]) for table in TRACKED),
        "a column changed between load and update": every,
        "a second row with the same id": sum(len(state[table]) for table in TABLES),
        "a trigger that rewrites a column at an insert or update": 2 * every,
        "a view that shows another value in a column": every,
    }


class Inside:
    """Somebody who writes inside a transaction of the vault's own, and whose writing never lasts."""

    def __init__(self, bundle: Services) -> None:
        self.bundle = bundle
        self.session: Any = bundle.transactions.session
        self.master: MasterKeys = self.session.info["master_keys"]
        self.sql("PRAGMA defer_foreign_keys=ON")

    def sql(self, statement: str, *values: Any) -> Any:
        return self.session.connection().exec_driver_sql(statement, values)

    def edit(self, edit: Edit) -> bytes:
        """Make an edit; return the id that the row then has."""
        self.sql(f'UPDATE "{edit.table}" SET "{edit.column}" = ? WHERE id = ?', edit.value, edit.row["id"])
        return edit.value if edit.column == "id" else edit.row["id"]

    def put(self, table: str, *rows: Row, instead: bool = True) -> None:
        """Write whole rows in the place of those of their ids, or beside them."""
        for row in rows:
            if instead:
                self.sql(f'DELETE FROM "{table}" WHERE id = ?', row["id"])
        for row in rows:
            names = ", ".join(f'"{name}"' for name in row)
            marks = ", ".join("?" for _ in row)
            self.sql(f'INSERT INTO "{table}" ({names}) VALUES ({marks})', *row.values())

    def reseal(self, table: str, row_id: bytes) -> None:
        """Make a row's seal fit, as somebody with the master key can."""
        (row,) = self.rows(table, row_id)
        seal = row_seal(
            self.master.derive(MASTER_ROWS),
            table=table,
            schema=seals.SCHEMA,
            row_id=row_id,
            row_version=row["row_version"],
            columns=[
                (name, row_value(table, name, row[name])) for name in seals.sealed_columns(models()[table])
            ],
        )
        self.sql(f'UPDATE "{table}" SET seal = ? WHERE id = ?', seal, row_id)

    def rows(self, table: str, row_id: bytes) -> list[Row]:
        return [dict(row) for row in self.sql(f'SELECT * FROM "{table}" WHERE id = ?', row_id).mappings()]

    def seen(self, table: str, *row_ids: bytes) -> list[Any]:
        """What a list or a check gets of these rows: each, or the refusal in its place."""
        model: Any = models()[table]
        statement = select(*seals.columns(model)).where(model.id.in_(row_ids))
        return [row for (row,) in seals.verified_rows(self.session, statement, model)]

    def refuses(self, table: str, row_id: bytes) -> bool:
        """Whether a service that loads the row is refused."""
        self.session.expunge_all()
        try:
            self.session.get(models()[table], row_id)
        except Unreadable as refusal:
            return refusal.reason.startswith(f"seal:{table}")
        return False

    def findings(self) -> list[str]:
        """What ``docvault check`` tells of it. Ends the transaction."""
        return [finding.text for finding in self.bundle.check.run().findings]

    def fresh(self, table: str, row: Row) -> Any:
        """A new row like an old one, as the vault itself would add it."""
        apart = unique_columns(table)
        values = {
            name: row_value(table, name, _apart(row[name]) if name in apart else row[name])
            for name in covered(table)
            if name != "row_version"
        }
        return models()[table](**(values | {"id": new_id()}))


def _apart(value: Any) -> Any:
    """Another value, which is not that of ``another`` either."""
    if isinstance(value, bytes):
        return value[:-1] + bytes([value[-1] ^ 1])
    return value + 1000 if isinstance(value, int) else f"{value}-2"


@contextmanager
def inside(vault: Vault) -> Iterator[Inside]:
    """Let somebody write; whatever he wrote is undone at the end."""
    with vault.services() as bundle:
        try:
            yield Inside(bundle)
        finally:
            bundle.transactions.session.rollback()


def state_of(vault: Vault, tables: Sequence[str] = TABLES) -> State:
    """Every row of these tables. A table without one cannot be attacked: that is an error here."""
    with vault.database() as database:
        state = {
            table: [dict(row) for row in database.execute(f'SELECT * FROM "{table}" ORDER BY id')]
            for table in tables
        }
    empty = [table for table, rows in state.items() if not rows]
    assert not empty, f"no row of {', '.join(empty)} to attack: let live_through in history.py make one"
    return state
