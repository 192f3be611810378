"""The page "Rotation": counts and ids for the administrator, and no names."""

from __future__ import annotations

import re

from tests.cast import NAMES, Vault
from tests.rotations import NEW, key_id, key_of, server
from vault.crypto.grants import Terms
from vault.services import clock
from vault.services.audit import Event
from vault.services.grants import waiting_wrap


def words(vault: Vault, name: str = "dora") -> str:
    """What the page says, without its tags and the frame that says who is logged in."""
    page = vault.browser(name).get("/rotation").text
    main = page.partition("<main")[2].partition("</main>")[0]
    return re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", main))


def test_it_tells_what_stands_under_which_key_and_names_nobody(vault: Vault) -> None:
    old = key_of(vault)
    document = vault.upload("alice", b"x", name="canary.txt", share=("bob",))
    with vault.services() as bundle:

        def add(session: object) -> None:
            terms = Terms(clock.now(), None, 0)
            bundle.transactions.session.add(
                waiting_wrap(vault.alice.account, document, vault.charlie.account.user_id, terms)
            )
            bundle.transactions.record(Event("share_waits", vault.alice.account.user_id))

        bundle.transactions.writing(add)
    fresh = words(vault)
    assert f"{key_id(old).hex()} seals and opens" in fresh
    assert "4 by Argon2id with 64 MiB, 3 iterations, 4 lanes" in fresh
    assert "4 with RSA of 2,048 bits" in fresh and "another size" not in fresh
    assert "Shares that wait for a confirmed fingerprint 1" in fresh
    with server(vault, NEW, old, rsa_bits=3072) as promoted:
        promoted.upload("alice")
        moving = words(promoted)
        assert f"{key_id(NEW).hex()} seals and opens" in moving and "older: rows still under it" in moving
        assert "Sessions 4 under an older master key" in moving
        assert "new ones have another size" in moving
        with promoted.services() as bundle:
            bundle.masterkey.rotate()
        assert "older: waits for what hangs on it" in words(promoted)
        for name in (*NAMES, "canary"):
            assert name not in moving.lower(), "no names"


def test_only_an_administrator_sees_it(vault: Vault) -> None:
    assert vault.browser("alice").get("/rotation").status_code == 403
    assert "Rotation of keys" in vault.browser("dora").get("/people").text


def test_a_retired_key_may_be_destroyed(vault: Vault) -> None:
    old = key_of(vault)
    with server(vault, NEW, old) as promoted:
        with promoted.services() as bundle:
            bundle.masterkey.rotate(end=True)
            again = bundle.sessions.log_in("dora", vault.dora.passphrase, address="192.0.2.1", client="tests")
        promoted.dora.token = again.token
        shown = words(promoted)
    assert "retired" in shown and "it may be destroyed" in shown and "Nothing is waiting." in shown
