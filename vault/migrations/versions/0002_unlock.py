"""unlock methods without a passphrase, and notices

Revision ID: 0002_unlock
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0002_unlock'
down_revision = '0001'
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
    op.create_table('notice',
    sa.Column('id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('user_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('kind', sa.String(length=24), nullable=False),
    sa.Column('other_id', sa.LargeBinary(length=16), nullable=True),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.Column('row_version', sa.Integer(), nullable=False),
    sa.Column('seal_key_id', sa.LargeBinary(length=8), nullable=False),
    sa.Column('seal', sa.LargeBinary(length=32), nullable=False),
    sa.ForeignKeyConstraint(['other_id'], ['user.id'], name=op.f('fk_notice_other_id_user')),
    sa.ForeignKeyConstraint(['user_id'], ['user.id'], name=op.f('fk_notice_user_id_user')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_notice'))
    )
    with op.batch_alter_table('notice', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_notice_user_id'), ['user_id'], unique=False)


def downgrade() -> None:
    with op.batch_alter_table('notice', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_notice_user_id'))
    op.drop_table('notice')
    # The older schema has no place for a method without Argon2id's parameters: codes are made anew after the next way up.
    op.execute("DELETE FROM unlock_method WHERE kind = 'recovery'")
    with op.batch_alter_table('unlock_method', schema=None) as batch_op:
        for name, kind in ABSENT_WITHOUT_ARGON2ID:
            batch_op.alter_column(name, existing_type=kind, nullable=False)
