"""Transactions give connections back, also those that broke meanwhile; those that write wait in turn."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from sqlalchemy import create_engine, select, text

from tests.cast import Vault
from vault.errors import Busy, NotFound
from vault.models import User
from vault.services import transactions

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


def nothing(session: Any) -> str:
    return "written"


@contextmanager
def writing_elsewhere(vault: Vault) -> Iterator[sqlite3.Connection]:
    """Another process holds SQLite's one place for a writer."""
    path = vault.instance / "vault.sqlite3"
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other


def test_a_writer_begins_as_soon_as_another_process_has_ended(vault: Vault) -> None:
    with writing_elsewhere(vault) as other, vault.services() as bundle:
        ended: list[float] = []

        def end() -> None:
            other.execute("ROLLBACK")
            ended.append(time.monotonic())

        threading.Timer(0.5, end).start()
        assert bundle.transactions.writing(nothing) == "written"
        assert ended, "it waited"


def test_whoever_waits_too_long_for_another_process_is_told_to_come_again(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vault.wiring.BUSY_TIMEOUT_MS", 50)
    with writing_elsewhere(vault), vault.services() as bundle:
        with pytest.raises(Busy):
            bundle.transactions.writing(nothing)
        with bundle.transactions.reading() as session:
            assert session.scalars(select(User)).all(), "reading waits for nobody"
    with vault.services() as bundle:
        assert bundle.transactions.writing(nothing) == "written"


def test_writers_of_one_process_take_turns_and_wait_no_longer_than_that(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_end, order = threading.Event(), threading.Event(), []

    def first(session: Any) -> None:
        begun.set()
        assert may_end.wait(20)
        order.append("first")

    def in_another_thread() -> None:
        with vault.services() as bundle:
            bundle.transactions.writing(first)

    holder = threading.Thread(target=in_another_thread)
    holder.start()
    assert begun.wait(20)
    with vault.services() as bundle:
        with monkeypatch.context() as patch, pytest.raises(Busy):
            patch.setattr(transactions, "TURN_SECONDS", 0.05)
            bundle.transactions.writing(nothing)
        threading.Timer(0.2, may_end.set).start()
        bundle.transactions.writing(lambda session: order.append("second"))
    holder.join()
    assert order == ["first", "second"]
