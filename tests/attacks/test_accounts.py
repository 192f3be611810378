"""K7, K8: accounts that are gone inherit nothing, and accounts that are not (yet, or any more) real may nothing."""

from __future__ import annotations

import re
from functools import partial

import pytest

from tests.access_table import TABLE, TO_LOGIN
from tests.attacks.attacker import CANARY, Attacker
from tests.cast import Api, Browser, Vault
from vault.crypto.randomness import new_id
from vault.errors import NameTaken, NotFound, Unreadable

GUARDED = [key for key, line in TABLE.items() if line.expected.disabled in {401, TO_LOGIN}]


# K7


def test_k7_a_name_that_was_deleted_is_never_had_again(vault: Vault) -> None:
    vault.upload("alice", CANARY, share=("bob",))
    with vault.services() as bundle:
        bundle.deletion.delete(None, "alice", "alice")
        for name in ("alice", "Alice", " ALICE "):
            with pytest.raises(NameTaken):
                bundle.accounts.register(name.strip())
            with pytest.raises(NameTaken):
                bundle.invitations.invite(None, name.strip())


def test_k7_who_gets_the_name_by_force_inherits_nothing(vault: Vault) -> None:
    """The attacker with the master key renames the dead account; somebody new takes its name."""
    document = vault.upload("alice", CANARY, "canary-name.txt", ("bob",))
    shared = vault.upload("bob", CANARY, share=("alice",))
    attacker, old = Attacker(vault), vault.alice.account
    kept = {
        table: attacker.rows(table)
        for table in ("unlock_method", "document", "shared_key_registry", "contact")
    }
    with vault.services() as bundle:
        bundle.deletion.delete(None, "alice", "alice")
        attacker.update("user", old.user_id, username="gone")
        attacker.reseal("user", old.user_id)
        new = bundle.accounts.register("alice")
        assert new.user_id != old.user_id, "ids are never used again"
        entered = bundle.sessions.log_in("alice", new.passphrase, address="192.0.2.1", client="tests")
        assert bundle.lists.page(entered.account).items == []
        for found in (document, shared):
            with pytest.raises(NotFound):
                bundle.downloads.open(entered.account, found)
    for table, rows in kept.items():  # and the old rows, put back, are nobody's
        attacker.put(table, *rows)
    with vault.services() as bundle:
        assert bundle.lists.page(entered.account).items == []
        for found in (document, shared):
            with pytest.raises((NotFound, Unreadable)):
                bundle.downloads.open(entered.account, found)
        assert not bundle.check.run().whole, "what was put back is seen"


def test_k7_an_unlock_method_put_back_opens_no_deleted_account(vault: Vault) -> None:
    attacker, passphrase = Attacker(vault), vault.alice.passphrase
    method = attacker.row("unlock_method", user_id=vault.alice.account.user_id)
    user = attacker.row("user", id=vault.alice.account.user_id)
    with vault.services() as bundle:
        bundle.deletion.delete(None, "alice", "alice")
    attacker.put("unlock_method", method)
    sent = {"username": "alice", "passphrase": passphrase}
    assert vault.api().post("/token", json=sent).status_code == 403, "the account is not active"
    attacker.put("user", user)
    entered = vault.api().post("/token", json=sent)
    assert (
        entered.status_code != 201
        or Api(vault.app, entered.json["token"]).get("/documents").json["items"] == []
    )
    with vault.services() as bundle:
        assert not bundle.check.run().whole


# K8


def token_of(vault: Vault, state: str) -> str:
    """What somebody in this state has in his hands that was, or looks like, a way in."""
    with vault.services() as bundle:
        if state == "invited":
            return bundle.invitations.invite(None, "zoe").code
        if state == "reset":
            return bundle.resets.begin(None, "erin").code
        new = bundle.accounts.register(state)
        entered = bundle.sessions.log_in(state, new.passphrase, address="192.0.2.1", client="tests")
        act = {
            "disabled": partial(bundle.accounts.set_state, None, state, "disabled"),
            "locked": partial(bundle.sessions.log_out, entered.account),
            "deleted": partial(bundle.deletion.delete_own, entered.account, new.passphrase),
        }[state]
        act()
        return entered.token


@pytest.fixture(scope="module")
def peopled(house: Vault) -> Vault:
    with house.services() as bundle:
        bundle.accounts.register("erin")
    return house


@pytest.mark.parametrize("state", ["invited", "reset", "disabled", "locked", "deleted"])
def test_k8_no_route_is_for_who_is_not_in(peopled: Vault, state: str) -> None:
    """Every route, with the token that he has or had: 401, or the login page, before anything else is looked at."""
    token = token_of(peopled, state)
    api, browser = Api(peopled.app, token), Browser(peopled.app, token)
    with peopled.database() as connection:
        before = connection.execute("SELECT count(*), max(sequence) FROM audit_entry").fetchone()[:]
    csrf = browser.csrf()
    for key in GUARDED:
        method, path = key.split(" ", 1)
        path = re.sub("<id:[a-z_]+>", new_id().hex(), path).replace("<username>", "alice")
        if path.startswith("/api/v1"):
            sent = {"json": TABLE[key].json} if TABLE[key].json is not None else {"data": TABLE[key].body}
            answer = api.open(method, path.removeprefix("/api/v1"), headers=TABLE[key].headers, **sent)
        else:
            form = None if method == "GET" else {"csrf_token": csrf} | {"confirm": "1"}
            answer = browser.client.open(path, method=method, data=form)
        assert answer.status_code == TABLE[key].expected.disabled, (key, answer.text[:300])
        answer.close()
    with peopled.database() as connection:
        after = connection.execute("SELECT count(*), max(sequence) FROM audit_entry").fetchone()[:]
    assert tuple(after) == tuple(before), "nothing of it was an act"
