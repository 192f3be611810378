"""The master key's rotation by the services: announced, promoted, retired; and what servers with different keys do."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import select

from tests.attacks.attacker import Attacker
from tests.cast import Vault
from tests.rotations import NEW, NEXT, key_id, key_of, keys_in_rows, server, vault_tables
from vault.cli import gunicorn_server
from vault.crypto.randomness import new_id
from vault.errors import (
    AuditBroken,
    Busy,
    Conflict,
    KeyOver,
    KeyUnavailable,
    LoginRequired,
    TooManyAttempts,
    Unreadable,
)
from vault.models import AuditEntry, UnlockMethod, User
from vault.services import clock, masterkey, seals
from vault.services.masterkey import BATCH, WAITED, KeyState, MasterKeyRotation, Outcome


def lived_in(vault: Vault) -> bytes:
    """A vault with some of everything; returns a document that Alice owns and Bob reads."""
    document = vault.upload("alice", b"first", share=("bob",))
    vault.read("bob", document)
    with vault.services() as bundle:
        bundle.invitations.invite(None, "erin")
    assert (
        vault.api("alice")
        .post("/uploads", headers={"Tus-Resumable": "1.0.0", "Upload-Length": "6"})
        .status_code
        == 201
    )
    assert (
        vault.api().post("/token", json={"username": "nobody", "passphrase": "wrong words"}).status_code
        == 401
    )
    return document


def rotate(vault: Vault, **how: Any) -> Outcome:
    with vault.services() as bundle:
        return bundle.masterkey.rotate(**how)


def states(vault: Vault) -> dict[bytes, KeyState]:
    with vault.services() as bundle:
        return {key.key_id: key for key in bundle.masterkey.status()}


def findings(vault: Vault) -> list[str]:
    with vault.services() as bundle:
        return [f"{found.invariant} {found.text}" for found in bundle.masterkey.verify().findings]


def path_of(place: Any) -> str:
    """The path of an upload's address, as its client asks for it."""
    return urlsplit(place.headers["Location"]).path


def actions(vault: Vault) -> set[str]:
    from vault.services import audit

    with vault.services() as bundle, bundle.transactions.reading() as session:
        return {entry.action for entry in audit.walk(session)}


def log_in(vault: Vault, name: str, **brought: Any) -> Any:
    with vault.services() as bundle:
        return bundle.sessions.log_in(
            name, vault.members[name].passphrase, address="192.0.2.1", client="tests", **brought
        )


def test_announced_promoted_rotated_retired_and_the_old_key_destroyed(any_vault: Vault) -> None:
    vault, old = any_vault, key_of(any_vault)
    document = lived_in(vault)
    with server(vault, old, NEW) as announced:
        assert states(announced)[key_id(NEW)].state == "announced"
        assert announced.read("bob", document) == b"first"
    with server(vault, NEW, old) as promoted:
        second = promoted.upload("alice", b"second", share=("bob",))
        before = states(promoted)
        assert (before[key_id(NEW)].state, before[key_id(old)].state) == ("seals", "retiring")
        assert before[key_id(old)].rows > 40 and not before[key_id(old)].may_be_destroyed
        told: list[tuple[int, int]] = []
        done = rotate(promoted, tell=lambda count, total: told.append((count, total)))
        assert done.refused == done.retired == [] and done.resealed == told[-1][0] == told[-1][1]
        assert set(done.waiting) == set(WAITED.values()), "each waits for somebody"
        assert states(promoted)[key_id(old)].state == "waiting"
        assert findings(promoted) == []
        assert promoted.api("alice").get("/me").status_code == 200, "sessions under the old key go on"
        ended = rotate(promoted, end=True)
        assert ended.retired == [key_id(old)] and ended.ended["sessions"] >= 4
        assert states(promoted)[key_id(old)].may_be_destroyed
        assert promoted.api("alice").get("/me").status_code == 401
    with server(vault, NEW) as alone:
        assert {key for found in keys_in_rows(alone).values() for key in found} == {key_id(NEW)}
        for name in ("alice", "bob", "dora"):
            alone.members[name].account = log_in(alone, name).account
        assert alone.read("alice", document) == alone.read("bob", document) == b"first"
        assert alone.read("alice", second) == alone.read("bob", second) == b"second"
        third = alone.upload("bob", b"third", share=("alice",))
        assert alone.read("alice", third) == b"third"
        assert findings(alone) == []
        with alone.services() as bundle:
            bundle.sweep.run()
            assert bundle.check.run().findings == []


def test_every_column_that_names_a_master_key_is_moved_or_waited_for() -> None:
    named = {
        f"{table.name}.{column.key}"
        for table in vault_tables()
        for column in table.columns
        if column.key.endswith("key_id") and column.key != "seal_key_id" and table.name != "master_key"
    }
    assert named == {str(column.property.columns[0]) for column in masterkey._INNER.values()}


def test_a_batch_is_one_entry_that_names_what_it_moved(vault: Vault) -> None:
    old = key_of(vault)
    lived_in(vault)
    with server(vault, NEW, old) as promoted:
        rotate(promoted)
        acts = [(act, detail) for act, _, _, detail in promoted.audit()]
        assert ("key_promoted", key_id(NEW).hex()) in acts and ("rotation_started", None) in acts
        assert ("rows_resealed", "4 rows of user") in acts
        assert not [detail for act, detail in acts if act == "rows_resealed" and "audit" in str(detail)]


def test_a_dry_run_opens_all_and_writes_nothing(vault: Vault) -> None:
    old = key_of(vault)
    lived_in(vault)
    with server(vault, NEW, old) as promoted:
        before = keys_in_rows(promoted)
        with promoted.services() as bundle:
            would = bundle.masterkey.dry_run()
        assert keys_in_rows(promoted) == before and key_id(NEW) not in before["user.seal_key_id"]
        assert would.refused == [] and would.waiting["codes"] == 1
        done = rotate(promoted)
        # The start is an entry of its own and makes the chain's head anew.
        assert abs(done.resealed - would.resealed) <= 2


def test_two_at_once_are_refused(vault: Vault) -> None:
    with server(vault, NEW, key_of(vault)) as promoted, promoted.services() as bundle:
        first: MasterKeyRotation = bundle.masterkey

        def meanwhile(done: int, total: int) -> None:
            with pytest.raises(Conflict, match="runs already"):
                rotate(promoted)

        assert first.rotate(meanwhile).resealed > 20


def test_a_rotation_on_postgresql_locks_across_machines(any_vault: Vault) -> None:
    with any_vault.services() as bundle, bundle.masterkey._alone(), pytest.raises(Conflict):
        rotate(any_vault)
    assert rotate(any_vault).resealed == 0


def test_a_server_with_the_older_key_does_not_rotate_back(vault: Vault) -> None:
    old = key_of(vault)
    with server(vault, NEW, old) as promoted, server(vault, old, NEW) as behind:
        promoted.upload("alice")
        assert states(behind)[key_id(NEW)].state == "promoted elsewhere"
        with pytest.raises(Conflict, match="promoted later"):
            rotate(behind)


def test_rows_of_a_server_that_seals_with_the_older_key_are_found_by_the_next_run(vault: Vault) -> None:
    old = key_of(vault)
    with server(vault, NEW, old) as promoted, server(vault, old, NEW) as behind:
        rotate(promoted)
        document = behind.upload("alice", b"late", share=("bob",))
        assert states(promoted)[key_id(old)].rows > 0
        rotate(promoted)
        assert states(promoted)[key_id(old)].rows == 0
        assert behind.read("bob", document) == promoted.read("bob", document) == b"late"


def test_a_server_that_still_seals_with_a_retired_key_is_stopped_at_its_next_write(any_vault: Vault) -> None:
    old = key_of(any_vault)
    with server(any_vault, NEW, old) as promoted, server(any_vault, old, NEW) as behind:
        assert rotate(promoted, end=True).retired == [key_id(old)]
        with pytest.raises(KeyOver):
            behind.upload("alice")
        ready = behind.app.test_client().get("/readyz")
        assert (ready.status_code, ready.json["wrong"]) == (503, ["master key"])
        assert findings(promoted) == []


def test_i9_a_row_under_a_retired_key_is_found(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing writes one; what a server does that was never told is put there by hand."""
    old = key_of(vault)
    with server(vault, NEW, old) as promoted, server(vault, old, NEW) as behind:
        rotate(promoted, end=True)
        monkeypatch.setattr("vault.services.promotion.admit", lambda *asked: True)
        behind.upload("alice")
        monkeypatch.undo()
        assert {line[:2] for line in findings(promoted)} == {"I9"}
        key = states(promoted)[key_id(old)]
        assert key.rows and not key.may_be_destroyed


def test_a_server_that_lacks_the_key_says_503_and_never_damage(any_vault: Vault) -> None:
    """An unknown key id is ``KeyUnavailable`` at every face, and readiness is red."""
    old = key_of(any_vault)
    document = any_vault.upload("alice", b"old", share=("bob",))
    with server(any_vault, old) as behind, server(any_vault, NEW, old) as promoted:
        promoted.read("bob", document)
        new = promoted.upload("alice", b"new")
        token = log_in(promoted, "bob").token
        place = promoted.api("alice").post(
            "/uploads", headers={"Tus-Resumable": "1.0.0", "Upload-Length": "6"}
        )
        asked = behind.api("alice")
        assert asked.get(f"/documents/{new.hex()}").status_code == 503
        assert behind.api("charlie").get("/documents").status_code == 200, "what it can open it serves"
        content = behind.api("bob").get(f"/documents/{document.hex()}/content")
        assert content.status_code == 503, "the audit chain is under the new key"
        assert asked.get("/documents").status_code == 503
        behind.members["bob"].token = token
        assert behind.api("bob").get("/me").status_code == 503, (
            "his token is good; it is this server that is not"
        )
        head = asked.client.head(
            path_of(place),
            headers=asked.headers | {"Tus-Resumable": "1.0.0"},
        )
        assert head.status_code == 503
        ready = behind.app.test_client().get("/readyz")
        assert (ready.status_code, ready.json["wrong"]) == (503, ["master key"])
        rotate(promoted)
        with pytest.raises(KeyUnavailable):
            behind.upload("alice")
        assert findings(promoted) == []
        assert "integrity_failure" not in actions(promoted)
        assert promoted.app.test_client().get("/readyz").status_code == 200


def test_who_is_logged_in_stays_so_on_servers_with_exchanged_keys(vault: Vault) -> None:
    """Sessions, forms, device cookies and counted attempts hold on both, whichever made them."""
    old = key_of(vault)
    with server(vault, old, NEW) as announced, server(vault, NEW, old) as promoted:
        for one, other in ((announced, promoted), (promoted, announced)):
            logged_in = log_in(one, "alice")
            other.members["alice"].token = logged_in.token
            form = one.browser("alice")
            token = form.csrf("/account")
            cookies = {cookie.key: cookie.value for cookie in form.client._cookies.values()}
            there = other.app.test_client()
            for name, value in cookies.items():
                there.set_cookie(name, value, domain="localhost")
            kept = there.post("/account/passphrase", data={"csrf_token": token, "current": ""})
            assert "too old" not in kept.text and kept.status_code == 400
            with other.services() as bundle:
                assert bundle.sessions._is_known("alice", logged_in.device, None)
                assert not bundle.sessions._is_known("alice", "another", None)


def test_a_page_exchanges_a_token_under_the_older_key(vault: Vault) -> None:
    with server(vault, NEW, key_of(vault)) as promoted, promoted.services() as bundle:
        old = promoted.members["alice"].token
        assert bundle.sessions.is_worn(old)
        fresh = bundle.sessions.renew(bundle.sessions.identify(old))
        assert not bundle.sessions.is_worn(fresh)


def test_attempts_are_counted_together(vault: Vault) -> None:
    old = key_of(vault)
    with server(vault, old, NEW) as announced, server(vault, NEW, old) as promoted:
        for turn in range(10):
            here = (announced, promoted)[turn % 2]
            assert (
                here.api()
                .post("/token", json={"username": "nobody", "passphrase": "wrong words"})
                .status_code
                == 401
            )
        for here in (announced, promoted):
            assert (
                here.api().post("/token", json={"username": "nobody", "passphrase": "x y"}).status_code == 429
            )


def test_what_waits_ends_by_itself_and_then_the_key_retires(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = key_of(vault)
    lived_in(vault)
    with server(vault, NEW, old) as promoted:
        assert rotate(promoted).retired == []
        later = clock.now() + timedelta(days=8)
        monkeypatch.setattr(clock, "now", lambda: later)
        with promoted.services() as bundle:
            bundle.sweep.run()
            done = bundle.masterkey.go_on()
        assert done is not None and done.retired == [key_id(old)]
        with promoted.services() as bundle:
            assert bundle.masterkey.go_on() is None, "there is nothing left to finish"


def test_serve_goes_on_with_a_rotation_even_if_the_sweep_refuses(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(sweep: Any) -> None:
        raise AuditBroken

    looks = iter([False, True])
    monkeypatch.setattr("vault.services.sweep.Sweep.run", refuse)
    monkeypatch.setattr("threading.Event.wait", lambda event, timeout=None: next(looks))
    old = key_of(vault)
    vault.upload("alice")
    with server(vault, NEW, old) as promoted:
        with promoted.services() as bundle:
            bundle.masterkey._begin(compromised=False, anchored=None)
        gunicorn_server._sweep_hourly(promoted.app)
        assert states(promoted)[key_id(old)].rows == 0


def test_a_recovery_method_moves_too(vault: Vault) -> None:
    """Its key comes from no Argon2id: the four parameters are absent from its seals."""
    from vault.crypto.accounts import open_account_key, seal_account_key
    from vault.services.audit import Event

    old, kek = key_of(vault), bytes(range(32))
    master = vault.app.extensions["docvault"].master
    user, method = vault.alice.account.user_id, new_id()
    bound = {"user": user, "method": method, "kind": "recovery", "parameters": None}

    def add(session: Any) -> None:
        row = UnlockMethod(
            id=method, user_id=user, kind="recovery", memory_kib=0, iterations=0, lanes=0, salt=bytes(16),
            master_key_id=master.key_id, created_at=clock.now(),
            sealed_account_key=seal_account_key(master, kek, vault.alice.account.account_key, **bound),
        )  # fmt: skip
        session.add(row)

    with vault.services() as bundle:
        bundle.transactions.writing(lambda session: (add(session), bundle.transactions.record(Event("test"))))
    with server(vault, NEW, old) as promoted:
        assert rotate(promoted).refused == []
        with promoted.services() as bundle, bundle.transactions.reading() as session:
            row = session.get(UnlockMethod, method)
            keys = promoted.app.extensions["docvault"].master
            opened = open_account_key(keys, row.master_key_id, kek, row.sealed_account_key, **bound)
        assert row.master_key_id == keys.key_id and opened == vault.alice.account.account_key


def test_what_does_not_verify_stays_as_it_is_and_keeps_its_key(vault: Vault) -> None:
    old = key_of(vault)
    document = vault.upload("alice")
    with vault.database() as connection:
        connection.execute("UPDATE document SET readers = 7 WHERE id = ?", (document,))
    with server(vault, NEW, old) as promoted:
        done = rotate(promoted, end=True)
        assert done.refused == [f"document {document.hex()}: does not open"] and done.retired == []
        assert states(promoted)[key_id(old)].rows == 1
    with vault.database() as connection:
        connection.execute("UPDATE document SET readers = 0 WHERE id = ?", (document,))
    with server(vault, NEW, old) as promoted:
        assert rotate(promoted).retired == [key_id(old)]


def test_three_keys_in_a_row(vault: Vault) -> None:
    """A second rotation before the first has ended takes all older keys along."""
    old = key_of(vault)
    document = vault.upload("alice", b"kept")
    with server(vault, NEW, old) as promoted:
        promoted.upload("alice")
    with server(vault, NEXT, NEW, old) as last:
        assert set(rotate(last, end=True).retired) == {key_id(old), key_id(NEW)}
    with server(vault, NEXT) as alone:
        alone.members["alice"].account = log_in(alone, "alice").account
        assert alone.read("alice", document) == b"kept"
        assert findings(alone) == []


@pytest.fixture
def anchored(vault: Vault) -> Iterator[tuple[Vault, int, bytes]]:
    """A vault whose older key somebody else has, how long its chain was when it was last anchored, and a document."""
    document = lived_in(vault)
    yield vault, len(vault.audit()), document


def test_compromised_ends_all_at_once_and_moves_what_the_anchored_chain_knows(
    anchored: tuple[Vault, int, bytes],
) -> None:
    vault, sequence, document = anchored
    old = key_of(vault)
    place = vault.api("alice").post("/uploads", headers={"Tus-Resumable": "1.0.0", "Upload-Length": "6"})
    with server(vault, NEW, old) as promoted:
        fresh = log_in(promoted, "bob").token
        done = rotate(promoted, compromised=True, anchored=sequence)
        assert done.refused == [] and done.retired == [key_id(old)] and done.waiting == {}
        assert set(done.ended) == set(WAITED.values())
        piece = promoted.app.test_client().patch(
            path_of(place),
            headers={
                "Authorization": f"Bearer {fresh}", "Tus-Resumable": "1.0.0", "Upload-Offset": "0",
                "Content-Type": "application/offset+octet-stream",
            },
            data=b"access",
        )  # fmt: skip
        assert piece.status_code in {404, 410}
        with promoted.services() as bundle:
            with pytest.raises(LoginRequired):
                bundle.sessions.bearer(promoted.members["alice"].token)
            assert bundle.sessions.bearer(fresh)
        promoted.members["alice"].account = log_in(promoted, "alice").account
        assert promoted.read("alice", document) == b"first"
        assert findings(promoted) == []


def test_compromised_leaves_what_somebody_sealed_with_the_old_key(
    anchored: tuple[Vault, int, bytes],
) -> None:
    """Rows that the anchored part of the chain does not name so stay under the old key, whatever seal they bear."""
    vault, sequence, _ = anchored
    old = key_of(vault)
    unanchored = vault.upload("alice", b"after the last line of the anchor")
    with server(vault, NEW, old) as promoted:
        kept = promoted.upload("bob", b"under the new key, which nobody else has")
        done = rotate(promoted, compromised=True, anchored=sequence)
        assert any(line.startswith(f"document {unanchored.hex()}: the audit chain") for line in done.refused)
        assert not any(kept.hex() in line for line in done.refused) and done.retired == []


def test_a_second_compromised_run_believes_no_more_than_the_first(
    anchored: tuple[Vault, int, bytes],
) -> None:
    """Whatever anchor it is given: one that is fetched later vouches for what somebody wrote meanwhile."""
    vault, sequence, _ = anchored
    old = key_of(vault)
    vault.upload("alice", b"after the last line of the anchor")
    with server(vault, NEW, old) as promoted:
        first = rotate(promoted, compromised=True, anchored=sequence)
        assert len(first.refused) >= 5
        for later in (sequence, len(promoted.audit()), None):
            again = rotate(promoted, compromised=True, anchored=later)
            assert again.refused == first.refused and again.retired == [] and not again.resealed
        earlier = rotate(promoted, compromised=True, anchored=sequence - 1)
        assert earlier.refused == first.refused
        noted = [detail for act, _, _, detail in promoted.audit() if act == "key_compromised"]
        assert noted == [f"{key_id(old).hex()} {sequence}", f"{key_id(old).hex()} {sequence - 1}"]


def test_a_plain_run_is_refused_while_somebody_else_has_an_older_key(
    anchored: tuple[Vault, int, bytes],
) -> None:
    vault, sequence, _ = anchored
    old = key_of(vault)
    vault.upload("alice", b"after the last line of the anchor")
    with server(vault, NEW, old) as promoted:
        rotate(promoted, compromised=True, anchored=sequence)
        before = keys_in_rows(promoted)
        with pytest.raises(Conflict, match="rotate --compromised"):
            rotate(promoted, end=True)
        with promoted.services() as bundle:
            assert bundle.masterkey.go_on() is None
        assert keys_in_rows(promoted) == before and states(promoted)[key_id(old)].rows


def test_a_commit_while_the_chain_is_walked_does_not_break_it(
    any_vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vault.services import audit

    read, left = audit._head, [1]

    def head(session: Any) -> Any:
        found = read(session)
        if left and left.pop():
            any_vault.upload("alice", b"meanwhile")
        return found

    monkeypatch.setattr(audit, "_head", head)
    with server(any_vault, NEW, key_of(any_vault)) as promoted, promoted.services() as bundle:
        assert bundle.masterkey._sound(None, broken_chain=False) is None and not left
        left.append(1)
        assert bundle.sweep._verify_some(audit.START) is None and not left


def test_a_third_key_does_not_make_the_second_one_stolen(anchored: tuple[Vault, int, bytes]) -> None:
    """A row that nobody decided on keeps the first key; what was written under the second one moves with its seal."""
    vault, sequence, document = anchored
    old = key_of(vault)
    with server(vault, NEW, old) as second:
        bob = made_admin(vault, "bob")
        assert named(rotate(second, compromised=True, anchored=sequence).refused) == [bob]
        second.members["alice"].account = log_in(second, "alice").account
        kept = second.upload("alice", b"under the second key")
        with server(vault, NEXT, NEW, old) as third:
            with pytest.raises(Conflict, match="rotate --compromised"):
                rotate(third)
            with third.services() as bundle:
                would = bundle.masterkey.dry_run(compromised=True, anchored=sequence)
            done = rotate(third, compromised=True, anchored=sequence)
            assert named(done.refused) == named(would.refused) == [bob]
            assert done.retired == [key_id(NEW)] and states(third)[key_id(NEW)].compromised_at is None
            third.members["alice"].account = log_in(third, "alice").account
            assert third.read("alice", kept) == b"under the second key"
            assert third.read("alice", document) == b"first"
            assert rotate(third, compromised=True, accepted=[bob]).retired == [key_id(old)]
            assert findings(third) == []


def test_only_the_keys_that_are_named_are_marked(anchored: tuple[Vault, int, bytes]) -> None:
    vault, sequence, _ = anchored
    old = key_of(vault)
    later = ("document", vault.upload("alice", b"after the last line of the anchor"))
    with server(vault, NEW, old) as second:
        second.upload("bob")
        forged = made_admin(second, "bob")
        with server(vault, NEXT, NEW, old) as third:
            with pytest.raises(Conflict, match="no older master key"):
                rotate(third, compromised=True, stolen=[key_id(NEXT)])
            assert states(third)[key_id(NEW)].compromised_at is None, "nothing is written"
            done = rotate(third, compromised=True, anchored=sequence, stolen=[key_id(NEW)])
            assert forged in named(done.refused) and later not in named(done.refused)
            found = states(third)
            assert found[key_id(NEW)].compromised_at and not found[key_id(old)].compromised_at


def edited_entry(vault: Vault, sequence: int) -> None:
    """What somebody with the master key of ``vault`` does to an entry of the chain: its seal fits, its hash not."""
    attacker = Attacker(vault)
    row = attacker.row("audit_entry", sequence=sequence)
    attacker.update("audit_entry", row["id"], detail="edited")
    attacker.reseal("audit_entry", row["id"])


def test_a_broken_chain_stops_a_compromised_run_before_it_changes_anything(
    anchored: tuple[Vault, int, bytes],
) -> None:
    vault, sequence, document = anchored
    old = key_of(vault)
    with server(vault, NEW, old) as promoted:
        edited_entry(vault, 5)
        before = keys_in_rows(promoted), len(promoted.audit())
        with promoted.services() as bundle:
            for run in (bundle.masterkey.dry_run, bundle.masterkey.rotate):
                with pytest.raises(AuditBroken, match=r"position 5.*--broken-chain.*up to position 4"):
                    run(compromised=True, anchored=sequence)
        assert (keys_in_rows(promoted), len(promoted.audit())) == before
        assert states(promoted)[key_id(old)].compromised_at is None
        promoted.members["alice"].account = log_in(promoted, "alice").account
        assert promoted.read("alice", document) == b"first", "nobody is locked out"


def test_a_broken_chain_is_believed_up_to_its_first_fault_where_that_is_asked(
    anchored: tuple[Vault, int, bytes],
) -> None:
    vault, sequence, document = anchored
    old = key_of(vault)
    later = ("document", vault.upload("alice", b"behind the fault"))
    edited_entry(vault, sequence)
    with server(vault, NEW, old) as promoted:
        with promoted.services() as bundle:
            would = bundle.masterkey.dry_run(compromised=True, broken_chain=True)
        done = rotate(promoted, compromised=True, broken_chain=True)
        assert later in named(done.refused) and done.refused == would.refused and not done.retired
        noted = [detail for act, _, _, detail in promoted.audit() if act == "key_compromised"]
        assert noted == [f"{key_id(old).hex()} {sequence - 1}"]
        with pytest.raises(AuditBroken, match="--broken-chain"):
            rotate(promoted, compromised=True)
        again = rotate(promoted, compromised=True, broken_chain=True, accepted=named(done.refused))
        assert again.refused == [] and again.retired == [key_id(old)]
        promoted.members["alice"].account = log_in(promoted, "alice").account
        assert promoted.read("alice", document) == b"first"


def test_the_register_put_back_does_not_make_a_plain_run_possible(
    anchored: tuple[Vault, int, bytes],
) -> None:
    """The older row of the register bears a good seal of the older key; the chain knows better."""
    vault, sequence, _ = anchored
    old = key_of(vault)
    attacker = Attacker(vault)
    vault.upload("alice", b"after the last line of the anchor")
    was = attacker.row("master_key")
    with server(vault, NEW, old) as promoted:
        rotate(promoted, compromised=True, anchored=sequence)
        attacker.put("master_key", was)
        with pytest.raises(Conflict, match="rotate --compromised"):
            rotate(promoted)


def made_admin(vault: Vault, name: str) -> tuple[str, bytes]:
    """What somebody with the master key of ``vault`` does to a member's row; returns how a refusal names it."""
    attacker, user = Attacker(vault), vault.members[name].account.user_id
    attacker.update("user", user, role="admin")
    attacker.reseal("user", user)
    return "user", user


def test_what_was_refused_opens_no_more_and_gets_no_new_seal(anchored: tuple[Vault, int, bytes]) -> None:
    vault, sequence, _ = anchored
    old = key_of(vault)
    with server(vault, NEW, old) as promoted:
        promoted.members["bob"].token = log_in(promoted, "bob").token
        bob = made_admin(vault, "bob")
        assert promoted.api("bob").get("/accounts").status_code == 200, "before the rotation a seal is a seal"
        assert named(rotate(promoted, compromised=True, anchored=sequence).refused) == [bob]
        assert promoted.api("bob").get("/accounts").status_code == 401
        with pytest.raises(Unreadable):
            log_in(promoted, "bob")
        promoted.members["dora"].token = log_in(promoted, "dora").token
        assert promoted.api("dora").get("/accounts").status_code == 200, "others go on"
        assert promoted.api("dora").patch("/accounts/bob", json={"role": "user"}).status_code >= 400
        (row,) = Attacker(vault).rows("user", id=bob[1])
        assert (row["seal_key_id"], row["role"]) == (key_id(old), "admin")
        assert named(rotate(promoted, compromised=True, anchored=sequence).refused) == [bob]
        told = findings(promoted)
        assert f"I9 user {bob[1].hex()}: is under a master key that somebody else has" in told
        assert any(line.startswith(f"I2 user {bob[1].hex()}: is version") for line in told)
        assert rotate(promoted, compromised=True, accepted=[bob]).retired == [key_id(old)]
        assert log_in(promoted, "bob").account.is_admin, "a person has answered for it"


def test_the_register_s_row_removed_does_not_make_a_stolen_key_good(
    anchored: tuple[Vault, int, bytes],
) -> None:
    vault, sequence, _ = anchored
    old, attacker = key_of(vault), Attacker(vault)
    with server(vault, NEW, old) as promoted:
        bob = made_admin(vault, "bob")
        assert named(rotate(promoted, compromised=True, anchored=sequence).refused) == [bob]
        attacker.remove("master_key", attacker.row("master_key", key_id=key_id(old))["id"])
        with pytest.raises(Unreadable):
            log_in(promoted, "bob")
        log_in(promoted, "dora")
        again = rotate(promoted, compromised=True, anchored=sequence)
        assert named(again.refused) == [bob] and states(promoted)[key_id(old)].compromised_at
        assert rotate(promoted, compromised=True, accepted=[bob]).retired == [key_id(old)]


def test_a_document_that_was_refused_takes_no_list_away(anchored: tuple[Vault, int, bytes]) -> None:
    vault, sequence, document = anchored
    old, attacker = key_of(vault), Attacker(vault)
    attacker.update("document", document, readers=7)
    attacker.reseal("document", document)
    with server(vault, NEW, old) as promoted:
        kept = promoted.upload("alice", b"kept")
        rotate(promoted, compromised=True, anchored=sequence)
        promoted.members["alice"].token = log_in(promoted, "alice").token
        assert [item["id"] for item in promoted.api("alice").get("/documents").json["items"]] == [kept.hex()]
        assert promoted.api("alice").get(f"/documents/{document.hex()}").status_code >= 400


def test_rows_that_a_killed_compromised_run_has_not_reached_wait_for_the_next(
    anchored: tuple[Vault, int, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks meanwhile is told to come back: nothing is damaged, nothing is sealed anew, and the next run ends it."""
    vault, sequence, document = anchored
    old = key_of(vault)

    def kill(point: str) -> None:
        if point == "rotation.before_batch":
            raise Killed

    with server(vault, NEW, old) as promoted:
        promoted.members["charlie"].token = log_in(promoted, "charlie").token
        bob = made_admin(vault, "bob")
        monkeypatch.setattr("vault.failpoints.hook", kill)
        with pytest.raises(Killed):
            rotate(promoted, compromised=True, anchored=sequence)
        monkeypatch.undo()
        with pytest.raises(Busy):
            log_in(promoted, "bob")
        answer = promoted.api().post("/token", json={"username": "alice", "passphrase": "seven words"})
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        assert promoted.api("charlie").get("/me").status_code == 503
        assert findings(promoted) == [f"I2 user {bob[1].hex()}: is version 2, the audit chain says 2"]
        assert "integrity_failure" not in actions(promoted)
        assert Attacker(vault).row("user", id=bob[1])["seal_key_id"] == key_id(old)
        assert named(rotate(promoted, compromised=True, anchored=sequence).refused) == [bob]
        promoted.members["alice"].account = log_in(promoted, "alice").account
        assert promoted.read("alice", document) == b"first"


def test_a_row_read_before_gets_no_new_seal_after(anchored: tuple[Vault, int, bytes]) -> None:
    """No verb of the seals makes one under the new key out of one under a key that somebody else has."""
    vault, sequence, _ = anchored
    old = key_of(vault)
    with server(vault, NEW, old) as promoted:
        _, bob = made_admin(vault, "bob")
        with promoted.services() as bundle, bundle.transactions.reading() as session:
            statement = select(*seals.columns(User)).where(User.id == bob)
            (found,) = seals.verified_row(session, statement, User, parameters={}) or ()
        rotate(promoted, compromised=True, anchored=sequence)
        for verb in (
            lambda session: seals.change(session, User, found, stored_bytes=1),
            lambda session: seals.reseal(session, User, [(found, {})]),
            lambda session: seals.believed(seals.verified_row(session, statement, User, parameters={})[0]),
            lambda session: session.get(User, bob),
        ):
            with promoted.services() as bundle, pytest.raises(Unreadable):
                bundle.transactions.writing(verb)
        assert Attacker(vault).row("user", id=bob)["seal_key_id"] == key_id(old)


class Killed(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""


def test_a_kill_within_the_audit_chain_makes_the_next_run_believe_no_more(
    anchored: tuple[Vault, int, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    vault, sequence, _ = anchored
    old = key_of(vault)
    vault.upload("alice", b"after the last line of the anchor")
    entries = len(vault.audit())

    def kill(point: str) -> None:
        with vault.database() as connection:
            (left,) = connection.execute(
                "SELECT count(*) FROM audit_entry WHERE seal_key_id = ?", (key_id(old),)
            ).fetchone()
        if left < entries - 10:
            raise Killed

    with server(vault, NEW, old) as promoted:
        with promoted.services() as bundle:
            bundle.masterkey._batch = 7
            monkeypatch.setattr("vault.failpoints.hook", kill)
            with pytest.raises(Killed):
                bundle.masterkey.rotate(compromised=True, anchored=sequence)
            monkeypatch.undo()
        assert len(keys_in_rows(promoted)["audit_entry.seal_key_id"]) == 2
        done = rotate(promoted, compromised=True, anchored=len(promoted.audit()))
        assert len(done.refused) >= 5 and done.retired == []


def test_what_a_plain_run_moved_before_is_not_believed_for_it(anchored: tuple[Vault, int, bytes]) -> None:
    """Entries behind the anchor that a rotation gave the new key's seal were written under the old one."""
    vault, sequence, _ = anchored
    old = key_of(vault)
    with server(vault, NEW, old) as promoted:
        rotate(promoted)
        with server(vault, old, NEW) as behind:
            document = behind.upload("alice", b"under the old key")
            with promoted.services() as bundle:
                bundle.masterkey._reseal_table(AuditEntry, Outcome(), None, 0, None)
        done = rotate(promoted, compromised=True, anchored=sequence)
        assert any(document.hex() in line for line in done.refused)


def named(refused: list[str]) -> list[tuple[str, bytes]]:
    return [(table, bytes.fromhex(name)) for table, name in (line.split(":")[0].split() for line in refused)]


def test_a_person_accepts_or_drops_what_was_refused(anchored: tuple[Vault, int, bytes]) -> None:
    vault, sequence, _ = anchored
    old, attacker = key_of(vault), Attacker(vault)
    document = vault.upload("alice", b"after the last line of the anchor")
    mallory = attacker.row("user", username="charlie") | {
        "id": new_id(),
        "username": "mallory",
        "role": "admin",
    }
    attacker.forge("user", mallory)
    with server(vault, NEW, old) as promoted:
        refused = named(rotate(promoted, compromised=True, anchored=sequence).refused)
        forged, no_such = ("user", mallory["id"]), ("user", new_id())
        assert {forged, ("document", document)} <= set(refused)
        tried = rotate(promoted, compromised=True, dropped=[("document", document)])
        assert f"document {document.hex()}: was not dropped, other rows refer to it" in tried.refused
        assert len(tried.refused) == len(refused) and tried.dropped == tried.missed == []
        kept = [row for row in refused if row != forged]
        fits = ("user", promoted.members["bob"].account.user_id)
        done = rotate(promoted, compromised=True, accepted=kept, dropped=[forged, fits, no_such])
        assert set(named(done.accepted)) == set(kept) and named(done.dropped) == [forged]
        assert named(done.missed) == [fits, no_such] and done.refused == []
        assert done.retired == [key_id(old)] and findings(promoted) == []
        acts = [(act, about) for act, about, _, _ in promoted.audit()]
        assert acts.count(("row_dropped", mallory["id"].hex())) == 1
        assert acts.count(("row_accepted", document.hex())) == 1
        log_in(promoted, "alice")


def test_a_row_that_cannot_be_dropped_does_not_stop_the_first_run(
    anchored: tuple[Vault, int, bytes],
) -> None:
    vault, sequence, document = anchored
    old = key_of(vault)
    bob = made_admin(vault, "bob")
    with server(vault, NEW, old) as promoted:
        done = rotate(promoted, compromised=True, anchored=sequence, dropped=[bob])
        assert done.refused == [f"user {bob[1].hex()}: was not dropped, other rows refer to it"]
        promoted.members["alice"].account = log_in(promoted, "alice").account
        assert promoted.read("alice", document) == b"first", "the run came to its end"
        assert Attacker(vault).row("user", id=bob[1])["seal_key_id"] == key_id(old)


def test_a_dry_run_tells_what_a_compromised_run_would_refuse(anchored: tuple[Vault, int, bytes]) -> None:
    vault, sequence, _ = anchored
    old = key_of(vault)
    document = vault.upload("alice", b"after the last line of the anchor")
    with server(vault, NEW, old) as promoted:
        before = keys_in_rows(promoted)
        with promoted.services() as bundle:
            would = bundle.masterkey.dry_run(compromised=True, anchored=sequence)
            assert bundle.masterkey.dry_run(compromised=True).refused == [], "the chain as it is"
            row = ("document", document)
            accepting = bundle.masterkey.dry_run(compromised=True, anchored=sequence, accepted=[row])
        assert ("document", document) in named(would.refused) and not would.accepted
        assert named(accepting.accepted) == [row] and len(accepting.refused) == len(would.refused) - 1
        assert keys_in_rows(promoted) == before
        assert rotate(promoted, compromised=True, anchored=sequence).refused == would.refused
        with promoted.services() as bundle:
            later = bundle.masterkey.dry_run(compromised=True, anchored=len(promoted.audit()))
            with pytest.raises(Conflict, match="rotate --compromised"):
                bundle.masterkey.dry_run()
        assert later.refused == would.refused, "the first run has noted how far the chain is believed"


def test_a_row_without_its_seal_is_never_accepted(anchored: tuple[Vault, int, bytes]) -> None:
    vault, sequence, document = anchored
    old = key_of(vault)
    Attacker(vault).update("document", document, readers=7)
    with server(vault, NEW, old) as promoted:
        done = rotate(promoted, compromised=True, anchored=sequence, accepted=[("document", document)])
        assert done.refused == [f"document {document.hex()}: does not open"]
        assert done.accepted == done.missed == []


def test_compromised_stops_a_server_that_seals_with_that_key(any_vault: Vault) -> None:
    old = key_of(any_vault)
    with server(any_vault, NEW, old) as promoted, server(any_vault, old, NEW) as behind:
        rotate(promoted, compromised=True)
        with pytest.raises(KeyOver):
            behind.upload("alice")
        with pytest.raises(KeyOver):
            log_in(behind, "alice")
        behind.members["alice"].token = log_in(promoted, "alice").token
        assert behind.api("alice").get("/me").status_code == 503, "what it reads proves nothing"


def test_batches_are_small(vault: Vault) -> None:
    assert BATCH <= 500
    with server(vault, NEW, key_of(vault)) as promoted, promoted.services() as bundle:
        rotation = bundle.masterkey
        rotation._batch = 3
        steps: list[int] = []
        done = rotation.rotate(lambda count, total: steps.append(count))
        assert done.resealed > 20 and all(after - before <= 3 for before, after in pairwise(steps))


def test_the_name_s_count_is_not_forgotten_while_it_waits(vault: Vault) -> None:
    with vault.services() as bundle:
        from vault.services.throttle import count_attempt

        for _ in range(10):
            bundle.transactions.writing(
                lambda session: count_attempt(session, bundle.sessions._master, name="alice", address=None)
            )
    with server(vault, NEW, key_of(vault)) as promoted:
        rotate(promoted)
        with pytest.raises(TooManyAttempts):
            log_in(promoted, "alice")
