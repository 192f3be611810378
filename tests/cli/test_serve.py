"""``docvault serve``, started as an operator starts it: set-up link, proxy, stop and reload under load."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.servers.processes import LOOPBACK
from tests.servers.vault import VaultServer, start_vault


@pytest.fixture
def server(tmp_path: Path) -> Iterator[VaultServer]:
    """A vault of this test's own, two workers."""
    started = start_vault(tmp_path / "instance", workers=2)
    yield started
    started.stop()


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


# Where it listens


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
