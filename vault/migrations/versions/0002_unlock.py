"""unlock methods without Argon2id

Revision ID: 0002_unlock
Revises: 0002_rekey
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0002_unlock'
down_revision = '0002_rekey'
branch_labels = None
depends_on = None

ABSENT_WITHOUT_ARGON2ID = (
    ('memory_kib', sa.Integer()),
    ('iterations', sa.Integer()),
    ('lanes', sa.Integer()),
    ('salt', sa.LargeBinary(length=16)),
)


def upgrade() -> None:
    with op.batch_alter_table('unlock_method', schema=None) as batch_op:
        for name, kind in ABSENT_WITHOUT_ARGON2ID:
            batch_op.alter_column(name, existing_type=kind, nullable=True)


def downgrade() -> None:
    # The older schema has no place for a method without Argon2id's parameters: codes are made anew after the next way up.
    op.execute("DELETE FROM unlock_method WHERE kind = 'recovery'")
    with op.batch_alter_table('unlock_method', schema=None) as batch_op:
        for name, kind in ABSENT_WITHOUT_ARGON2ID:
            batch_op.alter_column(name, existing_type=kind, nullable=False)
