"""Deleting accounts, on each database: keys at once, documents and grants by tombstones, the name for good."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cast import Vault
from vault.errors import BadInput, Conflict, Forbidden, LoginRequired, NameTaken, NotFound, WrongLogin
from vault.services import deletion
from vault.services.deletion import purge_some

SOMEWHERE = "192.0.2.7"


def rows(vault: Vault, table: str, **where: Any) -> int:
    condition = " AND ".join(f'"{name}" = ?' for name in where)
    with vault.database() as connection:
        found = connection.execute(f'SELECT count(*) FROM "{table}" WHERE {condition}', tuple(where.values()))
        return int(found.fetchone()[0])


def findings(vault: Vault) -> list[str]:
    with vault.services() as bundle:
        return [finding.text for finding in bundle.check.run().findings]


def delete_own(vault: Vault, name: str) -> None:
    member = vault.members[name]
    with vault.services() as bundle:
        bundle.deletion.delete_own(member.account, member.passphrase)


def test_an_account_goes_with_all_that_is_in_it(any_vault: Vault) -> None:
    vault = any_vault
    own = vault.upload("alice", b"own", share=("bob",))
    kept = vault.upload("bob", b"from Bob", share=("alice", "charlie"))
    assert vault.read("alice", kept) == b"from Bob"
    with vault.services() as bundle:
        bundle.recovery.make(vault.alice.account, vault.alice.passphrase)
    delete_own(vault, "alice")
    with vault.services() as bundle:
        with pytest.raises(LoginRequired):
            bundle.sessions.identify(vault.alice.token)
        with pytest.raises(WrongLogin):
            bundle.sessions.log_in("alice", vault.alice.passphrase, address=SOMEWHERE, client="tests")
        with pytest.raises(NameTaken):
            bundle.accounts.register("alice")
        bundle.sweep.run()
        with pytest.raises(NotFound):
            bundle.documents.view(vault.bob.account, own)
        assert [reader.username for reader in bundle.documents.readers(vault.bob.account, kept)] == [
            "bob",
            "charlie",
        ]
        assert len(vault.blob_files()) == 1
        states = {view.username: view.state for view in bundle.accounts.list_accounts(None)}
        assert states == {"alice": "deleted", "bob": "active", "charlie": "active", "dora": "active"}
        assert bundle.accounts.suggest(vault.bob.account, "al") == []
        with pytest.raises(BadInput, match="no user named alice"):
            bundle.sharing.share(vault.bob.account, [kept], ["alice"])
        for change in ({"state": "active"}, {"role": "admin"}):
            with pytest.raises(NotFound):
                bundle.accounts.change(None, "alice", **change)
    assert vault.read("charlie", kept) == b"from Bob"
    assert findings(vault) == []


def test_nothing_that_opens_is_left(vault: Vault) -> None:
    vault.upload("alice", b"own", share=("bob",))
    vault.upload("bob", b"from Bob", share=("alice",))
    alice = vault.alice.account.user_id
    delete_own(vault, "alice")
    with vault.services() as bundle:
        bundle.sweep.run()  # on a slow machine two seconds are not enough for all of it
    for table in ("unlock_method", "login_session", "contact", "notice", "work"):
        assert rows(vault, table, user_id=alice) == 0, table
    for table in ("document_index", "shared_key_registry"):
        assert rows(vault, table, reader_id=alice) == 0, table
    with vault.database() as connection:
        (private,) = connection.execute(
            "SELECT sealed_wrap_private, sealed_sign_private FROM user_key WHERE user_id = ?", (alice,)
        )
        assert tuple(private) == (b"", b"")
        user = connection.execute(
            'SELECT stored_bytes, documents, state, role FROM "user" WHERE id = ?', (alice,)
        )
        assert tuple(user.fetchone()) == (0, 0, "deleted", "user")


def test_a_large_account_is_unreachable_at_once_and_goes_with_the_sweep(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = [vault.upload("alice", b"%d" % number, share=("bob",)) for number in range(5)]
    theirs = [vault.upload("bob", b"%d" % number, share=("alice",)) for number in range(5)]
    monkeypatch.setattr(deletion, "AT_ONCE_SECONDS", 0.0)
    monkeypatch.setattr(deletion, "DOCUMENTS_AT_ONCE", 2)
    monkeypatch.setattr(deletion, "GRANTS_AT_ONCE", 2)
    with vault.services() as bundle:
        bundle.deletion.delete(vault.dora.account, "Alice", "alice")
        with pytest.raises(LoginRequired):
            bundle.sessions.identify(vault.alice.token)
    for _ in range(3):  # batch by batch, whole after each
        with vault.services() as bundle:
            assert bundle.transactions.writing(lambda session: purge_some(session, bundle.transactions))
        assert findings(vault) == []
    with vault.services() as bundle:
        assert bundle.sweep.run().purges > 0
    assert rows(vault, "document", owner_id=vault.alice.account.user_id) == 0 and own
    assert rows(vault, "work", kind="purge") == 0
    assert all(vault.read("bob", document) for document in theirs)
    assert findings(vault) == []


def test_a_row_that_cannot_be_believed_keeps_no_sweep_from_its_work(vault: Vault) -> None:
    doomed, gone = vault.upload("alice", b"doomed"), vault.upload("bob", b"gone")
    with vault.database() as connection:
        connection.execute("UPDATE document SET epoch = 7 WHERE id = ?", (doomed,))
    delete_own(vault, "alice")
    with vault.services() as bundle:
        bundle.documents.delete(vault.bob.account, [gone])
        assert bundle.sweep.run().blobs == 1
    assert rows(vault, "work", kind="purge") == 1


def test_ones_own_asks_for_the_passphrase_and_others_for_the_name(vault: Vault) -> None:
    with vault.services() as bundle:
        with pytest.raises(WrongLogin):
            bundle.deletion.delete_own(vault.alice.account, "not my passphrase")
        with pytest.raises(Forbidden):
            bundle.deletion.delete(vault.bob.account, "alice", "alice")
        for confirmation in ("", "bob", "alice2"):
            with pytest.raises(BadInput):
                bundle.deletion.delete(vault.dora.account, "alice", confirmation)
        with pytest.raises(BadInput, match="Your own"):
            bundle.deletion.delete(vault.dora.account, "dora", "dora")
        with pytest.raises(NotFound):
            bundle.deletion.delete(vault.dora.account, "zaphod", "zaphod")
        assert bundle.sessions.identify(vault.alice.token).username == "alice"
        bundle.deletion.delete(vault.dora.account, "alice", "alice")
        with pytest.raises(NotFound):
            bundle.deletion.delete(vault.dora.account, "alice", "alice")


def test_the_last_administrator_stays(vault: Vault) -> None:
    with vault.services() as bundle:
        with pytest.raises(Conflict):
            bundle.deletion.delete_own(vault.dora.account, vault.dora.passphrase)
        with pytest.raises(Conflict):
            bundle.deletion.delete(None, "dora", "dora")
        bundle.accounts.set_role(vault.dora.account, "bob", "admin")
        bundle.deletion.delete_own(vault.dora.account, vault.dora.passphrase)
        assert {view.username: view.role for view in bundle.accounts.list_accounts(None)}["dora"] == "user"
    assert findings(vault) == []
