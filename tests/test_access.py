"""Who may do what: every route of the application times owner, reader, stranger, administrator, disabled, logged out.

The table in ``tests/access_table.py`` is held against ``app.url_map``: a route without a line fails the first test
(attack A1, checklist 35).
Alice owns the document, Bob reads it, Charlie is a stranger, Dora administers; Erin reads it too, and is disabled.
"""

from __future__ import annotations

import io
import itertools
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.access_table import ACTORS, LEAVING, NAME_OF, TABLE, TO_LOGIN, UNSAFE, WITH_AN_ID, YES, Line
from tests.cast import Member, Vault, reader
from tests.house import refill
from vault.extensions import Base
from vault.services.audit import Event
from vault.services.resumable import Told, Wishes
from vault.services.unlocked import UnlockedAccount
from vault.services.work import begin

MISSING = bytes(range(16))


# The stage: one vault in which everything exists that a route can name


@pytest.fixture(scope="session")
def stage_folder(
    cast_folder: tuple[Path, Vault], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Vault, dict[str, str]]:
    """The cast's vault with Erin, a document of two versions, an open invitation. Copy it, never change it."""
    folder, made = cast_folder
    instance = tmp_path_factory.mktemp("stage") / "instance"
    shutil.copytree(folder, instance)
    vault = made.copied_to(instance)
    vault.members = dict(vault.members)
    with vault.services() as bundle:
        new = bundle.accounts.register("erin")
        erin = bundle.sessions.log_in("erin", new.passphrase, address="127.0.0.1", client="tests")
        vault.members["erin"] = Member("erin", new.passphrase, erin.account, erin.token)
    document = vault.upload("alice", b"first", share=("bob", "erin"))
    with vault.services() as bundle:
        alice = vault.alice.account
        bundle.uploads.receive(alice, reader(b"second"), name="hello.txt", document_id=document)
        first = bundle.documents.versions(alice, document)[-1].id
        bundle.documents.view(vault.bob.account, document)
        upload = bundle.resumable.begin(alice, 6, Told("", Wishes()), partial=False).token
        work_id = bundle.transactions.writing(lambda session: _begin_work(session, bundle, alice))
        invitation = bundle.invitations.invite(vault.dora.account, "yves").invitation.id
        bundle.accounts.set_state(None, "erin", "disabled")
        bundle.resets.begin(vault.dora.account, "alice")
        notice = bundle.notices.unread(alice)[0].id
    vault.close()
    names = {
        "<id:document_id>": document.hex(),
        "<id:version_id>": first.hex(),
        "<id:session_id>": vault.alice.account.session_id.hex(),
        "<id:invitation_id>": invitation.hex(),
        "<id:notice_id>": notice.hex(),
        "<id:work_id>": work_id.hex(),
        "<path:filename>": "vault.css",
        "<token>": upload,
    }
    return instance, vault, names


def _begin_work(session: Any, bundle: Any, account: UnlockedAccount) -> bytes:
    """Begin work of Alice's that is done as soon as it goes on: no wrap waits."""
    row = begin(session, account, "wraps", 1)
    bundle.transactions.record(Event("wraps_begun", account.user_id, "work", row.id))
    return row.id


@dataclass
class Stage:
    vault: Vault
    names: dict[str, str]

    def filled(self, text: str) -> str:
        """Put the ids of this stage in the place of a rule's variables."""
        username = "bob" if "/shares/" in text else "erin"
        for variable, value in (self.names | {"<username>": username}).items():
            text = text.replace(variable, value)
        assert "<" not in text, f"the stage has nothing to put into {text}"
        return text

    def send(self, actor: str, key: str, line: Line, **headers: str) -> Any:
        """Send one request as one of the actors: to the API with a bearer token, to a page with cookie and form."""
        method, rule = key.split(" ", 1)
        path, name = self.filled(rule + line.query), NAME_OF.get(actor)
        headers = line.headers | headers
        if path.startswith("/api/"):
            options = self._api_body(line)
            path = path.removeprefix("/api/v1")
            return self.vault.api(name).open(method, path, headers=headers, **options)
        browser = self.vault.browser(name)
        if method == "GET":
            return browser.get(path, headers=headers)
        form = self._form(line)
        form["data"] = {"csrf_token": browser.csrf()} | form["data"]
        return browser.client.open(path, method=method, headers=headers, **form)

    def send_with_cookie(self, actor: str, key: str, line: Line, **headers: str) -> Any:
        """Send a change with the cookie alone, as another site could make a browser do."""
        method, rule = key.split(" ", 1)
        browser = self.vault.browser(NAME_OF.get(actor))
        headers = line.headers | headers
        options = self._api_body(line) if line.json is not None or line.body is not None else self._form(line)
        return browser.client.open(self.filled(rule + line.query), method=method, headers=headers, **options)

    def _api_body(self, line: Line) -> dict[str, Any]:
        if line.json is not None:
            return {"json": {name: self._value(value) for name, value in line.json.items()}}
        if line.body is None:
            return {}
        return {"data": line.body, "content_type": line.headers.get("Content-Type", "application/pdf")}

    def _form(self, line: Line) -> dict[str, Any]:
        form = {name: self._value(value) for name, value in (line.form or {}).items()}
        return {"data": form}

    def _value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.filled(value)
        if isinstance(value, list):
            return [self._value(each) for each in value]
        if isinstance(value, tuple):
            return (io.BytesIO(value[0]), value[1])
        return value

    def state(self) -> dict[str, Any]:
        """Everything that a refused request may not change: documents, grants, accounts, sessions, codes, blobs."""
        tables = {
            "document": "*", "document_version": "*", "part_list": "*", "shared_key_registry": "*",
            "tombstone": "*", "work": "*", "invitation": "*", "unlock_method": "*", "user_key": "*",
            "contact": "*", "user": "id, username, role, state, stored_bytes, documents, credential_generation",
            "notice": "*", "login_session": "id", "upload": "*",
        }  # fmt: skip
        with self.vault.database() as connection:
            found: dict[str, Any] = {
                table: sorted(map(tuple, connection.execute(f'SELECT {columns} FROM "{table}"')), key=repr)
                for table, columns in tables.items()
            }
        return found | {"blobs": [path.name for path in self.vault.blob_files()]}


@pytest.fixture(scope="module")
def quiet(
    stage_folder: tuple[Path, Vault, dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    """One stage for all tests that change nothing."""
    folder, made, names = stage_folder
    instance = tmp_path_factory.mktemp("quiet") / "instance"
    shutil.copytree(folder, instance)
    own = made.copied_to(instance)
    yield Stage(own, names)
    own.close()


@pytest.fixture(scope="module")
def stage_house(
    stage_folder: tuple[Path, Vault, dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Vault]:
    """The application for all stages that are not ``quiet``."""
    folder, made, _ = stage_folder
    instance = tmp_path_factory.mktemp("stages") / "instance"
    shutil.copytree(folder, instance)
    own = made.copied_to(instance)
    yield own
    own.close()


@pytest.fixture
def stage(stage_folder: tuple[Path, Vault, dict[str, str]], stage_house: Vault) -> Stage:
    """A stage of this test's own."""
    folder, made, names = stage_folder
    return Stage(refill(stage_house, folder, made.members), names)


# A1: every route has a line, and keeps to it


def routes(vault: Vault) -> dict[str, str]:
    """Every method of every route of the application, as ``METHOD rule``, with its endpoint."""
    return {
        f"{method} {rule.rule}": rule.endpoint
        for rule in vault.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"OPTIONS"}
        if method != "HEAD" or "GET" not in (rule.methods or set())
    }


@pytest.mark.requirement(35)
def test_every_route_has_a_line_in_the_table(vault: Vault) -> None:
    assert sorted(routes(vault)) == sorted(TABLE)


def walk(stage: Stage, key: str, line: Line) -> None:
    """Send a request as each actor in turn; who is refused has changed nothing."""
    for actor, status in zip(ACTORS, line.expected, strict=True):
        before = stage.state() if status >= 400 or status == TO_LOGIN else None
        answer = stage.send(actor, key, line)
        text = answer.get_data().decode(errors="replace")
        answer.close()
        assert answer.status_code == status, f"{actor}: {text[:500]}"
        if status == TO_LOGIN:
            assert answer.location.startswith("/login"), actor
        if before is not None:
            assert stage.state() == before, f"{actor} was refused, and something changed"


@pytest.mark.parametrize("key", [key for key in TABLE if key not in UNSAFE])
@pytest.mark.requirement(36)
def test_a_page_or_answer_is_for_whom_the_table_says(quiet: Stage, key: str) -> None:
    walk(quiet, key, TABLE[key])


@pytest.mark.parametrize("key", UNSAFE)
@pytest.mark.requirement(36)
def test_a_change_is_for_whom_the_table_says(stage: Stage, key: str) -> None:
    walk(stage, key, TABLE[key])


def test_a_reader_leaves_by_the_name_me(stage: Stage) -> None:
    walk(stage, "DELETE /api/v1/documents/<id:document_id>/shares/me", LEAVING)


@pytest.mark.parametrize("action", ["share", "revoke", "leave", "delete"])
def test_an_act_on_several_documents_is_refused_when_one_of_them_is_not_for_this_person(
    stage: Stage, action: str
) -> None:
    with stage.vault.services() as bundle:
        account = stage.vault.charlie.account
        own = bundle.uploads.receive(account, reader(b"own"), name="own.txt").hex()
    before = stage.state()
    for document, status in ((stage.names["<id:document_id>"], 404), (MISSING.hex(), 404)):
        form = YES | {"action": action, "documents": [own, document], "recipients": "dora", "readers": "bob"}
        browser = stage.vault.browser("charlie")
        answer = browser.post("/documents/selected", form, form_on="/")
        assert answer.status_code == status or (action == "leave" and answer.status_code == 403)
        assert stage.state() == before


def test_head_answers_like_get(quiet: Stage) -> None:
    for key, (actor, name) in itertools.product(
        (key for key in TABLE if key.startswith("GET ")),
        (("logged out", None), ("stranger", "charlie"), ("owner", "alice")),
    ):
        path = quiet.filled(key.removeprefix("GET ") + TABLE[key].query)
        client = quiet.vault.api(name) if path.startswith("/api/") else quiet.vault.browser(name).client
        answer = client.head(path.removeprefix("/api/v1") if path.startswith("/api/") else path)
        assert answer.status_code == TABLE[key].expected[ACTORS.index(actor)], f"{key} as {actor}"
        assert answer.data == b""
        answer.close()


@pytest.mark.requirement(53)
def test_other_methods_are_refused_on_every_route(quiet: Stage) -> None:
    """Checklist 53: what is not used is 405, TRACE among it."""
    known = routes(quiet.vault)
    for rule in {key.split(" ", 1)[1] for key in known}:
        allowed = {key.split(" ", 1)[0] for key in known if key.split(" ", 1)[1] == rule}
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE"} - allowed:
            answer = quiet.vault.browser("alice").client.open(quiet.filled(rule), method=method)
            assert answer.status_code == 405, f"{method} {rule}"
            assert allowed <= set(answer.headers["Allow"].split(", "))


# P8: a change needs the token of a form of ours, and comes from no other site


@pytest.mark.parametrize("key", UNSAFE)
@pytest.mark.requirement(52)
def test_a_change_without_a_csrf_token_is_refused(quiet: Stage, key: str) -> None:
    line, before = TABLE[key], quiet.state()
    answer = quiet.send_with_cookie("owner", key, line)
    if line.asks_token:
        assert answer.status_code == 400, answer.text
        assert "csrf" in answer.text or "reload" in answer.text.lower()
    else:
        assert answer.status_code == line.expected.owner, "it sets no cookie and uses none"
    assert quiet.state() == before


@pytest.mark.parametrize("key", UNSAFE)
@pytest.mark.requirement(52)
def test_a_change_from_another_site_is_refused(quiet: Stage, key: str) -> None:
    before = quiet.state()
    for origin in ("https://evil.example", "null", "http://localhost.evil.example"):
        answer = quiet.send_with_cookie("owner", key, TABLE[key], Origin=origin)
        assert answer.status_code == 403, f"{origin}: {answer.text[:300]}"
    assert quiet.state() == before


def test_a_change_from_the_vault_itself_is_taken(stage: Stage) -> None:
    key = "PATCH /api/v1/documents/<id:document_id>"
    assert stage.send("owner", key, TABLE[key], Origin="http://localhost").status_code == 200


# A2: what is not for somebody answers exactly as what does not exist


def comparable(answer: Any) -> tuple[int, str, list[tuple[str, str]]]:
    request_id = answer.headers["X-Request-Id"]
    body = answer.text.replace(request_id, "REQUEST")
    body = re.sub(r'(name="csrf_token"[^>]*value=")[^"]+', r"\1TOKEN", body)
    headers = [(name, value) for name, value in answer.headers if name not in {"X-Request-Id", "Set-Cookie"}]
    return answer.status_code, body, headers


@pytest.mark.parametrize("key", WITH_AN_ID)
@pytest.mark.parametrize("actor", ["stranger", "administrator"])
@pytest.mark.requirement(36)
def test_foreign_and_missing_are_one_answer(quiet: Stage, key: str, actor: str) -> None:
    foreign = quiet.send(actor, key, TABLE[key])
    names = quiet.names | {"<id:document_id>": MISSING.hex(), "<id:version_id>": MISSING.hex()}
    missing = Stage(quiet.vault, names).send(actor, key, TABLE[key])
    assert comparable(foreign) == comparable(missing)
    assert foreign.status_code == 404


def test_foreign_and_missing_sessions_are_one_answer(quiet: Stage) -> None:
    for key in (
        "DELETE /api/v1/me/sessions/<id:session_id>",
        "POST /account/sessions/<id:session_id>/end",
    ):
        foreign = quiet.send("stranger", key, TABLE[key])
        missing = Stage(quiet.vault, quiet.names | {"<id:session_id>": MISSING.hex()})
        assert comparable(foreign) == comparable(missing.send("stranger", key, TABLE[key]))


@pytest.mark.parametrize("key", [key for key in TABLE if "<token>" in key])
def test_foreign_and_missing_uploads_are_one_answer(quiet: Stage, key: str) -> None:
    """Requirement 43: an upload of somebody else is none."""
    edited = quiet.names["<token>"][:-1] + "-"
    for actor in ("stranger", "administrator", "reader"):
        foreign = quiet.send(actor, key, TABLE[key])
        for missing in (edited, "nothing", "A" * 310):
            other = Stage(quiet.vault, quiet.names | {"<token>": missing})
            assert comparable(foreign) == comparable(other.send(actor, key, TABLE[key]))
        assert foreign.status_code == 404


@pytest.mark.parametrize("key", [key for key in TABLE if "<token>" in key])
def test_who_is_logged_out_is_told_to_wait_for_an_upload_of_ours_and_of_no_other(
    quiet: Stage, key: str
) -> None:
    ours = quiet.send("logged out", key, TABLE[key])
    assert (ours.status_code, ours.headers["Retry-After"]) == (423, "15")
    none = Stage(quiet.vault, quiet.names | {"<token>": "nothing"})
    assert none.send("logged out", key, TABLE[key]).status_code == 401


def test_a_malformed_id_is_the_same_404_as_any_unknown_address(quiet: Stage) -> None:
    unknown = comparable(quiet.vault.api("alice").get("/nowhere"))
    for bad in ("1", "g" * 32, "A" * 32, "0" * 31, "0" * 33, "%00" * 16, "..%2f..%2fetc", "'--", "é" * 32):
        assert comparable(quiet.vault.api("alice").get(f"/documents/{bad}")) == unknown, bad


def test_a_version_of_another_document_is_not_found(stage: Stage) -> None:
    with stage.vault.services() as bundle:
        account = stage.vault.charlie.account
        other = bundle.uploads.receive(account, reader(b"own"), name="own.txt").hex()
    version = stage.names["<id:version_id>"]
    answer = stage.vault.browser("charlie").get(f"/documents/{other}/versions/{version}/content")
    assert answer.status_code == 404


# A4: nothing is taken from a request but what it is for


def columns() -> dict[str, str]:
    """A value for every column name of every table, and for the words that other products fell for."""
    names = {column.name for table in Base.metadata.tables.values() for column in table.columns}
    return dict.fromkeys(sorted(names | {"is_admin", "admin", "owner", "readers_list", "permission"}), "1")


@pytest.mark.parametrize("key", [key for key in TABLE if TABLE[key].json is not None])
def test_an_unknown_field_in_json_is_refused(quiet: Stage, key: str) -> None:
    line = TABLE[key]
    actor = "administrator" if line.expected.owner == 403 else "owner"
    before = quiet.state()
    wanted = {"username", "code", "passphrase", "name", "path", "usernames", "expires_at", "state", "role"}
    for name, value in columns().items():
        if name in wanted:
            continue
        answer = quiet.send(actor, key, Line(line.expected, json={**(line.json or {}), name: value}))
        assert answer.status_code == 400, name
        assert answer.json["field"] == name
    assert quiet.state() == before


def test_a_form_changes_nothing_but_what_it_is_for(stage: Stage) -> None:
    document = stage.names["<id:document_id>"]
    before = stage.state()
    browser = stage.vault.browser("alice")
    form = columns() | {"name": "renamed.txt", "etag": ""}
    shown = stage.vault.api("alice").get(f"/documents/{document}").json
    form["etag"] = shown["etag"]
    assert browser.post(f"/documents/{document}/rename", form).status_code == 303
    after = stage.vault.api("alice").get(f"/documents/{document}").json
    changed = {name for name in shown if shown[name] != after[name]}
    assert changed == {"name", "revision", "etag"}
    unchanged = ("shared_key_registry", "user", "invitation", "login_session", "unlock_method", "user_key")
    for table in unchanged:
        assert stage.state()[table] == before[table], table


def test_who_registers_with_extra_fields_is_an_ordinary_user(stage: Stage) -> None:
    browser = stage.vault.browser()
    form = columns() | {"username": "mallory", "role": "admin", "is_admin": "1", "code": ""}
    assert browser.post("/register", form).status_code == 200
    with stage.vault.database() as connection:
        row = connection.execute(
            "SELECT role, state, stored_bytes, documents FROM user WHERE username = 'mallory'"
        ).fetchone()
    assert tuple(row) == ("user", "active", 0, 0)


def test_an_upload_with_extra_fields_belongs_to_who_sent_it(stage: Stage) -> None:
    browser = stage.vault.browser("charlie")
    form = columns() | {"owner_id": stage.vault.alice.account.user_id.hex()}
    form["csrf_token"] = browser.csrf("/upload")
    answer = browser.client.post("/upload", data=form | {"file": (io.BytesIO(b"mine"), "mine.txt")})
    assert answer.status_code == 303
    (mine,) = stage.vault.api("charlie").get("/documents?scope=owned").json["items"]
    assert (mine["owner"], mine["size"], mine["name"]) == ("charlie", 4, "mine.txt")
