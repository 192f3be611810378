"""A life for a vault: after it every table of the schema has a row."""

from __future__ import annotations

import contextlib

from tests.attacks.attacker import CANARY
from tests.cast import Vault, reader
from vault.crypto.grants import Terms
from vault.crypto.randomness import new_id
from vault.errors import BrokenOff, WrongLogin
from vault.models import Notice
from vault.services import clock
from vault.services.audit import Event
from vault.services.grants import waiting_wrap


def live_through(vault: Vault) -> bytes:
    """Upload, share, replace, delete, re-key, invite, break off, fail to log in; return what Bob reads of Alice's."""
    document = vault.upload("alice", CANARY, name="letter.txt", share=("bob", "charlie"))
    safe = vault.upload("charlie", b"safe", share=("bob",))
    doomed = vault.upload("alice", b"doomed")
    alice = vault.alice.account
    for who in ("alice", "bob", "charlie"):
        assert vault.read(who, document) == CANARY
    with vault.services() as bundle:
        bundle.uploads.receive(alice, reader(CANARY * 2), document_id=document)
        bundle.documents.delete(alice, [doomed])
        charlie = vault.charlie.account
        assert bundle.rekey.carry_on(charlie, [bundle.rekey.ask(charlie, safe)]) == []
        bundle.invitations.invite(vault.dora.account, "zoe")
        bundle.sweep.take_lease(new_id())
        bundle.check_results.keep(bundle.check.run(deep=True))
        with contextlib.suppress(BrokenOff):
            bundle.uploads.receive(alice, reader(b"half"), length=8)
        with contextlib.suppress(WrongLogin):
            bundle.sessions.log_in("bob", "not his passphrase", address="192.0.2.1", client="tests")

        def wait(session: object) -> None:
            bob = vault.bob.account.user_id
            session.add(waiting_wrap(alice, document, bob, Terms(clock.now(), None, 0)))  # type: ignore[attr-defined]
            told = {"id": new_id(), "user_id": alice.user_id, "created_at": clock.now()}
            session.add(Notice(kind="key_changed", other_id=bob, **told))  # type: ignore[attr-defined]
            bundle.transactions.record(
                Event("share_waits", alice.user_id, "document", document, subject_id=bob)
            )

        bundle.transactions.writing(wait)
    for who in ("alice", "bob", "charlie"):
        assert vault.read(who, document) == CANARY * 2
    return document
