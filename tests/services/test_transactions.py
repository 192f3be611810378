"""Transactions give connections back, also those that broke meanwhile."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine, select, text

from tests.cast import Vault
from vault.errors import Busy, NotFound
from vault.models import User

END_ALL_OTHERS = text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


def cut_connections(vault: Vault) -> None:
    """End every connection to the vault's database but this one, as a restart of the server does."""
    engine = create_engine(vault.settings.database)
    with engine.connect() as connection:
        connection.execute(END_ALL_OTHERS)
    engine.dispose()


@pytest.mark.postgresql
@pytest.mark.parametrize("any_vault", ["postgresql"], indirect=True)
def test_f11_a_connection_that_dies_after_the_last_question_loses_no_answer(any_vault: Vault) -> None:
    """What was read was read; that the rollback finds nobody there is no error of the request."""
    with any_vault.services() as bundle:
        with bundle.transactions.reading() as session:
            found = session.scalars(select(User).where(User.username == "alice")).one().username
            cut_connections(any_vault)
        assert found == "alice"
        with bundle.transactions.reading() as session:
            assert session.scalars(select(User)).all(), "the next one has a connection that works"


@pytest.mark.postgresql
@pytest.mark.parametrize("any_vault", ["postgresql"], indirect=True)
def test_f11_a_refusal_is_not_lost_with_the_connection(any_vault: Vault) -> None:
    with any_vault.services() as bundle, pytest.raises(NotFound), bundle.transactions.reading() as session:
        session.scalars(select(User)).all()
        cut_connections(any_vault)
        raise NotFound


@pytest.mark.postgresql
@pytest.mark.parametrize("any_vault", ["postgresql"], indirect=True)
def test_f11_a_connection_that_dies_before_a_question_is_busy(any_vault: Vault) -> None:
    with any_vault.services() as bundle, pytest.raises(Busy), bundle.transactions.reading() as session:
        session.scalars(select(User)).all()
        cut_connections(any_vault)
        session.expire_all()
        session.scalars(select(User)).all()
