"""The vault that is measured: people and documents made in bulk, with real seals.

Two people register and log in. All others come with one of a few ready-made key pairs and without Argon2id. Documents
in bulk have all that a list reads, sealed as the services seal it: document, grant and index entry. What a list never
opens (signatures, wrapped keys, manifests) are random bytes of the right length.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import insert
from sqlalchemy.orm import Session

from vault.app import create_app, migrate_schema, new_master_key
from vault.config import load_settings
from vault.crypto.accounts import directory_mac, seal_private_keys
from vault.crypto.keypairs import PrivateKeys, generate_keys
from vault.crypto.manifests import IndexEntry
from vault.crypto.masterkey import MasterKeys
from vault.crypto.purposes import MASTER_ROWS
from vault.crypto.randomness import new_id, new_secret
from vault.crypto.rows import RowSealer
from vault.extensions import db
from vault.models import Document, DocumentIndex, DocumentVersion, SharedKeyRegistry, User, UserKey
from vault.services import clock, seals
from vault.services.audit import Event
from vault.services.unlocked import UnlockedAccount
from vault.wiring import Services, opened_once, services, wiring

READY_MADE = 8
BATCH = 5000
WORDS = (
    "annual", "budget", "contract", "draft", "estimate", "figures", "grant", "holiday", "invoice", "journal",
    "kitchen", "letter", "minutes", "notes", "offer", "photo", "quarterly", "report", "scan", "timetable",
)  # fmt: skip
TYPES = ("application/pdf", "image/jpeg", "text/plain", "application/zip")


@dataclass(frozen=True)
class Known:
    """Somebody who is logged in."""

    username: str
    passphrase: str
    account: UnlockedAccount


class World:
    """The vault's own application, in this process: bulk rows are written through it, and tokens made."""

    def __init__(self, instance: Path) -> None:
        self.instance = instance
        self.environment = {
            "DOCVAULT_INSTANCE": str(instance),
            "DOCVAULT_REGISTRATION": "open",
            "DOCVAULT_SESSION_IDLE_MINUTES": "1440",
        }
        self._people: dict[str, Known] = {}
        self._ready_made: list[PrivateKeys] = []
        settings = load_settings(
            _env_file=None,
            instance=instance,
            registration="open",
            session_idle_minutes=1440,
            log_level="ERROR",
        )
        self._app = create_app(settings)
        with self._app.app_context():
            migrate_schema(self._app)
            wiring().store.check()

    @contextmanager
    def _services(self) -> Iterator[Services]:
        with self._app.app_context():
            yield services()
            db.session.remove()

    def somebody(self, username: str) -> Known:
        """Register somebody and log him in, when first asked for."""
        known = self._people.get(username)
        if known is None:
            with self._services() as bundle:
                made = bundle.accounts.register(username)
                logged_in = bundle.sessions.log_in(
                    username, made.passphrase, address="127.0.0.1", client="benchmark"
                )
            known = self._people[username] = Known(username, made.passphrase, logged_in.account)
        return known

    def token(self, username: str) -> str:
        """Make a fresh token for somebody."""
        known = self.somebody(username)
        with self._services() as bundle:
            return bundle.sessions.token_for(known.account)

    def add_readers(self, count: int) -> list[str]:
        """Make people to share with: rows, seals, audit entries and keys as at a registration, the keys ready-made."""
        names = [f"reader-{number:05}" for number in range(count)]
        while len(self._ready_made) < READY_MADE:
            self._ready_made.append(generate_keys())
        with self._services() as bundle:
            master = wiring().master

            def work(session: Session) -> None:
                for number, name in enumerate(names):
                    user = _user(name)
                    session.add(user)
                    session.flush()
                    session.add(_key(master, user, self._ready_made[number % READY_MADE]))
                    bundle.transactions.record(Event("register", user.id, "user", user.id, detail="user"))

            bundle.transactions.writing(work)
        return names

    def add_documents(self, username: str, count: int) -> None:
        """Give somebody documents in bulk; every tenth is shared with him by somebody else."""
        known, other = self.somebody(username), self.somebody("other")
        with self._services():
            master = wiring().master
            with db.engine.connect() as connection:
                connection = connection.execution_options(docvault_writing=True)
                for start in range(0, count, BATCH):
                    rows = _documents(master, known.account, other.account, start, min(count, start + BATCH))
                    with connection.begin():
                        for model, values in rows.items():
                            connection.execute(insert(model), values)
            with db.engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    def new_pairs(self, username: str) -> float:
        """Give somebody new key pairs, to the end of the work that comes with them; return the seconds."""
        known, began = self.somebody(username), time.perf_counter()
        with self._services() as bundle:
            bundle.work.finish(known.account, bundle.keypairs.rotate(known.account, known.passphrase))
        return time.perf_counter() - began

    def rotated(self, folder: Path) -> tuple[float, int]:
        """Change the master key of a copy of the database, without its blobs; return the seconds and the rows."""
        shutil.copytree(self.instance, folder, ignore=shutil.ignore_patterns("blobs"))
        older = (folder / "master.key").read_text().strip()
        settings = load_settings(
            _env_file=None,
            instance=folder,
            master_key=new_master_key(),
            master_key_fallbacks=older,
            log_level="ERROR",
        )
        app = create_app(settings)
        with opened_once(app):
            migrate_schema(app)
            began = time.perf_counter()
            rows = services().masterkey.rotate().resealed
            return time.perf_counter() - began, rows

    def close(self) -> None:
        with self._app.app_context():
            db.engine.dispose()


def _user(name: str) -> User:
    return User(
        id=new_id(), username=name, role="user", state="active", credential_generation=1, key_version=1,
        stored_bytes=0, documents=0, created_at=clock.now(), last_login_at=None, previous_login_at=None,
        device_mac=None,
    )  # fmt: skip


def _key(master: MasterKeys, user: User, keys: PrivateKeys) -> UserKey:
    wrap, sign = seal_private_keys(new_secret(), keys, user=user.id, key_version=1)
    fingerprint = keys.public.fingerprint
    return UserKey(
        id=new_id(), user_id=user.id, version=1, wrap_public=keys.public.wrap_der, sign_public=keys.public.sign_der,
        fingerprint=fingerprint, directory_key_id=master.key_id,
        directory_mac=directory_mac(master, user=user.id, key_version=1, fingerprint=fingerprint),
        sealed_wrap_private=wrap, sealed_sign_private=sign, statement=None, created_at=clock.now(), retired_at=None,
    )  # fmt: skip


class _Sealing:
    """Seal the rows of one table that are written past the unit of work."""

    def __init__(self, master: MasterKeys, model: type[Any]) -> None:
        self._names = seals.sealed_columns(model)
        self._sealer = RowSealer(model.__tablename__, seals.SCHEMA, self._names)
        self._key_id, self._key = master.key_id, master.derive(MASTER_ROWS)

    def __call__(self, **values: Any) -> dict[str, Any]:
        ordered = [values[name] for name in self._names]
        seal = self._sealer.seal(self._key, values["id"], 1, ordered)
        return values | {"row_version": 1, "seal_key_id": self._key_id, "seal": seal}


def _documents(
    master: MasterKeys, reader: UnlockedAccount, other: UnlockedAccount, start: int, stop: int
) -> dict[type[Any], Sequence[dict[str, Any]]]:
    document, version = _Sealing(master, Document), _Sealing(master, DocumentVersion)
    grant, index = _Sealing(master, SharedKeyRegistry), _Sealing(master, DocumentIndex)
    rows: dict[type[Any], list[dict[str, Any]]] = {
        model: [] for model in (Document, DocumentVersion, SharedKeyRegistry, DocumentIndex)
    }
    began = clock.now() - timedelta(days=365)
    for number in range(start, stop):
        shared = number % 10 == 9
        owner = other if shared else reader
        document_id, version_id, came = new_id(), new_id(), began + timedelta(seconds=60 * number)
        rows[Document].append(
            document(
                id=document_id,
                owner_id=owner.user_id,
                version_id=version_id,
                number=1,
                revision=0,
                epoch=0,
                readers=1 if shared else 0,
                created_at=came,
                changed_at=came,
            )
        )
        rows[DocumentVersion].append(
            version(
                id=version_id,
                document_id=document_id,
                number=1,
                revision=0,
                epoch=0,
                owner_id=owner.user_id,
                owner_key_version=1,
                origin=None,
                sealed_manifest=os.urandom(584),
                parts_digest=os.urandom(32),
                signature=os.urandom(256),
                stored_bytes=number,
                created_at=came,
            )
        )
        rows[SharedKeyRegistry].append(
            grant(
                id=new_id(),
                document_id=document_id,
                version_id=version_id,
                epoch=0,
                granter_id=owner.user_id,
                granter_key_version=1,
                reader_id=reader.user_id,
                reader_key_version=1,
                permission="read" if shared else "owner",
                expires_at=None,
                wrapped_dek=os.urandom(256),
                signature=os.urandom(256),
                since=came,
                came_at=came,
            )
        )
        rows[DocumentIndex].append(
            index(
                id=new_id(),
                document_id=document_id,
                reader_id=reader.user_id,
                sealed_entry=reader.index_key.seal(
                    _entry(owner, number), document=document_id, reader=reader.user_id
                ),
            )
        )
    return dict(rows)


def _entry(owner: UnlockedAccount, number: int) -> IndexEntry:
    words = [WORDS[(number // 20**place) % 20] for place in range(3)]
    return IndexEntry(
        owner=owner.user_id, owner_fingerprint=owner.fingerprint, number=1, revision=0, epoch=0,
        name=f"{' '.join(words)} {number:06}.pdf", path=(), media_type=TYPES[number % 4], size=number * 977,
    )  # fmt: skip
