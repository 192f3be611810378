"""master keys by id: since when each seals, and what became of it

Revision ID: 0002_keys
Revises: 0002_audit
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002_keys"
down_revision = "0002_audit"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "master_key",
        sa.Column("id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("key_id", sa.LargeBinary(length=8), nullable=False),
        sa.Column("promoted_at", sa.BigInteger(), nullable=False),
        sa.Column("rotating_since", sa.BigInteger(), nullable=True),
        sa.Column("compromised_at", sa.BigInteger(), nullable=True),
        sa.Column("retired_at", sa.BigInteger(), nullable=True),
        sa.Column("row_version", sa.Integer(), nullable=False),
        sa.Column("seal_key_id", sa.LargeBinary(length=8), nullable=False),
        sa.Column("seal", sa.LargeBinary(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_master_key")),
        sa.UniqueConstraint("key_id", name=op.f("uq_master_key_key_id")),
    )


def downgrade() -> None:
    op.drop_table("master_key")
