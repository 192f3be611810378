"""``docvault serve``, started as an operator starts it: set-up link, refusals, stop and reload under load."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.servers.processes import LOOPBACK, free_ports
from tests.servers.vault import VaultServer, start_vault

KEY = "0f1e2d3c4b5a69788796a5b4c3d2e1f0" * 2


@pytest.fixture
def server(tmp_path: Path) -> Iterator[VaultServer]:
    """A vault of this test's own, two workers."""
    started = start_vault(tmp_path / "instance", workers=2)
    yield started
    started.stop()


def refused(folder: Path, *options: str, **settings: str) -> str:
    """Run ``docvault serve``, which must end by itself at once with exit code 1, and return what it says."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DOCVAULT_")}
    environment |= {f"DOCVAULT_{name.upper()}": value for name, value in settings.items()}
    environment.setdefault("DOCVAULT_INSTANCE", str(folder))
    done = subprocess.run(
        [sys.executable, "-m", "vault.cli", "serve", "--port", str(free_ports(1)[0]), *options],
        env=environment, cwd=folder, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_first_start_makes_a_key_of_its_own_and_prints_the_set_up_link(server: VaultServer) -> None:
    key = server.instance / "master.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    printed = server.log.read_text()
    assert "Back it up" in printed and key.read_text().strip() not in printed
    code = server.setup_code()
    server.register("dora", code)
    with server.client() as client:
        again = client.post("/users", json={"username": "mallory", "code": code})
        assert again.status_code == 400, "the code works once"


def test_a_second_start_prints_no_link_once_there_is_an_administrator(tmp_path: Path) -> None:
    first = start_vault(tmp_path / "instance", workers=1)
    first.register("dora", first.setup_code())
    first.stop()
    second = start_vault(tmp_path / "instance", workers=1)
    try:
        assert "/setup#" not in second.log.read_text()
    finally:
        second.stop()


# The master key


@pytest.mark.parametrize(
    ("key", "says"),
    [
        (KEY[:-2], "64"),
        (KEY + "00", "64"),
        ("g" + KEY[1:], "64"),
        ("0" * 64, "all zeros"),
    ],
    ids=["31 bytes", "33 bytes", "not hexadecimal", "zero"],
)
def test_p9_a_master_key_that_is_none_is_refused(tmp_path: Path, key: str, says: str) -> None:
    said = refused(tmp_path, master_key=key)
    assert says in said and "docvault keys generate" in said
    assert key[:8] not in said
    assert not (tmp_path / "vault.sqlite3").exists(), "nothing was touched"


def test_p9_a_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(KEY)
    file.chmod(0o644)
    said = refused(tmp_path, master_key_file=str(file))
    assert "chmod 600" in said and KEY[:8] not in said


def test_p9_two_sources_of_the_key_are_refused(tmp_path: Path) -> None:
    said = refused(tmp_path, master_key=KEY, master_key_command="echo " + KEY)
    assert "only one" in said and KEY[:8] not in said


def test_p9_the_key_of_another_vault_is_refused_and_nothing_is_marked_damaged(tmp_path: Path) -> None:
    own = start_vault(tmp_path / "instance", workers=1)
    own.stop()
    said = refused(tmp_path, instance=str(own.instance), master_key=KEY)
    assert "not the one of this database" in said and "FALLBACKS" in said and KEY[:8] not in said
    again = start_vault(own.instance, workers=1)
    again.stop()


def test_p9_a_database_without_its_key_is_refused(tmp_path: Path) -> None:
    own = start_vault(tmp_path / "instance", workers=1)
    own.stop()
    (own.instance / "master.key").rename(tmp_path / "elsewhere")
    said = refused(tmp_path, instance=str(own.instance))
    assert "no master key" in said and "Put the key back" in said
    assert not (own.instance / "master.key").exists(), "no fresh key takes the old one's place"


def test_the_key_comes_from_a_command(tmp_path: Path) -> None:
    server = start_vault(tmp_path / "instance", workers=1, master_key_command=f"printf %s {KEY}")
    server.stop()
    assert not (server.instance / "master.key").exists()


# Where it listens


def test_plain_http_in_public_is_refused_and_says_what_is_needed(tmp_path: Path) -> None:
    said = refused(tmp_path, "--host", "0.0.0.0")
    assert "DOCVAULT_PUBLIC_URL=https://" in said and "DOCVAULT_PROXIES=1" in said


def test_behind_a_proxy_with_tls_it_may_listen_anywhere(tmp_path: Path) -> None:
    server = start_vault(
        tmp_path / "instance", workers=1, host="0.0.0.0", public_url="https://vault.example.org", proxies=1
    )
    try:
        answer = httpx.get(f"{server.url}/login", headers={"X-Forwarded-Proto": "https"}, trust_env=False)
        assert answer.status_code == 200
        assert "max-age=63072000" in answer.headers["Strict-Transport-Security"]
        assert (
            "__Host-docvault_form" in answer.headers["Set-Cookie"]
            and "Secure" in answer.headers["Set-Cookie"]
        )
    finally:
        server.stop()


def test_a_store_without_its_settings_is_refused(tmp_path: Path) -> None:
    assert "DOCVAULT_MINIO_ENDPOINT" in refused(tmp_path, storage="minio")


# Bodies


def test_a_body_announced_as_too_large_is_answered_at_once(tmp_path: Path) -> None:
    server = start_vault(tmp_path / "instance", workers=1, max_document_bytes=1000)
    try:
        token = server.log_in("alice", server.register("alice"))
        with socket.create_connection((LOOPBACK, server.port), timeout=10) as client:
            head = (
                "POST /api/v1/documents?name=big HTTP/1.1\r\nHost: vault\r\n"
                f"Authorization: Bearer {token}\r\nContent-Length: 50000000\r\n\r\n"
            )
            began = time.monotonic()
            client.sendall(head.encode() + bytes(10_000))
            answer = client.recv(12)
            assert answer == b"HTTP/1.1 413" and time.monotonic() - began < 1.5
            while client.recv(65536):
                pass
            assert time.monotonic() - began < 8, "read on for at most two seconds, then closed"
        with server.client(token) as client:
            assert client.get("/documents").json()["items"] == []
    finally:
        server.stop()


def slow_upload(
    server: VaultServer, token: str, seconds: float, began: Callable[[], None]
) -> tuple[int, bytes]:
    """Send a body that takes ``seconds``, call ``began`` in the middle; return status and content sent."""
    content = os.urandom(2000)
    connection = http.client.HTTPConnection(LOOPBACK, server.port, timeout=seconds + 30)
    connection.putrequest("POST", "/api/v1/documents?name=slow.bin")
    connection.putheader("Authorization", f"Bearer {token}")
    connection.putheader("Content-Length", str(len(content)))
    connection.endheaders()
    steps = 20
    for step in range(steps):
        connection.send(content[step * 100 : step * 100 + 100])
        if step == 2:
            began()
        time.sleep(seconds / steps)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status, content


@pytest.mark.parametrize("seconds", [6, pytest.param(120, marks=pytest.mark.long)])
def test_sighup_reloads_and_lets_a_running_upload_end(server: VaultServer, seconds: float) -> None:
    token = server.log_in("alice", server.register("alice"))
    status, content = slow_upload(server, token, seconds, lambda: os.kill(server.process.pid, signal.SIGHUP))
    assert status == 201
    with server.client(token) as client:
        document = client.get("/documents").json()["items"][0]["id"]
        assert client.get(f"/documents/{document}/content").content == content
    assert "Hang up" in server.log.read_text(), "the reload did happen"


def test_sigterm_ends_within_half_a_minute_with_a_request_running(tmp_path: Path) -> None:
    server = start_vault(tmp_path / "instance", workers=1)
    token = server.log_in("alice", server.register("alice"))
    with socket.create_connection((LOOPBACK, server.port)) as client:
        client.sendall(
            b"POST /api/v1/documents?name=x HTTP/1.1\r\nHost: vault\r\nContent-Length: 1000\r\n"
            b"Authorization: Bearer " + token.encode() + b"\r\n\r\n" + bytes(10)
        )
        time.sleep(0.5)
        assert server.stop(seconds=35) < 30


def test_there_is_no_control_socket(server: VaultServer, tmp_path: Path) -> None:
    opened = subprocess.run(
        ["find", str(server.instance), str(Path.home() / ".gunicorn"), "-type", "s"],
        capture_output=True,
        text=True,
    )
    assert opened.stdout == ""
