"""K9: a recovery code is used once, gives no more than its account, and a row that is edited or put back is seen."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from tests.attacks.attacker import CANARY, Attacker, another, answer, assert_refused, column_type
from tests.cast import Api, Vault
from vault.crypto.accounts import seal_account_key
from vault.crypto.recovery import new_recovery_code, read_recovery_code, recovery_kek
from vault.models import UnlockMethod
from vault.services import seals


def made_code(vault: Vault, name: str = "alice") -> str:
    member = vault.members[name]
    with vault.services() as bundle:
        return bundle.recovery.make(member.account, member.passphrase)


def use(vault: Vault, code: str, name: str = "alice") -> Any:
    return vault.api().post("/recovery", json={"username": name, "code": code})


def method_of(attacker: Attacker, vault: Vault, name: str = "alice") -> dict[str, Any]:
    return attacker.row("unlock_method", user_id=vault.members[name].account.user_id, kind="recovery")


def enter(vault: Vault, used: Any) -> Api:
    sent = {"username": used.json["username"], "passphrase": used.json["passphrase"]}
    return Api(vault.app, vault.api().post("/token", json=sent).json["token"])


def test_k9_a_code_is_used_once_and_everybody_is_told(vault: Vault) -> None:
    document = vault.upload("alice", CANARY)
    code = made_code(vault)
    used = use(vault, code)
    assert used.status_code == 200
    assert use(vault, code).status_code == 401
    assert vault.api("alice").get("/me").status_code == 401, "every session has ended"
    alice = enter(vault, used)
    assert alice.get(f"/documents/{document.hex()}/content").data == CANARY
    assert [notice["kind"] for notice in alice.get("/me").json["notices"]] == ["recovery_used"]
    told = [(act, done) for act, _, done, _ in vault.audit() if act == "recovery_used"]
    assert told == [("recovery_used", True), ("recovery_used", False)]


def test_k9_it_gives_no_right_that_the_account_has_not(vault: Vault) -> None:
    document = vault.upload("alice", CANARY)
    bob = enter(vault, use(vault, made_code(vault, "bob"), "bob"))
    assert bob.get("/me").json["role"] == "user"
    assert bob.get(f"/documents/{document.hex()}").status_code == 404
    assert bob.get("/accounts").status_code == 403


def test_k9_a_code_of_one_account_opens_no_other(vault: Vault) -> None:
    made_code(vault, "bob")
    code = made_code(vault)
    assert use(vault, code, "bob").status_code == 401
    assert use(vault, code, "charlie").status_code == 401
    assert use(vault, code).status_code == 200


@pytest.mark.parametrize("column", sorted(set(seals.sealed_columns(UnlockMethod)) | {"row_version"}))
def test_k9_an_edited_row_is_refused(vault: Vault, column: str) -> None:
    attacker, code = Attacker(vault), made_code(vault)
    row = method_of(attacker, vault)
    value = (
        row[column]
        if row[column] is not None
        else another("unlock_method", column, 0 if column != "salt" else b"")
    )
    changed = another("unlock_method", column, value)
    if column == "user_id":
        changed = vault.bob.account.user_id
    assert column_type("unlock_method", column) is not None
    attacker.update("unlock_method", row["id"], **{column: changed})
    name = "bob" if column == "user_id" else "alice"
    if column == "kind":  # it is no code any more; the row is refused where it now stands
        assert use(vault, code).status_code == 401
    else:
        assert_refused(vault, partial(use, vault, code, name), row["id"])
    assert vault.api("alice").get("/me").status_code in {200, 500}
    with vault.services() as bundle:
        assert not bundle.check.run().whole


def test_k9_a_used_row_that_is_put_back_opens_nothing_and_is_seen(vault: Vault) -> None:
    """It holds the old account key, which opens nothing any more: the private keys do not open, and nothing changes."""
    document = vault.upload("alice", CANARY)
    attacker, code = Attacker(vault), made_code(vault)
    row = method_of(attacker, vault)
    alice = enter(vault, use(vault, code))
    attacker.put("unlock_method", row)
    before = {table: attacker.rows(table) for table in ("unlock_method", "user_key", "login_session", "user")}
    got = answer(use(vault, code))
    assert (got.status, got.problem) == (500, "urn:docvault:Unreadable")
    assert {table: attacker.rows(table) for table in before} == before, (
        "it is neither used nor a way to end sessions"
    )
    assert alice.get(f"/documents/{document.hex()}/content").data == CANARY
    with vault.services() as bundle:
        report = bundle.check.run()
        assert any(row["id"].hex() in finding.text for finding in report.findings)


def test_k9_with_the_master_key_a_row_of_the_attackers_own_recovers_nothing(vault: Vault) -> None:
    """He knows no account key: the one that he seals opens no private key, and the transaction changes nothing."""
    vault.upload("alice", CANARY)
    attacker, user, code = Attacker(vault), vault.alice.account.user_id, new_recovery_code()
    made_code(vault)
    row = method_of(attacker, vault)
    kek = recovery_kek(read_recovery_code(code), user=user, method=row["id"])
    forged = seal_account_key(
        attacker.master, kek, bytes(range(32)), user=user, method=row["id"], kind="recovery", parameters=None
    )
    attacker.update("unlock_method", row["id"], sealed_account_key=forged)
    attacker.reseal("unlock_method", row["id"])
    got = answer(use(vault, code))
    assert (got.status, got.problem) == (500, "urn:docvault:Unreadable")
    assert vault.api("alice").get("/me").status_code == 200
    with vault.services() as bundle:
        assert not bundle.check.run().whole, "the chain knows another seal for this row"


def test_k9_a_recovery_row_is_no_passphrase_and_a_passphrase_row_no_code(vault: Vault) -> None:
    attacker, code = Attacker(vault), made_code(vault)
    recovery = method_of(attacker, vault)
    own = attacker.row("unlock_method", user_id=vault.alice.account.user_id, kind="passphrase")
    attacker.update("unlock_method", own["id"], kind="recovery")
    attacker.update("unlock_method", recovery["id"], kind="passphrase")
    for row in (own, recovery):
        attacker.reseal(
            "unlock_method", row["id"]
        )  # with the master key: kind and parameters are in the seals
    sent = {"username": "alice", "passphrase": code}
    assert vault.api().post("/token", json=sent).status_code in {401, 500}
    sent["passphrase"] = vault.alice.passphrase
    assert vault.api().post("/token", json=sent).status_code in {401, 500}
    assert use(vault, code).status_code == 401
