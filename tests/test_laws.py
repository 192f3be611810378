"""The laws that hold everywhere: secrecy of names, seals that do not move, silence of logs.

Law 1, the order of put and commit, is held by ``tests/faults``.
"""

from __future__ import annotations

import base64
import io
import json
import logging
import os
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.attacks.attacker import CANARY, Attacker, answer, assert_refused, flip, models
from tests.attacks.history import live_through
from tests.cast import Browser, Vault
from tests.tus import PIECE, VERSION, Tus, metadata
from vault.crypto.randomness import new_id
from vault.crypto.sealing import sealed_size
from vault.errors import Unreadable

# Law 2: names, types and lengths of names are secrets too


def test_law_2_the_database_does_not_show_how_long_a_name_is(vault: Vault) -> None:
    names = ["a", "a longer name.txt", "ü" * 40, "x" * 200]
    documents = [vault.upload("alice", b"same", name=name) for name in names]
    attacker = Attacker(vault)
    sizes = {len(row["sealed_manifest"]) for row in attacker.rows("document_version")}
    entries = {len(row["sealed_entry"]) for row in attacker.rows("document_index")}
    padded = {sealed_size(1 << power) for power in range(7, 12)}
    assert sizes <= padded
    assert entries <= padded
    one, two = (attacker.row("document_version", document_id=document) for document in documents[:2])
    assert len(one["sealed_manifest"]) == len(two["sealed_manifest"])
    assert {name: type(value) for name, value in one.items()} == {
        name: type(value) for name, value in two.items()
    }


# Law 3: no sealed row can be moved, swapped or copied


def test_law_3_no_row_of_any_table_can_be_copied_or_exchanged(vault: Vault) -> None:
    live_through(vault)
    attacker = Attacker(vault)
    for table, model in models().items():
        rows = attacker.rows(table)
        copy = rows[0] | {"id": new_id()}
        attacker.put(table, copy)  # where a key is unique the copy takes the place of the row
        assert_unreadable(vault, model, copy["id"])
        attacker.remove(table, copy["id"])
        attacker.put(table, rows[0])
        if len(rows) > 1:
            attacker.swap(table, rows[0], rows[1])
            for row in rows[:2]:
                assert_unreadable(vault, model, row["id"])
            attacker.remove(table, rows[0]["id"], rows[1]["id"])
            attacker.put(table, rows[0], rows[1])
    with vault.services() as bundle:
        assert bundle.check.run().findings == []


def test_law_3_no_row_bears_the_seal_of_another_table(vault: Vault) -> None:
    """Document and user have columns of the same types: the table's name is in the seal."""
    live_through(vault)
    attacker = Attacker(vault)
    seals = {table: attacker.rows(table)[0]["seal"] for table in models()}
    for table, model in models().items():
        row = attacker.rows(table)[0]
        for other, seal in seals.items():
            if other != table:
                attacker.update(table, row["id"], seal=seal)
                assert_unreadable(vault, model, row["id"])
        attacker.put(table, row)


def assert_unreadable(vault: Vault, model: Any, row_id: bytes) -> None:
    with vault.services() as bundle, pytest.raises(Unreadable):
        bundle.transactions.session.get(model, row_id)


def test_law_3_a_remembered_fingerprint_is_that_of_one_person_for_one_person(vault: Vault) -> None:
    """With the master key: Alice's memory of Bob in the place of her memory of Charlie, or of Charlie's of Bob."""
    document = vault.upload("alice", CANARY, share=("bob", "charlie"))
    vault.upload("charlie", b"they meet", share=("bob",))
    attacker = Attacker(vault)
    alice, bob, charlie = (vault.members[name].account.user_id for name in ("alice", "bob", "charlie"))
    mine = attacker.row("contact", user_id=alice, other_id=bob)
    for other in (
        attacker.row("contact", user_id=alice, other_id=charlie),
        attacker.row("contact", user_id=charlie, other_id=bob),
    ):
        attacker.update("contact", mine["id"], sealed_fingerprint=other["sealed_fingerprint"])
        attacker.reseal("contact", mine["id"])
        path = f"/documents/{document.hex()}/shares"
        assert_refused(vault, lambda: vault.api("alice").post(path, json={"usernames": ["bob"]}), document)  # noqa: B023


# Law 4: 404 for strangers, 403 only for who may already see it


def test_law_4_a_stranger_cannot_tell_a_document_from_none(vault: Vault) -> None:
    document = vault.upload("alice", CANARY, share=("bob",))
    version = Attacker(vault).row("document", id=document)["version_id"]
    missing = new_id()
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", "/documents/{}", {}), ("GET", "/documents/{}/content", {}), ("HEAD", "/documents/{}/content", {}),
        ("GET", "/documents/{}/content", {"headers": {"Range": "bytes=0-1"}}), ("GET", "/documents/{}/versions", {}),
        ("GET", "/documents/{}/shares", {}), ("POST", "/documents/{}/shares", {"json": {"usernames": ["bob"]}}),
        ("DELETE", "/documents/{}/shares/bob", {}), ("DELETE", "/documents/{}/shares/me", {}),
        ("PATCH", "/documents/{}", {"json": {"name": "mine"}}), ("PUT", "/documents/{}/content", {"data": b"mine"}),
        ("DELETE", "/documents/{}", {}), ("POST", "/documents/{}/restore", {"json": {"version": version.hex()}}),
    ]  # fmt: skip
    for who in ("charlie", "dora"):
        for method, path, options in calls:
            there, not_there = (
                vault.api(who).open(method, path.format(document_id.hex()), **options)
                for document_id in (document, missing)
            )
            assert there.status_code == not_there.status_code == 404, (who, method, path)
            assert unnamed(there) == unnamed(not_there)
        assert vault.api(who).get(f"/versions/{version.hex()}/content").status_code == 404
    for method, path, options in calls:
        if path.endswith("/me"):
            continue  # he would leave
        status = vault.api("bob").open(method, path.format(document.hex()), **options).status_code
        assert status in {200, 204, 206, 403}, (method, path, status)
    assert vault.read("alice", document) == CANARY


def unnamed(response: Any) -> tuple[bytes, dict[str, str]]:
    """An answer without the id of its request."""
    request_id = response.headers["X-Request-Id"]
    headers = {name: value for name, value in response.headers if name != "X-Request-Id"}
    return response.data.replace(request_id.encode(), b""), headers


# Law 5: nothing that is secret reaches the database, the blobs, a log, a cookie, an error or a temporary file

NAME = "Zwetschgendatschi-Rezept.odt"
NEW_NAME = "Quittengelee ganz geheim.odt"
FOLDER = "Familienarchiv-Kanzlei"
KIND = "application/x-plum-cake-secret"
CONTENT = (
    b"Eight hundred grams of plums, and do not tell grandmother. " * 20_000
)  # 1.2 MB: a spool would go to disk
SECOND = b"A second version: nine hundred grams after all. " * 100
OWN = "many Plums and 4711 other reasons to bake"
TYPO = "my pasphrase with a tpyo in it"


class Grep:
    """Collects secrets, and looks for each in every spelling that a log or a file might use."""

    def __init__(self) -> None:
        self.secrets: dict[str, bytes] = {}

    def add(self, what: str, secret: str | bytes) -> None:
        self.secrets[what] = secret.encode() if isinstance(secret, str) else secret

    def found(self, haystack: bytes) -> set[str]:
        return {
            what
            for what, secret in self.secrets.items()
            if any(form in haystack for form in spellings(secret))
        }


def spellings(secret: bytes) -> set[bytes]:
    piece = secret[:40]
    forms = {piece, piece.hex().encode(), piece.hex().upper().encode(), quote(piece).encode()}
    forms |= {base64.b64encode(piece)[:-4], base64.urlsafe_b64encode(piece)[:-4]}
    try:
        forms |= {json.dumps(piece.decode())[1:-1].encode(), piece.decode().casefold().encode()}
        forms |= {piece.decode().encode("utf-16-le")}
    except UnicodeDecodeError:
        pass
    return forms


class WatchedBody(io.BytesIO):
    """A request's body that looks, each time it is read, for files that the server spools it to."""

    def __init__(self, body: bytes, folder: Path) -> None:
        super().__init__(body)
        self.folder = folder
        self.spooled: set[str] = set()

    def read(self, size: int | None = -1, /) -> bytes:
        self.spooled |= {path.name for path in self.folder.rglob("*")}
        for descriptor in Path("/proc/self/fd").iterdir():
            try:
                target = os.readlink(descriptor)
            except OSError:
                continue
            if target.startswith(str(self.folder)):
                self.spooled.add(target)
        return super().read(size)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder where everything temporary goes."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def logged(vault: Vault) -> Iterator[io.StringIO]:
    """Everything that the vault logs, down to the least important, as it is written."""
    written = io.StringIO()
    root, own = logging.getLogger(), logging.getLogger("vault")
    (handler,) = [handler for handler in root.handlers if handler.name == "docvault"]
    assert isinstance(handler, logging.StreamHandler)
    before, levels = handler.setStream(written), (root.level, own.level)
    root.setLevel(logging.DEBUG)
    own.setLevel(logging.DEBUG)
    yield written
    handler.setStream(before)
    root.setLevel(levels[0])
    own.setLevel(levels[1])


def form_cookie(response: Any) -> bytes:
    """What the signed cookie of the forms holds: it is readable by whoever reads the browser's disk."""
    opened = b""
    for header in response.headers.getlist("Set-Cookie"):
        name, _, value = header.split(";")[0].partition("=")
        if name.endswith("docvault_form"):
            zipped, body = value.startswith("."), value.lstrip(".").split(".")[0]
            plain = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
            opened += zlib.decompress(plain) if zipped else plain
    return opened


@pytest.mark.requirement(34)
def test_law_5_no_secret_of_the_whole_story_is_found_anywhere(
    vault: Vault, temporary: Path, logged: io.StringIO
) -> None:
    grep, errors, spooled = Grep(), bytearray(), set[str]()
    for what, text in {
        "name": NAME,
        "new name": NEW_NAME,
        "folder": FOLDER,
        "media type": KIND,
        "own": OWN,
    }.items():
        grep.add(what, text)
    grep.add("content", CONTENT)
    grep.add("second content", SECOND)
    grep.add("typo", TYPO)
    for member in vault.members.values():
        for day, key in zip(("today", "yesterday"), member.account.upload_keys, strict=True):
            grep.add(f"upload key of {member.name} of {day}", key)
        grep.add(f"passphrase of {member.name}", member.passphrase)
        grep.add(f"token of {member.name}", member.token.rpartition(".")[0][-80:])
        grep.add(f"signature of {member.name}", member.token.rpartition(".")[2])
        grep.add(f"device of {member.name}", member.device)
        for key in ("secret", "account_key"):
            grep.add(f"{key} of {member.name}", getattr(member.account, key))
    master = (vault.instance / "master.key").read_text().strip()
    grep.add("master key", master)
    grep.add("master key in bytes", bytes.fromhex(master))

    def seen(response: Any, *statuses: int) -> Any:
        got = answer(response)
        assert got.status in statuses, (got.status, got.body[:200])
        if got.status >= 400:
            errors.extend(got.body)
        errors.extend(form_cookie(response))
        return got

    # An invited person registers on the page, types his passphrase wrong, then right.
    invited = vault.api("dora").post("/invitations", json={"username": "zaphod"}).json["code"]
    grep.add("invitation code", invited)
    grep.add("invitation code without hyphens", invited.replace("-", ""))
    seen(
        vault.api().post("/users", json={"username": "zaphod", "code": "AAAAA-BBBBB-CCCCC-DDDDD-EEEEEE"}), 400
    )
    new = json.loads(seen(vault.api().post("/users", json={"username": "zaphod", "code": invited}), 201).body)
    grep.add("passphrase of zaphod", new["passphrase"])
    seen(vault.api().post("/token", json={"username": "zaphod", "passphrase": TYPO}), 401)
    seen(vault.api().post("/token", json={"username": "zaphod", "passphrase": TYPO * 100}), 400)
    seen(vault.api().post("/token", json={"username": "zaphod", "passphrase": TYPO, "typo": TYPO}), 400)
    browser = vault.browser()
    seen(browser.post("/login", {"username": "zaphod", "passphrase": TYPO}), 200, 400, 401)
    seen(browser.post("/login", {"username": "zaphod", "passphrase": new["passphrase"]}), 303)
    for cookie in ("docvault", "docvault_device"):
        grep.add(f"cookie {cookie}", browser.client.get_cookie(cookie, domain="localhost").value[-60:])

    # Upload by a form and raw, rename, move, share, replace, read, search, fail, revoke, delete.
    alice, bob = vault.api("alice"), vault.api("bob")
    document = send_form(vault, browser, temporary, spooled, seen)
    body = WatchedBody(CONTENT, temporary)
    headers = {"Content-Type": KIND, "Content-Length": str(len(CONTENT))}
    raw = alice.post(
        f"/documents?name={quote(NAME)}&recipients=bob,charlie", input_stream=body, headers=headers
    )
    mine = json.loads(seen(raw, 201).body)["id"]
    spooled |= body.spooled
    assert json.loads(seen(alice.get(f"/documents/{mine}"), 200).body)["media_type"] == KIND
    assert seen(bob.get(f"/documents/{mine}/content"), 200).body == CONTENT, "the grep would find it"
    seen(alice.patch(f"/documents/{mine}", json={"name": NEW_NAME, "path": [FOLDER]}), 200)
    seen(alice.patch(f"/documents/{mine}", json={"name": NEW_NAME + "/" + NAME}), 400)
    seen(alice.patch(f"/documents/{mine}", json={"name": NAME}, headers={"If-Match": '"0"'}), 412)
    seen(bob.patch(f"/documents/{mine}", json={"name": NAME}), 403)
    seen(vault.api("charlie").get(f"/documents/{document}/content"), 404)
    seen(alice.put(f"/documents/{mine}/content", data=SECOND, headers={"Content-Type": KIND}), 200)
    for query in (f"?q={quote(NEW_NAME[:8])}", "?sort=name", "?sort=type", f"?sort={quote(NAME)}"):
        seen(bob.get(f"/documents{query}"), 200, 400)
    resume(vault, grep, temporary, spooled, seen)
    page = vault.browser("bob")
    assert NEW_NAME in seen(page.get("/shared"), 200).body.decode()
    seen(page.get(f"/documents/{mine}"), 200)
    seen(page.get(f"/documents/{'0' * 32}"), 404)
    seen(bob.get(f"/documents/{mine}/content", headers={"Range": "bytes=999999999-"}), 416)
    damage(vault, bytes.fromhex(mine))
    seen(bob.get(f"/documents/{mine}/content"), 500)
    Attacker(vault).update("document", bytes.fromhex(document), epoch=9)
    seen(browser.get(f"/documents/{document}"), 500)
    seen(alice.delete(f"/documents/{mine}/shares/charlie"), 204)
    chosen = alice.put("/me/passphrase", json={"current": vault.alice.passphrase, "new": OWN})
    seen(chosen, 200)
    seen(alice.put("/me/passphrase", json={"current": TYPO, "new": OWN}), 401)
    fresh = json.loads(seen(alice.put("/me/passphrase", json={"current": OWN}), 200).body)["passphrase"]
    grep.add("generated passphrase of alice", fresh)
    kit = json.loads(seen(alice.post("/me/recovery", json={"current": fresh}), 201).body)["code"]
    grep.add("recovery code", kit)
    grep.add("recovery code without hyphens", kit.replace("-", ""))
    seen(vault.api().post("/recovery", json={"username": "alice", "code": kit[:-1]}), 400)
    seen(vault.api().post("/recovery", json={"username": "bob", "code": kit}), 401)
    used = json.loads(seen(vault.api().post("/recovery", json={"username": "alice", "code": kit}), 200).body)
    grep.add("recovered passphrase of alice", used["passphrase"])
    reset = json.loads(seen(vault.api("dora").post("/accounts/alice/reset"), 201).body)["code"]
    grep.add("reset code", reset)
    anew = json.loads(seen(vault.api().post("/reset", json={"code": reset, "agreed": True}), 200).body)
    grep.add("passphrase of alice after her reset", anew["passphrase"])
    seen(alice.delete("/token"), 401)
    seen(alice.get("/me"), 401)
    with vault.services() as bundle:
        bundle.sweep.run()
        bundle.check.run()

    assert spooled == set(), "a body was written to disk"
    assert list(temporary.rglob("*")) == []
    log = logged.getvalue().encode()
    kept = {path.name: path.read_bytes() for path in vault.instance.rglob("*") if path.is_file()}
    assert "vault.sqlite3-wal" in kept
    del kept["master.key"]
    for name, haystack in {"the log": log, "an error or a cookie": bytes(errors), **kept}.items():
        assert grep.found(haystack) == set(), name
    # The grep can find: user names are in the database, on purpose, and not in the log; ids are in both.
    everything = b"".join(kept.values())
    assert b"zaphod" in everything
    assert b"zaphod" not in log
    assert not any(name.encode() in log for name in ("alice", "charlie"))
    assert mine.encode() in log
    assert bytes.fromhex(mine) in everything
    assert all(json.loads(line) for line in log.splitlines()), "each line of the log is one JSON object"
    assert grep.found(b"x" + base64.b64encode(OWN.encode()) + b"x" + CONTENT) == {"own", "content"}


def send_form(vault: Vault, browser: Browser, temporary: Path, spooled: set[str], seen: Any) -> str:
    """Upload through the page's form, with the file after the token."""
    token, edge = browser.csrf("/upload"), "----edge"
    head = "".join(
        f'--{edge}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in {"csrf_token": token, "recipients": "bob"}.items()
    )
    head += f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="{NAME}"\r\n'
    head += f"Content-Type: {KIND}\r\n\r\n"
    body = WatchedBody(head.encode() + CONTENT + f"\r\n--{edge}--\r\n".encode(), temporary)
    headers = {
        "Content-Type": f"multipart/form-data; boundary={edge}",
        "Content-Length": str(len(body.getvalue())),
    }
    seen(browser.client.post("/upload", input_stream=body, headers=headers), 303)
    spooled |= body.spooled
    (row,) = Attacker(vault).rows("document")
    return str(row["id"].hex())


def resume(vault: Vault, grep: Grep, temporary: Path, spooled: set[str], seen: Any) -> None:
    """Upload by tus, in pieces and in parts that are joined, with every refusal; its addresses are secrets too."""
    tus, told = Tus(vault), metadata(filename=NAME, filetype=KIND, path=FOLDER, recipients="bob")
    half, places = len(CONTENT) // 2, []
    for length, headers in (
        (len(CONTENT), {}), (half, {"Upload_Concat": "partial"}), (half, {"Upload_Concat": "partial"}), (9, {}),
    ):  # fmt: skip
        created = tus.create(length, Upload_Metadata=told, **headers)
        seen(created, 201)
        places.append(created.headers["Location"])
        grep.add(f"address {len(places)}", places[-1].rpartition("/")[2][60:])
    whole, one, two, ended = places
    for start in (0, half):
        body = WatchedBody(CONTENT[start : start + half], temporary)
        sent = tus.api.open(
            "PATCH", whole.removeprefix("/api/v1"), input_stream=body,
            headers={"Tus-Resumable": VERSION, "Upload-Offset": str(start), "Content-Type": PIECE,
                     "Content-Length": str(half)},
        )  # fmt: skip
        spooled |= body.spooled
        seen(sent, 204)
    assert (
        seen(vault.api("bob").get(f"/documents/{sent.headers['X-Vault-Document']}/content"), 200).body
        == CONTENT
    )
    for place in (one, two):
        seen(tus.patch(place, 0, CONTENT[:half]), 204)
    seen(tus.join(one, two + "A"), 404)
    seen(tus.join(one, two, Upload_Metadata=metadata(filename=NAME + "/..")), 400)
    joined = tus.join(one, two, Upload_Metadata=told)
    grep.add("address of the joined", joined.headers["Location"].rpartition("/")[2][60:])
    seen(joined, 201)
    for refused, status in (
        (tus.patch(ended, 5, CONTENT[:4]), 409),
        (tus.patch(ended, 0, CONTENT[:4], Upload_Checksum="sha1 " + "A" * 27 + "="), 460),
        (tus.patch(ended, 0, CONTENT[:4], Content_Type=KIND), 415),
        (tus.patch(ended, 0, CONTENT[:10]), 413),
        (tus.create(5, Upload_Metadata=f"filename {NAME}"), 400),
        (tus.create(5, Upload_Concat=f"final;{ended}"), 400),
        (tus.patch(ended, 0, b"x", Tus_Resumable="0.2.2"), 412),
        (Tus(vault, "charlie").patch(ended, 0, b"x"), 404),
        (Tus(vault, None).patch(ended, 0, b"x"), 423),
        (Tus(vault, None).patch(ended + "A", 0, b"x"), 401),
        (tus.delete(ended), 204),
        (tus.patch(ended, 0, b"x"), 410),
        (tus.send("GET", ended), 405),
        (vault.browser("alice").get(ended), 405),
        (vault.browser("alice").get(ended + "/"), 404),
    ):
        seen(refused, status)


def damage(vault: Vault, document: bytes) -> None:
    flip(Attacker(vault).blob(document), 100)


def test_law_5_what_holds_secrets_does_not_show_them(vault: Vault) -> None:
    """A traceback with values, a debugger or a log line may print any of these."""
    alice = vault.alice
    with vault.services() as bundle:
        document = vault.upload("alice", CANARY)
        held = [alice.account, alice, bundle.downloads.open(alice.account, document), alice.account.private]
        held += [
            alice.account.index_key,
            Attacker(vault).master,
            vault.settings,
            bundle.sessions,
            alice.account.own,
        ]
    shown = " ".join(repr(thing) + str(thing) for thing in held).encode()
    grep = Grep()
    grep.add("account key", alice.account.account_key)
    grep.add("secret", alice.account.secret)
    grep.add("passphrase", alice.passphrase)
    grep.add("token", alice.token)
    grep.add("private key", alice.account.private.sign_der[100:])
    grep.add("segment key", vault_key(vault, document))
    assert grep.found(shown) == set()
    assert repr(alice.account.account_key)[2:-1].encode() not in shown


def vault_key(vault: Vault, document: bytes) -> bytes:
    with vault.services() as bundle:
        key: bytes = bundle.downloads.open(vault.alice.account, document)._parts[0].key
        return key
