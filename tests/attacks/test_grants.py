"""W4, W5, W8: two contents for two readers, rights that were raised, readers whom nobody let in."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from tests.attacks.attacker import CANARY, Attacker, Row, answer, assert_refused, failures
from tests.cast import Vault
from tests.services.test_confirming import begin_anew
from vault.crypto.grants import sign_grant, unwrap_dek, wrap_dek
from vault.crypto.keypairs import PrivateKeys
from vault.crypto.manifests import open_manifest, seal_manifest
from vault.crypto.randomness import new_id, new_secret
from vault.errors import Unreadable
from vault.services.contacts import Person

MASTER = pytest.mark.parametrize("master_key", [False, True], ids=["without", "with-master-key"])


def content(vault: Vault, who: str, document: bytes) -> Any:
    return vault.api(who).get(f"/documents/{document.hex()}/content")


def grant_of(attacker: Attacker, document: bytes, who: str) -> Row:
    return attacker.row(
        "shared_key_registry", document_id=document, reader_id=attacker.vault.members[who].account.user_id
    )


def public_of(vault: Vault, who: str) -> Person:
    with vault.services() as bundle, bundle.transactions.reading() as session:
        return bundle.contacts.person(session, vault.members[who].account.user_id)


# W4


@pytest.mark.parametrize("mixed", ["the manifest of his own key", "the other's salt before it"])
def test_w4_one_version_never_opens_under_two_keys(vault: Vault, mixed: str) -> None:
    """The owner herself conspires with who holds the database: Bob is to read another contract than Charlie.

    The manifest's seal commits to its key: a second key, however well wrapped and signed, opens nothing.
    """
    document = vault.upload("alice", CANARY, share=("bob", "charlie"))
    other = vault.upload("alice", b"safe", share=("bob",))
    attacker, alice = Attacker(vault), vault.alice.account
    row = attacker.row("document_version", document_id=document)
    own = grant_of(attacker, document, "alice")
    dek = unwrap_dek(
        alice.private, own["wrapped_dek"],
        document=document, version=row["id"], reader=alice.user_id, key_version=1,
    )  # fmt: skip
    manifest = open_manifest(dek, row["sealed_manifest"], document=document, version=row["id"], revision=0)
    second = new_secret()
    theirs, bob = grant_of(attacker, document, "bob"), public_of(vault, "bob")
    wrapped = wrap_dek(
        bob.public, second, document=document, version=row["id"], reader=bob.id, key_version=bob.key_version
    )
    attacker.update("shared_key_registry", theirs["id"], wrapped_dek=wrapped)
    attacker.reseal("shared_key_registry", theirs["id"])
    if mixed.startswith("the manifest"):
        sealed = seal_manifest(second, manifest)
    else:
        sealed = seal_manifest(second, manifest)[:24] + row["sealed_manifest"][24:]
    assert_refused(vault, partial(content, vault, "bob", document), document)
    assert vault.read("charlie", document) == CANARY
    attacker.update("document_version", row["id"], sealed_manifest=sealed)
    attacker.reseal("document_version", row["id"])
    refused = [who for who in ("bob", "charlie") if answer(content(vault, who, document)).status >= 400]
    assert refused == ["bob", "charlie"], "the signature is over the other bytes"
    assert vault.read("bob", other) == b"safe"


# W5


@MASTER
@pytest.mark.parametrize("column", ["permission", "expires_at"])
def test_w5_a_raised_right_is_refused_to_read_and_to_share_on(
    vault: Vault, column: str, master_key: bool
) -> None:
    document = vault.upload("alice", CANARY, share=("bob",))
    attacker = Attacker(vault)
    row = grant_of(attacker, document, "bob")
    attacker.update(
        "shared_key_registry", row["id"], **{column: "owner" if column == "permission" else 4 * 10**15}
    )
    if master_key:
        attacker.reseal("shared_key_registry", row["id"])
    assert_refused(vault, partial(content, vault, "bob", document), document)
    grants = attacker.rows("shared_key_registry")
    path, bob = f"/documents/{document.hex()}", vault.api("bob")
    for act in (
        partial(bob.post, f"{path}/shares", json={"usernames": ["charlie"]}),
        partial(bob.delete, f"{path}/shares/alice"),
        partial(bob.put, f"{path}/content", data=b"mine"),
        partial(bob.delete, path),
    ):
        assert answer(act()).status in {403, 500}
    assert attacker.rows("shared_key_registry") == grants
    assert vault.read("alice", document) == CANARY


@pytest.mark.requirement(37)
def test_w5_nobody_gives_more_than_he_holds(vault: Vault) -> None:
    """A reader gives nothing on, whatever he sends along; and there is no right but reading to be given."""
    document = vault.upload("alice", CANARY, share=("bob",))
    path = f"/documents/{document.hex()}/shares"
    for body in (
        {"usernames": ["charlie"]},
        {"usernames": ["charlie"], "permission": "owner"},
        {"usernames": ["bob"], "expires_at": "2999-01-01T00:00:00Z"},
    ):
        assert vault.api("bob").post(path, json=body).status_code in {400, 403}
    for permission in ("owner", "write", "admin", ""):
        sent = {"usernames": ["charlie"], "permission": permission}
        assert vault.api("alice").post(path, json=sent).status_code == 400
    assert vault.api("alice").post(path, json={"usernames": ["charlie"]}).status_code in {200, 201, 204}
    rows = Attacker(vault).rows("shared_key_registry", document_id=document)
    assert sorted(row["permission"] for row in rows) == ["owner", "read", "read"]
    assert content(vault, "charlie", document).status_code == 200


# W8


def inserted(attacker: Attacker, document: bytes, dek: bytes, signer: Any) -> Row:
    """A row that lets Charlie read, made as the vault would make it, and signed by somebody."""
    vault, charlie = attacker.vault, public_of(attacker.vault, "charlie")
    version = attacker.row("document", id=document)["version_id"]
    alice = vault.alice.account.user_id
    like = grant_of(attacker, document, "alice")
    wrapped = wrap_dek(
        charlie.public,
        dek,
        document=document,
        version=version,
        reader=charlie.id,
        key_version=charlie.key_version,
    )
    signature = sign_grant(
        signer, document=document, version=version, epoch=like["epoch"], granter=alice, granter_key_version=1,
        reader=charlie.id, permission="read", expires_at=None,
    )  # fmt: skip
    return like | {
        "id": new_id(), "reader_id": charlie.id, "permission": "read", "wrapped_dek": wrapped, "signature": signature,
        "row_version": 1,
    }  # fmt: skip


@MASTER
@pytest.mark.parametrize("signer", ["bob", "charlie"])
def test_w8_a_reader_who_was_let_in_by_no_act_of_the_owner_reads_nothing(
    vault: Vault, signer: str, master_key: bool
) -> None:
    """A reader hands the key on, and whoever writes the database puts the row in: it lacks the owner's signature."""
    document = vault.upload("alice", CANARY, share=("bob",))
    attacker, bob = Attacker(vault), vault.bob.account
    version = attacker.row("document", id=document)["version_id"]
    dek = unwrap_dek(
        bob.private, grant_of(attacker, document, "bob")["wrapped_dek"],
        document=document, version=version, reader=bob.user_id, key_version=1,
    )  # fmt: skip
    row = inserted(attacker, document, dek, vault.members[signer].account.private)
    attacker.put("shared_key_registry", row)
    if master_key:
        attacker.reseal("shared_key_registry", row["id"])
    assert_refused(vault, partial(content, vault, "charlie", document), document)
    listed = {item["id"]: item["readable"] for item in vault.api("charlie").get("/documents").json["items"]}
    assert not listed.get(document.hex(), False)
    with vault.services() as bundle:
        told = [finding.text for finding in bundle.check.run().findings]
    assert any(row["id"].hex() in text for text in told), told
    assert vault.read("alice", document) == CANARY


def test_w8_even_a_perfect_row_is_told_by_check_when_no_audit_entry_knows_it(vault: Vault) -> None:
    """Master key, Alice's signing key and all: the act itself is missing from the chain."""
    document = vault.upload("alice", CANARY)
    attacker, alice = Attacker(vault), vault.alice.account
    version = attacker.row("document", id=document)["version_id"]
    dek = unwrap_dek(
        alice.private, grant_of(attacker, document, "alice")["wrapped_dek"],
        document=document, version=version, reader=alice.user_id, key_version=1,
    )  # fmt: skip
    row = inserted(attacker, document, dek, alice.private)
    attacker.forge("shared_key_registry", row)
    with vault.services() as bundle:
        told = [finding.text for finding in bundle.check.run().findings]
    assert f"shared_key_registry {row['id'].hex()}: no audit entry knows this row" in told
    assert f"document {document.hex()}: counts 0 readers" in told


def planted(attacker: Attacker, document: bytes) -> Row:
    """With the master key: a grant for Charlie whose row's seal fits, and which nobody signed."""
    like, charlie = grant_of(attacker, document, "alice"), attacker.vault.charlie.account.user_id
    row = like | {
        "id": new_id(), "reader_id": charlie, "permission": "read", "wrapped_dek": bytes(256), "signature": bytes(256),
        "row_version": 1,
    }  # fmt: skip
    attacker.forge("shared_key_registry", row)
    return row


@pytest.mark.parametrize("act", ["a new version", "new keys"])
def test_w8_a_planted_grant_becomes_no_reader_of_what_follows(vault: Vault, act: str) -> None:
    """The owner's next version is wrapped for whom she let in, not for whomever the table names."""
    document, alice = vault.upload("alice", CANARY, share=("bob",)), vault.alice.account
    attacker = Attacker(vault)
    planted(attacker, document)

    def replaced() -> Any:
        if act == "a new version":
            return vault.api("alice").put(f"/documents/{document.hex()}/content", data=CANARY * 2)
        with vault.services() as bundle:
            work_id = bundle.rekey.ask(alice, document)
        return vault.api("alice").post(f"/me/work/{work_id.hex()}")

    assert_refused(vault, replaced, document)
    assert not [
        row for row in attacker.rows("shared_key_registry", document_id=document) if _opens(vault, row)
    ]
    with vault.services() as bundle:
        bundle.sharing.revoke(alice, [document], ["charlie"])
    assert replaced().status_code in {200, 204}, "she ends what she never began, and goes on"
    assert content(vault, "charlie", document).status_code == 404
    assert content(vault, "bob", document).status_code == 200
    assert attacker.row("document", id=document)["readers"] == 1


def _opens(vault: Vault, row: Row) -> bool:
    """Whether Charlie's key opens a row of his."""
    charlie = vault.charlie.account
    if row["reader_id"] != charlie.user_id:
        return False
    place = {name: row[f"{name}_id"] for name in ("document", "version", "reader")}
    try:
        unwrap_dek(charlie.private, row["wrapped_dek"], key_version=1, **place)
    except Unreadable:
        return False
    return True


def test_w8_a_planted_grant_is_not_signed_by_a_revocation_or_a_share(vault: Vault) -> None:
    document, alice = vault.upload("alice", CANARY, share=("bob",)), vault.alice.account
    attacker = Attacker(vault)
    row = planted(attacker, document)
    with vault.services() as bundle:
        bundle.sharing.revoke(alice, [document], ["bob"])
        assert attacker.row("shared_key_registry", id=row["id"])["signature"] == row["signature"]
        told = [finding.text for finding in bundle.check.run().findings]
        assert any(row["id"].hex() in text for text in told), told
        with pytest.raises(Unreadable):
            bundle.sharing.share(alice, [document], ["charlie"])
    assert attacker.row("shared_key_registry", id=row["id"])["signature"] == row["signature"]
    assert vault.read("alice", document) == CANARY


def test_w6_a_revoked_grant_put_back_with_the_master_key_is_not_carried_on(vault: Vault) -> None:
    """It bears the owner's signature, of an epoch that is over."""
    document, alice = vault.upload("alice", CANARY, share=("bob",)), vault.alice.account
    attacker = Attacker(vault)
    before = grant_of(attacker, document, "bob")
    with vault.services() as bundle:
        bundle.sharing.revoke(alice, [document], ["bob"])
    attacker.forge("shared_key_registry", before)
    path = f"/documents/{document.hex()}/content"
    assert_refused(vault, lambda: vault.api("alice").put(path, data=CANARY * 2), document)
    assert content(vault, "bob", document).status_code >= 400


def waiting(attacker: Attacker, document: bytes, who: str, cursor: bytes | None) -> tuple[Row, Row]:
    """With the master key: a wrap of Alice's document that waits for somebody, and the work that does it."""
    like = {
        "user_id": attacker.vault.alice.account.user_id, "other_id": attacker.vault.members[who].account.user_id,
        "total": 1, "created_at": attacker.row("document", id=document)["created_at"], "row_version": 1,
        "seal": b"", "seal_key_id": attacker.master.key_id,
    }  # fmt: skip
    waits = like | {"id": new_id(), "kind": "wrap", "document_id": document, "cursor": cursor}
    work = like | {"id": new_id(), "kind": "wraps", "document_id": None, "cursor": bytes(16)}
    attacker.forge("work", waits)
    attacker.forge("work", work)
    return waits, work


@pytest.mark.parametrize(
    "cursor", [None, b"", bytes(16), bytes(100)], ids=["absent", "empty", "terms", "long"]
)
def test_w8_a_planted_wrap_that_waits_makes_nobody_a_reader(vault: Vault, cursor: bytes | None) -> None:
    """With the master key: Alice's own session is made to go on with work that she never began."""
    document = vault.upload("alice", CANARY)
    attacker = Attacker(vault)
    waits, work = waiting(attacker, document, "charlie", cursor)
    before = len(failures(vault))
    for _ in range(3):
        vault.api("alice").post(f"/me/work/{work['id'].hex()}")
    assert {event[0] for event in failures(vault)[before:]} == {document.hex()}
    assert content(vault, "charlie", document).status_code == 404
    assert [row["reader_id"] for row in attacker.rows("shared_key_registry")] == [vault.alice.account.user_id]
    assert attacker.rows("work", id=waits["id"]), "it stays, for `docvault check` to name"
    with vault.services() as bundle:
        told = [finding.text for finding in bundle.check.run(deep=True).findings]
    assert any(waits["id"].hex() in text for text in told), told


@pytest.mark.parametrize("moved", ["reader", "document", "row"])
def test_w8_terms_that_wait_are_not_moved(vault: Vault, stranger_keys: PrivateKeys, moved: str) -> None:
    """What Alice let wait for Bob waits for him and this document alone, though every row's seal fits."""
    document, other = vault.upload("alice", CANARY, share=("bob",)), vault.upload("alice", CANARY)
    attacker, alice = Attacker(vault), vault.alice.account
    begin_anew(vault, "bob", stranger_keys)
    vault.api("alice").put(f"/documents/{document.hex()}/content", data=CANARY)
    genuine = attacker.row("work", kind="wrap")
    changed = {
        "reader": {"other_id": vault.charlie.account.user_id}, "document": {"document_id": other},
        "row": {"id": new_id()},
    }[moved]  # fmt: skip
    attacker.remove("work", genuine["id"])
    attacker.forge("work", genuine | changed)
    with vault.services() as bundle:
        words = bundle.contact_book.view(alice, "bob").fingerprint_words
        bundle.contact_book.confirm(alice, "bob", words)
    _, work = waiting(attacker, document, "charlie" if moved == "reader" else "bob", None)
    vault.api("alice").post(f"/me/work/{work['id'].hex()}")
    owners = {row["reader_id"] for row in attacker.rows("shared_key_registry")}
    assert owners == {alice.user_id}


def test_w6_a_wrap_that_was_revoked_and_put_back_makes_nobody_a_reader(
    vault: Vault, stranger_keys: PrivateKeys
) -> None:
    """Its terms are Alice's own, of an epoch that is over."""
    document = vault.upload("alice", CANARY, share=("bob", "charlie"))
    attacker, alice = Attacker(vault), vault.alice.account
    begin_anew(vault, "bob", stranger_keys)
    vault.api("alice").put(f"/documents/{document.hex()}/content", data=CANARY)
    before = attacker.row("work", kind="wrap")
    with vault.services() as bundle:
        bundle.sharing.revoke(alice, [document], ["bob", "charlie"])
    attacker.forge("work", before)
    with vault.services() as bundle:
        words = bundle.contact_book.view(alice, "bob").fingerprint_words
        bundle.work.finish(alice, bundle.contact_book.confirm(alice, "bob", words) or b"")
    assert (document.hex(), "wrap:epoch") in failures(vault)
    assert content(vault, "bob", document).status_code == 404
