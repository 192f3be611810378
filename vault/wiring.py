"""The one place that joins session, store and keys into services."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
from vault.errors import AuditBroken, Conflict, KeyUnavailable, Misconfigured, Unreadable, VaultError
from vault.extensions import db
from vault.models import AuditEntry, AuditHead
from vault.services import audit, confirming, exposure, keypairs, promotion, seals
from vault.services.access import Gate
from vault.services.accounts import Accounts
from vault.services.anchor import Alarm, Anchor
from vault.services.backup import Backup
from vault.services.chain import Chain
from vault.services.check import Check
from vault.services.check_results import CheckResults
from vault.services.clock import now
from vault.services.confirming import ContactBook, Wraps
from vault.services.contacts import Contacts
from vault.services.deletion import Deletion
from vault.services.documents import Documents
from vault.services.downloads import Downloads
from vault.services.exposure import Exposure
from vault.services.halt import Halt
from vault.services.history import History
from vault.services.invitations import Invitations
from vault.services.keypairs import Keypairs
from vault.services.lists import Lists
from vault.services.masterkey import MasterKeyRotation
from vault.services.metered_store import MeteredStore
from vault.services.metrics import Metrics
from vault.services.notices import Notices
from vault.services.quota import REKEY, Limits
from vault.services.recovery import Recovery
from vault.services.rekey import Rekey
from vault.services.resets import Resets
from vault.services.restore import Restore
from vault.services.resumable import Resumable
from vault.services.sessions import Sessions
from vault.services.sharing import Sharing
from vault.services.sweep import Sweep
from vault.services.transactions import Transactions
from vault.services.uploads import Uploads
from vault.services.work import Worker, Works
from vault.services.zips import Zips
from vault.storage.archive import ArchiveReader, ArchiveWriter, new_archive, standard_output
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
        path = self.settings.anchor_file
        self.halt = Halt(Anchor(path.absolute()) if path is not None else None)


class Services:
    """The services of one request, made when first asked for."""

    def __init__(self, wiring: Wiring, session: Session, request_id: bytes | None = None) -> None:
        session.info["master_keys"] = wiring.master
        self._wiring = wiring
        self.settings = wiring.settings
        self.transactions = Transactions(session, request_id, wiring.turn, wiring.halt)
        self.contacts = Contacts(wiring.master, self.transactions.record)
        self.gate = Gate(wiring.master, self.contacts)

    @cached_property
    def invitations(self) -> Invitations:
        return Invitations(self.transactions, self._wiring.master, self.settings.registration)

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
    def recovery(self) -> Recovery:
        return Recovery(self.transactions, self._wiring.master, self.accounts)

    @cached_property
    def resets(self) -> Resets:
        return Resets(
            self.transactions, self._wiring.master, self.invitations, rsa_bits=self.settings.rsa_bits
        )

    @cached_property
    def deletion(self) -> Deletion:
        return Deletion(self.transactions, self.accounts)

    @cached_property
    def notices(self) -> Notices:
        return Notices(self.transactions)

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
    def history(self) -> History:
        return History(self.transactions, self.gate, self.contacts)

    @cached_property
    def chain(self) -> Chain:
        return Chain(self.transactions)

    @cached_property
    def keypairs(self) -> Keypairs:
        return Keypairs(
            self.transactions, self.contacts, self.accounts, self._wiring.master, self.settings.rsa_bits
        )

    @cached_property
    def contact_book(self) -> ContactBook:
        return ContactBook(self.transactions, self.contacts)

    @property
    def workers(self) -> dict[str, Worker]:
        """What does each kind of work that takes long."""
        return {
            keypairs.KIND: self.keypairs,
            confirming.KIND: Wraps(self.transactions, self.gate, self.contacts),
            REKEY: self.rekey,
            exposure.KIND: self.exposure,
        }

    @cached_property
    def exposure(self) -> Exposure:
        return Exposure(
            self.transactions,
            self._wiring.master,
            self.accounts,
            self.keypairs,
            self.rekey,
            rsa_bits=self.settings.rsa_bits,
        )

    @cached_property
    def work(self) -> Works:
        return Works(self.transactions, self.workers)

    @cached_property
    def rekey(self) -> Rekey:
        return Rekey(
            self.transactions,
            self.gate,
            self.downloads,
            self.uploads,
            self._wiring.store,
            part_size=self.settings.part_size,
        )

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

    @cached_property
    def masterkey(self) -> MasterKeyRotation:
        return MasterKeyRotation(
            self.transactions, self._wiring.master, self.check, lambda: rotation_lock(self.settings)
        )

    @cached_property
    def backup(self) -> Backup:
        return Backup(self.transactions, self._wiring.store)

    @cached_property
    def restore(self) -> Restore:
        return Restore(self.transactions, self._wiring.store, self._wiring.master)


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


@contextmanager
def new_backup(path: Path | None) -> Iterator[ArchiveWriter]:
    """Begin an archive in a new file, or on standard output where no path is given."""
    with standard_output() if path is None else new_archive(path) as file:
        yield ArchiveWriter(file, now())


def open_backup(path: Path) -> ArchiveReader:
    """Open an archive for reading; use it in a ``with``."""
    return ArchiveReader(path)


def make_master_keys(settings: Settings) -> MasterKeys:
    """Read the master key and the fallbacks; make a key once where none is configured and the vault is new.

    Raises ``Misconfigured`` when a database exists but no key does: a fresh key could not open it.
    """
    text = settings.read_master_key()
    if not text:
        text = _own_key_file(settings)
    return MasterKeys(parse_master_key(text), [parse_master_key(key) for key in settings.read_fallbacks()])


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
    """Make the master key of a new vault; where two processes do so at once, one key becomes that of both."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{new_id().hex()}")
    write_key_file(draft, new_secret().hex())
    with suppress(FileExistsError):
        try:
            os.link(draft, path)
        except FileExistsError:
            raise
        except OSError:  # no hard links here
            write_key_file(path, draft.read_text().strip())
        finally:
            draft.unlink()
    _sync_folder(path.parent)


def write_key_file(path: Path, key: str) -> None:
    """Write a master key into a new file of its owner's alone; it is on the disk when this returns.

    Raises ``FileExistsError``: a key is never overwritten.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(key + "\n")
        file.flush()
        os.fsync(file.fileno())
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
def opened_once(app: Flask) -> Iterator[None]:
    """Enter the application for one command, and close its database connections at the end."""
    with app.app_context():
        try:
            yield
        finally:
            db.session.remove()
            db.engine.dispose()


@contextmanager
def start_lock(settings: Settings) -> Iterator[None]:
    """Hold the one lock under which the schema is migrated: a file for SQLite, an advisory lock on PostgreSQL."""
    if settings.database.startswith("sqlite"):
        settings.instance.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(settings.instance / ".start.lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        return
    # However long another one migrates; without a transaction, which the server would end after a minute of silence.
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("SET lock_timeout = 0")
        connection.exec_driver_sql("SELECT pg_advisory_lock(7310982774)")
        try:
            yield
        finally:
            connection.exec_driver_sql("SELECT pg_advisory_unlock(7310982774)")
            connection.exec_driver_sql("RESET lock_timeout")


@contextmanager
def rotation_lock(settings: Settings) -> Iterator[None]:
    """Hold the lock of the one rotation that runs; it ends with the process, however that ends.

    Raises ``Conflict`` when another one has it.
    """
    refused = Conflict(
        "A rotation of the master key runs already. Nothing was begun; `docvault keys status` shows it."
    )
    if settings.database.startswith("sqlite"):
        with open(settings.instance / ".rotation.lock", "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise refused from None
            yield
        return
    # Without a transaction, which the server would end after a minute of silence.
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if not connection.exec_driver_sql("SELECT pg_try_advisory_lock(7310982775)").scalar():
            raise refused
        try:
            yield
        finally:
            connection.exec_driver_sql("SELECT pg_advisory_unlock(7310982775)")


def check_master_key(bundle: Services) -> None:
    """Compare the master keys with the database before a row is touched; makes the audit head of a new database.

    Raises ``Misconfigured`` when the database belongs to another master key, has rows under one that is not here, or
    under a newer one than the one that seals here: nothing is ever marked damaged for
    that; ``AuditBroken`` when the head is gone, or it or the register of keys does not bear its seal.
    """
    session, wired = bundle.transactions.session, wiring()
    unverified = "which key, before any seal"
    head = select(AuditHead.__table__.c.seal_key_id).execution_options(unverified=unverified)
    entry = select(AuditEntry.__table__.c.sequence).limit(1).execution_options(unverified=unverified)
    with bundle.transactions.reading():
        key_ids = list(session.execute(head).scalars())
        is_new = not key_ids and session.execute(entry).first() is None
    if not key_ids and not is_new:
        raise AuditBroken("The audit chain has no head. Run `docvault audit verify`.")
    if is_new:
        bundle.transactions.writing(audit.make_head, always=True)
        return
    if key_ids[0] not in wired.master.key_ids:
        raise Misconfigured(
            "The master key is not the one of this database. Nothing was touched. Put back the key that this vault was "
            "made with, or add it to DOCVAULT_MASTER_KEY_FALLBACKS."
        )
    try:
        with bundle.transactions.reading():
            session.get(AuditHead, audit.HEAD_ID)
            promotion.check(session, wired.master)
    except KeyUnavailable as unavailable:
        raise Misconfigured(str(unavailable)) from unavailable
    except Unreadable as unreadable:
        raise AuditBroken(
            "The audit chain's head, or the register of master keys, does not bear its seal. "
            "Run `docvault audit verify`."
        ) from unreadable


def install_seals(app: Flask) -> None:
    """Hang the row seals on every session of the application's database."""
    seals.install(db.session)


def alarm() -> Alarm | None:
    """Say why nothing can be changed at the moment, or ``None``; a database that is away keeps that for itself."""
    bundle = services()
    try:
        return bundle.transactions.halt.shown(bundle.transactions)
    except VaultError:
        return None


def unready() -> list[str]:
    """Name what keeps the vault from working: the database, the master key, the blob store."""
    wrong = []
    try:
        check_master_key(services())
    except Misconfigured:
        wrong.append("master key")
    except AuditBroken:
        wrong.append("audit chain")
    except VaultError:
        wrong.append("database")
    try:
        next(iter(wiring().store.list("0" * 32)), None)
    except VaultError:
        wrong.append("blob store")
    return wrong
