"""A1 to A5: the secondary addresses of a document, foreign or missing, mass assignment, races.

``tests/test_access.py`` walks every route as every actor; here are the routes that no table knows of, made from
``app.url_map``.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.access_table import TABLE
from tests.attacks.attacker import CANARY, Attacker, models
from tests.cast import Vault
from vault.crypto.randomness import new_id

TABLES = ("document", "document_version", "shared_key_registry", "user", "part_list", "tombstone")
BODIES: tuple[dict[str, Any], ...] = (
    {"json": {"name": "mine", "usernames": ["charlie"], "version": "0" * 32, "path": []}},
    {"data": b"mine", "content_type": "application/octet-stream"},
    {"data": {"confirm": "1", "name": "mine", "recipients": "charlie", "readers": "bob", "etag": ""}},
)


def state(vault: Vault) -> dict[str, list[Any]]:
    attacker = Attacker(vault)
    return {table: attacker.rows(table) for table in TABLES}


def addresses(vault: Vault, document: bytes, version: bytes) -> Iterator[tuple[str, str, str]]:
    """Every method and address below a document or a version, as the application routes them."""
    for rule in vault.app.url_map.iter_rules():
        if "<id:document_id>" in rule.rule or "<id:version_id>" in rule.rule:
            path = rule.rule.replace("<id:document_id>", document.hex()).replace(
                "<id:version_id>", version.hex()
            )
            for method in sorted((rule.methods or set()) - {"OPTIONS"}):
                yield method, path.replace("<username>", "bob"), rule.rule


# A1


@pytest.mark.requirement(35)
def test_a1_a_route_without_a_line_in_the_table_of_roles_fails_the_build(vault: Vault) -> None:
    routed = {
        f"{method} {rule.rule}"
        for rule in vault.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"OPTIONS", "HEAD"}
    }
    assert routed == {key for key in TABLE if not key.startswith("HEAD ")}


@pytest.mark.parametrize("who", ["charlie", "dora", "erased"])
@pytest.mark.requirement(36)
def test_a1_no_verb_at_any_address_of_a_document_is_for_a_stranger(vault: Vault, who: str) -> None:
    """Partial updates, deletions of shares, versions, restores, moves: whatever body comes along."""
    document = vault.upload("alice", CANARY, share=("bob", "charlie"))
    other = vault.upload("charlie", b"own")
    version = Attacker(vault).row("document", id=document)["version_id"]
    with vault.services() as bundle:
        bundle.sharing.revoke(vault.alice.account, [document], ["charlie"])
    name = "charlie" if who == "erased" else who
    before, asked = state(vault), 0
    if who == "erased":  # he was a reader once, and asks through his own document as well
        for _, path, _ in addresses(vault, other, version):
            if path.count("/") > 3 and other.hex() in path and version.hex() in path:
                assert vault.browser("charlie").get(path).status_code == 404
    for method, path, rule in addresses(vault, document, version):
        for body in BODIES if method not in {"GET", "HEAD"} else ({},):
            if path.startswith("/api/v1"):
                got = vault.api(name).open(method, path.removeprefix("/api/v1"), **body)
            else:
                browser = vault.browser(name)
                form = dict(body.get("data", {})) if isinstance(body.get("data", {}), dict) else {}
                got = browser.client.open(
                    path, method=method, data=form | {"csrf_token": browser.csrf("/account")}
                )
            assert got.status_code in {400, 404, 415}, f"{method} {rule} as {name}: {got.status_code}"
            assert CANARY[:16] not in got.data
            asked += 1
    assert asked > 40
    assert state(vault) == before
    assert vault.read("alice", document) == CANARY


# A2


def test_a2_foreign_and_missing_are_the_same_bytes(vault: Vault) -> None:
    document = vault.upload("alice", CANARY)
    version = Attacker(vault).row("document", id=document)["version_id"]

    def seen(method: str, path: str) -> tuple[int, bytes, list[tuple[str, str]]]:
        got = vault.api("charlie").open(method, path)
        request_id = got.headers["X-Request-Id"]
        headers = [(name, value) for name, value in got.headers if name != "X-Request-Id"]
        return got.status_code, got.data.replace(request_id.encode(), b""), headers

    for method, path in (
        ("GET", "/documents/{d}"), ("GET", "/documents/{d}/content"), ("HEAD", "/documents/{d}/content"),
        ("GET", "/documents/{d}/versions"), ("GET", "/versions/{v}/content"), ("DELETE", "/documents/{d}"),
        ("GET", "/documents/zip?id={d}"), ("DELETE", "/documents/{d}/shares/alice"),
    ):  # fmt: skip
        foreign = seen(method, path.format(d=document.hex(), v=version.hex()))
        missing = seen(method, path.format(d=new_id().hex(), v=new_id().hex()))
        assert foreign == missing and foreign[0] == 404, path


# A3


def test_a3_no_spelling_of_an_address_gets_round_a_right_that_ended(vault: Vault) -> None:
    document = vault.upload("alice", CANARY, share=("bob",))
    bob = vault.api("bob")
    path = f"/documents/{document.hex()}/content"
    etag = bob.get(path).headers["ETag"]
    with vault.services() as bundle:
        bundle.sharing.revoke(vault.alice.account, [document], ["bob"])
    for spelled in (
        path,
        path + "/",
        path + "/download",
        path + "?download=1",
        path + "?inline=1",
        path.upper(),
    ):
        for headers in (
            {}, {"Range": "bytes=0-9"}, {"Range": "bytes=0-", "If-Range": etag}, {"If-None-Match": etag},
            {"If-Match": etag}, {"If-None-Match": "*"}, {"Accept": "image/*"}, {"X-Forwarded-User": "alice"},
            {"X-HTTP-Method-Override": "GET"}, {"X-Original-URL": path},
        ):  # fmt: skip
            for ask in (bob.get, bob.head):
                got = ask(spelled, headers=headers)
                assert got.status_code in {404, 405}, (spelled, headers, got.status_code)
                assert CANARY[:16] not in got.data and "ETag" not in got.headers


# A4


def columns() -> list[str]:
    """Every column name of every table that is not the field of a form."""
    names = {column.key for model in models().values() for column in model.__table__.columns}  # type: ignore[attr-defined]
    return sorted(names - {"username", "role", "state", "expires_at"})


def test_a4_no_column_can_be_set_by_naming_it(vault: Vault) -> None:
    document = vault.upload("alice", CANARY, share=("bob",))
    before = state(vault)
    other = {"owner_id": vault.bob.account.user_id.hex(), "reader_id": vault.bob.account.user_id.hex()}
    extra = {name: other.get(name, "1") for name in columns()}
    for method, path, body in (
        ("PATCH", f"/documents/{document.hex()}", {"name": "x"}),
        ("POST", f"/documents/{document.hex()}/shares", {"usernames": ["charlie"]}),
        ("PUT", "/me/passphrase", {"current": vault.alice.passphrase}),
    ):
        for name, value in extra.items():
            got = vault.api("alice").open(method, path, json=body | {name: value})
            assert got.status_code == 400, (path, name)
    assert state(vault) == before
    form = extra | {"confirm": "1", "recipients": "charlie", "expires_at": ""}
    assert vault.browser("alice").post(f"/documents/{document.hex()}/share", form).status_code == 303
    browser = vault.browser("alice")
    sent = extra | {"csrf_token": browser.csrf("/upload"), "file": (io.BytesIO(b"new"), "new.txt")}
    assert browser.client.post("/upload", data=sent).status_code == 303
    after = state(vault)
    assert {row["owner_id"] for row in after["document"]} == {vault.alice.account.user_id}
    assert sorted(row["permission"] for row in after["shared_key_registry"]) == [
        "owner",
        "owner",
        "read",
        "read",
    ]
    assert [(row["role"], row["state"]) for row in after["user"]] == [
        (row["role"], row["state"]) for row in before["user"]
    ]


# A5


def together(*acts: Callable[[], Any]) -> list[Any]:
    """Run all of them at once; return what they answered."""
    answers: list[Any] = [None] * len(acts)
    start = threading.Barrier(len(acts))

    def run(number: int) -> None:
        start.wait()
        answers[number] = acts[number]()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


@pytest.mark.requirement(60)
def test_a5_an_invitation_is_accepted_once(vault: Vault) -> None:
    code = vault.api("dora").post("/invitations", json={"username": "zoe"}).json["code"]

    def accept() -> int:
        return int(vault.api().post("/users", json={"username": "zoe", "code": code}).status_code)

    answers = together(*[accept] * 3)
    assert sorted(answers)[0] == 201 and answers.count(201) == 1, answers
    assert len(Attacker(vault).rows("user", username="zoe")) == 1
    assert Attacker(vault).rows("invitation") == []


@pytest.mark.parametrize("rounds", [8, pytest.param(200, marks=pytest.mark.long)])
@pytest.mark.requirement(60)
def test_a5_share_and_revoke_at_once_end_as_one_after_the_other(vault: Vault, rounds: int) -> None:
    document = vault.upload("alice", CANARY, share=("bob",))
    path = f"/documents/{document.hex()}"

    def share() -> int:
        return int(vault.api("alice").post(f"{path}/shares", json={"usernames": ["bob"]}).status_code)

    def revoke() -> int:
        return int(vault.api("alice").delete(f"{path}/shares/bob").status_code)

    for number in range(rounds):
        answers = together(share, revoke, share, revoke)
        assert set(answers) <= {200, 204, 400, 409, 503}, answers
        row = Attacker(vault).row("document", id=document)
        readers = Attacker(vault).rows("shared_key_registry", document_id=document, permission="read")
        assert row["readers"] == len(readers) and all(each["epoch"] == row["epoch"] for each in readers)
        status = vault.api("bob").get(f"{path}/content").status_code
        assert status == (200 if readers else 404), f"round {number}"
    with vault.services() as bundle:
        assert bundle.check.run().findings == []
