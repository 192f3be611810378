"""The check and its invariants, without any passphrase; deep, with repair, and with the server at work."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from tests.attacks.attacker import Attacker, another, flip, write_blob
from tests.attacks.history import live_through
from tests.cast import Vault, reader
from tests.house import standing, vault
from vault.config import load_settings
from vault.crypto.randomness import new_id
from vault.errors import AuditBroken, StoreUnavailable
from vault.services import check, clock
from vault.services.check import Finding, Report
from vault.wiring import make_master_keys

__all__ = ["standing", "vault"]

OTHER_KEY = "b7" * 32


def run(vault: Vault, **options: Any) -> Report:
    with vault.services() as bundle:
        return bundle.check.run(**options)


def found(vault: Vault, *, deep: bool = True) -> list[tuple[str, str]]:
    return [(finding.invariant, finding.text) for finding in run(vault, deep=deep).findings]


def age(vault: Vault, days: float) -> None:
    """Make every blob older."""
    then = (clock.now() - timedelta(days=days)).timestamp()
    for path in vault.blob_files():
        os.utime(path, (then, then))


def lose(vault: Vault, document: bytes) -> list[str]:
    """Delete a document whose tombstone never comes to be: a bug, or a restored database. Returns its blobs."""
    names = Attacker(vault).blob_names(document)
    with vault.services() as bundle:
        bundle.documents.delete(vault.alice.account, [document])
        (bundle.sweep._store, kept) = (Deaf(), bundle.sweep._store)
        bundle.sweep.run()
        bundle.sweep._store = kept
    return names


class Deaf:
    """A store that says it has deleted, and has not."""

    def list(self, prefix: str = "") -> list[Any]:
        return []

    def delete(self, names: Any) -> None:
        assert list(names) == []


def test_a_whole_vault_has_no_finding_and_every_blob_is_read(any_vault: Vault) -> None:
    live_through(any_vault)
    report = run(any_vault, deep=True)
    assert report.findings == []
    assert report.blobs_read == report.counted["blob"] < len(any_vault.blob_files()), "what is buried waits"
    assert report.counted["user"] == 4 and report.counted["shared_key_registry"] >= 5
    assert report.seconds > 0


def test_progress_is_told_to_its_end(vault: Vault) -> None:
    vault.upload("alice", b"x" * 100_000)
    told: list[tuple[str, int, int]] = []
    report = run(vault, deep=True, told=lambda *step: told.append(step))
    rows = [step for step in told if step[0] == "rows"]
    assert rows[-1][1] == rows[-1][2] == sum(report.counted.values()) - report.counted["blob"]
    assert told[-1] == ("bytes", report.read_bytes, report.read_bytes)


# I1, I5: what is there, and what is not


def test_i1_a_missing_and_a_shortened_blob_name_their_document(vault: Vault) -> None:
    lost, short = vault.upload("alice", b"lost"), vault.upload("alice", b"short")
    vault.upload("alice", b"whole")
    attacker = Attacker(vault)
    attacker.blob(lost).unlink()
    write_blob(attacker.blob(short), b"x" * 10)
    for deep in (False, True):
        findings = run(vault, deep=deep).findings
        assert {(each.invariant, each.document_id, each.owner_id) for each in findings} == {
            ("I1", lost, vault.alice.account.user_id),
            ("I1", short, vault.alice.account.user_id),
        }


def test_i1_another_part_list_is_seen_even_where_its_seal_fits(vault: Vault) -> None:
    one, other = (vault.upload("alice", content) for content in (b"first", b"other"))
    attacker = Attacker(vault)
    versions = [attacker.row("document", id=each)["version_id"] for each in (one, other)]
    parts = [attacker.row("part_list", id=version)["parts"] for version in versions]
    attacker.update("part_list", versions[0], parts=parts[1])
    attacker.reseal("part_list", versions[0])
    findings = found(vault, deep=False)
    assert ("I2", f"document_version {versions[0].hex()}: its part list is another one") in findings


def test_a_document_that_is_deleted_meanwhile_is_no_finding(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = vault.upload("alice", b"x")
    with vault.services() as bundle:
        plain = bundle.check._blobs

        def delete_first(*given: Any) -> None:
            with vault.services() as other:
                other.documents.delete(vault.alice.account, [document])
                other.sweep.run()
            plain(*given)

        monkeypatch.setattr(bundle.check, "_blobs", delete_first)
        assert bundle.check.run(deep=True).findings == []
    assert vault.blob_files() == []


def test_i5_a_blob_that_nothing_names_is_told_after_an_hour(vault: Vault) -> None:
    vault.upload("alice", b"kept")
    (name,) = lose(vault, vault.upload("alice", b"forgotten"))
    assert found(vault) == [], "it may belong to a document that is just being made"
    age(vault, 0.1)
    assert found(vault) == [("I5", f"blob {name}: nothing names it (it is kept)")]


# I9, I10


@pytest.mark.parametrize("deep", [False, True])
def test_i9_no_row_is_under_a_key_that_is_retired(vault: Vault, deep: bool) -> None:
    """The old key is retired while rows are still under it; only those written since are under a known one."""
    vault.upload("alice", b"x")
    old = (vault.instance / "master.key").read_text().strip()
    both = vault.reopened(master_key=OTHER_KEY, master_key_fallbacks=old)
    with both.services() as bundle:
        bundle.accounts.set_role(None, "bob", "admin")
        assert bundle.check.run(deep=deep).findings == [], "announced and promoted: both open"
        (bundle.check._master, both_keys) = (load_settings_keys(), bundle.check._master)
        bundle.transactions.session.info["master_keys"] = bundle.check._master
        findings = bundle.check.run(deep=deep).findings
        bundle.transactions.session.info["master_keys"] = both_keys
    both.close()
    away = {finding.text.split(":")[0]: finding.text for finding in findings if finding.invariant == "I9"}
    assert "3 rows are sealed under a master key that is not here" in away["user"], (
        "Bob's row is under the new one"
    )
    assert "a row is sealed" in away["document"]
    assert {finding.invariant for finding in findings} <= {"I3", "I6", "I7", "I9", "I1"}
    assert not [each for each in findings if "lost it" in each.text], "a key that is away has lost no row"


def load_settings_keys() -> Any:
    """The keys of a server that knows the new master key alone."""
    return make_master_keys(load_settings(_env_file=None, master_key=OTHER_KEY))


def test_i9_a_directory_entry_under_a_retired_key_is_told(vault: Vault) -> None:
    attacker = Attacker(vault)
    key = attacker.rows("user_key")[0]
    attacker.update("user_key", key["id"], directory_key_id=new_id()[:8])
    attacker.reseal("user_key", key["id"])
    said = f"user_key {key['id'].hex()}: needs a master key that is not here"
    assert ("I9", said) in found(vault)
    assert said not in str(found(vault, deep=False)), "the seal alone fits"


@pytest.mark.parametrize("at", [0, 60, -1], ids=["first", "middle", "last"])
def test_i10_one_flipped_bit_in_a_blob_is_found_without_any_key(vault: Vault, at: int) -> None:
    document = vault.upload("alice", b"x" * 100_000)
    vault.upload("alice", b"whole")
    path = Attacker(vault).blob(document)
    flip(path, at)
    name = f"{path.parent.name}/{path.name}"
    (finding,) = run(vault, deep=True).findings
    assert (finding.invariant, finding.text) == ("I10", f"blob {name}: does not match its digest")
    assert finding.document_id == document and finding.owner_id == vault.alice.account.user_id
    assert found(vault, deep=False) == [("I10", finding.text)], "of two blobs both are drawn"


def test_i10_a_sample_is_drawn_by_lot(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "SAMPLE", 2)
    for number in range(5):
        vault.upload("alice", bytes([number]))
    read: set[str] = set()
    with vault.services() as bundle:
        judge = bundle.check._judge
        monkeypatch.setattr(bundle.check, "_judge", lambda name: (read.add(name), judge(name))[1])
        for _ in range(60):
            report = bundle.check.run()
            assert report.findings == [] and report.blobs_read == 2
    assert len(read) == 5, "each comes up sooner or later"


def test_i10_the_blobs_of_an_upload_under_way_are_read_too(vault: Vault) -> None:
    with vault.services() as bundle:
        draft = bundle.uploads.store(vault.alice.account, reader(b"x" * 1000))
    (path,) = vault.blob_files()
    assert run(vault, deep=True).findings == []
    flip(path, -1)
    assert found(vault) == [("I10", f"blob {path.parent.name}/{path.name}: does not match its digest")]
    assert draft.received.length == 1000


def test_a_blob_that_cannot_be_read_is_a_finding_but_a_store_that_is_away_is_not(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = vault.upload("alice", b"broken")
    for _ in range(4):
        vault.upload("alice", b"whole")
    name = Attacker(vault).blob_names(broken)[0]
    store = vault.app.extensions["docvault"].store
    get = store.get

    def bad_sector(asked: str, *where: Any) -> Any:
        if asked == name:
            raise StoreUnavailable
        return get(asked, *where)

    def away(asked: str, *where: Any) -> Any:
        raise StoreUnavailable

    monkeypatch.setattr(store, "get", bad_sector)
    assert found(vault) == [("I10", f"blob {name}: cannot be read")]
    monkeypatch.setattr(check, "HOPELESS", 3)
    monkeypatch.setattr(store, "get", away)
    with pytest.raises(StoreUnavailable, match="given up"):
        run(vault, deep=True)


# I2, I4: rows put back, removed, edited by somebody who has the master key


def test_rows_put_back_or_removed_are_told_with_their_document(vault: Vault) -> None:
    document = vault.upload("alice", b"x", share=("bob",))
    removed = vault.upload("alice", b"removed")
    attacker = Attacker(vault)
    before = attacker.rows("shared_key_registry", document_id=document)
    row = attacker.row("document", id=document)
    (gone,) = (each["id"] for each in before if each["reader_id"] == vault.bob.account.user_id)
    with vault.services() as bundle:
        bundle.sharing.revoke(vault.alice.account, [document], ["bob"])
    attacker.put("shared_key_registry", *before)
    attacker.put("document", row)
    version = attacker.row("document", id=removed)["version_id"]
    attacker.remove("part_list", version)
    findings = run(vault, deep=True).findings
    texts = {(each.invariant, each.text) for each in findings}
    assert any(text.startswith(f"document {document.hex()}: is version 1, the audit") for _, text in texts)
    assert ("I4", f"shared_key_registry {gone.hex()}: no audit entry knows this row") in texts
    assert ("I4", f"part_list {version.hex()}: the audit chain knows this row, the database lost it") in texts
    assert {each.document_id for each in findings} == {document, removed}


SIGNED = [
    ("document_version", "sealed_manifest", "its signature does not fit"),
    ("document_version", "owner_key_version", "the key that signed it is missing or not vouched for"),
    ("shared_key_registry", "expires_at", "its signature does not fit"),
    ("shared_key_registry", "permission", "its signature does not fit"),
    ("user_key", "sign_public", "its public keys are not those of the directory"),
    ("user_key", "directory_mac", "its public keys are not those of the directory"),
    ("unlock_method", "sealed_account_key", "its outer seal does not open"),
    ("unlock_method", "salt", "its outer seal does not open"),
]


@pytest.mark.parametrize(("table", "column", "said"), SIGNED, ids=lambda value: str(value).replace(" ", "-"))
def test_what_the_row_seal_cannot_tell_any_more_a_deep_check_does(
    vault: Vault, table: str, column: str, said: str
) -> None:
    """The attacker has the master key: he edits a column and seals the row anew."""
    vault.upload("alice", b"x", share=("bob",))
    attacker = Attacker(vault)
    row = attacker.rows(table)[0]
    attacker.update(table, row["id"], **{column: another(table, column, row[column])})
    attacker.reseal(table, row["id"])
    assert ("I2", f"{table} {row['id'].hex()}: {said}") in found(vault)


def test_what_a_retired_key_has_signed_is_told(vault: Vault) -> None:
    document = vault.upload("alice", b"x")
    attacker = Attacker(vault)
    key = attacker.row("user_key", user_id=vault.alice.account.user_id)
    attacker.update("user_key", key["id"], retired_at=key["created_at"])
    attacker.reseal("user_key", key["id"])
    version = attacker.row("document", id=document)["version_id"]
    assert ("I2", f"document_version {version.hex()}: is signed with a retired key") in found(vault)


# At risk


def test_documents_with_one_living_reader_and_accounts_without_recovery(vault: Vault) -> None:
    alone, shared = vault.upload("alice", b"alone"), vault.upload("alice", b"shared", share=("bob",))
    theirs = vault.upload("charlie", b"left behind", share=("bob",))
    report = run(vault)
    alice, charlie = vault.alice.account.user_id, vault.charlie.account.user_id
    assert report.risks.one_reader == {alone: alice} and report.risks.no_reader == {}
    assert report.risks.no_recovery == sorted(member.account.user_id for member in vault.members.values())
    with vault.services() as bundle:
        for name in ("bob", "charlie"):
            bundle.accounts.set_state(None, name, "disabled")
    report = run(vault)
    assert report.whole, "a risk is no damage"
    assert report.risks.one_reader == {alone: alice, shared: alice}
    assert report.risks.no_reader == {theirs: charlie}
    assert charlie not in report.risks.no_recovery


def test_an_expired_grant_makes_nobody_a_living_reader(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    document = vault.upload("alice", b"x")
    with vault.services() as bundle:
        until = clock.now() + timedelta(hours=1)
        bundle.sharing.share(vault.alice.account, [document], ["bob"], expires_at=until)
    assert run(vault).risks.one_reader == {}
    later = clock.now() + timedelta(hours=2)
    monkeypatch.setattr(clock, "now", lambda: later)
    assert list(run(vault).risks.one_reader) == [document]


# Repair


def test_f19_repair_moves_what_nothing_names_for_30_days_and_nothing_else(vault: Vault) -> None:
    kept = vault.upload("alice", b"kept")
    old, young = (lose(vault, vault.upload("alice", content)) for content in (b"old", b"young"))
    with vault.services() as bundle:
        bundle.uploads.store(vault.alice.account, reader(b"under way"))
        deleted = vault.upload("alice", b"deleted, not swept yet")
        bundle.documents.delete(vault.alice.account, [deleted])
    age(vault, 29)
    assert repaired(vault) == []
    age(vault, 31)
    then = (clock.now() - timedelta(days=29)).timestamp()
    os.utime(vault.blobs / young[0], (then, then))
    before = {path: path.read_bytes() for path in vault.blob_files()}
    assert repaired(vault) == old
    (moved,) = vault.blobs.glob(f".quarantine/*/{old[0]}")
    assert moved.read_bytes() == before.pop(vault.blobs / old[0]), "nothing is destroyed"
    assert {path: path.read_bytes() for path in vault.blob_files()} == before
    assert ("quarantine", None, True, "1 blobs") in vault.audit()
    assert vault.read("alice", kept) == b"kept"
    assert repaired(vault) == []


def repaired(vault: Vault) -> list[str]:
    with vault.services() as bundle:
        return bundle.check.repair(bundle.check.run())


@pytest.mark.parametrize("harm", ["row removed", "row edited", "chain cut"])
def test_repair_moves_nothing_while_rows_are_missing_or_damaged(vault: Vault, harm: str) -> None:
    document = vault.upload("alice", b"somebody removed its rows")
    lose(vault, vault.upload("alice", b"forgotten"))
    age(vault, 40)
    version = Attacker(vault).row("document", id=document)["version_id"]
    with vault.database() as connection:
        if harm == "row removed":
            connection.execute("DELETE FROM part_list WHERE id = ?", (version,))
        elif harm == "row edited":
            connection.execute("UPDATE part_list SET parts = x'00' WHERE id = ?", (version,))
        else:
            connection.execute("DELETE FROM audit_entry WHERE sequence = 2")
    before = vault.blob_files()
    with pytest.raises(AuditBroken, match="Nothing was moved"):
        repaired(vault)
    assert vault.blob_files() == before


# What is kept of it


def kept(vault: Vault) -> Report:
    with vault.services() as bundle:
        report = bundle.check.run(deep=True)
        bundle.check_results.keep(report)
    return report


def test_the_result_is_kept_and_the_next_takes_its_place(any_vault: Vault) -> None:
    vault = any_vault
    vault.upload("alice", b"x")
    with vault.services() as bundle:
        assert bundle.check_results.last(vault.dora.account) is None
        assert bundle.check_results.own(vault.alice.account) is None
    first = kept(vault)
    for path in vault.blob_files():
        path.unlink()
    second = kept(vault)
    with vault.services() as bundle:
        shown = bundle.check_results.last(vault.dora.account)
    assert shown is not None
    assert (shown.ended_at, shown.found) == (second.ended_at, 1) and first.ended_at < second.ended_at
    assert shown.by_invariant == {"I1": 1} and shown.one_reader == 1 and shown.no_recovery == 4
    (finding,) = shown.findings
    assert isinstance(finding, Finding) and finding.text.endswith("is lost")
    assert run(vault, deep=True).findings == second.findings, "keeping it broke nothing"


def test_everybody_sees_his_own_documents_part_of_it(vault: Vault) -> None:
    mine = vault.upload("alice", b"alice", name="Ärger.txt", share=("bob",))
    his = vault.upload("bob", b"bob", name="bob.txt")
    attacker = Attacker(vault)
    for document in (mine, his):
        attacker.blob(document).unlink()
    kept(vault)
    with vault.services() as bundle:
        own = {name: bundle.check_results.own(vault.members[name].account) for name in vault.members}
    assert [each.name for each in own["alice"].findings] == ["Ärger.txt"]  # type: ignore[union-attr]
    (found_,) = own["bob"].findings  # type: ignore[union-attr]
    assert (found_.document_id, found_.name, len(found_.findings)) == (his, "bob.txt", 1), "only what he owns"
    assert own["bob"].one_reader == 1 and own["alice"].one_reader == 0  # type: ignore[union-attr]
    for name in ("charlie", "dora"):
        assert own[name].findings == []  # type: ignore[union-attr]


def test_no_more_is_kept_than_fits(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vault.services.check_results.KEPT", 3)
    for _ in range(5):
        vault.upload("alice", b"x")
    for path in vault.blob_files():
        path.unlink()
    kept(vault)
    with vault.services() as bundle:
        shown = bundle.check_results.last(None)
    assert shown is not None and (shown.found, len(shown.findings), shown.by_invariant) == (5, 3, {"I1": 5})


def test_a_result_that_was_put_back_is_told_by_the_next_check(vault: Vault) -> None:
    vault.upload("alice", b"x")
    kept(vault)
    attacker = Attacker(vault)
    (clean,) = attacker.rows("check_result")
    for path in vault.blob_files():
        path.unlink()
    kept(vault)
    clean_id = clean.pop("id")
    attacker.update("check_result", clean_id, **clean)
    told = [text for _, text in found(vault) if text.startswith("check_result")]
    assert len(told) == 1 and "is version 1, the audit chain says" in told[0]


def test_a_check_sees_one_state_while_others_write(any_vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """A document that is made between the reading of two tables is not half there."""
    vault, each, written = any_vault, check._each, []

    def write_between(session: Any, model: Any) -> Any:
        yield from each(session, model)
        if model.__tablename__ == "user_key" and not written:
            written.append(upload_elsewhere(vault))

    monkeypatch.setattr(check, "_each", write_between)
    assert run(vault).findings == []
    assert written


def upload_elsewhere(vault: Vault) -> bytes:
    """Upload in another thread, as another worker would."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(vault.upload, "alice", b"meanwhile").result()
