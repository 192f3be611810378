"""The one place that joins session, store and keys into services."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock, Semaphore
from typing import Any

from flask import Flask, current_app, g, has_request_context
from sqlalchemy import Engine, event, select
from sqlalchemy.orm import Session

from vault.config import HOW_TO_MAKE_A_KEY, Settings
from vault.crypto.masterkey import MasterKeys, parse_master_key
from vault.crypto.randomness import new_id, new_secret
from vault.errors import Misconfigured, Unreadable, VaultError
from vault.extensions import db
from vault.models import AuditHead
from vault.services import audit, seals
from vault.services.access import Gate
from vault.services.accounts import Accounts
from vault.services.check import Check
from vault.services.check_results import CheckResults
from vault.services.contacts import Contacts
from vault.services.documents import Documents
from vault.services.downloads import Downloads
from vault.services.invitations import Invitations
from vault.services.lists import Lists
from vault.services.metered_store import MeteredStore
from vault.services.metrics import Metrics
from vault.services.quota import Limits
from vault.services.resumable import Resumable
from vault.services.sessions import Sessions
from vault.services.sharing import Sharing
from vault.services.sweep import Sweep
from vault.services.transactions import Transactions
from vault.services.uploads import Uploads
from vault.services.zips import Zips
from vault.storage.folder import FolderStore
from vault.storage.protocol import BlobStore

BUSY_TIMEOUT_MS = 5000
BUSY_LOOK_SECONDS = 0.001
POOL_WAIT_SECONDS = 5
LARGE_READINGS = 4


@dataclass
class Wiring:
    """What an application has one of: its settings, keys and blob store, and places for what takes memory."""

    settings: Settings
    master: MasterKeys
    store: BlobStore

    def __post_init__(self) -> None:
        self.transfers = Semaphore(self.settings.threads)
        self.readings = Semaphore(LARGE_READINGS)
        self.turn = Lock() if self.settings.database.startswith("sqlite") else None


class Services:
    """The services of one request, made when first asked for."""

    def __init__(self, wiring: Wiring, session: Session, request_id: bytes | None = None) -> None:
        session.info["master_keys"] = wiring.master
        self._wiring = wiring
        self.settings = wiring.settings
        self.transactions = Transactions(session, request_id, wiring.turn)
        self.contacts = Contacts(wiring.master)
        self.gate = Gate(wiring.master, self.contacts)

    @cached_property
    def invitations(self) -> Invitations:
        return Invitations(self.transactions, self._wiring.master)

    @cached_property
    def accounts(self) -> Accounts:
        return Accounts(
            self.transactions,
            self._wiring.master,
            self.invitations,
            registration=self.settings.registration,
            rsa_bits=self.settings.rsa_bits,
        )

    @cached_property
    def sessions(self) -> Sessions:
        return Sessions(
            self.transactions, self._wiring.master, self.settings.session_idle, self.settings.session_length
        )

    @cached_property
    def documents(self) -> Documents:
        return Documents(self.transactions, self.gate, self.contacts)

    @cached_property
    def lists(self) -> Lists:
        return Lists(self.transactions, self.gate, self.contacts)

    @cached_property
    def downloads(self) -> Downloads:
        return Downloads(self.transactions, self.gate, self._wiring.store)

    @cached_property
    def zips(self) -> Zips:
        return Zips(self.downloads, self._wiring.store)

    @cached_property
    def uploads(self) -> Uploads:
        return Uploads(
            self.transactions,
            self.gate,
            self.contacts,
            self.downloads,
            self._wiring.store,
            part_size=self.settings.part_size,
            limits=self._limits,
        )

    @cached_property
    def resumable(self) -> Resumable:
        return Resumable(
            self.transactions,
            self.gate,
            self.uploads,
            self._wiring.master,
            self._wiring.store,
            part_size=self.settings.part_size,
            limits=self._limits,
        )

    @property
    def _limits(self) -> Limits:
        return Limits(
            self.settings.max_document_bytes, self.settings.quota_bytes, self.settings.max_open_uploads
        )

    @cached_property
    def sharing(self) -> Sharing:
        return Sharing(self.transactions, self.gate, self.contacts)

    @cached_property
    def sweep(self) -> Sweep:
        return Sweep(self.transactions, self._wiring.store, self.settings.session_idle)

    @cached_property
    def check(self) -> Check:
        return Check(self.transactions, self._wiring.store, self._wiring.master)

    @cached_property
    def check_results(self) -> CheckResults:
        return CheckResults(self.transactions)

    @cached_property
    def metrics(self) -> Metrics:
        return Metrics(self.transactions)


def wiring() -> Wiring:
    """Return what the current application was wired with."""
    found: Wiring = current_app.extensions["docvault"]
    return found


def services() -> Services:
    """Return the services of the current request, or fresh ones outside of a request."""
    if not has_request_context():
        return Services(wiring(), db.session())
    if "services" not in g:
        g.services = Services(wiring(), db.session(), request_id())
    bundle: Services = g.services
    return bundle


def request_id() -> bytes:
    """Return the id of the current request, made when first asked for."""
    if "request_id" not in g:
        g.request_id = new_id()
    made: bytes = g.request_id
    return made


def make_store(settings: Settings) -> BlobStore:
    """Make the blob store that the settings name; it is contacted when first used."""
    if settings.storage == "minio":
        from vault.storage.minio import MinioStore  # seven megabytes that a folder does not need

        return MeteredStore(
            MinioStore(
                settings.minio_endpoint,
                settings.minio_access_key,
                settings.minio_secret_key.get_secret_value(),
                settings.minio_bucket,
                secure=settings.minio_secure,
            )
        )
    return MeteredStore(FolderStore(settings.blob_folder))


def make_master_keys(settings: Settings) -> MasterKeys:
    """Read the master key and the fallbacks; make a key once where none is configured and the vault is new.

    Raises ``Misconfigured`` when a database exists but no key does: a fresh key could not open it.
    """
    text = settings.read_master_key()
    if not text:
        text = _own_key_file(settings)
    return MasterKeys(
        parse_master_key(text),
        [parse_master_key(key.get_secret_value()) for key in settings.master_key_fallbacks],
    )


def _own_key_file(settings: Settings) -> str:
    path = settings.instance.absolute() / "master.key"
    if not path.exists():
        if (settings.instance / "vault.sqlite3").exists() or not settings.database.startswith("sqlite"):
            raise Misconfigured(
                f"There is a database, but no master key: {path} is missing and DOCVAULT_MASTER_KEY, _FILE and "
                f"_COMMAND are not set. Put the key back from its copy. For a new vault: {HOW_TO_MAKE_A_KEY}"
            )
        _make_key_file(path)
    return settings.model_copy(update={"master_key_file": path}).read_master_key()


def _make_key_file(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(descriptor, "w") as file:
        file.write(new_secret().hex() + "\n")
        file.flush()
        os.fsync(file.fileno())


def engine_options(settings: Settings) -> dict[str, Any]:
    """Give the pool's size and timeouts: every wait for the database ends, and ends in a 503."""
    options: dict[str, Any] = {
        "hide_parameters": True,
        "pool_timeout": POOL_WAIT_SECONDS,
        "pool_size": settings.threads + 2,
        "max_overflow": 4,
    }

    if settings.database.startswith("postgresql"):
        options |= {"pool_pre_ping": True, "pool_recycle": 1800}
        options["connect_args"] = {
            "connect_timeout": 5,
            # A machine that is dead, or cut off, says nothing: these let the wait for it end after 15 to 25 seconds.
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 15000,
            "options": "-c lock_timeout=5000 -c idle_in_transaction_session_timeout=60000",
        }
    return options


def prepare_engine(engine: Engine) -> None:
    """Set what each connection needs; on SQLite a writing transaction begins IMMEDIATE, a reading one deferred."""
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _on_sqlite_connect)
        event.listen(engine, "begin", _on_sqlite_begin)


def _on_sqlite_connect(connection: sqlite3.Connection, record: Any) -> None:
    connection.isolation_level = None
    connection.text_factory = _text
    for pragma in (
        f"busy_timeout={BUSY_TIMEOUT_MS}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "secure_delete=ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _text(stored: bytes) -> str:
    """Read what stands in a text column; bytes that are no text go on, for their row's seal to refuse (F33)."""
    return stored.decode(errors="surrogateescape")


def _on_sqlite_begin(connection: Any) -> None:
    if connection.get_execution_options().get("docvault_writing"):
        _begin_immediate(connection)
    else:
        connection.exec_driver_sql("BEGIN")


def _begin_immediate(connection: Any) -> None:
    """Begin as soon as another process has ended its transaction.

    SQLite itself looks again after 1, 2, 5, 10 ... 100 ms: with several that write, the disk and the processors rest
    for half of the time.
    """
    raw = connection.connection.dbapi_connection
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    raw.execute("PRAGMA busy_timeout=0")
    try:
        while time.monotonic() < deadline:
            try:
                raw.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    break
            time.sleep(BUSY_LOOK_SECONDS)
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # what fails here is translated
    finally:
        raw.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")


@contextmanager
def start_lock(settings: Settings) -> Iterator[None]:
    """Hold the one lock under which the schema is migrated: a file for SQLite, an advisory lock on PostgreSQL."""
    if settings.database.startswith("sqlite"):
        settings.instance.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(settings.instance / ".start.lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        return
    with db.engine.connect() as connection:
        connection.exec_driver_sql("SELECT pg_advisory_lock(7310982774)")
        try:
            yield
        finally:
            connection.exec_driver_sql("SELECT pg_advisory_unlock(7310982774)")


def check_master_key(bundle: Services) -> None:
    """Compare the master key with the database before a row is touched; makes the audit head of a new database.

    Raises ``Misconfigured`` when the database belongs to another master key: nothing is ever marked damaged for that.
    """
    session, wired = bundle.transactions.session, wiring()
    statement = select(AuditHead.__table__.c.seal_key_id).execution_options(
        unverified="which key, before any seal"
    )
    with bundle.transactions.reading():
        key_ids = list(session.execute(statement).scalars())
    if not key_ids:
        bundle.transactions.writing(audit.make_head)
        return
    if key_ids[0] not in wired.master.key_ids:
        raise Misconfigured(
            "The master key is not the one of this database. Nothing was touched. Put back the key that this vault was "
            "made with, or add it to DOCVAULT_MASTER_KEY_FALLBACKS."
        )
    try:
        with bundle.transactions.reading():
            session.get(AuditHead, audit.HEAD_ID)
    except Unreadable as unreadable:
        raise Misconfigured(
            "The audit chain's head does not bear its seal. Run `docvault check`."
        ) from unreadable


def install_seals(app: Flask) -> None:
    """Hang the row seals on every session of the application's database."""
    seals.install(db.session)


def unready() -> list[str]:
    """Name what keeps the vault from working: the database, the master key, the blob store."""
    wrong = []
    try:
        check_master_key(services())
    except Misconfigured:
        wrong.append("master key")
    except VaultError:
        wrong.append("database")
    try:
        next(iter(wiring().store.list("0" * 32)), None)
    except VaultError:
        wrong.append("blob store")
    return wrong
