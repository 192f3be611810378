"""Keys that change: a statement renews what is remembered by itself; without one a person's word is needed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.attacks.attacker import Attacker
from tests.cast import Vault, reader
from tests.services.test_exposure import enter
from tests.services.test_keypairs import go_on, rotate
from tests.web.forms import words
from vault.crypto.accounts import directory_mac, seal_private_keys
from vault.crypto.keypairs import PrivateKeys, generate_keys
from vault.errors import BadInput, KeyChanged, NotFound, Unreadable
from vault.models import User, UserKey
from vault.services import clock, confirming
from vault.services.audit import Event
from vault.services.contacts import KEY_RENEWED


@pytest.fixture(scope="module")
def other_keys() -> PrivateKeys:
    return generate_keys()


def begin_anew(vault: Vault, who: str, keys: PrivateKeys) -> None:
    """Give somebody pairs that nothing vouches for, as after he has lost everything; his former pair is retired."""
    account = vault.members[who].account

    def work(session: Any) -> None:
        user = session.get(User, account.user_id, with_for_update=True)
        former = session.query(UserKey).filter_by(user_id=user.id, version=user.key_version).one()
        former.retired_at, former.sealed_wrap_private, former.sealed_sign_private = clock.now(), b"", b""
        user.key_version += 1
        wrap, sign = seal_private_keys(account.account_key, keys, user=user.id, key_version=user.key_version)
        master = session.info["master_keys"]
        row = UserKey(
            id=user.key_version.to_bytes(16, "big"),
            user_id=user.id,
            version=user.key_version,
            wrap_public=keys.public.wrap_der,
            sign_public=keys.public.sign_der,
            fingerprint=keys.public.fingerprint,
            directory_key_id=master.key_id,
            directory_mac=directory_mac(
                master, user=user.id, key_version=user.key_version, fingerprint=keys.public.fingerprint
            ),
            sealed_wrap_private=wrap,
            sealed_sign_private=sign,
            statement=None,
            created_at=clock.now(),
            retired_at=None,
        )
        session.add(row)
        bundle.transactions.record(Event("keys_reset", user.id, "user", user.id))

    with vault.services() as bundle:
        bundle.transactions.writing(work)
        with bundle.transactions.reading() as session:
            bundle.contacts.take_own_keys(session, account)


def states(vault: Vault, who: str) -> dict[str, str]:
    with vault.services() as bundle:
        return {view.username: view.state for view in bundle.contact_book.list(vault.members[who].account)}


def notices(vault: Vault, who: str) -> list[str]:
    rows = Attacker(vault).rows("notice", user_id=vault.members[who].account.user_id)
    return [row["kind"] for row in rows]


# With a statement


def test_a_statement_renews_contact_and_index_entry_with_a_notice(vault: Vault) -> None:
    document = vault.upload("alice", b"plan", share=("bob",))
    vault.read("bob", document)
    work_id = rotate(vault, to_the_end=False)
    assert states(vault, "bob") == {"alice": "renewed"}, "it is said while the change is under way"
    vault.read("bob", document)
    assert notices(vault, "bob") == [], "what is remembered stays as long as the former pair signs"
    go_on(vault, "alice", work_id)
    vault.read("bob", document)
    assert notices(vault, "bob") == [KEY_RENEWED]
    assert ("key_renewed", vault.bob.account.user_id.hex(), True, None) in vault.audit()
    vault.read("bob", document)
    vault.upload("bob", b"answer", share=("alice",))
    assert notices(vault, "bob") == [KEY_RENEWED], "it is told once"
    bob = vault.bob.account
    with vault.services() as bundle, bundle.transactions.reading() as session:
        alice = bundle.contacts.person(session, vault.alice.account.user_id)
        assert bundle.contacts.remembered(session, bob, [alice.id]) == {alice.id: alice.public.fingerprint}
        entry = bundle.gate.remembered(session, bob, document)
        assert entry is not None and entry.owner_fingerprint == alice.public.fingerprint
    with vault.services() as bundle:
        view = bundle.contact_book.view(bob, "alice")
        assert (view.state, view.renewed_at is not None) == ("renewed", True)
        bundle.contact_book.confirm(bob, "alice", view.fingerprint_words.upper())
        assert bundle.contact_book.view(bob, "alice").state == "known"
    assert notices(vault, "bob") == []


def test_who_shares_with_somebody_who_changed_is_not_stopped(vault: Vault) -> None:
    vault.upload("bob", b"before", share=("alice",))
    rotate(vault)
    after = vault.upload("bob", b"after", share=("alice",))
    assert vault.read("alice", after) == b"after"
    assert notices(vault, "bob") == [KEY_RENEWED]


def test_who_meets_somebody_in_the_middle_of_a_change_is_not_stopped_at_its_end(vault: Vault) -> None:
    """Charlie first shares with Alice, whose own document is still signed with her former pair."""
    document = vault.upload("alice", b"plan", share=("charlie",))
    work_id = rotate(vault, to_the_end=False)
    vault.upload("charlie", b"to alice", share=("alice",))
    assert vault.read("charlie", document) == b"plan"
    go_on(vault, "alice", work_id)
    assert vault.read("charlie", document) == b"plan"
    assert states(vault, "charlie") == {"alice": "renewed"}


@pytest.mark.parametrize("forged", ["absent", "other", "of another"])
def test_k2_a_statement_that_the_old_key_did_not_make_leads_nowhere(
    vault: Vault, other_keys: PrivateKeys, forged: str
) -> None:
    """Whoever has the master key can put keys into the directory; he has nothing to sign the statement with."""
    document = vault.upload("alice", b"plan", share=("bob",))
    vault.read("bob", document)
    rotate(vault)
    attacker = Attacker(vault)
    row = attacker.row("user_key", user_id=vault.alice.account.user_id, version=2)
    statements = {"absent": None, "other": other_keys.sign(b"anything"), "of another": bytes(256)}
    attacker.update("user_key", row["id"], statement=statements[forged])
    attacker.reseal("user_key", row["id"])
    with pytest.raises(KeyChanged):
        vault.read("bob", document)
    with pytest.raises(KeyChanged):
        vault.upload("bob", b"secret", share=("alice",))
    assert states(vault, "bob") == {"alice": "changed"}


def test_a_statement_does_not_lead_back(vault: Vault) -> None:
    """Who remembers the new pair refuses the former one, though the former one says that they belong together."""
    document = vault.upload("alice", b"plan", share=("bob",))
    rotate(vault)
    vault.read("bob", document)
    attacker = Attacker(vault)
    alice = vault.alice.account.user_id
    attacker.update("user", alice, key_version=1)
    attacker.reseal("user", alice)
    former = attacker.row("user_key", user_id=alice, version=1)
    attacker.update("user_key", former["id"], retired_at=None)
    attacker.reseal("user_key", former["id"])
    with pytest.raises(KeyChanged):
        vault.upload("bob", b"secret", share=("alice",))


# Without one


def test_a_changed_key_stops_until_a_person_confirms_it(vault: Vault, other_keys: PrivateKeys) -> None:
    vault.upload("alice", b"one", share=("bob",))
    begin_anew(vault, "bob", other_keys)
    alice = vault.alice.account
    with pytest.raises(KeyChanged):
        vault.upload("alice", b"two", share=("bob",))
    with vault.services() as bundle:
        view = bundle.contact_book.view(alice, "bob")
        assert view.state == "changed" and view.known_words != view.fingerprint_words
        for wrong in (view.known_words, "", "six words that are not his", "x" * 1000):
            with pytest.raises(BadInput, match="not the words"):
                bundle.contact_book.confirm(alice, "bob", wrong)
        assert bundle.contact_book.view(alice, "bob").state == "changed"
        assert bundle.contact_book.confirm(alice, "bob", view.fingerprint_words) is None, "nothing waited"
    assert states(vault, "alice") == {"bob": "known"}
    two = vault.upload("alice", b"two", share=("bob",))
    assert vault.read("bob", two) == b"two"


def test_what_is_confirmed_renews_the_memory_of_documents(vault: Vault, other_keys: PrivateKeys) -> None:
    """Alice begins anew and writes a new version of what Bob remembers; her word is asked for once."""
    document = vault.upload("alice", b"first", share=("bob",))
    vault.read("bob", document)
    alice, bob = vault.alice.account, vault.bob.account
    attacker = Attacker(vault)
    with vault.services() as bundle:
        version = attacker.row("document", id=document)["version_id"]
        opened = bundle.downloads.open(alice, document)
        assert b"".join(opened.stream(0, opened.size)) == b"first"
    # A change of pairs whose statement is taken away afterwards: everything is signed with pairs that nothing leads to.
    rotate(vault)
    row = attacker.row("user_key", user_id=alice.user_id, version=2)
    attacker.update("user_key", row["id"], statement=None)
    attacker.reseal("user_key", row["id"])
    with pytest.raises(KeyChanged):
        vault.read("bob", document)
    with vault.services() as bundle:
        bundle.contact_book.confirm(bob, "alice", bundle.contact_book.view(bob, "alice").fingerprint_words)
    assert vault.read("bob", document) == b"first"
    with vault.services() as bundle, bundle.transactions.reading() as session:
        entry = bundle.gate.remembered(session, bob, document)
        assert entry is not None and entry.owner_fingerprint == row["fingerprint"]
    assert attacker.row("document", id=document)["version_id"] == version


def test_wraps_that_waited_are_done_with_the_terms_they_had(vault: Vault, other_keys: PrivateKeys) -> None:
    alice = vault.alice.account
    plain = vault.upload("alice", b"one", share=("bob", "charlie"))
    until = datetime(2199, 1, 1, tzinfo=UTC)
    ending = vault.upload("alice", b"one")
    with vault.services() as bundle:
        bundle.sharing.share(alice, [ending], ["bob"], expires_at=until)
        since = next(v.since for v in bundle.documents.readers(alice, ending).items if v.username == "bob")
    begin_anew(vault, "bob", other_keys)
    with vault.services() as bundle:
        for document in (plain, ending):
            bundle.uploads.receive(alice, reader(b"two"), document_id=document)
        for document in (plain, ending):
            with pytest.raises(NotFound):
                vault.read("bob", document)
        assert vault.read("charlie", plain) == b"two", "the others do not wait"
        view = bundle.contact_book.view(alice, "bob")
        assert (view.state, view.waiting) == ("changed", 2)
        assert bundle.work.open(alice) == [], "what waits is no work that can go on"
        work_id = bundle.contact_book.confirm(alice, "bob", view.fingerprint_words)
        assert work_id is not None
        assert bundle.contact_book.confirm(alice, "bob", view.fingerprint_words) == work_id, "asked once more"
        first = bundle.work.go_on(alice, work_id, seconds=0)
        assert first is not None and (first.done, first.total) == (1, 2)
        bundle.work.finish(alice, work_id)
        assert bundle.contact_book.view(alice, "bob").waiting == 0
        (again,) = [view for view in bundle.documents.readers(alice, ending).items if view.username == "bob"]
        assert (again.since, again.expires_at) == (since, until)
        assert bundle.check.run().findings == []
    assert (vault.read("bob", plain), vault.read("bob", ending)) == (b"two", b"two")


def test_a_wrap_whose_time_is_over_is_not_done(
    vault: Vault, other_keys: PrivateKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, document = vault.alice.account, vault.upload("alice", b"one")
    with vault.services() as bundle:
        bundle.sharing.share(alice, [document], ["bob"], expires_at=clock.now() + timedelta(hours=1))
    begin_anew(vault, "bob", other_keys)
    with vault.services() as bundle:
        bundle.uploads.receive(alice, reader(b"two"), document_id=document)
        later = datetime.now(UTC) + timedelta(hours=2)
        monkeypatch.setattr(clock, "now", lambda: later)
        words = bundle.contact_book.view(alice, "bob").fingerprint_words
        bundle.work.finish(alice, bundle.contact_book.confirm(alice, "bob", words) or b"")
        assert [view.username for view in bundle.documents.readers(alice, document).items] == ["alice"]


def test_a_document_that_does_not_open_goes_on_waiting(vault: Vault, other_keys: PrivateKeys) -> None:
    alice = vault.alice.account
    documents = [vault.upload("alice", b"one", share=("bob",)) for _ in range(3)]
    begin_anew(vault, "bob", other_keys)
    attacker = Attacker(vault)
    with vault.services() as bundle:
        for document in documents:
            bundle.uploads.receive(alice, reader(b"two"), document_id=document)
        broken = attacker.row("document", id=documents[0])
        attacker.update("document", broken["id"], changed_at=0)
        words = bundle.contact_book.view(alice, "bob").fingerprint_words
        work_id = bundle.contact_book.confirm(alice, "bob", words)
        bundle.work.finish(alice, work_id or b"")
        assert bundle.work.open(alice) == []
        assert bundle.contact_book.view(alice, "bob").waiting == 1
        assert [vault.read("bob", document) for document in documents[1:]] == [b"two", b"two"]
        attacker.update("document", broken["id"], changed_at=broken["changed_at"])
        bundle.work.finish(alice, bundle.contact_book.confirm(alice, "bob", words) or b"")
    assert vault.read("bob", documents[0]) == b"two"


def wait_for_bob(vault: Vault, keys: PrivateKeys, *share: str) -> bytes:
    """A document of Alice's whose newest version waits until she has confirmed Bob's keys."""
    document = vault.upload("alice", b"one", share=("bob", *share))
    begin_anew(vault, "bob", keys)
    with vault.services() as bundle:
        bundle.uploads.receive(vault.alice.account, reader(b"two"), document_id=document)
    return document


def confirm(vault: Vault, username: str = "bob") -> None:
    alice = vault.alice.account
    with vault.services() as bundle:
        words = bundle.contact_book.view(alice, username).fingerprint_words
        work_id = bundle.contact_book.confirm(alice, username, words)
        if work_id is not None:
            bundle.work.finish(alice, work_id)


@pytest.mark.parametrize("exchanged", ["exposed", "recovery"])
def test_what_waits_follows_a_new_account_key(
    any_vault: Vault, other_keys: PrivateKeys, exchanged: str
) -> None:
    vault = any_vault
    document = wait_for_bob(vault, other_keys)
    with vault.services() as bundle:
        if exchanged == "exposed":
            passphrase = bundle.exposure.replace_all(vault.alice.account, vault.alice.passphrase)
        else:
            code = bundle.recovery.make(vault.alice.account, vault.alice.passphrase)
            passphrase = bundle.recovery.use("alice", code, address="192.0.2.7").passphrase
    enter(vault, passphrase)
    confirm(vault)
    assert vault.read("bob", document) == b"two"
    with vault.services() as bundle:
        assert bundle.check.run().findings == []


def test_what_the_owner_did_not_let_wait_keeps_no_account_key_from_being_exchanged(
    vault: Vault, other_keys: PrivateKeys
) -> None:
    """Neither what does not bear its seal, nor what does not open, nor what names no document."""
    wait_for_bob(vault, other_keys)
    attacker = Attacker(vault)
    waits = attacker.row("work", kind="wrap")
    attacker.put("work", waits | {"id": b"a" * 16, "total": 7})
    for number, columns in enumerate(({"cursor": b"x"}, {"cursor": None}, {"document_id": None})):
        attacker.forge("work", waits | {"id": bytes([number]) * 16} | columns)
    with vault.services() as bundle:
        enter(vault, bundle.exposure.replace_all(vault.alice.account, vault.alice.passphrase))
    assert len(attacker.rows("work", kind="wrap")) == 5


def test_who_waits_is_listed_and_revoked(vault: Vault, other_keys: PrivateKeys) -> None:
    """A right that waits for a person's word is one: it is shown, and it can be taken away for good."""
    document, alice = wait_for_bob(vault, other_keys, "charlie"), vault.alice.account
    with vault.services() as bundle:
        shown = bundle.documents.readers(alice, document).items
        assert [(each.username, each.waits) for each in shown] == [
            ("alice", False), ("bob", True), ("charlie", False),
        ]  # fmt: skip
        assert len(bundle.documents.readers(alice, document, after="alice", limit=1).items) == 1
        own = bundle.documents.view(vault.charlie.account, document).readers_list
        assert [each.username for each in own] == ["alice", "charlie"], "a reader is not told"
        bundle.sharing.revoke(alice, [document], ["bob"])
        assert [each.username for each in bundle.documents.readers(alice, document).items] == [
            "alice", "charlie",
        ]  # fmt: skip
        assert bundle.contact_book.view(alice, "bob").waiting == 0
        with pytest.raises(BadInput, match="Nobody of these"):
            bundle.sharing.revoke(alice, [document], ["bob"])
    assert vault.audit()[-1][:2] == ("revoke", document.hex())
    assert Attacker(vault).row("document", id=document)["readers"] == 1
    remembered = Attacker(vault).rows("document_index", reader_id=vault.bob.account.user_id)
    assert remembered == [], "what he remembers goes as well"
    confirm(vault)
    with pytest.raises(NotFound):
        vault.read("bob", document)
    assert vault.read("charlie", document) == b"two"
    with vault.services() as bundle:
        assert bundle.check.run().findings == []


@pytest.mark.parametrize("ended", ["confirmed", "revoked"])
def test_the_timeline_tells_who_waits_and_until_when_he_could_read(
    vault: Vault, other_keys: PrivateKeys, ended: str
) -> None:
    document, alice = wait_for_bob(vault, other_keys), vault.alice.account
    with vault.services() as bundle:
        told = [(each.action, each.subject) for each in bundle.history.timeline(alice, document).items]
        assert told[:2] == [("replace", None), ("share_waits", "bob")]
        assert bundle.history.log(vault.bob.account).items[0].action == "share_waits"
        if ended == "revoked":
            bundle.sharing.revoke(alice, [document], ["bob"])
    confirm(vault)
    with vault.services() as bundle:
        bobs = [each for each in bundle.history.readings(alice, document) if each.username == "bob"]
    assert (bobs[0].ended_by, bobs[0].until is not None) == ("share_waits", True)
    assert [each.until for each in bobs[1:]] == ([None] if ended == "confirmed" else [])
    page = words(vault.browser("alice").get(f"/documents/{document.hex()}/timeline").text)
    assert "waits until new key words are confirmed" in page and "the key changed" in page


def test_who_is_shared_with_anew_waits_no_more(vault: Vault, other_keys: PrivateKeys) -> None:
    """The terms of then must not come back after those of now."""
    document, alice = wait_for_bob(vault, other_keys), vault.alice.account
    with vault.services() as bundle:
        words = bundle.contact_book.view(alice, "bob").fingerprint_words
        work_id = bundle.contact_book.confirm(alice, "bob", words)
        bundle.sharing.share(alice, [document], ["bob"])
        bundle.sharing.leave(vault.bob.account, [document])
        bundle.work.finish(alice, work_id or b"")
    with pytest.raises(NotFound):
        vault.read("bob", document)


def test_what_the_owner_did_not_let_wait_is_not_shown(vault: Vault, other_keys: PrivateKeys) -> None:
    document, attacker = wait_for_bob(vault, other_keys), Attacker(vault)
    waits = attacker.row("work", kind="wrap")
    attacker.forge("work", waits | {"id": b"a" * 16, "other_id": vault.charlie.account.user_id})
    with vault.services() as bundle:
        shown = bundle.documents.readers(vault.alice.account, document).items
    assert [each.username for each in shown] == ["alice", "bob"]


def test_what_waits_survives_the_revocation_of_another(vault: Vault, other_keys: PrivateKeys) -> None:
    document = wait_for_bob(vault, other_keys, "charlie")
    with vault.services() as bundle:
        bundle.sharing.revoke(vault.alice.account, [document], ["charlie"])
    confirm(vault)
    assert vault.read("bob", document) == b"two"
    with vault.services() as bundle:
        assert bundle.check.run().findings == []


@pytest.mark.parametrize("username", ["dora", "alice", "nobody", "", "me", "<b>"])
def test_only_whom_one_knows_can_be_confirmed(house: Vault, username: str) -> None:
    with house.services() as bundle:
        for act in (
            lambda: bundle.contact_book.view(house.alice.account, username),
            lambda: bundle.contact_book.confirm(house.alice.account, username, "six words"),
        ):
            with pytest.raises(NotFound):
                act()


def test_one_whose_key_nobody_vouches_for_hides_nobody_else(vault: Vault) -> None:
    vault.upload("alice", b"one", share=("bob", "charlie"))
    attacker = Attacker(vault)
    row = attacker.row("user_key", user_id=vault.bob.account.user_id)
    attacker.update("user_key", row["id"], directory_mac=bytes(32))
    attacker.reseal("user_key", row["id"])
    assert states(vault, "alice") == {"charlie": "known"}
    with vault.services() as bundle, pytest.raises(Unreadable):
        bundle.contact_book.view(vault.alice.account, "bob")


def test_the_kinds_of_work_are_those_that_are_wired(house: Vault) -> None:
    with house.services() as bundle:
        assert confirming.KIND in bundle.workers and "keypairs" in bundle.workers
