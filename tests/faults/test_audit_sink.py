"""F32: audit chain or anchor cannot be written. Changes stop with 503, reading goes on, and it is loud."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

from sqlalchemy import event, text

from tests.cast import Vault
from tests.servers.vault import start_vault
from tests.web.forms import words
from vault.app import configure_logging
from vault.extensions import db
from vault.services import anchor, halt


@contextmanager
def unwritable(vault: Vault) -> Iterator[None]:
    """Let the database itself refuse every write: one that was mounted read-only, or a standby."""
    with vault.app.app_context():
        engine = db.engine
    if engine.dialect.name == "sqlite":

        def refuse(connection: Any, record: Any) -> None:
            connection.execute("PRAGMA query_only=ON")

        event.listen(engine, "connect", refuse)
        engine.dispose()
        yield
        event.remove(engine, "connect", refuse)
    else:
        alter = f'ALTER DATABASE "{engine.url.database}" SET default_transaction_read_only ='
        with engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT").execute(text(f"{alter} on"))
        engine.dispose()
        yield
        with engine.connect() as connection:
            free = connection.execution_options(isolation_level="AUTOCOMMIT")
            free.execute(text("SET default_transaction_read_only = off"))
            free.execute(text(f"{alter} off"))
    engine.dispose()


@contextmanager
def logged() -> Iterator[StringIO]:
    """What the log says meanwhile, as JSON lines."""
    import logging

    configure_logging("INFO")
    (handler,) = [each for each in logging.getLogger().handlers if each.name == "docvault"]
    written = StringIO()
    stream = handler.setStream(written)  # type: ignore[attr-defined]
    yield written
    handler.setStream(stream)  # type: ignore[attr-defined]


def test_f32_a_database_that_takes_no_entry_stops_changes_and_no_reading(any_vault: Vault) -> None:
    vault = any_vault
    document = vault.upload("alice", b"kept" * 1000, name="kept.txt", share=("bob",)).hex()
    alice, bob = vault.api("alice"), vault.api("bob")
    with logged() as log, unwritable(vault):
        for method, path, given in (
            ("POST", "/documents?name=x", {"data": b"x"}),
            ("PATCH", f"/documents/{document}", {"json": {"name": "y"}}),
            ("DELETE", f"/documents/{document}", {}),
            ("POST", f"/documents/{document}/shares", {"json": {"usernames": ["charlie"]}}),
            ("PUT", f"/documents/{document}/content", {"data": b"new"}),
        ):
            answer = alice.open(method, path, **given)
            assert (answer.status_code, answer.json["type"]) == (503, "urn:docvault:ReadOnly"), answer.text
            assert halt.DATABASE in answer.json["detail"] and int(answer.headers["Retry-After"]) > 0
        assert bob.get(f"/documents/{document}/content").data == b"kept" * 1000
        assert bob.get("/documents").json["items"][0]["name"] == "kept.txt"
        page = vault.browser("alice").get("/")
        assert page.status_code == 200 and "Read-only." in words(page.text)
        ready = vault.app.test_client().get("/readyz")
        assert ready.status_code == 503 and halt.DATABASE in ready.json["wrong"]
    told = [json.loads(line) for line in log.getvalue().splitlines()]
    assert any(line["event"] == "database_takes_nothing" and line["level"] == "critical" for line in told)
    missing = [line for line in told if line["event"] == "download_not_recorded"]
    assert [line["object"] for line in missing] == [document], "what the chain lacks is in the log"
    assert alice.patch(f"/documents/{document}", json={"name": "room.txt"}).status_code == 200
    assert vault.app.test_client().get("/readyz").status_code == 200
    with vault.services() as bundle:
        assert bundle.check.run().findings == []
        assert bundle.chain.verify().whole


def test_f32_a_served_anchor_that_cannot_be_written_stops_changes_in_every_worker_and_recovers(
    cast_folder: tuple[Path, Vault], tmp_path: Path
) -> None:
    """Its folder is gone while the server runs, and comes back: no restart."""
    import shutil

    from tests.faults.served import until

    shutil.copytree(cast_folder[0], tmp_path / "instance")
    vault = cast_folder[1].copied_to(tmp_path / "instance")
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    server = start_vault(vault.instance, workers=2, anchor_file=folder / "anchor")
    try:
        with server.client(vault.alice.token) as alice:
            document = alice.post("/documents?name=x", content=b"x").raise_for_status().json()["id"]
            until(lambda: (folder / "anchor").exists() and anchor.read_lines(folder / "anchor"))
            folder.rename(tmp_path / "moved")

            def renamed() -> int:
                return alice.patch(f"/documents/{document}", json={"name": "y"}).status_code

            until(lambda: all(renamed() == 503 for _ in range(6)))
            refused = alice.patch(f"/documents/{document}", json={"name": "y"})
            assert refused.json()["type"] == "urn:docvault:ReadOnly"
            assert anchor.UNWRITABLE in refused.json()["detail"]
            assert alice.get(f"/documents/{document}/content").content == b"x"
            assert alice.get(f"{server.url}/readyz").json()["status"] == "read-only"
            assert vault.audit()[-1][0] == "download", "reading is still recorded"
            (tmp_path / "moved").rename(folder)
            until(lambda: all(renamed() == 200 for _ in range(6)))
        assert '"event": "read_only"' in server.log.read_text()
        assert '"event": "read_only_ended"' in server.log.read_text()
    finally:
        server.stop()
        vault.close()
