"""M7, X11, X12 at a started server: what leaks from its processes, from caches, from requests read in two ways."""

from __future__ import annotations

import resource
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attacks.attacker import CANARY
from tests.cast import MASTER_KEY
from tests.servers.nginx import adapted, replaced, start_nginx
from tests.servers.plugin import need
from tests.servers.processes import LOOPBACK
from tests.servers.vault import VaultServer, start_vault

PROJECT = Path(__file__).resolve().parent.parent.parent
NAME = "Zwetschgendatschi-Rezept.odt"
FOLDER = "Familienarchiv-Kanzlei"


# M7


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[VaultServer, dict[str, bytes]]]:
    """A started server, its master key in a file, and what was told to it in secret."""
    folder = tmp_path_factory.mktemp("leaks")
    temporary, key = folder / "temporary", folder / "master.key"
    temporary.mkdir()
    key.write_text(MASTER_KEY + "\n")
    key.chmod(0o600)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(temporary))
        server = start_vault(folder / "instance", registration="open", workers=1, master_key_file=key)
    try:
        passphrase = server.register("alice")
        server.register("bob")
        token = server.log_in("alice", passphrase)
        with server.client(token) as client:
            path = f"/documents?name={NAME}&recipients=bob"
            document = client.post(path, content=CANARY * 20_000).raise_for_status().json()["id"]
            client.patch(f"/documents/{document}", json={"path": [FOLDER]}).raise_for_status()
            assert client.get(f"/documents/{document}/content").content == CANARY * 20_000
            client.get(f"/documents?q={FOLDER}")
            client.get(f"/documents/{'0' * 32}")
            client.post("/token", json={"username": "alice", "passphrase": passphrase + "x"})
        yield (
            server,
            {
                "content": CANARY[:24],
                "name": NAME.encode(),
                "folder": FOLDER.encode(),
                "passphrase": passphrase.encode(),
                "token": token.encode()[-60:],
                "master key": MASTER_KEY.encode(),
            },
        )
    finally:
        server.stop()
        shutil.rmtree(folder)


def workers(server: VaultServer) -> list[int]:
    pid = server.process.pid
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


@pytest.mark.requirement(34)
def test_m7_nothing_that_was_told_lies_in_a_file_or_an_environment(
    lived: tuple[VaultServer, dict[str, bytes]],
) -> None:
    server, secrets = lived
    files = [
        path for path in server.instance.parent.rglob("*") if path.is_file() and path.name != "master.key"
    ]
    assert any(path.name.startswith("vault.sqlite3") for path in files) and server.log in files
    assert any("blobs" in path.parts for path in files)
    places = {str(path): path.read_bytes() for path in files}
    places |= {f"environment of {pid}": Path(f"/proc/{pid}/environ").read_bytes() for pid in workers(server)}
    places |= {f"command of {pid}": Path(f"/proc/{pid}/cmdline").read_bytes() for pid in workers(server)}
    found = [
        (what, place) for place, held in places.items() for what, secret in secrets.items() if secret in held
    ]
    assert found == []
    assert not [path for path in files if "temporary" in path.parts]


def test_m7_a_process_that_crashes_writes_no_core(lived: tuple[VaultServer, dict[str, bytes]]) -> None:
    server, _ = lived
    for pid in workers(server):
        assert resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0)
    assert "LimitCORE=0" in (PROJECT / "ops" / "docvault.service").read_text()


# X11


def test_x11_a_cache_between_two_people_gives_nobody_anothers_page(
    lived: tuple[VaultServer, dict[str, bytes]], tmp_path: Path
) -> None:
    """A proxy that was told to cache: what we send is marked so that it stores none of it, and static files alone."""
    server, _ = lived
    caching = {
        "events {}\nhttp {\n": f"events {{}}\nhttp {{\nproxy_cache_path {tmp_path}/cache keys_zone=shared:1m;\n",
        "proxy_buffering off;": "proxy_buffering on;",
        "proxy_cache off;": "proxy_cache shared; proxy_cache_valid any 1m; add_header X-Cache $upstream_cache_status;",
    }
    told_to = "proxy_pass http://docvault; proxy_cache shared; proxy_cache_valid any 1m; "
    told_to += "proxy_ignore_headers Cache-Control Vary; add_header X-Cache $upstream_cache_status;"
    caching["    location / {\n"] = f"    location /static/ {{ {told_to} }}\n    location / {{\n"
    nginx = start_nginx(
        need("nginx"), tmp_path / "nginx", lambda *where: replaced(adapted(*where, server.port), caching)
    )
    try:
        people = {name: server.log_in(name, server.register(name)) for name in ("zora", "yuri")}
        shown: dict[str, set[str]] = {}
        for _ in range(3):
            for name, token in people.items():
                with nginx.client(token) as client:
                    me = client.get("/me")
                    assert me.json()["username"] == name
                    assert me.headers["Cache-Control"] == "no-store" and "Cookie" in me.headers["Vary"]
                    assert client.get("/documents").json()["items"] == []
                    for path in ("/me", "/documents", f"/documents/{'0' * 32}", "/users?q=zo"):
                        shown.setdefault(path, set()).add(client.get(path).headers.get("X-Cache", "none"))
            with nginx.client() as client:
                assert client.get("/me").status_code == 401
        assert all("HIT" not in states for states in shown.values()), shown
        with nginx.client() as client:
            static = str(client.base_url.copy_with(path="/static/vault.css"))
            states = [client.get(static).headers.get("X-Cache") for _ in range(3)]
        assert "HIT" in states, f"the cache works: {states}"
    finally:
        nginx.stop()


# X12


def raw(server: VaultServer, *lines: str, body: bytes = b"") -> bytes:
    """Send a request byte by byte as it stands here; return all that comes back."""
    with socket.create_connection((LOOPBACK, server.port), timeout=20) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while piece := connection.recv(65_536):
            received += piece
    return received


SMUGGLED = b"0\r\n\r\nGET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    "headers",
    [
        ("Content-Length: 5", "Transfer-Encoding: chunked"), ("Transfer-Encoding: chunked", "Content-Length: 5"),
        ("Content-Length: 5", "Content-Length: 60"), ("Transfer-Encoding: xchunked",),
        ("Transfer-Encoding: chunked, x",), ("Transfer-Encoding : chunked",),
        ("Transfer_Encoding: chunked", "Content-Length: +5"), ("Content-Length: 0x5",), ("Content-Length: 5 5",),
        ("Content-Length: -1",),
    ],
    ids="; ".join,
)  # fmt: skip
def test_x12_what_could_be_read_in_two_ways_is_read_in_none(
    lived: tuple[VaultServer, dict[str, bytes]], headers: tuple[str, ...]
) -> None:
    received = raw(lived[0], "POST /api/v1/token HTTP/1.1", "Host: x", *headers, body=SMUGGLED)
    assert received.count(b"HTTP/1.1 ") <= 1, "nothing of the body was taken for a request"
    assert not received.startswith(b"HTTP/1.1 2")


def test_x12_nobody_says_by_a_header_where_he_comes_from(lived: tuple[VaultServer, dict[str, bytes]]) -> None:
    """No proxy is configured, so none is believed: neither address nor scheme nor host."""
    server, _ = lived
    spoofed = (
        "X-Forwarded-For: 203.0.113.7", "X-Forwarded-Host: evil.example", "X-Forwarded-Proto: https",
        "X-Forwarded-Prefix: /evil", "Forwarded: for=203.0.113.7;host=evil.example;proto=https",
        "X-Real-IP: 203.0.113.7",
    )  # fmt: skip
    received = raw(server, "GET / HTTP/1.1", f"Host: {LOOPBACK}:{server.port}", "Connection: close", *spoofed)
    assert b"evil" not in received and b"203.0.113.7" not in received
    assert b"Strict-Transport-Security" not in received and b"__Host-" not in received
    assert received.split(b"\r\n", 1)[0].endswith(b" 302 FOUND")
