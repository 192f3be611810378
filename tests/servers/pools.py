"""Stores over several machines: each node is a server process on a loopback address of its own (Linux)."""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3
from urllib3.exceptions import HTTPError

from tests.servers.processes import LOOPBACK, ServerProcess, free_ports
from tests.servers.s3 import S3Server, minio_environment, seaweedfs_identity, serves


@dataclass(frozen=True)
class Held:
    """What one node holds of a bucket: shards (MinIO) or chunks (SeaweedFS), and their bytes."""

    count: int
    size: int


class Node:
    """One machine of a pool: it can be killed, and started again on the folder that it had."""

    def __init__(
        self,
        address: str,
        port: int,
        folder: Path,
        command: Sequence[str | Path],
        environment: Mapping[str, str],
    ) -> None:
        self.address = address
        self.endpoint = f"{address}:{port}"
        self.folder = folder
        self._command = command
        self._environment = environment
        self.start()

    def start(self) -> None:
        self.process = ServerProcess(
            self._command,
            self.folder.parent / f"{self.address}.log",
            environment=self._environment,
            folder=self.folder.parent,
        )

    def kill(self) -> None:
        self.process.kill()

    def ask(self, path: str) -> urllib3.BaseHTTPResponse | None:
        """GET a page of the node itself; nothing when it does not answer."""
        try:
            with urllib3.PoolManager(timeout=2, retries=False) as pool:
                return pool.request("GET", f"http://{self.endpoint}{path}")
        except (HTTPError, OSError):
            return None


class Pool(ABC):
    """A running store over nodes; the vault goes to ``server``."""

    def __init__(self, server: S3Server, nodes: Sequence[Node], others: Sequence[ServerProcess] = ()) -> None:
        self.server = server
        self.nodes = list(nodes)
        self._others = others

    @abstractmethod
    def held(self, node: Node, bucket: str) -> Held:
        """Count what lies on a running node."""

    @abstractmethod
    def has_its_share(self, node: Node, bucket: str) -> bool:
        """Tell whether a node that came back holds all that it should, once nobody writes."""

    @abstractmethod
    def proofs(self, node: Node) -> list[list[Node]]:
        """Return groups of other nodes: while one group is away, what lies on ``node`` is needed to read."""

    @abstractmethod
    def is_part(self, node: Node) -> bool:
        """Tell whether the pool reaches a node that was started."""

    def stop(self) -> None:
        for process in [*(node.process for node in self.nodes), *self._others]:
            process.kill()


class MinioPool(Pool):
    """Four MinIO servers, two data and two parity shards of each blob: writes need three, reads need two.

    The vault talks to the first one, so that one is never killed.
    """

    def held(self, node: Node, bucket: str) -> Held:
        folder = node.folder / bucket
        sizes = [path.stat().st_size for path in folder.glob("*/*/**/*") if path.is_file()]
        return Held(sum(1 for _ in folder.glob("*/*/xl.meta")), sum(sizes))

    def has_its_share(self, node: Node, bucket: str) -> bool:
        return all(self.held(other, bucket) == self.held(node, bucket) for other in self.nodes)

    def proofs(self, node: Node) -> list[list[Node]]:
        return [[other for other in self.nodes[1:] if other is not node]]

    def is_part(self, node: Node) -> bool:
        answer = node.ask("/minio/health/cluster")
        return answer is not None and answer.status == 200


class SeaweedPool(Pool):
    """A master, a filer, an S3 gateway, and three volume servers; replication 001 keeps each chunk on two of them."""

    def __init__(
        self, master: Node, server: S3Server, nodes: Sequence[Node], others: Sequence[ServerProcess]
    ) -> None:
        super().__init__(server, nodes, [*others, master.process])
        self._master = master

    def held(self, node: Node, bucket: str) -> Held:
        volumes = self._volumes(node, bucket).values()
        return Held(sum(each.count for each in volumes), sum(each.size for each in volumes))

    def _volumes(self, node: Node, bucket: str) -> dict[int, Held]:
        answer = node.ask("/status")
        volumes: list[dict[str, Any]] = answer.json()["Volumes"] if answer else []
        return {
            volume["Id"]: Held(volume["FileCount"], volume["Size"])
            for volume in volumes or []
            if volume["Collection"] == bucket
        }

    def has_its_share(self, node: Node, bucket: str) -> bool:
        """Each volume lies on two nodes: while the node was away, writes went to volumes that it has no part of.

        A volume may hold more than its copy: of a write that the kill cut in two. It was acknowledged elsewhere.
        """
        copies = Counter(number for each in self.nodes for number in self._volumes(each, bucket))
        return set(copies.values()) == {2}

    def proofs(self, node: Node) -> list[list[Node]]:
        return [[other] for other in self.nodes if other is not node]

    def is_part(self, node: Node) -> bool:
        answer = self._master.ask("/dir/status")
        return answer is not None and node.endpoint.encode() in answer.data


def start_minio_pool(binary: Path, folder: Path) -> MinioPool:
    """Start four servers as one erasure-coded pool, some seconds.

    The ports must differ too: MinIO takes every address of 127/8 with its own port for itself. ``MINIO_CI_CD`` lets it
    use folders of the disk that holds ``/``; without it such a drive is refused as a root disk. Inside a container it
    waits for loopback addresses to become other ones, unless ``_MINIO_SERVER_LOCAL`` says which of them is its own.
    """
    access_key, secret_key = secrets.token_hex(8), secrets.token_hex(16)
    addresses = [f"127.0.0.{number}" for number in range(2, 6)]
    ports = [free_ports(1, address)[0] for address in addresses]
    folders = [folder / f"node-{address}" for address in addresses]
    drives = [
        f"http://{address}:{port}{drive}"
        for address, port, drive in zip(addresses, ports, folders, strict=True)
    ]
    environment = minio_environment(access_key, secret_key) | {"MINIO_CI_CD": "1"}
    nodes = []
    for address, port, drive in zip(addresses, ports, folders, strict=True):
        drive.mkdir()
        command: list[str | Path] = [
            binary,
            "server",
            f"--address={address}:{port}",
            f"--certs-dir={folder / 'certs'}",
            *drives,
        ]
        own = {"_MINIO_SERVER_LOCAL": f"{address}:{port}"}
        nodes.append(Node(address, port, drive, command, environment | own))
    server = S3Server("minio", ports[0], access_key, secret_key, nodes[0].process, addresses[0])
    pool = MinioPool(server, nodes)
    nodes[0].process.wait_until(lambda: serves(server) and all(pool.is_part(node) for node in nodes))
    return pool


def start_seaweedfs_pool(binary: Path, folder: Path) -> SeaweedPool:
    """Start master, three volume servers, filer and S3 gateway, some seconds; telemetry is off."""
    access_key, secret_key = secrets.token_hex(8), secrets.token_hex(16)
    config = seaweedfs_identity(folder, access_key, secret_key)
    master_port, master_grpc, filer_port, filer_grpc, s3_port, s3_grpc = free_ports(6)
    masters = f"{LOOPBACK}:{master_port}.{master_grpc}"
    keyless = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    metadata = folder / "master"
    metadata.mkdir()
    master = Node(
        LOOPBACK,
        master_port,
        metadata,
        [
            binary, "master", f"-ip={LOOPBACK}", f"-port={master_port}", f"-port.grpc={master_grpc}", "-peers=none",
            f"-mdir={metadata}", "-defaultReplication=001", "-volumeSizeLimitMB=1024", "-telemetry=false",
        ],
        keyless,
    )  # fmt: skip
    nodes = []
    for address in (f"127.0.0.{number}" for number in range(2, 5)):
        port, grpc = free_ports(2, address)
        data = folder / f"node-{address}"
        data.mkdir()
        command: list[str | Path] = [
            binary, "volume", f"-ip={address}", f"-port={port}", f"-port.grpc={grpc}", f"-dir={data}", "-max=50",
            f"-master={masters}",
        ]  # fmt: skip
        nodes.append(Node(address, port, data, command, keyless))
    filer = ServerProcess(
        [
            binary, "filer", f"-master={masters}", f"-ip={LOOPBACK}", f"-port={filer_port}", f"-port.grpc={filer_grpc}",
            f"-defaultStoreDir={metadata}", f"-localSocket={folder / 'filer.sock'}", "-disableHttp",
        ],
        folder / "filer.log",
        environment=keyless,
        folder=folder,
    )  # fmt: skip
    gateway = ServerProcess(
        [
            binary, "s3", f"-filer={LOOPBACK}:{filer_port}.{filer_grpc}", f"-ip.bind={LOOPBACK}",
            f"-port={s3_port}", f"-port.grpc={s3_grpc}", "-port.iceberg=0", "-port.lance=0",
            f"-config={config}", f"-localSocket={folder / 's3.sock'}", "-autoCreateBucket=false",
        ],
        folder / "s3.log",
        environment=keyless,
        folder=folder,
    )  # fmt: skip
    server = S3Server("seaweedfs", s3_port, access_key, secret_key, gateway)
    pool = SeaweedPool(master, server, nodes, [gateway, filer])
    gateway.wait_until(lambda: all(pool.is_part(node) for node in nodes) and serves(server))
    return pool
