"""the result of the last deep check

Revision ID: 0002_metrics
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0002_metrics'
down_revision = '0002_unlock'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('check_result',
    sa.Column('id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('began_at', sa.BigInteger(), nullable=False),
    sa.Column('ended_at', sa.BigInteger(), nullable=False),
    sa.Column('rows', sa.BigInteger(), nullable=False),
    sa.Column('blobs', sa.BigInteger(), nullable=False),
    sa.Column('read_bytes', sa.BigInteger(), nullable=False),
    sa.Column('findings', sa.BigInteger(), nullable=False),
    sa.Column('row_version', sa.Integer(), nullable=False),
    sa.Column('seal_key_id', sa.LargeBinary(length=8), nullable=False),
    sa.Column('seal', sa.LargeBinary(length=32), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_check_result'))
    )
    op.create_table('check_report',
    sa.Column('id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('report', sa.Text(), nullable=False),
    sa.Column('row_version', sa.Integer(), nullable=False),
    sa.Column('seal_key_id', sa.LargeBinary(length=8), nullable=False),
    sa.Column('seal', sa.LargeBinary(length=32), nullable=False),
    sa.ForeignKeyConstraint(['id'], ['check_result.id'], name=op.f('fk_check_report_id_check_result')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_check_report'))
    )


def downgrade() -> None:
    op.drop_table('check_report')
    op.drop_table('check_result')
