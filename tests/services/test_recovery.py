"""Recovery codes through the services, on each database: made, used once, everything opens, nothing else does."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy.orm import Session

from tests.cast import Member, Vault, reader
from vault.crypto.randomness import new_id
from vault.errors import (
    AccountDisabled,
    BadPassphrase,
    CodeMistyped,
    LoginRequired,
    NotFound,
    TooManyAttempts,
    WrongLogin,
)
from vault.models import User
from vault.services.accountkey import exchange_key, prepare
from vault.services.audit import Event
from vault.services.throttle import PER_NAME

OWN = "correct horse battery staple, and a purple umbrella"
SOMEWHERE = "192.0.2.7"


def made_code(vault: Vault, name: str = "alice") -> str:
    member = vault.members[name]
    with vault.services() as bundle:
        return bundle.recovery.make(member.account, member.passphrase)


def use(vault: Vault, code: str, name: str = "alice", new: str | None = None) -> str:
    with vault.services() as bundle:
        return bundle.recovery.use(name, code, new, address=SOMEWHERE).passphrase


def enter(vault: Vault, passphrase: str, name: str = "alice") -> Member:
    with vault.services() as bundle:
        entered = bundle.sessions.log_in(name, passphrase, address=SOMEWHERE, client="tests")
        vault.members[name] = Member(name, passphrase, entered.account, entered.token, entered.device)
    return vault.members[name]


def findings(vault: Vault) -> list[str]:
    with vault.services() as bundle:
        return [finding.text for finding in bundle.check.run().findings]


def test_must_show_4_a_code_works_once_and_every_document_opens(any_vault: Vault) -> None:
    vault = any_vault
    own = [vault.upload("alice", b"own %d" % number, f"own {number}.txt", ("bob",)) for number in range(3)]
    received = vault.upload("bob", b"from Bob", "received.txt", ("alice",))
    assert vault.read("alice", received) == b"from Bob"
    old = vault.alice
    code = made_code(vault)
    passphrase = use(vault, code)
    with vault.services() as bundle:
        with pytest.raises(LoginRequired):
            bundle.sessions.identify(old.token)
        with pytest.raises(WrongLogin):
            bundle.sessions.log_in("alice", old.passphrase, address=SOMEWHERE, client="tests")
        with pytest.raises(WrongLogin):
            bundle.recovery.use("alice", code, address=SOMEWHERE)
    alice = enter(vault, passphrase)
    assert alice.account.account_key != old.account.account_key
    assert alice.account.fingerprint == old.account.fingerprint, "the key pairs are the same"
    assert [vault.read("alice", document) for document in own] == [b"own 0", b"own 1", b"own 2"]
    assert vault.read("alice", received) == b"from Bob"
    assert vault.read("bob", own[0]) == b"own 0"
    with vault.services() as bundle:
        names = {row.name for row in bundle.lists.page(alice.account, sort="name").items if row.readable}
        assert names == {"own 0.txt", "own 1.txt", "own 2.txt", "received.txt"}
        (notice,) = bundle.notices.unread(alice.account)
        assert notice.kind == "recovery_used"
        bundle.notices.read(alice.account, notice.id)
        assert bundle.notices.unread(alice.account) == []
        assert bundle.recovery.made_at(alice.account) is None
        bundle.documents.rename(alice.account, own[0], "renamed.txt")
        bundle.sharing.share(alice.account, [own[0]], ["charlie"])
    assert findings(vault) == []


def test_the_memory_of_documents_and_people_is_kept(any_vault: Vault) -> None:
    """Rows that were there, changed and came between the preparation and the transaction; none is under the old key."""
    vault = any_vault
    kept, renamed = vault.upload("alice", b"1", "kept", ("bob",)), vault.upload("alice", b"2", "before")
    account = vault.alice.account
    with vault.services() as bundle:
        with bundle.transactions.reading() as session:
            exchange = prepare(session, account.user_id, account.account_key)
        assert len(exchange.entries) == 2
        bundle.documents.rename(account, renamed, "after")
        late = bundle.uploads.receive(account, reader(b"3"), name="late", length=1)

        def work(session: Session) -> None:
            user = session.get_one(User, account.user_id, with_for_update=True)
            exchange_key(session, vault.app.extensions["docvault"].master, user, exchange)
            bundle.transactions.record(Event("recovery_used", account.user_id))

        bundle.transactions.writing(work)
        account = replace(account, account_key=exchange.new)
        with bundle.transactions.reading() as session:
            entries = {row: bundle.gate.remembered(session, account, row) for row in (kept, renamed, late)}
            known = bundle.contacts.remembered(session, account, [vault.bob.account.user_id])
        assert [entry.name for entry in entries.values() if entry] == ["kept", "after", "late"]
        assert known == {vault.bob.account.user_id: vault.bob.account.fingerprint}
    assert findings(vault) == []


def test_a_request_under_the_old_key_writes_nothing_afterwards(vault: Vault) -> None:
    """It began before the code was used: what it sealed under the old account key would be lost."""
    old, document = vault.alice.account, vault.upload("alice", b"1")
    other = vault.upload("bob", b"2", share=("alice",))
    passphrase = use(vault, made_code(vault))
    with vault.services() as bundle:
        for act in (
            lambda: bundle.documents.rename(old, document, "late"),
            lambda: bundle.sharing.share(old, [document], ["charlie"]),
            lambda: bundle.uploads.receive(old, reader(b"late"), name="late", length=4),
            lambda: bundle.accounts.change_passphrase(old, passphrase),
        ):
            with pytest.raises((LoginRequired, WrongLogin, AccountDisabled)):
                act()
        opened = bundle.documents.view(old, other)
        assert opened.name, "a read under way goes on; it remembers nothing"
    alice = enter(vault, passphrase)
    with vault.services() as bundle, bundle.transactions.reading() as session:
        assert bundle.gate.remembered(session, alice.account, other) is None
    assert findings(vault) == []


def test_a_new_code_ends_the_older_one_and_a_removed_one_is_none(vault: Vault) -> None:
    first = made_code(vault)
    second = made_code(vault)
    with pytest.raises(WrongLogin):
        use(vault, first)
    with vault.services() as bundle:
        assert bundle.recovery.made_at(vault.alice.account) is not None
        with pytest.raises(WrongLogin):
            bundle.recovery.remove(vault.alice.account, "not my passphrase")
        bundle.recovery.remove(vault.alice.account, vault.alice.passphrase)
        with pytest.raises(NotFound):
            bundle.recovery.remove(vault.alice.account, vault.alice.passphrase)
    with pytest.raises(WrongLogin):
        use(vault, second)
    assert enter(vault, vault.alice.passphrase)
    assert findings(vault) == []


def test_a_passphrase_change_keeps_the_code(vault: Vault) -> None:
    code = made_code(vault)
    with vault.services() as bundle:
        bundle.accounts.change_passphrase(vault.alice.account, vault.alice.passphrase)
    assert enter(vault, use(vault, code, new=OWN))
    assert enter(vault, OWN)


def test_what_is_wrong_with_a_new_passphrase_or_a_typed_code_costs_no_attempt(vault: Vault) -> None:
    code = made_code(vault)
    for _ in range(PER_NAME + 1):
        with pytest.raises(BadPassphrase):
            use(vault, code, new="too short")
        with pytest.raises(CodeMistyped):
            use(vault, code[:-1])
    assert use(vault, code)


def test_p3_wrong_codes_are_counted_with_wrong_passphrases(vault: Vault) -> None:
    made_code(vault)
    wrong = made_code(vault, "bob")
    for _ in range(PER_NAME):
        with pytest.raises(WrongLogin):
            use(vault, wrong)
    with pytest.raises(TooManyAttempts):
        use(vault, wrong)
    with vault.services() as bundle, pytest.raises(TooManyAttempts):
        bundle.sessions.log_in("alice", vault.alice.passphrase, address="198.51.100.9", client="tests")


def test_a_disabled_account_is_told_so_only_with_its_code(vault: Vault) -> None:
    code, other = made_code(vault), made_code(vault, "bob")
    with vault.services() as bundle:
        bundle.accounts.set_state(None, "alice", "disabled")
    with pytest.raises(WrongLogin):
        use(vault, other)
    with pytest.raises(AccountDisabled):
        use(vault, code)
    with vault.services() as bundle:
        bundle.accounts.set_state(None, "alice", "active")
    assert use(vault, code), "it was not spent"


def test_notices_are_for_one_person(vault: Vault) -> None:
    alice = enter(vault, use(vault, made_code(vault)))
    with vault.services() as bundle:
        (notice,) = bundle.notices.unread(alice.account)
        for account, which in ((vault.bob.account, notice.id), (alice.account, new_id())):
            with pytest.raises(NotFound):
                bundle.notices.read(account, which)
        assert bundle.notices.unread(vault.bob.account) == []
