"""S3 servers: SeaweedFS from its wheel, and a real MinIO that was built before."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sysconfig
from pathlib import Path

import urllib3
from minio import Minio
from urllib3.exceptions import HTTPError

from tests.servers.processes import LOOPBACK, ServerProcess, free_ports
from vault.storage.minio import MinioStore


class S3Server:
    """A running S3 server. The pool answers ``wait`` questions only; stores bring their own."""

    def __init__(
        self,
        name: str,
        port: int,
        access_key: str,
        secret_key: str,
        process: ServerProcess,
        address: str = LOOPBACK,
    ) -> None:
        self.name = name
        self.port = port
        self.endpoint = f"{address}:{port}"
        self.access_key = access_key
        self.secret_key = secret_key
        self.process = process

    def client(self) -> Minio:
        return Minio(
            endpoint=self.endpoint, access_key=self.access_key, secret_key=self.secret_key, secure=False
        )

    def new_bucket(self) -> str:
        """Make an empty bucket with a name of its own."""
        bucket = f"test-{secrets.token_hex(8)}"
        self.client().make_bucket(bucket_name=bucket)
        return bucket

    def store(self, bucket: str | None = None) -> MinioStore:
        """Return a store in ``bucket``, or in a new one."""
        return MinioStore(
            endpoint=self.endpoint,
            access_key=self.access_key,
            secret_key=self.secret_key,
            bucket=bucket or self.new_bucket(),
            secure=False,
        )

    def environment(self, bucket: str | None = None) -> dict[str, str]:
        """Return the settings with which the vault keeps its blobs in ``bucket``, or in a new one."""
        return {
            "DOCVAULT_STORAGE": "minio",
            "DOCVAULT_MINIO_ENDPOINT": self.endpoint,
            "DOCVAULT_MINIO_ACCESS_KEY": self.access_key,
            "DOCVAULT_MINIO_SECRET_KEY": self.secret_key,
            "DOCVAULT_MINIO_BUCKET": bucket or self.new_bucket(),
            "DOCVAULT_MINIO_SECURE": "false",
        }


def find_seaweedfs() -> Path | None:
    beside = Path(sysconfig.get_path("scripts")) / "weed"
    found = str(beside) if beside.is_file() else shutil.which("weed")
    return Path(found) if found else None


def find_minio() -> Path | None:
    """Return the binary that DOCVAULT_TEST_MINIO names, or the one that ``.ci/run`` built into the cache."""
    named = os.environ.get("DOCVAULT_TEST_MINIO")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = Path(named) if named else cache / "document-vault" / "minio"
    return path if os.access(path, os.X_OK) and path.is_file() else None


def start_seaweedfs(binary: Path, folder: Path) -> S3Server:
    """Start master, volume server, filer and S3 gateway in one process, about a second; telemetry is off."""
    access_key, secret_key = secrets.token_hex(8), secrets.token_hex(16)
    config = seaweedfs_identity(folder, access_key, secret_key)
    data = folder / "data"
    data.mkdir()
    names = [
        "s3",
        "s3.grpc",
        "master",
        "master.grpc",
        "volume",
        "volume.grpc",
        "filer",
        "filer.grpc",
        "admin",
        "admin.grpc",
    ]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    flags = []
    for name, port in ports.items():
        service, _, grpc = name.partition(".")
        flags.append(f"-{service}.port{'.' + grpc if grpc else ''}={port}")
    command: list[str | Path] = [
        binary,
        "mini",
        f"-dir={data}",
        f"-ip={LOOPBACK}",
        f"-ip.bind={LOOPBACK}",
        f"-s3.config={config}",
        "-s3.autoCreateBucket=false",
        "-s3.allowDeleteBucketNotEmpty=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-webdav=false",
        "-admin.ui=false",
        "-master.telemetry=false",
        f"-webdav.cacheDir={folder}",
        *flags,
    ]
    process = ServerProcess(
        command,
        folder / "log",
        environment={"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""},
        folder=folder,
    )
    server = S3Server("seaweedfs", ports["s3"], access_key, secret_key, process)
    process.wait_until(lambda: serves(server))
    return server


def seaweedfs_identity(folder: Path, access_key: str, secret_key: str) -> Path:
    """Write the file that gives SeaweedFS's S3 gateway its one pair of keys."""
    identity = {
        "name": "docvault",
        "credentials": [{"accessKey": access_key, "secretKey": secret_key}],
        "actions": ["Admin", "Read", "List", "Tagging", "Write"],
    }
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": [identity]}))
    return config


def start_minio(binary: Path, folder: Path) -> S3Server:
    """Start MinIO on one folder, under a second; its own update check and console are off."""
    access_key, secret_key = secrets.token_hex(8), secrets.token_hex(16)
    (port, console) = free_ports(2)
    data = folder / "data"
    data.mkdir(exist_ok=True)
    process = ServerProcess(
        [
            binary,
            "server",
            "--quiet",
            f"--address={LOOPBACK}:{port}",
            f"--console-address={LOOPBACK}:{console}",
            f"--certs-dir={folder / 'certs'}",
            data,
        ],
        folder / "log",
        environment=minio_environment(access_key, secret_key),
        folder=folder,
    )
    server = S3Server("minio", port, access_key, secret_key, process)
    process.wait_until(lambda: serves(server))
    return server


def minio_environment(access_key: str, secret_key: str) -> dict[str, str]:
    return {
        "MINIO_ROOT_USER": access_key,
        "MINIO_ROOT_PASSWORD": secret_key,
        "MINIO_BROWSER": "off",
        "MINIO_UPDATE": "off",
        "MINIO_CALLHOME_ENABLE": "off",
    }


def serves(server: S3Server) -> bool:
    """Tell whether the server can list its buckets: the port answers some time before that."""
    try:
        with urllib3.PoolManager(timeout=2, retries=False) as pool:
            if pool.request("GET", f"http://{server.endpoint}/").status >= 500:
                return False
            client = Minio(
                endpoint=server.endpoint,
                access_key=server.access_key,
                secret_key=server.secret_key,
                secure=False,
                http_client=pool,
            )
            client.list_buckets()
        return True
    except (HTTPError, OSError):
        return False
