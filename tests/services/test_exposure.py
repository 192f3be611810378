"""My passphrase may be known: afterwards what somebody took with it opens nothing, and its owner everything."""

from __future__ import annotations

from typing import Any

import pytest

from tests.attacks.attacker import Attacker
from tests.cast import Member, Vault
from vault.crypto.grants import unwrap_dek
from vault.crypto.keypairs import PrivateKeys
from vault.crypto.manifests import IndexKey
from vault.errors import BadPassphrase, KeyChanged, LoginRequired, NotFound, Unreadable, WrongLogin
from vault.services.exposure import KIND

SOMEWHERE = "192.0.2.7"


def enter(vault: Vault, passphrase: str, name: str = "alice") -> Member:
    with vault.services() as bundle:
        entered = bundle.sessions.log_in(name, passphrase, address=SOMEWHERE, client="tests")
        vault.members[name] = Member(name, passphrase, entered.account, entered.token, entered.device)
    return vault.members[name]


def findings(vault: Vault) -> list[str]:
    with vault.services() as bundle:
        return [finding.text for finding in bundle.check.run().findings]


def finish(vault: Vault) -> list[str]:
    """Go on with all work of Alice's; return the kinds, in the order in which it was asked for."""
    account = vault.alice.account
    with vault.services() as bundle:
        works = bundle.work.open(account)
        for view in works:
            bundle.work.finish(account, view.id)
        assert bundle.work.open(account) == []
    return [view.kind for view in works]


def test_everything_is_replaced_and_everything_opens(any_vault: Vault) -> None:
    vault = any_vault
    own = [vault.upload("alice", b"own %d" % number, f"own {number}", ("bob",)) for number in range(2)]
    received = vault.upload("bob", b"from Bob", "received", ("alice",))
    assert vault.read("alice", received) == b"from Bob"
    old, blobs = vault.alice, set(vault.blob_files())
    with vault.services() as bundle:
        code = bundle.recovery.make(old.account, old.passphrase)
        passphrase = bundle.exposure.replace_all(old.account, old.passphrase)
        with pytest.raises(LoginRequired):
            bundle.sessions.identify(old.token)
        with pytest.raises(WrongLogin):
            bundle.sessions.log_in("alice", old.passphrase, address=SOMEWHERE, client="tests")
        with pytest.raises(WrongLogin):
            bundle.recovery.use("alice", code, address=SOMEWHERE)
    alice = enter(vault, passphrase)
    assert [vault.read("alice", document) for document in own] == [b"own 0", b"own 1"], (
        "before the work is done"
    )
    assert finish(vault) == ["keypairs", KIND]
    assert alice.account.account_key != old.account.account_key
    assert [vault.read("alice", document) for document in own] == [b"own 0", b"own 1"]
    assert vault.read("alice", received) == b"from Bob"
    with vault.services() as bundle:
        assert [notice.kind for notice in bundle.notices.unread(alice.account)] == ["exposed"]
        names = {row.name for row in bundle.lists.page(alice.account, sort="name").items if row.readable}
        assert names == {"own 0", "own 1", "received"}
        bundle.sweep.run()
        with pytest.raises(KeyChanged):
            bundle.downloads.open(vault.bob.account, own[0])
        with pytest.raises(KeyChanged):
            bundle.sharing.share(vault.bob.account, [received], ["alice"])
    assert len(set(vault.blob_files()) - blobs) == 2, "the owned contents are written anew"
    assert findings(vault) == []


def test_what_a_thief_took_opens_nothing_of_what_came_after(vault: Vault) -> None:
    """He has the old passphrase, the master key and yesterday's database: account key, private keys, DEKs."""
    document, received = vault.upload("alice", b"own"), vault.upload("bob", b"x", share=("alice",))
    stolen: PrivateKeys = vault.alice.account.private
    old = vault.alice.account.account_key
    with vault.services() as bundle:
        passphrase = bundle.exposure.replace_all(vault.alice.account, vault.alice.passphrase)
    enter(vault, passphrase)
    finish(vault)
    attacker, alice = Attacker(vault), vault.alice.account
    former, current = sorted(attacker.rows("user_key", user_id=alice.user_id), key=lambda row: row["version"])
    assert former["sealed_wrap_private"] == b"" and former["retired_at"] is not None
    assert current["statement"] is None, "the old pair vouches for nothing"
    for grant in attacker.rows("shared_key_registry", reader_id=alice.user_id):
        with pytest.raises(Unreadable):
            unwrap_dek(
                stolen, grant["wrapped_dek"], document=grant["document_id"], version=grant["version_id"],
                reader=alice.user_id, key_version=grant["reader_key_version"],
            )  # fmt: skip
    for entry in attacker.rows("document_index", reader_id=alice.user_id):
        with pytest.raises(Unreadable):
            IndexKey(old).open(entry["sealed_entry"], document=entry["document_id"], reader=alice.user_id)
    assert vault.read("alice", document) == b"own" and vault.read("alice", received) == b"x"


def test_it_asks_for_the_passphrase_and_takes_another_one(vault: Vault) -> None:
    own = "correct horse battery staple, and a purple umbrella"
    with vault.services() as bundle:
        with pytest.raises(WrongLogin):
            bundle.exposure.replace_all(vault.alice.account, "not my passphrase")
        with pytest.raises(BadPassphrase, match="may be known"):
            bundle.exposure.replace_all(vault.alice.account, own, own)
        assert bundle.exposure.replace_all(vault.alice.account, vault.alice.passphrase, own) == own
    assert enter(vault, own)
    assert finish(vault) == ["keypairs"], "without documents there is none to be written anew"


def test_a_second_time_while_the_first_is_not_done(vault: Vault) -> None:
    document = vault.upload("alice", b"own", share=("bob",))
    with vault.services() as bundle:
        passphrase = bundle.exposure.replace_all(vault.alice.account, vault.alice.passphrase)
    alice = enter(vault, passphrase)
    with vault.services() as bundle:
        passphrase = bundle.exposure.replace_all(alice.account, passphrase)
    enter(vault, passphrase)
    assert finish(vault) == ["keypairs", KIND]
    assert enter(vault, passphrase).account.key_version == 3
    assert vault.read("alice", document) == b"own"
    assert findings(vault) == []


def test_a_document_that_does_not_open_keeps_the_others_from_nothing(vault: Vault) -> None:
    damaged, whole = vault.upload("alice", b"damaged"), vault.upload("alice", b"whole")
    Attacker(vault).blob(damaged).unlink()
    with vault.services() as bundle:
        passphrase = bundle.exposure.replace_all(vault.alice.account, vault.alice.passphrase)
    enter(vault, passphrase)
    finish(vault)
    assert vault.read("alice", whole) == b"whole"
    told = [detail for act, _, _, detail in vault.audit() if act == "exposed_done"]
    assert told == ["1 done, 1 left"]
    assert [notice["kind"] for notice in vault.api("alice").get("/me").json["notices"]] == [
        "exposed",
        "exposed_left",
    ]
    assert "Some of your documents have no new keys" in vault.browser("alice").get("/account").text
    assert "1 done, 1 left" in vault.browser("alice").get("/account/log").text


def test_the_last_answer_tells_how_many_documents_were_left(vault: Vault) -> None:
    damaged = vault.upload("alice", b"damaged")
    vault.upload("alice", b"whole")
    Attacker(vault).blob(damaged).unlink()
    with vault.services() as bundle:
        passphrase = bundle.exposure.replace_all(vault.alice.account, vault.alice.passphrase)
    enter(vault, passphrase)
    api = vault.api("alice")
    told: dict[str, Any] = {}
    for kind in ("keypairs", KIND):
        (told,) = [work for work in api.get("/me/work").json["items"] if work["kind"] == kind]
        while not told["finished"]:
            told = api.post(f"/me/work/{told['id']}").json
    assert (told["done"], told["failed"], told["total"]) == (1, 1, 2)


def test_the_work_is_nobody_elses(vault: Vault) -> None:
    vault.upload("alice", b"own")
    with vault.services() as bundle:
        passphrase = bundle.exposure.replace_all(vault.alice.account, vault.alice.passphrase)
    alice = enter(vault, passphrase)
    with vault.services() as bundle:
        (work_id,) = [view.id for view in bundle.work.open(alice.account) if view.kind == KIND]
        with pytest.raises(NotFound):
            bundle.work.go_on(vault.bob.account, work_id)
