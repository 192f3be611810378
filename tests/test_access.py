"""Who may do what: every route of the application times owner, reader, stranger, administrator, disabled, logged out.

The table below is held against ``app.url_map``: a route without a line fails the first test (attack A1, checklist 35).
Alice owns the document, Bob reads it, Charlie is a stranger, Dora administers; Erin reads it too, and is disabled.
"""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.cast import Browser, Member, Vault, reader
from vault.extensions import Base

ACTORS = ("logged out", "disabled", "stranger", "administrator", "reader", "owner")
NAME_OF = {
    "disabled": "erin", "stranger": "charlie", "administrator": "dora", "reader": "bob", "owner": "alice",
}  # fmt: skip
MISSING = bytes(range(16))
PAGE, API = "page", "api"


class Expected(NamedTuple):
    """The status for each actor, in the order of ``ACTORS``: those who may not come first."""

    logged_out: int
    disabled: int
    stranger: int
    administrator: int
    reader: int
    owner: int


@dataclass(frozen=True)
class Line:
    """One route and method: what is sent, and who gets which answer."""

    expected: Expected
    form: dict[str, Any] | None = None
    json: dict[str, Any] | None = None
    body: bytes | None = None
    query: str = ""
    asks_token: bool = field(default=True)


def everybody(status: int) -> Expected:
    return Expected(*[status] * 6)


def members(status: int, refused: int) -> Expected:
    return Expected(refused, refused, status, status, status, status)


def administrators(status: int, refused: int) -> Expected:
    return Expected(refused, refused, 403, status, 403, 403)


def readers(status: int, refused: int) -> Expected:
    return Expected(refused, refused, 404, 404, status, status)


def leavers(status: int, refused: int, owner: int = 403) -> Expected:
    return Expected(refused, refused, 404, 404, status, owner)


def owners(status: int, refused: int) -> Expected:
    return Expected(refused, refused, 404, 404, 403, status)


def alone(status: int, refused: int) -> Expected:
    """What belongs to Alice, and exists for nobody else."""
    return Expected(refused, refused, 404, 404, 404, status)


TO_LOGIN, LOGIN_FIRST = 302, 401
JSON_BODY: dict[str, Any] = {}
FILE = {"file": (b"access", "access.txt")}
YES = {"confirm": "1"}

TABLE: dict[str, Line] = {
    # Health and static files
    "GET /healthz": Line(everybody(200)),
    "GET /readyz": Line(everybody(200)),
    "GET /static/<path:filename>": Line(everybody(200)),
    # Getting in
    "GET /login": Line(Expected(200, 200, 303, 303, 303, 303)),
    "POST /login": Line(everybody(400), form={"username": "", "passphrase": ""}),
    "GET /register": Line(everybody(200)),
    "POST /register": Line(everybody(400), form={"username": "!"}),
    "GET /setup": Line(everybody(200)),
    "POST /setup": Line(everybody(200), form={"username": "zoe", "code": "ABCDE"}),
    "GET /invitation": Line(everybody(200)),
    "POST /invitation": Line(everybody(400), form={"code": "ABCDE"}),
    "POST /api/v1/users": Line(everybody(400), json={"username": "!"}, asks_token=False),
    "POST /api/v1/token": Line(everybody(400), json={"username": "alice"}, asks_token=False),
    # One's own account
    "POST /logout": Line(members(303, LOGIN_FIRST), form={}),
    "GET /session": Line(members(200, TO_LOGIN)),
    "GET /account": Line(members(200, TO_LOGIN)),
    "POST /account/passphrase": Line(members(400, LOGIN_FIRST), form={"current": ""}),
    "POST /account/sessions/<id:session_id>/end": Line(alone(303, LOGIN_FIRST), form={}),
    "POST /account/sessions/end-all": Line(members(303, LOGIN_FIRST), form={}),
    "GET /users/suggest": Line(members(200, TO_LOGIN), query="?q=bo"),
    "GET /api/v1/me": Line(members(200, LOGIN_FIRST)),
    "PUT /api/v1/me/passphrase": Line(members(400, LOGIN_FIRST), json={}),
    "GET /api/v1/me/sessions": Line(members(200, LOGIN_FIRST)),
    "DELETE /api/v1/me/sessions": Line(members(204, LOGIN_FIRST)),
    "DELETE /api/v1/me/sessions/<id:session_id>": Line(alone(204, LOGIN_FIRST)),
    "DELETE /api/v1/token": Line(members(204, LOGIN_FIRST)),
    "POST /api/v1/token/renew": Line(members(200, LOGIN_FIRST)),
    "GET /api/v1/users": Line(members(200, LOGIN_FIRST), query="?q=bo"),
    # Administration
    "GET /people": Line(administrators(200, TO_LOGIN)),
    "POST /people/invite": Line(administrators(200, LOGIN_FIRST), form={"username": "zoe"}),
    "POST /people/invitations/<id:invitation_id>/withdraw": Line(administrators(303, LOGIN_FIRST), form={}),
    "POST /people/<username>/disable": Line(administrators(303, LOGIN_FIRST), form={}),
    "POST /people/<username>/enable": Line(administrators(303, LOGIN_FIRST), form={}),
    "POST /people/<username>/promote": Line(administrators(303, LOGIN_FIRST), form={}),
    "POST /people/<username>/demote": Line(administrators(303, LOGIN_FIRST), form={}),
    "GET /api/v1/accounts": Line(administrators(200, LOGIN_FIRST)),
    "PATCH /api/v1/accounts/<username>": Line(administrators(204, LOGIN_FIRST), json={"state": "active"}),
    "GET /api/v1/invitations": Line(administrators(200, LOGIN_FIRST)),
    "POST /api/v1/invitations": Line(administrators(201, LOGIN_FIRST), json={"username": "zoe"}),
    "DELETE /api/v1/invitations/<id:invitation_id>": Line(administrators(204, LOGIN_FIRST)),
    # One's own lists, and uploads of one's own
    "GET /": Line(members(200, TO_LOGIN)),
    "GET /shared": Line(members(200, TO_LOGIN)),
    "GET /upload": Line(members(200, TO_LOGIN)),
    "POST /upload": Line(members(303, LOGIN_FIRST), form=FILE),
    "GET /api/v1/documents": Line(members(200, LOGIN_FIRST)),
    "POST /api/v1/documents": Line(members(201, LOGIN_FIRST), body=b"access"),
    # A document
    "GET /documents/<id:document_id>": Line(readers(200, TO_LOGIN)),
    "GET /documents/<id:document_id>/content": Line(readers(200, TO_LOGIN)),
    "GET /documents/<id:document_id>/versions": Line(owners(200, TO_LOGIN)),
    "GET /documents/<id:document_id>/versions/<id:version_id>/content": Line(owners(200, TO_LOGIN)),
    "GET /documents/<id:document_id>/version": Line(owners(200, TO_LOGIN)),
    "POST /documents/<id:document_id>/version": Line(owners(303, LOGIN_FIRST), form=FILE),
    "GET /documents/<id:document_id>/rename": Line(owners(200, TO_LOGIN)),
    "POST /documents/<id:document_id>/rename": Line(owners(303, LOGIN_FIRST), form={"name": "new"}),
    "GET /documents/<id:document_id>/share": Line(owners(200, TO_LOGIN)),
    "POST /documents/<id:document_id>/share": Line(
        owners(303, LOGIN_FIRST), form=YES | {"recipients": "dora"}
    ),
    "GET /documents/<id:document_id>/revoke": Line(owners(200, TO_LOGIN)),
    "POST /documents/<id:document_id>/revoke": Line(owners(303, LOGIN_FIRST), form=YES | {"readers": "bob"}),
    "GET /documents/<id:document_id>/delete": Line(owners(200, TO_LOGIN)),
    "POST /documents/<id:document_id>/delete": Line(owners(303, LOGIN_FIRST), form=YES),
    "GET /documents/<id:document_id>/leave": Line(readers(200, TO_LOGIN)),
    "POST /documents/<id:document_id>/leave": Line(leavers(303, LOGIN_FIRST), form=YES),
    "POST /documents/selected": Line(
        owners(303, LOGIN_FIRST), form=YES | {"action": "delete", "documents": "<id:document_id>"}
    ),
    "GET /api/v1/documents/<id:document_id>": Line(readers(200, LOGIN_FIRST)),
    "PATCH /api/v1/documents/<id:document_id>": Line(owners(200, LOGIN_FIRST), json={"name": "new"}),
    "DELETE /api/v1/documents/<id:document_id>": Line(owners(204, LOGIN_FIRST)),
    "GET /api/v1/documents/<id:document_id>/content": Line(readers(200, LOGIN_FIRST)),
    "PUT /api/v1/documents/<id:document_id>/content": Line(owners(200, LOGIN_FIRST), body=b"new"),
    "GET /api/v1/documents/<id:document_id>/versions": Line(owners(200, LOGIN_FIRST)),
    "GET /api/v1/versions/<id:version_id>/content": Line(owners(200, LOGIN_FIRST)),
    "POST /api/v1/documents/<id:document_id>/restore": Line(
        owners(200, LOGIN_FIRST), json={"version": "<id:version_id>"}
    ),
    "GET /api/v1/documents/<id:document_id>/shares": Line(owners(200, LOGIN_FIRST)),
    "POST /api/v1/documents/<id:document_id>/shares": Line(
        owners(204, LOGIN_FIRST), json={"usernames": ["dora"]}
    ),
    "DELETE /api/v1/documents/<id:document_id>/shares/<username>": Line(owners(204, LOGIN_FIRST)),
}
"""Every route and method; HEAD goes with GET, and OPTIONS tells nothing but methods."""

LEAVING = Line(leavers(204, LOGIN_FIRST))
UNSAFE = [key for key in TABLE if not key.startswith("GET ")]
WITH_AN_ID = [key for key in TABLE if re.search("<id:(document|version)_id>", key)]


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
        invitation = bundle.invitations.invite(vault.dora.account, "yves").invitation.id
        bundle.accounts.set_state(None, "erin", "disabled")
    vault.close()
    names = {
        "<id:document_id>": document.hex(),
        "<id:version_id>": first.hex(),
        "<id:session_id>": vault.alice.account.session_id.hex(),
        "<id:invitation_id>": invitation.hex(),
        "<path:filename>": "vault.css",
    }
    return instance, vault, names


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

    def send(self, actor: str, key: str, line: Line, *, token: bool = True, **headers: str) -> Any:
        """Send one request as one of the actors: to the API with a bearer token, to a page with cookie and form."""
        method, rule = key.split(" ", 1)
        path, name = self.filled(rule) + line.query, NAME_OF.get(actor)
        if path.startswith("/api/"):
            options = self._api_body(line)
            path = path.removeprefix("/api/v1")
            return self.vault.api(name).open(method, path, headers=headers, **options)
        browser = self.vault.browser(name)
        if method == "GET":
            return browser.get(path, headers=headers)
        if token:
            headers["X-CSRFToken"] = browser.csrf()
        return browser.client.open(path, method=method, headers=headers, **self._form(line))

    def send_with_cookie(self, actor: str, key: str, line: Line, **headers: str) -> Any:
        """Send a change with the cookie alone, as another site could make a browser do."""
        method, rule = key.split(" ", 1)
        browser = self.vault.browser(NAME_OF.get(actor))
        options = self._api_body(line) if line.json is not None or line.body is not None else self._form(line)
        return browser.client.open(self.filled(rule) + line.query, method=method, headers=headers, **options)

    def _api_body(self, line: Line) -> dict[str, Any]:
        if line.json is not None:
            return {"json": {name: self._value(value) for name, value in line.json.items()}}
        return {} if line.body is None else {"data": line.body, "content_type": "application/pdf"}

    def _form(self, line: Line) -> dict[str, Any]:
        form = {name: self._value(value) for name, value in (line.form or {}).items()}
        return {"data": form}

    def _value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.filled(value)
        if isinstance(value, tuple):
            import io

            return (io.BytesIO(value[0]), value[1])
        return value

    def state(self) -> dict[str, Any]:
        """Everything that a refused request may not change: documents, grants, accounts, sessions, codes, blobs."""
        tables = {
            "document": "*", "document_version": "*", "part_list": "*", "shared_key_registry": "*",
            "tombstone": "*", "work": "*", "invitation": "*", "unlock_method": "*", "user_key": "*",
            "contact": "*", "user": "id, username, role, state, stored_bytes, documents, credential_generation",
            "login_session": "id", "upload": "*",
        }  # fmt: skip
        with self.vault.database() as connection:
            found: dict[str, Any] = {
                table: sorted(map(tuple, connection.execute(f'SELECT {columns} FROM "{table}"')), key=repr)
                for table, columns in tables.items()
            }
        return found | {"blobs": [path.name for path in self.vault.blob_files()]}


@pytest.fixture
def stage(stage_folder: tuple[Path, Vault, dict[str, str]], tmp_path: Path) -> Iterator[Stage]:
    folder, made, names = stage_folder
    instance = tmp_path / "instance"
    shutil.copytree(folder, instance)
    own = made.copied_to(instance)
    yield Stage(own, names)
    own.close()


# A1: every route has a line, and keeps to it


def routes(vault: Vault) -> dict[str, str]:
    """Every method of every route of the application, as ``METHOD rule``, with its endpoint."""
    return {
        f"{method} {rule.rule}": rule.endpoint
        for rule in vault.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }


def test_every_route_has_a_line_in_the_table(vault: Vault) -> None:
    assert sorted(routes(vault)) == sorted(TABLE)


@pytest.mark.parametrize("key", TABLE)
def test_a_route_answers_each_actor_as_the_table_says(stage: Stage, key: str) -> None:
    line = TABLE[key]
    before = stage.state()
    for actor, status in zip(ACTORS, line.expected, strict=True):
        answer = stage.send(actor, key, line)
        answer.get_data()
        answer.close()
        assert answer.status_code == status, f"{actor}: {answer.text[:500]}"
        if status == TO_LOGIN:
            assert answer.location.startswith("/login"), actor
        if status >= 400:
            assert stage.state() == before, f"{actor} was refused, and something changed"


def test_a_reader_leaves_by_the_name_me(stage: Stage) -> None:
    key = "DELETE /api/v1/documents/<id:document_id>/shares/me"
    for actor, status in zip(ACTORS, LEAVING.expected, strict=True):
        assert stage.send(actor, key, LEAVING).status_code == status, actor


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


def test_head_answers_like_get(stage: Stage) -> None:
    for key, (actor, name) in itertools.product(
        (key for key in TABLE if key.startswith("GET ")), (("logged out", None), *NAME_OF.items())
    ):
        path = stage.filled(key.removeprefix("GET ")) + TABLE[key].query
        client = stage.vault.api(name) if path.startswith("/api/") else stage.vault.browser(name).client
        answer = client.head(path.removeprefix("/api/v1") if path.startswith("/api/") else path)
        assert answer.status_code == TABLE[key].expected[ACTORS.index(actor)], f"{key} as {actor}"
        assert answer.data == b""


def test_other_methods_are_refused_on_every_route(stage: Stage) -> None:
    """Checklist 53: what is not used is 405, TRACE among it."""
    known = routes(stage.vault)
    for rule in {key.split(" ", 1)[1] for key in known}:
        allowed = {key.split(" ", 1)[0] for key in known if key.split(" ", 1)[1] == rule}
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE"} - allowed:
            answer = stage.vault.browser("alice").client.open(stage.filled(rule), method=method)
            assert answer.status_code == 405, f"{method} {rule}"
            assert allowed <= set(answer.headers["Allow"].split(", "))


# P8: a change needs the token of a form of ours, and comes from no other site


@pytest.mark.parametrize("key", UNSAFE)
def test_a_change_without_a_csrf_token_is_refused(stage: Stage, key: str) -> None:
    line, before = TABLE[key], stage.state()
    answer = stage.send_with_cookie("owner", key, line)
    if line.asks_token:
        assert answer.status_code == 400, answer.text
        assert "csrf" in answer.text or "reload" in answer.text.lower()
    else:
        assert answer.status_code == line.expected.owner, "it sets no cookie and uses none"
    assert stage.state() == before


@pytest.mark.parametrize("key", UNSAFE)
def test_a_change_from_another_site_is_refused(stage: Stage, key: str) -> None:
    before = stage.state()
    for origin in ("https://evil.example", "null", "http://localhost.evil.example", "http://localhost:81"):
        answer = stage.send("owner", key, TABLE[key], Origin=origin)
        assert answer.status_code == 403, f"{origin}: {answer.text[:300]}"
        assert stage.state() == before


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
def test_foreign_and_missing_are_one_answer(stage: Stage, key: str, actor: str) -> None:
    foreign = stage.send(actor, key, TABLE[key])
    names = stage.names | {"<id:document_id>": MISSING.hex(), "<id:version_id>": MISSING.hex()}
    missing = Stage(stage.vault, names).send(actor, key, TABLE[key])
    assert comparable(foreign) == comparable(missing)
    assert foreign.status_code == 404


def test_foreign_and_missing_sessions_are_one_answer(stage: Stage) -> None:
    for key in (
        "DELETE /api/v1/me/sessions/<id:session_id>",
        "POST /account/sessions/<id:session_id>/end",
    ):
        foreign = stage.send("stranger", key, TABLE[key])
        missing = Stage(stage.vault, stage.names | {"<id:session_id>": MISSING.hex()})
        assert comparable(foreign) == comparable(missing.send("stranger", key, TABLE[key]))


def test_a_malformed_id_is_the_same_404_as_any_unknown_address(stage: Stage) -> None:
    unknown = comparable(stage.vault.api("alice").get("/nowhere"))
    for bad in ("1", "g" * 32, "A" * 32, "0" * 31, "0" * 33, "%00" * 16, "..%2f..%2fetc", "'--", "é" * 32):
        assert comparable(stage.vault.api("alice").get(f"/documents/{bad}")) == unknown, bad


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
    return {
        name: "1" for name in sorted(names | {"is_admin", "admin", "owner", "readers_list", "permission"})
    }


@pytest.mark.parametrize("key", [key for key in TABLE if TABLE[key].json is not None])
def test_an_unknown_field_in_json_is_refused(stage: Stage, key: str) -> None:
    line = TABLE[key]
    actor = "administrator" if line.expected.owner == 403 else "owner"
    before = stage.state()
    wanted = {"username", "code", "passphrase", "name", "path", "usernames", "expires_at", "state", "role"}
    for name, value in columns().items():
        if name in wanted:
            continue
        answer = stage.send(actor, key, Line(line.expected, json={**(line.json or {}), name: value}))
        assert answer.status_code == 400, name
        assert answer.json["field"] == name
        assert stage.state() == before


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
    import io

    browser = stage.vault.browser("charlie")
    form = columns() | {"recipients": "", "owner_id": stage.vault.alice.account.user_id.hex()}
    del form["name"]
    form["csrf_token"] = browser.csrf("/upload")
    answer = browser.client.post("/upload", data=form | {"file": (io.BytesIO(b"mine"), "mine.txt")})
    assert answer.status_code == 303
    (mine,) = stage.vault.api("charlie").get("/documents?scope=owned").json["items"]
    assert (mine["owner"], mine["size"], mine["name"]) == ("charlie", 4, "mine.txt")
