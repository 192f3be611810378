"""X1 to X4, X6 to X10, X13: hostile content and names, addresses to fetch, bombs, and what a page lets others do.

What only a browser shows is in ``tests/browser/test_hostile.py``; every status and route in ``tests/http``.
"""

from __future__ import annotations

import ast
import gzip
import io
import json
import logging
import socket
import struct
import sys
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from tests.attacks.attacker import CANARY
from tests.cast import Vault
from tests.http.hostile import FILES, KEPT_NAMES, REFUSED_NAMES
from tests.http.test_headers import parsed
from tests.http.test_receiving import CONTENT_TYPE, COSTLY, MALFORMED
from tests.tus import Tus, metadata
from vault.agent.downloads import file_name
from vault.errors import BadInput

PROJECT = Path(__file__).resolve().parent.parent.parent


@cache
def imports(folder: Path) -> set[str]:
    """The outside modules that the code below a folder names."""
    found: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module)
    return found


def stored(
    vault: Vault, name: str, content: bytes, kind: str = "application/octet-stream", **headers: str
) -> Any:
    return vault.api("alice").post(
        "/documents", query_string={"name": name}, data=content, content_type=kind, headers=headers
    )


# X1


@pytest.mark.parametrize("name", FILES)
@pytest.mark.requirement(45)
def test_x1_whatever_a_file_says_it_is_it_is_sent_as_bytes_to_keep(house: Vault, name: str) -> None:
    kind, content = FILES[name]
    sent = stored(house, name, content, kind.partition("\r")[0] or "application/octet-stream")
    path = f"/documents/{sent.json['id']}/content"
    for headers in ({}, {"Accept": "text/html,image/svg+xml", "Sec-Fetch-Dest": "document"}):
        got = house.browser("alice").get(path, headers=headers)
        assert got.status_code == 200 and got.data == content
        assert got.headers["Content-Type"] == "application/octet-stream"
        assert got.headers["Content-Disposition"].startswith("attachment; ")
        assert got.headers["X-Content-Type-Options"] == "nosniff"
        policy = parsed(got.headers["Content-Security-Policy"])
        assert policy["default-src"] == ["'none'"] and policy["sandbox"] == []


# X2

KEYWORDS = {
    "none",
    "self",
    "unsafe-inline",
    "unsafe-eval",
    "strict-dynamic",
    "report-sample",
    "wasm-unsafe-eval",
}


@pytest.mark.parametrize("path", ["/", "/login", "/account", "/upload", "/nowhere", "/api/v1/me", "/healthz"])
def test_x2_the_policy_means_what_it_says(house: Vault, path: str) -> None:
    """Parsed as a browser parses it: an unquoted ``none`` is the name of a host, and lets everything of it in."""
    for who in (None, "alice"):
        policy = parsed(house.browser(who).get(path).headers["Content-Security-Policy"])
        assert policy["default-src"] == ["'none'"]
        assert policy["frame-ancestors"] == ["'none'"] and policy["base-uri"] == ["'none'"]
        for directive, sources in policy.items():
            bare = {
                source for source in sources if source.strip("'") in KEYWORDS and not source.startswith("'")
            }
            assert not bare, f"{directive} {bare}"
            wide = {"'unsafe-inline'", "'unsafe-eval'", "*", "http:", "https:"} | (
                set() if directive == "img-src" else {"data:"}
            )
            assert not wide & set(sources), directive
            assert "'none'" not in sources or len(sources) == 1, directive


# X3


@pytest.mark.parametrize("name", KEPT_NAMES[::3])
@pytest.mark.requirement(44)
def test_x3_a_hostile_name_is_data_wherever_it_comes(house: Vault, name: str) -> None:
    sent = stored(house, name, b"x")
    if "/" in name or "\\" in name:
        return
    document = sent.json["id"]
    for got in (
        house.api("alice").get(f"/documents/{document}/content"),
        house.browser("alice").get(f"/documents/{document}/content"),
        house.browser("alice").get(f"/documents/{document}"),
        house.browser("alice").get(f"/documents/{document}/share"),
    ):
        assert got.status_code == 200
        assert not any("\r" in value or "\n" in value for _, value in got.headers)
        assert "X-Injected" not in got.headers and "Set-Cookie2" not in got.headers
        if "Content-Disposition" in got.headers:
            told = unquote(got.headers["Content-Disposition"].rpartition("filename*=UTF-8''")[2])
            assert told == house.api("alice").get(f"/documents/{document}").json["name"]
        elif name.startswith(("<", '"><')):
            assert name not in got.text, "escaped"


@pytest.mark.parametrize("name", REFUSED_NAMES, ids=lambda name: ascii(name)[:20])
def test_x3_a_name_that_nothing_can_have_is_a_clean_400(house: Vault, name: str) -> None:
    document = stored(house, "good.txt", b"x").json["id"]
    assert house.api("alice").patch(f"/documents/{document}", json={"name": name}).status_code == 400
    created = Tus(house).create(1, Upload_Metadata=metadata(filename=name))
    assert created.status_code in {201, 400}
    got = house.api("alice").get(f"/documents/{document}/content")
    assert got.headers["Content-Disposition"].endswith("filename*=UTF-8''good.txt")


# X4


@pytest.fixture
def logged(house: Vault) -> Iterator[io.StringIO]:
    """Everything that the vault logs meanwhile."""
    written = io.StringIO()
    (handler,) = [handler for handler in logging.getLogger().handlers if handler.name == "docvault"]
    assert isinstance(handler, logging.StreamHandler)
    before = handler.setStream(written)
    yield written
    handler.setStream(before)


@pytest.mark.requirement(58)
def test_x4_nobody_writes_a_line_of_the_log_or_a_row_of_the_audit(house: Vault, logged: io.StringIO) -> None:
    forged = '\n{"event": "fake", "actor": "alice"}\r\n=cmd|\'/c calc\'!A1'
    before = len(house.audit())
    house.api().post("/token", json={"username": forged, "passphrase": forged})
    house.api("alice").get("/documents", query_string={"q": forged, "sort": forged})
    house.api("alice").patch(f"/documents/{'0' * 32}", json={"name": forged})
    house.api("alice").get("/me", headers={"User-Agent": "=1+1", "X-Request-Id": "0" * 32, "Referer": "=1+1"})
    house.browser().get(f"/invitation?{forged}")
    written = logged.getvalue()
    assert '"detail": "passphrase"' in written and "web.invitation" in written, "the log is seen"
    for line in written.splitlines():
        if line.strip():
            assert isinstance(json.loads(line), dict), line
    assert "fake" not in written and "calc" not in written
    for action, object_id, _, detail in house.audit()[before:]:
        cells = [action, object_id or "", detail or ""]
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) or "\n" in cell for cell in cells)
        assert "fake" not in repr(cells)


# X6: there is no agent that keeps a folder; what writes files is ``docvault get`` (tests/agent/test_downloads.py)


def test_x6_a_hostile_server_names_no_file_outside_of_the_folder() -> None:
    for told in ("../../.ssh/authorized_keys", "/etc/passwd", "..\\..\\x", "C:\\Windows\\x", "a/../../b"):
        try:
            name = file_name(told, windows=False)
        except BadInput:
            continue
        assert name == Path(name).name and name not in {"", ".", ".."} and "/" not in name
    for told in ("..", ".", "", "../.ssh", "a\0b", ".bashrc", "-rf"):
        with pytest.raises(BadInput):
            file_name(told, windows=False)


def test_x6_nothing_watches_a_folder_by_itself() -> None:
    """``docvault watch`` does not exist, so no server can send it a path, and no local file is read unasked."""
    assert not imports(PROJECT / "vault") & {"watchdog", "watchfiles", "inotify", "pyinotify"}
    assert {path.stem for path in (PROJECT / "vault" / "agent").glob("*.py")}.isdisjoint(
        {"watch", "sync", "mirror"}
    )


# X7

CONNECTED: list[Any] = []
WATCHING: list[bool] = []


def _on_connect(name: str, given: tuple[Any, ...]) -> None:
    if WATCHING and name in {"socket.connect", "socket.getaddrinfo", "urllib.Request"}:
        CONNECTED.append((name, given))


sys.addaudithook(_on_connect)


@pytest.fixture
def dialled() -> Iterator[list[Any]]:
    """Every connection and look-up of this process while the test runs."""
    CONNECTED.clear()
    WATCHING.append(True)
    yield CONNECTED
    WATCHING.clear()


def test_x7_an_address_that_somebody_sends_is_never_fetched(house: Vault, dialled: list[Any]) -> None:
    """Loopback, a cloud's metadata, IPv4 in IPv6: as a name, a type, a header, a list of uploads, content."""
    for host in (
        "127.0.0.1:9",
        "169.254.169.254",
        "[::ffff:169.254.169.254]",
        "localhost:22",
        "evil.example",
    ):
        address = f"http://{host}/latest/meta-data/"
        svg = f'<svg xmlns:xlink="http://www.w3.org/1999/xlink"><image xlink:href="{address}"/></svg>'
        sent = stored(house, address, svg.encode(), "image/svg+xml", Referer=address)
        assert sent.status_code == 201
        house.browser("alice").get(f"/documents/{sent.json['id']}", headers={"X-Forwarded-Host": host})
        house.browser().get(f"/login?next={address}", headers={"Referer": address})
        tus = Tus(house)
        tus.create(0, Upload_Metadata=metadata(filename="x", url=address, relativePath=address))
        assert tus.join(address).status_code in {400, 404}
        house.api("alice").get("/users", query_string={"q": address})
    assert dialled == []
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        with socket.socket() as other, pytest.raises(ConnectionRefusedError):
            other.connect(own.getsockname())
    assert dialled, "a connection would have been seen"


def test_x7_the_server_has_no_client_of_the_web() -> None:
    """Only the store's client may dial; httpx is the command's own."""
    server = imports(PROJECT / "vault") - imports(PROJECT / "vault" / "agent")
    server -= imports(PROJECT / "vault" / "storage")
    assert not {
        name
        for name in server
        if name.split(".")[0] in {"requests", "aiohttp", "smtplib", "ftplib", "pycurl"}
    }
    for room in ("services", "http", "web", "api", "crypto"):
        outside = {name.split(".")[0] for name in imports(PROJECT / "vault" / room)}
        assert not outside & {"httpx", "urllib3", "socket"}, room
        assert "urllib.request" not in imports(PROJECT / "vault" / room)


# X8, X9


def png(width: int, height: int) -> bytes:
    """A picture of a few kilobytes that says it is that large."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(bytes(2**20)))
        + chunk(b"IEND", b"")
    )


def nested_zip() -> bytes:
    inner = gzip.compress(bytes(10**6), mtime=0)
    for _ in range(4):
        held = io.BytesIO()
        with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
            for number in range(8):
                archive.writestr(f"../../{number}.zip", inner)
        inner = held.getvalue()
    return inner


BOMBS = {
    "65535 by 65535.png": png(65_535, 65_535),
    "hls.m3u8": b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
    "nested.zip": nested_zip(),
    "zeros.gz": gzip.compress(bytes(10**7), mtime=0),
}


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.requirement(49)
def test_x8_nothing_is_looked_into(house: Vault, name: str) -> None:
    began, content = time.perf_counter(), BOMBS[name]
    tracemalloc.start()
    try:
        document = stored(house, name, content).json["id"]
        page = house.browser("alice").get(f"/documents/{document}")
        got = house.api("alice").get(f"/documents/{document}/content")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert got.data == content and page.status_code == 200
    assert "<img" not in page.text.replace('<img src="/static', "") and "preview" not in page.text.lower()
    assert peak < 40_000_000 and time.perf_counter() - began < 5


@pytest.mark.requirement(50)
def test_x8_there_is_nothing_that_could_look() -> None:
    parsers = {
        "PIL",
        "cv2",
        "fitz",
        "pypdf",
        "lxml",
        "xml",
        "magic",
        "pikepdf",
        "docx",
        "openpyxl",
        "ffmpeg",
        "wand",
    }
    unpackers = {"tarfile", "gzip", "bz2", "lzma", "zstandard", "brotli", "rarfile", "py7zr"}
    for room in ("services", "http", "web", "api", "storage", "crypto"):
        outside = {name.split(".")[0] for name in imports(PROJECT / "vault" / room)}
        found = outside & (parsers | unpackers)
        # Backups are archives of the vault's own, read by the operator's command; nothing uploaded gets there.
        assert found == ({"tarfile"} if room == "storage" else set()), room
        assert "subprocess" not in outside, room
    unpacking = {
        path.name for path in (PROJECT / "vault").rglob("*.py") if "tarfile" in path.read_text("utf-8")
    }
    assert unpacking == {"archive.py"}
    for room in ("services", "http", "web", "api"):
        assert "vault.storage.archive" not in imports(PROJECT / "vault" / room), room


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "identity", "x-gzip, gzip"])
@pytest.mark.requirement(49)
def test_x9_an_encoded_body_is_kept_as_it_came_or_refused(house: Vault, encoding: str) -> None:
    bomb = BOMBS["zeros.gz"]
    tracemalloc.start()
    try:
        sent = stored(house, "body.gz", bomb, **{"Content-Encoding": encoding})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sent.status_code in {201, 415}
    assert peak < 40_000_000
    if sent.status_code == 201:
        assert house.api("alice").get(f"/documents/{sent.json['id']}/content").data == bomb


# X10


@pytest.mark.parametrize("case", ["100,000 fields", "CR and 8 MB without a line break, as a header"])
def test_x10_a_form_that_is_made_to_cost_is_refused_at_once(house: Vault, case: str) -> None:
    began = time.process_time()
    tracemalloc.start()
    try:
        got = house.api("alice").post("/documents", data=COSTLY[case](), content_type=CONTENT_TYPE)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 400 <= got.status_code < 500
    assert time.process_time() - began < 5 and peak < 40_000_000


def test_x10_thirty_three_malformed_forms_are_refused(house: Vault) -> None:
    assert len(MALFORMED) == 33
    for case, body in MALFORMED.items():
        began = time.process_time()
        got = house.api("alice").post("/documents", data=body, content_type=CONTENT_TYPE)
        assert 400 <= got.status_code < 500, case
        assert time.process_time() - began < 1, case
    names = {item["name"] for item in house.api("alice").get("/documents?limit=1000").json["items"]}
    assert "a.txt" not in names


# X13


@pytest.mark.parametrize(
    "ask",
    [
        ("GET", "/", {}), ("GET", "/login", {}), ("GET", "/nowhere", {}), ("POST", "/logout", {}),
        ("GET", "/api/v1/documents", {}), ("TRACE", "/", {}), ("GET", "/documents/{}/content", {}),
        ("GET", "/documents/{}/content", {"Range": "bytes=0-3"}),
        ("GET", "/documents/{}/content", {"Range": "bytes=999-"}),
        ("GET", "/documents/{}/content", {"If-None-Match": "*"}), ("GET", "/documents/{}", {}),
        ("POST", "/api/v1/documents", {"Content-Length": "99999999999999"}),
    ],
    ids=lambda ask: " ".join([ask[0], ask[1], *ask[2]]),
)  # fmt: skip
def test_x13_no_answer_can_be_framed_embedded_or_traced_back(
    house: Vault, ask: tuple[str, str, dict[str, str]]
) -> None:
    document = stored(house, "x.txt", CANARY).json["id"]
    for who in (None, "alice"):
        got = house.browser(who).client.open(ask[1].format(document), method=ask[0], headers=ask[2])
        policy = parsed(got.headers["Content-Security-Policy"])
        assert policy["frame-ancestors"] == ["'none'"]
        assert got.headers["Referrer-Policy"] in {"no-referrer", "same-origin"}
        assert got.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert got.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Access-Control-Allow-Origin" not in got.headers
        got.close()


@pytest.mark.parametrize(
    "target",
    [
        "//evil.example",
        "////evil.example",
        "/\\evil.example",
        "/\tevil.example",
        "https://evil.example",
        "\\\\x",
    ],
)
def test_x13_a_login_leads_to_no_other_place(house: Vault, target: str) -> None:
    got = house.browser("alice").get("/login", query_string={"next": target})
    assert got.status_code in {302, 303}
    assert (
        "evil" not in got.location and got.location.startswith("/") and got.location[1:2] not in {"/", "\\"}
    )
