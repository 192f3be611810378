"""The pages ``/check``, for administrators, and ``/account/check``, for everybody."""

from __future__ import annotations

import re

from tests.attacks.attacker import Attacker
from tests.cast import Vault
from tests.house import standing, vault
from tests.web.forms import words

__all__ = ["standing", "vault"]


def keep(vault: Vault) -> None:
    with vault.services() as bundle:
        bundle.check_results.keep(bundle.check.run(deep=True))


def test_without_a_result_the_pages_say_how_there_will_be_one(vault: Vault) -> None:
    assert "docvault check --deep" in words(vault.browser("dora").get("/check").text)
    assert "There is no result to show" in words(vault.browser("alice").get("/account/check").text)


def test_an_administrator_sees_ids_and_counts_and_no_name(vault: Vault) -> None:
    document = vault.upload("alice", b"x", name="canary.pdf", share=("bob",))
    blob = Attacker(vault).blob(document)
    blob.unlink()
    vault.upload("bob", b"whole", name="canary-2.pdf")
    keep(vault)
    answer = vault.browser("dora").get("/check")
    text = words(answer.text)
    assert "1 finding" in text and f"blob {blob.parent.name}/{blob.name}: is lost" in text
    assert f"document {document.hex()}" in text and "I1, 1 time" in text
    assert "1 document can be read by one active account alone" in text
    assert "4 accounts can be opened by the passphrase alone" in text
    for name in ("canary", "alice", "bob"):
        assert name not in answer.text
    assert 'href="/check"' in vault.browser("dora").get("/people").text


def test_everybody_sees_his_own_documents_by_name(vault: Vault) -> None:
    document = vault.upload("alice", b"x", name="Ärger <b>.pdf", share=("bob",))
    Attacker(vault).blob(document).unlink()
    keep(vault)
    own = vault.browser("alice").get("/account/check")
    assert "1 document is damaged" in words(own.text) and "A part of a document is missing" in words(own.text)
    assert re.search(rf'href="/documents/{document.hex()}"', own.text) and "Ärger &lt;b&gt;.pdf" in own.text
    for other in ("bob", "charlie", "dora"):
        answer = vault.browser(other).get("/account/check")
        assert "nothing found" in words(answer.text) and document.hex() not in answer.text
    assert 'href="/account/check"' in vault.browser("alice").get("/account").text


def test_the_api_tells_the_same(vault: Vault) -> None:
    assert vault.api("dora").get("/check").json == {"ended_at": None}
    document = vault.upload("alice", b"x", name="lost.pdf")
    Attacker(vault).blob(document).unlink()
    keep(vault)
    told = vault.api("dora").get("/check").json
    assert (told["found"], told["by_invariant"], told["one_reader"]) == (1, {"I1": 1}, 1)
    assert told["findings"][0]["document"] == document.hex() and told["ended_at"].endswith("Z")
    own = vault.api("alice").get("/me/check").json
    assert own["documents"][0]["name"] == "lost.pdf" and own["has_recovery"] is False
    assert vault.api("bob").get("/me/check").json["documents"] == []
    assert vault.api("bob").get("/check").status_code == 403


def test_an_account_whose_row_is_damaged_does_not_hide_the_others(vault: Vault) -> None:
    """F33 on the page People."""
    row = Attacker(vault).row("user", username="bob")
    Attacker(vault).update("user", row["id"], role="admin")
    text = words(vault.browser("dora").get("/people").text)
    assert f"Unreadable account {row['id'].hex()}" in text
    assert "alice" in text and "charlie" in text and "Disable bob" not in text
