"""Bodies as the real server receives them: cut, chunked, refused, in two halves; and nothing of them on disk."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.cast import Vault
from tests.http.forms import CONTENT_TYPE, field, file, form
from tests.servers.processes import LOOPBACK
from tests.servers.vault import VaultServer, start_vault

LIMIT = 30_000_000


@pytest.fixture(scope="module")
def served(
    cast_folder: tuple[Path, Vault], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[VaultServer, Vault]]:
    """The cast's vault under ``docvault serve``, with a temporary folder of its own; and the same vault at hand."""
    folder, made = cast_folder
    instance = tmp_path_factory.mktemp("served") / "instance"
    shutil.copytree(folder, instance)
    vault = made.copied_to(instance)
    (instance.parent / "tmp").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(instance.parent / "tmp"))
        server = start_vault(instance, workers=1, threads=4, max_document_bytes=LIMIT)
    yield server, vault
    server.stop()
    vault.close()


def head(
    server: VaultServer, token: str | None, *headers: str, path: str = "/api/v1/documents?name=a"
) -> bytes:
    lines = [f"POST {path} HTTP/1.1", f"Host: {LOOPBACK}:{server.port}", *headers]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    return "\r\n".join([*lines, "", ""]).encode()


def answer_to(server: VaultServer, *pieces: bytes, close: bool = False) -> bytes:
    """Send bytes over a connection of their own; return what comes back until the server closes or falls silent."""
    with socket.create_connection((LOOPBACK, server.port), timeout=10) as client:
        for piece in pieces:
            client.sendall(piece)
        if close:
            client.shutdown(socket.SHUT_WR)
        received = b""
        client.settimeout(5)
        try:
            while piece := client.recv(65536):
                received += piece
                if b"\r\n\r\n" in received and not close:
                    break
        except TimeoutError:
            pass
        return received


def settled(vault: Vault, wanted: tuple[int, int]) -> tuple[int, int]:
    """Documents of Alice and upload rows, once the server has noticed what happened to the connection."""
    for _ in range(50):
        with vault.database() as connection:
            found = tuple(
                connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
                for table in ("document", "upload")
            )
        if found == wanted:
            break
        time.sleep(0.1)
    return found[0], found[1]


@pytest.mark.parametrize("sent", [0, 1, 1_000_000, 9_000_000])
def test_an_upload_that_is_cut_off_is_no_document_and_its_blobs_go(
    served: tuple[VaultServer, Vault], sent: int
) -> None:
    server, vault = served
    blobs = len(vault.blob_files())
    announced = head(server, vault.alice.token, "Content-Length: 20000000")
    with socket.create_connection((LOOPBACK, server.port), timeout=10) as client:
        client.sendall(announced)
        client.sendall(b"x" * sent)
    assert settled(vault, (0, 1)) == (0, 1)
    with vault.database() as connection:
        for _ in range(50):
            (expires,) = connection.execute("SELECT expires_at FROM upload").fetchone()
            if expires <= time.time() * 1_000_000:
                break
            time.sleep(0.1)
        assert expires <= time.time() * 1_000_000, "the row has expired, so that the sweep may act"
    with vault.services() as bundle:
        bundle.sweep.run()
    assert settled(vault, (0, 0)) == (0, 0)
    assert len(vault.blob_files()) == blobs


def test_a_chunked_body_is_taken_and_a_cut_one_is_not(served: tuple[VaultServer, Vault]) -> None:
    server, vault = served
    content = os.urandom(300_000)
    with server.client(vault.alice.token) as client:
        taken = client.post(
            "/documents?name=chunked", content=(content[i : i + 7000] for i in range(0, 300_000, 7000))
        )
        assert taken.status_code == 201
        document = taken.json()["id"]
        assert client.get(f"/documents/{document}/content").content == content
        began = head(server, vault.alice.token, "Transfer-Encoding: chunked")
        for body in (b"5\r\nhello\r\n", b"5\r\nhel", b"zz\r\nhello\r\n0\r\n\r\n", b"-1\r\n"):
            received = answer_to(server, began, body, close=True)
            assert not received.startswith(b"HTTP/1.1 2"), body
        assert len(client.get("/documents").json()["items"]) == 1, "a body without its end is no document"
        client.delete(f"/documents/{document}")
    with vault.services() as bundle:
        bundle.sweep.run()


def test_two_lengths_or_a_length_and_chunks_are_refused(served: tuple[VaultServer, Vault]) -> None:
    """Attack X12: what two parties could read in two ways is read in none."""
    server, vault = served
    for headers in (
        ("Content-Length: 5", "Content-Length: 6"),
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked, identity",),
        ("Transfer-Encoding: xchunked",),
        ("Content-Length: +5",),
        ("Content-Length: 5, 5",),
        ("Content-Length : 5",),
    ):
        received = answer_to(
            server, head(server, vault.alice.token, *headers) + b"0\r\n\r\nhello", close=True
        )
        assert not received.startswith(b"HTTP/1.1 2"), headers
    with server.client(vault.alice.token) as client:
        assert client.get("/documents").json()["items"] == []


def test_a_refusal_is_readable_although_the_body_was_not_read(served: tuple[VaultServer, Vault]) -> None:
    """Logged out, not one's own, of another site: the answer comes while the body is still being sent."""
    server, vault = served
    body = b"x" * 3_000_000
    length = f"Content-Length: {len(body)}"
    cases = {
        b"401": head(server, None, length),
        b"403": head(server, vault.alice.token, length, "Origin: https://evil.example"),
        b"404": head(server, vault.alice.token, length, path=f"/api/v1/documents/{'0' * 32}/nothing"),
        b"413": head(server, vault.alice.token, f"Content-Length: {LIMIT + 1}"),
    }
    for status, start in cases.items():
        received = answer_to(server, start, body)
        assert received.startswith(b"HTTP/1.1 " + status), received[:100]
        assert b"Content-Type: application/problem+json" in received
    with server.client(vault.alice.token) as client:
        assert client.get("/documents").json()["items"] == []


def test_a_page_answers_413_to_a_form_that_is_announced_as_too_large(
    served: tuple[VaultServer, Vault],
) -> None:
    server, vault = served
    start = head(
        server, None, f"Content-Length: {LIMIT * 2}", f"Content-Type: {CONTENT_TYPE}",
        f"Cookie: docvault={vault.alice.token}", path="/upload",
    )  # fmt: skip
    began = time.monotonic()
    received = answer_to(server, start, form(field("csrf_token", "x"), file(b"x" * 100_000)))
    assert received.startswith(b"HTTP/1.1 413")
    assert b"Content-Type: text/html" in received
    assert time.monotonic() - began < 2


@pytest.mark.requirement(48)
def test_nothing_of_a_running_upload_lies_in_a_temporary_file(served: tuple[VaultServer, Vault]) -> None:
    """Checklist 48, on the server itself: in the middle of a form, look at every file that its processes hold."""
    server, vault = served
    body = form(file(b"plaintext!" * 2_000_000))
    start = head(server, vault.alice.token, f"Content-Length: {len(body)}", f"Content-Type: {CONTENT_TYPE}")
    with socket.create_connection((LOOPBACK, server.port), timeout=10) as client:
        client.sendall(start + body[: len(body) // 2])
        time.sleep(0.5)
        files = open_files(server.process.pid)
        held = {path.readlink(): path.stat() for path in files}
        counters = [path.read_bytes() for path in files if is_counters(path.readlink())]
        client.sendall(body[len(body) // 2 :])
        assert client.recv(12) == b"HTTP/1.1 201"
    allowed = server.instance
    for target, status in held.items():
        temporary = "(deleted)" in target.name or (
            str(target).startswith("/tmp/") and allowed not in target.parents
        )
        if temporary and target != server.log and not is_counters(target):
            assert status.st_size == 0, f"{target} holds {status.st_size} bytes"
    assert counters and b"plaintext!" not in b"".join(counters)
    assert all(path.stat().st_size == 0 for path in (server.instance.parent / "tmp").rglob("*"))
    assert b"plaintext!" not in b"".join(path.read_bytes() for path in vault.blob_files())


def is_counters(target: Path) -> bool:
    """The figures that the workers share lie in memory without a name; what they hold is looked at by itself."""
    return target.name.startswith("memfd:docvault-metrics")


def open_files(pid: int) -> list[Path]:
    """Every regular file that a process and its children hold open."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    found = []
    for process in (str(pid), *children):
        for path in Path(f"/proc/{process}/fd").iterdir():
            try:
                if path.is_file():
                    found.append(path)
            except OSError:
                continue
    assert found
    return found


@pytest.mark.requirement(53)
def test_the_server_tells_no_version(served: tuple[VaultServer, Vault]) -> None:
    server, _ = served
    banner = httpx.get(f"{server.url}/login", trust_env=False).headers.get("Server", "")
    assert not any(character.isdigit() for character in banner)


def test_a_stop_with_nothing_to_do_is_quick(cast_folder: tuple[Path, Vault], tmp_path: Path) -> None:
    """With an idle connection kept open, too."""
    shutil.copytree(cast_folder[0], tmp_path / "instance")
    server = start_vault(tmp_path / "instance", workers=2)
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        assert client.get("/healthz").status_code == 200
        assert server.stop() < 15
