"""The HTTP client: where a token goes, what errors say, how long a login lasts."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tests.agent.conftest import login_to
from tests.agent.pretence import TOKEN, Asked, Told, pretending
from tests.cast import Vault
from tests.servers.processes import free_ports
from tests.servers.vault import VaultServer
from vault.agent.client import (
    SESSION_FILE,
    Client,
    LoggedOut,
    Refused,
    Unreachable,
    check_server,
    log_in,
    stored_login,
    visible,
)
from vault.agent.configuration import Configuration
from vault.errors import BadInput, Misconfigured, NotFound

Make = Callable[..., Client]
ROW = {"id": "0" * 32, "name": "a", "path": [], "size": 1}


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://vault.example.org/", "https://vault.example.org"),
        ("https://vault.example.org:8443/team/", "https://vault.example.org:8443/team"),
        ("http://localhost:8000", "http://localhost:8000"),
        ("http://127.1.2.3", "http://127.1.2.3"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_an_address_is_kept(given: str, kept: str) -> None:
    assert check_server(given) == kept


@pytest.mark.parametrize(
    "given",
    [
        "http://vault.example.org", "http://10.0.0.1", "http://localhost.example.org", "http://127.0.0.1.nip.io",
        "http://[::2]", "http://0.0.0.0", "vault.example.org", "ftp://vault", "https://", "https://a:b@vault",
        "https://vault/?q", "https://vault/#a", "https://vault:99999", "https://[", "https://va\nult", "",
    ],
)  # fmt: skip
def test_plain_http_to_another_host_and_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(BadInput):
        check_server(given)


def test_what_would_steer_a_terminal_is_written_out() -> None:
    assert visible("a\x1b[31m\n\u202efdp.exe\udcff é 名") == "a\\x1b[31m\\n\\u202efdp.exe\\udcff é 名"


def test_a_login_is_stored_for_its_user_alone(
    served: tuple[VaultServer, Vault], configuration: Configuration
) -> None:
    server, vault = served
    login = log_in(configuration, server.url + "/", "ALICE", vault.alice.passphrase)
    assert (login.server, login.username) == (server.url, "alice")
    assert stored_login(configuration) == login
    assert (configuration.folder / SESSION_FILE).stat().st_mode & 0o777 == 0o600
    assert vault.alice.passphrase not in (configuration.folder / SESSION_FILE).read_text()
    assert login.token not in repr(login)
    with Client.of_stored_login(configuration) as client:
        assert list(client.documents()) == []
        client.log_out()
    assert stored_login(configuration) is None
    with pytest.raises(LoggedOut, match="docvault login"):
        Client.of_stored_login(configuration)
    with Client(configuration, login) as client, pytest.raises(LoggedOut):
        client.ask("GET", "/me")


def test_a_wrong_passphrase_is_told_in_the_servers_words_and_stores_nothing(
    served: tuple[VaultServer, Vault], configuration: Configuration
) -> None:
    with pytest.raises(Refused, match="do not fit together") as caught:
        log_in(configuration, served[0].url, "alice", "wrong-secret-words")
    assert caught.value.status == 401 and caught.value.kind == "WrongLogin"
    assert "wrong-secret" not in str(caught.value)
    assert not configuration.folder.exists()


def test_a_login_goes_away_here_also_when_the_server_knows_it_no_more(client_of: Make) -> None:
    with pretending(lambda asked: Told.problem(401, "no", "LoginRequired")) as server:
        client = client_of(server.url)
        client.log_out()
        assert stored_login(client.configuration) is None


def test_a_login_goes_away_here_also_when_the_server_is_not_there(client_of: Make) -> None:
    client = client_of(f"http://127.0.0.1:{free_ports(1)[0]}")
    with pytest.raises(Unreachable, match="removed here"):
        client.log_out()
    assert stored_login(client.configuration) is None


def test_a_token_follows_no_redirect(client_of: Make) -> None:
    with (
        pretending(lambda asked: Told(200)) as other,
        pretending(lambda asked: Told(307, {"Location": other.url + asked.path})) as server,
    ):
        with pytest.raises(Refused, match="307"):
            client_of(server.url).ask("GET", "/me")
        assert other.asked == []


def test_plain_http_on_this_machine_goes_through_no_proxy(
    client_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pretending(lambda asked: Told.json({})) as server, pretending(lambda asked: Told(200)) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        client_of(server.url).ask("GET", "/me")
        assert (len(server.asked), len(proxy.asked)) == (1, 0)


def test_https_goes_through_the_users_proxy(client_of: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    connected = []

    def refuse(asked: Asked) -> Told:
        connected.append(asked)
        return Told(403)

    with pretending(refuse) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        with pytest.raises(Unreachable) as caught:
            client_of("https://vault.invalid").ask("GET", "/me")
    assert "501" in str(caught.value) or "ProxyError" in str(caught.value), (
        "it was asked to CONNECT, and refused"
    )


def test_a_proxy_that_is_none_is_an_error_without_its_secret(
    client_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "nonsense://user:hidden@proxy")
    monkeypatch.setenv("https_proxy", "nonsense://user:hidden@proxy")
    with pytest.raises(Misconfigured) as caught:
        client_of("https://vault.invalid")
    assert "hidden" not in str(caught.value)


def test_errors_hold_no_token_and_show_no_control_characters(client_of: Make) -> None:
    told = Told.problem(403, "Not \x1b[31mthis\n.")
    with pretending(lambda asked: told) as server, pytest.raises(Refused) as caught:
        client_of(server.url).ask("GET", "/me")
    assert str(caught.value) == "Not \\x1b[31mthis\\n."
    client = client_of(f"http://127.0.0.1:{free_ports(1)[0]}")
    with pytest.raises(Unreachable, match="does not answer") as gone:
        client.ask("GET", "/me")
    assert TOKEN not in str(gone.value) + repr(gone.value.__context__)


@pytest.mark.parametrize(
    "told",
    [Told(502, body=b"<html>"), Told.problem(500, ""), Told(500, {"Content-Type": "application/problem+json"}, b"["),
     Told(500, {"Content-Type": "application/problem+json"}, b"[1]")],
)  # fmt: skip
def test_an_answer_of_something_else_is_told_by_its_status(client_of: Make, told: Told) -> None:
    with pretending(lambda asked: told) as server, pytest.raises(Refused, match=f"answered {told.status}"):
        client_of(server.url).ask("GET", "/me")


@pytest.mark.parametrize(
    "body", ["x", "[]", "{}", '{"items": 1}', '{"items": [1]}', '{"items": [{}]}',
             '{"items": [{"id": "../../me", "name": "a", "path": [], "size": 1}]}',
             '{"items": [{"id": "00000000000000000000000000000000", "name": 1, "path": [], "size": 1}]}'],
)  # fmt: skip
def test_a_list_that_is_none_is_refused(client_of: Make, body: str) -> None:
    with pretending(lambda asked: Told(200, {}, body.encode())) as server, pytest.raises((Refused, BadInput)):
        list(client_of(server.url).documents())


def test_a_list_follows_its_cursor(client_of: Make) -> None:
    def answer(asked: Asked) -> Told:
        return Told.json({"items": [ROW], "next": None if "after=x" in asked.path else "x"})

    with pretending(answer) as server:
        assert list(client_of(server.url).documents(search="plum jam", scope="owned", sort="name")) == [
            ROW,
            ROW,
        ]
        assert [asked.path.partition("?")[2] for asked in server.asked] == [
            "scope=owned&sort=name&limit=1000&q=plum+jam",
            "scope=owned&sort=name&limit=1000&q=plum+jam&after=x",
        ]


def test_a_name_is_found_without_being_sent(client_of: Make) -> None:
    rows = [
        {"id": number * 32, "name": name, "path": path, "size": 1}
        for number, name, path in [("1", "secret plan", []), ("2", "twice", []), ("3", "twice", ["a", "b"])]
    ]
    with pretending(lambda asked: Told.json({"items": rows, "next": None})) as server:
        client = client_of(server.url)
        assert client.find("secret plan")["id"] == "1" * 32
        assert client.find("a/b/twice")["id"] == "3" * 32
        with pytest.raises(BadInput, match=f"{'2' * 32}, {'3' * 32}"):
            client.find("twice")
        with pytest.raises(NotFound):
            client.find("secret")
        assert not any("secret" in asked.path or "twice" in asked.path for asked in server.asked)


def test_a_user_name_cannot_make_another_path(client_of: Make) -> None:
    """``DELETE .../shares/..`` would be ``DELETE .../``."""
    with pretending(lambda asked: Told(204)) as server:
        client = client_of(server.url)
        for name in ("..", ".", "", " .. "):
            with pytest.raises(BadInput):
                client.revoke("0" * 32, name)
        with pytest.raises(BadInput):
            client.revoke("../me", "bob")
        assert server.asked == []
        client.revoke("0" * 32, "../../x?y#z")
        assert server.asked[0].path.endswith("/shares/..%2F..%2Fx%3Fy%23z")


# The token's life


def test_a_token_in_its_second_half_is_renewed_and_stored(client_of: Make) -> None:
    def answer(asked: Asked) -> Told:
        return Told.json({"token": "fresh", "expires_in": 900} if asked.path.endswith("renew") else {})

    with pretending(answer) as server:
        client = client_of(server.url)
        client.ask("GET", "/me")
        client._login = replace(client._login, issued_at=time.time() - 451)
        client.ask("GET", "/me")
        client.ask("GET", "/me")
        asked = [(each.path.rpartition("/")[2], each.headers["Authorization"]) for each in server.asked]
    old, new = f"Bearer {TOKEN}", "Bearer fresh"
    assert asked == [("me", old), ("renew", old), ("me", new), ("me", new)]
    stored = stored_login(client.configuration)
    assert stored is not None and stored.token == "fresh" and stored.number == "1"


def test_a_renewed_token_does_not_overwrite_another_login(client_of: Make) -> None:
    with pretending(lambda asked: Told.json({"token": "fresh", "expires_in": 900})) as server:
        client = client_of(server.url)
        other = replace(login_to(server.url, "bob", "of-bob"), number="2")
        client.configuration.write(SESSION_FILE, asdict(other))
        client.renew()
        assert stored_login(client.configuration) == other
        client.configuration.remove(SESSION_FILE)
        client.renew()
        assert stored_login(client.configuration) is None, "nor does it bring a login back"


def test_a_token_is_renewed_beside_what_runs_long(client_of: Make) -> None:
    renewed = threading.Event()

    def answer(asked: Asked) -> Told:
        renewed.set()
        return Told.json({"token": "fresh", "expires_in": 900})

    with pretending(answer) as server:
        client = client_of(server.url)
        client._login = replace(client._login, issued_at=time.time() - 449.9)
        with client.kept_alive():
            assert renewed.wait(10)
        assert server.asked[0].path == "/api/v1/token/renew"


def test_a_login_made_meanwhile_is_taken_up(client_of: Make) -> None:
    def answer(asked: Asked) -> Told:
        is_new = asked.headers["Authorization"] == "Bearer newer"
        return Told.json({}) if is_new else Told.problem(401, "no", "LoginRequired")

    with pretending(answer) as server:
        client = client_of(server.url)
        with pytest.raises(LoggedOut, match="Log in again"):
            client.ask("GET", "/me")
        for login in (login_to(server.url, "bob", "newer"), login_to("http://localhost:1", "alice", "newer")):
            client.configuration.write(SESSION_FILE, asdict(login))
            with pytest.raises(LoggedOut):
                client.ask("GET", "/me")
        client.configuration.write(SESSION_FILE, asdict(login_to(server.url, "alice", "newer")))
        client.ask("GET", "/me")


@pytest.mark.parametrize("answer", [{}, {"token": "a b", "expires_in": 900}, {"token": "a\n", "expires_in": 900},
                                    {"token": "a"}, {"token": 1, "expires_in": 1}])  # fmt: skip
def test_a_token_that_is_none_is_never_stored(
    configuration: Configuration, answer: dict[str, object]
) -> None:
    with pretending(lambda asked: Told.json(answer, 201)) as server, pytest.raises(Refused):
        log_in(configuration, server.url, "alice", "words")
    assert not configuration.folder.exists()


def test_no_log_holds_an_address(client_of: Make, caplog: pytest.LogCaptureFixture) -> None:
    """An upload's URL is half a secret; httpx would tell it at level INFO."""
    with caplog.at_level(logging.INFO), pretending(lambda asked: Told.json({})) as server:
        client_of(server.url).send("GET", "/api/v1/uploads/half-a-secret")
    assert "half-a-secret" not in caplog.text


def test_share_revoke_and_delete_on_the_real_server(
    served: tuple[VaultServer, Vault], client_of: Make, tmp_path: Path
) -> None:
    server, vault = served
    document = vault.upload("alice", b"plums", name="plums.txt").hex()
    client = client_of(server.url, "alice", vault.alice.token)
    client.share(document, ["bob"], "2099-01-01T00:00:00+00:00")
    assert [reader["username"] for reader in client.readers(document)] == ["alice", "bob"]
    assert client.find("plums.txt")["id"] == document
    bob = client_of(server.url, "bob", vault.bob.token)
    assert bob.find("plums.txt", scope="shared")["owner"] == "alice"
    with pytest.raises(Refused) as caught:
        bob.delete(document)
    assert caught.value.status == 403
    charlie = client_of(server.url, "charlie", vault.charlie.token)
    with pytest.raises(Refused) as caught:
        charlie.document(document)
    assert caught.value.status == 404
    dora = client_of(server.url, "dora", vault.dora.token)
    assert list(dora.documents()) == []
    client.revoke(document, "bob")
    with pytest.raises(NotFound):
        bob.find("plums.txt")
    client.delete(document)
    assert list(client.documents()) == []
