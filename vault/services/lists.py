"""Lists of documents: sorted, searched, a page at a time, every name decrypted from the account's own index."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from heapq import nlargest, nsmallest
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Select, and_, or_, select, type_coerce
from sqlalchemy.orm import Session

from vault.crypto.manifests import IndexEntry
from vault.errors import BadInput, KeyUnavailable, Unreadable, VaultError
from vault.models import Document, DocumentIndex, SharedKeyRegistry
from vault.services import clock, names, promotion, seals
from vault.services.access import OWNER, READ, Gate, Need, OpenVersion
from vault.services.contacts import Contacts
from vault.services.documents import DocumentRow, row_of
from vault.services.transactions import Transactions, give_back
from vault.services.unlocked import UnlockedAccount

SCOPES = {"owned": (OWNER,), "shared": (READ,), "all": (OWNER, READ)}
SORTS = ("date", "name", "size", "owner", "type")
LARGEST_PAGE = 1000
OPENED_AT_ONCE = 1000
NOTHING_KNOWN = IndexEntry(bytes(16), bytes(32), 0, 0, 0, "", (), "", 0)


@dataclass(frozen=True)
class Page:
    items: list[DocumentRow]
    next: str | None


_Place = tuple[int, bytes]
"""Where a document stands in a list by date: when its grant came, then the grant's id."""


class _Line(NamedTuple):
    """The three verified rows of a document in a list."""

    document: Any
    grant: Any
    index: Any


class Lists:
    """List documents."""

    def __init__(self, transactions: Transactions, gate: Gate, contacts: Contacts) -> None:
        self._transactions = transactions
        self._gate = gate
        self._contacts = contacts

    def page(
        self,
        account: UnlockedAccount,
        *,
        scope: str = "all",
        limit: int = 50,
        after: str | None = None,
        query: str | None = None,
        sort: str = "-date",
    ) -> Page:
        """List documents, a page at a time, names decrypted from the account's own index.

        By date the database walks an index; by anything else, and for a search, every index entry of the account is
        opened, because the database knows no name. ``after`` is the ``next`` of the page before.
        """
        key, descending = sort.removeprefix("-"), sort.startswith("-")
        if scope not in SCOPES or key not in SORTS:
            raise BadInput("sort" if scope in SCOPES else "scope", "This list does not exist.")
        limit = max(1, min(limit, LARGEST_PAGE))
        opened: list[OpenVersion] = []
        with self._transactions.reading(account.user_id) as session:
            if key == "date" and not query:
                lines, cursor = self._by_date(session, account, scope, limit, after, descending)
            else:
                lines, cursor = self._by_entry(
                    session, account, scope, limit, after, query, key, descending, opened
                )
            rows = self._rows(session, account, lines, opened)
        self._gate.remember_soon(self._transactions, account, opened)
        return Page(rows, cursor)

    def _lines(self, account: UnlockedAccount, scope: str) -> Select[Any]:
        return (
            select(*seals.columns(Document, SharedKeyRegistry, DocumentIndex))
            .select_from(SharedKeyRegistry)
            .join(
                Document,
                # By the primary key; the version picks the grant on the current one.
                and_(
                    Document.id == SharedKeyRegistry.document_id,
                    Document.version_id == SharedKeyRegistry.version_id,
                ),
            )
            .outerjoin(
                DocumentIndex,
                and_(DocumentIndex.document_id == Document.id, DocumentIndex.reader_id == account.user_id),
            )
            .where(*self._mine(account, scope))
        )

    def _mine(self, account: UnlockedAccount, scope: str) -> list[Any]:
        return [
            SharedKeyRegistry.reader_id == account.user_id,
            SharedKeyRegistry.permission.in_(SCOPES[scope]),
            or_(SharedKeyRegistry.expires_at.is_(None), SharedKeyRegistry.expires_at > clock.now()),
        ]

    def _fetch(self, session: Session, statement: Select[Any]) -> list[_Line]:
        rows = seals.verified_rows(session, statement, Document, SharedKeyRegistry, DocumentIndex)
        return [_Line(*row) for row in rows]

    def _by_date(
        self,
        session: Session,
        account: UnlockedAccount,
        scope: str,
        limit: int,
        after: str | None,
        descending: bool,
    ) -> tuple[list[_Line], str | None]:
        came, grant_id = SharedKeyRegistry.came_at, SharedKeyRegistry.id
        lines: list[_Line] = []
        for permission in SCOPES[scope]:
            statement = self._lines(account, scope).where(SharedKeyRegistry.permission == permission)
            if after:
                time, last = _date_cursor(after)
                beyond = came < time if descending else came > time
                tie = and_(came == time, grant_id < last if descending else grant_id > last)
                statement = statement.where(or_(beyond, tie))
            order = (came.desc(), grant_id.desc()) if descending else (came, grant_id)
            lines += self._fetch(session, statement.order_by(*order).limit(limit + 1))
        if len(SCOPES[scope]) > 1:
            lines.sort(key=lambda line: _date_key(line), reverse=descending)
        more = len(lines) > limit
        lines = lines[:limit]
        return lines, _date_text(lines[-1]) if more else None

    def _by_entry(
        self,
        session: Session,
        account: UnlockedAccount,
        scope: str,
        limit: int,
        after: str | None,
        query: str | None,
        key: str,
        descending: bool,
        opened: list[OpenVersion],
    ) -> tuple[list[_Line], str | None]:
        order, words = _KEYS[key], names.words_of(query)
        wanted: list[tuple[Any, bytes]] = []
        unknown: list[tuple[bytes, _Place]] = []
        for document, place, entry in self._known(session, account, scope):
            if entry is None:
                unknown.append((document, place))
            elif entry is NOTHING_KNOWN or names.matches(entry, words):
                wanted.append((order(entry, place), document))
        for number, (document, place) in enumerate(unknown):
            is_turn = number < OPENED_AT_ONCE
            entry = self._entry_of_unknown(session, account, document, opened) if is_turn else NOTHING_KNOWN
            if entry is NOTHING_KNOWN or names.matches(entry, words):
                wanted.append((order(entry, place), document))
        if key == "owner":
            owners = self._contacts.usernames(session, {owner for owner, _ in wanted})
            wanted = [(owners.get(owner, ""), document) for owner, document in wanted]
        start = _offset_cursor(after)
        first = nlargest if descending else nsmallest
        chosen = [document for _, document in first(start + limit, wanted)[start:]]
        by_id = self._lines_of(session, account, scope, chosen)
        lines = [by_id[document] for document in chosen if document in by_id]
        return lines, f"o{start + limit}" if len(wanted) > start + limit else None

    def _lines_of(
        self, session: Session, account: UnlockedAccount, scope: str, documents: Sequence[bytes]
    ) -> dict[bytes, _Line]:
        found: dict[bytes, _Line] = {}
        for start in range(0, len(documents), 500):
            statement = self._lines(account, scope).where(Document.id.in_(documents[start : start + 500]))
            for line in self._fetch(session, statement):
                document_id = _document_id(line)
                if document_id is not None:
                    found[document_id] = line
        return found

    def _known(
        self, session: Session, account: UnlockedAccount, scope: str
    ) -> Iterator[tuple[bytes, _Place, IndexEntry | None]]:
        """Go through every document that the account may read, with its place by date and its index entry.

        ``None`` stands for an entry that is not there yet, ``NOTHING_KNOWN`` for one that does not open: such a
        document is shown as unreadable, never left out (M4). An entry is sealed under the account key for this document
        and reader, so it needs no second seal to be believed; the rows of what is shown are verified afterwards.
        """
        statement = self._lines(account, scope).with_only_columns(
            Document.id,
            type_coerce(SharedKeyRegistry.came_at, BigInteger),
            SharedKeyRegistry.id,
            DocumentIndex.sealed_entry,
        )
        open_entry, reader = account.index_key.open, account.user_id
        for document, came_at, grant, sealed in session.connection().execute(statement):
            entry: IndexEntry | None = None
            if sealed is not None:
                try:
                    entry = open_entry(sealed, document=document, reader=reader)
                except Unreadable:
                    entry = NOTHING_KNOWN
            yield document, (came_at, grant), entry

    def _entry_of_unknown(
        self, session: Session, account: UnlockedAccount, document_id: bytes, opened: list[OpenVersion]
    ) -> IndexEntry:
        """Open a document that came since the last list, so that a search and a sort by name know it."""
        try:
            version = self._open_line(session, account, document_id)
        except VaultError:
            return NOTHING_KNOWN
        opened.append(version)
        return version.entry

    def _open_line(self, session: Session, account: UnlockedAccount, document_id: bytes) -> OpenVersion:
        held = self._gate.find(session, account, document_id, Need.READ)
        return self._gate.open(session, account, held)

    def _rows(
        self, session: Session, account: UnlockedAccount, lines: list[_Line], opened: list[OpenVersion]
    ) -> list[DocumentRow]:
        fresh = {version.document_id: version.entry for version in opened}
        owners = {line.document.owner_id for line in lines if not isinstance(line.document, seals.Refusal)}
        usernames = {account.user_id: account.username}
        if owners - usernames.keys():
            usernames |= self._contacts.usernames(session, owners)
        rows: list[DocumentRow] = []
        failures: list[tuple[Unreadable, bytes | None]] = []
        for line in lines:
            try:
                rows.append(self._row(session, account, line, usernames, fresh, opened))
            except VaultError as error:
                if isinstance(error, KeyUnavailable) and promotion.lacking(session, seals.keys_of(session)):
                    raise  # this server was given a key too few: nothing here is damaged
                if isinstance(error, Unreadable):
                    failures.append((error, _document_id(line)))
                row = _unreadable_row(line, account, usernames)
                rows += [row] if row else []
        for failure, document_id in failures[:1]:
            give_back(session)
            about = ("document", document_id) if document_id else None
            self._transactions.record_unreadable(failure, account.user_id, about)
        return rows

    def _row(
        self,
        session: Session,
        account: UnlockedAccount,
        line: _Line,
        usernames: dict[bytes, str],
        fresh: dict[bytes, IndexEntry],
        opened: list[OpenVersion],
    ) -> DocumentRow:
        for row in (line.document, line.grant, line.index):
            if isinstance(row, seals.Refusal):
                raise row
        document, grant, index = line.document, line.grant, line.index
        if grant.document_id != document.id:
            raise Unreadable("list:grant", "document", document.id)
        entry = fresh.get(document.id)
        if entry is None and index is not None:
            entry = account.index_key.open(index.sealed_entry, document=document.id, reader=account.user_id)
            entry = self._current(document, entry)
        if entry is None:
            version = self._open_line(session, account, document.id)
            opened.append(version)
            entry = version.entry
        return row_of(document, grant, entry, account, usernames)

    def _current(self, document: Any, entry: IndexEntry) -> IndexEntry | None:
        """Return the entry when it is as new as the document's row, ``None`` when the row is newer."""
        if entry.owner != document.owner_id:
            raise Unreadable("memory:owner", "document", document.id)
        shown = (document.number, document.revision)
        if shown < (entry.number, entry.revision) or document.epoch < entry.epoch:
            raise Unreadable("memory:rollback", "document", document.id)
        if shown == (entry.number, entry.revision) and document.epoch == entry.epoch:
            return entry
        return None


def _unreadable_row(line: _Line, account: UnlockedAccount, usernames: dict[bytes, str]) -> DocumentRow | None:
    """Show that something is there and does not open; ``None`` where not even the document's row can be believed."""
    document, grant = line.document, line.grant
    if isinstance(document, seals.Refusal) or isinstance(grant, seals.Refusal):
        return None
    row = row_of(document, grant, NOTHING_KNOWN, account, usernames)
    return replace(row, readable=False, is_new=False)


def _document_id(line: _Line) -> bytes | None:
    document = line.document
    return getattr(document, "object_id", None) if isinstance(document, seals.Refusal) else document.id


def _date_key(line: _Line) -> tuple[datetime, bytes]:
    grant = line.grant
    if isinstance(grant, seals.Refusal):
        return datetime.min.replace(tzinfo=clock.now().tzinfo), b""
    return grant.came_at, grant.id


def _date_text(line: _Line) -> str:
    time, grant_id = _date_key(line)
    return f"d{round(time.timestamp() * 1_000_000)}-{grant_id.hex()}"


def _date_cursor(text: str) -> tuple[datetime, bytes]:
    try:
        time, _, grant_id = text.removeprefix("d").partition("-")
        moment = datetime.fromtimestamp(int(time) / 1_000_000, tz=clock.now().tzinfo)
        return moment, bytes.fromhex(grant_id)
    except (ValueError, OverflowError, OSError):
        raise BadInput("after", "This page does not exist. Begin with the first one.") from None


def _offset_cursor(text: str | None) -> int:
    if not text:
        return 0
    if not (text.startswith("o") and text[1:].isdecimal() and len(text) < 12):
        raise BadInput("after", "This page does not exist. Begin with the first one.")
    return int(text[1:])


_KEYS: dict[str, Callable[[IndexEntry, _Place], Any]] = {
    "date": lambda entry, place: place,
    "name": lambda entry, place: names.sort_key(entry.name),
    "size": lambda entry, place: entry.size,
    "type": lambda entry, place: entry.media_type,
    "owner": lambda entry, place: entry.owner,
}
