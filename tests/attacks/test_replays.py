"""M9, P6: older rows of the tables that the audit chain does not repeat (``UNTRACKED``), put back with good seals."""

from __future__ import annotations

from tests.attacks.attacker import CANARY, Attacker
from tests.cast import Vault
from tests.tus import Tus, metadata


def test_m9_a_lower_memory_that_is_put_back_is_renewed_and_never_believed(vault: Vault) -> None:
    document = vault.upload("alice", b"first", name="first.txt", share=("bob",))
    assert vault.read("bob", document) == b"first"
    attacker, bob = Attacker(vault), vault.bob.account.user_id
    old = attacker.row("document_index", document_id=document, reader_id=bob)
    sent = vault.api("alice").put(f"/documents/{document.hex()}/content?name=second.txt", data=CANARY)
    assert sent.status_code == 200
    assert vault.read("bob", document) == CANARY
    newer = attacker.row("document_index", document_id=document, reader_id=bob)
    attacker.put("document_index", old)
    (shown,) = vault.api("bob").get("/documents").json["items"]
    assert (shown["name"], shown["readable"]) == ("second.txt", True)
    assert vault.read("bob", document) == CANARY
    renewed = attacker.row("document_index", document_id=document, reader_id=bob)
    assert renewed["row_version"] == newer["row_version"] and renewed["sealed_entry"] != old["sealed_entry"]
    with vault.services() as bundle:
        assert bundle.check.run().findings == []


def test_m9_an_upload_that_is_put_back_leads_to_nothing_but_its_owners_own_commit(vault: Vault) -> None:
    """Her own client, sending its last piece again, makes her own document again; nobody else can, or sees it."""
    tus, attacker = Tus(vault), Attacker(vault)
    place = tus.begin(2 * len(CANARY), Upload_Metadata=metadata(filename="letter.txt"))
    assert tus.patch(place, 0, CANARY).status_code == 204
    (old,) = attacker.rows("upload")
    first = tus.patch(place, len(CANARY), CANARY).headers["X-Vault-Document"]
    attacker.put("upload", old)
    for name in ("bob", "charlie", "dora"):
        assert Tus(vault, name).patch(place, len(CANARY), CANARY).status_code == 404
    again = tus.patch(place, len(CANARY), CANARY).headers["X-Vault-Document"]
    for document in {first, again}:
        assert vault.read("alice", bytes.fromhex(document)) == CANARY * 2
        assert vault.api("bob").get(f"/documents/{document}").status_code == 404
    assert {row["owner_id"] for row in attacker.rows("document")} == {vault.alice.account.user_id}


def test_p6_a_session_that_is_put_back_is_dead_once_the_generation_has_moved(vault: Vault) -> None:
    """What SECURITY.md says: after a plain logout it lives for whoever has its token; after the others it does not."""
    attacker, alice = Attacker(vault), vault.alice.account
    row = attacker.row("login_session", id=alice.session_id)
    assert vault.api("alice").delete("/token").status_code == 204
    assert vault.api("alice").get("/me").status_code == 401
    attacker.put("login_session", row)
    assert vault.api("alice").get("/me").status_code == 200, "as the page of limits admits"
    assert vault.api("bob").get("/me").status_code == 200
    assert vault.api("alice").delete("/me/sessions").status_code == 204
    attacker.put("login_session", row)
    assert vault.api("alice").get("/me").status_code == 401
    assert vault.api("bob").get("/me").status_code == 200
