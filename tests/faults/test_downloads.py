"""Somebody reads slowly while the document is revoked, deleted, replaced or renamed, or its store gives way."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.attacks.attacker import Attacker, failures
from tests.cast import Vault, reader
from tests.servers.vault import VaultServer, start_vault
from vault.errors import Missing, NotFound, StoreUnavailable, Unreadable, VaultError
from vault.services import clock

PART = 32768
CONTENT = bytes(i * i % 251 for i in range(5 * PART + 100))
MIB = 2**20


@pytest.fixture
def parted(vault: Vault) -> Iterator[Vault]:
    """The same vault with parts of two chunks, each of which is sent in one piece."""
    own = vault.reopened(part_size=PART)
    yield own
    own.close()


@contextmanager
def slow_reader(
    vault: Vault, who: str, document: bytes, version: bytes | None = None
) -> Iterator[Iterator[bytes]]:
    """Somebody whose download stands still whenever no piece is asked for."""
    with vault.services() as bundle:
        opened = bundle.downloads.open(vault.members[who].account, document, version)
        stream: Any = opened.stream(0, opened.size)
        with closing(stream):
            yield stream


def rest(stream: Iterator[bytes]) -> tuple[bytes, type[VaultError] | None]:
    """What still comes, and the error that ends it."""
    found = bytearray()
    try:
        for piece in stream:
            found += piece
    except VaultError as error:
        return bytes(found), type(error)
    return bytes(found), None


def cuts(vault: Vault) -> list[tuple[str | None, str | None]]:
    return [(entry[1], entry[3]) for entry in vault.audit() if entry[0] == "download_cut"]


# What ends a download


def revoke(vault: Vault, document: bytes) -> None:
    with vault.services() as bundle:
        bundle.sharing.revoke(vault.alice.account, [document], ["bob"])


def leave(vault: Vault, document: bytes) -> None:
    with vault.services() as bundle:
        bundle.sharing.leave(vault.bob.account, [document])


def delete(vault: Vault, document: bytes) -> None:
    with vault.services() as bundle:
        bundle.documents.delete(vault.alice.account, [document])


def sweep(vault: Vault) -> None:
    with vault.services() as bundle:
        bundle.sweep.run()


def delete_and_sweep(vault: Vault, document: bytes) -> None:
    delete(vault, document)
    sweep(vault)
    assert vault.blob_files() == []


def disable(vault: Vault, document: bytes) -> None:
    with vault.services() as bundle:
        bundle.accounts.set_state(None, "bob", "disabled")


def replace(vault: Vault, document: bytes) -> None:
    with vault.services() as bundle:
        content = bytes(len(CONTENT))
        bundle.uploads.receive(vault.alice.account, reader(content), document_id=document)


def replace_and_revoke(vault: Vault, document: bytes) -> None:
    replace(vault, document)
    revoke(vault, document)


ENDS = {
    "revoked": (revoke, "revoked"), "left": (leave, "revoked"), "deleted": (delete, "deleted"),
    "swept": (delete_and_sweep, "deleted"), "disabled": (disable, "disabled"),
    "replaced, then revoked": (replace_and_revoke, "revoked"),
}  # fmt: skip


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.requirement(38)
def test_f20_no_further_part_is_sent_to_who_may_not_read_it_any_more(parted: Vault, end: str) -> None:
    """Checklist 38: a revocation ends a running download within one part; so does a deletion (F20)."""
    act, why = ENDS[end]
    document = parted.upload("alice", CONTENT, share=("bob",))
    with slow_reader(parted, "bob", document) as stream:
        sent = next(stream) + next(stream)
        act(parted, document)
        assert rest(stream) == (b"", NotFound)
    assert sent == CONTENT[: 2 * PART]
    assert cuts(parted) == [(document.hex(), why)]
    assert failures(parted) == [], "nothing was damaged"


def test_f20_a_share_that_expires_ends_what_is_under_way(
    parted: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = parted.upload("alice", CONTENT)
    with parted.services() as bundle:
        end = clock.now() + timedelta(hours=1)
        bundle.sharing.share(parted.alice.account, [document], ["bob"], expires_at=end)
    with slow_reader(parted, "bob", document) as stream:
        assert next(stream) + next(stream) == CONTENT[: 2 * PART]
        monkeypatch.setattr(clock, "now", lambda: end)
        assert rest(stream) == (b"", NotFound)
    assert cuts(parted) == [(document.hex(), "expired")]


def test_f20_the_owner_is_cut_off_from_what_he_deletes(parted: Vault) -> None:
    document = parted.upload("alice", CONTENT)
    with slow_reader(parted, "alice", document) as stream:
        next(stream)
        delete(parted, document)
        assert rest(stream) == (b"", NotFound)


def test_f20_the_answer_is_shorter_than_announced(parted: Vault) -> None:
    document = parted.upload("alice", CONTENT, share=("bob",))
    answer = parted.api("bob").get(f"/documents/{document.hex()}/content")
    pieces = iter(answer.response)
    sent = next(pieces)
    revoke(parted, document)
    with pytest.raises(NotFound):
        b"".join(pieces)
    answer.close()
    assert answer.content_length == len(CONTENT) > len(sent)


def test_f20_what_is_gone_before_the_first_byte_is_a_clean_404(parted: Vault) -> None:
    document = parted.upload("alice", CONTENT, share=("bob",))
    with parted.services() as bundle:
        opened = bundle.downloads.open(parted.bob.account, document)
        delete_and_sweep(parted, document)
        with pytest.raises(NotFound):
            opened.stream(0, opened.size)
    assert cuts(parted) == [(document.hex(), "deleted")] and failures(parted) == []


# What does not end a download


def rename(vault: Vault, document: bytes) -> None:
    with vault.services() as bundle:
        bundle.documents.rename(vault.alice.account, document, "renamed.txt")


def revoke_another(vault: Vault, document: bytes) -> None:
    """Raises the epoch, and signs all other grants anew."""
    with vault.services() as bundle:
        bundle.sharing.revoke(vault.alice.account, [document], ["charlie"])


def replace_twice_and_sweep(vault: Vault, document: bytes) -> None:
    replace(vault, document)
    replace(vault, document)
    sweep(vault)


def prolong(vault: Vault, document: bytes) -> None:
    with vault.services() as bundle:
        end = clock.now() + timedelta(hours=1)
        bundle.sharing.share(vault.alice.account, [document], ["bob"], expires_at=end)


def revoke_and_share_again(vault: Vault, document: bytes) -> None:
    revoke(vault, document)
    prolong(vault, document)


def log_everybody_out(vault: Vault, document: bytes) -> None:
    with vault.services() as bundle:
        for who in ("alice", "bob"):
            bundle.sessions.end_all(vault.members[who].account)
        alice = vault.alice
        back = bundle.sessions.log_in("alice", alice.passphrase, address="127.0.0.1", client="tests")
        vault.members["alice"] = dataclasses.replace(alice, account=back.account, token=back.token)


GOES_ON: dict[str, Callable[[Vault, bytes], None]] = {
    "renamed": rename, "another revoked": revoke_another, "replaced": replace, "swept": replace_twice_and_sweep,
    "prolonged": prolong, "shared again": revoke_and_share_again, "logged out": log_everybody_out,
}  # fmt: skip


@pytest.mark.parametrize("who", ["alice", "bob"])
@pytest.mark.parametrize("meanwhile", GOES_ON)
def test_f20_who_may_still_read_gets_the_version_that_he_began(
    parted: Vault, meanwhile: str, who: str
) -> None:
    document = parted.upload("alice", CONTENT, share=("bob", "charlie"))
    with slow_reader(parted, who, document) as stream:
        sent = next(stream)
        GOES_ON[meanwhile](parted, document)
        sent += next(stream)
        GOES_ON["renamed"](parted, document)
        more, error = rest(stream)
    assert (sent + more, error) == (CONTENT, None)
    assert cuts(parted) == [] and failures(parted) == []


def test_f20_the_owner_finishes_an_older_version(parted: Vault) -> None:
    document = parted.upload("alice", CONTENT)
    replace(parted, document)
    with parted.services() as bundle:
        old = bundle.documents.versions(parted.alice.account, document)[-1].id
    with slow_reader(parted, "alice", document, old) as stream:
        sent = next(stream)
        replace(parted, document)
        assert (sent + rest(stream)[0]) == CONTENT


def share_and_revoke_another(vault: Vault, document: bytes) -> None:
    with vault.services() as bundle:
        bundle.sharing.share(vault.alice.account, [document], ["charlie"])
    revoke_another(vault, document)


ORDERS = [
    order
    for end in (delete_and_sweep, revoke)
    for order in list(itertools.permutations((replace, rename, share_and_revoke_another, end)))[::4]
]


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: " ".join(act.__name__ for act in order))
def test_f20_a_reader_sees_one_version_or_the_beginning_of_it(
    parted: Vault, order: tuple[Callable[[Vault, bytes], None], ...]
) -> None:
    """Whatever happens between any two pieces: what came is the first bytes of the version that was begun."""
    document = parted.upload("alice", CONTENT, share=("bob",))
    with slow_reader(parted, "bob", document) as stream:
        sent = next(stream)
        for act in order:
            with suppress(NotFound):  # it may be deleted already
                act(parted, document)
            try:
                sent += next(stream, b"")
            except NotFound:
                break
    assert sent == CONTENT[: len(sent)]
    assert len(sent) <= PART * (
        1 + order.index(next(act for act in order if act in (delete_and_sweep, revoke)))
    )
    assert failures(parted) == []


def test_a_row_that_is_edited_meanwhile_ends_the_download_as_damage(parted: Vault) -> None:
    document = parted.upload("alice", CONTENT, share=("bob",))
    attacker = Attacker(parted)
    with slow_reader(parted, "bob", document) as stream:
        next(stream)
        row = attacker.row("shared_key_registry", reader_id=parted.bob.account.user_id)
        attacker.update("shared_key_registry", row["id"], permission="owner", seal=bytes(32))
        assert rest(stream) == (b"", Unreadable)
    assert [event[0] for event in failures(parted)] == [document.hex()]


# A client that goes away, and a store that gives way


def test_a_client_that_goes_away_is_noted_once(parted: Vault) -> None:
    document = parted.upload("alice", CONTENT)
    with slow_reader(parted, "alice", document) as stream:
        next(stream)
    assert cuts(parted) == [(document.hex(), "aborted")]
    with slow_reader(parted, "alice", document) as stream:
        assert rest(stream) == (CONTENT, None)
    assert len(cuts(parted)) == 1, "who took everything has not gone away"


class Failing:
    """A blob store, far or near, whose blobs break off as often as it is told; counts what is asked of it."""

    def __init__(self, vault: Vault, *, is_far: bool = True) -> None:
        self._wiring = vault.app.extensions["docvault"]
        self._store = self._wiring.store
        self.is_far = is_far
        self.breaks = 0
        self.open = 0
        self.asked: list[str] = []
        self.before_get: Callable[[str], None] = lambda name: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def __enter__(self) -> Failing:
        self._wiring.store = self
        return self

    def __exit__(self, *error: object) -> None:
        self._wiring.store = self._store

    def get(self, name: str, start: int = 0, length: int | None = None) -> Any:
        self.before_get(name)
        self.asked.append(name)
        self.open += 1
        return FailingBlob(self, self._store.get(name, start, length))


class FailingBlob:
    def __init__(self, store: Failing, blob: Any) -> None:
        self._store, self._blob, self._is_open = store, blob, True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._blob, name)

    def __enter__(self) -> FailingBlob:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def read(self, n: int = -1) -> bytes:
        if self._store.breaks:
            self._store.breaks -= 1
            raise StoreUnavailable
        return bytes(self._blob.read(n))

    def close(self) -> None:
        self._store.open -= self._is_open
        self._is_open = False
        self._blob.close()


def no_thread_is_left() -> bool:
    for thread in threading.enumerate():
        if thread.name.startswith("ahead"):
            thread.join(10)
    return not any(thread.name.startswith("ahead") for thread in threading.enumerate())


def test_f20_a_blob_that_goes_between_two_looks_is_no_damage(parted: Vault) -> None:
    """The sweep may come after the look at the right and before the blob is asked for."""
    document = parted.upload("alice", CONTENT)

    fourth = Attacker(parted).blob_names(document)[3]
    with Failing(parted, is_far=False) as store:
        store.before_get = lambda name: delete_and_sweep(parted, document) if name == fourth else None
        with slow_reader(parted, "alice", document) as stream:
            more, error = rest(stream)
    assert (more, error) == (CONTENT[: 3 * PART], NotFound)
    assert cuts(parted) == [(document.hex(), "deleted")] and failures(parted) == []


def test_a_far_store_is_asked_for_the_next_part_while_this_one_is_sent(parted: Vault) -> None:
    document = parted.upload("alice", CONTENT)
    names = Attacker(parted).blob_names(document)
    asked = threading.Event()
    with Failing(parted) as store:
        store.before_get = lambda name: asked.set() if name == names[1] else None
        with slow_reader(parted, "alice", document) as stream:
            assert next(stream) == CONTENT[:PART]
            assert asked.wait(10), "the second part, before its first byte is wanted"
            assert not set(names[3:-1]) & set(store.asked), "and no more than one ahead"
            assert rest(stream) == (CONTENT[PART:], None)
        assert store.open == 0
    assert no_thread_is_left()


def test_a_near_store_needs_no_thread(parted: Vault) -> None:
    document = parted.upload("alice", CONTENT)
    with slow_reader(parted, "alice", document) as stream:
        next(stream)
        assert not any(thread.name.startswith("ahead") for thread in threading.enumerate())


@pytest.mark.parametrize("pieces", [0, 1, 3])
def test_f25_a_client_that_goes_away_leaves_no_thread_and_no_open_blob(parted: Vault, pieces: int) -> None:
    document = parted.upload("alice", CONTENT)
    with Failing(parted) as store:
        with slow_reader(parted, "alice", document) as stream:
            for _ in range(pieces):
                next(stream)
        del stream
        assert no_thread_is_left()
        assert store.open == 0


def test_a_store_that_breaks_off_once_is_asked_again(parted: Vault) -> None:
    document = parted.upload("alice", CONTENT)
    with Failing(parted) as store, slow_reader(parted, "alice", document) as stream:
        sent = next(stream)
        store.breaks = 1
        assert sent + rest(stream)[0] == CONTENT
        assert store.breaks == 0
    assert failures(parted) == []


def test_f8_a_store_that_stays_away_cuts_the_answer_short_and_is_noted(parted: Vault) -> None:
    document = parted.upload("alice", CONTENT)
    with Failing(parted) as store:
        with slow_reader(parted, "alice", document) as stream:
            sent = next(stream) + next(stream)
            store.breaks = 100
            more, error = rest(stream)
        assert error is StoreUnavailable
        assert CONTENT.startswith(sent + more) and len(more) < PART
        assert no_thread_is_left() and store.open == 0
    assert failures(parted) == [(document.hex(), "stream:StoreUnavailable")]
    assert parted.read("alice", document) == CONTENT


def test_f7_a_store_that_is_away_at_the_start_is_a_clean_503(parted: Vault) -> None:
    document = parted.upload("alice", CONTENT)
    with Failing(parted) as store:
        store.breaks = 100
        answer = parted.api("alice").get(f"/documents/{document.hex()}/content")
    assert (answer.status_code, answer.mimetype) == (503, "application/problem+json")
    assert answer.headers["Retry-After"]


def test_damage_before_the_first_byte_leaves_no_thread(parted: Vault) -> None:
    document = parted.upload("alice", CONTENT)
    Attacker(parted).blob(document, 3).unlink()
    with Failing(parted) as store:
        answer = parted.api("alice").get(f"/documents/{document.hex()}/content")
        assert (answer.status_code, store.open) == (500, 0)
        assert no_thread_is_left()


def test_damage_that_the_thread_meets_is_told_in_its_place(parted: Vault) -> None:
    """The blob is lost while the part before it is sent."""
    document = parted.upload("alice", CONTENT)
    doomed = Attacker(parted).blob(document, 3)
    with Failing(parted) as store:
        store.before_get = lambda name: doomed.unlink() if doomed.match(name) else None
        with slow_reader(parted, "alice", document) as stream:
            assert rest(stream) == (CONTENT[: 3 * PART], Missing)
    assert failures(parted) == [(document.hex(), "stream:Missing")]
    assert no_thread_is_left()


# A whole server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[VaultServer]:
    made = start_vault(tmp_path / "served", workers=1)
    yield made
    made.stop()


def test_f20_a_revocation_ends_a_download_from_a_real_server(server: VaultServer) -> None:
    """A slow reader holds a worker's thread in the middle; 96 MiB are more than all buffers between hold."""
    size = 96 * MIB
    tokens = {name: server.log_in(name, server.register(name)) for name in ("alice", "bob")}
    alice, bob = server.client(tokens["alice"]), server.client(tokens["bob"])
    with alice, bob:
        stored = alice.post("/documents", params={"name": "a.bin", "recipients": "bob"}, content=bytes(size))
        document = stored.raise_for_status().json()["id"]
        with bob.stream("GET", f"/documents/{document}/content") as answer:
            pieces = answer.iter_bytes(MIB)
            taken = len(next(pieces))
            assert alice.delete(f"/documents/{document}/shares/bob").status_code == 204
            with pytest.raises(httpx.RemoteProtocolError):
                for piece in pieces:
                    taken += len(piece)
        assert int(answer.headers["Content-Length"]) == size
        assert taken < 48 * MIB
        assert bob.get(f"/documents/{document}/content").status_code == 404
        assert alice.get(f"/documents/{document}/content").content == bytes(size)
