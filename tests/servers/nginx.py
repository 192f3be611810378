"""nginx from the system's package in front of a vault, with the settings that ``ops/nginx.conf`` gives operators."""

from __future__ import annotations

import os
import shutil
import ssl
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.servers.processes import LOOPBACK, ServerProcess, free_ports

OPS = Path(__file__).resolve().parent.parent.parent / "ops"
SETTINGS = OPS / "nginx.conf"
COMPOSED = OPS / "compose" / "nginx.conf"
NAME = "vault.example.org"
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


class NginxServer:
    """A running nginx; clients reach the vault through it by TLS, under the name in ``ops/nginx.conf``."""

    def __init__(self, folder: Path, port: int, plain_port: int, process: ServerProcess) -> None:
        self.folder = folder
        self.port = port
        self.plain_port = plain_port
        self.process = process

    def client(self, token: str | None = None) -> httpx.Client:
        headers = {"Host": NAME} | ({"Authorization": f"Bearer {token}"} if token else {})
        return httpx.Client(
            base_url=f"https://{LOOPBACK}:{self.port}/api/v1",
            headers=headers,
            verify=ssl.create_default_context(cafile=self.folder / "certificate.pem"),
            timeout=60,
            trust_env=False,
        )

    def logged(self) -> str:
        """Everything in every log."""
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("*.log")))

    def temporary(self) -> list[tuple[str, int]]:
        """The folders and files for temporary bodies, with the time at which each last changed.

        nginx takes a file out of its folder as soon as it has opened it: only the folder's time tells.
        """
        paths = [
            path for name in TEMPORARY for path in (self.folder / name, *(self.folder / name).rglob("*"))
        ]
        return [(str(path), path.stat().st_mtime_ns) for path in paths]

    def stop(self) -> None:
        self.process.stop()


def find_nginx() -> Path | None:
    """Return the binary; Debian keeps it where only root's path looks."""
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    return Path(found) if found else None


def adapted(folder: Path, port: int, plain_port: int, vault_port: int) -> str:
    """Return ``ops/nginx.conf`` with other addresses, certificate and logs, inside of what Debian puts around it.

    There logs are on, and one tells whole request lines.
    """
    own = replaced(
        SETTINGS.read_text(encoding="utf-8"),
        {
            "server 127.0.0.1:8000;": f"server {LOOPBACK}:{vault_port};",
            "    listen 80;\n    listen [::]:80;\n": f"    listen {LOOPBACK}:{plain_port};\n",
            "    listen 443 ssl http2;\n    listen [::]:443 ssl http2;\n": f"    listen {LOOPBACK}:{port} ssl http2;\n",
            "/etc/ssl/docvault/fullchain.pem": f"{folder}/certificate.pem",
            "/etc/ssl/docvault/privkey.pem": f"{folder}/certificate.key",
            "/var/log/nginx/": f"{folder}/",
        },
    )
    places = "\n".join(f"{name}_temp_path {folder}/{name};" for name in TEMPORARY)
    return f"""
worker_processes 2;
pid {folder}/nginx.pid;
error_log {folder}/main-error.log;
events {{}}
http {{
access_log {folder}/main-access.log;
{places}
{own}
}}
"""


def adapted_for_compose(folder: Path, port: int, plain_port: int, vault_ports: Sequence[int]) -> str:
    """Return ``ops/compose/nginx.conf`` for two vaults on loopback; nginx before 1.25 spells http2 otherwise."""
    first, second = vault_ports
    return replaced(
        COMPOSED.read_text(encoding="utf-8"),
        {
            "/tmp/": f"{folder}/",
            "server app1:8000;": f"server {LOOPBACK}:{first};",
            "server app2:8000;": f"server {LOOPBACK}:{second};",
            "listen 8080;": f"listen {LOOPBACK}:{plain_port};",
            "listen 8443 ssl;\n        http2 on;": f"listen {LOOPBACK}:{port} ssl http2;",
            "/run/secrets/": f"{folder}/",
            "/dev/stdout": f"{folder}/access.log",
            "/dev/stderr": f"{folder}/error.log",
        },
    )


def replaced(text: str, lines: Mapping[str, str]) -> str:
    """Return the text with each piece replaced; raises when one is not there."""
    for line, replacement in lines.items():
        if line not in text:
            raise LookupError(f"the settings have no {line!r}")
        text = text.replace(line, replacement)
    return text


def start_nginx(binary: Path, folder: Path, settings: Callable[[Path, int, int], str]) -> NginxServer:
    """Start nginx, well under a second, with what ``settings(folder, port, plain_port)`` says."""
    folder.mkdir()
    _make_certificate(folder)
    port, plain_port = free_ports(2)
    for name in TEMPORARY:
        (folder / name).mkdir()
    # Started by root it would hand its folders to another user, whom the tests' folder is closed to.
    as_whom = "user root;\n" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(as_whom + "daemon off;\n" + settings(folder, port, plain_port))
    command: list[str | Path] = [
        binary,
        "-p",
        folder,
        "-c",
        folder / "nginx.conf",
        "-e",
        folder / "start.log",
    ]
    process = ServerProcess(command, folder / "output.log", folder=folder)
    server = NginxServer(folder, port, plain_port, process)
    process.wait_until(lambda: _answers(server))
    return server


def _answers(server: NginxServer) -> bool:
    try:
        with server.client() as client:
            client.get("/")
    except httpx.TransportError:
        return False
    return True


def _make_certificate(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(NAME), x509.IPAddress(ip_address(LOOPBACK))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "certificate.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
