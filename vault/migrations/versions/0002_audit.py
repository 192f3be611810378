"""audit entries are found by who acted, about what and about whom

Revision ID: 0002_audit
Revises: 0001
"""

from __future__ import annotations

from alembic import op

revision = '0002_audit'
down_revision = '0001'
branch_labels = None
depends_on = None

COLUMNS = ('actor_id', 'object_id', 'subject_id')


def upgrade() -> None:
    with op.batch_alter_table('audit_entry') as batch_op:
        for column in COLUMNS:
            batch_op.create_index(f'ix_audit_entry_{column}_sequence', [column, 'sequence'])


def downgrade() -> None:
    with op.batch_alter_table('audit_entry') as batch_op:
        for column in COLUMNS:
            batch_op.drop_index(f'ix_audit_entry_{column}_sequence')
