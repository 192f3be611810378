"""PostgreSQL from the system's package: a cluster in a temporary folder, as a user that is not root."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import psycopg
from psycopg import sql

from tests.servers.processes import LOOPBACK, ServerProcess, free_ports

SUPERUSER = "docvault"


class PostgresServer:
    """A running cluster; ``url`` is its empty first database."""

    def __init__(self, folder: Path, port: int, password: str, begin: Callable[[], ServerProcess]) -> None:
        self._folder = folder
        self._password = password
        self._begin = begin
        self.port = port
        self.process = begin()
        self.url = self.url_of("postgres")

    def url_of(self, database: str) -> str:
        return f"postgresql://{SUPERUSER}:{self._password}@{LOOPBACK}:{self.port}/{database}"

    def new_database(self, copy_of: str = "template1") -> str:
        """Make a database with a name of its own, empty or a copy of another one's, and return its URL.

        A copy needs the other one to have no open connection.
        """
        name = f"test_{secrets.token_hex(8)}"
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                    sql.Identifier(name), sql.Identifier(copy_of.rsplit("/", 1)[-1])
                )
            )
        return self.url_of(name)

    def restart_at_once(self) -> None:
        """What ``pg_ctl restart -m immediate`` does: no connection is ended properly, the log is replayed."""
        self.process.send(signal.SIGQUIT)
        self.process = self._begin()
        self.process.wait_until(lambda: _serves(self.url))

    def stop(self) -> None:
        self.process.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


def find_postgresql() -> Path | None:
    """Return the folder that holds ``initdb`` and ``postgres``: the newest of Debian's, or the one on the path.

    As root without a user ``postgres`` there is none either: PostgreSQL refuses to run as root.
    """
    if os.geteuid() == 0 and _unprivileged() is None:
        return None
    versions = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3])
    )
    found = str(versions[-1]) if versions else shutil.which("initdb")
    return Path(found).resolve().parent if found else None


def start_postgresql(binaries: Path, **given: str) -> PostgresServer:
    """Make a cluster and start it, about two seconds; it does not sync to disk, so it forgets in a power cut.

    ``given`` are settings of the server; ``synchronous_commit="on"`` for one that is killed.

    The folder is made in the system's temporary folder: pytest's own may be closed to the user ``postgres``.
    """
    user = _unprivileged() if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="docvault-postgresql-"))
    password = secrets.token_hex(16)
    try:
        secret, data, log = folder / "password", folder / "data", folder / "log"
        secret.write_text(password)
        log.touch()
        if user is not None:
            for path in (folder, secret, log):
                shutil.chown(path, user, user)
        subprocess.run(
            [
                binaries / "initdb",
                f"--pgdata={data}",
                f"--username={SUPERUSER}",
                f"--pwfile={secret}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
            ],
            check=True,
            capture_output=True,
            cwd=folder,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
        )
        (port,) = free_ports(1)
        settings = {
            "fsync": "off",
            "full_page_writes": "off",
            "synchronous_commit": "off",
            "listen_addresses": LOOPBACK,
            "unix_socket_directories": str(folder),
            "max_connections": "100",
        } | given
        command: list[str | Path] = [
            binaries / "postgres", "-D", data, "-p", str(port),
            *(f"--{name}={value}" for name, value in settings.items()),
        ]  # fmt: skip

        def begin() -> ServerProcess:
            # SIGINT is the "fast" shutdown: it does not wait for clients.
            return ServerProcess(command, log, folder=folder, user=user, stop_signal=signal.SIGINT)

        server = PostgresServer(folder, port, password, begin)
        server.process.wait_until(lambda: _serves(server.url))
        return server
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _unprivileged() -> str | None:
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        return None


def _serves(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True
