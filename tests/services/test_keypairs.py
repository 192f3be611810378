"""Changing one's key pairs: what hangs on the old ones is moved, others go on meanwhile, the old ones are gone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.attacks.attacker import Attacker, failures
from tests.cast import Vault, reader
from vault import failpoints
from vault.crypto.grants import verify_grant
from vault.errors import Conflict, KeyChanged, NotFound, Unreadable, VaultError, WrongLogin
from vault.services import keypairs


def rotate(vault: Vault, who: str = "alice", *, to_the_end: bool = True) -> bytes:
    """Let somebody change his pairs; with ``to_the_end`` all is moved."""
    member = vault.members[who]
    with vault.services() as bundle:
        work_id = bundle.keypairs.rotate(member.account, member.passphrase)
        if to_the_end:
            bundle.work.finish(member.account, work_id)
            assert bundle.work.open(member.account) == []
    return work_id


def go_on(vault: Vault, who: str, work_id: bytes) -> None:
    with vault.services() as bundle:
        bundle.work.finish(vault.members[who].account, work_id)


def keys_of(vault: Vault, who: str) -> list[dict[str, Any]]:
    rows = Attacker(vault).rows("user_key", user_id=vault.members[who].account.user_id)
    return sorted(rows, key=lambda row: row["version"])


def assert_whole(vault: Vault) -> None:
    with vault.services() as bundle:
        assert bundle.check.run().findings == []


def assert_moved(vault: Vault, who: str, version: int = 2) -> None:
    """Nothing in the database hangs on another pair of this user's than the one of ``version``."""
    attacker, user = Attacker(vault), vault.members[who].account.user_id
    grants = attacker.rows("shared_key_registry")
    assert {row["reader_key_version"] for row in grants if row["reader_id"] == user} <= {version}
    assert {row["granter_key_version"] for row in grants if row["granter_id"] == user} <= {version}
    owned = attacker.rows("document_version", owner_id=user)
    assert {row["owner_key_version"] for row in owned} <= {version}


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keypairs, "READ_AT_ONCE", 2)


@pytest.fixture
def documents(vault: Vault) -> dict[str, bytes]:
    """Alice owns two, one of them in two versions, and reads one of Charlie's; Bob reads all three."""
    made = {
        "plan": vault.upload("alice", b"plan", share=("bob",)),
        "letter": vault.upload("alice", b"first", share=("bob", "charlie")),
        "song": vault.upload("charlie", b"song", share=("alice", "bob")),
    }
    with vault.services() as bundle:
        bundle.uploads.receive(vault.alice.account, reader(b"second"), document_id=made["letter"])
    for who in ("alice", "bob"):
        for document in made.values():
            vault.read(who, document)
    return made


def test_all_opens_with_the_new_pairs_alone(
    vault: Vault, documents: dict[str, bytes], small_batches: None
) -> None:
    old = keys_of(vault, "alice")[0]
    rotate(vault)
    former, new = keys_of(vault, "alice")
    assert_moved(vault, "alice")
    assert (former["sealed_wrap_private"], former["sealed_sign_private"]) == (b"", b""), "they are gone"
    assert former["wrap_public"] == old["wrap_public"] and former["retired_at"] is not None
    assert new["retired_at"] is None and new["statement"]
    for who in ("alice", "bob"):
        assert [vault.read(who, documents[name]) for name in ("plan", "letter", "song")] == [
            b"plan", b"second", b"song",
        ]  # fmt: skip
    with vault.services() as bundle:
        first = bundle.documents.versions(vault.alice.account, documents["letter"])[-1]
        older = bundle.downloads.open(vault.alice.account, documents["letter"], first.id)
        assert b"".join(older.stream(0, older.size)) == b"first", "an older version is signed anew too"
    assert_whole(vault)


def test_a_second_change_follows_the_first(vault: Vault, documents: dict[str, bytes]) -> None:
    rotate(vault)
    rotate(vault)
    assert_moved(vault, "alice", 3)
    assert [row["retired_at"] is None for row in keys_of(vault, "alice")] == [False, False, True]
    for who in ("alice", "bob", "charlie"):
        assert vault.read(who, documents["letter"]) == b"second", "two statements, one after the other"
    with vault.services() as bundle:
        views = bundle.keypairs.pairs(vault.alice.account)
        assert [(view.version, view.is_current, view.bits) for view in views] == [
            (3, True, 2048), (2, False, 2048), (1, False, 2048),
        ]  # fmt: skip
    assert_whole(vault)


def test_it_asks_for_the_passphrase_and_counts_guesses(vault: Vault) -> None:
    with vault.services() as bundle:
        with pytest.raises(WrongLogin):
            bundle.keypairs.rotate(vault.alice.account, "not the passphrase at all")
        assert bundle.keypairs.under_way(vault.alice.account) is None
    assert len(keys_of(vault, "alice")) == 1
    assert ("keys_rotate", vault.alice.account.user_id.hex(), False, None) in vault.audit()


def test_one_change_at_a_time(vault: Vault, documents: dict[str, bytes]) -> None:
    work_id = rotate(vault, to_the_end=False)
    with vault.services() as bundle:
        with pytest.raises(Conflict, match="changed already"):
            bundle.keypairs.rotate(vault.alice.account, vault.alice.passphrase)
        shown = bundle.keypairs.under_way(vault.alice.account)
        assert shown is not None and (shown.id, shown.kind) == (work_id, "keypairs")
        # Received: five of one's own and Charlie's (three versions and a song); signed: three versions, three readers.
        assert (shown.done, shown.total) == (0, 4 + 3 + 3)


@pytest.mark.parametrize("moved", [1, 3, 6, 9])
def test_others_go_on_at_every_point(
    vault: Vault, documents: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, moved: int
) -> None:
    """After any number of moved rows everything opens, is shared, replaced, renamed and revoked."""
    monkeypatch.setattr(keypairs, "READ_AT_ONCE", 1)
    work_id = rotate(vault, to_the_end=False)
    alice, bob = vault.alice.account, vault.bob.account
    with vault.services() as bundle:
        for _ in range(moved):
            bundle.keypairs.advance(alice, work_id, 0)
    for who in ("alice", "bob"):
        assert vault.read(who, documents["letter"]) == b"second"
        assert vault.read(who, documents["song"]) == b"song"
    with vault.services() as bundle:
        bundle.sharing.share(vault.charlie.account, [documents["song"]], ["dora"])
        bundle.sharing.share(alice, [documents["plan"]], ["dora"])
        bundle.sharing.revoke(alice, [documents["letter"]], ["charlie"])
        bundle.documents.rename(alice, documents["letter"], "new name")
        bundle.uploads.receive(alice, reader(b"third"), document_id=documents["plan"])
    late = vault.upload("bob", b"late", share=("alice",))
    mine = vault.upload("alice", b"mine", share=("bob",))
    for who in ("alice", "bob"):
        assert vault.read(who, documents["plan"]) == b"third"
        assert (vault.read(who, late), vault.read(who, mine)) == (b"late", b"mine")
    go_on(vault, "alice", work_id)
    assert_moved(vault, "alice")
    for who in ("alice", "bob"):
        assert vault.read(who, documents["letter"]) == b"second"
        assert vault.read(who, documents["plan"]) == b"third"
        assert vault.read(who, documents["song"]) == b"song"
        assert (vault.read(who, late), vault.read(who, mine)) == (b"late", b"mine")
    with pytest.raises(NotFound):
        vault.read("charlie", documents["letter"])
    assert failures(vault) == []
    with vault.services() as bundle:
        assert bundle.documents.view(bob, documents["letter"]).name == "new name"
        assert bundle.check.run().findings == []


# A change that is killed


class Killed(BaseException):
    """Stands for a kill: nothing catches it, and what was not committed is gone."""


@pytest.fixture
def killing() -> Iterator[Any]:
    """Kill at the n-th time a point is reached."""

    def arm(point: str, times: int = 1) -> None:
        left = times

        def hook(reached: str) -> None:
            nonlocal left
            left -= reached == point
            if reached == point and not left:
                raise Killed

        failpoints.hook = hook

    yield arm
    failpoints.hook = None


POINTS = [
    f"{action}.{side}_commit"
    for action in ("keys_rotate", "keys_moved", "keys_retired")
    for side in ("before", "after")
]


@pytest.mark.parametrize(
    ("point", "times"), [(point, 1) for point in POINTS] + [("keys_moved.after_commit", 4)]
)
def test_a_change_that_is_killed_goes_on(
    vault: Vault, documents: dict[str, bytes], small_batches: None, killing: Any, point: str, times: int
) -> None:
    alice = vault.alice.account
    killing(point, times)
    with pytest.raises(Killed):
        rotate(vault)
    failpoints.hook = None
    for who in ("alice", "bob"):
        assert vault.read(who, documents["letter"]) == b"second", "it is readable in the middle"
    with vault.services() as bundle:
        under_way = bundle.keypairs.under_way(alice)
        if under_way is not None:
            bundle.work.finish(alice, under_way.id)
    version = keys_of(vault, "alice")[-1]["version"]
    assert version == (1 if point == "keys_rotate.before_commit" else 2)
    assert_moved(vault, "alice", version)
    for who in ("alice", "bob"):
        for name, content in (("plan", b"plan"), ("letter", b"second"), ("song", b"song")):
            assert vault.read(who, documents[name]) == content
    assert_whole(vault)


# What a change must not do


def test_a_retired_pair_signs_nothing_any_more(vault: Vault, documents: dict[str, bytes]) -> None:
    """Rows from before the change, put back, are refused: the owner's, and the reader's."""
    attacker = Attacker(vault)
    version = attacker.row("document", id=documents["plan"])["version_id"]
    tables = ("document_version", "shared_key_registry")
    before = {
        "document_version": attacker.rows("document_version", id=version),
        "shared_key_registry": attacker.rows("shared_key_registry", version_id=version),
    }
    rotate(vault)
    for table in tables:
        attacker.put(table, *before[table])
    for who in ("alice", "bob"):
        with pytest.raises(Unreadable):
            vault.read(who, documents["plan"])


def test_a_pair_that_is_not_retired_any_more_signs_nothing_for_who_has_seen_its_end(
    vault: Vault, documents: dict[str, bytes]
) -> None:
    """With the master key the old pair's row can be made living again; a reader's memory cannot be led back."""
    attacker = Attacker(vault)
    version = attacker.row("document", id=documents["plan"])["version_id"]
    signed = attacker.rows("document_version", id=version)
    grants = attacker.rows("shared_key_registry", version_id=version)
    rotate(vault)
    vault.read("bob", documents["plan"])
    vault.read("bob", documents["letter"])
    attacker.put("document_version", *signed)
    attacker.put("shared_key_registry", *grants)
    former = keys_of(vault, "alice")[0]
    attacker.update("user_key", former["id"], retired_at=None)
    attacker.reseal("user_key", former["id"])
    with pytest.raises((Unreadable, KeyChanged)):
        vault.read("bob", documents["plan"])


def test_w5_what_somebody_planted_is_not_signed_anew(vault: Vault, documents: dict[str, bytes]) -> None:
    """With the master key a grant can be put into the database; the owner's change of keys must not make it good."""
    attacker = Attacker(vault)
    mine = vault.upload("alice", b"mine")
    version = attacker.row("document", id=mine)["version_id"]
    bobs = attacker.row(
        "shared_key_registry", reader_id=vault.bob.account.user_id, document_id=documents["plan"]
    )
    planted = bobs | {"id": b"p" * 16, "document_id": mine, "version_id": version}
    attacker.forge("shared_key_registry", planted)
    work_id = rotate(vault, to_the_end=False)
    go_on(vault, "alice", work_id)
    left = attacker.row("shared_key_registry", id=planted["id"])
    assert (left["granter_key_version"], left["signature"]) == (1, planted["signature"])
    with vault.services() as bundle:
        shown = bundle.keypairs.under_way(vault.alice.account)
    assert shown is not None and shown.failed == 1, "it is counted, and keeps the old pair from being retired"
    assert (mine.hex(), "unspecified") not in failures(vault) and failures(vault)
    assert keys_of(vault, "alice")[0]["retired_at"] is None
    attacker.remove("shared_key_registry", planted["id"])
    go_on(vault, "alice", work_id)
    assert keys_of(vault, "alice")[0]["retired_at"] is not None, (
        "once it is gone another round comes to the end"
    )


def test_what_does_not_open_is_left_behind_on_a_persons_word(
    vault: Vault, documents: dict[str, bytes]
) -> None:
    attacker = Attacker(vault)
    row = attacker.row(
        "shared_key_registry", document_id=documents["song"], reader_id=vault.alice.account.user_id
    )
    attacker.update("shared_key_registry", row["id"], wrapped_dek=bytes(256))
    work_id = rotate(vault, to_the_end=False)
    alice = vault.alice.account
    with vault.services() as bundle:
        with pytest.raises(NotFound):
            bundle.keypairs.leave_behind(alice, vault.alice.passphrase)
        bundle.work.finish(alice, work_id)
        (shown,) = bundle.work.open(alice)
        assert shown.failed == 1
        with pytest.raises(WrongLogin):
            bundle.keypairs.leave_behind(alice, "not the passphrase at all")
        bundle.keypairs.leave_behind(alice, vault.alice.passphrase)
        assert bundle.work.open(alice) == []
    assert keys_of(vault, "alice")[0]["retired_at"] is not None
    for who in ("alice", "bob"):
        assert vault.read(who, documents["plan"]) == b"plan"
    attacker.update("shared_key_registry", row["id"], wrapped_dek=row["wrapped_dek"])
    with pytest.raises(Unreadable):
        vault.read("alice", documents["song"])
    rotate(vault)  # and does not stand in the way of the next change


def test_signatures_verify_with_the_new_pair(vault: Vault, documents: dict[str, bytes]) -> None:
    rotate(vault)
    with vault.services() as bundle, bundle.transactions.reading() as session:
        public = bundle.contacts.person(session, vault.alice.account.user_id).public
        from vault.models import SharedKeyRegistry

        given = session.query(SharedKeyRegistry).filter_by(granter_id=vault.alice.account.user_id).all()
        assert len(given) == 6
        for row in given:
            verify_grant(
                public,
                row.signature,
                document=row.document_id,
                version=row.version_id,
                epoch=row.epoch,
                granter=row.granter_id,
                granter_key_version=2,
                reader=row.reader_id,
                permission=row.permission,
                expires_at=row.expires_at,
            )


def test_a_request_stops_in_time(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(5):
        vault.upload("alice", b"x")
    monkeypatch.setattr(keypairs, "READ_AT_ONCE", 1)
    work_id = rotate(vault, to_the_end=False)
    with vault.services() as bundle:
        after = bundle.work.go_on(vault.alice.account, work_id, seconds=0)
        assert after is not None and (after.done, after.total) == (1, 10)
        started = time.monotonic()
        assert bundle.work.go_on(vault.alice.account, work_id, seconds=60) is None
        assert time.monotonic() - started < 30


@pytest.mark.parametrize("bits", [3072])
def test_the_new_pairs_have_the_size_that_is_set(vault: Vault, bits: int) -> None:
    vault.upload("alice", b"x")
    larger = vault.reopened(rsa_bits=bits)
    rotate(larger)
    with larger.services() as bundle:
        assert [view.bits for view in bundle.keypairs.pairs(larger.alice.account)] == [bits, 2048]
    larger.close()


def test_the_account_of_a_request_that_began_before_takes_the_new_pairs(
    vault: Vault, documents: dict[str, bytes]
) -> None:
    """An upload whose request was recognised with the old pair commits after its end."""
    before = vault.alice.account.own
    alice = vault.alice.account
    rotate(vault)
    alice.take_keys([before])
    late = vault.upload("alice", b"late", share=("bob",))
    assert (vault.read("alice", late), vault.read("bob", late)) == (b"late", b"late")
    alice.take_keys([before])
    with vault.services() as bundle:
        bundle.documents.rename(alice, documents["plan"], "renamed")
        bundle.sharing.share(alice, [documents["plan"]], ["dora"])
    assert_moved(vault, "alice")
    assert vault.read("dora", documents["plan"]) == b"plan"


def test_an_account_that_is_disabled_meanwhile_does_not_go_on(
    vault: Vault, documents: dict[str, bytes]
) -> None:
    work_id = rotate(vault, to_the_end=False)
    with vault.services() as bundle:
        bundle.accounts.set_state(None, "alice", "disabled")
        with pytest.raises(VaultError):
            bundle.work.finish(vault.alice.account, work_id)
    assert keys_of(vault, "alice")[0]["retired_at"] is None
