"""Uploads that resume, through the services, on both databases: races, completion, quota, expiry, the sweep.

Each story ends with ``docvault check`` finding nothing, right away and after everything has expired (I5, I7, I8).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.cast import MASTER_KEY, Vault, reader
from tests.house import refill
from tests.tus import metadata as words
from vault.crypto.tokens import TokenClaims
from vault.errors import (
    BadInput,
    BrokenOff,
    Conflict,
    Exists,
    Forbidden,
    Gone,
    Locked,
    NotFound,
    OffsetMismatch,
    QuotaExceeded,
    StoreUnavailable,
    TooLarge,
    TooManyUploads,
    VaultError,
)
from vault.services import clock, quota
from vault.services.pipeline import Pipeline
from vault.services.resumable import Progress, Told
from vault.services.unlocked import UnlockedAccount
from vault.services.wishes import Wishes, wishes_of

PART = 32768


@dataclass
class Sender:
    """Somebody who uploads by the services, each call with services of its own as a request has them."""

    vault: Vault
    name: str = "alice"

    @property
    def account(self) -> UnlockedAccount:
        return self.vault.members[self.name].account

    def claims(self) -> TokenClaims:
        with self.vault.services() as bundle:
            return bundle.sessions.bearer(self.vault.members[self.name].token)

    def begin(self, length: int | None, *, partial: bool = False, metadata: str = "") -> Progress:
        with self.vault.services() as bundle:
            return bundle.resumable.begin(
                self.account, length, Told(metadata, wishes_of(metadata)), partial=partial
            )

    def piece(
        self,
        token: str,
        offset: int,
        body: bytes,
        *,
        announced: int | None = -1,
        declared: int | None = None,
        read: Callable[[int], bytes] | None = None,
        claims: TokenClaims | None = None,
    ) -> Progress:
        with self.vault.services() as bundle:
            return bundle.resumable.append(
                claims or self.claims(), token, offset, read or reader(body), declared=declared,
                announced=len(body) if announced == -1 else announced, unlock=bundle.sessions.recognise,
            )  # fmt: skip

    def look(self, token: str) -> Progress:
        with self.vault.services() as bundle:
            return bundle.resumable.look(self.account, token)

    def join(self, *tokens: str, metadata: str = "") -> Progress:
        told = Told(
            metadata, wishes_of(metadata), f"final;{' '.join(f'/uploads/{token}' for token in tokens)}"
        )
        with self.vault.services() as bundle:
            return bundle.resumable.join(self.account, tokens, told)

    def end(self, token: str) -> None:
        with self.vault.services() as bundle:
            bundle.resumable.end(self.account, token)


def small(vault: Vault, **settings: Any) -> Vault:
    """The same vault with parts of 32 KiB, so that a piece has many."""
    given = {"part_size": PART, "database_url": vault.settings.database_url} | settings
    if vault.settings.master_key.get_secret_value():
        given["master_key"] = MASTER_KEY
    own = vault.reopened(**given)
    own.members = {name: member.elsewhere() for name, member in own.members.items()}
    return own


LIMITS = {"quota_bytes": 10 * PART, "max_document_bytes": 8 * PART, "max_open_uploads": 3}


@pytest.fixture(scope="module")
def standing_small(
    cast_folder: tuple[Path, Vault], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[bool, Vault]]:
    """Two applications for all tests on SQLite: one with limits, one without."""
    folder, made = cast_folder
    own = {}
    for has_limits in (False, True):
        instance = tmp_path_factory.mktemp("small") / "instance"
        shutil.copytree(folder, instance)
        own[has_limits] = small(made.copied_to(instance), **(LIMITS if has_limits else {}))
    yield own
    for vault in own.values():
        vault.close()


@pytest.fixture
def vault(standing_small: dict[bool, Vault], cast_folder: tuple[Path, Vault]) -> Vault:
    """A vault with small parts, on SQLite."""
    return refill(standing_small[False], cast_folder[0], cast_folder[1].members)


@pytest.fixture
def alice(vault: Vault) -> Iterator[Sender]:
    """Alice; her vault is whole at the end of the test, and nothing is left when all has expired."""
    yield Sender(vault)
    whole_until_all_is_expired(vault)


@pytest.fixture(params=["sqlite", "postgresql"])
def anywhere(request: pytest.FixtureRequest) -> Iterator[Sender]:
    """The same on each database in turn, for what transactions and locks decide."""
    if request.param == "sqlite":
        yield request.getfixturevalue("alice")
        return
    own = small(postgresql_vault(request))
    yield Sender(own)
    whole_until_all_is_expired(own)
    own.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def limited(request: pytest.FixtureRequest) -> Iterator[Vault]:
    """A vault with small limits, on each database in turn; whole at the end."""
    if request.param == "sqlite":
        folder, made = request.getfixturevalue("cast_folder")
        own = refill(request.getfixturevalue("standing_small")[True], folder, made.members)
    else:
        own = small(postgresql_vault(request), **LIMITS)
    yield own
    assert findings(own) == []
    own.close()


def postgresql_vault(request: pytest.FixtureRequest) -> Vault:
    server = request.getfixturevalue("postgresql")
    folder, made, url = request.getfixturevalue("postgresql_cast")
    instance = request.getfixturevalue("tmp_path") / "instance"
    shutil.copytree(folder, instance)
    own: Vault = made.copied_to(instance, database_url=server.new_database(url), master_key=MASTER_KEY)
    own.close()
    return own


def findings(vault: Vault) -> list[Any]:
    with vault.services() as bundle:
        return list(bundle.check.run().findings)


def whole_until_all_is_expired(vault: Vault) -> None:
    assert findings(vault) == []
    read = documents(vault)
    with pytest.MonkeyPatch.context() as patch, vault.services() as bundle:
        later = clock.now() + timedelta(days=3)
        patch.setattr(clock, "now", lambda: later)
        bundle.sweep.run()
        assert findings(vault) == []
    assert documents(vault) == read, "what became a document outlives its upload"
    names = {f"{path.parent.name}/{path.name}" for path in vault.blob_files()}
    with vault.services() as bundle:
        report = bundle.check.run()
    assert report.counted["upload"] == report.counted["tombstone"] == 0
    assert len(names) == report.counted["blob"], "and nothing else is left in the store"


def documents(vault: Vault) -> dict[bytes, bytes]:
    with vault.services() as bundle:
        page = bundle.lists.page(vault.alice.account, scope="owned", limit=1000)
    return {item.id: vault.read("alice", item.id) for item in page.items}


def expires(monkeypatch: pytest.MonkeyPatch, moment: datetime) -> None:
    monkeypatch.setattr(clock, "now", lambda: moment)


def token_anew(vault: Vault, name: str = "alice") -> None:
    """A token of the hour that the clock shows, in the same session: what a client's renewal gives."""
    with vault.services() as bundle:
        vault.members[name].token = bundle.sessions.token_for(vault.members[name].account)


def log_in_anew(vault: Vault, name: str = "alice") -> None:
    member = vault.members[name]
    with vault.services() as bundle:
        logged_in = bundle.sessions.log_in(name, member.passphrase, address="127.0.0.1", client="tests")
    member.account, member.token = logged_in.account, logged_in.token


def log_out(vault: Vault, name: str = "alice") -> None:
    with vault.services() as bundle:
        bundle.sessions.log_out(vault.members[name].account)


def together(*acts: Callable[[], Any]) -> list[Any]:
    """Do all at once, each in a thread; return what each returned or raised."""
    barrier, results = threading.Barrier(len(acts)), [None] * len(acts)

    def run(place: int) -> None:
        barrier.wait()
        try:
            results[place] = acts[place]()
        except VaultError as error:
            results[place] = error

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


# Pieces


def test_an_upload_in_pieces_becomes_a_document(alice: Sender) -> None:
    content = os.urandom(3 * PART + 100)
    begun = alice.begin(len(content))
    assert (begun.offset, begun.length, begun.document_id) == (0, len(content), None)
    offset = 0
    for size in (1, PART - 1, PART + 7, PART - 7 + 100):
        sent = alice.piece(begun.token, offset, content[offset : offset + size])
        offset += size
        assert sent.offset == offset == alice.look(begun.token).offset
    assert offset == len(content) and sent.document_id is not None
    assert alice.vault.read("alice", sent.document_id) == content
    assert alice.look(begun.token).document_id == sent.document_id


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 2 * PART, 2 * PART + 1])
def test_an_upload_of_one_piece_tells_its_hash(vault: Vault, size: int) -> None:
    alice = Sender(vault)
    content = os.urandom(size)
    begun = alice.begin(size)
    sent = alice.piece(begun.token, 0, content) if size else begun
    assert sent.document_id is not None
    with alice.vault.services() as bundle:
        view = bundle.documents.view(alice.account, sent.document_id)
        assert (view.size, view.sha256) == (size, hashlib.sha256(content).hexdigest())
    assert alice.vault.read("alice", sent.document_id) == content
    whole_until_all_is_expired(vault)


def test_the_whole_offset_is_told_only_once_there_is_a_document(
    alice: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients take "offset equals length" for success: all is in the store, but the commit is refused."""
    begun = alice.begin(PART + 5)
    monkeypatch.setattr("vault.services.uploads.Uploads.insert", refuse)
    with pytest.raises(Conflict):
        alice.piece(begun.token, 0, bytes(PART + 5))
    assert alice.look(begun.token).offset == PART
    monkeypatch.undo()
    assert alice.piece(begun.token, PART, bytes(5)).document_id is not None
    assert alice.look(begun.token).offset == PART + 5


def refuse(*_: Any, **__: Any) -> None:
    raise Conflict


def test_a_refused_completion_does_not_fill_the_store(
    anywhere: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = anywhere.begin(PART)
    monkeypatch.setattr("vault.services.uploads.Uploads.insert", refuse)
    for _ in range(5):
        with pytest.raises(Conflict):
            anywhere.piece(begun.token, 0, bytes(PART))
    with anywhere.vault.services() as bundle:
        bundle.sweep.run()
    assert anywhere.vault.blob_files() == []
    monkeypatch.undo()
    assert anywhere.piece(begun.token, 0, bytes(PART)).document_id is not None


def test_what_arrived_of_a_piece_that_breaks_off_is_kept(alice: Sender) -> None:
    content = os.urandom(4 * PART)
    begun = alice.begin(len(content))
    with pytest.raises(BrokenOff):
        alice.piece(begun.token, 0, content[: 2 * PART + 77], announced=len(content))
    assert alice.look(begun.token).offset == 2 * PART + 77
    sent = alice.piece(begun.token, 2 * PART + 77, content[2 * PART + 77 :])
    assert sent.document_id and alice.vault.read("alice", sent.document_id) == content


def test_more_than_was_said_is_refused(alice: Sender) -> None:
    begun = alice.begin(PART)
    with pytest.raises(TooLarge):
        alice.piece(begun.token, 0, bytes(PART + 1))
    with pytest.raises(TooLarge):
        alice.piece(begun.token, 0, bytes(3 * PART), announced=None)
    offset = alice.look(begun.token).offset
    assert offset < PART
    assert alice.piece(begun.token, offset, bytes(PART - offset)).document_id is not None


# Races


@pytest.mark.parametrize("parts", [1, 4])
def test_f16_of_two_pieces_at_one_offset_one_wins_and_nothing_is_mixed(anywhere: Sender, parts: int) -> None:
    for _ in range(4):
        begun = anywhere.begin(10 * PART)
        anywhere.piece(begun.token, 0, b"start")
        bodies = [bytes([letter]) * (parts * PART) for letter in b"ab"]
        results = together(*[partial(anywhere.piece, begun.token, 5, body) for body in bodies])
        assert sorted(type(result).__name__ for result in results) == ["OffsetMismatch", "Progress"]
        (won,) = [body for body, result in zip(bodies, results, strict=True) if isinstance(result, Progress)]
        assert anywhere.look(begun.token).offset == 5 + len(won)
        rest = bytes(10 * PART - 5 - len(won))
        sent = anywhere.piece(begun.token, 5 + len(won), rest)
        assert sent.document_id and anywhere.vault.read("alice", sent.document_id) == b"start" + won + rest


def test_f16_a_piece_that_stalls_is_overtaken_and_mixes_nothing(alice: Sender) -> None:
    """A client that lost its connection goes on while the server still reads the old one."""
    begun, gate, stalled = alice.begin(6 * PART), threading.Event(), threading.Event()
    old = reader(b"o" * (6 * PART), PART)

    def stalling(size: int) -> bytes:
        if stalling.read >= 2 * PART:  # type: ignore[attr-defined]
            stalled.set()
            assert gate.wait(30)
        piece: bytes = old(size)
        stalling.read += len(piece)  # type: ignore[attr-defined]
        return piece

    stalling.read = 0  # type: ignore[attr-defined]
    results: list[Any] = []
    thread = threading.Thread(
        target=lambda: results.extend(
            together(lambda: alice.piece(begun.token, 0, b"", announced=6 * PART, read=stalling))
        )
    )
    thread.start()
    assert stalled.wait(30)
    offset = 2 * PART
    until(lambda: alice.look(begun.token).offset == offset)
    with pytest.raises(BrokenOff):
        alice.piece(begun.token, offset, b"n" * (PART // 2), announced=6 * PART - offset)
    gate.set()
    thread.join(60)
    assert isinstance(results[0], OffsetMismatch)
    now = alice.look(begun.token).offset
    assert now == offset + PART // 2, "the old connection put nothing behind the new one's"
    sent = alice.piece(begun.token, now, b"n" * (6 * PART - now))
    assert sent.document_id
    assert alice.vault.read("alice", sent.document_id) == b"o" * offset + b"n" * (6 * PART - offset)


def until(true: Callable[[], bool]) -> None:
    """Wait for a condition; raises ``AssertionError`` when it does not come in time."""
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@pytest.mark.requirement(60)
def test_f16_many_who_complete_at_once_make_one_document(anywhere: Sender) -> None:
    for _ in range(3):
        content = os.urandom(PART + 9)
        begun = anywhere.begin(len(content))
        anywhere.piece(begun.token, 0, content[:PART])
        before = len(anywhere.vault.blob_files())
        results = together(*[partial(anywhere.piece, begun.token, PART, content[PART:])] * 4)
        ends = {result.document_id for result in results if isinstance(result, Progress)}
        assert len(ends) == 1 and None not in ends, results
        assert all(isinstance(result, Progress | Conflict) for result in results)
        (document,) = ends
        assert anywhere.vault.read("alice", document) == content
        assert [entry[:2] for entry in actions(anywhere.vault, document)].count(("upload", document)) == 1
        with anywhere.vault.services() as bundle:
            bundle.sweep.run()
        assert len(anywhere.vault.blob_files()) == before + 1, "the last parts of the others are destroyed"
        assert findings(anywhere.vault) == []


def actions(vault: Vault, document: bytes) -> list[tuple[str, bytes | None]]:
    from sqlalchemy import select

    from vault.models import AuditEntry

    with vault.services() as bundle, bundle.transactions.reading() as session:
        rows = session.scalars(select(AuditEntry).where(AuditEntry.object_id == document)).all()
        return [(row.action, row.object_id) for row in rows]


def test_a_completion_that_is_repeated_answers_the_same_document(alice: Sender) -> None:
    begun = alice.begin(PART + 9)
    alice.piece(begun.token, 0, bytes(PART))
    first = alice.piece(begun.token, PART, b"x" * 9)
    for body in (b"x" * 9, b"y" * 9):
        assert alice.piece(begun.token, PART, body).document_id == first.document_id
    assert first.document_id
    assert alice.vault.read("alice", first.document_id) == bytes(PART) + b"x" * 9
    with pytest.raises(OffsetMismatch):
        alice.piece(begun.token, PART + 9, b"")


def test_a_piece_that_was_overtaken_by_a_completion_leaves_nothing_for_ever(anywhere: Sender) -> None:
    """A cut piece lies at the offset of the last part, under the ordinary name; then the stalled one completes."""
    begun = anywhere.begin(PART)
    ready, gate, results = threading.Event(), threading.Event(), list[Any]()
    body = reader(b"o" * PART)

    def slow(size: int) -> bytes:
        ready.set()
        assert gate.wait(30)
        piece: bytes = body(size)
        return piece

    thread = threading.Thread(
        target=lambda: results.extend(
            together(lambda: anywhere.piece(begun.token, 0, b"", announced=PART, read=slow))
        )
    )
    thread.start()
    assert ready.wait(30)
    with pytest.raises(BrokenOff):
        anywhere.piece(begun.token, 0, b"n" * 7, announced=PART)
    gate.set()
    thread.join(60)
    (sent,) = results
    assert anywhere.vault.read("alice", sent.document_id) == b"o" * PART
    assert len(anywhere.vault.blob_files()) == 2, "until the upload expires; see the end of the fixture"


# Who may


def test_a_session_that_ended_stops_the_completion_alone_and_a_new_one_completes(anywhere: Sender) -> None:
    content = os.urandom(2 * PART)
    begun, claims = anywhere.begin(len(content)), anywhere.claims()
    log_out(anywhere.vault)
    assert anywhere.piece(begun.token, 0, content[:PART], claims=claims).offset == PART, (
        "a piece needs no session"
    )
    with pytest.raises(Locked):
        anywhere.piece(begun.token, PART, content[PART:], claims=claims)
    log_in_anew(anywhere.vault)
    assert anywhere.look(begun.token).offset == PART, "nothing is lost"
    sent = anywhere.piece(begun.token, PART, content[PART:])
    assert sent.document_id and anywhere.vault.read("alice", sent.document_id) == content


def test_a_token_that_grew_old_during_a_long_piece_still_completes(
    alice: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, claims = alice.begin(5), alice.claims()
    read = reader(b"hello")

    def slow(size: int) -> bytes:
        expires(monkeypatch, claims.expires_at + timedelta(minutes=5))
        piece: bytes = read(size)
        return piece

    sent = alice.piece(begun.token, 0, b"", announced=5, read=slow, claims=claims)
    assert sent.document_id is not None
    monkeypatch.undo()


def test_a_disabled_account_completes_nothing(alice: Sender) -> None:
    begun, claims = alice.begin(5), alice.claims()
    joined = alice.begin(5, partial=True)
    with alice.vault.services() as bundle:
        bundle.accounts.change(alice.vault.dora.account, "alice", state="disabled")
    with pytest.raises(Locked):
        alice.piece(begun.token, 0, b"hello", claims=claims)
    assert alice.piece(joined.token, 0, b"hello", claims=claims).offset == 5, (
        "ciphertext that leads to nothing"
    )
    with alice.vault.services() as bundle:
        bundle.accounts.change(alice.vault.dora.account, "alice", state="active")
    with pytest.raises(Locked):
        alice.piece(begun.token, 0, b"hello", claims=claims)
    log_in_anew(alice.vault)
    assert alice.piece(begun.token, 0, b"hello").document_id is not None
    assert alice.join(joined.token).document_id is not None


def test_disabled_between_look_and_commit_completes_nothing(anywhere: Sender) -> None:
    """The account that was recognised is too old by the time the transaction locks its user."""
    begun, claims = anywhere.begin(5), anywhere.claims()

    def unlock_and_disable(given: TokenClaims) -> UnlockedAccount:
        with anywhere.vault.services() as bundle:
            account = bundle.sessions.recognise(given)
            bundle.accounts.change(anywhere.vault.dora.account, "alice", state="disabled")
            return account

    with pytest.raises(Locked), anywhere.vault.services() as bundle:
        bundle.resumable.append(
            claims, begun.token, 0, reader(b"hello"), announced=5, unlock=unlock_and_disable
        )
    with anywhere.vault.services() as bundle:
        bundle.accounts.change(anywhere.vault.dora.account, "alice", state="active")
    log_in_anew(anywhere.vault)
    assert documents(anywhere.vault) == {}


def test_43_an_upload_of_somebody_else_is_none(alice: Sender) -> None:
    begun, part = alice.begin(5), alice.begin(5, partial=True)
    alice.piece(part.token, 0, b"hello")
    for name in ("bob", "charlie", "dora"):
        other = Sender(alice.vault, name)
        for act in (
            lambda other=other: other.look(begun.token),
            lambda other=other: other.piece(begun.token, 0, b"hello"),
            lambda other=other: other.end(begun.token),
            lambda other=other: other.join(part.token),
        ):
            with pytest.raises(NotFound):
                act()
    assert alice.look(begun.token).offset == 0


# Days


def test_an_upload_begun_before_midnight_goes_on_after_it(
    alice: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    midnight = datetime.combine(
        (clock.now() + timedelta(days=1)).date(), datetime.min.time(), clock.now().tzinfo
    )
    expires(monkeypatch, midnight - timedelta(minutes=5))
    log_in_anew(alice.vault)
    begun, old = alice.begin(15, metadata="filename YQ=="), alice.claims()
    alice.piece(begun.token, 0, b"hello")
    expires(monkeypatch, midnight + timedelta(minutes=5))
    assert alice.piece(begun.token, 5, b"hello", claims=old).offset == 10, "with the token of yesterday"
    token_anew(alice.vault)
    assert alice.look(begun.token).metadata == "filename YQ=="
    sent = alice.piece(begun.token, 10, b"hello")
    assert sent.document_id and alice.vault.read("alice", sent.document_id) == b"hello" * 3
    late = alice.begin(5)
    with pytest.raises(Locked):
        alice.piece(late.token, 0, b"hello", claims=old)  # a token of yesterday has no key of today
    monkeypatch.undo()
    log_in_anew(alice.vault)


def test_an_upload_expires_with_the_day_after_its_creation(
    anywhere: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, done = anywhere.begin(2 * PART), anywhere.begin(5)
    part = anywhere.begin(PART, partial=True)
    anywhere.piece(begun.token, 0, bytes(PART))
    document = anywhere.piece(done.token, 0, b"hello").document_id
    assert document and begun.expires_at.time() == datetime.min.time()
    assert timedelta(days=1) < begun.expires_at - clock.now() <= timedelta(days=2)
    expires(monkeypatch, begun.expires_at - timedelta(seconds=1))
    log_in_anew(anywhere.vault)
    assert anywhere.look(begun.token).offset == PART
    with anywhere.vault.services() as bundle:
        bundle.sweep.run()
    assert len(anywhere.vault.blob_files()) == 2
    expires(monkeypatch, begun.expires_at)
    token_anew(anywhere.vault)
    for token in (begun.token, done.token, part.token):
        for act in (anywhere.look, anywhere.end, lambda token: anywhere.piece(token, 0, b""), anywhere.join):
            with pytest.raises(Gone):
                act(token)
    with anywhere.vault.services() as bundle:
        bundle.sweep.run()
    assert len(anywhere.vault.blob_files()) == 1, "the unfinished one is destroyed, the document is not"
    assert anywhere.vault.read("alice", document) == b"hello"
    assert findings(anywhere.vault) == []
    monkeypatch.undo()
    log_in_anew(anywhere.vault)


def test_a_piece_under_way_when_its_upload_expires_puts_nothing_more(
    alice: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, claims = alice.begin(4 * PART), alice.claims()
    body, given = reader(bytes(4 * PART), PART), 0

    def slow(size: int) -> bytes:
        nonlocal given
        if given >= 2 * PART:
            expires(monkeypatch, begun.expires_at)
        piece: bytes = body(size)
        given += len(piece)
        return piece

    with pytest.raises(Gone):
        alice.piece(begun.token, 0, b"", announced=4 * PART, read=slow, claims=claims)
    assert len(alice.vault.blob_files()) <= 2
    with alice.vault.services() as bundle:
        bundle.sweep.run()
    assert alice.vault.blob_files() == []
    monkeypatch.undo()


# End


def test_an_ended_upload_is_gone_and_its_bytes_are_destroyed(alice: Sender) -> None:
    for is_partial in (False, True):
        begun = alice.begin(2 * PART, partial=is_partial)
        alice.piece(begun.token, 0, bytes(PART))
        alice.end(begun.token)
        assert [path.name for path in alice.vault.blob_files() if path.stat().st_size] == []
        for act in (alice.look, alice.end, lambda token: alice.piece(token, PART, bytes(PART))):
            with pytest.raises(Gone):
                act(begun.token)
        assert findings(alice.vault) == []


def test_one_that_is_a_document_is_not_ended(alice: Sender) -> None:
    begun, part = alice.begin(5), alice.begin(5, partial=True)
    document = alice.piece(begun.token, 0, b"hello").document_id
    alice.piece(part.token, 0, b"hello")
    final = alice.join(part.token)
    for token in (begun.token, part.token, final.token):
        with pytest.raises(Conflict):
            alice.end(token)
    assert document and alice.vault.read("alice", document) == b"hello"


def test_a_piece_under_way_when_its_upload_is_ended_completes_nothing(anywhere: Sender) -> None:
    begun = anywhere.begin(2 * PART)
    body, given = reader(bytes(2 * PART), PART), 0

    def slow(size: int) -> bytes:
        nonlocal given
        if given == PART:
            anywhere.end(begun.token)
        piece: bytes = body(size)
        given += len(piece)
        return piece

    with pytest.raises(Gone):
        anywhere.piece(begun.token, 0, b"", announced=2 * PART, read=slow)
    assert documents(anywhere.vault) == {}


# What the metadata ask for


def test_the_metadata_become_name_type_folder_and_readers(alice: Sender) -> None:
    told = words(
        filename="Bericht.pdf", filetype="application/pdf", path="Finanzen/2026", recipients="bob,charlie"
    )
    document = alice.piece(alice.begin(5, metadata=told).token, 0, b"hello").document_id
    assert document
    with alice.vault.services() as bundle:
        view = bundle.documents.view(alice.account, document)
    assert (view.name, view.media_type, view.path) == ("Bericht.pdf", "application/pdf", ("Finanzen", "2026"))
    assert alice.vault.read("bob", document) == alice.vault.read("charlie", document) == b"hello"
    with pytest.raises(NotFound):
        alice.vault.read("dora", document)


def test_a_document_named_in_the_metadata_gets_a_new_version(alice: Sender) -> None:
    document = alice.vault.upload("alice", b"old", "kept.txt", share=("bob",))
    told = words(filename="new.txt", document=document.hex())
    begun = alice.begin(3, metadata=told)
    assert alice.piece(begun.token, 0, b"new").document_id == document
    assert alice.piece(begun.token, 0, b"new").document_id == document, "and it is not replaced twice"
    assert alice.vault.read("bob", document) == b"new"
    with alice.vault.services() as bundle:
        assert len(bundle.documents.versions(alice.account, document)) == 2
    part = alice.begin(3, partial=True)
    alice.piece(part.token, 0, b"3rd")
    assert alice.join(part.token, metadata=told).document_id == document
    assert alice.vault.read("bob", document) == b"3rd"


@pytest.mark.parametrize(("who", "refusal"), [("bob", Forbidden), ("charlie", NotFound), ("dora", NotFound)])
def test_a_new_version_is_for_the_owner_alone(vault: Vault, who: str, refusal: type[VaultError]) -> None:
    document = vault.upload("alice", b"old", share=("bob",))
    sender = Sender(vault, who)
    told = words(document=document.hex())
    with pytest.raises(refusal):
        sender.begin(3, metadata=told)
    part = sender.begin(3, partial=True)
    sender.piece(part.token, 0, b"new")
    with pytest.raises(refusal):
        sender.join(part.token, metadata=told)
    assert vault.read("alice", document) == b"old"


def test_who_lost_the_document_meanwhile_completes_no_version_of_it(alice: Sender) -> None:
    document = alice.vault.upload("alice", b"old")
    begun = alice.begin(3, metadata=words(document=document.hex()))
    with alice.vault.services() as bundle:
        bundle.documents.delete(alice.account, [document])
    with pytest.raises(NotFound):
        alice.piece(begun.token, 0, b"new")
    assert documents(alice.vault) == {}


@pytest.mark.parametrize("recipients", ["nobody", "alice", "bob bob", "bob,nobody", "!"])
def test_readers_who_cannot_be_are_refused_at_the_beginning(vault: Vault, recipients: str) -> None:
    alice = Sender(vault)
    with pytest.raises(BadInput):
        alice.begin(5, metadata=words(recipients=recipients))
    part = alice.begin(5, partial=True)
    alice.piece(part.token, 0, b"hello")
    with pytest.raises(BadInput):
        alice.join(part.token, metadata=words(recipients=recipients))


def test_a_reader_who_was_disabled_meanwhile_is_left_out(alice: Sender) -> None:
    begun = alice.begin(5, metadata=words(recipients="bob charlie"))
    with alice.vault.services() as bundle:
        bundle.accounts.change(alice.vault.dora.account, "bob", state="disabled")
    document = alice.piece(begun.token, 0, b"hello").document_id
    assert document and alice.vault.read("charlie", document) == b"hello"
    with alice.vault.services() as bundle:
        shares = bundle.documents.readers(alice.account, document)
    assert {share.username for share in shares.items} == {"alice", "charlie"}


@pytest.mark.parametrize(
    ("filename", "name"),
    [("Käse 🌳.txt", "Käse 🌳.txt"), ("قائمة.pdf", "قائمة.pdf"), ("a\u202eb.txt", "a\u202eb.txt"), ("e\u0301", "é"),
     ("folder/inner.txt", "inner.txt"), ("C:\\Users\\me\\x.doc", "x.doc"), ("x" * 255, "x" * 255)],
)  # fmt: skip
def test_names_may_have_any_letters(vault: Vault, filename: str, name: str) -> None:
    alice = Sender(vault)
    document = alice.begin(0, metadata=words(filename=filename)).document_id
    assert document
    with vault.services() as bundle:
        assert bundle.documents.view(alice.account, document).name == name


@pytest.mark.parametrize(
    "given",
    [{"filename": ".."}, {"filename": "a\0b"}, {"path": "a/../b"}, {"path": "/".join("a" * 33)},
     {"filename": "x" * 2000}, {"document": "no id"}, {"document": "00"}],
)  # fmt: skip
def test_names_that_cannot_be_are_refused_at_the_beginning(vault: Vault, given: dict[str, str]) -> None:
    with pytest.raises(BadInput):
        Sender(vault).begin(5, metadata=words(**given))


# Join


def test_partial_uploads_sent_at_once_are_joined_without_a_byte_rewritten(alice: Sender) -> None:
    contents = [os.urandom(2 * PART + place) for place in range(3)]
    begun = [alice.begin(len(content), partial=True) for content in contents]
    sent = together(
        *[lambda b=b, c=c: alice.piece(b.token, 0, c) for b, c in zip(begun, contents, strict=True)]
    )
    assert [progress.offset for progress in sent] == [len(content) for content in contents]
    assert all(progress.document_id is None for progress in sent)
    blobs = {path: path.stat().st_mtime_ns for path in alice.vault.blob_files()}
    final = alice.join(*[progress.token for progress in begun])
    assert final.document_id and alice.vault.read("alice", final.document_id) == b"".join(contents)
    assert {path: path.stat().st_mtime_ns for path in alice.vault.blob_files()} == blobs
    assert alice.look(final.token).offset == sum(map(len, contents))


def test_many_who_join_at_once_make_one_document(anywhere: Sender) -> None:
    begun = [anywhere.begin(5, partial=True) for _ in range(2)]
    for progress in begun:
        anywhere.piece(progress.token, 0, b"hello")
    results = together(*[lambda: anywhere.join(*[progress.token for progress in begun])] * 3)
    assert len({result.document_id for result in results if isinstance(result, Progress)}) == 1
    assert len(documents(anywhere.vault)) == 1


def test_an_upload_may_be_joined_of_nothing_but_empty_parts(alice: Sender) -> None:
    begun = [alice.begin(0, partial=True) for _ in range(2)]
    final = alice.join(*[progress.token for progress in begun])
    assert final.document_id and alice.vault.read("alice", final.document_id) == b""


def test_only_partial_uploads_are_joined_and_each_once(alice: Sender) -> None:
    part, plain = alice.begin(5, partial=True), alice.begin(6)
    alice.piece(part.token, 0, b"hello")
    alice.piece(plain.token, 0, b"hello")
    for tokens in ((plain.token,), (part.token, plain.token), (part.token, part.token)):
        with pytest.raises(BadInput):
            alice.join(*tokens)
    with pytest.raises(NotFound):
        alice.join(part.token[:-1])
    final = alice.join(part.token)
    with pytest.raises(BadInput):
        alice.join(final.token)


# Quota, sizes, counts (A6, requirement 41)


def stored(vault: Vault) -> int:
    with vault.services() as bundle:
        accounts = bundle.accounts.list_accounts(vault.dora.account)
    return next(account.stored_bytes for account in accounts if account.username == "alice")


def test_41_a_quota_is_reserved_at_the_beginning(limited: Vault) -> None:
    alice = Sender(limited)
    begun = alice.begin(6 * PART)
    with pytest.raises(QuotaExceeded):
        alice.begin(5 * PART)
    with pytest.raises(QuotaExceeded):
        limited.upload("alice", bytes(5 * PART))
    assert Sender(limited, "bob").begin(6 * PART), "it is each one's own"
    alice.end(begun.token)
    assert alice.begin(8 * PART), "what was ended is free again"


def test_41_a_quota_is_checked_at_the_end_on_what_is_stored(limited: Vault) -> None:
    """Reserved were the bytes of the content; stored are some more."""
    alice = Sender(limited)
    first = alice.begin(5 * PART)
    assert alice.piece(first.token, 0, bytes(5 * PART)).document_id
    second = alice.begin(10 * PART - stored(limited))
    body = bytes(10 * PART - stored(limited))
    with pytest.raises(QuotaExceeded):
        alice.piece(second.token, 0, body)
    before = stored(limited)
    assert 5 * PART < before <= 10 * PART
    (document,) = documents(limited)
    with limited.services() as bundle:
        bundle.documents.delete(alice.account, [document])
    offset = alice.look(second.token).offset
    assert alice.piece(second.token, offset, body[offset:]).document_id, (
        "room was made: the same upload completes"
    )
    assert stored(limited) < before + PART


def test_a6_a_deferred_length_gets_round_no_limit(limited: Vault) -> None:
    alice = Sender(limited)
    begun = alice.begin(None)
    with pytest.raises(TooLarge):
        alice.piece(begun.token, 0, b"x", declared=8 * PART + 1)
    with pytest.raises(TooLarge):
        alice.piece(begun.token, 0, bytes(8 * PART + 1))
    with pytest.raises(TooLarge):
        alice.piece(begun.token, 0, bytes(9 * PART), announced=None)
    assert alice.look(begun.token).offset <= 8 * PART
    one = alice.begin(None)
    alice.piece(one.token, 0, bytes(6 * PART))
    with pytest.raises(QuotaExceeded):
        limited.upload("alice", bytes(5 * PART))
    with pytest.raises(QuotaExceeded):
        alice.begin(5 * PART)
    limited.upload("alice", bytes(3 * PART))
    with pytest.raises(QuotaExceeded):
        alice.piece(one.token, 6 * PART, bytes(PART), declared=7 * PART)
    assert alice.piece(one.token, 6 * PART, b"", declared=6 * PART).document_id
    assert stored(limited) <= 10 * PART


@pytest.mark.parametrize("announces", [True, False])
def test_a6_uploads_of_deferred_length_share_one_quota(limited: Vault, announces: bool) -> None:
    """None of them may hold what another holds already, whether its pieces tell their lengths or not."""
    alice, body = Sender(limited), bytes(7 * PART)
    refused = 0
    for begun in [alice.begin(None), alice.begin(None, partial=True), alice.begin(None)]:
        given = {"announced": -1 if announces else None, "read": reader(body, PART // 2)}
        try:
            alice.piece(begun.token, 0, body, **given)
        except QuotaExceeded:
            refused += 1
    assert refused == 2
    assert 7 * PART <= in_the_store(limited) <= 10 * PART
    alice.end(begun.token)
    first = limited.upload("alice", bytes(1000))
    assert limited.read("alice", first) == bytes(1000), "what is left is free for others"


def test_a6_a_deferred_upload_reserves_what_it_holds_until_it_ends(limited: Vault) -> None:
    alice = Sender(limited)
    begun = alice.begin(None)
    alice.piece(begun.token, 0, bytes(4 * PART), announced=None)
    looked = alice.look(begun.token)
    assert (looked.offset, looked.length, looked.kind) == (4 * PART, None, "plain")
    with pytest.raises(QuotaExceeded):
        alice.begin(6 * PART)
    with pytest.raises(BrokenOff):
        alice.piece(begun.token, 4 * PART, bytes(PART), announced=4 * PART)
    sent = alice.piece(begun.token, 5 * PART, bytes(5), declared=5 * PART + 5)
    assert sent.document_id and alice.look(begun.token).length == 5 * PART + 5
    other = alice.begin(None)
    alice.piece(other.token, 0, bytes(4 * PART))
    with pytest.raises(QuotaExceeded):
        alice.begin(2 * PART)
    alice.end(other.token)
    assert alice.begin(2 * PART)


# Forms and raw bodies (requirement 41)


def in_the_store(vault: Vault) -> int:
    return sum(path.stat().st_size for path in vault.blob_files())


def receive(vault: Vault, content: bytes, *, length: int | None = None) -> None:
    """Send a body as a form or chunks bring it: in small pieces, its length unknown unless given."""
    with vault.services() as bundle:
        account = vault.alice.account
        draft = bundle.uploads.store(account, reader(content, PART // 2), length=length)
        bundle.uploads.make_documents(account, [draft])


def test_41_refused_bodies_never_fill_the_store_beyond_the_quota(limited: Vault) -> None:
    for _ in range(4):
        with pytest.raises((TooLarge, QuotaExceeded)):
            receive(limited, bytes(30 * PART))
        assert in_the_store(limited) <= 10 * PART
    assert in_the_store(limited) > 8 * PART and documents(limited) == {}
    with pytest.raises(QuotaExceeded):
        limited.upload("alice", bytes(2 * PART))
    with pytest.raises(QuotaExceeded):
        Sender(limited).begin(2 * PART)
    with limited.services() as bundle:
        bundle.sweep.run()
    assert in_the_store(limited) == 0
    receive(limited, bytes(8 * PART))
    assert stored(limited) == in_the_store(limited)


@pytest.mark.parametrize("length", [None, 8 * PART])
def test_41_a_body_that_broke_off_counts_with_what_has_come(limited: Vault, length: int | None) -> None:
    read = reader(bytes(3 * PART), PART)

    def breaking(size: int) -> bytes:
        piece: bytes = read(size)
        if not piece:
            raise BrokenOff
        return piece

    with limited.services() as bundle, pytest.raises(BrokenOff):
        bundle.uploads.receive(limited.alice.account, breaking, length=length)
    assert 3 * PART < in_the_store(limited) < 4 * PART
    with pytest.raises(QuotaExceeded):
        limited.upload("alice", bytes(7 * PART))
    limited.upload("alice", bytes(6 * PART))
    with limited.services() as bundle:
        bundle.sweep.run()
    limited.upload("alice", bytes(3 * PART))


def test_41_a_refused_body_of_few_bytes_blocks_nobody(limited: Vault) -> None:
    for _ in range(20):
        with pytest.raises(BrokenOff):
            receive(limited, bytes(100), length=8 * PART)
    limited.upload("alice", bytes(8 * PART))


def test_41_files_of_one_form_count_together(limited: Vault) -> None:
    account = limited.alice.account
    with limited.services() as bundle:
        first = bundle.uploads.store(account, reader(bytes(6 * PART)))
        with pytest.raises(QuotaExceeded):
            bundle.uploads.store(account, reader(bytes(5 * PART)), beside=[first])
        bundle.uploads.give_up([first])
        bundle.sweep.run()
        both = [bundle.uploads.store(account, reader(bytes(6 * PART)))]
        both.append(bundle.uploads.store(account, reader(bytes(3 * PART)), beside=both))
        assert len(bundle.uploads.make_documents(account, both)) == 2
    assert stored(limited) == in_the_store(limited)


def test_41_bodies_that_come_at_once_share_what_is_left(
    limited: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where nobody said how long they are; each reserves a little at a time."""
    monkeypatch.setattr(quota, "STEP", PART)

    def slowly(number: int) -> bool:
        read = reader(bytes(9 * PART), PART // 2)

        def rest(size: int) -> bytes:
            time.sleep(0.005)
            return bytes(read(size))

        with limited.services() as bundle:
            try:
                bundle.uploads.receive(limited.alice.account, rest)
            except QuotaExceeded:
                return False
        return True

    with ThreadPoolExecutor(5) as threads:
        arrived = list(threads.map(slowly, range(5)))
    assert sum(arrived) <= 1
    assert 5 * PART < in_the_store(limited) <= 10 * PART
    with limited.services() as bundle:
        bundle.sweep.run()
    assert in_the_store(limited) == stored(limited)


def test_41_a_body_whose_server_died_counts_with_what_it_reserved(limited: Vault) -> None:
    read = reader(bytes(8 * PART), PART // 2)

    def dying(size: int) -> bytes:
        piece = bytes(read(size))
        if not piece:
            raise KeyboardInterrupt
        return piece

    with limited.services() as bundle, pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundle.uploads, "_let_expire", lambda stored: None)
        with pytest.raises(KeyboardInterrupt):
            bundle.uploads.receive(limited.alice.account, dying)
    with pytest.raises(QuotaExceeded):
        limited.upload("alice", bytes(3 * PART))


def test_41_what_has_expired_counts_until_the_sweep_but_is_not_open(
    limited: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = Sender(limited)
    begun = alice.begin(6 * PART)
    alice.begin(5), alice.begin(5)
    with pytest.raises(TooManyUploads):
        alice.begin(5)
    expires(monkeypatch, begun.expires_at)
    log_in_anew(limited)
    with pytest.raises(QuotaExceeded):
        alice.begin(5 * PART)
    assert alice.begin(5)
    with limited.services() as bundle:
        bundle.sweep.run()
    assert alice.begin(5 * PART)
    monkeypatch.undo()
    log_in_anew(limited)


def test_a6_a_length_that_is_a_lie_stores_no_more_than_it_says(limited: Vault) -> None:
    alice = Sender(limited)
    begun = alice.begin(5)
    for announced in (None, 5, 3 * PART):
        with pytest.raises(TooLarge):
            alice.piece(begun.token, 0, bytes(3 * PART), announced=announced)
    sizes = sum(path.stat().st_size for path in limited.blob_files())
    assert sizes < PART


def test_a6_partial_uploads_count_one_by_one_and_joined(limited: Vault) -> None:
    alice = Sender(limited)
    begun = [alice.begin(3 * PART, partial=True) for _ in range(3)]
    for progress in begun:
        alice.piece(progress.token, 0, bytes(3 * PART))
    with pytest.raises(TooLarge):
        alice.join(*[progress.token for progress in begun])
    assert alice.join(*[progress.token for progress in begun[:2]]).document_id
    with pytest.raises(QuotaExceeded):
        alice.begin(4 * PART)


def test_41_one_document_has_a_largest_size(limited: Vault) -> None:
    alice = Sender(limited)
    with pytest.raises(TooLarge):
        alice.begin(8 * PART + 1)
    begun = alice.begin(8 * PART)
    assert alice.piece(begun.token, 0, bytes(8 * PART)).document_id


def test_41_a_person_has_so_many_open_uploads_and_no_more(limited: Vault) -> None:
    alice = Sender(limited)
    begun = [alice.begin(5), alice.begin(None), alice.begin(5, partial=True)]
    with pytest.raises(TooManyUploads):
        alice.begin(5)
    assert Sender(limited, "bob").begin(5)
    assert limited.upload("alice", b"a form or a raw body is none of them")
    alice.end(begun[1].token)
    alice.piece(begun[0].token, 0, b"hello")
    assert alice.begin(5) and alice.begin(5)
    with pytest.raises(TooManyUploads):
        alice.begin(5)


def test_a5_uploads_begun_at_once_pass_neither_quota_nor_count(limited: Vault) -> None:
    alice = Sender(limited)
    results = together(*[lambda: alice.begin(3 * PART)] * 8)
    assert sum(isinstance(result, Progress) for result in results) == 3
    others = {type(result) for result in results} - {Progress}
    assert others <= {QuotaExceeded, TooManyUploads}


# Order of the puts


def test_no_part_is_there_before_all_parts_before_it_are() -> None:
    """A put that hangs or fails holds back all that follow: others may write the same segment."""
    names, failing = list[str](), threading.Event()

    class Store:
        def put_new(self, name: str, data: bytes, ready: Callable[[], object] | None = None) -> None:
            if name.endswith(f"{PART:016x}"):
                assert failing.wait(30)
                raise Conflict
            if ready is not None:
                ready()
            names.append(name)

    threading.Timer(0.2, failing.set).start()
    pipeline = Pipeline(Store(), bytes(32), bytes(16), PART, in_order=True)  # type: ignore[arg-type]
    with pytest.raises(Conflict), pipeline:
        for _ in range(4):
            pipeline.feed(bytes(PART))
    assert names == [f"{bytes(16).hex()}/{0:016x}"]


def test_wishes_pass_over_what_they_do_not_know() -> None:
    assert wishes_of("") == wishes_of("own //8=,other") == Wishes()


def test_f10_a_put_whose_answer_is_lost_is_there_once_and_the_upload_goes_on(
    alice: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store has it, the server does not know: ``HEAD`` tells the truth, and nothing is stored twice."""
    content, store = os.urandom(3 * PART), alice.vault.app.extensions["docvault"].store
    put, lost = (
        store.put_new,
        [2 * PART, 0],
    )  # the last part's answer, and then the first part's of another upload

    def losing(name: str, *given: Any) -> None:
        put(name, *given)
        if lost and int(name.split("/")[1][:16], 16) == lost[0]:
            lost.pop(0)
            raise StoreUnavailable

    monkeypatch.setattr(store, "put_new", losing)
    one, two = alice.begin(len(content)), alice.begin(len(content))
    with pytest.raises(StoreUnavailable):
        alice.piece(one.token, 0, content)
    assert alice.look(one.token).offset == 2 * PART
    with pytest.raises(StoreUnavailable):
        alice.piece(two.token, 0, content)
    assert alice.look(two.token).offset >= PART
    for begun in (one, two):
        offset = alice.look(begun.token).offset
        document = alice.piece(begun.token, offset, content[offset:]).document_id
        assert document and alice.vault.read("alice", document) == content
    assert lost == [] and len(documents(alice.vault)) == 2


def test_f10_a_part_that_was_there_and_is_destroyed_by_now_is_another_ones(
    alice: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else's piece was first, and its upload was ended before this one looked at it."""
    begun, store = alice.begin(PART + 1), alice.vault.app.extensions["docvault"].store

    def late(name: str, *given: Any) -> None:
        raise Exists

    monkeypatch.setattr(store, "put_new", late)
    with pytest.raises(OffsetMismatch):
        alice.piece(begun.token, 0, bytes(PART))
    monkeypatch.undo()
