"""The cast of all tests, and the vault they meet in."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from flask import Flask
from flask.testing import FlaskClient

from vault.app import create_app, migrate_schema
from vault.config import Settings, load_settings
from vault.extensions import db
from vault.services.unlocked import UnlockedAccount
from vault.wiring import Services, services

NAMES = ("alice", "bob", "charlie", "dora")
ORIGIN = "http://localhost"
MASTER_KEY = "5f0c7a1e93d24b68" * 4


@dataclass
class Member:
    """One of the cast, logged in: his passphrase, his unlocked account for services, his session's token."""

    name: str
    passphrase: str = field(repr=False)
    account: UnlockedAccount
    token: str = field(repr=False)
    device: str = field(repr=False, default="")

    def elsewhere(self) -> Member:
        """The same person in a copy of the vault: what happens to his keys there is nothing to him here."""
        account = replace(self.account, older=dict(self.account.older), _opened={})
        return replace(self, account=account)


def settings_for(instance: Path, **given: Any) -> Settings:
    """Settings for a test: nothing of the machine's environment, sessions that outlive the run."""
    options = {"_env_file": None, "instance": instance, "session_idle_minutes": 1440, "session_hours": 24}
    return load_settings(**(options | given))


def register_cast(instance: Path, **given: Any) -> Vault:
    """Make a vault and let the cast register and log in: Dora by the set-up code, the others openly."""
    vault = Vault(instance, settings_for(instance, registration="open", **given))
    with vault.services() as bundle:
        code = bundle.invitations.make_setup_code()
        for name in ("dora", "alice", "bob", "charlie"):
            new = bundle.accounts.register(name, code if name == "dora" else None)
            logged_in = bundle.sessions.log_in(name, new.passphrase, address="127.0.0.1", client="tests")
            vault.members[name] = Member(
                name, new.passphrase, logged_in.account, logged_in.token, logged_in.device
            )
    return vault


class Vault:
    """A running application on a folder of its own."""

    def __init__(self, instance: Path, settings: Settings, members: dict[str, Member] | None = None) -> None:
        self.instance = instance
        self.settings = settings
        self.members: dict[str, Member] = dict(members or {})
        self.app: Flask = create_app(settings)
        with self.app.app_context():
            migrate_schema(self.app)
        self.app.extensions["docvault"].store.check()

    def __getattr__(self, name: str) -> Member:
        try:
            return self.__dict__["members"][name]  # type: ignore[no-any-return]
        except KeyError:
            raise AttributeError(name) from None

    def copied_to(self, instance: Path, **given: Any) -> Vault:
        """Open a copy of this vault's folder; members keep their sessions, with tokens made anew."""
        members = {name: member.elsewhere() for name, member in self.members.items()}
        vault = Vault(instance, settings_for(instance, **({"registration": "open"} | given)), members)
        with vault.services() as bundle:
            for member in vault.members.values():
                member.token = bundle.sessions.token_for(member.account)
        return vault

    def reopened(self, **given: Any) -> Vault:
        """Open the same folder again with other settings, as after a restart."""
        return Vault(
            self.instance, settings_for(self.instance, **({"registration": "open"} | given)), self.members
        )

    def close(self) -> None:
        with self.app.app_context():
            db.engine.dispose()

    @contextmanager
    def services(self) -> Iterator[Services]:
        """The services outside of a request, as the command line has them."""
        with self.app.app_context():
            try:
                yield services()
            finally:
                db.session.remove()

    @property
    def blobs(self) -> Path:
        return self.instance / "blobs"

    def blob_files(self) -> list[Path]:
        """All blobs of the folder store, by name."""
        return sorted(path for path in self.blobs.glob("[0-9a-f]*/*") if path.is_file())

    # Faces

    def api(self, name: str | None = None) -> Api:
        """A client of the JSON API: one of the cast with a bearer token, or a stranger to the vault."""
        return Api(self.app, self.members[name].token if name else None)

    def browser(self, name: str | None = None) -> Browser:
        """A client of the pages, without scripts: one of the cast with the cookie, or somebody logged out."""
        return Browser(self.app, self.members[name].token if name else None)

    # Documents

    def upload(
        self, owner: str, content: bytes = b"hello", name: str = "hello.txt", share: tuple[str, ...] = ()
    ) -> bytes:
        """Let somebody upload a document by the services; return its id."""
        with self.services() as bundle:
            account = self.members[owner].account
            return bundle.uploads.receive(
                account, reader(content), name=name, length=len(content),
                recipients=bundle.uploads.resolve(account, share),
            )  # fmt: skip

    def read(self, who: str, document_id: bytes) -> bytes:
        """Read a document's content as somebody, by the services."""
        with self.services() as bundle:
            opened = bundle.downloads.open(self.members[who].account, document_id)
            return b"".join(opened.stream(0, opened.size))

    # What an attacker who writes to the database does

    @contextmanager
    def database(self) -> Iterator[sqlite3.Connection]:
        """The SQLite file itself, past every seal; commits at the end."""
        connection = sqlite3.connect(self.instance / "vault.sqlite3")
        connection.row_factory = sqlite3.Row
        try:
            yield connection
            connection.commit()
        finally:
            connection.close()

    def audit(self) -> list[tuple[str, str | None, bool, str | None]]:
        """The audit log as (action, object id in hex, succeeded, detail), oldest first."""
        with self.database() as connection:
            rows = connection.execute(
                "SELECT action, object_id, succeeded, detail FROM audit_entry ORDER BY sequence"
            ).fetchall()
        return [(row[0], row[1].hex() if row[1] else None, bool(row[2]), row[3]) for row in rows]


def reader(content: bytes, step: int = 2**20) -> Any:
    """A ``read(n)`` over bytes that gives at most ``step`` at once."""
    at = 0

    def read(size: int) -> bytes:
        nonlocal at
        piece = content[at : at + min(size, step)]
        at += len(piece)
        return piece

    return read


class Api:
    """A client of ``/api/v1``; paths are given from there on."""

    def __init__(self, app: Flask, token: str | None) -> None:
        self.client: FlaskClient = app.test_client(use_cookies=False)
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def open(self, method: str, path: str, **options: Any) -> Any:
        headers = self.headers | dict(options.pop("headers", {}))
        return self.client.open(f"/api/v1{path}", method=method, headers=headers, **options)

    def get(self, path: str, **options: Any) -> Any:
        return self.open("GET", path, **options)

    def head(self, path: str, **options: Any) -> Any:
        return self.open("HEAD", path, **options)

    def post(self, path: str, **options: Any) -> Any:
        return self.open("POST", path, **options)

    def put(self, path: str, **options: Any) -> Any:
        return self.open("PUT", path, **options)

    def patch(self, path: str, **options: Any) -> Any:
        return self.open("PATCH", path, **options)

    def delete(self, path: str, **options: Any) -> Any:
        return self.open("DELETE", path, **options)


class Browser:
    """A browser without scripts: cookies, and forms sent with the CSRF token of the page they stand on."""

    def __init__(self, app: Flask, token: str | None) -> None:
        self.client: FlaskClient = app.test_client()
        if token:
            self.client.set_cookie("docvault", token, domain="localhost")

    def get(self, path: str, **options: Any) -> Any:
        return self.client.get(path, **options)

    def csrf(self, path: str = "/login") -> str:
        """Read the CSRF token from the form on a page."""
        found = re.search(
            r'name="csrf_token"[^>]*value="([^"]+)"', self.get(path, follow_redirects=True).text
        )
        if found is None:
            raise LookupError(f"{path} has no form with a CSRF token")
        return found.group(1)

    def post(
        self, path: str, data: dict[str, Any] | None = None, form_on: str | None = None, **options: Any
    ) -> Any:
        """Send a form as its page would; ``form_on`` is the page when it is another one than ``path``."""
        body = {"csrf_token": self.csrf(form_on or path)} | (data or {})
        return self.client.post(path, data=body, **options)
