"""F11: a database that is locked, cut off, restarted at once, deadlocked, or has no connection left."""

from __future__ import annotations

import os
import random  # noqa: TID251  (what each client does next, from a seed that is printed)
import shutil
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from tests.cast import MASTER_KEY, Vault
from tests.servers.plugin import need
from tests.servers.postgres import PostgresServer, start_postgresql
from tests.servers.relay import Relay
from vault.errors import Busy
from vault.extensions import db
from vault.models import User

ALLOWED = {200, 201, 204, 400, 404, 409, 503}


def findings(vault: Vault) -> list[Any]:
    with vault.services() as bundle:
        return list(bundle.check.run().findings)


# SQLite: see also ``tests/test_bad_input.py``


def test_f11_a_long_reader_keeps_nobody_from_writing(vault: Vault) -> None:
    connection = sqlite3.connect(vault.instance / "vault.sqlite3", isolation_level=None)
    connection.execute("BEGIN")
    connection.execute("SELECT count(*) FROM audit_entry").fetchone()
    document = vault.upload("alice", b"while somebody reads", share=("bob",))
    assert vault.read("bob", document) == b"while somebody reads"
    connection.execute("ROLLBACK")
    connection.close()
    assert findings(vault) == []


# A pool without a connection left


@pytest.mark.requirement(54)
def test_f11_a_pool_without_a_connection_left_is_503_in_time(any_vault: Vault) -> None:
    vault = any_vault
    document = vault.upload("alice", b"content").hex()
    with vault.app.app_context():
        engine = db.engine
    engine.pool._timeout = 0.1  # type: ignore[attr-defined]
    held = [engine.connect() for _ in range(vault.settings.threads + 2 + 4)]
    try:
        for answer in (
            vault.api("alice").get("/documents"),
            vault.api("alice").post("/documents?name=a", data=b"x"),
            vault.api("alice").get(f"/documents/{document}/content"),
            vault.browser("alice").get("/"),
            vault.api().post("/token", json={"username": "alice", "passphrase": vault.alice.passphrase}),
        ):
            assert answer.status_code == 503, answer.text
            assert int(answer.headers["Retry-After"]) > 0
        assert vault.app.test_client().get("/healthz").status_code == 200
        assert vault.app.test_client().get("/readyz").status_code == 503
    finally:
        for connection in held:
            connection.close()
    assert vault.api("alice").get(f"/documents/{document}/content").data == b"content"
    assert findings(vault) == []


# PostgreSQL


@pytest.fixture
def relayed(
    postgresql: PostgresServer, postgresql_cast: tuple[Path, Vault, str], tmp_path: Path
) -> Iterator[tuple[Vault, Relay]]:
    """A vault on PostgreSQL, behind a relay."""
    folder, made, url = postgresql_cast
    shutil.copytree(folder, tmp_path / "instance")
    with Relay(postgresql.port) as relay:
        behind = postgresql.new_database(url).replace(f":{postgresql.port}/", f":{relay.port}/")
        vault = made.copied_to(tmp_path / "instance", database_url=behind, master_key=MASTER_KEY)
        yield vault, relay
        relay.refusing, relay.delay = False, 0
        vault.close()


def test_f11_a_connection_that_is_cut_is_503_or_not_seen_at_all(relayed: tuple[Vault, Relay]) -> None:
    vault, relay = relayed
    document = vault.upload("alice", b"content", share=("bob",)).hex()
    for _ in range(3):
        relay.cut()
        assert vault.api("alice").get("/documents").status_code in {200, 503}
        relay.cut()
        assert vault.api("alice").post("/documents?name=cut", data=b"x").status_code in {201, 503}
    relay.refusing = True
    relay.cut()
    for answer in (
        vault.api("alice").get("/documents"),
        vault.api("alice").patch(f"/documents/{document}", json={"name": "new"}),
        vault.api("bob").get(f"/documents/{document}/content"),
        vault.browser("bob").get("/shared"),
    ):
        assert answer.status_code == 503, answer.text
        assert int(answer.headers["Retry-After"]) > 0
    assert vault.app.test_client().get("/readyz").status_code == 503
    relay.refusing = False
    assert vault.api("bob").get(f"/documents/{document}/content").data == b"content"
    assert vault.app.test_client().get("/readyz").status_code == 200
    assert findings(vault) == []


def test_f11_a_connection_that_is_cut_inside_a_transaction_leaves_no_half_effect(
    relayed: tuple[Vault, Relay],
) -> None:
    vault, relay = relayed
    with vault.services() as bundle:

        def work(session: Session) -> None:
            session.scalars(select(User)).all()
            relay.cut()
            session.scalars(select(User).with_for_update()).all()

        with pytest.raises(Busy):
            bundle.transactions.writing(work)
        with pytest.raises(Busy), bundle.transactions.reading() as session:
            session.scalars(select(User)).all()
            relay.cut()
            session.expire_all()
            session.scalars(select(User)).all()
    assert vault.api("alice").get("/documents").status_code == 200
    assert findings(vault) == []


def test_f11_a_slow_database_is_slow_and_nothing_worse(relayed: tuple[Vault, Relay]) -> None:
    vault, relay = relayed
    relay.delay = 0.01
    sent = vault.api("alice").post("/documents?name=slow", data=b"slow")
    assert sent.status_code == 201
    relay.stalled.set()
    threading.Timer(1, relay.stalled.clear).start()
    began = time.monotonic()
    assert vault.api("alice").get(f"/documents/{sent.json['id']}/content").data == b"slow"
    assert time.monotonic() - began > 0.8


@pytest.mark.requirement(54)
def test_f11_a_database_machine_that_is_dead_is_given_up(relayed: tuple[Vault, Relay]) -> None:
    """Nobody answers, not even its kernel: only these options of the connection end the wait."""
    vault, _ = relayed
    with vault.app.app_context(), db.engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        own = socket.socket(fileno=os.dup(driver.fileno()))
        with own:
            assert own.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 15000
            assert own.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert own.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 10


def test_f11_a_deadlock_is_tried_again(relayed: tuple[Vault, Relay]) -> None:
    """Two transactions lock two rows in opposite order; PostgreSQL ends one, which runs again."""
    vault, _ = relayed
    both, runs = threading.Barrier(2), [0, 0]
    ids = [vault.alice.account.user_id, vault.bob.account.user_id]

    def lock_both(mine: int) -> None:
        with vault.services() as bundle:

            def work(session: Session) -> None:
                runs[mine] += 1
                for user_id in (ids[mine], ids[1 - mine]):
                    session.scalars(select(User).where(User.id == user_id).with_for_update()).one()
                    if runs[mine] == 1 and user_id == ids[mine]:
                        both.wait(10)

            bundle.transactions.writing(work)

    threads = [threading.Thread(target=lock_both, args=(mine,)) for mine in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(runs) == [1, 2]


def test_f11_a_row_that_stays_locked_is_503_within_eight_seconds(relayed: tuple[Vault, Relay]) -> None:
    vault, _ = relayed
    url = vault.settings.database.replace("+psycopg", "")
    with psycopg.connect(url) as other:
        other.execute("SELECT * FROM audit_head FOR UPDATE")
        began = time.monotonic()
        answer = vault.api("alice").post("/documents?name=locked", data=b"x")
        assert answer.status_code == 503 and int(answer.headers["Retry-After"]) > 0
        assert time.monotonic() - began < 8
        assert vault.api("alice").get("/documents").json["items"] == []
    assert vault.api("alice").post("/documents?name=free", data=b"x").status_code == 201
    assert findings(vault) == []


class Client(threading.Thread):
    """Somebody who uploads, replaces, shares, revokes, renames and reads, and notes what was acknowledged."""

    def __init__(self, vault: Vault, who: str, seed: int, over: threading.Event) -> None:
        super().__init__()
        self.api = vault.api(who)
        self.other = "bob" if who == "alice" else "alice"
        self.random = random.Random(f"{seed} {who}")
        self.over = over
        self.holds: dict[str, list[bytes]] = {}
        self.statuses: list[tuple[str, int]] = []

    def run(self) -> None:
        while not self.over.is_set():
            act = self.random.choice(
                [self.upload, self.upload, self.replace, self.share, self.revoke, self.read]
            )
            act()

    def note(self, act: str, answer: Any) -> bool:
        self.statuses.append((act, answer.status_code))
        return bool(answer.status_code < 300)

    def upload(self) -> None:
        content = os.urandom(2000)
        answer = self.api.post("/documents?name=a", data=content)
        if self.note("upload", answer):
            self.holds[answer.json["id"]] = [content]

    def any(self) -> str | None:
        return self.random.choice(list(self.holds)) if self.holds else None

    def replace(self) -> None:
        if document := self.any():
            content = os.urandom(2000)
            answer = self.api.put(f"/documents/{document}/content", data=content)
            if self.note("replace", answer):
                self.holds[document] = [content]
            else:
                self.holds[document].append(content)  # a commit whose answer was lost

    def share(self) -> None:
        if document := self.any():
            self.note(
                "share", self.api.post(f"/documents/{document}/shares", json={"usernames": [self.other]})
            )

    def revoke(self) -> None:
        if document := self.any():
            self.note("revoke", self.api.delete(f"/documents/{document}/shares/{self.other}"))

    def read(self) -> None:
        if document := self.any():
            answer = self.api.get(f"/documents/{document}/content")
            if self.note("read", answer):
                assert answer.data in self.holds[document]
            self.note("list", self.api.get("/documents"))


@pytest.mark.postgresql
@pytest.mark.parametrize("restarts", [2, pytest.param(60, marks=pytest.mark.long)])
def test_f11_postgresql_restarted_at_once_under_load(
    cast_folder: tuple[Path, Vault], tmp_path: Path, restarts: int
) -> None:
    """Never a 500, never a half effect, and nothing acknowledged is missing."""
    from tests.cast import register_cast

    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    server = start_postgresql(need("postgresql"), synchronous_commit="on")
    try:
        vault = register_cast(tmp_path / "instance", database_url=server.url, master_key=MASTER_KEY)
        over = threading.Event()
        clients = [Client(vault, who, seed, over) for who in ("alice", "bob")]
        for client in clients:
            client.start()
        for _ in range(restarts):
            known = sum(len(client.statuses) for client in clients)
            while sum(len(client.statuses) for client in clients) < known + 20:
                time.sleep(0.01)
            server.restart_at_once()
        over.set()
        for client in clients:
            client.join(60)
        statuses = [each for client in clients for each in client.statuses]
        assert {status for _, status in statuses} <= ALLOWED, (
            seed,
            [s for s in statuses if s[1] not in ALLOWED],
        )
        assert any(status == 503 for _, status in statuses), "the restarts were met"
        assert findings(vault) == [], seed
        for client in clients:
            shown = {item["id"] for item in client.api.get("/documents?limit=1000&scope=owned").json["items"]}
            assert set(client.holds) <= shown, seed
            for document, contents in client.holds.items():
                assert client.api.get(f"/documents/{document}/content").data in contents, seed
        vault.close()
    finally:
        server.stop()
