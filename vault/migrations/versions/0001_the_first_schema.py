"""the first schema

Revision ID: 0001
Revises: 
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0001'
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('audit_entry',
    sa.Column('id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('sequence', sa.BigInteger(), nullable=False),
    sa.Column('at', sa.BigInteger(), nullable=False),
    sa.Column('actor_id', sa.LargeBinary(length=16), nullable=True),
    sa.Column('action', sa.String(length=40), nullable=False),
    sa.Column('object_kind', sa.String(length=24), nullable=True),
    sa.Column('object_id', sa.LargeBinary(length=16), nullable=True),
    sa.Column('subject_id', sa.LargeBinary(length=16), nullable=True),
    sa.Column('succeeded', sa.Boolean(), nullable=False),
    sa.Column('detail', sa.String(length=80), nullable=True),
    sa.Column('request_id', sa.LargeBinary(length=16), nullable=True),
    sa.Column('touched', sa.LargeBinary(), nullable=False),
    sa.Column('previous_hash', sa.LargeBinary(length=32), nullable=False),
    sa.Column('entry_hash', sa.LargeBinary(length=32), nullable=False),
    sa.Column('row_version', sa.Integer(), nullable=False),
    sa.Column('seal_key_id', sa.LargeBinary(length=8), nullable=False),
    sa.Column('seal', sa.LargeBinary(length=32), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_audit_entry')),
    sa.UniqueConstraint('sequence', name=op.f('uq_audit_entry_sequence'))
    )
    op.create_table('audit_head',
    sa.Column('id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('sequence', sa.BigInteger(), nullable=False),
    sa.Column('entry_hash', sa.LargeBinary(length=32), nullable=False),
    sa.Column('row_version', sa.Integer(), nullable=False),
    sa.Column('seal_key_id', sa.LargeBinary(length=8), nullable=False),
    sa.Column('seal', sa.LargeBinary(length=32), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_audit_head'))
    )
    op.create_table('lease',
    sa.Column('id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('holder', sa.LargeBinary(length=16), nullable=False),
    sa.Column('expires_at', sa.BigInteger(), nullable=False),
    sa.Column('swept_at', sa.BigInteger(), nullable=True),
    sa.Column('row_version', sa.Integer(), nullable=False),
    sa.Column('seal_key_id', sa.LargeBinary(length=8), nullable=False),
    sa.Column('seal', sa.LargeBinary(length=32), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_lease'))
    )
    op.create_table('login_attempt',
    sa.Column('id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('subject', sa.LargeBinary(length=32), nullable=False),
    sa.Column('at', sa.BigInteger(), nullable=False),
    sa.Column('row_version', sa.Integer(), nullable=False),
    sa.Column('seal_key_id', sa.LargeBinary(length=8), nullable=False),
    sa.Column('seal', sa.LargeBinary(length=32), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_login_attempt'))
    )
    with op.batch_alter_table('login_attempt', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_login_attempt_at'), ['at'], unique=False)
        batch_op.create_index('ix_login_attempt_subject_at', ['subject', 'at'], unique=False)

    op.create_table('tombstone',
    sa.Column('id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('segment_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('blob', sa.String(length=33), nullable=False),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.Column('destroy_after', sa.BigInteger(), nullable=False),
    sa.Column('row_version', sa.Integer(), nullable=False),
    sa.Column('seal_key_id', sa.LargeBinary(length=8), nullable=False),
    sa.Column('seal', sa.LargeBinary(length=32), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_tombstone')),
    sa.UniqueConstraint('segment_id', 'blob', name=op.f('uq_tombstone_segment_id_blob'))
    )
    with op.batch_alter_table('tombstone', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_tombstone_destroy_after'), ['destroy_after'], unique=False)

    op.create_table('user',
    sa.Column('id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('username', sa.String(length=32), nullable=False),
    sa.Column('role', sa.String(length=8), nullable=False),
    sa.Column('state', sa.String(length=8), nullable=False),
    sa.Column('credential_generation', sa.Integer(), nullable=False),
    sa.Column('key_version', sa.Integer(), nullable=False),
    sa.Column('stored_bytes', sa.BigInteger(), nullable=False),
    sa.Column('documents', sa.Integer(), nullable=False),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.Column('last_login_at', sa.BigInteger(), nullable=True),
    sa.Column('previous_login_at', sa.BigInteger(), nullable=True),
    sa.Column('device_mac', sa.LargeBinary(length=32), nullable=True),
    sa.Column('row_version', sa.Integer(), nullable=False),
    sa.Column('seal_key_id', sa.LargeBinary(length=8), nullable=False),
    sa.Column('seal', sa.LargeBinary(length=32), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_user')),
    sa.UniqueConstraint('username', name=op.f('uq_user_username'))
    )
    op.create_table('contact',
    sa.Column('id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('user_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('other_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('sealed_fingerprint', sa.LargeBinary(), nullable=False),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.Column('row_version', sa.Integer(), nullable=False),
    sa.Column('seal_key_id', sa.LargeBinary(length=8), nullable=False),
    sa.Column('seal', sa.LargeBinary(length=32), nullable=False),
    sa.ForeignKeyConstraint(['other_id'], ['user.id'], name=op.f('fk_contact_other_id_user')),
    sa.ForeignKeyConstraint(['user_id'], ['user.id'], name=op.f('fk_contact_user_id_user')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_contact')),
    sa.UniqueConstraint('user_id', 'other_id', name=op.f('uq_contact_user_id_other_id'))
    )
    op.create_table('document',
    sa.Column('id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('owner_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('version_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('number', sa.Integer(), nullable=False),
    sa.Column('revision', sa.Integer(), nullable=False),
    sa.Column('epoch', sa.Integer(), nullable=False),
    sa.Column('readers', sa.Integer(), nullable=False),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.Column('changed_at', sa.BigInteger(), nullable=False),
    sa.Column('row_version', sa.Integer(), nullable=False),
    sa.Column('seal_key_id', sa.LargeBinary(length=8), nullable=False),
    sa.Column('seal', sa.LargeBinary(length=32), nullable=False),
    sa.ForeignKeyConstraint(['owner_id'], ['user.id'], name=op.f('fk_document_owner_id_user')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_document'))
    )
    with op.batch_alter_table('document', schema=None) as batch_op:
        batch_op.create_index('ix_document_owner_changed', ['owner_id', 'changed_at', 'id'], unique=False)

    op.create_table('invitation',
    sa.Column('id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('kind', sa.String(length=12), nullable=False),
    sa.Column('username', sa.String(length=32), nullable=True),
    sa.Column('code_mac', sa.LargeBinary(length=32), nullable=False),
    sa.Column('code_key_id', sa.LargeBinary(length=8), nullable=False),
    sa.Column('created_by', sa.LargeBinary(length=16), nullable=True),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.Column('expires_at', sa.BigInteger(), nullable=False),
    sa.Column('row_version', sa.Integer(), nullable=False),
    sa.Column('seal_key_id', sa.LargeBinary(length=8), nullable=False),
    sa.Column('seal', sa.LargeBinary(length=32), nullable=False),
    sa.ForeignKeyConstraint(['created_by'], ['user.id'], name=op.f('fk_invitation_created_by_user')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_invitation')),
    sa.UniqueConstraint('code_mac', name=op.f('uq_invitation_code_mac'))
    )
    op.create_table('login_session',
    sa.Column('id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('user_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('credential_generation', sa.Integer(), nullable=False),
    sa.Column('client', sa.String(length=64), nullable=False),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.Column('expires_at', sa.BigInteger(), nullable=False),
    sa.Column('last_seen_at', sa.BigInteger(), nullable=False),
    sa.Column('master_key_id', sa.LargeBinary(length=8), nullable=False),
    sa.Column('sealed_account_key', sa.LargeBinary(), nullable=False),
    sa.Column('row_version', sa.Integer(), nullable=False),
    sa.Column('seal_key_id', sa.LargeBinary(length=8), nullable=False),
    sa.Column('seal', sa.LargeBinary(length=32), nullable=False),
    sa.ForeignKeyConstraint(['user_id'], ['user.id'], name=op.f('fk_login_session_user_id_user')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_login_session'))
    )
    with op.batch_alter_table('login_session', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_login_session_user_id'), ['user_id'], unique=False)

    op.create_table('unlock_method',
    sa.Column('id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('user_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('kind', sa.String(length=16), nullable=False),
    sa.Column('memory_kib', sa.Integer(), nullable=False),
    sa.Column('iterations', sa.Integer(), nullable=False),
    sa.Column('lanes', sa.Integer(), nullable=False),
    sa.Column('salt', sa.LargeBinary(length=16), nullable=False),
    sa.Column('master_key_id', sa.LargeBinary(length=8), nullable=False),
    sa.Column('sealed_account_key', sa.LargeBinary(), nullable=False),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.Column('row_version', sa.Integer(), nullable=False),
    sa.Column('seal_key_id', sa.LargeBinary(length=8), nullable=False),
    sa.Column('seal', sa.LargeBinary(length=32), nullable=False),
    sa.ForeignKeyConstraint(['user_id'], ['user.id'], name=op.f('fk_unlock_method_user_id_user')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_unlock_method'))
    )
    with op.batch_alter_table('unlock_method', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_unlock_method_user_id'), ['user_id'], unique=False)

    op.create_table('upload',
    sa.Column('id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('user_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('kind', sa.String(length=8), nullable=False),
    sa.Column('reserved_bytes', sa.BigInteger(), nullable=True),
    sa.Column('sealed_metadata', sa.LargeBinary(), nullable=True),
    sa.Column('document_id', sa.LargeBinary(length=16), nullable=True),
    sa.Column('joined_id', sa.LargeBinary(length=16), nullable=True),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.Column('expires_at', sa.BigInteger(), nullable=False),
    sa.Column('row_version', sa.Integer(), nullable=False),
    sa.Column('seal_key_id', sa.LargeBinary(length=8), nullable=False),
    sa.Column('seal', sa.LargeBinary(length=32), nullable=False),
    sa.ForeignKeyConstraint(['user_id'], ['user.id'], name=op.f('fk_upload_user_id_user')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_upload'))
    )
    with op.batch_alter_table('upload', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_upload_expires_at'), ['expires_at'], unique=False)
        batch_op.create_index(batch_op.f('ix_upload_user_id'), ['user_id'], unique=False)

    op.create_table('user_key',
    sa.Column('id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('user_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('version', sa.Integer(), nullable=False),
    sa.Column('wrap_public', sa.LargeBinary(), nullable=False),
    sa.Column('sign_public', sa.LargeBinary(), nullable=False),
    sa.Column('fingerprint', sa.LargeBinary(length=32), nullable=False),
    sa.Column('directory_key_id', sa.LargeBinary(length=8), nullable=False),
    sa.Column('directory_mac', sa.LargeBinary(length=32), nullable=False),
    sa.Column('sealed_wrap_private', sa.LargeBinary(), nullable=False),
    sa.Column('sealed_sign_private', sa.LargeBinary(), nullable=False),
    sa.Column('statement', sa.LargeBinary(), nullable=True),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.Column('retired_at', sa.BigInteger(), nullable=True),
    sa.Column('row_version', sa.Integer(), nullable=False),
    sa.Column('seal_key_id', sa.LargeBinary(length=8), nullable=False),
    sa.Column('seal', sa.LargeBinary(length=32), nullable=False),
    sa.ForeignKeyConstraint(['user_id'], ['user.id'], name=op.f('fk_user_key_user_id_user')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_user_key')),
    sa.UniqueConstraint('user_id', 'version', name=op.f('uq_user_key_user_id_version'))
    )
    op.create_table('document_index',
    sa.Column('id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('document_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('reader_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('sealed_entry', sa.LargeBinary(), nullable=False),
    sa.Column('row_version', sa.Integer(), nullable=False),
    sa.Column('seal_key_id', sa.LargeBinary(length=8), nullable=False),
    sa.Column('seal', sa.LargeBinary(length=32), nullable=False),
    sa.ForeignKeyConstraint(['document_id'], ['document.id'], name=op.f('fk_document_index_document_id_document')),
    sa.ForeignKeyConstraint(['reader_id'], ['user.id'], name=op.f('fk_document_index_reader_id_user')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_document_index')),
    sa.UniqueConstraint('reader_id', 'document_id', name=op.f('uq_document_index_reader_id_document_id'))
    )
    with op.batch_alter_table('document_index', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_document_index_document_id'), ['document_id'], unique=False)

    op.create_table('document_version',
    sa.Column('id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('document_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('number', sa.Integer(), nullable=False),
    sa.Column('revision', sa.Integer(), nullable=False),
    sa.Column('epoch', sa.Integer(), nullable=False),
    sa.Column('owner_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('owner_key_version', sa.Integer(), nullable=False),
    sa.Column('origin', sa.LargeBinary(length=16), nullable=True),
    sa.Column('sealed_manifest', sa.LargeBinary(), nullable=False),
    sa.Column('parts_digest', sa.LargeBinary(length=32), nullable=False),
    sa.Column('signature', sa.LargeBinary(), nullable=False),
    sa.Column('stored_bytes', sa.BigInteger(), nullable=False),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.Column('row_version', sa.Integer(), nullable=False),
    sa.Column('seal_key_id', sa.LargeBinary(length=8), nullable=False),
    sa.Column('seal', sa.LargeBinary(length=32), nullable=False),
    sa.ForeignKeyConstraint(['document_id'], ['document.id'], name=op.f('fk_document_version_document_id_document')),
    sa.ForeignKeyConstraint(['owner_id'], ['user.id'], name=op.f('fk_document_version_owner_id_user')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_document_version')),
    sa.UniqueConstraint('document_id', 'number', name=op.f('uq_document_version_document_id_number'))
    )
    op.create_table('work',
    sa.Column('id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('kind', sa.String(length=16), nullable=False),
    sa.Column('user_id', sa.LargeBinary(length=16), nullable=True),
    sa.Column('document_id', sa.LargeBinary(length=16), nullable=True),
    sa.Column('other_id', sa.LargeBinary(length=16), nullable=True),
    sa.Column('cursor', sa.LargeBinary(), nullable=True),
    sa.Column('total', sa.Integer(), nullable=False),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.Column('row_version', sa.Integer(), nullable=False),
    sa.Column('seal_key_id', sa.LargeBinary(length=8), nullable=False),
    sa.Column('seal', sa.LargeBinary(length=32), nullable=False),
    sa.ForeignKeyConstraint(['document_id'], ['document.id'], name=op.f('fk_work_document_id_document')),
    sa.ForeignKeyConstraint(['other_id'], ['user.id'], name=op.f('fk_work_other_id_user')),
    sa.ForeignKeyConstraint(['user_id'], ['user.id'], name=op.f('fk_work_user_id_user')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_work'))
    )
    with op.batch_alter_table('work', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_work_document_id'), ['document_id'], unique=False)
        batch_op.create_index(batch_op.f('ix_work_user_id'), ['user_id'], unique=False)

    op.create_table('part_list',
    sa.Column('id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('parts', sa.LargeBinary(), nullable=False),
    sa.Column('row_version', sa.Integer(), nullable=False),
    sa.Column('seal_key_id', sa.LargeBinary(length=8), nullable=False),
    sa.Column('seal', sa.LargeBinary(length=32), nullable=False),
    sa.ForeignKeyConstraint(['id'], ['document_version.id'], name=op.f('fk_part_list_id_document_version')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_part_list'))
    )
    op.create_table('shared_key_registry',
    sa.Column('id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('document_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('version_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('epoch', sa.Integer(), nullable=False),
    sa.Column('granter_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('granter_key_version', sa.Integer(), nullable=False),
    sa.Column('reader_id', sa.LargeBinary(length=16), nullable=False),
    sa.Column('reader_key_version', sa.Integer(), nullable=False),
    sa.Column('permission', sa.String(length=8), nullable=False),
    sa.Column('expires_at', sa.BigInteger(), nullable=True),
    sa.Column('wrapped_dek', sa.LargeBinary(), nullable=False),
    sa.Column('signature', sa.LargeBinary(), nullable=False),
    sa.Column('since', sa.BigInteger(), nullable=False),
    sa.Column('came_at', sa.BigInteger(), nullable=False),
    sa.Column('row_version', sa.Integer(), nullable=False),
    sa.Column('seal_key_id', sa.LargeBinary(length=8), nullable=False),
    sa.Column('seal', sa.LargeBinary(length=32), nullable=False),
    sa.ForeignKeyConstraint(['document_id'], ['document.id'], name=op.f('fk_shared_key_registry_document_id_document')),
    sa.ForeignKeyConstraint(['granter_id'], ['user.id'], name=op.f('fk_shared_key_registry_granter_id_user')),
    sa.ForeignKeyConstraint(['reader_id'], ['user.id'], name=op.f('fk_shared_key_registry_reader_id_user')),
    sa.ForeignKeyConstraint(['version_id'], ['document_version.id'], name=op.f('fk_shared_key_registry_version_id_document_version')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_shared_key_registry')),
    sa.UniqueConstraint('version_id', 'reader_id', name=op.f('uq_shared_key_registry_version_id_reader_id'))
    )
    with op.batch_alter_table('shared_key_registry', schema=None) as batch_op:
        batch_op.create_index('ix_shared_key_registry_document', ['document_id', 'reader_id'], unique=False)
        batch_op.create_index(batch_op.f('ix_shared_key_registry_expires_at'), ['expires_at'], unique=False)
        batch_op.create_index('ix_shared_key_registry_reader', ['reader_id', 'permission', 'came_at', 'id'], unique=False)



def downgrade() -> None:
    with op.batch_alter_table('shared_key_registry', schema=None) as batch_op:
        batch_op.drop_index('ix_shared_key_registry_reader')
        batch_op.drop_index(batch_op.f('ix_shared_key_registry_expires_at'))
        batch_op.drop_index('ix_shared_key_registry_document')

    op.drop_table('shared_key_registry')
    op.drop_table('part_list')
    with op.batch_alter_table('work', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_work_user_id'))
        batch_op.drop_index(batch_op.f('ix_work_document_id'))

    op.drop_table('work')
    op.drop_table('document_version')
    with op.batch_alter_table('document_index', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_document_index_document_id'))

    op.drop_table('document_index')
    op.drop_table('user_key')
    with op.batch_alter_table('upload', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_upload_user_id'))
        batch_op.drop_index(batch_op.f('ix_upload_expires_at'))

    op.drop_table('upload')
    with op.batch_alter_table('unlock_method', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_unlock_method_user_id'))

    op.drop_table('unlock_method')
    with op.batch_alter_table('login_session', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_login_session_user_id'))

    op.drop_table('login_session')
    op.drop_table('invitation')
    with op.batch_alter_table('document', schema=None) as batch_op:
        batch_op.drop_index('ix_document_owner_changed')

    op.drop_table('document')
    op.drop_table('contact')
    op.drop_table('user')
    with op.batch_alter_table('tombstone', schema=None) as batch_op:
        batch_op.drop_index(batch_op.f('ix_tombstone_destroy_after'))

    op.drop_table('tombstone')
    with op.batch_alter_table('login_attempt', schema=None) as batch_op:
        batch_op.drop_index('ix_login_attempt_subject_at')
        batch_op.drop_index(batch_op.f('ix_login_attempt_at'))

    op.drop_table('login_attempt')
    op.drop_table('lease')
    op.drop_table('audit_head')
    op.drop_table('audit_entry')
