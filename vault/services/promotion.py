"""Which master key may seal: the register of all that ever did, by their ids.

A key enters with the first row that is sealed under it, in the same transaction. So a server that was given a key
too few is told by the register, before it misses a row, and one that still seals with a key that is out of use is
stopped at its next write, whenever it last looked at its configuration.
"""

from __future__ import annotations

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from vault.crypto.masterkey import MasterKeys
from vault.crypto.randomness import new_id
from vault.errors import KeyOver, KeyUnavailable, Unreadable
from vault.models import MasterKey
from vault.services import clock, seals
from vault.services.audit import Event

_ONE = select(*seals.columns(MasterKey)).where(MasterKey.key_id == bindparam("key"))
"""Made once: every writing transaction runs it. A share lock, so that no key retires under somebody who seals."""

_LOCKED = _ONE.with_for_update(read=True)
_ALL = select(*seals.columns(MasterKey))


def admit(session: Session, master: MasterKeys) -> bool:
    """Hold the key that seals until this transaction ends; tell whether the register knows it.

    Raises ``KeyOver`` when it may seal no more, and ``KeyUnavailable`` when the register is under a newer one.
    """
    found = seals.verified_row(session, _LOCKED, MasterKey, parameters={"key": master.key_id})
    if found is None:
        return False
    row = seals.believed(found[0])
    if row.retired_at is not None or row.compromised_at is not None:
        raise KeyOver
    return True


def enter(session: Session, master: MasterKeys) -> Event:
    """Enter the key that seals into the register; return the event that says so. The caller commits."""
    row = MasterKey(id=new_id(), key_id=master.key_id, promoted_at=clock.now())
    session.add(row)
    session.flush()
    return Event("key_promoted", None, "master_key", row.id, detail=master.key_id.hex())


def lacking(session: Session, master: MasterKeys) -> list[bytes]:
    """Name the keys that have sealed rows, are not retired, and are not here: a server with any is behind."""
    known: list[bytes] = []
    for (row,) in seals.verified_rows(session, _ALL, MasterKey):
        if isinstance(row, KeyUnavailable):
            return _unverified(session, master)
        if isinstance(row, Unreadable):
            raise row
        if row.retired_at is None and row.key_id not in master.key_ids:
            known.append(row.key_id)
    return known


def _unverified(session: Session, master: MasterKeys) -> list[bytes]:
    """Read the ids alone where rows are under a key that is not here: they are public, and only named in a message."""
    table = MasterKey.__table__.c
    statement = select(table.key_id, table.seal_key_id, table.retired_at)
    named: set[bytes] = set()
    for key_id, seal_key_id, retired_at in session.connection().execute(statement):
        named |= {seal_key_id} if retired_at is not None else {key_id, seal_key_id}
    return sorted(named - set(master.key_ids))


def is_over(session: Session, key_id: bytes) -> bool:
    """Tell whether what was signed under a key counts no more: it is retired, or known to somebody else."""
    found = seals.verified_row(session, _ONE, MasterKey, parameters={"key": key_id})
    if found is None:
        return False
    row = seals.believed(found[0])
    return row.retired_at is not None or row.compromised_at is not None


def refuse_compromised(session: Session, master: MasterKeys) -> None:
    """Raise ``KeyOver`` where somebody else has the key that seals here: to read what is under it proves nothing."""
    found = seals.verified_row(session, _ONE, MasterKey, parameters={"key": master.key_id})
    if found is not None and seals.believed(found[0]).compromised_at is not None:
        raise KeyOver


def check(session: Session, master: MasterKeys) -> None:
    """Raise ``KeyUnavailable`` when a key is missing here, ``KeyOver`` when the one that seals is out of use."""
    missing = lacking(session, master)
    if missing:
        names = " and ".join(key_id.hex() for key_id in missing)
        raise KeyUnavailable(
            f"This vault has rows under the master key {names}, which is not here. Nothing was touched. "
            "Add it to DOCVAULT_MASTER_KEY_FALLBACKS."
        )
    if is_over(session, master.key_id):
        raise KeyOver(
            f"The master key {master.key_id.hex()} is out of use. Give this server the one that took its place."
        )
