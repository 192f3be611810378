"""Rows that are written past the unit of work bear seals, are named in the audit chain, and never launder an edit."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import StaleDataError

from tests.cast import Vault
from vault.crypto.randomness import new_id
from vault.errors import Conflict, Unreadable
from vault.models import Invitation, Lease
from vault.services import audit, clock, seals
from vault.services.audit import Event

INVITATIONS = select(*seals.columns(Invitation))


def invitation() -> Invitation:
    return Invitation(
        id=new_id(),
        kind="invitation",
        username=None,
        code_mac=new_id() * 2,
        code_key_id=bytes(8),
        created_by=None,
        created_at=clock.now(),
        expires_at=clock.now(),
    )


def the_one(session: Session) -> Any:
    found = seals.verified_row(session, INVITATIONS, Invitation, parameters={})
    return seals.believed(found[0]) if found else None


def written(any_vault: Vault) -> bytes:
    """Write an invitation and give its id."""
    row = invitation()
    with any_vault.services() as bundle:

        def work(session: Session) -> None:
            seals.insert(session, row)
            bundle.transactions.record(Event("invite", object_kind="invitation", object_id=row.id))

        bundle.transactions.writing(work)
    return row.id


def change(vault: Vault, **changes: Any) -> Any:
    with vault.services() as bundle:

        def work(session: Session) -> Any:
            changed = seals.change(session, Invitation, the_one(session), **changes)
            bundle.transactions.record(Event("invite", object_kind="invitation", object_id=changed.id))
            return changed

        return bundle.transactions.writing(work)


def test_rows_written_changed_and_removed_bear_seals_and_stand_in_the_chain(any_vault: Vault) -> None:
    row_id = written(any_vault)
    changed = change(any_vault, username="bob")
    with any_vault.services() as bundle:
        with bundle.transactions.reading() as session:
            assert the_one(session) == changed
            entity = session.scalars(select(Invitation)).one()
            assert (entity.username, entity.row_version) == ("bob", 2)
            assert audit.latest_versions(session)["invitation", row_id] == (2, changed.seal)

        def work(session: Session) -> None:
            seals.remove(session, Invitation, the_one(session))
            bundle.transactions.record(Event("withdraw", object_kind="invitation", object_id=row_id))

        bundle.transactions.writing(work)
        with bundle.transactions.reading() as session:
            assert the_one(session) is None
            assert ("invitation", row_id) not in audit.latest_versions(session)
        assert bundle.check.run().whole


def test_m9_an_edited_row_is_refused_before_it_can_be_sealed_anew(vault: Vault) -> None:
    written(vault)
    with vault.database() as database:
        database.execute("UPDATE invitation SET username = 'mallory'")
    with pytest.raises(Unreadable):
        change(vault, expires_at=clock.now())


def test_m9_an_edit_between_the_look_and_the_change_is_not_sealed(vault: Vault) -> None:
    """The seal covers what was verified: a column edited meanwhile does not fit it."""
    written(vault)
    with vault.services() as bundle:

        def work(session: Session) -> None:
            seen = the_one(session)
            session.connection().execute(text("UPDATE invitation SET username = 'mallory'"))
            seals.change(session, Invitation, seen, expires_at=clock.now())
            bundle.transactions.record(Event("invite"))

        bundle.transactions.writing(work)
        with pytest.raises(Unreadable), bundle.transactions.reading() as session:
            the_one(session)


@pytest.mark.parametrize("write", [seals.change, seals.remove])
def test_a_row_that_somebody_else_changed_is_stale(vault: Vault, write: Any) -> None:
    written(vault)
    with vault.services() as bundle:
        with bundle.transactions.reading() as session:
            old = the_one(session)
        change(vault, username="bob")
        tries = []

        def work(session: Session) -> None:
            tries.append(1)
            with pytest.raises(StaleDataError):
                write(session, Invitation, old)
            raise StaleDataError

        with pytest.raises(Conflict):
            bundle.transactions.writing(work)
        assert len(tries) > 1, "the whole is tried again, with what is there now"


def test_an_untracked_row_is_not_named_in_the_chain(vault: Vault) -> None:
    with vault.services() as bundle:

        def work(session: Session) -> int:
            seals.insert(session, Lease(id=new_id(), holder=new_id(), expires_at=clock.now(), swept_at=None))
            return len(seals.touched(session))

        assert bundle.transactions.writing(work) == 0
