"""Migrations, up and down, with data, on both databases; and a newer schema is refused."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from flask_migrate import downgrade, upgrade
from sqlalchemy import inspect, text

from tests.cast import MASTER_KEY, Vault, settings_for
from vault.app import create_app, migrate_schema
from vault.errors import SchemaTooNew
from vault.extensions import db
from vault.wiring import start_lock


def test_the_models_are_what_the_migrations_make(any_vault: Vault) -> None:
    with any_vault.app.app_context(), db.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, db.metadatas[None]) == []


def test_migrating_a_vault_that_is_current_changes_nothing(any_vault: Vault) -> None:
    document = any_vault.upload("alice", b"kept", share=("bob",))
    with any_vault.app.app_context():
        migrate_schema(any_vault.app)
    assert any_vault.read("bob", document) == b"kept"
    with any_vault.services() as bundle:
        assert bundle.check.run().findings == []


def test_down_and_up_again_with_data(any_vault: Vault) -> None:
    """The first migration's way down removes what it made, rows and all; its way up makes a vault that works."""
    any_vault.upload("alice", b"gone with the tables")
    with any_vault.app.app_context():
        downgrade(revision="base")
        assert set(inspect(db.engine).get_table_names()) == {"alembic_version"}
        upgrade()
        migrate_schema(any_vault.app)
        db.session.remove()
    with any_vault.services() as bundle:
        assert bundle.invitations.setup_pending()
        code = bundle.invitations.make_setup_code()
        assert bundle.accounts.register("dora", code).username == "dora"
        assert bundle.check.run().findings == []


def test_f28_a_newer_schema_is_refused_and_nothing_is_touched(any_vault: Vault) -> None:
    with any_vault.app.app_context():
        with db.engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        with pytest.raises(SchemaTooNew, match="newer release"):
            migrate_schema(any_vault.app)
        with db.engine.connect() as connection:
            assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == "9999"


@pytest.mark.postgresql
@pytest.mark.parametrize("any_vault", ["postgresql"], indirect=True)
def test_whoever_migrates_second_waits_however_long_the_first_takes(any_vault: Vault) -> None:
    """Longer than a lock is waited for elsewhere; and the first holds no transaction that its silence would end."""
    held, enough = threading.Event(), threading.Event()

    def migrate_slowly() -> None:
        with any_vault.app.app_context(), start_lock(any_vault.settings):
            held.set()
            enough.wait(30)

    def migrate_second() -> None:
        with any_vault.app.app_context():
            migrate_schema(any_vault.app)
            db.session.remove()

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(migrate_slowly)
        assert held.wait(10)
        with any_vault.app.app_context(), db.engine.connect() as connection:
            idle = text(
                "SELECT count(*) FROM pg_stat_activity "
                "WHERE datname = current_database() AND state = 'idle in transaction'"
            )
            assert connection.execute(idle).scalar() == 0
        second = threads.submit(migrate_second)
        with pytest.raises(TimeoutError):
            second.result(timeout=5.5)
        enough.set()
        first.result(timeout=10)
        second.result(timeout=30)


def test_a_new_vault_is_made_with_wal_and_full_sync(tmp_path: Path) -> None:
    app = create_app(settings_for(tmp_path, master_key=MASTER_KEY))
    with app.app_context():
        migrate_schema(app)
        with db.engine.connect() as connection:
            found = [
                connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys", "secure_delete", "busy_timeout")
            ]
        db.engine.dispose()
    assert found == ["wal", 2, 1, 1, 5000]
