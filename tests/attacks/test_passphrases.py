"""P1, P4 to P9: passphrases, Argon2id's cost, user names, sessions, tokens, CSRF, the master key."""

from __future__ import annotations

import base64
import hmac
import io
import json
import statistics
import time
import unicodedata
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.attacks.attacker import CANARY, Attacker, answer, assert_refused, failures
from tests.cast import Vault, settings_for
from vault.app import create_app, migrate_schema
from vault.crypto.accounts import open_session, seal_session
from vault.crypto.passphrase import KdfParameters, derive_kek, normalise
from vault.crypto.purposes import MASTER_FLASK, MASTER_TOKENS
from vault.crypto.tokens import AUDIENCE, ISSUER, TYPE
from vault.errors import BadPassphrase, LoginRequired, Misconfigured, Unreadable
from vault.services import passphrases, throttle

OWN = "correct zebra Battery 4711 staple quilt"


def log_in(vault: Vault, username: str, passphrase: str, address: str = "127.0.0.1", **options: Any) -> Any:
    body = {"username": username, "passphrase": passphrase}
    return vault.api().post("/token", json=body, environ_base={"REMOTE_ADDR": address}, **options)


def status_with(vault: Vault, token: str) -> int:
    return int(vault.api().get("/me", headers={"Authorization": f"Bearer {token}"}).status_code)


# P1


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("memory_kib", 8), ("memory_kib", 65_535), ("memory_kib", 2**32), ("memory_kib", 2**26), ("memory_kib", -1),
        ("iterations", 1), ("iterations", 2**31), ("lanes", 1), ("lanes", 255), ("salt", bytes(8)), ("salt", b""),
    ],
)  # fmt: skip
@pytest.mark.requirement(4)
def test_p1_no_cost_outside_floor_and_ceiling_is_ever_run(vault: Vault, column: str, value: Any) -> None:
    """With the master key, so that the row's seal fits: the bounds are what refuses, before any work."""
    attacker = Attacker(vault)
    row = attacker.row("unlock_method", user_id=vault.bob.account.user_id)
    attacker.update("unlock_method", row["id"], **{column: value})
    enter = partial(log_in, vault, "bob", vault.bob.passphrase)
    assert_refused(vault, enter, row["id"])
    attacker.reseal("unlock_method", row["id"])
    assert_refused(vault, enter, row["id"])
    assert failures(vault)[-1] == (row["id"].hex(), "kdf:bounds")
    cost = {name: row[name] for name in ("memory_kib", "iterations", "lanes", "salt")} | {column: value}
    started = time.thread_time()
    with pytest.raises(Unreadable):
        passphrases.derive(vault.bob.passphrase, KdfParameters(**cost))
    assert time.thread_time() - started < 0.05


def test_p1_a_passphrase_change_refuses_them_as_well(vault: Vault) -> None:
    attacker = Attacker(vault)
    row = attacker.row("unlock_method", user_id=vault.bob.account.user_id)
    attacker.update("unlock_method", row["id"], iterations=1)
    attacker.reseal("unlock_method", row["id"])
    change = partial(vault.api("bob").put, "/me/passphrase", json={"current": vault.bob.passphrase})
    assert_refused(vault, change, row["id"])


# P4


@pytest.mark.parametrize(
    "passphrase", ["x" * 2**20, "x" * 1025, "ü" * 513, "\ud800 lone surrogate", "tail \udfff", ""],
    ids=["1 MiB", "1025 bytes", "1026 bytes of two each", "surrogate", "surrogate at the end", "empty"],
)  # fmt: skip
@pytest.mark.requirement(19)
def test_p4_what_cannot_be_a_passphrase_is_refused_at_once(vault: Vault, passphrase: str) -> None:
    got = [log_in(vault, name, passphrase) for name in ("alice", "nobody-here")]
    assert [response.status_code for response in got] == [400, 400]
    change = vault.api("alice").put(
        "/me/passphrase", json={"current": vault.alice.passphrase, "new": passphrase}
    )
    if passphrase:
        assert change.status_code == 400
    started = time.thread_time()
    with pytest.raises(BadPassphrase):
        normalise(passphrase)
    assert time.thread_time() - started < 0.1


@pytest.mark.parametrize("length", [65, 73, 1024])
@pytest.mark.requirement(19)
def test_p4_the_last_byte_of_a_long_passphrase_counts(length: int) -> None:
    parameters = KdfParameters.fresh()
    one, other = ("x" * (length - 1) + end for end in "ab")
    assert derive_kek(normalise(one), parameters) != derive_kek(normalise(other), parameters)


def test_p4_nul_and_spaces_are_characters_like_others() -> None:
    spellings = ["a\0b", "a", "ab", "a\0c", " a", "a ", "a b", "a  b", "A b"]
    assert len({normalise(text) for text in spellings}) == len(spellings)


def test_p4_a_passphrase_of_ones_own_works_however_it_is_composed(vault: Vault) -> None:
    composed = unicodedata.normalize("NFC", "Überraschend genug, señor: \0 47 Kühe!")
    with vault.services() as bundle:
        bundle.accounts.change_passphrase(vault.bob.account, vault.bob.passphrase, composed)
    assert log_in(vault, "bob", unicodedata.normalize("NFD", composed)).status_code == 201
    assert log_in(vault, "bob", composed.replace("\0", "")).status_code == 401
    assert log_in(vault, "bob", composed + " ").status_code == 401


@pytest.mark.parametrize(
    "username", ["\ud800", "x" * 10**5, "a\0b", "", "ＡＬＩＣＥ", "alice\n", "../alice", "%s"]
)
def test_p4_any_text_is_a_user_name_that_nobody_has(vault: Vault, username: str) -> None:
    got = log_in(vault, username, "whatever it is")
    # White space around a name is dropped, so this one is Alice's; the passphrase is not.
    assert got.status_code == 401, got.text
    assert got.json["type"] == "urn:docvault:WrongLogin"


# P5


@pytest.mark.requirement(23)
def test_p5_unknown_name_and_wrong_passphrase_get_the_same_answer(vault: Vault) -> None:
    answers = []
    for name in ("alice", "nobody-here", "-", "\ud800"):
        got = log_in(vault, name, "wrong passphrase")
        body = {key: value for key, value in got.json.items() if key != "instance"}
        headers = {key: value for key, value in got.headers if key not in {"X-Request-Id", "Content-Length"}}
        answers.append((got.status_code, body, headers))
    assert answers == answers[:1] * 4
    browser = vault.browser()
    pages = [
        browser.post("/login", {"username": name, "passphrase": "wrong"}) for name in ("bob", "nobody-b")
    ]
    assert pages[0].status_code == pages[1].status_code
    assert pages[0].text.count("do not fit together") == pages[1].text.count("do not fit together") == 1


def test_p5_an_unknown_name_is_counted_and_told_to_wait_like_a_known_one(vault: Vault) -> None:
    attacker = Attacker(vault)
    for name in ("charlie", "nobody-here"):
        assert log_in(vault, name, "wrong passphrase", "192.0.2.1").status_code == 401
        attempt = attacker.rows("login_attempt")[-1]
        counted = sum(row["subject"] == attempt["subject"] for row in attacker.rows("login_attempt"))
        with vault.services() as bundle:
            for k in range(10 - counted):
                bundle.transactions.writing(
                    partial(
                        throttle.count_attempt, master=attacker.master, name=name, address=f"192.0.2.{k + 2}"
                    )
                )
        refused = log_in(vault, name, "wrong passphrase", "192.0.2.1")
        assert (refused.status_code, refused.json["type"]) == (429, "urn:docvault:TooManyAttempts")
        assert 0 < int(refused.headers["Retry-After"]) <= 900
        assert log_in(vault, name, vault.charlie.passphrase, "192.0.2.1").status_code == 429, (
            "the right one, too"
        )


def spread(vault: Vault, rounds: int) -> float:
    """Time logins of known and unknown names in turn; give the ratio of the slower median to the quicker."""
    attacker = Attacker(vault)
    times: dict[str, list[float]] = {"alice": [], "nobody-here": []}
    for k in range(rounds):
        for name in times if k % 2 else reversed(times):
            attacker.remove("login_attempt", *[row["id"] for row in attacker.rows("login_attempt")])
            started = time.process_time()
            assert log_in(vault, name, "wrong passphrase").status_code == 401
            times[name].append(time.process_time() - started)
    medians = sorted(statistics.median(taken) for taken in times.values())
    return medians[1] / medians[0]


@pytest.mark.requirement(23)
def test_p5_unknown_name_and_wrong_passphrase_take_the_same_work(vault: Vault) -> None:
    """The work is measured in processor time, so that a busy machine does not blur it; a second look for luck."""
    assert spread(vault, 6) < 1.10 or spread(vault, 12) < 1.10


@pytest.mark.long
def test_p5_unknown_name_and_wrong_passphrase_take_the_same_work_in_200_rounds(vault: Vault) -> None:
    assert spread(vault, 200) < 1.10


# P6


def forged_token(
    vault: Vault, header: dict[str, Any], claims: dict[str, Any], key: bytes, digest: str = "sha256"
) -> str:
    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    signed = f"{part(header)}.{part(claims)}"
    mac = base64.urlsafe_b64encode(hmac.digest(key, signed.encode(), digest)).rstrip(b"=").decode()
    return f"{signed}.{mac}"


def key_of(vault: Vault) -> bytes:
    return Attacker(vault).master.derive(MASTER_TOKENS)


TokenEdit = tuple[dict[str, Any], dict[str, Any]]
NOW = int(datetime.now(UTC).timestamp())
EDITS: dict[str, TokenEdit] = {
    "alg none": ({"alg": "none"}, {}),
    "alg None": ({"alg": "None"}, {}),
    "alg HS384": ({"alg": "HS384"}, {}),
    "alg HS512": ({"alg": "HS512"}, {}),
    "alg RS256": ({"alg": "RS256"}, {}),
    "no typ": ({"typ": None}, {}),
    "typ JWT": ({"typ": "JWT"}, {}),
    "typ of an upload": ({"typ": "docvault-upload+jwt"}, {}),
    "kid path": ({"kid": "../../../../dev/null"}, {}),
    "kid unknown": ({"kid": "00" * 8}, {}),
    "kid empty": ({"kid": ""}, {}),
    "kid list": ({"kid": ["00" * 8]}, {}),
    "jwk": ({"jwk": {"kty": "oct", "k": "AAAA"}}, {}),
    "jku": ({"jku": "https://evil.example/keys"}, {}),
    "x5u": ({"x5u": "https://evil.example/cert"}, {}),
    "crit": ({"crit": ["exp"]}, {}),
    "b64": ({"b64": False, "crit": ["b64"]}, {}),
    "expired": ({}, {"iat": NOW - 7200, "exp": NOW - 3600}),
    "from the future": ({}, {"iat": NOW + 3600, "exp": NOW + 7200}),
    "no exp": ({}, {"exp": None}),
    "exp text": ({}, {"exp": "9999999999"}),
    "another issuer": ({}, {"iss": "evil"}),
    "another audience": ({}, {"aud": "docvault-upload"}),
    "audience list": ({}, {"aud": [AUDIENCE]}),
    "another claim": ({}, {"role": "admin"}),
    "secret of another": ({}, {"sec": base64.urlsafe_b64encode(bytes(32)).rstrip(b"=").decode()}),
    "session of another": ({}, {"sid": "bob"}),
    "user of another": ({}, {"sub": "bob"}),
    "no secret": ({}, {"sec": None}),
}


def edited_token(vault: Vault, name: str) -> str:
    """Alice's own good token with one thing changed, signed with the true key: the worst case."""
    token = vault.alice.token
    header, claims = jwt.get_unverified_header(token), jwt.decode(token, options={"verify_signature": False})
    new_header, new_claims = EDITS[name]
    bob = vault.bob.account
    new_claims = new_claims | ({"sid": bob.session_id.hex()} if new_claims.get("sid") == "bob" else {})
    new_claims = new_claims | ({"sub": bob.user_id.hex()} if new_claims.get("sub") == "bob" else {})
    header = {key: value for key, value in (header | new_header).items() if value is not None}
    claims = {key: value for key, value in (claims | new_claims).items() if value is not None}
    digest = {"HS384": "sha384", "HS512": "sha512"}.get(header["alg"], "sha256")
    made = forged_token(vault, header, claims, key_of(vault), digest)
    return made.rpartition(".")[0] + "." if header["alg"].lower() == "none" else made


def test_p6_the_forger_of_these_tests_makes_good_tokens(vault: Vault) -> None:
    header = {"alg": "HS256", "typ": TYPE, "kid": Attacker(vault).master.key_id.hex()}
    claims = jwt.decode(vault.alice.token, options={"verify_signature": False})
    assert claims["iss"] == ISSUER
    assert status_with(vault, forged_token(vault, header, claims, key_of(vault))) == 200


@pytest.mark.parametrize("name", EDITS)
def test_p6_a_token_with_one_thing_changed_is_nobody(vault: Vault, name: str) -> None:
    token = edited_token(vault, name)
    assert status_with(vault, token) == 401
    browser = vault.browser()
    browser.client.set_cookie("docvault", token, domain="localhost")
    assert browser.get("/").status_code == 302


@pytest.mark.parametrize(
    "key", [b"", b"secret", bytes(32), "flask"], ids=["empty", "word", "zero", "another purpose"]
)
def test_p6_a_token_under_another_key_is_nobody(vault: Vault, key: Any) -> None:
    header = jwt.get_unverified_header(vault.alice.token)
    claims = jwt.decode(vault.alice.token, options={"verify_signature": False})
    chosen = Attacker(vault).master.derive(MASTER_FLASK) if key == "flask" else key
    assert status_with(vault, forged_token(vault, header, claims, chosen)) == 401


@pytest.mark.parametrize(
    "text", ["", "x", "a.b", "a.b.c", "a.b.c.d", "é.é.é", "." * 5000, "A" * 10**5, "null"]
)
def test_p6_what_is_no_token_is_nobody(vault: Vault, text: str) -> None:
    header = {"Authorization": f"Bearer {text}".encode().decode("latin-1")}
    assert vault.api().get("/me", headers=header).status_code == 401


@pytest.mark.parametrize("reseal", [False, True], ids=["without", "with-master-key"])
@pytest.mark.parametrize(
    "columns", [("sealed_account_key",), ("user_id",), ("user_id", "sealed_account_key")], ids=str
)
@pytest.mark.requirement(29)
def test_p6_two_session_rows_exchanged_open_for_nobody(
    vault: Vault, columns: tuple[str, ...], reseal: bool
) -> None:
    attacker = Attacker(vault)
    rows = [
        attacker.row("login_session", id=vault.members[name].account.session_id) for name in ("alice", "dora")
    ]
    attacker.swap("login_session", *rows, *columns)
    for row in rows:
        if reseal:
            attacker.reseal("login_session", row["id"])
    assert [status_with(vault, vault.members[name].token) for name in ("alice", "dora")] == [401, 401]
    assert status_with(vault, vault.bob.token) == 200


@pytest.mark.parametrize("column", ["expires_at", "created_at", "credential_generation", "user_id"])
def test_p6_an_edited_session_row_opens_nothing_even_with_the_master_key(vault: Vault, column: str) -> None:
    attacker = Attacker(vault)
    row = attacker.row("login_session", id=vault.alice.account.session_id)
    later = {"user_id": vault.dora.account.user_id}.get(column, row[column])
    attacker.update(
        "login_session", row["id"], **{column: later if column == "user_id" else row[column] + 10**9}
    )
    assert status_with(vault, vault.alice.token) == 401
    assert failures(vault)[-1] == (row["id"].hex(), "seal:login_session")
    attacker.reseal("login_session", row["id"])
    assert status_with(vault, vault.alice.token) == 401


def test_p6_an_expired_session_cannot_be_lengthened(vault: Vault) -> None:
    attacker, alice = Attacker(vault), vault.alice.account
    row = attacker.row("login_session", id=alice.session_id)
    past = datetime.now(UTC) - timedelta(minutes=1)
    microseconds = int(past.timestamp() * 1_000_000)
    sealed = seal_session(
        attacker.master, alice.secret, alice.account_key, session=alice.session_id, user=alice.user_id,
        created_at=alice.created_at, expires_at=datetime.fromtimestamp(0, UTC) + timedelta(microseconds=microseconds),
        generation=alice.generation,
    )  # fmt: skip
    attacker.update("login_session", row["id"], expires_at=microseconds, sealed_account_key=sealed)
    attacker.reseal("login_session", row["id"])
    assert status_with(vault, vault.alice.token) == 401, "it has expired"
    assert failures(vault) == [], "and that is no damage"
    attacker.update("login_session", row["id"], expires_at=row["expires_at"])
    attacker.reseal("login_session", row["id"])
    assert status_with(vault, vault.alice.token) == 401


@pytest.mark.requirement(29)
def test_p6_the_database_and_the_master_key_together_open_no_session(vault: Vault) -> None:
    attacker, alice = Attacker(vault), vault.alice.account
    row = attacker.row("login_session", id=alice.session_id)
    for secret in (bytes(32), row["id"] * 2, attacker.master.derive(MASTER_TOKENS), row["seal"]):
        with pytest.raises(Unreadable):
            open_session(
                attacker.master, row["master_key_id"], secret, row["sealed_account_key"], session=row["id"],
                user=row["user_id"], created_at=alice.created_at, expires_at=alice.expires_at, generation=1,
            )  # fmt: skip
    dump = (vault.instance / "vault.sqlite3").read_bytes()
    for half in (alice.secret, alice.account_key):
        assert half not in dump
        assert half.hex().encode() not in dump


# P7

Event = Callable[[Vault, str], None]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def logs_out(vault: Vault, token: str) -> None:
    assert vault.api().delete("/token", headers=bearer(token)).status_code == 204


def ends_it_elsewhere(vault: Vault, token: str) -> None:
    session = jwt.decode(token, options={"verify_signature": False})["sid"]
    assert vault.api("bob").delete(f"/me/sessions/{session}").status_code == 204


def signs_out_everywhere(vault: Vault, token: str) -> None:
    assert vault.api("bob").delete("/me/sessions").status_code == 204


def changes_the_passphrase(vault: Vault, token: str) -> None:
    body = {"current": vault.bob.passphrase, "new": OWN}
    assert vault.api("bob").put("/me/passphrase", json=body).status_code == 200


def is_disabled(vault: Vault, token: str) -> None:
    assert vault.api("dora").patch("/accounts/bob", json={"state": "disabled"}).status_code == 204


def is_disabled_and_enabled(vault: Vault, token: str) -> None:
    is_disabled(vault, token)
    assert vault.api("dora").patch("/accounts/bob", json={"state": "active"}).status_code == 204


@pytest.fixture
def second_worker(vault: Vault) -> Iterator[Vault]:
    """Another process on the same database would see just what this second application sees."""
    other = vault.reopened()
    yield other
    other.close()


@pytest.mark.parametrize(
    "event",
    [logs_out, ends_it_elsewhere, signs_out_everywhere, changes_the_passphrase, is_disabled, is_disabled_and_enabled],
)  # fmt: skip
@pytest.mark.requirement(31)
def test_p7_no_session_outlives_its_end_in_any_worker(
    vault: Vault, second_worker: Vault, event: Event
) -> None:
    document = vault.upload("bob", CANARY)
    token = log_in(vault, "bob", vault.bob.passphrase).json["token"]
    row = Attacker(vault).rows("login_session", user_id=vault.bob.account.user_id)
    assert status_with(vault, token) == status_with(second_worker, token) == 200
    event(vault, token)
    for worker in (vault, second_worker):
        assert status_with(worker, token) == 401
        get = worker.api().get(f"/documents/{document.hex()}/content", headers=bearer(token))
        assert CANARY[:16] not in answer(get).body
        assert worker.api().post("/token/renew", headers=bearer(token)).status_code == 401
        with worker.services() as bundle, pytest.raises(LoginRequired):
            bundle.sessions.identify(token)
    if event not in {logs_out, ends_it_elsewhere}:
        # A backup of the row is no session either: the credential generation is another one by now.
        Attacker(vault).put("login_session", *row)
        assert status_with(vault, token) == 401


@pytest.mark.requirement(21)
def test_p7_the_session_that_changes_the_passphrase_goes_on(vault: Vault) -> None:
    with vault.services() as bundle:
        chosen = bundle.accounts.change_passphrase(vault.bob.account, vault.bob.passphrase)
    assert status_with(vault, vault.bob.token) == 200
    assert log_in(vault, "bob", vault.bob.passphrase).status_code == 401
    assert log_in(vault, "bob", chosen).status_code == 201
    # An upload that began before the change is committed after it: the account is the one of before.
    assert vault.read("bob", vault.upload("bob", CANARY)) == CANARY


@pytest.mark.requirement(31)
def test_p7_an_upload_is_not_committed_for_an_account_disabled_meanwhile(vault: Vault) -> None:
    stopped = iter([b"first half ", b"second half"])

    def read(size: int) -> bytes:
        piece = next(stopped, b"")
        if piece == b"second half":
            with vault.services() as other:
                other.accounts.set_state(vault.dora.account, "bob", "disabled")
        return piece

    with vault.services() as bundle, pytest.raises(LoginRequired):
        bundle.uploads.receive(vault.bob.account, read, name="late.txt")
    assert Attacker(vault).rows("document") == []


def test_p7_an_administrator_no_more_is_none_at_the_next_request(vault: Vault) -> None:
    assert vault.api("dora").patch("/accounts/alice", json={"role": "admin"}).status_code == 204
    assert vault.api("alice").patch("/accounts/dora", json={"role": "user"}).status_code == 204
    assert vault.api("dora").get("/accounts").status_code == 403
    assert vault.api("dora").patch("/accounts/dora", json={"role": "admin"}).status_code == 403


def test_p7_a_revoked_reader_is_out_at_the_next_request(vault: Vault) -> None:
    document = vault.upload("alice", CANARY, share=("bob",))
    path = f"/documents/{document.hex()}/content"
    etag = vault.api("bob").get(path).headers["ETag"]
    assert vault.api("alice").delete(f"/documents/{document.hex()}/shares/bob").status_code == 204
    for headers in ({}, {"If-None-Match": etag}, {"Range": "bytes=0-3"}):
        got = answer(vault.api("bob").get(path, headers=headers))
        assert got.status == 404
        assert CANARY[:4] not in got.body
    assert vault.api("bob").head(path).status_code == 404


# P8

UNAUTHORISED_BY_COOKIE = {"api.register", "api.log_in", "api.recover", "api.reset"}


def changes(vault: Vault) -> list[tuple[str, str, str]]:
    """Every route that changes something, as (method, address, endpoint)."""
    found = []
    with vault.app.test_request_context():
        adapter = vault.app.url_map.bind("localhost")
        for rule in vault.app.url_map.iter_rules():
            values = {name: bytes(16) if name.endswith("_id") else "bob" for name in rule.arguments}
            for method in (rule.methods or set()) - {"GET", "HEAD", "OPTIONS"}:
                found.append((method, adapter.build(rule.endpoint, values, method=method), rule.endpoint))
    return sorted(found)


def state(vault: Vault) -> dict[str, Any]:
    attacker = Attacker(vault)
    tables = ("user", "document", "shared_key_registry", "invitation", "unlock_method", "upload")
    sessions = [row["id"] for row in attacker.rows("login_session")]  # when each was last seen moves on
    return {table: attacker.rows(table) for table in tables} | {"login_session": sessions}


@pytest.mark.requirement(52)
def test_p8_every_change_by_cookie_needs_the_token(vault: Vault) -> None:
    document = vault.upload("alice", CANARY)
    before, browser = state(vault), vault.browser("alice")
    browser.csrf("/account")
    routes = changes(vault)
    assert len(routes) > 30
    # A form of another site can send these types; JSON it cannot.
    bodies: tuple[Callable[[], dict[str, Any]], ...] = (
        lambda: {"data": {"file": (io.BytesIO(CANARY), "f.txt")}},
        lambda: {"data": {"csrf_token": "wrong", "confirm": "1"}},
        lambda: {"data": b"raw", "content_type": "text/plain"},
    )
    for method, address, endpoint in routes:
        path = address.replace("0" * 32, document.hex())
        for headers in ({}, {"X-CSRFToken": "wrong"}, {"X-CSRFToken": ""}):
            for body in bodies:
                if endpoint in UNAUTHORISED_BY_COOKIE:
                    continue
                got = browser.client.open(path, method=method, headers=headers, **body())
                # A body that is no form stops the two that take files before its token is looked for.
                refused = {400, 415} if endpoint in {"web.send_upload", "web.send_version"} else {400}
                if endpoint.startswith("resumable."):
                    refused = {412}  # these cannot say which version of tus they speak
                assert got.status_code in refused, (method, path, got.status_code)
    assert state(vault) == before


def test_p8_a_change_that_names_another_site_is_refused(vault: Vault) -> None:
    before, browser = state(vault), vault.browser("alice")
    token = browser.csrf("/account")
    for origin in (
        "https://evil.example",
        "null",
        "http://localhost.evil.example",
        "https://localhost",
        "http://localhost:81",
    ):
        for method, path, _ in changes(vault):
            headers = {"Origin": origin, "X-CSRFToken": token}
            got = browser.client.open(path, method=method, headers=headers, data={"csrf_token": token})
            assert got.status_code == 403, (origin, method, path, got.status_code)
    assert state(vault) == before
    assert browser.client.delete(
        "/api/v1/me/sessions", headers={"Origin": "http://localhost", "X-CSRFToken": token}
    )


def test_p8_a_token_of_another_browser_is_none(vault: Vault) -> None:
    stolen = vault.browser("charlie").csrf("/account")
    browser = vault.browser("alice")
    browser.csrf("/account")
    got = browser.client.post("/logout", data={"csrf_token": stolen})
    assert got.status_code == 400
    assert browser.get("/account").status_code == 200


@pytest.mark.requirement(30)
def test_p8_a_login_makes_a_new_session_and_needs_a_token(vault: Vault) -> None:
    browser = vault.browser()
    form = {"username": "bob", "passphrase": vault.bob.passphrase}
    assert browser.client.post("/login", data=form).status_code == 400, (
        "nobody is logged in from another site"
    )
    fixed = "session-chosen-by-somebody-else"
    browser.client.set_cookie("docvault", fixed, domain="localhost")
    assert browser.post("/login", form).status_code == 303
    one = browser.client.get_cookie("docvault", domain="localhost").value
    assert one != fixed
    assert (
        browser.client.post("/login", data=form | {"csrf_token": browser.csrf("/account")}).status_code == 303
    )
    other = browser.client.get_cookie("docvault", domain="localhost").value
    sids = {jwt.decode(token, options={"verify_signature": False})["sid"] for token in (one, other)}
    assert len(sids) == 2


# P9

GOOD = "5a" * 32


NO_KEYS = {
    "31 bytes": "5a" * 31,
    "33 bytes": "5a" * 33,
    "zero": "00" * 32,
    "16 bytes": "5a" * 16,
    "raw": "Z" * 32,
    "no hex": "zz" * 32,
    "odd": "5a" * 31 + "5",
    "0x": "0x" + "5a" * 31,
    "base64": base64.b64encode(b"Z" * 32).decode(),
}


@pytest.mark.parametrize("kind", NO_KEYS)
@pytest.mark.parametrize("source", ["setting", "file", "command", "fallback"])
def test_p9_a_key_that_is_none_stops_the_start(tmp_path: Path, kind: str, source: str) -> None:
    key, file = NO_KEYS[kind], tmp_path / "key"
    file.write_text(key + "\n")
    file.chmod(0o600)
    given: dict[str, Any] = {
        "setting": {"master_key": key},
        "file": {"master_key_file": file},
        "command": {"master_key_command": f"cat {file}"},
        "fallback": {"master_key": GOOD, "master_key_fallbacks": key},
    }[source]
    with pytest.raises(Misconfigured) as refusal:
        create_app(settings_for(tmp_path / "instance", **given))
    text = str(refusal.value)
    assert "docvault keys generate" in text, "it says what to do"
    assert key[:8] not in text, "it repeats nothing of the key"
    assert not (tmp_path / "instance" / "vault.sqlite3").exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_p9_a_key_file_that_others_may_read_stops_the_start(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "key"
    file.write_text(GOOD)
    file.chmod(mode)
    with pytest.raises(Misconfigured, match="chmod 600") as refusal:
        create_app(settings_for(tmp_path / "instance", master_key_file=file))
    assert GOOD[:8] not in str(refusal.value)


def test_p9_a_vault_whose_key_is_lost_gets_no_new_one(vault: Vault) -> None:
    (vault.instance / "master.key").unlink()
    with pytest.raises(Misconfigured, match="no master key"):
        create_app(settings_for(vault.instance))
    assert not (vault.instance / "master.key").exists()


def test_p9_the_key_of_another_vault_stops_the_start_and_marks_nothing_as_damaged(vault: Vault) -> None:
    document = vault.upload("alice", CANARY)
    before = vault.audit()
    (vault.instance / "master.key").write_text(GOOD)
    app = create_app(settings_for(vault.instance))
    with app.app_context(), pytest.raises(Misconfigured, match="not the one of this database") as refusal:
        migrate_schema(app)
    assert GOOD[:8] not in str(refusal.value)
    assert vault.audit() == before
    assert vault.read("alice", document) == CANARY


@pytest.mark.requirement(24)
def test_p9_a_new_vault_makes_a_key_that_is_private_and_never_shown(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = settings_for(tmp_path / "instance")
    app = create_app(settings)
    file = tmp_path / "instance" / "master.key"
    key = file.read_text().strip()
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(bytes.fromhex(key)) == 32
    with app.app_context():
        migrate_schema(app)
    shown = "".join(capfd.readouterr()) + repr(settings) + repr(app.extensions["docvault"]) + repr(app.config)
    assert key[:16] not in shown
    dump = b"".join(path.read_bytes() for path in (tmp_path / "instance").glob("vault.sqlite3*"))
    assert bytes.fromhex(key) not in dump
    assert key.encode() not in dump
    other = create_app(settings_for(tmp_path / "other"))
    assert other.extensions["docvault"].master.key_id != app.extensions["docvault"].master.key_id


def test_p9_a_secret_in_the_settings_is_not_shown(tmp_path: Path) -> None:
    given = {
        "master_key": GOOD,
        "master_key_fallbacks": "6b" * 32,
        "minio_secret_key": "kept-quiet",
        "metrics_token": "hush-hush-hush-hush",
    }
    settings = settings_for(tmp_path, **given)
    for text in (repr(settings), str(settings), settings.model_dump_json()):
        assert not any(secret in text for secret in (GOOD, "6b" * 32, "kept-quiet", "hush"))
    with pytest.raises(Misconfigured) as refusal:
        settings_for(tmp_path, master_key=GOOD, port=10**6)
    assert GOOD[:8] not in str(refusal.value)
