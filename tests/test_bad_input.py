"""Bad input gets a clear answer and loses nothing: what fits to no single room.

Forms and bodies are in ``tests/http``, single routes in ``tests/api`` and ``tests/web``, the start in ``tests/cli``.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.attacks.attacker import flip
from tests.cast import Api, Vault, settings_for
from tests.house import house, standing, vault
from tests.servers.processes import free_ports
from vault import wiring
from vault.app import create_app
from vault.crypto import passphrase as crypto_passphrase
from vault.errors import Unreadable
from vault.services import clock, passphrases

__all__ = ["house", "standing", "vault"]

# Login


def wrong_logins(house: Vault) -> dict[str, dict[str, str]]:
    return {
        "unknown user": {"username": "nobody", "passphrase": "x" * 20},
        "unknown user, right passphrase of another": {
            "username": "nobody",
            "passphrase": house.alice.passphrase,
        },
        "wrong passphrase": {"username": "alice", "passphrase": "x" * 20},
        "passphrase of another": {"username": "alice", "passphrase": house.bob.passphrase},
        "passphrase and a space": {"username": "alice", "passphrase": house.alice.passphrase + " "},
        "name that nobody can have": {"username": "no body!", "passphrase": "x" * 20},
        "name of 10,000 letters": {"username": "a" * 10_000, "passphrase": "x" * 20},
        "half a character as a name": {"username": "\ud800\ud800", "passphrase": "x" * 20},
    }


@pytest.mark.requirement(23)
def test_unknown_user_and_wrong_passphrase_are_one_answer_after_the_same_work(
    house: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Law 4, attack P5: same status, same words, one Argon2id of the same cost each."""
    ran: list[tuple[int, int, int]] = []
    derive = passphrases.derive_kek

    def counted(prepared: bytes, parameters: crypto_passphrase.KdfParameters) -> bytes:
        ran.append((parameters.memory_kib, parameters.iterations, parameters.lanes))
        return derive(prepared, parameters)

    monkeypatch.setattr(passphrases, "derive_kek", counted)
    answers, work = {}, {}
    for case, sent in wrong_logins(house).items():
        ran.clear()
        answer = house.api().post("/token", json=sent)
        problem = {name: value for name, value in answer.json.items() if name != "instance"}
        answers[case], work[case] = (answer.status_code, problem), list(ran)
    assert all(answer == answers["unknown user"] for answer in answers.values()), answers
    assert answers["unknown user"][0] == 401
    assert all(done == [(65536, 3, 4)] for done in work.values()), work


def test_unknown_user_and_wrong_passphrase_are_one_page(house: Vault) -> None:
    import re

    pages = set()
    for sent in ({"username": "nobody"}, {"username": "alice"}):
        answer = house.browser().post("/login", sent | {"passphrase": "not the passphrase"})
        assert answer.status_code == 400
        text = re.sub(r'(name="csrf_token"[^>]*value=")[^"]+', r"\1", answer.text)
        pages.add(text.replace(sent["username"], "NAME").replace(answer.headers["X-Request-Id"], "ID"))
        assert "User name and passphrase do not fit together." in answer.text
        assert "not the passphrase" not in answer.text, "what was typed does not come back"
    assert len(pages) == 1


@pytest.mark.parametrize("length", [1025, 100_000, 2**20])
def test_a_passphrase_of_a_mebibyte_is_400_at_once(
    house: Vault, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    """Attack P4: refused before Argon2id, wherever a passphrase is taken."""
    monkeypatch.setattr(passphrases, "derive_kek", lambda *_: pytest.fail("Argon2id ran"))
    long = "p" * length
    browser = house.browser("alice")
    token = browser.csrf("/account")
    asked = [
        lambda: house.api().post("/token", json={"username": "alice", "passphrase": long}),
        lambda: house.api("alice").put("/me/passphrase", json={"current": long}),
        lambda: house.api("alice").put("/me/passphrase", json={"current": "x", "new": long}),
        lambda: house.browser().post("/login", {"username": "alice", "passphrase": long}),
        lambda: browser.client.post("/account/passphrase", data={"csrf_token": token, "current": long}),
    ]
    for ask in asked:
        began = time.process_time()
        answer = ask()
        assert answer.status_code == 400
        assert "1,024" in answer.text or "1024" in answer.text, "the limit is named"
        assert time.process_time() - began < 1


def test_an_empty_passphrase_is_400_whoever_it_is_for(house: Vault) -> None:
    for name in ("alice", "nobody"):
        answer = house.api().post("/token", json={"username": name, "passphrase": ""})
        assert answer.status_code == 400, name


def test_a_passphrase_that_is_no_text_is_400(house: Vault) -> None:
    sent = '{"username": "alice", "passphrase": "\\ud800 is half a character"}'
    answer = house.api().post("/token", data=sent, content_type="application/json")
    assert (answer.status_code, answer.json["field"]) == (400, "passphrase")


@pytest.mark.requirement(22)
def test_too_many_attempts_are_429_with_a_time_to_wait(vault: Vault) -> None:
    with vault.services() as bundle:
        from vault.services import throttle

        for _ in range(throttle.PER_NAME):
            bundle.transactions.writing(
                lambda session: throttle.count_attempt(
                    session, wiring.wiring().master, name="alice", address="10.0.0.1"
                )
            )
    right = {"username": "alice", "passphrase": vault.alice.passphrase}
    answer = vault.api().post("/token", json=right)
    assert answer.status_code == 429
    assert 0 < int(answer.headers["Retry-After"]) <= 900
    page = vault.browser().post("/login", right)
    assert page.status_code == 429 and int(page.headers["Retry-After"]) > 0
    assert vault.api().post("/token", json=right | {"username": "bob"}).status_code == 401
    assert vault.api("alice").get("/me").status_code == 200, "who is logged in stays so"


def test_a_disabled_account_is_named_only_to_who_knows_the_passphrase(vault: Vault) -> None:
    with vault.services() as bundle:
        bundle.accounts.set_state(None, "bob", "disabled")
    right = {"username": "bob", "passphrase": vault.bob.passphrase}
    assert vault.api().post("/token", json=right).status_code == 403
    wrong = vault.api().post("/token", json=right | {"passphrase": "x" * 20})
    unknown = vault.api().post("/token", json={"username": "nobody", "passphrase": "x" * 20})
    assert wrong.status_code == unknown.status_code == 401
    assert wrong.json["detail"] == unknown.json["detail"]


# Names of users


@pytest.mark.parametrize("name", ["alice", "ALICE", "Alice", " alice ", "aLiCe"])
def test_a_name_that_is_taken_or_differs_only_in_case_is_409(house: Vault, name: str) -> None:
    answer = house.api().post("/users", json={"username": name})
    assert (answer.status_code, answer.json["field"]) == (409, "username")
    page = house.browser().post("/register", {"username": name.strip()})
    assert page.status_code == 400
    assert "This user name is taken." in page.text
    invited = house.api("dora").post("/invitations", json={"username": name})
    assert invited.status_code == 409


@pytest.mark.parametrize(
    "name",
    ["", " ", "a", "a" * 33, "a b", "a/b", "ä", "аlice", "a@b", "a\nb", "a\x00b", "../a", "me", "ME", "\ud800a",
     "a,b", "ＡＢ"],
)  # fmt: skip
def test_a_malformed_name_is_400(house: Vault, name: str) -> None:
    answer = house.api().post("/users", json={"username": name})
    assert (answer.status_code, answer.json["field"]) == (400, "username")
    assert house.api("dora").post("/invitations", json={"username": name}).status_code == 400
    if name.isprintable():
        assert house.browser().post("/register", {"username": name}).status_code == 400


# People to share with


RECIPIENTS = {
    "unknown": ["nobody"],
    "oneself": ["alice"],
    "oneself in capitals": ["ALICE"],
    "twice": ["bob", "bob"],
    "twice, in another case": ["bob", "Bob"],
    "disabled": ["charlie"],
    "one good, one bad": ["bob", "nobody"],
    "malformed": ["no body!"],
    "half a character": ["\ud800"],
    "none": [],
    "blank": [" "],
    "name with NUL": ["bo\x00b"],
}


@pytest.fixture(scope="module")
def without_charlie(house: Vault) -> Vault:
    """The module's vault, in which Charlie is disabled."""
    with house.services() as bundle:
        bundle.accounts.set_state(None, "charlie", "disabled")
    return house


@pytest.mark.parametrize("case", RECIPIENTS)
def test_a_recipient_who_cannot_be_is_refused_and_nobody_gets_anything(
    without_charlie: Vault, case: str
) -> None:
    vault = without_charlie
    document = vault.upload("alice").hex()
    count = len(vault.api("alice").get("/documents").json["items"])
    shared = vault.api("alice").post(f"/documents/{document}/shares", json={"usernames": RECIPIENTS[case]})
    assert shared.status_code == 400, shared.text
    assert shared.json["field"] in {"recipients", "usernames"}
    words = " ".join(RECIPIENTS[case])
    if words.strip() and words.isprintable():
        page = vault.browser("alice").post(
            f"/documents/{document}/share", {"confirm": "1", "recipients": words}
        )
        assert page.status_code == 400
        sent = vault.api("alice").post("/documents", query_string={"recipients": words}, data=b"x")
        assert (sent.status_code, sent.json["field"]) == (400, "recipients")
    assert len(vault.api("alice").get("/documents").json["items"]) == count
    assert vault.api("bob").get("/documents").json["items"] == []


@pytest.mark.parametrize("names", [["nobody"], ["charlie"], ["alice"], ["\ud800"], [""], []])
def test_revoking_who_cannot_read_is_refused(vault: Vault, names: list[str]) -> None:
    document = vault.upload("alice", share=("bob",))
    with vault.services() as bundle:
        from vault.errors import BadInput

        with pytest.raises(BadInput):
            bundle.sharing.revoke(vault.alice.account, [document], names)
    assert vault.api("bob").get(f"/documents/{document.hex()}").status_code == 200


# Damage in the store


@contextmanager
def other_document_stays_readable(vault: Vault) -> Iterator[None]:
    other = vault.upload("alice", b"the other one")
    yield
    assert vault.read("alice", other) == b"the other one"


def failures(vault: Vault, document: bytes) -> list[str | None]:
    return [
        detail
        for action, object_id, succeeded, detail in vault.audit()
        if action == "integrity_failure" and object_id == document.hex() and not succeeded
    ]


DAMAGE = {
    "missing": lambda path, other: path.unlink(),
    "empty": lambda path, other: path.write_bytes(b""),
    "cut by one byte": lambda path, other: path.write_bytes(path.read_bytes()[:-1]),
    "longer by one byte": lambda path, other: path.write_bytes(path.read_bytes() + b"\0"),
    "another document's": lambda path, other: path.write_bytes(other.read_bytes()),
    "zeros": lambda path, other: path.write_bytes(bytes(path.stat().st_size)),
    "bit in the salt": lambda path, other: flip(path, 0),
    "bit in the commitment": lambda path, other: flip(path, 40),
    "bit in the first chunk": lambda path, other: flip(path, 100),
    "bit in the last chunk": lambda path, other: flip(path, -40),
}


@pytest.mark.parametrize("case", DAMAGE)
@pytest.mark.requirement(14)
def test_a_missing_or_damaged_blob_is_a_clean_error_and_an_audit_event(vault: Vault, case: str) -> None:
    canary = b"canary that must not come out " * 2000
    document = vault.upload("alice", canary, share=("bob",))
    (blob,) = vault.blob_files()
    vault.upload("alice", canary[::-1])
    (other,) = set(vault.blob_files()) - {blob}
    with other_document_stays_readable(vault):
        DAMAGE[case](blob, other)
        for name, client in (("alice", vault.api("alice")), ("bob", vault.browser("bob"))):
            before = len(failures(vault, document))
            path = f"/documents/{document.hex()}/content"
            answer = client.get(path)
            assert answer.status_code == 500
            assert b"canary" not in answer.data
            assert "damaged" in answer.text, "it says what is wrong"
            assert "Content-Disposition" not in answer.headers, "nothing that looks like a file"
            assert len(failures(vault, document)) == before + 1, name
            part = client.get(path, headers={"Range": "bytes=0-9"})
            assert part.status_code == 500 and b"canary" not in part.data
        assert vault.browser("bob").get(f"/documents/{document.hex()}").status_code == 200, (
            "its page is there"
        )
        with vault.services() as bundle:
            found = {finding.invariant for finding in bundle.check.run().findings}
        by_size = {"missing", "empty", "cut by one byte", "longer by one byte"}
        by_digest = DAMAGE.keys() - by_size - {"another document's"}
        assert found == ({"I1"} if case in by_size else {"I10"} if case in by_digest else set())


@pytest.mark.requirement(47)
def test_damage_in_the_middle_ends_the_answer_short_of_its_length(vault: Vault) -> None:
    """Checklist 47: never a complete-looking 200; every byte before the damage is right."""
    content = bytes(range(256)) * 15_000
    document = vault.upload("alice", content)
    (blob,) = vault.blob_files()
    flip(blob, 3_000_000)
    answer = vault.api("alice").get(f"/documents/{document.hex()}/content")
    assert (answer.status_code, answer.content_length) == (200, len(content))
    received = b""
    with pytest.raises(Unreadable):
        for piece in answer.iter_encoded():
            received += piece
    answer.close()
    assert len(received) < 3_000_000
    assert content.startswith(received)
    assert len(failures(vault, document)) == 1


def test_damage_outside_a_range_does_not_keep_the_range_back(vault: Vault) -> None:
    content = bytes(range(256)) * 15_000
    document = vault.upload("alice", content)
    (blob,) = vault.blob_files()
    flip(blob, 3_000_000)
    answer = vault.api("alice").get(f"/documents/{document.hex()}/content", headers={"Range": "bytes=0-99"})
    assert (answer.status_code, answer.data) == (206, content[:100])


# A store or a database that is away


def test_an_unreachable_store_is_503_and_lists_still_work(vault: Vault) -> None:
    document = vault.upload("alice", b"content", share=("bob",)).hex()
    away = vault.instance / "away"
    shutil.move(vault.blobs, away)
    try:
        for answer in (
            vault.api("alice").get(f"/documents/{document}/content"),
            vault.browser("bob").get(f"/documents/{document}/content"),
            vault.api("alice").post("/documents?name=new", data=b"new"),
            vault.api("alice").put(f"/documents/{document}/content", data=b"new"),
        ):
            assert answer.status_code == 503, answer.text
            assert int(answer.headers["Retry-After"]) > 0
        for path in ("/documents", "/me", f"/documents/{document}", "/me/sessions"):
            assert vault.api("alice").get(path).status_code == 200, path
        for path in ("/", "/account", f"/documents/{document}"):
            assert vault.browser("alice").get(path).status_code == 200, path
        assert vault.app.test_client().get("/readyz").status_code == 503
        assert vault.app.test_client().get("/healthz").status_code == 200
        assert failures(vault, bytes.fromhex(document)) == [], "a store that is away is no damage"
    finally:
        assert not vault.blobs.exists(), "a folder that is away is not made anew"
        shutil.move(away, vault.blobs)
    assert vault.api("alice").get(f"/documents/{document}/content").data == b"content"
    assert len(vault.api("alice").get("/documents").json["items"]) == 1
    assert vault.app.test_client().get("/readyz").status_code == 200


def test_an_object_store_that_does_not_answer_is_503_and_lists_still_work(vault: Vault) -> None:
    document = vault.upload("alice", b"content").hex()
    settings = settings_for(
        vault.instance, storage="minio", minio_endpoint=f"127.0.0.1:{free_ports(1)[0]}",
        minio_access_key="a" * 8, minio_secret_key="s" * 16, minio_secure=False,
    )  # fmt: skip
    api = Api(create_app(settings), vault.alice.token)
    began = time.monotonic()
    answer = api.get(f"/documents/{document}/content")
    assert answer.status_code == 503 and int(answer.headers["Retry-After"]) > 0
    assert time.monotonic() - began < 30
    assert api.get("/documents").status_code == 200


@contextmanager
def locked(vault: Vault) -> Iterator[None]:
    """Hold SQLite's write lock, as something that writes for 30 s would."""
    connection = sqlite3.connect(vault.instance / "vault.sqlite3", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


def test_f11_a_locked_database_is_503_within_six_seconds(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where two things wait to be written, the sign of life before the change."""
    document = vault.upload("alice", b"content").hex()
    monkeypatch.setattr(clock, "now", lambda: datetime.now(UTC) + timedelta(minutes=3))
    with locked(vault):
        began = time.monotonic()
        answer = vault.api("alice").patch(f"/documents/{document}", json={"name": "new"})
        waited = time.monotonic() - began
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert 4 < waited < 8, "it waits for the lock, and not for ever"
    assert vault.api("alice").get("/documents").json["items"][0]["name"] == "hello.txt"
    assert vault.api("alice").patch(f"/documents/{document}", json={"name": "new"}).status_code == 200


@pytest.fixture
def impatient(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> Iterator[Vault]:
    """The same vault, waiting a fifth of a second for a lock."""
    monkeypatch.setattr(wiring, "BUSY_TIMEOUT_MS", 200)
    own = vault.reopened()
    yield own
    own.close()


def test_f11_everything_that_writes_is_503_while_the_database_is_locked(impatient: Vault) -> None:
    vault = impatient
    document = vault.upload("alice", b"content", share=("bob",)).hex()
    browser = vault.browser("alice")
    token = browser.csrf("/account")
    with locked(vault):
        asked: list[Any] = [
            vault.api().post("/token", json={"username": "alice", "passphrase": vault.alice.passphrase}),
            vault.api().post("/users", json={"username": "zoe"}),
            vault.api("alice").post("/documents?name=a", data=b"new"),
            vault.api("alice").delete(f"/documents/{document}"),
            vault.api("alice").post(f"/documents/{document}/shares", json={"usernames": ["charlie"]}),
            vault.api("alice").get(f"/documents/{document}/content"),
            vault.api("alice").delete("/token"),
            browser.client.post(f"/documents/{document}/delete", data={"csrf_token": token, "confirm": "1"}),
        ]
        for answer in asked:
            assert answer.status_code == 503, answer.text
            assert int(answer.headers["Retry-After"]) > 0
    assert vault.api("alice").get(f"/documents/{document}/content").data == b"content"
    assert len(vault.api("alice").get("/documents").json["items"]) == 1
    with vault.services() as bundle:
        assert bundle.check.run().findings == []


def test_f11_reading_goes_on_while_the_database_is_locked(
    impatient: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when it is time to note that the session was seen: that is put off, and nobody is turned away for it."""
    vault = impatient
    document = vault.upload("alice", b"content", share=("bob",)).hex()
    monkeypatch.setattr(clock, "now", lambda: datetime.now(UTC) + timedelta(minutes=3))
    with locked(vault):
        for path in ("/documents", f"/documents/{document}", "/me"):
            assert vault.api("alice").get(path).status_code == 200, path
        assert vault.api("bob").get("/documents?scope=shared").json["items"][0]["name"] == "hello.txt"
        assert vault.browser("alice").get("/").status_code == 200


def test_a_database_that_is_gone_is_503_and_nothing_is_made_in_its_place(vault: Vault) -> None:
    folder = vault.instance
    with vault.app.app_context():
        from vault.extensions import db

        db.engine.dispose()
    shutil.move(folder, folder.with_name("gone"))
    try:
        answer = vault.api("alice").get("/documents")
        assert answer.status_code == 503
        assert vault.app.test_client().get("/readyz").status_code == 503
        assert vault.app.test_client().get("/healthz").status_code == 200
    finally:
        assert not folder.exists()
        shutil.move(folder.with_name("gone"), folder)
    assert vault.api("alice").get("/documents").status_code == 200
