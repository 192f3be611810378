"""W1, W2, W3, W6, W9: wrapped keys and the rows of SharedKeyRegistry are exchanged, moved, made up or put back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.attacks.attacker import CANARY, Attacker, Row, answer, assert_refused
from tests.cast import Vault, reader
from vault.crypto.encoding import enc, item
from vault.crypto.grants import sign_grant, unwrap_dek, wrap_dek
from vault.crypto.keypairs import PrivateKeys
from vault.crypto.manifests import (
    IndexEntry,
    Manifest,
    Part,
    Segment,
    encode_parts,
    open_manifest,
    parts_digest,
    seal_manifest,
)
from vault.crypto.manifests import sign_version as signed_version
from vault.crypto.parts import blob_name, seal_part
from vault.crypto.purposes import DEK_WRAP, GRANT, PART, VERSION, Purpose
from vault.crypto.randomness import new_id, new_secret
from vault.crypto.rows import RowSealer
from vault.errors import Unreadable

MASTER = pytest.mark.parametrize("master_key", [False, True], ids=["without", "with-master-key"])
PLANTED = b"I, Alice, hereby resign. " * 4


def content(vault: Vault, who: str, document: bytes) -> Any:
    return vault.api(who).get(f"/documents/{document.hex()}/content")


def readable(vault: Vault, who: str) -> dict[str, bool]:
    """The list of somebody, by document id: whether it is shown as readable; the same in every order."""
    lists = []
    for query in ("", "?sort=name", "?sort=size&scope=all"):
        page = vault.api(who).get(f"/documents{query}")
        assert page.status_code == 200, "one bad row took the whole list away"
        lists.append({item["id"]: item["readable"] for item in page.json["items"]})
    assert lists[1:] == lists[:-1]
    return lists[0]


def grant_of(attacker: Attacker, document: bytes, who: str) -> Row:
    return attacker.row(
        "shared_key_registry", document_id=document, reader_id=attacker.vault.members[who].account.user_id
    )


def revoke(vault: Vault, document: bytes, *usernames: str) -> None:
    with vault.services() as bundle:
        bundle.sharing.revoke(vault.alice.account, [document], usernames)


# W1


@MASTER
def test_w1_the_wrapped_keys_of_two_readers_exchanged(vault: Vault, master_key: bool) -> None:
    document = vault.upload("alice", CANARY, share=("bob", "charlie"))
    other = vault.upload("alice", b"safe", share=("bob", "charlie"))
    attacker = Attacker(vault)
    rows = [grant_of(attacker, document, name) for name in ("bob", "charlie")]
    attacker.swap("shared_key_registry", *rows, "wrapped_dek")
    for row in rows:
        if master_key:
            attacker.reseal("shared_key_registry", row["id"])
    for name in ("bob", "charlie"):
        assert_refused(vault, partial(content, vault, name, document), document)
        assert vault.read(name, other) == b"safe"
    assert vault.read("alice", document) == CANARY


# W2


@MASTER
@pytest.mark.parametrize("moved", ["document", "document and version"])
def test_w2_a_grant_moved_to_another_document_opens_nothing(
    vault: Vault, moved: str, master_key: bool
) -> None:
    """Charlie may read one document of Alice, and points his row to another."""
    secret = vault.upload("alice", CANARY)
    open_to_him = vault.upload("alice", b"for Charlie", share=("charlie",))
    attacker = Attacker(vault)
    row = grant_of(attacker, open_to_him, "charlie")
    new = {"document_id": secret}
    if moved == "document and version":
        new["version_id"] = attacker.row("document", id=secret)["version_id"]
    attacker.update("shared_key_registry", row["id"], **new)
    if master_key:
        attacker.reseal("shared_key_registry", row["id"])
    if moved == "document and version":
        assert_refused(vault, partial(content, vault, "charlie", secret), secret)
    else:
        assert content(vault, "charlie", secret).status_code == 404
    assert not readable(vault, "charlie").get(secret.hex(), False)
    assert vault.read("alice", secret) == CANARY
    assert vault.read("alice", open_to_him) == b"for Charlie"


@MASTER
def test_w2_a_grant_of_an_old_version_moved_to_the_current_one(vault: Vault, master_key: bool) -> None:
    document = vault.upload("alice", b"first", share=("bob",))
    attacker = Attacker(vault)
    old = grant_of(attacker, document, "bob")
    vault.api("alice").put(f"/documents/{document.hex()}/content", data=CANARY)
    current = grant_of(attacker, document, "bob")
    attacker.update("shared_key_registry", current["id"], wrapped_dek=old["wrapped_dek"])
    if master_key:
        attacker.reseal("shared_key_registry", current["id"])
    assert_refused(vault, partial(content, vault, "bob", document), document)


@MASTER
@pytest.mark.parametrize("field", ["permission", "expires_at", "reader_id", "granter_id"])
def test_w2_no_field_of_a_grant_can_be_improved(vault: Vault, field: str, master_key: bool) -> None:
    document = vault.upload("alice", CANARY)
    with vault.services() as bundle:
        soon = datetime.now(UTC) + timedelta(hours=1)
        bundle.sharing.share(vault.alice.account, [document], ["bob"], expires_at=soon)
    attacker = Attacker(vault)
    row = grant_of(attacker, document, "bob")
    new = {
        "permission": "owner",
        "expires_at": row["expires_at"] + 10**12,
        "reader_id": vault.charlie.account.user_id,
        "granter_id": vault.bob.account.user_id,
    }
    attacker.update("shared_key_registry", row["id"], **{field: new[field]})
    if master_key:
        attacker.reseal("shared_key_registry", row["id"])
    who = "charlie" if field == "reader_id" else "bob"
    assert_refused(vault, partial(content, vault, who, document), document)
    rename = partial(vault.api(who).patch, f"/documents/{document.hex()}", json={"name": "mine now"})
    assert answer(rename()).status in {403, 500}
    assert vault.read("alice", document) == CANARY
    with vault.services() as bundle:
        assert bundle.downloads.open(vault.alice.account, document).name == "hello.txt"


# W3


class Forger:
    """Makes every row and the blob of a document that says it is Alice's, signed by a key of his own."""

    def __init__(self, attacker: Attacker, reader_name: str, keys: PrivateKeys) -> None:
        self.attacker, self.keys = attacker, keys
        vault = attacker.vault
        self.owner, self.reader = vault.alice.account, vault.members[reader_name].account
        self.document, self.version, self.dek = new_id(), new_id(), new_secret()

    def plant(self, *, master_key: bool) -> bytes:
        segment = Segment(new_id(), new_secret(), len(PLANTED))
        parts = encode_parts([Part(segment.id, 0, segment.length)])
        path = self.attacker.vault.blobs / blob_name(segment.id, 0)
        path.parent.mkdir()
        path.write_bytes(seal_part(segment.key, PLANTED, segment=segment.id, offset=0))
        for table, row in self._rows(segment, parts).items():
            row |= {"row_version": 1, "seal": bytes(32), "seal_key_id": self.attacker.master.key_id}
            self.attacker.put(table, row)
            if master_key:
                self.attacker.reseal(table, row["id"])
        return self.document

    def _rows(self, segment: Segment, parts: bytes) -> dict[str, Row]:
        made = 1_900_000_000_000_000
        manifest = Manifest(
            self.document, self.version, 1, 0, self.owner.user_id, self.owner.fingerprint, (), "resignation.txt",
            "text/plain", segment.length, (segment,), parts_digest(parts),
        )  # fmt: skip
        sealed = seal_manifest(self.dek, manifest)
        signature = signed_version(
            self.keys, document=self.document, version=self.version, number=1, revision=0, epoch=0,
            owner=self.owner.user_id, owner_key_version=1, origin=None, sealed_manifest=sealed,
            parts_digest=manifest.parts_digest,
        )  # fmt: skip
        wrapped = wrap_dek(
            self.reader.own.public, self.dek,
            document=self.document, version=self.version, reader=self.reader.user_id, key_version=1,
        )  # fmt: skip
        permission = "owner" if self.reader is self.owner else "read"
        granted = sign_grant(
            self.keys, document=self.document, version=self.version, epoch=0, granter=self.owner.user_id,
            granter_key_version=1, reader=self.reader.user_id, permission=permission, expires_at=None,
        )  # fmt: skip
        return {
            "document": {
                "id": self.document, "owner_id": self.owner.user_id, "version_id": self.version, "number": 1,
                "revision": 0, "epoch": 0, "readers": 1, "created_at": made, "changed_at": made,
            },
            "document_version": {
                "id": self.version, "document_id": self.document, "number": 1, "revision": 0, "epoch": 0,
                "owner_id": self.owner.user_id, "owner_key_version": 1, "origin": None, "sealed_manifest": sealed,
                "parts_digest": manifest.parts_digest, "signature": signature, "stored_bytes": 1, "created_at": made,
            },
            "part_list": {"id": self.version, "parts": parts},
            "shared_key_registry": {
                "id": new_id(), "document_id": self.document, "version_id": self.version, "epoch": 0,
                "granter_id": self.owner.user_id, "granter_key_version": 1, "reader_id": self.reader.user_id,
                "reader_key_version": 1, "permission": permission, "expires_at": None, "wrapped_dek": wrapped,
                "signature": granted, "since": made, "came_at": made,
            },
        }  # fmt: skip


@MASTER
@pytest.mark.parametrize("victim", ["bob", "alice"])
def test_w3_a_planted_document_is_neither_served_nor_shown_as_readable(
    vault: Vault, stranger_keys: PrivateKeys, victim: str, master_key: bool
) -> None:
    genuine = vault.upload("alice", b"genuine", share=("bob",))
    attacker = Attacker(vault)
    planted = Forger(attacker, victim, stranger_keys).plant(master_key=master_key)
    assert_refused(vault, partial(content, vault, victim, planted), planted, secret=PLANTED)
    shown = readable(vault, victim)
    assert shown[genuine.hex()]
    assert not shown.get(planted.hex(), False)
    assert "resignation" not in vault.api(victim).get("/documents").text
    assert vault.read(victim, genuine) == b"genuine"
    with vault.services() as bundle:
        findings = " ".join(finding.text for finding in bundle.check.run().findings)
    assert planted.hex() in findings, "docvault check names it"


def test_w3_a_genuine_document_cannot_be_made_to_look_like_somebody_elses(vault: Vault) -> None:
    """Mallory has an account and the master key: he writes Alice's name over his own document's owner."""
    document = vault.upload("charlie", PLANTED, share=("bob",))
    attacker, alice = Attacker(vault), vault.alice.account.user_id
    (version,) = attacker.rows("document_version", document_id=document)
    attacker.update("document", document, owner_id=alice)
    attacker.update("document_version", version["id"], owner_id=alice)
    attacker.reseal("document", document)
    attacker.reseal("document_version", version["id"])
    for row in attacker.rows("shared_key_registry", document_id=document):
        attacker.update("shared_key_registry", row["id"], granter_id=alice)
        attacker.reseal("shared_key_registry", row["id"])
    assert_refused(vault, partial(content, vault, "bob", document), document, secret=PLANTED)
    assert readable(vault, "bob") == {document.hex(): False}


def test_w3_a_reader_cannot_make_a_document_his_own(vault: Vault) -> None:
    """Charlie reads it, has the master key, and signs everything himself, as its owner: Bob remembers Alice."""
    document = vault.upload("alice", CANARY, share=("bob", "charlie"))
    assert vault.read("bob", document) == CANARY
    attacker, charlie = Attacker(vault), vault.charlie.account
    row = attacker.row("document_version", document_id=document)
    dek = unwrap_dek(
        charlie.private, grant_of(attacker, document, "charlie")["wrapped_dek"],
        document=document, version=row["id"], reader=charlie.user_id, key_version=1,
    )  # fmt: skip
    manifest = open_manifest(dek, row["sealed_manifest"], document=document, version=row["id"], revision=0)
    his = manifest._replace(owner=charlie.user_id, owner_fingerprint=charlie.fingerprint)
    sealed = seal_manifest(dek, his)
    signature = signed_version(
        charlie.private, document=document, version=row["id"], number=1, revision=0, epoch=0,
        owner=charlie.user_id, owner_key_version=1, origin=None, sealed_manifest=sealed,
        parts_digest=row["parts_digest"],
    )  # fmt: skip
    attacker.update("document", document, owner_id=charlie.user_id)
    attacker.reseal("document", document)
    new = {"owner_id": charlie.user_id, "sealed_manifest": sealed, "signature": signature}
    attacker.update("document_version", row["id"], **new)
    attacker.reseal("document_version", row["id"])
    for grant in attacker.rows("shared_key_registry", document_id=document):
        granted = sign_grant(
            charlie.private, document=document, version=row["id"], epoch=0, granter=charlie.user_id,
            granter_key_version=1, reader=grant["reader_id"], permission=grant["permission"], expires_at=None,
        )  # fmt: skip
        attacker.update("shared_key_registry", grant["id"], granter_id=charlie.user_id, signature=granted)
        attacker.reseal("shared_key_registry", grant["id"])
    for who in ("alice", "bob"):
        assert_refused(vault, partial(content, vault, who, document), document)
        assert readable(vault, who) == {document.hex(): False}


# W6


@pytest.mark.parametrize(
    "how", ["as it was", "epoch raised, with the master key", "new signature, with the master key"]
)
def test_w6_a_revoked_grant_put_back_is_refused_by_its_epoch(vault: Vault, how: str) -> None:
    document = vault.upload("alice", CANARY, share=("bob", "charlie"))
    assert vault.read("bob", document) == CANARY
    attacker = Attacker(vault)
    grant = grant_of(attacker, document, "bob")
    (memory,) = attacker.rows("document_index", reader_id=vault.bob.account.user_id)
    revoke(vault, document, "bob")
    assert content(vault, "bob", document).status_code == 404
    attacker.put("shared_key_registry", grant)
    attacker.put("document_index", memory)
    if how != "as it was":
        attacker.update("shared_key_registry", grant["id"], epoch=1)
    if how.startswith("new signature"):
        forged = sign_grant(
            vault.bob.account.private, document=document, version=grant["version_id"], epoch=1,
            granter=grant["granter_id"], granter_key_version=1, reader=grant["reader_id"],
            permission="read", expires_at=None,
        )  # fmt: skip
        attacker.update("shared_key_registry", grant["id"], signature=forged)
    attacker.reseal("shared_key_registry", grant["id"])
    assert_refused(vault, partial(content, vault, "bob", document), document)
    assert readable(vault, "bob") == {document.hex(): False}
    assert vault.read("charlie", document) == CANARY
    with vault.services() as bundle:
        findings = " ".join(finding.text for finding in bundle.check.run().findings)
    assert grant["id"].hex() in findings


def test_w6_the_whole_document_from_before_the_revocation_is_refused_by_the_owner_and_seen_by_check(
    vault: Vault,
) -> None:
    """Every row of the document is put back, all seals good: Alice remembers a higher epoch."""
    document = vault.upload("alice", CANARY, share=("bob",))
    attacker = Attacker(vault)
    saved = {
        "document": attacker.rows("document", id=document),
        "document_version": attacker.rows("document_version", document_id=document),
        "shared_key_registry": attacker.rows("shared_key_registry", document_id=document),
    }
    revoke(vault, document, "bob")
    for table, rows in saved.items():
        attacker.put(table, *rows)
    assert_refused(vault, partial(content, vault, "alice", document), document)
    with vault.services() as bundle:
        assert any("the audit chain says" in finding.text for finding in bundle.check.run().findings)


def test_w6_an_expired_grant_cannot_be_lengthened_and_ends_at_its_second(vault: Vault) -> None:
    document = vault.upload("alice", CANARY, share=("bob",))
    attacker = Attacker(vault)
    row = grant_of(attacker, document, "bob")
    past = int(datetime(2020, 1, 1, tzinfo=UTC).timestamp()) * 10**6
    signature = sign_grant(
        vault.alice.account.private, document=document, version=row["version_id"], epoch=0,
        granter=row["granter_id"], granter_key_version=1, reader=row["reader_id"], permission="read",
        expires_at=datetime(2020, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    attacker.update("shared_key_registry", row["id"], expires_at=past, signature=signature)
    attacker.reseal("shared_key_registry", row["id"])
    assert content(vault, "bob", document).status_code == 404
    assert readable(vault, "bob") == {}
    attacker.update("shared_key_registry", row["id"], expires_at=None)
    attacker.reseal("shared_key_registry", row["id"])
    assert_refused(vault, partial(content, vault, "bob", document), document)


# W9

IDS = st.binary(min_size=16, max_size=16)
NUMBERS = st.integers(0, 2**64 - 1)
TIMES = st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
GRANTS = st.tuples(IDS, IDS, NUMBERS, IDS, NUMBERS, IDS, st.text(max_size=8), st.none() | TIMES)
VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.binary(max_size=40)
    | st.text(max_size=20)
)


@settings.get_profile("attacks")
@given(GRANTS, GRANTS)
def test_w9_two_grants_never_have_the_same_encoding(one: Any, other: Any) -> None:
    assert (enc(GRANT, *one) == enc(GRANT, *other)) == (one == other)


@settings.get_profile("attacks")
@given(st.lists(st.tuples(st.binary(max_size=3), st.binary(max_size=3)), min_size=2, max_size=2))
def test_w9_bytes_never_move_between_two_fields(pairs: list[tuple[bytes, bytes]]) -> None:
    two = Purpose("docvault/v1/test/two", ("a:bytes", "b:bytes"))
    (one, other) = pairs
    assert (enc(two, *one) == enc(two, *other)) == (one == other)


@pytest.mark.parametrize(("one", "other"), [((1, 11), (11, 1)), ((0, 256), (256, 0)), ((1, 1), (11, 0))])
def test_w9_version_and_position_never_change_places(one: tuple[int, int], other: tuple[int, int]) -> None:
    """The very case of CVE-2020-8133: a MAC over version and position, one after the other."""
    shape = (bytes(16), bytes(16))
    assert enc(VERSION, *shape, *one, 0, bytes(16), 1, None, bytes(32), bytes(32)) != enc(
        VERSION, *shape, *other, 0, bytes(16), 1, None, bytes(32), bytes(32)
    )
    assert enc(PART, bytes(16), one[0], None) != enc(PART, bytes(16), other[0], None)


@settings.get_profile("attacks")
@given(st.lists(VALUES, min_size=3, max_size=3), st.lists(VALUES, min_size=3, max_size=3))
def test_w9_two_rows_never_have_the_same_message(one: list[Any], other: list[Any]) -> None:
    sealer = RowSealer("table", 1, ("a", "b", "c"))
    same = [(type(value), value) for value in one] == [(type(value), value) for value in other]
    assert (sealer.message(bytes(16), 1, one) == sealer.message(bytes(16), 1, other)) == same


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("ab", 1, ("c",), ["d"]), ("a", 1, ("c",), ["d"])),
        (("t", 1, ("ab", "c"), ["d", "e"]), ("t", 1, ("a", "bc"), ["d", "e"])),
        (("t", 1, ("a", "b"), ["cd", "e"]), ("t", 1, ("a", "b"), ["c", "de"])),
        (("t", 1, ("a",), ["1"]), ("t", 1, ("a",), [1])),
        (("t", 1, ("a",), [b"1"]), ("t", 1, ("a",), ["1"])),
        (("t", 1, ("a",), [1]), ("t", 1, ("a",), [True])),
        (("t", 1, ("a",), [None]), ("t", 1, ("a",), [b""])),
        (("t", 1, ("a",), [0]), ("t", 2, ("a",), [0])),
    ],
)
def test_w9_the_bounds_of_a_row_are_in_its_message(one: Any, other: Any) -> None:
    def message(table: str, schema: int, names: tuple[str, ...], values: list[Any]) -> bytes:
        return RowSealer(table, schema, names).message(bytes(16), 1, values)

    assert message(*one) != message(*other)


def test_w9_no_purpose_takes_the_encoding_of_another() -> None:
    fields = (bytes(16), bytes(16), bytes(16), 1, bytes(32))
    assert enc(DEK_WRAP, *fields) != enc(Purpose("docvault/v1/dek-wra", DEK_WRAP.fields), *fields)
    assert item(b"1") + item(b"11") != item(b"11") + item(b"1")


def test_w9_a_file_swapped_for_one_whose_ids_run_together_is_refused(vault: Vault) -> None:
    """Version 1 at position 11 and version 11 at position 1, as documents: neither opens with the other's row."""
    document = vault.upload("alice", CANARY)
    with vault.services() as bundle:
        for _ in range(10):
            bundle.uploads.receive(vault.alice.account, reader(CANARY), document_id=document)
    attacker = Attacker(vault)
    first = attacker.row("document_version", document_id=document, number=1)
    last = attacker.row("document_version", document_id=document, number=11)
    attacker.swap("document_version", first, last, "sealed_manifest", "signature", "parts_digest")
    attacker.reseal("document_version", first["id"])
    attacker.reseal("document_version", last["id"])
    assert_refused(vault, partial(content, vault, "alice", document), document)


def test_w9_a_remembered_entry_is_bound_to_its_document(vault: Vault) -> None:
    entry = IndexEntry(bytes(16), bytes(32), 1, 11, 0, "a", (), "text/plain", 1)
    key = vault.alice.account.index_key
    sealed = key.seal(entry, document=b"1" * 16, reader=bytes(16))
    assert key.open(sealed, document=b"1" * 16, reader=bytes(16)) == entry
    with pytest.raises(Unreadable):
        key.open(sealed, document=bytes(16), reader=b"1" * 16)
