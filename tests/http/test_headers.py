"""The headers of every answer, errors and refusals included (attacks X2 and X13, checklist 45, 51 and 53)."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.access_table import TABLE
from tests.cast import Vault
from vault.http import sending
from vault.storage.folder import FolderStore

KEYWORDS = {"none", "self", "unsafe-inline", "unsafe-eval", "strict-dynamic", "unsafe-hashes"}
SANDBOX = "sandbox"


def parsed(policy: str) -> dict[str, list[str]]:
    """Parse a Content-Security-Policy as a browser does: directives by semicolon, sources by space."""
    directives: dict[str, list[str]] = {}
    for part in policy.split(";"):
        words = part.split()
        if words and words[0].lower() not in directives:
            directives[words[0].lower()] = words[1:]
    return directives


@pytest.fixture(scope="module")
def shared(
    cast_folder: tuple[Path, Vault], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Vault, str]]:
    """A vault that no test here changes, and the id of a document in it."""
    folder, made = cast_folder
    instance = tmp_path_factory.mktemp("headers") / "instance"
    shutil.copytree(folder, instance)
    vault = made.copied_to(instance)
    yield vault, vault.upload("alice", b"0123456789" * 10, share=("bob",)).hex()
    vault.close()


def hold(answer: Any, *, private: bool = True) -> None:
    """Assert what holds for every answer whatever its status."""
    headers = answer.headers
    policy = parsed(headers["Content-Security-Policy"])
    assert policy["default-src"] == ["'none'"]
    assert policy["frame-ancestors"] == ["'none'"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] in {"no-referrer", "same-origin"}, "never an address to another site"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "camera=()" in headers["Permissions-Policy"]
    assert len(headers.getlist("Content-Security-Policy")) == 1
    assert len(bytes.fromhex(headers["X-Request-Id"])) == 16
    assert "Server" not in headers and "X-Powered-By" not in headers
    assert "Content-Encoding" not in headers
    if private:
        assert headers["Cache-Control"] == "no-store"
        assert "Cookie" in headers["Vary"]
    answer.close()


@pytest.mark.parametrize("key", TABLE)
@pytest.mark.requirement(51)
def test_every_route_bears_them_for_everybody(shared: tuple[Vault, str], key: str) -> None:
    vault, document = shared
    method, rule = key.split(" ")
    path = rule.replace("<path:filename>", "vault.css").replace("<id:document_id>", document)
    path = path.replace("<username>", "zoe")
    for variable in ("<id:version_id>", "<id:session_id>", "<id:invitation_id>"):
        path = path.replace(variable, "0" * 32)
    for name in (None, "alice", "charlie"):
        options = {"data": b"{"} if method != "GET" else {}
        answer = vault.browser(name).client.open(path, method=method, **options)
        assert answer.status_code < 500
        hold(answer, private=not rule.startswith("/static/"))


STATUSES: dict[int, Callable[[Vault, str], Any]] = {
    200: lambda vault, d: vault.api("alice").get(f"/documents/{d}/content"),
    201: lambda vault, d: vault.api("charlie").post("/documents?name=a", data=b""),
    206: lambda vault, d: vault.api("alice").get(f"/documents/{d}/content", headers={"Range": "bytes=1-2"}),
    304: lambda vault, d: vault.api("alice").get(f"/documents/{d}/content", headers={"If-None-Match": "*"}),
    400: lambda vault, d: vault.api("alice").get("/documents?limit=no"),
    401: lambda vault, d: vault.api().get("/me"),
    403: lambda vault, d: vault.api("bob").delete(f"/documents/{d}"),
    404: lambda vault, d: vault.browser("alice").get("/nowhere"),
    405: lambda vault, d: vault.browser("alice").client.delete("/"),
    412: lambda vault, d: vault.api("alice").patch(
        f"/documents/{d}", json={"name": "a"}, headers={"If-Match": '"old"'}
    ),
    413: lambda vault, d: vault.api("alice").post(
        "/documents", input_stream=io.BytesIO(b""), environ_overrides={"CONTENT_LENGTH": str(2**60)}
    ),
    415: lambda vault, d: vault.api("alice").patch(f"/documents/{d}", data="name=a"),
    416: lambda vault, d: vault.api("alice").get(f"/documents/{d}/content", headers={"Range": "bytes=999-"}),
}


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.requirement(51)
def test_every_status_bears_them(shared: tuple[Vault, str], status: int) -> None:
    answer = STATUSES[status](*shared)
    assert answer.status_code == status, answer.text
    hold(answer)


def test_a_throttled_a_failed_and_an_unavailable_answer_bear_them(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = vault.upload("alice").hex()
    shutil.move(vault.blobs, vault.instance / "away")
    unavailable = vault.browser("alice").get(f"/documents/{document}/content")
    assert unavailable.status_code in {500, 503}
    hold(unavailable)

    def broken(self: FolderStore, name: str, *span: int) -> int:
        raise ZeroDivisionError("a detail that nobody should see")

    monkeypatch.setattr(FolderStore, "get", broken)
    unknown = vault.browser("alice").get(f"/documents/{document}/content")
    assert unknown.status_code == 500
    assert "a detail" not in unknown.text and "Traceback" not in unknown.text
    assert unknown.headers["X-Request-Id"] in unknown.text
    hold(unknown)


# X2: the policy is built from a structure, and means something


def test_the_policy_of_pages_lets_our_own_files_in_and_nothing_else(shared: tuple[Vault, str]) -> None:
    for path in ("/", "/login", "/nowhere"):
        policy = parsed(shared[0].browser("alice").get(path).headers["Content-Security-Policy"])
        assert policy["script-src"] == ["'self'"]
        assert policy["style-src"] == ["'self'"]
        assert policy["form-action"] == ["'self'"]
        assert policy["base-uri"] == ["'none'"]
        for directive, sources in policy.items():
            for source in sources:
                bare = source.strip("'")
                assert (bare in KEYWORDS) == (source == f"'{bare}'"), (
                    f"{directive}: {source} lacks its quotes"
                )
                assert not bare.startswith("unsafe"), f"{directive}: {source}"
                assert source != "*"


@pytest.mark.requirement(51)
def test_no_page_has_an_inline_script_or_style(shared: tuple[Vault, str]) -> None:
    """What the policy would block must not be there either: a page that needs it is a broken page."""
    import re

    vault, document = shared
    paths = (
        "/",
        "/shared",
        "/upload",
        "/account",
        "/login",
        "/register",
        "/setup",
        "/invitation",
        "/nowhere",
    )
    for path in (*paths, f"/documents/{document}", f"/documents/{document}/share"):
        html = vault.browser(None if path == "/login" else "alice").get(path).text
        assert not re.search(r"<script(?![^>]*\bsrc=)", html), path
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", html), path


@pytest.mark.requirement(45)
def test_a_download_is_an_attachment_that_no_browser_runs(shared: tuple[Vault, str]) -> None:
    """Checklist 45, on the whole, a part, nothing new, and a head."""
    vault, document = shared
    for path in (f"/documents/{document}/content", f"/api/v1/documents/{document}/content"):
        for headers in ({}, {"Range": "bytes=0-0"}, {"If-None-Match": "*"}):
            for method in ("GET", "HEAD"):
                answer = vault.browser("alice").client.open(path, method=method, headers=headers)
                policy = parsed(answer.headers["Content-Security-Policy"])
                assert policy[SANDBOX] == []
                assert policy["default-src"] == ["'none'"]
                assert answer.headers["Content-Disposition"].startswith("attachment;")
                if answer.status_code != 304:
                    assert answer.content_type == "application/octet-stream"
                hold(answer)


@pytest.mark.requirement(51)
def test_hsts_is_sent_exactly_where_browsers_come_by_https(vault: Vault) -> None:
    assert "Strict-Transport-Security" not in vault.browser().get("/login").headers
    behind = vault.reopened(public_url="https://vault.example.org", proxies=1)
    header = behind.browser().get("/login").headers["Strict-Transport-Security"]
    assert int(header.split("max-age=")[1].split(";")[0]) >= 365 * 24 * 3600
    behind.close()


def test_static_files_may_be_cached_and_missing_ones_not(shared: tuple[Vault, str]) -> None:
    client = shared[0].browser().client
    with client.get("/static/vault.css") as found:
        assert found.headers["Cache-Control"] != "no-store"
    with client.get("/static/vault.css", headers={"If-None-Match": found.headers["ETag"]}) as same:
        assert same.status_code == 304
    for path in ("nothing.css", "../app.py", "..%2fapp.py", "%2e%2e/app.py", "vendor", "vendor/"):
        missing = client.get(f"/static/{path}")
        assert missing.status_code == 404, path
        assert missing.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "name", ["a.txt", 'a"b.txt', "a\\b", "ä ö.txt", "100%.txt", "a;b=c", "‮gpj.exe", "😀", "a,b", "'"]
)
def test_a_name_is_one_quoted_value_and_one_encoded_value(name: str) -> None:
    """RFC 6266: whatever the name holds, the header has two values, and the true one can be read back."""
    from urllib.parse import unquote

    header = sending.disposition(name)
    assert header.isascii() and header.isprintable()
    kind, plain, encoded = header.split("; ")
    assert kind == "attachment"
    assert plain.startswith('filename="') and plain.endswith('"') and plain.count('"') == 2
    assert "\\" not in plain and "%" not in plain
    assert unquote(encoded.removeprefix("filename*=UTF-8''")) == name
