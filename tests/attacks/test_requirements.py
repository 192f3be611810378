"""Requirements of the catalogue that no attack row covers: sizes of messages, audit events and their transaction."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.attacks.attacker import CANARY, Attacker, failures, flip
from tests.cast import Vault
from tests.crypto.recorder import recording
from vault.config import Settings
from vault.crypto.masterkey import MasterKeys
from vault.crypto.parts import PART_SIZE
from vault.crypto.purposes import MASTER_TOKENS
from vault.crypto.sealing import CHUNK, TAG, seal
from vault.crypto.tokens import read_token
from vault.models import Document
from vault.services import clock
from vault.services.audit import Event


@pytest.mark.requirement(10, 11)
def test_no_gcm_message_is_long_and_no_key_has_many() -> None:
    """Each chunk is one GCM call, each message has a key of its own: neither bound is ever near."""
    assert CHUNK + TAG < 2**36 - 32
    assert PART_SIZE // CHUNK + 1 < 2**32, "calls under the key of one message, whose nonces count up"
    assert TAG == 16
    key = bytes(range(32))
    with recording() as recorder:
        for _ in range(500):
            seal(key, b"x", b"docvault/v1/context")
    assert recorder.count == 500 and not recorder.repeated, "500 seals under one key are 500 AES keys"


@pytest.mark.requirement(1)
def test_keys_are_rsa_2048_unless_a_setting_says_more(vault: Vault) -> None:
    assert Settings.model_fields["rsa_bits"].default == 2048
    larger = vault.reopened(rsa_bits=3072)
    with larger.services() as bundle:
        bundle.accounts.register("zoe")
    lengths = {}
    for name in ("alice", "zoe"):
        user = Attacker(vault).row("user", username=name)["id"]
        lengths[name] = len(Attacker(vault).row("user_key", user_id=user)["wrap_public"])
    larger.close()
    assert lengths == {"alice": 294, "zoe": 422}, "the sizes of these public keys"


@pytest.mark.requirement(27)
def test_a_token_names_nobody(vault: Vault) -> None:
    master: MasterKeys = Attacker(vault).master
    claims = read_token(master, vault.alice.token, clock.now())
    assert set(claims._fields if hasattr(claims, "_fields") else vars(claims)) == {
        "user", "session", "secret", "upload_keys", "issued_at", "expires_at", "key_id",
    }  # fmt: skip
    assert claims.user == vault.alice.account.user_id and master.derive(MASTER_TOKENS)
    body = vault.alice.token.split(".")[1]
    assert b"alice" not in base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))


# 56, 57


def events_of(vault: Vault, act: Any) -> list[dict[str, Any]]:
    before = len(vault.audit())
    act()
    with vault.database() as database:
        rows = database.execute("SELECT * FROM audit_entry ORDER BY sequence").fetchall()
    return [dict(row) for row in rows[before:]]


@pytest.mark.requirement(56)
def test_each_act_that_counts_is_one_event_with_actor_object_and_outcome(vault: Vault) -> None:
    alice, bob, dora = (vault.api(name) for name in ("alice", "bob", "dora"))
    ids = {name: member.account.user_id for name, member in vault.members.items()}
    document = vault.upload("alice", CANARY, share=("charlie",))
    path, hexed = f"/documents/{document.hex()}", document.hex()
    met = vault.upload("alice", b"they meet", share=("bob",))
    assert vault.read("bob", met) == b"they meet"
    acts: list[tuple[str, Any, str, str | None, bytes | None, bool]] = [
        ("share", lambda: alice.post(f"{path}/shares", json={"usernames": ["bob"]}), "share", hexed, ids["alice"],
         True),
        ("read", lambda: bob.get(f"{path}/content").data, "download", hexed, ids["bob"], True),
        ("rename", lambda: alice.patch(path, json={"name": "new"}), "rename", hexed, ids["alice"], True),
        ("replace", lambda: alice.put(f"{path}/content", data=b"new"), "replace", hexed, ids["alice"], True),
        ("forbidden", lambda: bob.delete(path), "denied", hexed, ids["bob"], False),
        ("revoke", lambda: alice.delete(f"{path}/shares/bob"), "revoke", hexed, ids["alice"], True),
        ("foreign", lambda: bob.get(f"{path}/content"), "denied", hexed, ids["bob"], False),
        ("login", lambda: vault.api().post("/token", json={"username": "bob", "passphrase": "no"}), "login",
         ids["bob"].hex(), None, False),
        ("disable", lambda: dora.patch("/accounts/charlie", json={"state": "disabled"}), "account",
         ids["charlie"].hex(), ids["dora"], True),
        ("invite", lambda: dora.post("/invitations", json={"username": "zoe"}), "invite", None, ids["dora"], True),
        ("passphrase", lambda: alice.put("/me/passphrase", json={"current": vault.alice.passphrase}),
         "passphrase", ids["alice"].hex(), ids["alice"], True),
        ("delete", lambda: alice.delete(path), "delete", hexed, ids["alice"], True),
    ]  # fmt: skip
    for name, act, action, object_id, actor, succeeded in acts:
        began = clock.now()
        made = events_of(vault, act)
        assert len(made) == 1, (name, [event["action"] for event in made])
        (event,) = made
        assert event["action"].startswith(action), (name, event["action"])
        assert object_id is None or event["object_id"].hex() == object_id, name
        assert event["actor_id"] == actor and bool(event["succeeded"]) == succeeded, name
        assert event["request_id"] is not None
        assert began.timestamp() <= event["at"] / 10**6 <= clock.now().timestamp(), "in UTC"


@pytest.mark.requirement(57)
def test_an_event_commits_with_its_effect_and_a_failure_survives_its_rollback(vault: Vault) -> None:
    document = vault.upload("alice", CANARY, share=("bob",))
    before, chain = Attacker(vault).rows("document"), len(vault.audit())
    with vault.services() as bundle:

        def work(session: Any) -> None:
            session.get(Document, document).readers += 5
            bundle.transactions.record(Event("share", vault.alice.account.user_id, "document", document))
            session.flush()
            raise RuntimeError("the work fails after its event was recorded")

        with pytest.raises(RuntimeError, match="fails after"):
            bundle.transactions.writing(work)
    assert Attacker(vault).rows("document") == before and len(vault.audit()) == chain, "neither is there"
    path = Attacker(vault).blob(document)
    flip(path, 0)
    assert vault.api("bob").get(f"/documents/{document.hex()}/content").status_code == 500
    assert [event[0] for event in failures(vault)] == [document.hex()], "the failure is, without an effect"
