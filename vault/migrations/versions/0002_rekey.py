"""generations of documents

Revision ID: 0002_rekey
Revises: 0002_pairs
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0002_rekey'
down_revision = '0002_pairs'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('document_generation',
    sa.Column('id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('number', sa.Integer(), nullable=False),
    sa.Column('rekeyed_at', sa.BigInteger(), nullable=False),
    sa.Column('row_version', sa.Integer(), nullable=False),
    sa.Column('seal_key_id', sa.LargeBinary(length=8), nullable=False),
    sa.Column('seal', sa.LargeBinary(length=32), nullable=False),
    sa.ForeignKeyConstraint(['id'], ['document.id'], name=op.f('fk_document_generation_id_document')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_document_generation'))
    )


def downgrade() -> None:
    op.drop_table('document_generation')
