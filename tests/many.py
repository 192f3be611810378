"""Ten thousand documents within seconds: rows made from those of one real document, sealed, named by the audit chain.

Their names are those of the owner's index; content and signatures are the model's, so lists, searches and the check
find them whole, and nobody can open them.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from sqlalchemy import insert, inspect, select
from sqlalchemy.orm import Session

from tests.cast import Vault
from vault.crypto.manifests import Part, encode_parts, parts_digest
from vault.crypto.parts import blob_name, seal_part
from vault.crypto.purposes import MASTER_ROWS
from vault.crypto.randomness import new_id
from vault.crypto.rows import RowSealer
from vault.extensions import Base
from vault.models import Document, DocumentIndex, DocumentVersion, PartList, SharedKeyRegistry, User
from vault.services import seals
from vault.services.audit import Event

KINDS = (Document, DocumentVersion, PartList, SharedKeyRegistry, DocumentIndex)


def fill(vault: Vault, owner: str, count: int, name_of: Callable[[int], str]) -> None:
    """Give somebody ``count`` documents more, named by number."""
    model = vault.upload(owner, b"the model")
    account = vault.members[owner].account
    with vault.services() as bundle:

        def work(session: Session) -> None:
            maker = _Maker(vault, session, model, account)
            for number in range(count):
                maker.make(number, name_of(number))
            maker.write()
            user = session.get_one(User, account.user_id)
            user.documents += count
            user.stored_bytes += count * maker.size
            bundle.transactions.record(Event("upload", account.user_id, "document", model))

        bundle.transactions.writing(work)


class _Maker:
    def __init__(self, vault: Vault, session: Session, model: bytes, account: Any) -> None:
        self._session, self._account, self._vault = session, account, vault
        version = session.get_one(Document, model).version_id
        wanted = {
            Document: Document.id == model,
            DocumentVersion: DocumentVersion.id == version,
            PartList: PartList.id == version,
            SharedKeyRegistry: SharedKeyRegistry.version_id == version,
            DocumentIndex: (DocumentIndex.document_id == model)
            & (DocumentIndex.reader_id == account.user_id),
        }
        self._rows: dict[type[Base], list[dict[str, Any]]] = {kind: [] for kind in KINDS}
        self._model = {
            kind: _values(session.scalars(select(kind).where(wanted[kind])).one()) for kind in KINDS
        }
        self._entry = account.index_key.open(
            self._model[DocumentIndex]["sealed_entry"], document=model, reader=account.user_id
        )
        self._blob = bytes(seal_part(bytes(32), b"x", segment=new_id(), offset=0))
        self.size = len(self._blob)
        master = session.info["master_keys"]
        self._key, self._key_id = master.derive(MASTER_ROWS), master.key_id
        self._sealers = {
            kind: RowSealer(kind.__tablename__, seals.SCHEMA, seals.sealed_columns(kind)) for kind in KINDS
        }

    def make(self, number: int, name: str) -> None:
        """Make the rows and the blob of one document."""
        document, version, segment = new_id(), new_id(), new_id()
        made = self._model[Document]["created_at"] - timedelta(seconds=number + 1)
        parts = encode_parts([Part(segment, 0, 1, None)])
        entry = self._entry._replace(name=name, size=1)
        sealed = self._account.index_key.seal(entry, document=document, reader=self._account.user_id)
        self._add(Document, id=document, version_id=version, created_at=made, changed_at=made)
        self._add(
            DocumentVersion, id=version, document_id=document, created_at=made, stored_bytes=self.size,
            parts_digest=parts_digest(parts),
        )  # fmt: skip
        self._add(PartList, id=version, parts=parts)
        self._add(
            SharedKeyRegistry, id=new_id(), document_id=document, version_id=version, since=made, came_at=made
        )
        self._add(DocumentIndex, id=new_id(), document_id=document, sealed_entry=sealed)
        path = self._vault.blobs / blob_name(segment, 0)
        path.parent.mkdir()
        path.write_bytes(self._blob)

    def _add(self, kind: type[Base], **changed: Any) -> None:
        row = self._model[kind] | changed | {"row_version": 1, "seal_key_id": self._key_id}
        values = [row[name] for name in seals.sealed_columns(kind)]
        row["seal"] = self._sealers[kind].seal(self._key, row["id"], 1, values)
        self._rows[kind].append(row)

    def write(self) -> None:
        """Write all rows, past the unit of work, and note them for the audit entry of this transaction."""
        connection, touched = self._session.connection(), self._session.info.setdefault("touched", {})
        for kind, rows in self._rows.items():
            connection.execute(insert(inspect(kind).local_table), rows)
            table = str(kind.__tablename__)
            if table not in seals.UNTRACKED:
                touched |= {(table, row["id"]): (table, row["id"], 1, row["seal"]) for row in rows}


def _values(instance: Any) -> dict[str, Any]:
    return {
        column.key: getattr(instance, column.key) for column in inspect(type(instance)).local_table.columns
    }
