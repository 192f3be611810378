"""Reset my keys, on each database: a way in for who has lost everything, which opens nothing and is seen."""

from __future__ import annotations

import pytest

from tests.cast import Member, Vault
from vault.errors import BadInput, CodeInvalid, Forbidden, KeyChanged, LoginRequired, NotFound, WrongLogin

SOMEWHERE = "192.0.2.7"


def findings(vault: Vault) -> list[str]:
    with vault.services() as bundle:
        return [finding.text for finding in bundle.check.run().findings]


def enter(vault: Vault, passphrase: str, name: str = "alice") -> Member:
    with vault.services() as bundle:
        entered = bundle.sessions.log_in(name, passphrase, address=SOMEWHERE, client="tests")
        vault.members[name] = Member(name, passphrase, entered.account, entered.token, entered.device)
    return vault.members[name]


def reset_code(vault: Vault, name: str = "alice") -> str:
    with vault.services() as bundle:
        return bundle.resets.begin(vault.dora.account, name).code


def test_new_keys_and_an_honest_list_of_what_is_lost(any_vault: Vault) -> None:
    vault = any_vault
    lost = vault.upload("alice", b"lost", share=("bob",))
    vault.upload("alice", b"lost too")
    received = [vault.upload("bob", b"%d" % number, share=("alice",)) for number in range(2)]
    other = vault.upload("charlie", b"other", share=("alice", "bob"))
    assert vault.read("alice", received[0]) == b"0"
    old, code = vault.alice.account, reset_code(vault)
    with vault.services() as bundle:
        loss = bundle.resets.look_up(code)
        assert (loss.username, loss.documents, loss.read_by_others, loss.received) == ("alice", 2, 1, 3)
        assert loss.owners == (("bob", 2), ("charlie", 1))
        done = bundle.resets.use(code)
        assert done.owners == loss.owners
        with pytest.raises(CodeInvalid):
            bundle.resets.use(code)
        with pytest.raises(LoginRequired):
            bundle.sessions.identify(vault.alice.token)
        with pytest.raises(WrongLogin):
            bundle.sessions.log_in("alice", vault.alice.passphrase, address=SOMEWHERE, client="tests")
    alice = enter(vault, done.passphrase).account
    assert alice.user_id == old.user_id and alice.key_version == 2
    assert alice.fingerprint != old.fingerprint and alice.fingerprint_words == done.fingerprint_words
    with vault.services() as bundle:
        assert bundle.lists.page(alice).items == []
        assert [notice.kind for notice in bundle.notices.unread(alice)] == ["keys_reset"]
        assert bundle.notices.unread(alice)[0].by == "dora"
        with pytest.raises(NotFound):
            bundle.documents.view(vault.bob.account, lost)
        with pytest.raises(KeyChanged):
            bundle.sharing.share(vault.bob.account, [received[0]], ["alice"])
        bundle.sharing.share(vault.dora.account, [vault.upload("dora", b"new friend")], ["alice"])
    fresh = vault.upload("alice", b"fresh")
    assert vault.read("alice", fresh) == b"fresh"
    assert vault.read("bob", other) == b"other"
    assert findings(vault) == []


def test_who_logs_in_has_not_lost_everything(vault: Vault) -> None:
    code = reset_code(vault)
    alice = enter(vault, vault.alice.passphrase).account
    with vault.services() as bundle:
        (notice,) = bundle.notices.unread(alice)
        assert (notice.kind, notice.by) == ("reset_begun", "dora"), "she is told who has begun it"
        for act in (bundle.resets.look_up, bundle.resets.use):
            with pytest.raises(CodeInvalid):
                act(code)
        assert bundle.invitations.list_open(None) == []
    assert ("reset_voided", True) in [(act, done) for act, _, done, _ in vault.audit()]
    assert findings(vault) == []


def test_who_is_in_and_reads_of_a_reset_ends_it(vault: Vault) -> None:
    code = reset_code(vault)
    with vault.services() as bundle:
        (notice,) = bundle.notices.unread(vault.alice.account)
        assert bundle.resets.look_up(code).username == "alice"
        bundle.notices.read(vault.alice.account, notice.id)
        with pytest.raises(CodeInvalid):
            bundle.resets.look_up(code)
    assert findings(vault) == []


def test_a_recovery_code_ends_a_reset_as_well(vault: Vault) -> None:
    with vault.services() as bundle:
        recovery = bundle.recovery.make(vault.alice.account, vault.alice.passphrase)
        code = reset_code(vault)
        bundle.recovery.use("alice", recovery, address=SOMEWHERE)
        with pytest.raises(CodeInvalid):
            bundle.resets.look_up(code)


def test_who_may_begin_one(vault: Vault) -> None:
    with vault.services() as bundle:
        with pytest.raises(Forbidden):
            bundle.resets.begin(vault.bob.account, "alice")
        with pytest.raises(BadInput):
            bundle.resets.begin(vault.dora.account, "dora")
        with pytest.raises(NotFound):
            bundle.resets.begin(vault.dora.account, "zaphod")
        first = bundle.resets.begin(None, "dora").code  # the operator, for the only administrator
        second = bundle.resets.begin(None, "dora").code
        with pytest.raises(CodeInvalid):
            bundle.resets.use(first)
        dora = enter(vault, bundle.resets.use(second).passphrase, "dora").account
        assert dora.is_admin


def test_codes_of_one_kind_are_none_of_another(vault: Vault) -> None:
    code = reset_code(vault)
    with vault.services() as bundle:
        invitation = bundle.invitations.invite(None, "zoe").code
        with pytest.raises(CodeInvalid):
            bundle.resets.use(invitation)
        with pytest.raises(CodeInvalid):
            bundle.accounts.register("zoe", code)
        (reset, _) = bundle.invitations.list_open(vault.dora.account)
        assert (reset.kind, reset.username) == ("reset", "alice")
        bundle.invitations.withdraw(vault.dora.account, reset.id)
        with pytest.raises(CodeInvalid):
            bundle.resets.use(code)


def test_a_deleted_account_is_not_reset(vault: Vault) -> None:
    code = reset_code(vault)
    with vault.services() as bundle:
        bundle.deletion.delete(None, "alice", "alice")
        with pytest.raises(CodeInvalid):
            bundle.resets.use(code)
        with pytest.raises(NotFound):
            bundle.resets.begin(None, "alice")


def test_a_disabled_account_stays_disabled(vault: Vault) -> None:
    with vault.services() as bundle:
        bundle.accounts.set_state(None, "alice", "disabled")
        bundle.resets.use(reset_code(vault))
        states = {view.username: view.state for view in bundle.accounts.list_accounts(None)}
        assert states["alice"] == "disabled"
