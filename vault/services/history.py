"""What happened, for the people it concerns: one's own security log, and the owner's timeline of a document.

Both read the audit chain. Every entry shown bears its seal; the order is that of the chain, whatever a clock said
(F15). That no entry was taken out is proved for the whole chain alone, by ``docvault audit verify``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, select
from sqlalchemy.orm import Session

from vault.errors import BadInput, Unreadable
from vault.models import AuditEntry, DocumentIndex, SharedKeyRegistry
from vault.services import clock, seals
from vault.services.access import Gate, Need
from vault.services.contacts import Contacts
from vault.services.transactions import Transactions
from vault.services.unlocked import UnlockedAccount

LARGEST_PAGE = 1000
READINGS_COUNTED = 10_000
READING = ("download", "download_cut", "integrity_failure", "denied")
"""What becomes of a document without a change; of a busy document there are too many to read them all."""
BOOKKEEPING = ("contact",)
"""What the vault does for somebody by itself; it says nothing that he would want to know."""
ENDINGS = frozenset({"revoke", "leave", "share_expired", "share_waits"})
"""After which somebody reads a document no more; who waits for a confirmed key begins anew with a share."""
DETAILED = frozenset({"register", "account_change", "download_cut", "share", "share_expired", "exposed_done"})
"""Actions whose detail people may see. Why something did not open is for the operator alone."""
UNBELIEVABLE = "unbelievable"
"""The action that stands for an entry whose seal does not fit."""


@dataclass(frozen=True)
class Happening:
    """One entry of the chain, with the names of whom it is about as they are now, and of documents one may open."""

    sequence: int
    at: datetime | None
    action: str
    succeeded: bool = True
    detail: str | None = None
    actor: str | None = None
    by_self: bool = False
    subject: str | None = None
    about_self: bool = False
    object_kind: str | None = None
    object_id: bytes | None = None
    person: str | None = None
    """The user name where a user is the object."""
    document: str | None = None
    """The document's name, where it is one's own or one may read it."""


@dataclass(frozen=True)
class HappeningPage:
    items: list[Happening]
    next: str | None


@dataclass(frozen=True)
class Reading:
    """From when to when somebody could read a document, how that ended, and what he made of it."""

    username: str
    is_owner: bool
    is_self: bool
    since: datetime
    until: datetime | None
    ended_by: str | None
    """"revoke", "leave", "share_expired", "share_waits"; ``None`` while it lasts."""
    expires_at: datetime | None = None
    downloads: int = 0
    last_download_at: datetime | None = None
    cut: int = 0


class History:
    """Show entries of the audit chain to the people they concern."""

    def __init__(self, transactions: Transactions, gate: Gate, contacts: Contacts) -> None:
        self._transactions = transactions
        self._gate = gate
        self._contacts = contacts

    def log(self, account: UnlockedAccount, *, limit: int = 50, after: str | None = None) -> HappeningPage:
        """List what the account did, and what others did to it, newest first."""
        me = account.user_id
        concerned = (
            AuditEntry.actor_id == me,
            AuditEntry.subject_id == me,
            and_(AuditEntry.object_id == me, AuditEntry.object_kind == "user"),
        )
        return self._page(account, concerned, limit, after)

    def timeline(
        self, account: UnlockedAccount, document_id: bytes, *, limit: int = 50, after: str | None = None
    ) -> HappeningPage:
        """List what happened to a document, newest first; for its owner, see ``Gate.find``."""
        with self._transactions.reading(account.user_id, ("document", document_id)) as session:
            self._gate.find(session, account, document_id, Need.OWN)
        return self._page(account, (_about(document_id),), limit, after)

    def _page(
        self,
        account: UnlockedAccount,
        concerned: Iterable[ColumnElement[bool]],
        limit: int,
        after: str | None,
    ) -> HappeningPage:
        """Read one page: each condition walks an index of its own, and the newest of all are kept."""
        limit, before = max(1, min(limit, LARGEST_PAGE)), _cursor(after)
        found: dict[int, Any] = {}
        with self._transactions.reading(account.user_id) as session:
            for condition in concerned:
                shown = and_(condition, AuditEntry.action.not_in(BOOKKEEPING))
                if before is not None:
                    shown = and_(shown, AuditEntry.sequence < before)
                found.update(_entries(session, shown, limit + 1))
            newest = sorted(found, reverse=True)
            items = self._named(session, account, {number: found[number] for number in newest[:limit]})
        return HappeningPage(items, str(newest[limit - 1]) if len(newest) > limit else None)

    def _named(self, session: Session, account: UnlockedAccount, rows: dict[int, Any]) -> list[Happening]:
        sound = [row for row in rows.values() if not isinstance(row, seals.Refusal)]
        people = {row.actor_id for row in sound} | {row.subject_id for row in sound}
        people |= {row.object_id for row in sound if row.object_kind == "user"}
        names = self._contacts.usernames(session, people - {None})
        documents = _document_names(
            session, account, {row.object_id for row in sound if row.object_kind == "document"} - {None}
        )
        return [_happening(number, row, account, names, documents) for number, row in rows.items()]

    def readings(self, account: UnlockedAccount, document_id: bytes) -> list[Reading]:
        """Tell who could read a document, from when to when, and how often he downloaded it; for its owner.

        The present grants decide who can still read; the chain tells the past. Of downloads the newest ten thousand
        are counted.
        """
        with self._transactions.reading(account.user_id, ("document", document_id)) as session:
            held = self._gate.find(session, account, document_id, Need.OWN)
            changes = _entries(session, and_(_about(document_id), AuditEntry.action.not_in(READING)), None)
            reads = _entries(
                session,
                and_(_about(document_id), AuditEntry.action.in_(("download", "download_cut"))),
                READINGS_COUNTED,
            )
            grants = session.scalars(
                select(SharedKeyRegistry).where(SharedKeyRegistry.version_id == held.document.version_id)
            ).all()
            live = {grant.reader_id: (grant.since, grant.expires_at) for grant in grants}
            rows = [row for _, row in sorted((changes | reads).items()) if not isinstance(row, seals.Refusal)]
            periods = _periods(rows, live, held.document.owner_id, held.document.created_at)
            names = self._contacts.usernames(session, {period.user_id for period in periods})
        return [
            Reading(
                names.get(period.user_id, "?"), period.user_id == account.user_id,
                period.user_id == account.user_id, period.since, period.until, period.ended_by,
                period.expires_at, period.downloads, period.last_download_at, period.cut,
            )
            for period in periods
        ]  # fmt: skip


@dataclass
class _Period:
    user_id: bytes
    since: datetime
    until: datetime | None = None
    ended_by: str | None = None
    expires_at: datetime | None = None
    downloads: int = 0
    last_download_at: datetime | None = None
    cut: int = 0


def _periods(
    rows: list[Any],
    live: dict[bytes, tuple[datetime, datetime | None]],
    owner_id: bytes,
    created_at: datetime,
) -> list[_Period]:
    """Fold the entries of a document, in their order, into periods of reading, oldest first."""
    periods = [_Period(owner_id, created_at)]
    open_now = {owner_id: periods[0]}
    latest = dict(open_now)
    for row in rows:
        person = row.subject_id or row.actor_id
        if row.action == "share" and person not in open_now:
            open_now[person] = latest[person] = _Period(person, row.at)
            periods.append(latest[person])
        elif row.action in ENDINGS and person in open_now:
            period = open_now.pop(person)
            period.until, period.ended_by = _moment(row) or row.at, row.action
        elif row.action == "download" and person in latest:
            latest[person].downloads += 1
            latest[person].last_download_at = row.at
        elif row.action == "download_cut" and person in latest:
            latest[person].cut += 1
    for person, (since, expires_at) in live.items():
        if person not in open_now:
            open_now[person] = _Period(person, since)
            periods.append(open_now[person])
        open_now[person].expires_at = expires_at
        if expires_at is not None and expires_at <= clock.now():
            open_now[person].until, open_now[person].ended_by = expires_at, "share_expired"
    return [period for period in periods if period.until is not None or period.user_id in live]


def _moment(row: Any) -> datetime | None:
    """Read when a share really ended: its entry is written by the next sweep, up to an hour later."""
    if row.action != "share_expired" or row.detail is None:
        return None
    try:
        return datetime.fromisoformat(row.detail)
    except ValueError:
        return None


def _about(document_id: bytes) -> ColumnElement[bool]:
    return and_(AuditEntry.object_id == document_id, AuditEntry.object_kind == "document")


def _entries(session: Session, condition: ColumnElement[bool], limit: int | None) -> dict[int, Any]:
    """Load the newest entries that fit, verified, by their number; a refusal stands for one that is not sound."""
    statement = (
        select(AuditEntry.__table__.c.sequence, *seals.columns(AuditEntry))
        .where(condition)
        .order_by(AuditEntry.__table__.c.sequence.desc())
        .limit(limit)
    )
    return dict(seals.verified_rows(session, statement, AuditEntry, beside=1))


def _document_names(session: Session, account: UnlockedAccount, ids: set[bytes]) -> dict[bytes, str]:
    """Name documents as the account remembers them; what it has forgotten, or cannot open, is left out."""
    statement = select(*seals.columns(DocumentIndex)).where(
        DocumentIndex.reader_id == account.user_id, DocumentIndex.document_id.in_(ids)
    )
    names: dict[bytes, str] = {}
    for (row,) in seals.verified_rows(session, statement, DocumentIndex):
        if isinstance(row, seals.Refusal):
            continue
        try:
            entry = account.index_key.open(row.sealed_entry, document=row.document_id, reader=account.user_id)
        except Unreadable:
            continue
        names[row.document_id] = entry.name
    return names


def _happening(
    number: int, row: Any, account: UnlockedAccount, names: dict[bytes, str], documents: dict[bytes, str]
) -> Happening:
    if isinstance(row, seals.Refusal):
        return Happening(number, None, UNBELIEVABLE, succeeded=False)
    shown = Happening(
        number,
        row.at,
        row.action,
        row.succeeded,
        row.detail if row.action in DETAILED else None,
        names.get(row.actor_id, "?") if row.actor_id else None,
        row.actor_id == account.user_id,
        names.get(row.subject_id, "?") if row.subject_id else None,
        row.subject_id == account.user_id,
        row.object_kind,
        row.object_id,
    )
    if row.object_kind == "user":
        return replace(
            shown, person=names.get(row.object_id, "?"), about_self=row.object_id == account.user_id
        )
    return replace(shown, document=documents.get(row.object_id)) if row.object_kind == "document" else shown


def _cursor(after: str | None) -> int | None:
    if after is None:
        return None
    if not after.isdecimal() or not after.isascii() or len(after) > 18:
        raise BadInput("after", "This page of the list does not exist.")
    return int(after)
