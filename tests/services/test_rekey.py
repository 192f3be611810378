"""Re-key: one generation is read at any time, the readers of the last moment get new keys, the old blobs go."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from tests.attacks.attacker import Attacker
from tests.attacks.test_keys import put_public_key
from tests.cast import MASTER_KEY, Vault, reader
from tests.house import refill
from tests.servers.s3 import S3Server
from tests.services.test_documents import s3_settings
from tests.tus import Tus
from vault.crypto.keypairs import generate_keys
from vault.crypto.rekey import seal_rekey_cursor
from vault.errors import Conflict, Forbidden, NotFound, StoreUnavailable, Unreadable
from vault.models import Document, DocumentVersion, Upload
from vault.services import clock, work
from vault.services.quota import REKEY
from vault.wiring import Services

PART = 16384
CONTENT = os.urandom(5 * PART + 100)


@pytest.fixture(scope="module")
def standing_small(
    cast_folder: tuple[Path, Vault], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Vault]:
    folder, made = cast_folder
    instance = tmp_path_factory.mktemp("rekey") / "instance"
    shutil.copytree(folder, instance)
    own = made.copied_to(instance, part_size=PART)
    yield own
    own.close()


@pytest.fixture
def vault(standing_small: Vault, cast_folder: tuple[Path, Vault]) -> Iterator[Vault]:
    """A vault with parts of 16 KiB, which is whole at the end of the test."""
    own = refill(standing_small, cast_folder[0], cast_folder[1].members)
    yield own
    assert findings(own) == []


@pytest.fixture(params=["sqlite", "postgresql"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Vault]:
    """The same on each database in turn, for what transactions and locks decide."""
    if request.param == "sqlite":
        yield request.getfixturevalue("vault")
        return
    server = request.getfixturevalue("postgresql")
    folder, made, url = request.getfixturevalue("postgresql_cast")
    shutil.copytree(folder, tmp_path / "instance")
    database = server.new_database(url)
    own = made.copied_to(tmp_path / "instance", database_url=database, master_key=MASTER_KEY, part_size=PART)
    yield own
    assert findings(own) == []
    own.close()


def findings(vault: Vault) -> list[Any]:
    with vault.services() as bundle:
        return list(bundle.check.run().findings)


def rekey(vault: Vault, document: bytes, *, at_once: bool = False) -> None:
    with vault.services() as bundle:
        work_id = bundle.rekey.ask(vault.alice.account, document, at_once=at_once)
        bundle.work.finish(vault.alice.account, work_id)
        assert bundle.work.open(vault.alice.account) == []


def step(bundle: Services, vault: Vault, work_id: bytes) -> int | None:
    """Let the work go on by one part; return how many parts are done, nothing when it is over."""
    view = bundle.work.go_on(vault.alice.account, work_id, seconds=0)
    return None if view is None else view.done


def view(vault: Vault, document: bytes, who: str = "alice") -> Any:
    with vault.services() as bundle:
        return bundle.documents.view(vault.members[who].account, document)


def versions(vault: Vault, document: bytes) -> list[Any]:
    with vault.services() as bundle, bundle.transactions.reading() as session:
        return list(
            session.scalars(select(DocumentVersion).where(DocumentVersion.document_id == document)).all()
        )


def segments(vault: Vault) -> set[str]:
    return {path.parent.name for path in vault.blob_files()}


def sweep_later(vault: Vault, after: timedelta) -> None:
    with pytest.MonkeyPatch.context() as patch, vault.services() as bundle:
        later = clock.now() + after
        patch.setattr(clock, "now", lambda: later)
        bundle.sweep.run()


def test_a_document_has_new_keys_and_everything_else_as_it_was(anywhere: Vault) -> None:
    vault = anywhere
    document = vault.upload("alice", CONTENT, name="plan.odt", share=("bob", "charlie"))
    before, seen_by_bob = view(vault, document), view(vault, document, "bob")
    old = segments(vault)
    rekey(vault, document)
    after = view(vault, document)
    assert (after.number, after.revision, after.generation) == (2, 0, 2)
    assert before.generation == 1 and before.rekeyed_at is None and after.rekeyed_at is not None
    assert after.etag != before.etag and after.rekey is None
    for name in ("name", "media_type", "size", "sha256", "date", "created_at", "readers", "readers_list"):
        assert getattr(after, name) == getattr(before, name), name
    assert view(vault, document, "bob").date == seen_by_bob.date, "nothing is new to its readers"
    for who in ("alice", "bob", "charlie"):
        assert vault.read(who, document) == CONTENT
    assert len(versions(vault, document)) == 1
    assert segments(vault) > old, "the old blobs have an hour of grace"
    sweep_later(vault, timedelta(minutes=59))
    assert segments(vault) > old
    sweep_later(vault, timedelta(minutes=61))
    assert not segments(vault) & old and vault.read("bob", document) == CONTENT


@pytest.mark.parametrize(
    "content", [b"", b"x", CONTENT[:PART], CONTENT[: PART + 1]], ids=["0", "1", "part", "part+1"]
)
def test_every_size_is_rekeyed_and_at_once_leaves_nothing_of_the_old(vault: Vault, content: bytes) -> None:
    document = vault.upload("alice", content, share=("bob",))
    old = segments(vault)
    rekey(vault, document, at_once=True)
    assert not segments(vault) & old, "no sweep was needed"
    assert vault.read("alice", document) == vault.read("bob", document) == content
    rekey(vault, document, at_once=True)
    assert view(vault, document).generation == 3 and vault.read("bob", document) == content


def test_it_goes_on_part_by_part_and_the_old_generation_is_read_meanwhile(vault: Vault) -> None:
    document = vault.upload("alice", CONTENT, share=("bob",))
    with vault.services() as bundle:
        work_id = bundle.rekey.ask(vault.alice.account, document)
        assert bundle.rekey.ask(vault.alice.account, document) == work_id, "twice is once"
        for expected in range(1, 6):
            assert step(bundle, vault, work_id) == expected
            assert vault.read("bob", document) == CONTENT
            assert view(vault, document).rekey == work_id and view(vault, document, "bob").rekey is None
        assert step(bundle, vault, work_id) is None
    assert vault.read("bob", document) == CONTENT and view(vault, document).generation == 2


def test_another_part_size_changes_nothing_of_work_that_has_begun(vault: Vault) -> None:
    document = vault.upload("alice", CONTENT)
    other = vault.reopened(part_size=2 * PART)
    with other.services() as bundle:
        work_id = bundle.rekey.ask(vault.alice.account, document)
        assert step(bundle, other, work_id) == 1
        (shown,) = bundle.work.open(vault.alice.account)
        assert shown.total == 3
    other.close()
    with vault.services() as bundle:
        assert step(bundle, vault, work_id) == 2
        assert step(bundle, vault, work_id) is None
    assert vault.read("alice", document) == CONTENT


def test_a_document_of_many_segments_becomes_one_of_one(vault: Vault) -> None:
    """As tus makes them of partial uploads: parts of every length, none where a new one begins."""
    tus, places = Tus(vault), []
    for piece in (CONTENT[:100], CONTENT[100 : 3 * PART], CONTENT[3 * PART :]):
        places.append(tus.begin(len(piece), Upload_Concat="partial"))
        assert tus.patch(places[-1], 0, piece).status_code == 204
    document = bytes.fromhex(tus.join(*places).headers["X-Vault-Document"])
    assert len(segments(vault)) == 3
    rekey(vault, document, at_once=True)
    assert vault.read("alice", document) == CONTENT and len(segments(vault)) == 1


def test_the_readers_are_those_of_the_last_moment(anywhere: Vault) -> None:
    vault, alice = anywhere, anywhere.alice.account
    document = vault.upload("alice", CONTENT, share=("bob",))
    with vault.services() as bundle:
        work_id = bundle.rekey.ask(alice, document)
        step(bundle, vault, work_id)
        bundle.sharing.share(alice, [document], ["charlie", "dora"])
        step(bundle, vault, work_id)
        bundle.sharing.revoke(alice, [document], ["bob"])
        bundle.sharing.leave(vault.dora.account, [document])
        bundle.work.finish(alice, work_id)
    assert vault.read("charlie", document) == CONTENT
    for gone in ("bob", "dora"):
        with pytest.raises(NotFound):
            vault.read(gone, document)
    assert view(vault, document).readers == 1


def test_a_revocation_asks_for_it_in_its_own_transaction(vault: Vault) -> None:
    alice = vault.alice.account
    ids = [vault.upload("alice", CONTENT, share=("bob", "charlie")) for _ in range(2)]
    other = vault.upload("alice", CONTENT, share=("charlie",))
    with vault.services() as bundle:
        works = bundle.sharing.revoke(alice, [*ids, other], ["bob"], rekey=True, at_once=True)
        assert len(works) == 2, "what Bob could not read keeps its keys"
        for work_id in works:
            bundle.work.finish(alice, work_id)
    assert [view(vault, document).generation for document in (*ids, other)] == [2, 2, 1]
    assert all(vault.read("charlie", document) == CONTENT for document in ids)


def test_a_reader_whose_fingerprint_is_not_confirmed_waits(vault: Vault) -> None:
    document = vault.upload("alice", CONTENT, share=("bob", "charlie"))
    attacker = Attacker(vault)
    row = attacker.row("user_key", user_id=vault.bob.account.user_id)
    put_public_key(attacker, vault.bob.account.user_id, generate_keys(), master_key=True)
    rekey(vault, document)
    waiting = attacker.row("work")
    assert (waiting["kind"], waiting["other_id"]) == ("wrap", vault.bob.account.user_id)
    grants = {row["reader_id"] for row in attacker.rows("shared_key_registry")}
    assert grants == {vault.alice.account.user_id, vault.charlie.account.user_id}
    assert vault.read("charlie", document) == CONTENT
    attacker.put("user_key", row)


@pytest.mark.parametrize("change", ["replace", "rename"])
def test_what_changes_meanwhile_wins_and_the_work_begins_anew(anywhere: Vault, change: str) -> None:
    vault, alice = anywhere, anywhere.alice.account
    document = vault.upload("alice", CONTENT, share=("bob",))
    with vault.services() as bundle:
        work_id = bundle.rekey.ask(alice, document)
        step(bundle, vault, work_id)
        if change == "replace":
            bundle.uploads.receive(alice, reader(CONTENT[::-1]), document_id=document)
        else:
            bundle.documents.rename(alice, document, "new name")
        with pytest.raises(Conflict):
            step(bundle, vault, work_id)
        bundle.work.finish(alice, work_id)
    shown = view(vault, document)
    assert vault.read("bob", document) == (CONTENT[::-1] if change == "replace" else CONTENT)
    assert shown.generation == 2 and shown.name == ("hello.txt" if change == "replace" else "new name")
    sweep_later(vault, timedelta(hours=2))
    assert len(segments(vault)) == (2 if change == "replace" else 1)


def test_two_requests_at_one_work_write_each_part_once(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes second at a part leaves it to the first, and is not refused; the swap happens once."""
    document, alice = vault.upload("alice", CONTENT, share=("bob",)), vault.alice.account
    store = vault.app.extensions["docvault"].store
    with vault.services() as bundle:
        work_id = bundle.rekey.ask(alice, document)
        assert step(bundle, vault, work_id) == 1
        begun = bundle.rekey._open(alice, work_id)
        assert step(bundle, vault, work_id) == 2
        assert bundle.rekey._copy(alice, begun, 0) == 2, "proved, not written again"
        with pytest.raises(Conflict):
            bundle.rekey._note(alice, begun, 2)
        monkeypatch.setattr(store, "list", lambda prefix="": iter(()))
        assert bundle.rekey._copy(alice, begun, 0) == 1, "a part that appears while one looks is no error"
        monkeypatch.undo()
        bundle.work.finish(alice, work_id)
    assert vault.read("bob", document) == CONTENT


def test_parts_that_were_written_and_not_noted_are_kept_if_they_open(vault: Vault) -> None:
    document, alice = vault.upload("alice", CONTENT), vault.alice.account
    with vault.services() as bundle:
        work_id = bundle.rekey.ask(alice, document)
        bundle.rekey._begin(alice, bundle.rekey._open(alice, work_id))
        begun = bundle.rekey._open(alice, work_id)
        bundle.rekey._copy(alice, begun, float("inf"))
        blob = vault.blobs / begun.name(2)
        whole = blob.read_bytes()
        blob.chmod(0o600)
        blob.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(Unreadable):
            bundle.work.finish(alice, work_id)
        assert vault.read("alice", document) == CONTENT, "a damaged new part costs nothing of the old"
        blob.write_bytes(whole)
        made = {path: path.stat().st_mtime_ns for path in vault.blobs.glob(f"{begun.segment.hex()}/*")}
        bundle.work.finish(alice, work_id)
        kept = {path: path.stat().st_mtime_ns for path in vault.blobs.glob(f"{begun.segment.hex()}/*")}
        assert made == kept, "none was written again"
    assert vault.read("alice", document) == CONTENT


def test_a_part_that_is_lost_before_the_swap_keeps_the_old_generation(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    document, alice = vault.upload("alice", CONTENT), vault.alice.account
    with vault.services() as bundle:
        work_id = bundle.rekey.ask(alice, document)
        step(bundle, vault, work_id)
        (vault.blobs / bundle.rekey._open(alice, work_id).name(0)).unlink()
        with pytest.raises(Unreadable):
            bundle.work.finish(alice, work_id)
        assert vault.read("alice", document) == CONTENT
        bundle.rekey.give_up(alice, document)
    rekey(vault, document)
    assert vault.read("alice", document) == CONTENT and view(vault, document).generation == 2


def test_damage_in_the_old_content_is_told_and_changes_nothing(vault: Vault) -> None:
    document = vault.upload("alice", CONTENT, share=("bob",))
    blob = Attacker(vault).blob(document, 3)
    whole = blob.read_bytes()
    blob.chmod(0o600)
    blob.write_bytes(whole[:200] + bytes(100) + whole[300:])
    with pytest.raises(Unreadable):
        rekey(vault, document)
    assert ("integrity_failure", document.hex(), False, "chunk") in vault.audit()
    assert view(vault, document).generation == 1
    blob.write_bytes(whole)
    rekey(vault, document)
    assert vault.read("bob", document) == CONTENT


def test_a_store_that_is_away_costs_nothing(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    document, alice = vault.upload("alice", CONTENT), vault.alice.account
    store = vault.app.extensions["docvault"].store

    def away(*_: object, **__: object) -> None:
        raise StoreUnavailable

    with vault.services() as bundle:
        work_id = bundle.rekey.ask(alice, document, at_once=True)
        for verb in ("list", "put_new", "get"):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(store, verb, away)
                with pytest.raises(StoreUnavailable):
                    step(bundle, vault, work_id)
        monkeypatch.setattr(store, "delete", away)
        bundle.work.finish(alice, work_id)
        assert len(segments(vault)) == 2, "the tombstone is there, the sweep will do it"
        monkeypatch.undo()
        bundle.sweep.run()
    assert len(segments(vault)) == 1 and vault.read("alice", document) == CONTENT


def test_what_waits_longer_than_its_parts_live_begins_anew(vault: Vault) -> None:
    document, alice = vault.upload("alice", CONTENT), vault.alice.account
    with vault.services() as bundle:
        work_id = bundle.rekey.ask(alice, document, at_once=True)
        assert step(bundle, vault, work_id) == 1
    sweep_later(vault, timedelta(days=3))
    with vault.services() as bundle:
        assert step(bundle, vault, work_id) == 1, "from the beginning"
        bundle.work.finish(alice, work_id)
    assert vault.read("alice", document) == CONTENT and len(segments(vault)) == 1


def test_work_that_goes_on_daily_keeps_its_parts(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    document, alice, now = vault.upload("alice", CONTENT), vault.alice.account, clock.now
    with vault.services() as bundle:
        work_id = bundle.rekey.ask(alice, document)
        for day in range(5):
            monkeypatch.setattr(clock, "now", lambda day=day: now() + timedelta(days=day))
            bundle.sweep.run()
            assert step(bundle, vault, work_id) == day + 1
        assert step(bundle, vault, work_id) is None
        monkeypatch.undo()
    assert vault.read("alice", document) == CONTENT


def test_it_is_given_up_or_its_document_deleted(anywhere: Vault) -> None:
    vault, alice = anywhere, anywhere.alice.account
    kept, gone = vault.upload("alice", CONTENT, share=("bob",)), vault.upload("alice", CONTENT)
    with vault.services() as bundle:
        for document in (kept, gone):
            work_id = bundle.rekey.ask(alice, document)
            step(bundle, vault, work_id)
            bundle.rekey.give_up(alice, kept) if document == kept else bundle.documents.delete(alice, [gone])
            with pytest.raises(NotFound):
                bundle.work.go_on(alice, work_id)
    rekey(vault, kept, at_once=True)
    with vault.services() as bundle:
        bundle.documents.delete(alice, [kept])
    sweep_later(vault, timedelta(days=3))
    assert vault.blob_files() == []
    with vault.services() as bundle, bundle.transactions.reading() as session:
        assert session.scalars(select(Document)).all() == session.scalars(select(Upload)).all() == []


@pytest.mark.parametrize("who", ["bob", "charlie", "dora"])
def test_it_is_the_owners_alone(vault: Vault, who: str) -> None:
    document, other = vault.upload("alice", CONTENT, share=("bob",)), vault.members[who].account
    with vault.services() as bundle:
        with pytest.raises(Forbidden if who == "bob" else NotFound):
            bundle.rekey.ask(other, document)
        work_id = bundle.rekey.ask(vault.alice.account, document)
        with pytest.raises(Forbidden if who == "bob" else NotFound):
            bundle.rekey.give_up(other, document)
        with pytest.raises(NotFound):
            bundle.work.go_on(other, work_id)


def test_no_quota_refuses_it_and_it_is_no_open_upload(vault: Vault) -> None:
    document = vault.upload("alice", CONTENT)
    tight = vault.reopened(quota_bytes=len(CONTENT) + 3000, max_open_uploads=1, part_size=PART)
    alice = vault.alice.account
    with tight.services() as bundle:
        work_id = bundle.rekey.ask(alice, document)
        assert step(bundle, tight, work_id) == 1
        Tus(tight).begin(1)
        bundle.work.finish(alice, work_id)
        with bundle.transactions.reading() as session:
            assert REKEY not in {row.kind for row in session.scalars(select(Upload))}
    assert tight.read("alice", document) == CONTENT
    tight.close()


def test_a_cursor_of_before_the_account_key_was_changed_begins_anew(vault: Vault) -> None:
    document, alice = vault.upload("alice", CONTENT), vault.alice.account
    with vault.services() as bundle:
        work_id = bundle.rekey.ask(alice, document)
        step(bundle, vault, work_id)
        cursor = bundle.rekey._open(alice, work_id).cursor
        sealed = seal_rekey_cursor(os.urandom(32), cursor, work=work_id, user=alice.user_id)
        attacker = Attacker(vault)
        attacker.update("work", work_id, cursor=work._HEAD.pack(1, 0) + sealed)
        attacker.reseal("work", work_id)
        bundle.work.finish(alice, work_id)
    assert vault.read("alice", document) == CONTENT and view(vault, document).generation == 2


# Downloads beside it


def test_a_download_under_way_ends_with_the_old_generation_or_is_cut_off_when_asked(vault: Vault) -> None:
    ids = {grace: vault.upload("alice", CONTENT, share=("bob",)) for grace in (True, False)}
    with vault.services() as bundle:
        begun = {
            grace: iter(bundle.downloads.open(vault.bob.account, document).stream(0, len(CONTENT)))
            for grace, document in ids.items()
        }
        first = {grace: next(pieces) for grace, pieces in begun.items()}
    for grace, document in ids.items():
        rekey(vault, document, at_once=not grace)
    with vault.services():
        assert first[True] + b"".join(begun[True]) == CONTENT
        with pytest.raises(Conflict):
            list(begun[False])
    acts = [(act, detail) for act, about, _, detail in vault.audit() if about == ids[False].hex()]
    assert ("download_cut", "rekeyed") in acts
    assert not [act for act, _ in acts if act == "integrity_failure"], "nothing is damaged"


def test_a_download_that_was_opened_before_and_begins_after_is_told_to_try_again(vault: Vault) -> None:
    document = vault.upload("alice", CONTENT, share=("bob",))
    with vault.services() as bundle:
        opened = bundle.downloads.open(vault.bob.account, document)
    rekey(vault, document, at_once=True)
    with vault.services(), pytest.raises(Conflict):
        opened.stream(0, len(CONTENT))
    assert "integrity_failure" not in {act for act, *_ in vault.audit()}


@pytest.mark.s3
def test_it_works_over_an_s3_store(seaweedfs: S3Server, vault: Vault) -> None:
    remote = vault.reopened(part_size=PART, **s3_settings(seaweedfs))
    document = remote.upload("alice", CONTENT, share=("bob",))
    rekey(remote, document, at_once=True)
    assert remote.read("bob", document) == CONTENT
    assert findings(remote) == []
    with remote.services() as bundle:
        bundle.documents.delete(vault.alice.account, [document])
        bundle.sweep.run()
    remote.close()
