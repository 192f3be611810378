"""Backups and restores by the services: what they hold, what they lack, and that a vault comes of them."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.attacker import Attacker, flip
from tests.attacks.history import live_through
from tests.cast import MASTER_KEY, Vault, reader, settings_for
from tests.servers.postgres import PostgresServer
from vault import failpoints
from vault.app import create_app, make_empty_schema, migrate_schema
from vault.crypto.manifests import decode_parts
from vault.crypto.parts import blob_name
from vault.crypto.rows import decode_row
from vault.errors import BrokenOff, Misconfigured, SchemaTooNew
from vault.extensions import db
from vault.models import Base, Lease
from vault.services import backup, clock
from vault.services.backup import LEFT_OUT, Written
from vault.storage.archive import ArchiveReader, ArchiveWriter
from vault.wiring import services, wiring


def write(vault: Vault, path: Path, **options: Any) -> Written:
    """Back a vault up into a file."""
    with vault.services() as bundle, path.open("wb") as file:
        return bundle.backup.write(ArchiveWriter(file, clock.now()), release="tests", **options)


def restored(vault: Vault, path: Path, instance: Path, **given: Any) -> Vault:
    """Restore an archive into a new folder, with the master key of the vault that it is of; give the vault there."""
    key = vault.app.extensions["docvault"].settings.master_key.get_secret_value()
    given = {"master_key": key or (vault.instance / "master.key").read_text()} | given
    app = create_app(settings_for(instance, registration="open", **given))
    with app.app_context(), ArchiveReader(path) as archive:
        bundle = services()
        bundle.restore.refuse_unfit(archive)
        wiring().store.check()
        make_empty_schema(app, archive.about["schema"])
        bundle.restore.put_blobs(archive)
        bundle.restore.put_rows(archive)
        migrate_schema(app)
        bundle.restore.note()
        db.session.remove()
        db.engine.dispose()
    return Vault(instance, settings_for(instance, registration="open", **given), vault.members)


@contextmanager
def at(point: str, act: Any) -> Iterator[None]:
    """Do something when a backup passes a point."""

    def hook(reached: str) -> None:
        if reached == point:
            failpoints.hook = None
            act()

    failpoints.hook = hook
    try:
        yield
    finally:
        failpoints.hook = None


def log_in_again(vault: Vault, name: str) -> None:
    """Log somebody in to a vault that was restored: no session came with it."""
    with vault.services() as bundle:
        member = vault.members[name]
        logged_in = bundle.sessions.log_in(name, member.passphrase, address="127.0.0.1", client="tests")
    vault.members[name] = replace(member, account=logged_in.account, token=logged_in.token)


def findings(vault: Vault) -> list[str]:
    with vault.services() as bundle:
        return [f"{found.invariant} {found.text}" for found in bundle.check.run().findings]


@pytest.mark.parametrize("to", ["sqlite", "postgresql"])
def test_a_vault_comes_of_a_backup_on_either_database(
    any_vault: Vault, tmp_path: Path, request: pytest.FixtureRequest, to: str
) -> None:
    documents = [any_vault.upload("alice", bytes([n]) * 70_000, f"{n}.bin", share=("bob",)) for n in range(3)]
    written = write(any_vault, tmp_path / "archive")
    given: dict[str, Any] = {}
    if to == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgresql")
        given["database_url"] = server.new_database()
    other = restored(any_vault, tmp_path / "archive", tmp_path / "restored", **given)
    assert written.whole and written.blobs == written.named == 3
    assert findings(other) == []
    log_in_again(other, "bob")
    assert [other.read("bob", document) for document in documents] == [bytes([n]) * 70_000 for n in range(3)]
    other.close()


def test_every_table_is_in_it_or_said_to_be_left_out(vault: Vault, tmp_path: Path) -> None:
    """Every value comes back with its type, which the seal of its row covers; sessions stay out."""
    live_through(vault)
    write(vault, tmp_path / "archive")
    attacker = Attacker(vault)
    with ArchiveReader(tmp_path / "archive") as archive:
        told = {one["name"] for one in archive.about["tables"]}
        assert told | LEFT_OUT.keys() == {mapper.class_.__tablename__ for mapper in Base.registry.mappers}
        assert not told & LEFT_OUT.keys()
        for table in told - {"audit_entry", "audit_head"}:
            held = {row["id"]: row for row in map(decode_row, archive.rows(table))}
            assert held.keys() == {row["id"] for row in attacker.rows(table)}, table
    with tarfile.open(tmp_path / "archive") as members:
        assert not {name.split("/")[1] for name in members.getnames() if name.startswith("rows/")} - told
    token = vault.alice.token.encode()
    assert token not in (tmp_path / "archive").read_bytes()


def test_f29_a_backup_shows_one_state_whatever_happens_meanwhile(any_vault: Vault, tmp_path: Path) -> None:
    """Rows first, as one state; blobs after them. What comes meanwhile is not in it, nor half of it."""
    kept = any_vault.upload("alice", b"k" * 50_000, "kept")
    gone = any_vault.upload("alice", b"g" * 50_000, "gone", share=("bob",))

    def meanwhile() -> None:
        any_vault.upload("alice", b"n" * 50_000, "new")
        with any_vault.services() as bundle:
            bundle.documents.delete(any_vault.alice.account, [gone])
            swept = bundle.sweep.run()
            assert (swept.blobs, swept.segments) == (0, 0), "destroyed under a backup"

    with at("backup.after_rows", meanwhile):
        written = write(any_vault, tmp_path / "archive")
    assert written.whole and not written.deleted and written.blobs == 2
    other = restored(any_vault, tmp_path / "archive", tmp_path / "restored")
    assert findings(other) == []
    log_in_again(other, "bob")
    log_in_again(other, "alice")
    assert other.read("bob", gone) == b"g" * 50_000
    assert other.read("alice", kept) == b"k" * 50_000
    other.close()
    with any_vault.services() as bundle:
        assert bundle.sweep.run().blobs == 1, "the next sweep does what the backup has held up"


def test_f29_new_keys_that_destroy_the_old_content_at_once_wait_for_a_backup(
    vault: Vault, tmp_path: Path
) -> None:
    document = vault.upload("alice", b"k" * 50_000, "kept")

    def meanwhile() -> None:
        with vault.services() as bundle:
            work_id = bundle.rekey.ask(vault.alice.account, document, at_once=True)
            bundle.work.finish(vault.alice.account, work_id)

    with at("backup.after_rows", meanwhile):
        written = write(vault, tmp_path / "archive")
    assert written.whole and written.blobs == 1 and not written.deleted
    other = restored(vault, tmp_path / "archive", tmp_path / "restored")
    assert findings(other) == []
    log_in_again(other, "alice")
    assert other.read("alice", document) == vault.read("alice", document) == b"k" * 50_000
    other.close()
    with vault.services() as bundle:
        assert bundle.sweep.run().blobs == 1


def test_f29_what_is_destroyed_under_a_backup_is_told_by_name(vault: Vault, tmp_path: Path) -> None:
    """A blob that goes all the same ends no backup. It is told whether its version went too, or lost it."""
    gone = vault.upload("alice", b"g" * 50_000, "gone")
    lost = vault.upload("alice", b"l" * 50_000, "lost")
    names = blobs_by_document(vault)

    def meanwhile() -> None:
        with vault.services() as bundle:
            bundle.documents.delete(vault.alice.account, [gone])
            for document in (gone, lost):
                wired_store(vault).delete(names[document])

    with at("backup.after_rows", meanwhile):
        written = write(vault, tmp_path / "archive")
    assert (written.deleted, written.lost) == (names[gone], names[lost])
    assert not written.whole
    other = restored(vault, tmp_path / "archive", tmp_path / "restored")
    assert sorted(findings(other)) == sorted(f"I1 blob {name}: is lost" for name in names[gone] + names[lost])
    other.close()


def test_f29_a_database_without_its_blobs_and_the_reverse(vault: Vault, tmp_path: Path) -> None:
    """`check` lists exactly what is lost, and exactly what nothing names; nothing is destroyed."""
    vault.upload("alice", b"a" * 200_000, "a")
    vault.upload("bob", b"", "empty")
    names = sorted(name for each in blobs_by_document(vault).values() for name in each)
    written = write(vault, tmp_path / "archive", with_blobs=False)
    assert (written.blobs, written.named) == (0, len(names))
    other = restored(vault, tmp_path / "archive", tmp_path / "restored")
    assert sorted(findings(other)) == [f"I1 blob {name}: is lost" for name in names]
    with ArchiveReader(tmp_path / "archive") as archive:
        assert sorted(name for name, _ in archive.named()) == names
        assert all(wired_store(vault).size(name) == size for name, size in archive.named())
    for name in names:
        with wired_store(vault).get(name) as blob:
            wired_store(other).put_new(name, blob.read())
    assert findings(other) == []
    other.close()

    empty = tmp_path / "empty"
    alone = Vault(empty, settings_for(empty, master_key=MASTER_KEY))
    for name in names:
        with wired_store(vault).get(name) as blob:
            wired_store(alone).put_new(name, blob.read())
    with pytest.MonkeyPatch.context() as patch:
        later = clock.now() + timedelta(hours=2)
        patch.setattr(clock, "now", lambda: later)
        assert sorted(findings(alone)) == [f"I5 blob {name}: nothing names it (it is kept)" for name in names]
        with alone.services() as bundle:
            assert bundle.sweep.run().blobs == 0
    assert len(alone.blob_files()) == len(names)
    alone.close()


def test_a_damaged_blob_is_backed_up_as_it_is_and_told(vault: Vault, tmp_path: Path) -> None:
    vault.upload("alice", b"a" * 50_000, "a")
    (path,) = vault.blob_files()
    flip(path, -1)
    written = write(vault, tmp_path / "archive")
    assert written.damaged == [f"{path.parent.name}/{path.name}"] and not written.whole
    with ArchiveReader(tmp_path / "archive") as archive, archive.get(written.damaged[0]) as blob:
        assert blob.read() == path.read_bytes()


def test_an_upload_that_broke_off_counts_while_a_backup_keeps_its_bytes(vault: Vault, tmp_path: Path) -> None:
    with vault.services() as bundle, pytest.raises(BrokenOff):
        bundle.uploads.receive(vault.alice.account, reader(b"half"), length=8)

    def meanwhile() -> None:
        with vault.services() as bundle:
            assert bundle.sweep.run().uploads == 0

    with at("backup.after_rows", meanwhile):
        write(vault, tmp_path / "archive")
    with vault.services() as bundle:
        assert bundle.sweep.run().uploads == 1
    assert vault.blob_files() == [] and findings(vault) == []


def test_a_backup_that_died_holds_the_sweep_up_for_ten_minutes(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    doomed = vault.upload("alice", b"a", "a")
    with vault.services() as bundle:
        bundle.transactions.writing(lambda session: backup._hold(session, b"a dead backup 16"))
        bundle.documents.delete(vault.alice.account, [doomed])
        assert bundle.sweep.run().blobs == 0
        later = clock.now() + backup.HOLD
        monkeypatch.setattr(clock, "now", lambda: later)
        assert bundle.sweep.run().blobs == 1
        write_to = io.BytesIO()
        bundle.backup.write(ArchiveWriter(write_to, later), release="tests")
        with bundle.transactions.reading() as session:
            assert session.get(Lease, b"a dead backup 16") is None


def test_a_vault_whose_database_takes_nothing_in_is_backed_up_all_the_same(
    vault: Vault, tmp_path: Path
) -> None:
    vault.upload("alice", b"a", "a")
    with vault.database() as connection:
        for table in ("lease", "audit_entry"):
            connection.execute(
                f"CREATE TRIGGER no_{table} BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'no'); END"
            )
    written = write(vault, tmp_path / "archive")
    assert written.whole and written.blobs == 1
    other = restored(vault, tmp_path / "archive", tmp_path / "restored")
    assert findings(other) == []
    other.close()


def test_an_archive_that_was_cut_or_changed_is_not_restored(vault: Vault, tmp_path: Path) -> None:
    vault.upload("alice", b"a" * 50_000, "a")
    write(vault, tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    for name, changed in {
        "cut": whole[: len(whole) // 2],
        "row": whole.replace(b'"alice"', b'"alise"'),
        "head": _with(tmp_path / "whole", "rows/audit_head/000001", b'"sequence":["i",', b'"sequence":["i",1'),
        "blob": _without_blob(whole),
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(changed)
        with pytest.raises(Misconfigured, match="Nothing was restored"):
            restored(vault, tmp_path / name, tmp_path / f"{name}-restored")
    (tmp_path / "newer").write_bytes(
        _with(tmp_path / "whole", "backup.json", b'"schema": "', b'"schema": "9')
    )
    with pytest.raises(SchemaTooNew, match="newer release"):
        restored(vault, tmp_path / "newer", tmp_path / "newer-restored")
    with pytest.raises(Misconfigured, match="not the one of this backup"):
        restored(vault, tmp_path / "whole", tmp_path / "other-key", master_key=MASTER_KEY)


def test_a_backup_goes_over_no_vault_and_a_broken_restore_is_begun_again(
    vault: Vault, tmp_path: Path
) -> None:
    vault.upload("alice", b"a" * 50_000, "a")
    write(vault, tmp_path / "archive")

    def die() -> None:
        raise KeyboardInterrupt

    for point in ("restore.after_blob", "restore.before_commit"):
        with at(point, die), pytest.raises(KeyboardInterrupt):
            restored(vault, tmp_path / "archive", tmp_path / "restored")
    other = restored(vault, tmp_path / "archive", tmp_path / "restored")
    assert findings(other) == []
    other.close()
    with pytest.raises(Misconfigured, match="not empty"):
        restored(vault, tmp_path / "archive", tmp_path / "restored")


def test_backup_and_restore_stand_in_the_audit_chain(vault: Vault, tmp_path: Path) -> None:
    write(vault, tmp_path / "archive")
    assert ("backed_up", None, True, "with blobs") in vault.audit()
    other = restored(vault, tmp_path / "archive", tmp_path / "restored")
    assert other.audit()[-1][0] == "restored"
    other.close()


def wired_store(vault: Vault) -> Any:
    return vault.app.extensions["docvault"].store


def blobs_by_document(vault: Vault) -> dict[bytes, list[str]]:
    """The blobs of each document's versions, by name."""
    attacker = Attacker(vault)
    lists = {row["id"]: decode_parts(row["parts"]) for row in attacker.rows("part_list")}
    return {
        row["document_id"]: [blob_name(p.segment, p.offset, p.suffix) for p in lists[row["id"]]]
        for row in attacker.rows("document_version")
    }


def _with(path: Path, member: str, old: bytes, new: bytes) -> bytes:
    """The archive with one member changed, and the digest of the rows made to fit, as a forger would."""
    out = io.BytesIO()
    digest = hashlib.sha256()
    with (
        tarfile.open(path) as source,
        tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as made,
    ):
        for info in source:
            data = source.extractfile(info).read()  # type: ignore[union-attr]
            data = data.replace(old, new) if info.name == member else data
            if info.name.startswith("rows/"):
                digest.update(data)
            if info.name == "end.json":
                data = json.dumps(json.loads(data) | {"rows_sha256": digest.hexdigest()}).encode()
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))
    return out.getvalue()


def _without_blob(whole: bytes) -> bytes:
    out = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(whole)) as old,
        tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as new,
    ):
        for info in old:
            if not info.name.startswith("blobs/"):
                new.addfile(info, old.extractfile(info))
    return out.getvalue()
