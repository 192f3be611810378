"""M1, M2, M5, M9: names exchanged, every column edited, seals laundered, the audit log cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from sqlalchemy import delete as delete_rows
from sqlalchemy import select, update

from tests.attacks.attacker import (
    CANARY,
    Attacker,
    Row,
    another,
    answer,
    assert_refused,
    column_type,
    failures,
    models,
    write_blob,
)
from tests.attacks.history import live_through
from tests.cast import Vault
from vault.crypto.grants import unwrap_dek
from vault.crypto.manifests import open_manifest, seal_manifest
from vault.crypto.parts import seal_part
from vault.errors import AuditBroken, KeyUnavailable, Unreadable
from vault.models import Document, User
from vault.services import audit, seals
from vault.services.seals import UNSEALED, UNTRACKED

MASTER = pytest.mark.parametrize("master_key", [False, True], ids=["without", "with-master-key"])
COLUMNS = [
    (table, column.key)
    for table, model in sorted(models().items())
    for column in model.__table__.columns  # type: ignore[attr-defined]
]
SEALED = [
    (table, column)
    for table, column in COLUMNS
    if column not in UNSEALED["*"] and column not in UNSEALED.get(table, {})
]


@contextmanager
def edited(vault: Vault, table: str, row: Row, **columns: Any) -> Iterator[Attacker]:
    """Edit a row, and put it back afterwards."""
    attacker = Attacker(vault)
    attacker.update(table, row["id"], **columns)
    try:
        yield attacker
    finally:
        attacker.remove(table, columns.get("id", row["id"]))
        attacker.put(table, row)


def findings(vault: Vault) -> list[str]:
    with vault.services() as bundle:
        return [finding.text for finding in bundle.check.run().findings]


def a_row(vault: Vault, table: str, column: str) -> Row:
    rows = Attacker(vault).rows(table)
    assert rows, f"no row of {table} to attack: give it one in history.py"
    return next((row for row in rows if row[column] is not None), rows[0])


def alices(vault: Vault) -> bytes:
    """Alice's document, of which Bob is a reader."""
    rows = Attacker(vault).rows("document", owner_id=vault.alice.account.user_id)
    (found,) = [row["id"] for row in rows]
    return bytes(found)


# M1


@MASTER
def test_m1_the_names_of_two_documents_exchanged(vault: Vault, master_key: bool) -> None:
    letter = vault.upload("alice", CANARY, name="letter.txt", share=("bob",))
    contract = vault.upload("alice", CANARY[::-1], name="contract.txt", share=("bob",))
    attacker = Attacker(vault)
    rows = [attacker.row("document_version", document_id=document) for document in (letter, contract)]
    attacker.swap("document_version", *rows, "sealed_manifest")
    for row in rows:
        if master_key:
            attacker.reseal("document_version", row["id"])
    for document in (letter, contract):
        for who in ("alice", "bob"):
            for path in ("", "/content"):
                get = partial(vault.api(who).get, f"/documents/{document.hex()}{path}")
                assert_refused(vault, get, document)


@MASTER
@pytest.mark.parametrize("query", ["", "?sort=name", "?q=contract"])
def test_m1_the_remembered_names_of_two_documents_exchanged(
    vault: Vault, query: str, master_key: bool
) -> None:
    documents = [vault.upload("alice", CANARY, name=name) for name in ("letter.txt", "contract.txt")]
    third = vault.upload("alice", b"safe", name="third contract.txt")
    attacker = Attacker(vault)
    rows = [attacker.row("document_index", document_id=document) for document in documents]
    attacker.swap("document_index", *rows, "sealed_entry")
    for row in rows:
        if master_key:
            attacker.reseal("document_index", row["id"])
    before = len(failures(vault))
    listed = vault.api("alice").get(f"/documents{query}")
    assert listed.status_code == 200
    shown = {item["id"]: (item["readable"], item["name"]) for item in listed.json["items"]}
    assert shown == {
        documents[0].hex(): (False, ""),
        documents[1].hex(): (False, ""),
        third.hex(): (True, "third contract.txt"),
    }
    assert len(failures(vault)) == before + 1
    assert failures(vault)[-1][0] in {document.hex() for document in documents}
    for document in documents:
        assert_refused(vault, partial(vault.api("alice").get, f"/documents/{document.hex()}"), document)


def test_m1_a_reader_who_has_the_key_and_the_master_key_changes_no_name_and_no_content(vault: Vault) -> None:
    """Every seal of the rows, the manifest and the blob is good: only the owner's signature is missing."""
    document = vault.upload("alice", CANARY, name="letter.txt", share=("bob", "charlie"))
    attacker, bob = Attacker(vault), vault.bob.account
    grant = attacker.row("shared_key_registry", document_id=document, reader_id=bob.user_id)
    row = attacker.row("document_version", document_id=document)
    dek = unwrap_dek(
        bob.private,
        grant["wrapped_dek"],
        document=document,
        version=row["id"],
        reader=bob.user_id,
        key_version=1,
    )
    manifest = open_manifest(dek, row["sealed_manifest"], document=document, version=row["id"], revision=0)
    (segment,) = manifest.segments
    write_blob(
        attacker.blob(document), seal_part(segment.key, CANARY[::-1], segment=segment.id, offset=0)
    )  # of the same length, so that this alone goes unseen: he has the key of the content
    forged = seal_manifest(dek, manifest._replace(name="forged.txt", sha256=None))
    attacker.update("document_version", row["id"], sealed_manifest=forged)
    attacker.reseal("document_version", row["id"])
    for who in ("alice", "charlie"):
        for path in ("", "/content"):
            get = partial(vault.api(who).get, f"/documents/{document.hex()}{path}")
            assert_refused(vault, get, document, secret=CANARY[::-1])


# M2


def test_m2_the_columns_that_no_seal_covers_are_the_seal_and_its_key() -> None:
    assert {table: set(columns) for table, columns in UNSEALED.items()} == {"*": {"seal", "seal_key_id"}}
    assert all(why for table in UNSEALED.values() for why in table.values())
    for table, model in models().items():
        names = {column.key for column in model.__table__.columns}  # type: ignore[attr-defined]
        assert names == {*seals.sealed_columns(model), "id", "row_version", "seal", "seal_key_id"}, table


def forged_values(table: str, column: str, value: Any) -> list[Any]:
    """What an UPDATE would put in the place of a value: another one of its type and, where it may be, none."""
    nullable = models()[table].__table__.c[column].nullable  # type: ignore[attr-defined]
    return [another(table, column, value), *([None] if nullable and value is not None else [])]


@pytest.mark.parametrize("table", sorted(models()))
def test_m2_every_sealed_column_of_every_table_is_detected(lived_in: Vault, table: str) -> None:
    for column in [column for of, column in SEALED if of == table]:
        row = a_row(lived_in, table, column)
        for value in forged_values(table, column, row[column]):
            with edited(lived_in, table, row, **{column: value}):
                where = value if column == "id" else row["id"]
                with lived_in.services() as bundle, pytest.raises(Unreadable):
                    bundle.transactions.session.get(models()[table], where)
                if value is not None:
                    assert f"{table} {where.hex()}: its seal does not fit" in findings(lived_in), column
    assert findings(lived_in) == [], "all is put back"


@pytest.mark.parametrize("table", sorted(models()))
def test_m2_a_seal_of_another_row_or_key_is_detected(lived_in: Vault, table: str) -> None:
    row = a_row(lived_in, table, "id")
    with edited(lived_in, table, row, seal=bytes(32)):
        with lived_in.services() as bundle, pytest.raises(Unreadable):
            bundle.transactions.session.get(models()[table], row["id"])
        assert f"{table} {row['id'].hex()}: its seal does not fit" in findings(lived_in)
    with edited(lived_in, table, row, seal_key_id=bytes(8)):
        with lived_in.services() as bundle, pytest.raises(KeyUnavailable):
            bundle.transactions.session.get(models()[table], row["id"])
        assert f"{table}: a row is sealed under a master key that is not here" in findings(lived_in)


DOCUMENT_TABLES = {"document", "document_version", "part_list", "shared_key_registry", "document_index"}
READ_PATH = [
    (table, column)
    for table, column in SEALED
    if table in {*DOCUMENT_TABLES, "user", "user_key"} and column != "id"
]  # fmt: skip


@pytest.mark.parametrize(("table", "column"), READ_PATH, ids=lambda name: name)
def test_m2_no_edited_row_on_the_way_to_a_document_is_read_past(
    lived_in: Vault, table: str, column: str
) -> None:
    """Bob reads Alice's document while one column of one row on the way is not what it was."""
    document, attacker = alices(lived_in), Attacker(lived_in)
    bob, alice = lived_in.bob.account.user_id, lived_in.alice.account.user_id
    version = attacker.row("document", id=document)["version_id"]
    row = {
        "document": lambda: attacker.row("document", id=document),
        "document_version": lambda: attacker.row("document_version", id=version),
        "part_list": lambda: attacker.row("part_list", id=version),
        "shared_key_registry": lambda: attacker.row("shared_key_registry", version_id=version, reader_id=bob),
        "document_index": lambda: attacker.row("document_index", document_id=document, reader_id=bob),
        "user": lambda: attacker.row("user", id=alice),
        "user_key": lambda: attacker.row("user_key", user_id=alice),
    }[table]()
    other = next(row["id"] for row in attacker.rows("document", owner_id=lived_in.charlie.account.user_id))
    get = partial(lived_in.api("bob").get, f"/documents/{document.hex()}/content")
    with edited(lived_in, table, row, **{column: another(table, column, row[column])}):
        finds_nothing = {
            ("shared_key_registry", "version_id"), ("shared_key_registry", "reader_id"), ("document", "version_id"),
            ("document_index", "document_id"), ("document_index", "reader_id"), ("user", "key_version"),
            ("user_key", "user_id"), ("user_key", "version"),
        }  # fmt: skip
        if (table, column) not in finds_nothing:
            assert_refused(lived_in, get, document)
        else:
            got = answer(get())
            # A memory that is not found is no memory: the document itself is read, and check tells of the row.
            assert got.body == CANARY * 2 if table == "document_index" else got.status in {404, 500}
            assert findings(lived_in)
        assert lived_in.read("bob", other) == b"safe"
    assert answer(get()).body == CANARY * 2, "put back"


def test_m2_one_edited_account_takes_no_list_away(lived_in: Vault) -> None:
    row = Attacker(lived_in).row("user", username="charlie")
    with edited(lived_in, "user", row, role="admin"):
        listed = lived_in.api("bob").get("/documents")
        assert listed.status_code == 200
        assert {item["owner"] for item in listed.json["items"]} == {"alice", "?"}


# M9

Act = Callable[[Vault, bytes], Any]


def rename(vault: Vault, document: bytes) -> Any:
    return vault.api("alice").patch(f"/documents/{document.hex()}", json={"name": "renamed.txt"})


def share(vault: Vault, document: bytes) -> Any:
    return vault.api("alice").post(f"/documents/{document.hex()}/shares", json={"usernames": ["dora"]})


def replace(vault: Vault, document: bytes) -> Any:
    return vault.api("alice").put(f"/documents/{document.hex()}/content", data=b"new")


def revoke(vault: Vault, document: bytes) -> Any:
    return vault.api("alice").delete(f"/documents/{document.hex()}/shares/bob")


def delete(vault: Vault, document: bytes) -> Any:
    return vault.api("alice").delete(f"/documents/{document.hex()}")


WRITTEN_BY: dict[str, tuple[Act, ...]] = {
    "document": (rename, share, replace, revoke, delete),
    "document_version": (rename, replace, revoke, delete),
    "shared_key_registry": (replace, revoke, delete),
    "document_index": (rename, replace, delete),
    "part_list": (delete,),
    "user": (replace, delete),
}
LAUNDERED = [
    (table, column, act)
    for table, acts in WRITTEN_BY.items()
    for column in seals.sealed_columns(models()[table])
    for act in (
        acts if column in {"epoch", "permission", "revision", "role", "sealed_entry", "parts"} else acts[:1]
    )
]


@pytest.mark.parametrize(("table", "column", "act"), LAUNDERED)
def test_m9_an_edited_row_is_never_sealed_anew(lived_in: Vault, table: str, column: str, act: Act) -> None:
    """The row that an act would write has one edited column: the act is refused, and the row stays as it was edited."""
    attacker = Attacker(lived_in)
    alice, document = lived_in.alice.account.user_id, alices(lived_in)
    version = attacker.row("document", id=document)["version_id"]
    row = {
        "document": lambda: attacker.row("document", id=document),
        "document_version": lambda: attacker.row("document_version", id=version),
        "part_list": lambda: attacker.row("part_list", id=version),
        "shared_key_registry": lambda: attacker.row(
            "shared_key_registry", version_id=version, reader_id=alice
        ),
        "document_index": lambda: attacker.row("document_index", document_id=document, reader_id=alice),
        "user": lambda: attacker.row("user", id=alice),
    }[table]()
    new = another(table, column, row[column])
    tracked = [
        name for name in models() if name not in {"audit_entry", "audit_head", "upload", "login_session"}
    ]
    with edited(lived_in, table, row, **{column: new}):
        before = {name: attacker.rows(name) for name in tracked}
        lost = (table, column) in {("document_index", "document_id"), ("document_index", "reader_id")}
        if lost:  # the row is found by these: without them there is none, and nothing of it is written
            assert row | {column: new} in before[table]
        else:
            assert answer(act(lived_in, document)).status >= 400
            assert {name: attacker.rows(name) for name in tracked} == before, "nothing was written"
        with lived_in.services() as bundle, pytest.raises(Unreadable):
            bundle.transactions.session.get(models()[table], row["id"])


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("unlock_method", "memory_kib"),
        ("user", "role"),
        ("user", "credential_generation"),
        ("login_session", "expires_at"),
    ],
)
def test_m9_a_passphrase_change_launders_nothing(vault: Vault, table: str, column: str) -> None:
    attacker, alice = Attacker(vault), vault.alice.account
    named = {"user": {"id": alice.user_id}, "login_session": {"id": alice.session_id}}
    row = attacker.row(table, **named.get(table, {"user_id": alice.user_id}))
    attacker.update(table, row["id"], **{column: another(table, column, row[column])})
    before = {name: attacker.rows(name) for name in ("user", "unlock_method", "login_session", "user_key")}
    with vault.services() as bundle, pytest.raises(Unreadable):
        bundle.accounts.change_passphrase(alice, vault.alice.passphrase)
    assert {name: attacker.rows(name) for name in before} == before
    assert len(failures(vault)) == 1


def test_m9_a_value_changed_under_the_unit_of_work_is_not_sealed(vault: Vault) -> None:
    """What was verified is what is sealed: a value that came in past the attribute is refused at the flush."""
    document = vault.upload("alice", CANARY)
    with vault.services() as bundle:

        def work(session: Any) -> None:
            row = session.get(Document, document)
            row.__dict__["epoch"] = 7
            row.readers = 3

        with pytest.raises(Unreadable) as refusal:
            bundle.transactions.writing(work)
        assert refusal.value.reason == "seal:document:epoch"
    assert vault.read("alice", document) == CANARY


def test_m9_sealed_tables_are_not_changed_past_the_unit_of_work(vault: Vault) -> None:
    with vault.services() as bundle:
        session = bundle.transactions.session
        for statement in (update(Document).values(epoch=1), delete_rows(Document), select(Document.epoch)):
            with pytest.raises(RuntimeError, match="unit of work"):
                session.execute(statement)


# The audit chain


def broken_at(vault: Vault) -> str:
    with vault.services() as bundle, pytest.raises(AuditBroken) as broken:
        list(audit.walk(bundle.transactions.session))
    return str(broken.value)


def entries(vault: Vault) -> list[Row]:
    return sorted(Attacker(vault).rows("audit_entry"), key=lambda row: row["sequence"])


def test_m5_a_whole_chain_is_walked_to_its_head(lived_in: Vault) -> None:
    with lived_in.services() as bundle:
        assert [entry.sequence for entry in audit.walk(bundle.transactions.session)] == [
            row["sequence"] for row in entries(lived_in)
        ]


@pytest.mark.parametrize("position", ["first", "middle", "last"])
@pytest.mark.requirement(58)
def test_m5_a_deleted_audit_entry_is_named_by_its_position(lived_in: Vault, position: str) -> None:
    rows = entries(lived_in)
    row = {"first": rows[0], "middle": rows[len(rows) // 2], "last": rows[-1]}[position]
    attacker = Attacker(lived_in)
    attacker.remove("audit_entry", row["id"])
    told = broken_at(lived_in)
    assert any("audit chain" in text for text in findings(lived_in))
    attacker.put("audit_entry", row)
    if position == "last":
        assert (
            told
            == f"The audit chain ends at position {row['sequence'] - 1}, its head says {row['sequence']}."
        )
    else:
        assert told == f"The audit chain is broken at position {row['sequence']}."


@MASTER
@pytest.mark.parametrize(
    "column",
    [column for table, column in SEALED if table == "audit_entry" and column not in {"id", "row_version"}],
)
def test_m5_an_edited_audit_entry_is_named_by_its_position(
    lived_in: Vault, column: str, master_key: bool
) -> None:
    row = next(row for row in entries(lived_in)[3:] if row[column] is not None or column == "detail")
    new = another("audit_entry", column, row[column])
    with edited(lived_in, "audit_entry", row, **{column: new if column != "sequence" else 10**6}) as attacker:
        if master_key:
            attacker.reseal("audit_entry", row["id"])
        assert broken_at(lived_in) == f"The audit chain is broken at position {row['sequence']}."


@MASTER
def test_m5_two_audit_entries_in_another_order_are_named(lived_in: Vault, master_key: bool) -> None:
    one, other = entries(lived_in)[2:4]
    attacker = Attacker(lived_in)
    attacker.swap("audit_entry", one, other, "sequence")
    if master_key:
        attacker.reseal("audit_entry", one["id"])
        attacker.reseal("audit_entry", other["id"])
    told = broken_at(lived_in)
    attacker.remove("audit_entry", one["id"], other["id"])
    attacker.put("audit_entry", one, other)
    assert told == f"The audit chain is broken at position {one['sequence']}."


@pytest.mark.parametrize("column", ["sequence", "entry_hash"])
def test_m5_an_edited_head_is_a_finding_and_stops_the_sweep(lived_in: Vault, column: str) -> None:
    row = Attacker(lived_in).row("audit_head")
    with edited(lived_in, "audit_head", row, **{column: another("audit_head", column, row[column])}):
        assert broken_at(lived_in) == "The audit chain's head does not bear its seal."
        assert "The audit chain's head does not bear its seal." in findings(lived_in)
        with lived_in.services() as bundle, pytest.raises(AuditBroken):
            bundle.sweep.run()
        assert rename(lived_in, alices(lived_in)).status_code == 500, (
            "nothing changes while the chain has no end"
        )


def test_m5_the_whole_chain_cut_together_with_its_head(lived_in: Vault) -> None:
    """The last entries and the head of before, with good seals: the rows are newer than what the chain knows."""
    attacker = Attacker(lived_in)
    before = attacker.row("audit_head")
    document = lived_in.upload("dora", b"late")
    after = attacker.row("audit_head")
    late = [row for row in entries(lived_in) if row["sequence"] > before["sequence"]]
    attacker.remove("audit_entry", *[row["id"] for row in late])
    attacker.put("audit_head", before)
    told = findings(lived_in)
    attacker.put("audit_entry", *late)
    attacker.put("audit_head", after)
    assert f"document {document.hex()}: no audit entry knows this row" in told
    with lived_in.services() as bundle:
        bundle.documents.delete(lived_in.dora.account, [document])


# Rows put back and rows removed


@pytest.mark.parametrize("table", sorted(set(models()) - set(UNTRACKED)))
def test_m4_a_removed_row_is_seen_by_check(lived_in: Vault, table: str) -> None:
    attacker = Attacker(lived_in)
    row = attacker.rows(table)[0]
    attacker.remove(table, row["id"])
    told = findings(lived_in)
    attacker.put(table, row)
    assert f"{table} {row['id'].hex()}: the audit chain knows this row, the database lost it" in told


def test_m4_a_removed_part_list_keeps_nobody_from_deleting_the_document(vault: Vault) -> None:
    document = vault.upload("alice", b"x" * 1000)
    attacker = Attacker(vault)
    version = attacker.row("document_version", document_id=document)["id"]
    attacker.remove("part_list", version)
    assert_refused(vault, lambda: vault.api("alice").get(f"/documents/{document.hex()}/content"), document)
    assert vault.api("alice").delete(f"/documents/{document.hex()}").status_code == 204
    assert attacker.rows("document", id=document) == [] == attacker.rows("shared_key_registry")
    assert len(vault.blob_files()) == 1, "which no row names any more: nothing is destroyed on a guess"
    assert f"part_list {version.hex()}: the audit chain knows this row, the database lost it" in findings(
        vault
    )


def test_m4_a_removed_key_pair_ends_a_login_as_damage(vault: Vault) -> None:
    attacker = Attacker(vault)
    bob = vault.bob.account.user_id
    attacker.remove("user_key", attacker.row("user_key", user_id=bob)["id"])
    body = {"username": "bob", "passphrase": vault.bob.passphrase}
    assert_refused(vault, lambda: vault.api().post("/token", json=body), bob)


def test_m4_a_removed_account_is_damage_for_whoever_needs_it(vault: Vault) -> None:
    """A row that another one leads to and that stays away is never a defect of the program's."""
    about = ("user", bytes(16))
    with vault.services() as bundle:
        with pytest.raises(Unreadable), bundle.transactions.reading(None, about) as session:
            session.get_one(User, bytes(16))
        with pytest.raises(Unreadable):
            bundle.transactions.writing(lambda session: session.get_one(User, bytes(16)), None, about)
    assert failures(vault) == [(bytes(16).hex(), "row:missing")] * 2


def test_m9_rows_put_back_are_seen_by_check(vault: Vault) -> None:
    """Old rows bear good seals; the chain knows that each was deleted, or is of a newer version by now."""
    live_through(vault)
    attacker, alice = Attacker(vault), vault.alice.account
    tracked = sorted(set(models()) - set(UNTRACKED))
    before = {table: attacker.rows(table) for table in tracked}
    with vault.services() as bundle:
        for invitation in bundle.invitations.list_open(vault.dora.account):
            bundle.invitations.withdraw(vault.dora.account, invitation.id)
        bundle.documents.delete(alice, [alices(vault)])
        charlies = attacker.row("document", owner_id=vault.charlie.account.user_id)["id"]
        bundle.documents.delete(vault.charlie.account, [charlies])
        for notice in bundle.notices.unread(alice):
            bundle.notices.read(alice, notice.id)
        bundle.sweep.run()
        bundle.accounts.change_passphrase(alice, vault.alice.passphrase)
        bundle.check_results.keep(bundle.check.run(deep=True))
    changed = {table: [row for row in before[table] if row not in attacker.rows(table)] for table in tracked}
    assert {table for table, rows in changed.items() if rows} == set(tracked) - {
        "contact",
        "user_key",
        "master_key",
        "check_report",
    }
    assert findings(vault) == []
    for table, rows in changed.items():
        now = attacker.rows(table)
        attacker.put(table, *rows)
        told = " ".join(findings(vault))
        assert all(row["id"].hex() in told for row in rows), table
        attacker.remove(table, *[row["id"] for row in rows])
        attacker.put(table, *now)
    assert findings(vault) == []


def test_m2_every_table_that_the_chain_does_not_repeat_says_why() -> None:
    assert set(UNTRACKED) <= set(models())
    assert all(UNTRACKED.values())
    assert column_type("document", "id") is not None


@pytest.mark.parametrize(
    "edit",
    [
        "UPDATE document SET created_at = 'abc'",
        "UPDATE document SET changed_at = 9223372036854775807",
        "UPDATE user SET role = CAST(x'ff41' AS TEXT)",
    ],
    ids=["a time that is text", "a time beyond time", "text that is not UTF-8"],
)
def test_m2_junk_of_another_type_is_refused_and_crashes_nothing(vault: Vault, edit: str) -> None:
    document = vault.upload("alice", b"canary")
    with vault.database() as database:
        database.execute(edit)
    answer = vault.api("alice").get(f"/documents/{document.hex()}/content")
    assert answer.status_code in {401, 500} and b"canary" not in answer.data
    assert answer.status_code == 401 or answer.json["type"] == "urn:docvault:Unreadable"
    assert any(action == "integrity_failure" for action, *_ in vault.audit())
    assert vault.api("alice").get("/documents").status_code in {200, 401}
