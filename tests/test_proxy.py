"""nginx with the settings of ``ops/nginx.conf`` in front of a vault: nothing of a document stays there."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from tests.servers.nginx import NAME, NginxServer, adapted, replaced, start_nginx
from tests.servers.plugin import need
from tests.servers.processes import LOOPBACK, free_ports
from tests.servers.vault import VaultServer, start_vault

CANARY = b"Eight hundred grams of plums, and do not tell grandmother. "
CONTENT = (
    os.urandom(64) + CANARY * 300_000
)  # 17 MB: three parts, and more than sockets hold between two processes
DOCUMENT = "Zwetschgendatschi-Rezept.odt"
TUS = {"Tus-Resumable": "1.0.0"}


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VaultServer]:
    server = start_vault(
        tmp_path_factory.mktemp("vault") / "instance", public_url=f"https://{NAME}", proxies=1, workers=2
    )
    yield server
    server.stop()


@pytest.fixture(scope="module")
def passphrase(vault: VaultServer) -> str:
    return vault.register("alice")


@contextmanager
def proxied(port: int, folder: Path, change: Mapping[str, str] = {}) -> Iterator[NginxServer]:
    nginx = start_nginx(need("nginx"), folder, lambda *where: replaced(adapted(*where, port), change))
    try:
        yield nginx
    finally:
        nginx.stop()


def log_in(nginx: NginxServer, passphrase: str) -> str:
    with nginx.client() as client:
        answer = client.post("/token", json={"username": "alice", "passphrase": passphrase})
        return str(answer.raise_for_status().json()["token"])


def upload(client: httpx.Client, chunked: bool = False) -> str:
    """Send the document slowly enough for a proxy to collect it; return its id."""

    def pieces() -> Iterator[bytes]:
        yield CONTENT[: 2**20]
        time.sleep(0.2)
        yield CONTENT[2**20 :]

    headers = {} if chunked else {"Content-Length": str(len(CONTENT))}
    answer = client.post("/documents", params={"name": DOCUMENT}, content=pieces(), headers=headers)
    return str(answer.raise_for_status().json()["id"])


def download(client: httpx.Client, document: str) -> bytes:
    """Fetch the document, and let the proxy wait after the first bytes: it would collect the rest meanwhile."""
    with client.stream("GET", f"/documents/{document}/content") as answer:
        answer.raise_for_status()
        parts = answer.iter_bytes(2**16)
        first = next(parts)
        time.sleep(0.5)
        return first + b"".join(parts)


def upload_in_pieces(client: httpx.Client) -> tuple[str, str]:
    """Send the document by tus in two pieces; return its address as an upload, and the document's id."""
    name = base64.b64encode(DOCUMENT.encode()).decode()
    begun = client.post(
        "/uploads", headers=TUS | {"Upload-Length": str(len(CONTENT)), "Upload-Metadata": f"filename {name}"}
    ).raise_for_status()
    place = begun.headers["Location"].partition("/api/v1")[2]
    half = len(CONTENT) // 2
    for start, piece in ((0, CONTENT[:half]), (half, CONTENT[half:])):
        sent = client.patch(
            place,
            content=piece,
            headers=TUS | {"Upload-Offset": str(start), "Content-Type": "application/offset+octet-stream"},
        ).raise_for_status()
    assert client.head(place, headers=TUS).headers["Upload-Length"] == str(len(CONTENT))
    return place, sent.headers["X-Vault-Document"]


def spellings(secret: str | bytes) -> set[str]:
    """How a log might write a secret, or a good piece of it."""
    text = secret if isinstance(secret, str) else secret.decode("ascii")
    return {
        text[:40],
        quote(text)[:40],
        base64.b64encode(text.encode()).decode()[:40],
        text.encode().hex()[:40],
    }


@pytest.mark.requirement(34)
def test_nothing_of_a_document_stays_at_the_proxy(
    vault: VaultServer, passphrase: str, tmp_path: Path
) -> None:
    """Law 5, through nginx's log and disk: contents, names, tokens, addresses of uploads; also when things fail."""
    with proxied(vault.port, tmp_path / "nginx") as nginx:
        before = nginx.temporary()
        token = log_in(nginx, passphrase)
        with nginx.client(token) as client:
            for chunked in (False, True):
                assert download(client, upload(client, chunked)) == CONTENT
            place, document = upload_in_pieces(client)
            assert download(client, document) == CONTENT
            client.get("/documents", params={"q": DOCUMENT[:12]}).raise_for_status()
            fail(client, place)
        logged, after = nginx.logged(), nginx.temporary()
    with proxied(free_ports(1)[0], tmp_path / "alone") as nginx:
        ask_an_absent_vault(nginx, place, token)
        logged += nginx.logged()

    assert after == before, "nginx wrote a body to its disk"
    secrets: list[str | bytes] = [
        CANARY,
        DOCUMENT,
        DOCUMENT[:12],
        passphrase,
        token,
        token.rpartition(".")[2],
    ]
    secrets += [place, place.rpartition("/")[2], document, "documents", "uploads"]
    for secret in secrets:
        assert not any(form in logged for form in spellings(secret)), secret
    assert logged.count(" PATCH 204 ") == 2, "the log is the one that was read"
    assert " 502 " in logged


def fail(client: httpx.Client, place: str) -> None:
    """Let requests go wrong in ways that nginx has something to say about."""
    assert client.patch(place, headers=TUS | {"Upload-Offset": "5"}, content=b"x").status_code == 415
    assert client.get(f"{place}/..%2f..%00", headers=TUS).status_code == 400
    assert client.get(place, headers={"Cookie": "x" * 40_000}).status_code == 400
    assert client.get(f"/documents?q={quote(DOCUMENT) * 2_000}").status_code == 414

    def broken() -> Iterator[bytes]:
        yield CANARY
        raise ConnectionAbortedError

    for path in ("/documents", place):
        with pytest.raises(ConnectionAbortedError):
            client.post(path, params={"name": DOCUMENT}, content=broken())


def ask_an_absent_vault(nginx: NginxServer, place: str, token: str) -> None:
    """Ask while nobody listens behind nginx: its word for that would hold the address."""
    with nginx.client(token) as client:
        assert client.patch(place, headers=TUS | {"Upload-Offset": "0"}, content=CANARY).status_code == 502
        assert client.get("/documents", params={"q": DOCUMENT}).status_code == 502


UPLOADS = {"proxy_request_buffering off;": ""}
DOWNLOADS = {"proxy_buffering off;": "", "proxy_max_temp_file_size 0;": ""}


@pytest.mark.parametrize(
    ("act", "change"),
    [
        pytest.param(upload, UPLOADS, id="upload"),
        pytest.param(lambda client: upload_in_pieces(client)[1], UPLOADS, id="tus"),
        pytest.param(upload, DOWNLOADS, id="download"),
    ],
)
def test_other_settings_would_write_documents_to_the_proxys_disk(
    vault: VaultServer,
    passphrase: str,
    tmp_path: Path,
    act: Callable[[httpx.Client], str],
    change: dict[str, str],
) -> None:
    with proxied(vault.port, tmp_path / "nginx", change) as nginx:
        before = nginx.temporary()
        with nginx.client(log_in(nginx, passphrase)) as client:
            assert download(client, act(client)) == CONTENT
        assert nginx.temporary() != before


@pytest.mark.parametrize(
    ("port_is_open", "change"),
    [
        pytest.param(True, {"docvault.log docvault;": "docvault.log combined;"}, id="access log"),
        pytest.param(False, {"error.log crit;": "error.log error;"}, id="error log"),
    ],
)
def test_other_settings_would_log_the_addresses_of_uploads(
    vault: VaultServer, tmp_path: Path, port_is_open: bool, change: dict[str, str]
) -> None:
    place = "/uploads/" + "a" * 310
    with proxied(vault.port if port_is_open else free_ports(1)[0], tmp_path / "nginx", change) as nginx:
        with nginx.client() as client:
            client.head(place, headers=TUS)
        nginx.process.wait_until(lambda: place in nginx.logged(), 10)  # it logs after it has answered


def test_plain_http_is_sent_away_and_not_logged(vault: VaultServer, tmp_path: Path) -> None:
    with proxied(vault.port, tmp_path / "nginx") as nginx:
        answer = httpx.get(
            f"http://{LOOPBACK}:{nginx.plain_port}/documents?q=plums", headers={"Host": NAME}, trust_env=False
        )
        assert (answer.status_code, answer.headers["Location"]) == (301, f"https://{NAME}/documents?q=plums")
        assert "plums" not in nginx.logged()
