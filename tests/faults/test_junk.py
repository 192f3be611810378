"""F33: junk in any column is an error of that one object; each page that lists it still renders and shows the rest."""

from __future__ import annotations

import logging
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.attacks.attacker import Attacker, models
from tests.attacks.history import live_through
from tests.cast import Vault
from vault.errors import VaultError

ROUNDS = 15
WITHOUT = {
    "audit_entry": "the chain is one object: it stops the sweep and `check` says where (M5)",
    "audit_head": "the same",
    "login_session": "a session that does not open is none (P6)",
}
"""Tables that no page lists object by object."""

HUGE = 200_000
JUNK: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.binary(max_size=64),
    st.text(max_size=64).filter(lambda text: text.isprintable()),
    st.sampled_from([b"", "", b"\xff" * HUGE, "x" * HUGE, "1", "\N{PILE OF POO}" * 20]),
    st.sampled_from([b"\xff\xfe", b"caf\xe9", b"\x00\xd8"]).map(lambda junk: Undecodable(junk)),
)


class Undecodable(NamedTuple):
    """Bytes that no encoding of the database reads, put into a column as text."""

    junk: bytes


class Stage(NamedTuple):
    vault: Vault
    document: bytes
    other: bytes


@pytest.fixture(scope="module")
def stage(cast_folder: tuple[Path, Vault], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A vault that has lived, on a database whose writer has taken its constraints away."""
    folder, made = cast_folder
    instance = tmp_path_factory.mktemp("junk") / "instance"
    shutil.copytree(folder, instance)
    vault = made.copied_to(instance)
    document = live_through(vault)
    other = vault.upload("alice", b"whole", name="whole.txt", share=("bob",))
    for who in ("alice", "bob"):
        vault.read(who, other)
    with vault.database() as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_master SET sql = replace(sql, 'NOT NULL', '') WHERE type = 'table'")
    vault.close()
    yield Stage(vault, document, other)
    vault.close()


def targets(stage: Stage) -> list[tuple[str, dict[str, Any]]]:
    """The rows to write junk into: those of one document and of Bob, and all that belong to nobody."""
    attacker, bob = Attacker(stage.vault), stage.vault.bob.account.user_id
    found = []
    for table in sorted(set(models()) - set(WITHOUT)):
        for row in attacker.rows(table):
            owned = {row.get(name) for name in ("document_id", "user_id", "id")}
            version = attacker.row("document", id=stage.document)["version_id"]
            if table in {
                "document",
                "document_version",
                "part_list",
                "shared_key_registry",
                "document_index",
            }:
                if owned & {stage.document, version}:
                    found.append((table, row))
            elif table not in {"user", "user_key", "unlock_method", "contact"} or bob in owned:
                found.append((table, row))
    return found


def put(vault: Vault, table: str, column: str, row_id: bytes, junk: Any) -> bool:
    """Write junk past every seal; tell whether the database took it."""
    place, value = ("CAST(? AS TEXT)", junk.junk) if isinstance(junk, Undecodable) else ("?", junk)
    try:
        with vault.database() as connection:
            connection.execute(f'UPDATE "{table}" SET "{column}" = {place} WHERE id = ?', (value, row_id))
    except sqlite3.IntegrityError:
        return False  # a unique key of its own, or the type of an integer key
    return True


def pages(stage: Stage) -> list[tuple[str, str, str]]:
    """Who looks at which page, and what must stand on it whatever became of other objects."""
    whole = f"/documents/{stage.other.hex()}"
    return [
        ("alice", "/", "whole.txt"),
        ("alice", "/?q=whole", "whole.txt"),
        ("alice", whole, "whole.txt"),
        ("alice", f"{whole}/versions", "whole.txt"),
        ("alice", f"{whole}/share", "whole.txt"),
        ("alice", "/account", "alice"),
        ("alice", "/account/check", "checked"),
        ("dora", "/people", "charlie"),
        ("dora", "/check", "Deep check"),
    ]


@pytest.mark.parametrize("rounds", [ROUNDS, pytest.param(500, marks=pytest.mark.long)])
def test_f33_junk_in_any_column_is_an_error_of_one_object(
    stage: Stage, rounds: int, caplog: pytest.LogCaptureFixture
) -> None:
    rows = targets(stage)
    columns = [(table, row, name) for table, row in rows for name in row if name != "id"]
    assert {table for table, _ in rows} == set(models()) - set(WITHOUT)

    @settings(max_examples=rounds, derandomize=rounds == ROUNDS, phases=[Phase.generate])
    @given(st.sampled_from(columns), JUNK)
    def write_junk(where: tuple[str, dict[str, Any], str], junk: Any) -> None:
        table, row, column = where
        caplog.clear()
        if not put(stage.vault, table, column, row["id"], junk):
            return
        try:
            look(stage, f"{table}.{column} = {junk!r:.80}", caplog)
        finally:
            Attacker(stage.vault).put(table, row)

    write_junk()
    look(stage, "nothing", caplog)


def look(stage: Stage, what: str, caplog: pytest.LogCaptureFixture) -> None:
    """Open every page as those whom it is for; none may answer with an error, or lack what is whole."""
    with stage.vault.services() as bundle:
        for who in ("alice", "bob", "dora"):  # 500 rounds take longer than a token lasts
            member = stage.vault.members[who]
            member.token = bundle.sessions.token_for(member.account)
    for who, path, shown in pages(stage):
        answer = stage.vault.browser(who).get(path)
        assert (answer.status_code, shown in answer.text) == (200, True), (
            f"{what}: {path}: {answer.text[:2000]}"
        )
    for path in (
        f"/documents/{stage.document.hex()}",
        f"/documents/{stage.document.hex()}/content",
        "/shared",
    ):
        for who in ("alice", "bob"):
            answer = stage.vault.browser(who).get(path)
            answer.close()
    unexpected = [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.ERROR
        and record.name == "vault.http"
        and "unexpected" in record.getMessage()
    ]
    assert unexpected == [], what
    with stage.vault.services() as bundle:
        try:
            bundle.check.run()
        except VaultError as error:
            raise AssertionError(f"{what}: the check gave up: {error}") from error
