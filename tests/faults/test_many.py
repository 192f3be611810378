"""F21: ten thousand documents. Each page asks the database as often as with a few, and everything still ends."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from tests.cast import Vault
from tests.many import fill
from vault.extensions import db
from vault.services.audit import Event

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "verify_audit.py"
FEW, MANY = 120, 10_000
QUICK = {"newest": 0.3, "page": 0.3, "by name": 2.0, "search": 2.0}
"""Seconds of processor time, which depend little on what else a machine does: 0.02, 0.03, 0.7 and 0.7 were seen on a
slow and busy one. What is sorted by name, or searched, opens every entry of the index.
"""


def name_of(number: int) -> str:
    return f"Document {number:05d} {'needle' if number % 1000 == 77 else 'hay'}.txt"


def filled(cast_folder: tuple[Path, Vault], folder: Path, count: int) -> Vault:
    source, made = cast_folder
    shutil.copytree(source, folder)
    vault = made.copied_to(folder)
    fill(vault, "alice", count - 1, name_of)
    return vault


@pytest.fixture(scope="module")
def few(cast_folder: tuple[Path, Vault], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault]:
    vault = filled(cast_folder, tmp_path_factory.mktemp("few") / "instance", FEW)
    yield vault
    vault.close()


@pytest.fixture(scope="module")
def many(cast_folder: tuple[Path, Vault], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault]:
    vault = filled(cast_folder, tmp_path_factory.mktemp("many") / "instance", MANY)
    yield vault
    vault.close()


@contextmanager
def questions(vault: Vault) -> Iterator[list[str]]:
    """Collect what the database is asked."""
    asked: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        asked.append(statement)

    with vault.app.app_context():
        engine = db.engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(engine, "before_cursor_execute", note)


PAGES = {
    "newest": "/api/v1/documents?limit=50",
    "by name": "/api/v1/documents?limit=50&sort=name",
    "search": "/api/v1/documents?limit=50&q=needle",
    "page": "/",
    "account": "/account",
    "people": "/people",
}


def get(vault: Vault, path: str) -> Any:
    who = "dora" if path == "/people" else "alice"
    client = vault.api(who) if path.startswith("/api/v1") else vault.browser(who)
    answer = client.get(path.removeprefix("/api/v1"))
    assert answer.status_code == 200
    return answer


@pytest.mark.parametrize("name", PAGES)
def test_f21_a_page_asks_as_often_with_ten_thousand_documents_as_with_a_few(
    few: Vault, many: Vault, name: str
) -> None:
    counts = []
    for vault in (few, many):
        get(vault, PAGES[name])
        with questions(vault) as asked:
            get(vault, PAGES[name])
        counts.append(len(asked))
    assert counts[0] == counts[1] <= 12, counts


@pytest.mark.parametrize("name", QUICK)
def test_f21_a_page_is_quick(many: Vault, name: str) -> None:
    times = []
    for _ in range(5):
        began = time.process_time()
        get(many, PAGES[name])
        times.append(time.process_time() - began)
    assert sorted(times)[2] < QUICK[name], times


def test_f21_every_document_is_found_page_by_page_and_by_a_search(many: Vault) -> None:
    seen: list[str] = []
    after = ""
    while after is not None:
        page = many.api("alice").get(f"/documents?limit=1000&after={after}").json
        seen += [item["name"] for item in page["items"]]
        after = page["next"]
    assert sorted(seen) == sorted([*map(name_of, range(MANY - 1)), "hello.txt"])
    found = many.api("alice").get("/documents?limit=1000&q=needle").json
    assert [item["name"] for item in found["items"]] == [
        name for name in map(name_of, range(MANY)) if "needle" in name
    ]


def test_f21_the_check_ends_and_finds_everything_whole(many: Vault) -> None:
    told: list[Any] = []
    with many.services() as bundle:
        report = bundle.check.run(told=lambda *step: told.append(step))
    assert report.findings == []
    assert report.counted["document"] == report.counted["blob"] == MANY
    assert len(told) > 50, "the bar moves"


def test_f21_the_export_ends_and_verifies_without_the_vault(many: Vault, tmp_path: Path) -> None:
    """A chain that names 50,000 rows in one entry, and has an entry more for each document."""
    alice, file = many.alice.account.user_id, tmp_path / "export.jsonl"

    def note(session: Any) -> None:
        for _ in range(MANY):
            many_events.record(Event("download", alice, "document", alice))

    with many.services() as bundle:
        many_events = bundle.transactions
        many_events.writing(note)
        with file.open("wb") as out:
            count = bundle.chain.export(out.write)
    assert count > MANY
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(SCRIPT), str(file)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "The chain is whole; 0 lines of anchors fit.\n"), done.stderr
