"""The rows of an archive, each compared with its seal, and the audit chain that says which are the newest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from vault.crypto.audit import decode_touched, entry_hash
from vault.crypto.masterkey import MasterKeys
from vault.crypto.rows import RowSealer, check_row, decode_row
from vault.errors import KeyUnavailable, Missing, StorageError, Unreadable, VaultError
from vault.storage.archive import ArchiveReader

GENESIS = bytes(32)
TRACKED = {
    "user", "user_key", "unlock_method", "contact", "document", "document_version", "part_list", "shared_key_registry",
}  # fmt: skip
"""Tables of which the audit chain names each row's latest version and seal, of those that are read here."""

WRONG = (VaultError, ValueError, TypeError)
"""What a verb raises for a row that is not what the vault writes: refused, or of the wrong type already."""


@dataclass(eq=False)
class Row:
    """A row of the archive. ``problem`` tells why it cannot be believed, where it cannot."""

    table: str
    values: dict[str, Any] = field(repr=False)
    problem: str | None = None

    def __getitem__(self, column: str) -> Any:
        if column not in self.values:
            raise Unreadable(f"{self.table} has no column {column}")
        return self.values[column]

    @property
    def id(self) -> bytes:
        found: bytes = self["id"]
        return found


class Rows:
    """The rows of an archive, each compared with its seal as it is read."""

    def __init__(self, archive: ArchiveReader, master: MasterKeys) -> None:
        self._archive = archive
        self._master = master
        self.unreadable = 0
        schema = archive.about["seal_schema"]
        self._sealers = {
            one["name"]: RowSealer(one["name"], schema, one["sealed"]) for one in archive.about["tables"]
        }

    def where(self, table: str, wanted: Callable[[dict[str, Any]], bool]) -> Iterator[Row]:
        """Give the rows of a table that are wanted; memory holds one at a time."""
        for line in self._archive.rows(table):
            try:
                values = decode_row(line)
            except Unreadable:
                self.unreadable += 1
                continue
            if wanted(values):
                yield Row(table, values, self._problem(table, values))

    def by_id(self, table: str, ids: set[bytes]) -> dict[bytes, Row]:
        return {row.id: row for row in self.where(table, lambda values: values.get("id") in ids)}

    def _problem(self, table: str, values: dict[str, Any]) -> str | None:
        try:
            check_row(self._master, self._sealers[table], values)
        except KeyUnavailable:
            return f"the row in {table} is sealed under a master key that was not given"
        except (Unreadable, KeyError):
            return f"the row in {table} does not bear its seal"
        return None


def read_chain(archive: ArchiveReader, wanted: set[tuple[str, bytes]]) -> tuple[dict[Any, Any], str | None]:
    """Follow the audit chain from its beginning to its head; give what it said last of the wanted rows.

    The second value tells where the chain breaks. Then nothing is known of how new the rows are.
    """
    latest: dict[tuple[str, bytes], tuple[int, bytes]] = {}
    previous, sequence = GENESIS, 0
    try:
        for line in archive.rows("audit_entry"):
            entry, sequence = decode_row(line), sequence + 1
            hashed = _entry_hash(entry)
            if (entry["sequence"], entry["previous_hash"], entry["entry_hash"]) != (
                sequence,
                previous,
                hashed,
            ):
                return {}, f"the audit chain is broken at position {sequence}"
            previous = hashed
            for table, row_id, version, seal in decode_touched(entry["touched"]):  # type: ignore[arg-type]
                if (table, row_id) in wanted:
                    latest[table, row_id] = version, seal
        heads = [decode_row(line) for line in archive.rows("audit_head")]
        if [(head["sequence"], head["entry_hash"]) for head in heads] != [(sequence, previous)]:
            return {}, f"the audit chain ends at position {sequence}, which is not what its head says"
    except (*WRONG, KeyError):
        return {}, f"the audit chain is broken at position {sequence}"
    return latest, None


def _entry_hash(entry: dict[str, Any]) -> bytes:
    fields = [entry[name] for name in ("at", "actor_id", "action", "object_kind", "object_id", "subject_id")]
    fields += [1 if entry["succeeded"] else 0, entry["detail"], entry["request_id"], entry["touched"]]
    return entry_hash(entry["previous_hash"], entry["sequence"], fields)


def why(error: Exception) -> str:
    if isinstance(error, Unreadable):
        return error.reason
    if isinstance(error, Missing):
        return "the blob is missing"
    return str(error) if isinstance(error, StorageError) else "a row holds a value of another kind"


def opens(act: Callable[[], object]) -> bool:
    return not attempt(act)


def attempt(act: Callable[[], object]) -> list[str]:
    """Do something that may refuse; give why it did, or nothing."""
    try:
        act()
    except WRONG as error:
        return [why(error)]
    return []
