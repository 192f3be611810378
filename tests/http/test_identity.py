"""Who is asking: cookies and their attributes, where a login leads, the Origin of a change, renewal, locking."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie
from typing import Any

import pytest

from tests.cast import Browser, Vault
from vault.http.identity import safe_next
from vault.services import clock
from vault.services.sessions import TOKEN_LIFE


def cookies(answer: Any) -> dict[str, Any]:
    """The cookies that an answer sets, by name."""
    found = {}
    for header in answer.headers.getlist("Set-Cookie"):
        for name, morsel in SimpleCookie(header).items():
            found[name] = morsel
    return found


def log_in(vault: Vault, browser: Browser, target: str = "", **options: Any) -> Any:
    form = {"username": "alice", "passphrase": vault.alice.passphrase, "next": target}
    form["csrf_token"] = browser.csrf("/login")
    return browser.client.post("/login", data=form, **options)


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that moves the server's clock."""

    def move(by: timedelta) -> None:
        monkeypatch.setattr(clock, "now", lambda: datetime.now(UTC) + by)

    return move


# Cookies (checklist 28)


@pytest.mark.requirement(28)
def test_the_cookies_of_a_login_are_for_the_server_alone(vault: Vault) -> None:
    set_by_login = cookies(log_in(vault, vault.browser()))
    assert set(set_by_login) >= {"docvault", "docvault_device"}
    for name in ("docvault", "docvault_device"):
        morsel = set_by_login[name]
        assert morsel["httponly"] and morsel["samesite"] == "Lax" and morsel["path"] == "/"
        assert not morsel["secure"] and not morsel["domain"]
        assert len(morsel.OutputString()) <= 4096
    assert not set_by_login["docvault"]["max-age"], "the token's cookie ends with the browser"
    assert int(set_by_login["docvault_device"]["max-age"]) > 0


@pytest.mark.requirement(28)
def test_behind_https_the_cookies_are_bound_to_the_host(vault: Vault) -> None:
    behind = vault.reopened(public_url="https://vault.example.org", proxies=1)
    address = "https://vault.example.org"
    browser = behind.browser()
    import re

    page = browser.client.get("/login", base_url=address)
    token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page.text)
    assert token
    form = {"username": "alice", "passphrase": vault.alice.passphrase, "csrf_token": token.group(1)}
    answer = browser.client.post("/login", data=form, base_url=address)
    assert answer.status_code == 303
    set_by_login = cookies(page) | cookies(answer)
    assert all(name.startswith("__Host-") for name in set_by_login)
    assert {"__Host-docvault", "__Host-docvault_device"} <= set(set_by_login)
    for morsel in set_by_login.values():
        assert morsel["secure"] and morsel["httponly"] and morsel["path"] == "/" and not morsel["domain"]
    assert browser.client.get("/", base_url=address).status_code == 200
    behind.close()


@pytest.mark.requirement(27)
def test_the_form_cookie_holds_no_secret_of_the_account(vault: Vault) -> None:
    """The session cookie of forms is signed, not sealed: whoever reads it learns a CSRF token and nothing else."""
    import base64
    import zlib

    browser = vault.browser()
    log_in(vault, browser)
    browser.get("/account")
    cookie = browser.client.get_cookie("docvault_form")
    assert cookie is not None
    text = cookie.value.lstrip(".").split(".")[0]
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    content = zlib.decompress(raw) if cookie.value.startswith(".") else raw
    assert b"csrf_token" in content
    for secret in (vault.alice.passphrase, vault.alice.token, "alice"):
        assert secret.encode() not in content


def test_a_login_makes_a_new_session_and_a_new_form_token(vault: Vault) -> None:
    """P8: what was fixed before the login is worth nothing after it."""
    browser = vault.browser()
    before = browser.csrf("/login")
    log_in(vault, browser)
    refused = browser.client.post("/logout", data={"csrf_token": before})
    assert refused.status_code == 400
    first = browser.client.get_cookie("docvault")
    log_in(vault, browser)
    second = browser.client.get_cookie("docvault")
    assert first and second and first.value != second.value


def test_a_cookie_that_somebody_planted_is_not_kept(vault: Vault) -> None:
    browser = vault.browser()
    browser.client.set_cookie("docvault", vault.charlie.token, domain="localhost")
    log_in(vault, browser)
    assert vault.browser().get("/").status_code == 302
    assert "alice" in browser.get("/account").text


@pytest.mark.parametrize(
    "value", ["", "x", "a.b.c", "\x00", "ey" * 3000, "null", "é", '"', "eyJhbGciOiJub25lIn0.e30."]
)
def test_a_cookie_or_token_that_is_none_is_nobody(house: Vault, value: str) -> None:
    for headers in ({"Cookie": f"docvault={value}"}, {"Authorization": f"Bearer {value}"}):
        if "\x00" in value or "é" in value:
            headers = {name: text.encode().decode("latin-1") for name, text in headers.items()}
        answer = house.app.test_client(use_cookies=False).get("/api/v1/me", headers=headers)
        assert answer.status_code == 401


@pytest.mark.parametrize("scheme", ["Basic", "Digest", "Token", "bearer", "BEARER"])
def test_only_bearer_brings_a_token(house: Vault, scheme: str) -> None:
    header = {"Authorization": f"{scheme} {house.alice.token}"}
    answer = house.app.test_client(use_cookies=False).get("/api/v1/me", headers=header)
    assert answer.status_code == (200 if scheme.lower() == "bearer" else 401)


def test_a_bearer_token_goes_before_the_cookie(house: Vault) -> None:
    alice = house.browser("alice").client
    header = {"Authorization": f"Bearer {house.bob.token}"}
    assert alice.get("/api/v1/me", headers=header).json["username"] == "bob"
    assert alice.get("/api/v1/me", headers={"Authorization": "Bearer nobody"}).status_code == 401


def test_a_bearer_token_never_becomes_a_cookie(vault: Vault, moved: Any) -> None:
    header = {"Authorization": f"Bearer {vault.alice.token}"}
    moved(TOKEN_LIFE * 0.7)
    answer = vault.app.test_client(use_cookies=False).get("/api/v1/me", headers=header)
    assert answer.status_code == 200
    assert "docvault" not in cookies(answer)


# Renewal


@pytest.mark.parametrize(("passed", "renewed"), [(0.03, False), (0.5, True), (0.9, True)])
def test_a_page_renews_a_token_that_is_not_quite_fresh_and_a_fresh_token_stays(
    vault: Vault, moved: Any, passed: float, renewed: bool
) -> None:
    browser = vault.browser("alice")
    moved(TOKEN_LIFE * passed)
    answer = browser.get("/account")
    assert answer.status_code == 200
    assert ("docvault" in cookies(answer)) == renewed
    moved(TOKEN_LIFE * 1.2)
    assert browser.get("/account").status_code == (200 if renewed else 302)


def test_a_token_of_the_past_is_nobody(vault: Vault, moved: Any) -> None:
    moved(TOKEN_LIFE + timedelta(minutes=1))
    assert vault.api("alice").get("/me").status_code == 401


def test_a_refused_request_renews_nothing(vault: Vault, moved: Any) -> None:
    browser = vault.browser()
    moved(TOKEN_LIFE * 0.7)
    assert "docvault" not in cookies(browser.get("/account"))


# Where a login leads (law 7)

HOSTILE = [
    "//evil.example", "///evil.example", "////evil.example", "/\\evil.example", "\\\\evil.example", "\\/evil.example",
    "/\t/evil.example", "/\n/evil.example", "/\r\n//evil.example", "\t//evil.example", " //evil.example",
    "http://evil.example", "https:evil.example", "https:/evil.example", "javascript:alert(1)", "data:text/html,x",
    "evil.example", "http:///evil.example", "//evil.example/%2f..", "/.\\evil.example", "/a\\b", "/\x00", "/\x7f",
    "/\x1f/evil.example", "?next=x", "#x", "", "/\u2028\t/x", "/a b",
]  # fmt: skip
KEPT = [
    "/",
    "/shared",
    "/documents/" + "0" * 32,
    "/?q=a&sort=-date",
    "/people",
    "/a//b",
    "/é",
    "/%5C%5Cevil.example",
]


@pytest.mark.parametrize("target", HOSTILE)
def test_a_hostile_next_leads_home(house: Vault, target: str) -> None:
    assert safe_next(target) is None
    answer = house.browser("alice").get("/login", query_string={"next": target})
    assert (answer.status_code, answer.location) == (303, "/")


@pytest.mark.parametrize("target", KEPT)
def test_a_next_of_this_server_is_followed(house: Vault, target: str) -> None:
    assert safe_next(target) == target
    answer = house.browser("alice").get("/login", query_string={"next": target})
    assert answer.status_code == 303
    assert answer.location.startswith("/") and not answer.location.startswith(("//", "/\\"))


def test_a_hostile_next_in_the_form_leads_home(vault: Vault) -> None:
    for target in ("//evil.example", "/\\evil.example", "https://evil.example"):
        answer = log_in(vault, vault.browser(), target)
        assert (answer.status_code, answer.location) == (303, "/")


def test_who_is_not_logged_in_comes_back_to_the_page_he_wanted(vault: Vault) -> None:
    browser = vault.browser()
    answer = browser.get("/shared?q=salary")
    assert (answer.status_code, answer.location) == (302, "/login?next=/shared"), "the query may hold a name"
    assert log_in(vault, browser, "/shared").location == "/shared"


# Locking


@pytest.mark.requirement(32)
def test_locking_ends_the_session_and_clears_what_the_browser_kept(vault: Vault) -> None:
    browser = vault.browser("alice")
    answer = browser.post("/logout", {}, form_on="/account")
    assert answer.status_code == 303
    assert answer.headers["Clear-Site-Data"] == '"cache", "storage"'
    assert cookies(answer)["docvault"].value == ""
    assert browser.get("/").status_code == 302
    assert vault.api("alice").get("/me").status_code == 401, "the token itself is worth nothing any more"


def test_a_logout_at_the_api_clears_too(vault: Vault) -> None:
    answer = vault.api("alice").delete("/token")
    assert (answer.status_code, answer.headers["Clear-Site-Data"]) == (204, '"cache", "storage"')
    assert vault.api("alice").get("/me").status_code == 401


def test_an_ended_session_is_not_renewed_by_its_last_answer(vault: Vault, moved: Any) -> None:
    browser = vault.browser("alice")
    token = browser.csrf("/account")
    moved(TOKEN_LIFE * 0.6)
    answer = browser.client.post("/logout", data={"csrf_token": token})
    assert cookies(answer)["docvault"].value == ""


# Origin


@pytest.fixture(scope="module")
def behind(house: Vault) -> Iterator[Vault]:
    """A vault that browsers reach at https://vault.example.org."""
    own = house.reopened(public_url="https://vault.example.org", proxies=1)
    yield own
    own.close()


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost", 200),
        ("https://vault.example.org", 200),
        (None, 200),
        ("https://localhost", 403),
        ("http://vault.example.org", 403),
        ("https://vault.example.org.evil.example", 403),
        ("https://evil.example", 403),
        ("null", 403),
        ("", 403),
    ],
)
def test_a_change_comes_from_here_or_from_the_public_address(
    behind: Vault, origin: str | None, status: int
) -> None:
    headers = {} if origin is None else {"Origin": origin}
    assert behind.api("alice").post("/token/renew", headers=headers).status_code == status
    assert behind.api("alice").get("/me", headers=headers).status_code == 200, "reading changes nothing"
