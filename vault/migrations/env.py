"""Alembic's environment: the schema is migrated on the application's own engine, inside its context."""

from __future__ import annotations

from alembic import context
from flask import current_app

from vault import models  # noqa: F401  (the tables must be known)
from vault.extensions import db


def run_migrations() -> None:
    """Migrate in one transaction for each revision; SQLite in batch mode."""
    options = current_app.extensions["migrate"].configure_args
    with db.engine.connect() as connection:
        context.configure(
            connection=connection.execution_options(docvault_writing=True),
            target_metadata=db.metadatas[None],
            transaction_per_migration=True,
            **options,
        )
        with context.begin_transaction():
            context.run_migrations()


run_migrations()
