"""notices

Revision ID: 0002_pairs
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0002_pairs'
down_revision = '0002_keys'
branch_labels = None
depends_on = None


def upgrade() -> None:
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
