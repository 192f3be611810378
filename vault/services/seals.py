"""Row seals: every column of every row is covered by an HMAC under the master key.

``install`` hangs two duties on the unit of work. A row that is loaded or refreshed must bear a seal that fits,
else ``Unreadable``; a row that is flushed is compared with what was verified, and sealed anew. So an edited row
is refused at the first look, and no update can put a fresh seal on somebody's edit (attack M9): an UPDATE writes
the changed columns and a seal over the verified values of all others. ``insert``, ``change`` and ``remove`` do the
same for rows that ``verified_rows`` gave, without the unit of work: a flush costs five times as much.

A seal under a key that somebody else has as well proves nothing: the register of keys is asked, once a transaction and
only where a row is under an older key, and from the beginning of a compromised rotation such a row opens no more until
the rotation has moved it. Of a key that the register does not know the audit chain is asked.

A seal has no freshness: an older row put back whole bears a good one. What each transaction changed is therefore
named in the audit chain (``audit.py``), and ``docvault check`` compares.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from hmac import compare_digest
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    Delete,
    Insert,
    Select,
    Table,
    Update,
    bindparam,
    delete,
    event,
    inspect,
    select,
    update,
)
from sqlalchemy import insert as inserting
from sqlalchemy.orm import InstanceState, ORMExecuteState, Session
from sqlalchemy.orm.exc import StaleDataError

from vault.crypto.masterkey import MasterKeys
from vault.crypto.purposes import MASTER_ROWS
from vault.crypto.rows import RowSealer
from vault.errors import Busy, KeyUnavailable, Unreadable
from vault.models import AuditEntry, Base, MasterKey

SCHEMA = 1

UNSEALED: dict[str, dict[str, str]] = {
    "*": {
        "seal": "it is the seal",
        "seal_key_id": "it names the key of the seal; another value makes the seal fail or the key unknown",
    }
}
"""The one list of columns that no seal covers, with why; ``*`` is every table."""

UNTRACKED: dict[str, str] = {
    "audit_entry": "is the chain itself",
    "audit_head": "is the chain's end",
    "login_attempt": "lives for minutes; a row put back or removed moves a counter of at most ten",
    "login_session": "is refused by its own times and the user's credential generation, and opens for its token alone",
    "document_index": "is sealed under the account key and only ever raised; a lower one is renewed, never believed",
    "upload": "leads to nothing but its owner's own commit; one put back may cost what a writer can destroy anyway",
    "lease": "says who sweeps; nothing is decided by it",
}
"""Tables whose rows are sealed, but whose latest versions the audit chain does not repeat."""

BELIEVED = frozenset({*UNTRACKED, MasterKey.__tablename__})
"""Tables whose seals are believed under every key: a rotation begins with them, or moves them without asking."""

MOVING_SECONDS = 5
MOVING = "The vault is being put under a new master key. Try again in a moment."

Touched = tuple[str, bytes, int, bytes]

Refusal = (Unreadable, KeyUnavailable)
"""What stands in the place of a row that cannot be believed: its seal does not fit, or is under an unknown key."""


def _sql_table(model: type[Any]) -> Table:
    table = inspect(model).local_table
    if not isinstance(table, Table):
        raise TypeError(f"{model.__name__} is not mapped to a table")
    return table


@dataclass(frozen=True)
class _Table:
    name: str
    columns: tuple[str, ...]
    sealer: RowSealer
    row_type: Any
    width: int
    sealed_of: Callable[[Sequence[Any]], tuple[Any, ...]]


def _describe(model: type[Base]) -> _Table:
    table = _sql_table(model)
    exceptions = UNSEALED["*"].keys() | UNSEALED.get(table.name, {}).keys() | {"id", "row_version"}
    names = [column.key for column in table.columns]
    sealed = tuple(sorted(name for name in names if name not in exceptions))
    name = str(table.name)  # SQLAlchemy's is a subclass of str, which an audit entry does not take
    return _Table(
        name,
        sealed,
        RowSealer(name, SCHEMA, sealed),
        namedtuple(f"{model.__name__}Row", names),
        len(names),
        _picker([names.index(name) for name in sealed]),
    )


def _picker(positions: list[int]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """Give what picks these values out of a row; ``itemgetter`` gives a tuple only for two and more."""
    if len(positions) == 1:
        only = positions[0]
        return lambda values: (values[only],)
    return itemgetter(*positions)


_tables: dict[type[Any], _Table] = {}


def _table(model: type[Any]) -> _Table:
    found = _tables.get(model)
    if found is None:
        found = _tables[model] = _describe(model)
    return found


def sealed_columns(model: type[Base]) -> tuple[str, ...]:
    """Name the columns whose values the seal covers, besides the id and the row version."""
    return _table(model).columns


class _Standing(Enum):
    """What a seal under an older key is worth."""

    GOOD = "it proves what it covers"
    MOVING = "somebody else has the key; the rotation may be on its way to the row"
    OVER = "somebody else has the key; the rotation went over the row and left it"


@contextmanager
def unsafe_believing_all_keys(session: Session) -> Iterator[None]:
    """Believe seals under a key that somebody else has: for the rotation, which asks the chain, and for the check."""
    before = session.info.get("believes_all_keys", False)
    session.info["believes_all_keys"] = True
    try:
        yield
    finally:
        session.info["believes_all_keys"] = before


def forget_standings(session: Session) -> None:
    """Ask the register anew: a transaction has ended."""
    session.info.pop("standings", None)


def _proves(session: Session, table: _Table, key_id: bytes) -> bool:
    """Tell whether a seal under this key proves anything; raises ``Busy`` while a rotation is about to move the row."""
    if key_id == keys_of(session).key_id or table.name in BELIEVED or session.info.get("believes_all_keys"):
        return True
    standings = session.info.setdefault("standings", {})
    if key_id not in standings:
        standings[key_id] = _standing(session, key_id)
    if standings[key_id] is _Standing.MOVING:
        raise Busy(MOVING_SECONDS, MOVING)
    return standings[key_id] is _Standing.GOOD


def _standing(session: Session, key_id: bytes) -> _Standing:
    """Look the key up in the register; who writes holds its row, so that no rotation begins under him."""
    statement = select(*columns(MasterKey)).where(MasterKey.key_id == bindparam("key"))
    if session.connection().get_execution_options().get("docvault_writing"):
        statement = statement.with_for_update(read=True)
    found = verified_row(session, statement, MasterKey, parameters={"key": key_id})
    row = believed(found[0]) if found is not None else None
    if row is None:
        return _Standing.OVER if _is_noted(session, key_id) else _Standing.GOOD
    if row.compromised_at is None:
        return _Standing.GOOD
    return _Standing.MOVING if row.rotating_since is not None else _Standing.OVER


def _is_noted(session: Session, key_id: bytes) -> bool:
    """Ask the audit chain whether somebody else has a key; slow, and only for one that the register does not know."""
    statement = select(*columns(AuditEntry)).where(
        AuditEntry.action == "key_compromised", AuditEntry.detail.startswith(f"{key_id.hex()} ")
    )
    return any(not isinstance(row, Refusal) for (row,) in verified_rows(session, statement, AuditEntry))


def _refuse_unproven(session: Session, table: _Table, row_id: bytes, key_id: bytes) -> None:
    if not _proves(session, table, key_id):
        raise _unproven(table, row_id)


def _unproven(table: _Table, row_id: bytes) -> Unreadable:
    return Unreadable(f"compromised:{table.name}", table.name, row_id)


def _verify(
    master: MasterKeys,
    table: _Table,
    row_id: bytes,
    version: int,
    values: Sequence[Any],
    key_id: bytes,
    seal: bytes,
) -> None:
    if not _fits(table, master.derive(MASTER_ROWS, key_id), row_id, version, values, seal):
        raise _broken(table, row_id)


def _fits(table: _Table, key: bytes, row_id: bytes, version: int, values: Sequence[Any], seal: bytes) -> bool:
    try:
        return compare_digest(table.sealer.seal(key, row_id, version, values), seal)
    except (TypeError, ValueError, OverflowError, AttributeError):
        return False


def _broken(table: _Table, row_id: bytes) -> Unreadable:
    return Unreadable(f"seal:{table.name}", table.name, row_id if isinstance(row_id, bytes) else None)


def keys_of(session: Session) -> MasterKeys:
    """Give the master keys that this session verifies and seals with."""
    keys: MasterKeys = session.info["master_keys"]
    return keys


def _on_load(instance: Any, session: Session | None) -> None:
    if session is None:
        raise Unreadable("seal:detached")
    table, have = _table(type(instance)), instance.__dict__
    try:
        values = tuple([have[name] for name in table.columns])
        version, key_id, seal, row_id = have["row_version"], have["seal_key_id"], have["seal"], have["id"]
    except KeyError:
        raise Unreadable(f"seal:{table.name}:partial", table.name) from None
    _verify(keys_of(session), table, row_id, version, values, key_id, seal)
    _refuse_unproven(session, table, row_id, key_id)
    instance._verified = values


def _load(instance: Any, context: Any) -> None:
    _on_load(instance, context.session)


def _refresh(instance: Any, context: Any, attributes: Any) -> None:
    _on_load(instance, context.session)


def touched(session: Session) -> list[Touched]:
    """List the sealed rows that this transaction changed so far: table, id, row version (0 when deleted), seal."""
    return list(session.info.setdefault("touched", {}).values())


def forget_touched(session: Session) -> None:
    """Empty the list at the end of a transaction, whichever way it ended."""
    session.info["touched"] = {}


def _note(session: Session, table: _Table, row_id: bytes, version: int, seal: bytes) -> None:
    if table.name not in UNTRACKED:
        session.info.setdefault("touched", {})[table.name, row_id] = (table.name, row_id, version, seal)


def _seal_now(session: Session, instance: Any, version: int) -> None:
    table, master = _table(type(instance)), keys_of(session)
    values = tuple([getattr(instance, name) for name in table.columns])
    instance.row_version = version
    instance.seal_key_id = master.key_id
    instance.seal = table.sealer.seal(master.derive(MASTER_ROWS), instance.id, version, values)
    instance._verified = values
    _note(session, table, instance.id, version, instance.seal)


def _compare_unchanged(instance: Any, state: InstanceState[Any]) -> None:
    table = _table(type(instance))
    verified = getattr(instance, "_verified", None)
    if verified is None:
        raise Unreadable(f"seal:{table.name}:unverified", table.name, instance.id)
    changed = state.committed_state
    for name, value in zip(table.columns, verified, strict=True):
        if name not in changed and instance.__dict__.get(name) != value:
            raise Unreadable(f"seal:{table.name}:{name}", table.name, instance.id)


def _before_flush(session: Session, context: Any, instances: Any) -> None:
    for instance in session.new:
        _seal_now(session, instance, 1)
    for instance in session.dirty:
        if session.is_modified(instance):
            _compare_unchanged(instance, inspect(instance))
            _refuse_unproven(session, _table(type(instance)), instance.id, instance.seal_key_id)
            _seal_now(session, instance, instance.row_version + 1)
    for instance in session.deleted:
        _compare_unchanged(instance, inspect(instance))
        _note(session, _table(type(instance)), instance.id, 0, b"")


def _sealed_anew(session: Session, model: type[Any], row: Any, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Give what is written for a verified row: its changed columns, its next version, and the seal over all."""
    table, master = _table(model), keys_of(session)
    _refuse_unproven(session, table, row.id, row.seal_key_id)
    version = row.row_version + 1
    values = table.sealed_of(row._replace(**changes))
    seal = table.sealer.seal(master.derive(MASTER_ROWS), row.id, version, values)
    return {**changes, "row_version": version, "seal_key_id": master.key_id, "seal": seal}


def reseal(session: Session, model: type[Any], rows: Sequence[tuple[Any, Mapping[str, Any]]]) -> None:
    """Seal verified rows anew under the newest master key, each with the columns beside it changed.

    The rows come from ``verified_rows`` of this transaction, which holds them locked; all of them change the same
    columns. Twenty times quicker than the unit of work.
    """
    if not rows:
        return
    writes = []
    for row, changes in rows:
        own = _sealed_anew(session, model, row, changes)
        _note(session, _table(model), row.id, own["row_version"], own["seal"])
        writes.append({"_id": row.id, "_version": row.row_version, **own})
    sql = _sql_table(model)
    statement = update(sql).where(sql.c.id == bindparam("_id"), sql.c.row_version == bindparam("_version"))
    session.connection().execute(statement, writes)


def discard(session: Session, model: type[Any], row_ids: Sequence[bytes]) -> None:
    """Delete rows whether or not they verify, and tell the chain: what only ever lets somebody in, or was given up."""
    table = _table(model)
    for row_id in row_ids:
        _note(session, table, row_id, 0, b"")
    session.connection().execute(delete(_sql_table(model)).where(_sql_table(model).c.id.in_(row_ids)))


def _refuse_partial(state: ORMExecuteState) -> None:
    if state.execution_options.get("unverified") or state.is_column_load or state.is_relationship_load:
        return
    whole = state.is_select and all(
        isinstance(column.get("expr"), type)
        for column in getattr(state.statement, "column_descriptions", [{}])
    )
    if not whole:
        raise RuntimeError(
            "sealed tables are loaded as whole entities and changed through the unit of work only"
        )


def install(session_class: Any) -> None:
    """Hang the duties on every session of this class, once; each session needs ``info["master_keys"]``."""
    if not event.contains(Base, "load", _load):
        event.listen(Base, "load", _load, propagate=True)
        event.listen(Base, "refresh", _refresh, propagate=True)
    if not event.contains(session_class, "before_flush", _before_flush):
        event.listen(session_class, "before_flush", _before_flush)
        event.listen(session_class, "do_orm_execute", _refuse_partial)


def verified_rows(
    session: Session,
    statement: Select[Any],
    *models: type[Any],
    beside: int = 0,
    parameters: Mapping[str, Any] | None = None,
) -> Iterator[tuple[Any, ...]]:
    """Run ``statement``, which must select all columns of ``models`` in order, and yield one tuple of rows a result.

    The first ``beside`` columns belong to none of them and are given as they come, verified by nothing.

    Each row is a named tuple whose seal fits, ``None`` where an outer join found nothing, or the ``Refusal`` that
    tells why it cannot be believed: the caller decides, so that one edited row cannot take a whole list away. Ten
    times cheaper than entities; for lists and checks.
    """
    readers, start = [], beside
    for model in models:
        table = _table(model)
        readers.append(_reader(_RowKeys(session, table), table, slice(start, start + table.width)))
        start += table.width
    for result in session.connection().execute(statement, parameters):
        yield (*result[:beside], *[read(result) for read in readers])


class _RowKeys(dict[bytes, bytes | None]):
    """The keys of one table's seals by master key, for one statement: a list verifies three thousand rows.

    ``None`` where a seal proves nothing.
    """

    def __init__(self, session: Session, table: _Table) -> None:
        self._session = session
        self._table = table

    def __missing__(self, key_id: bytes) -> bytes | None:
        derived = keys_of(self._session).derive(MASTER_ROWS, key_id)
        found = self[key_id] = derived if _proves(self._session, self._table, key_id) else None
        return found


def _reader(keys: _RowKeys, table: _Table, part: slice) -> Callable[[Sequence[Any]], Any]:
    """Give what reads one model's row out of a result; made once for a statement, so that it looks nothing up."""
    row_type, sealed_of, at = table.row_type, table.sealed_of, table.row_type._fields.index
    id_at, version_at, key_at, seal_at = at("id"), at("row_version"), at("seal_key_id"), at("seal")

    def read(result: Sequence[Any]) -> Any:
        values = result[part]
        row_id = values[id_at]
        if row_id is None:
            return None
        try:
            key = keys[values[key_at]]
        except KeyUnavailable as unavailable:
            return unavailable
        if key is None:
            return _unproven(table, row_id)
        if not _fits(table, key, row_id, values[version_at], sealed_of(values), values[seal_at]):
            return _broken(table, row_id)
        return row_type._make(values)

    return read


def renewed(session: Session, model: type[Any], row: Any, **changed: Any) -> dict[str, Any]:
    """Give what ``write_renewed`` needs to write a row that ``verified_rows`` gave with some columns changed."""
    own = _sealed_anew(session, model, row, changed)
    return {f"new_{name}": value for name, value in own.items()} | {"row_id": row.id, "verified": row.seal}


def write_renewed(session: Session, model: type[Any], rows: Sequence[dict[str, Any]]) -> None:
    """Write many rows of an untracked table at once, each only while it bears the seal that was verified (M9).

    A tenth of what entities cost. A row that was changed since is left alone: the caller holds what keeps it still.
    """
    if not rows:
        return
    table = _sql_table(model)
    if table.name not in UNTRACKED:
        raise RuntimeError("rows that the audit chain follows are changed through the unit of work only")
    new = [name for name in rows[0] if name.startswith("new_")]
    columns: dict[str, Any] = {name.removeprefix("new_"): bindparam(name) for name in new}
    statement = (
        table.update()
        .where(table.c.id == bindparam("row_id"), table.c.seal == bindparam("verified"))
        .values(columns)
    )
    for start in range(0, len(rows), 1000):
        session.connection().execute(statement, rows[start : start + 1000])


def remove_all(session: Session, model: type[Any], *conditions: Any) -> None:
    """Delete rows of an untracked table at once, whatever they say."""
    table = _sql_table(model)
    if table.name not in UNTRACKED:
        raise RuntimeError("rows that the audit chain follows are deleted through the unit of work only")
    session.connection().execute(table.delete().where(*conditions))


def verified_row(
    session: Session, statement: Select[Any], *models: type[Any], parameters: Mapping[str, Any]
) -> tuple[Any, ...] | None:
    """Run a statement that finds one row of each model at most; ``None`` when it finds nothing.

    See ``verified_rows``. A statement made once, with its values as ``parameters``, costs a fifth of an entity's.
    Two results are ``Unreadable``: the database has lost its unique keys, and an older row stands beside the row
    (attack M10).
    """
    found = list(verified_rows(session, statement, *models, parameters=parameters))
    if len(found) > 1:
        raise Unreadable(f"twice:{_table(models[0]).name}", _table(models[0]).name)
    return found[0] if found else None


def believed(row: Any) -> Any:
    """Return a row that ``verified_rows`` gave; raises the refusal that stands in its place."""
    if isinstance(row, Refusal):
        raise row
    return row


def key_id_of(model: type[Any]) -> Any:
    """Give the column that names the master key of a row's seal."""
    return _sql_table(model).c.seal_key_id


def columns(*models: type[Any]) -> list[Any]:
    """Give all columns of ``models``, in the order that ``verified_rows`` expects."""
    return [column for model in models for column in _sql_table(model).columns]


def insert(session: Session, *rows: Any) -> None:
    """Write new rows now, in this order, sealed and noted; none becomes part of the session.

    What they refer to must be in the database already: what the session has yet to add is not flushed first.
    """
    connection = session.connection()
    for row in rows:
        _seal_now(session, row, 1)
        have, statements = row.__dict__, _statements(type(row))
        connection.execute(statements.insert, {name: have[name] for name in statements.names})


def change(session: Session, model: type[Any], row: Any, **changes: Any) -> Any:
    """Write new values into a row that ``verified_rows`` gave, seal it anew, and return it as it is now.

    Raises ``StaleDataError``, which tries the whole transaction again, where somebody else has changed it since. An
    entity of the same row must not wait in the session: its flush would be stale.
    """
    own = _sealed_anew(session, model, row, changes)
    statement = _statements(model).update_of(tuple(own))
    if session.connection().execute(statement, {**own, **_seen(row)}).rowcount != 1:
        raise StaleDataError
    _note(session, _table(model), row.id, own["row_version"], own["seal"])
    return row._replace(**own)


def remove(session: Session, model: type[Any], row: Any) -> None:
    """Delete a row that ``verified_rows`` gave; raises ``StaleDataError`` as ``change`` does."""
    if session.connection().execute(_statements(model).delete, _seen(row)).rowcount != 1:
        raise StaleDataError
    _note(session, _table(model), row.id, 0, b"")


def _seen(row: Any) -> dict[str, Any]:
    return {"seen_id": row.id, "seen_version": row.row_version}


class _Statements:
    """The statements that write one table's rows, made once: making one costs more than running it."""

    def __init__(self, model: type[Any]) -> None:
        self._table = table = _sql_table(model)
        self.names = [column.key for column in table.columns]
        self.insert: Insert = inserting(table)
        self._seen = (table.c.id == bindparam("seen_id"), table.c.row_version == bindparam("seen_version"))
        self.delete: Delete = delete(table).where(*self._seen)
        self._updates: dict[tuple[str, ...], Update] = {}

    def update_of(self, names: tuple[str, ...]) -> Update:
        found = self._updates.get(names)
        if found is None:
            values: dict[str, Any] = {name: bindparam(name) for name in names}
            found = self._updates[names] = update(self._table).where(*self._seen).values(values)
        return found


_written: dict[type[Any], _Statements] = {}


def _statements(model: type[Any]) -> _Statements:
    found = _written.get(model)
    if found is None:
        found = _written[model] = _Statements(model)
    return found
