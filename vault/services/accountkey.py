"""Exchange an account key: what lies under the old one is sealed anew under the new one, in one transaction.

Nothing is ever half under one and half under the other: there is no entry whose key has to be guessed, and a kill
leaves the old state whole. The long part (a hundred thousand index entries) is done beforehand, without a lock; the
transaction writes what was prepared and does itself only what changed in between.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from vault.crypto.accounts import open_contact, open_private_keys, seal_contact, seal_private_keys
from vault.crypto.grants import open_terms, seal_terms
from vault.crypto.manifests import IndexKey
from vault.crypto.masterkey import MasterKeys
from vault.crypto.randomness import new_secret
from vault.errors import Unreadable
from vault.models import Contact, DocumentIndex, LoginSession, User, UserKey, Work
from vault.services import seals
from vault.services.contacts import verified_public
from vault.services.grants import WAITING, place_of

_INDEX = select(*seals.columns(DocumentIndex))
_SEALS = select(DocumentIndex.__table__.c.id, DocumentIndex.__table__.c.seal)


@dataclass(frozen=True, eq=False)
class KeyExchange:
    """An old and a new account key, and the index entries that are sealed under the new one already."""

    user_id: bytes
    old: bytes = field(repr=False)
    new: bytes = field(repr=False)
    entries: dict[bytes, dict[str, Any]] = field(repr=False)


def prepare(session: Session, user_id: bytes, old: bytes) -> KeyExchange:
    """Make a new account key for a user and seal his index entries under it; nothing is written yet."""
    exchange = KeyExchange(user_id, old, new_secret(), {})
    _move_entries(session, exchange, _INDEX.where(DocumentIndex.reader_id == user_id))
    return exchange


def _move_entries(session: Session, exchange: KeyExchange, statement: Any) -> None:
    """Seal these entries anew. One that does not bear its seal or does not open stays what it is, and refused."""
    old, new = IndexKey(exchange.old), IndexKey(exchange.new)
    for (row,) in seals.verified_rows(session, statement.execution_options(yield_per=1000), DocumentIndex):
        if isinstance(row, seals.Refusal):
            continue
        try:
            moved = old.move(row.sealed_entry, new, document=row.document_id, reader=row.reader_id)
        except Unreadable:
            continue
        exchange.entries[row.id] = seals.renewed(session, DocumentIndex, row, sealed_entry=moved)


def exchange_key(session: Session, master: MasterKeys, user: User, exchange: KeyExchange) -> None:
    """Put the new account key in the place of the old one; every session of the user ends.

    The caller holds the user's row and seals the new key under his unlock methods. Raises ``Unreadable`` when private
    keys or contacts do not open: then nothing may change.
    """
    end_sessions(session, user)
    for key in session.scalars(select(UserKey).where(UserKey.user_id == user.id)):
        _move_private_keys(master, exchange, key)
    for contact in session.scalars(select(Contact).where(Contact.user_id == user.id)):
        bound = {"user": user.id, "other": contact.other_id}
        fingerprint = open_contact(exchange.old, contact.sealed_fingerprint, **bound)
        contact.sealed_fingerprint = seal_contact(exchange.new, fingerprint, **bound)
    session.flush()
    _move_waits(session, exchange)
    _write_entries(session, exchange)


def end_sessions(session: Session, user: User) -> None:
    """End every session; a row that is put back afterwards, and a token, are worth nothing (P7)."""
    user.credential_generation += 1
    user.device_mac = None
    for row in session.scalars(select(LoginSession).where(LoginSession.user_id == user.id)):
        session.delete(row)


def _move_private_keys(master: MasterKeys, exchange: KeyExchange, key: UserKey) -> None:
    if not key.sealed_wrap_private:
        return  # retired: its private halves are gone
    bound: dict[str, Any] = {"user": key.user_id, "key_version": key.version}
    private = open_private_keys(
        exchange.old,
        key.sealed_wrap_private,
        key.sealed_sign_private,
        public=verified_public(master, key),
        **bound,
    )
    key.sealed_wrap_private, key.sealed_sign_private = seal_private_keys(exchange.new, private, **bound)


def _move_waits(session: Session, exchange: KeyExchange) -> None:
    """Seal the terms of the wraps that wait anew; what does not open stays what it is, and refused (W8)."""
    statement = select(*seals.columns(Work)).where(Work.user_id == exchange.user_id, Work.kind == WAITING)
    moved: list[tuple[Any, dict[str, Any]]] = []
    for (row,) in seals.verified_rows(session, statement.with_for_update(), Work):
        if isinstance(row, seals.Refusal):
            continue
        try:
            place = place_of(row)
            terms = open_terms(exchange.old, row.cursor or b"", **place)
        except Unreadable:
            continue
        moved.append((row, {"cursor": seal_terms(exchange.new, terms, **place)}))
    seals.reseal(session, Work, moved)


def _write_entries(session: Session, exchange: KeyExchange) -> None:
    """Write the prepared entries, and those that came or changed since; the user's row keeps them still by now."""
    statement = _SEALS.where(DocumentIndex.__table__.c.reader_id == exchange.user_id)
    late = [
        row_id
        for row_id, seal in session.connection().execute(statement)
        if exchange.entries.get(row_id, {}).get("verified") != seal
    ]
    for start in range(0, len(late), 500):
        _move_entries(session, exchange, _INDEX.where(DocumentIndex.id.in_(late[start : start + 500])))
    seals.write_renewed(session, DocumentIndex, list(exchange.entries.values()))
