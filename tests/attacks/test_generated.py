"""M2, M4, M9, M10 from the schema's metadata: every column, row, pair, older state, trigger, view and twin.

What an attacker without the master key writes is refused at the first look and told by ``docvault check``. What one
with the master key writes bears a seal that fits: the audit chain names another, so check tells it of every table but
those of ``UNTRACKED``, whose rows are bound otherwise (see there; P6, M1, M5 and W10 attack them).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select
from sqlalchemy.orm.attributes import flag_modified
from sqlalchemy.orm.exc import StaleDataError

from tests.attacks.attacker import CANARY, Attacker, answer, assert_refused, models
from tests.attacks.generated import (
    TABLES,
    TRACKED,
    Edit,
    Inside,
    covered,
    edits,
    inside,
    pairs,
    state_of,
    telling,
)
from tests.attacks.history import live_through
from tests.cast import Vault
from vault.errors import KeyUnavailable, Unreadable
from vault.extensions import db
from vault.services import audit, seals
from vault.services.audit import Event

OWN_PASSPHRASE = "wolves drum 41 quiet meridians, slowly"
EVERY = pytest.mark.parametrize("table", TABLES)
EVERY_TRACKED = pytest.mark.parametrize("table", TRACKED)


def test_m2_every_table_has_rows_to_attack_and_every_column_is_sealed(lived_in: Vault) -> None:
    state_of(lived_in)
    assert {table: set(columns) for table, columns in seals.UNSEALED.items()} == {
        "*": {"seal", "seal_key_id"}
    }
    assert all(why for table in seals.UNSEALED.values() for why in table.values())
    for table in TABLES:
        assert {*seals.sealed_columns(models()[table]), "id", "row_version"} == set(covered(table))


@EVERY
def test_m2_a_changed_column_of_any_row_is_refused(lived_in: Vault, table: str) -> None:
    state = state_of(lived_in)
    with inside(lived_in) as attacker:
        for edit in edits(state, table):
            row_id = attacker.edit(edit)
            if row_id is not None:
                (seen,) = attacker.seen(table, row_id)
                assert isinstance(seen, Unreadable), f"{table}.{edit.column}"
                assert seen.object_id == row_id
            attacker.sql(f'DELETE FROM "{table}" WHERE id = ?', row_id)
            attacker.put(table, edit.row)


@EVERY
def test_m2_a_changed_column_is_refused_to_services_and_told_by_check(lived_in: Vault, table: str) -> None:
    for edit in telling(state_of(lived_in), table):
        with inside(lived_in) as attacker:
            row_id = attacker.edit(edit)
            assert attacker.refuses(table, row_id), f"{table}.{edit.column}"
            assert f"{table} {row_id.hex()}: its seal does not fit" in attacker.findings(), edit.column


@EVERY_TRACKED
def test_m2_a_changed_column_that_was_sealed_with_the_master_key_is_told_by_check(
    lived_in: Vault, table: str
) -> None:
    for edit in telling(state_of(lived_in), table):
        with inside(lived_in) as attacker:
            row_id = attacker.edit(edit)
            attacker.reseal(table, row_id)
            assert not attacker.refuses(table, row_id), "so that it is the chain that tells"
            told = [text for text in attacker.findings() if text.startswith(f"{table} {row_id.hex()}")]
            assert any("audit chain" in text or "audit entry" in text for text in told), edit.column


@EVERY
def test_m2_a_seal_of_another_row_or_key_is_refused_and_told(lived_in: Vault, table: str) -> None:
    row = state_of(lived_in)[table][0]
    with inside(lived_in) as attacker:
        attacker.edit(Edit(table, row, "seal", bytes(32)))
        assert attacker.refuses(table, row["id"])
        assert f"{table} {row['id'].hex()}: its seal does not fit" in attacker.findings()
    with inside(lived_in) as attacker:
        attacker.edit(Edit(table, row, "seal_key_id", bytes(8)))
        assert isinstance(attacker.seen(table, row["id"])[0], KeyUnavailable), "an unknown key is no damage"
        assert f"{table}: a row is sealed under a master key that is not here" in attacker.findings()


@EVERY
def test_m2_any_two_rows_exchanged_are_both_refused(lived_in: Vault, table: str) -> None:
    with inside(lived_in) as attacker:
        for one, other in pairs(state_of(lived_in), table):
            attacker.put(table, one | {"id": other["id"]}, other | {"id": one["id"]})
            seen = attacker.seen(table, one["id"], other["id"])
            assert [type(row) for row in seen] == [Unreadable, Unreadable]
            attacker.put(table, one, other)


@EVERY_TRACKED
def test_m2_any_two_rows_exchanged_and_sealed_with_the_master_key_are_told_by_check(
    lived_in: Vault, table: str
) -> None:
    for one, other in pairs(state_of(lived_in), table):
        with inside(lived_in) as attacker:
            attacker.put(table, one | {"id": other["id"]}, other | {"id": one["id"]})
            for row in (one, other):
                attacker.reseal(table, row["id"])
            told = " ".join(attacker.findings())
            for row in (one, other):
                assert f"{table} {row['id'].hex()}: is version" in told


# Older states


def renew(attacker: Inside, table: str) -> None:
    """Let the vault itself write every row of a table anew, as any of its acts would: a new version and seal."""
    for row in attacker.session.scalars(select(models()[table])).all():
        flag_modified(row, seals.sealed_columns(models()[table])[0])
    attacker.session.flush()
    audit.append(attacker.session, [Event("renewed", None, table)], None)


@EVERY_TRACKED
def test_m9_older_states_of_rows_put_back_are_told_by_check(lived_in: Vault, table: str) -> None:
    """All seals are good: the chain names newer ones."""
    old = state_of(lived_in)[table]
    with inside(lived_in) as attacker:
        renew(attacker, table)
        attacker.put(table, *old)
        told = attacker.findings()
    for row in old:
        version = row["row_version"]
        assert f"{table} {row['id'].hex()}: is version {version}, the audit chain says {version + 1}" in told
    with inside(lived_in) as attacker:
        renew(attacker, table)
        assert attacker.findings() == [], "what the vault itself wrote is whole"


@EVERY_TRACKED
def test_m4_removed_rows_are_told_by_check(lived_in: Vault, table: str) -> None:
    rows = state_of(lived_in)[table]
    with inside(lived_in) as attacker:
        attacker.sql(f'DELETE FROM "{table}"')
        told = attacker.findings()
    for row in rows:
        assert f"{table} {row['id'].hex()}: the audit chain knows this row, the database lost it" in told


@EVERY_TRACKED
def test_w6_rows_that_the_vault_deleted_and_somebody_put_back_are_told_by_check(
    lived_in: Vault, table: str
) -> None:
    rows = state_of(lived_in)[table]
    with inside(lived_in) as attacker:
        for row in attacker.session.scalars(select(models()[table])):
            attacker.session.delete(row)
        attacker.session.flush()
        audit.append(attacker.session, [Event("deleted", None, table)], None)
        attacker.put(table, *rows)
        told = attacker.findings()
    for row in rows:
        assert f"{table} {row['id'].hex()}: no audit entry knows this row" in told


# Laundering


@EVERY
def test_m9_a_column_changed_between_load_and_update_is_never_sealed(lived_in: Vault, table: str) -> None:
    """The vault loads a row, somebody edits it, the vault updates another column: its seal is over what it verified."""
    for edit in telling(state_of(lived_in), table):
        others = [name for name in seals.sealed_columns(models()[table]) if name != edit.column]
        with inside(lived_in) as attacker:
            row = attacker.session.get(models()[table], edit.row["id"])
            row_id = attacker.edit(edit)
            flag_modified(row, others[0] if others else edit.column)
            if edit.column in {"id", "row_version"}:
                with pytest.raises(StaleDataError):
                    attacker.session.flush()
                continue
            attacker.session.flush()
            if others:
                assert attacker.refuses(table, row_id), f"{table}.{edit.column}"
            else:
                assert attacker.rows(table, row_id)[0][edit.column] == edit.row[edit.column], "written over"


# A hostile database


@EVERY
@pytest.mark.parametrize("act", ["INSERT", "UPDATE"])
def test_m10_a_trigger_that_rewrites_a_column_is_found_at_the_next_look(
    lived_in: Vault, table: str, act: str
) -> None:
    for edit in telling(state_of(lived_in), table):
        with inside(lived_in) as attacker:
            attacker.sql(
                f'CREATE TRIGGER rewrite AFTER {act} ON "{table}" BEGIN '
                f'UPDATE "{table}" SET "{edit.column}" = {_literal(edit.value)} WHERE id = NEW.id; END'
            )
            if act == "INSERT":
                row = attacker.fresh(table, edit.row)
                attacker.session.add(row)
            else:
                row = attacker.session.get(models()[table], edit.row["id"])
                flag_modified(row, seals.sealed_columns(models()[table])[0])
            row_id = row.id
            attacker.session.flush()
            where = edit.value if edit.column == "id" else row_id
            assert attacker.refuses(table, where), f"{table}.{edit.column}"


def _literal(value: Any) -> str:
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"


@EVERY
def test_m10_a_view_in_the_place_of_a_table_is_refused(lived_in: Vault, table: str) -> None:
    names = [column.key for column in models()[table].__table__.columns]  # type: ignore[attr-defined]
    for edit in telling(state_of(lived_in), table):
        shown = ", ".join(
            f'{_literal(edit.value)} AS "{name}"' if name == edit.column else f'"{name}"' for name in names
        )
        with inside(lived_in) as attacker:
            attacker.sql(f'ALTER TABLE "{table}" RENAME TO "hidden"')
            attacker.sql(f'CREATE VIEW "{table}" AS SELECT {shown} FROM "hidden"')
            row_id = edit.value if edit.column == "id" else edit.row["id"]
            assert attacker.refuses(table, row_id), f"{table}.{edit.column}"


@pytest.fixture(scope="module")
def lawless(lived_in: Vault, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault]:
    """The same vault on a database that has lost every key, index and constraint."""
    instance = tmp_path_factory.mktemp("lawless") / "instance"
    shutil.copytree(lived_in.instance, instance)
    vault = lived_in.copied_to(instance)
    with vault.database() as database:
        for table in TABLES:
            database.execute(f'CREATE TABLE "twin" AS SELECT * FROM "{table}"')
            database.execute(f'DROP TABLE "{table}"')
            database.execute(f'ALTER TABLE "twin" RENAME TO "{table}"')
    yield vault
    vault.close()


@EVERY
def test_m10_a_second_row_of_the_same_id_is_told_by_check(lawless: Vault, table: str) -> None:
    rows = state_of(lawless)[table]
    with inside(lawless) as attacker:
        attacker.put(table, *rows, instead=False)
        told = attacker.findings()
    for row in rows:
        assert f"{table} {row['id'].hex()}: is there twice" in told


ON_THE_WAY = (
    "document", "document_version", "shared_key_registry", "document_index", "part_list", "login_session", "user",
    "user_key",
)  # fmt: skip


@pytest.mark.parametrize("table", ON_THE_WAY)
def test_m10_no_document_is_read_past_a_second_row(lawless: Vault, table: str) -> None:
    """Which of two rows a query finds first is the database's choice: an older right must not win by it."""
    attacker, bob = Attacker(lawless), lawless.bob.account
    (document,) = [row["id"] for row in attacker.rows("document", owner_id=lawless.alice.account.user_id)]
    version = attacker.row("document", id=document)["version_id"]
    row = {
        "document": partial(attacker.row, "document", id=document),
        "document_version": partial(attacker.row, "document_version", id=version),
        "shared_key_registry": partial(
            attacker.row, "shared_key_registry", version_id=version, reader_id=bob.user_id
        ),
        "document_index": partial(
            attacker.row, "document_index", document_id=document, reader_id=bob.user_id
        ),
        "part_list": partial(attacker.row, "part_list", id=version),
        "login_session": partial(attacker.row, "login_session", id=bob.session_id),
        "user": partial(attacker.row, "user", id=bob.user_id),
        "user_key": partial(attacker.row, "user_key", user_id=bob.user_id),
    }[table]()
    get = partial(lawless.api("bob").get, f"/documents/{document.hex()}/content")
    attacker.put(table, row)
    session = table in {"login_session", "user", "user_key"}
    problem = "urn:docvault:LoginRequired" if session else "urn:docvault:Unreadable"
    assert_refused(lawless, get, bob.session_id if session else document, problems=(problem,))
    attacker.remove(table, row["id"])
    attacker.put(table, row)
    assert answer(get()).body == CANARY * 2, "with one row it is read"


def test_m10_no_statement_of_a_whole_life_bears_a_secret(
    cast_folder: tuple[Path, Vault], tmp_path: Path
) -> None:
    """Whoever owns the database server reads each parameter that comes by."""
    shutil.copytree(cast_folder[0], tmp_path / "instance")
    vault = cast_folder[1].copied_to(tmp_path / "instance")
    seen: list[Any] = []
    with vault.app.app_context():
        engine = db.engine
    event.listen(engine, "before_cursor_execute", lambda *given: seen.append((given[2], given[3])))
    document = live_through(vault)
    changed = vault.api("alice").put(
        "/me/passphrase", json={"current": vault.alice.passphrase, "new": OWN_PASSPHRASE}
    )
    assert changed.status_code == 200, changed.text
    name = "canary-of-a-name.odt"
    renamed = vault.api("alice").patch(f"/documents/{document.hex()}", json={"name": name})
    assert renamed.status_code == 200
    vault.close()
    told = repr(seen).encode() + b"".join(_bytes_of(seen))
    assert document in told and b"zoe" in told, "the parameters are seen"
    accounts = [member.account for member in vault.members.values()]
    secrets = [
        CANARY[:20], name.encode(), b"letter.txt", OWN_PASSPHRASE.encode(),
        *[member.passphrase.encode() for member in vault.members.values()],
        *[member.token.encode() for member in vault.members.values()],
        *[account.account_key for account in accounts], *[account.secret for account in accounts],
        *[account.private.wrap_der[:200] for account in accounts],
        *[account.private.sign_der[:200] for account in accounts],
    ]  # fmt: skip
    for number, secret in enumerate(secrets):
        assert secret not in told, f"secret {number} stands in a parameter"


def _bytes_of(given: Any) -> Iterator[bytes]:
    if isinstance(given, (bytes, memoryview)):
        yield bytes(given)
    elif isinstance(given, (list, tuple)):
        for each in given:
            yield from _bytes_of(each)
    elif isinstance(given, dict):
        yield from _bytes_of(list(given.values()))
