"""The vault over an S3 store beside the ``minio`` client alone on the same server, by turns: ``python -m bench.s3``.

SeaweedFS, and MinIO where it is found. Linux, with the tests' packages. The client sends and receives one object in
the clear, in the parts of its own default; the vault's document is encrypted, hashed and committed.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.clients import fetch, send_file
from bench.table import Row, as_text, median, transfer
from tests.servers.s3 import S3Server, find_minio, find_seaweedfs, start_minio, start_seaweedfs
from tests.servers.vault import start_vault

MIB = 2**20
STORES: dict[str, tuple[Callable[[], Path | None], Callable[[Path, Path], S3Server]]] = {
    "seaweedfs": (find_seaweedfs, start_seaweedfs),
    "minio": (find_minio, start_minio),
}
MUST = 0.7


def put(server: S3Server, bucket: str, name: str, file: Path) -> float:
    """Send a file by the client alone; return the seconds."""
    client, began = server.client(), time.perf_counter()
    client.fput_object(bucket_name=bucket, object_name=name, file_path=str(file))
    return time.perf_counter() - began


def get(server: S3Server, bucket: str, name: str) -> float:
    """Receive an object by the client alone, and throw it away; return the seconds."""
    client, began = server.client(), time.perf_counter()
    with client.get_object(bucket_name=bucket, object_name=name) as answer:
        while answer.read(MIB):
            pass
    return time.perf_counter() - began


def measure(server: S3Server, folder: Path, size: int, rounds: int) -> list[Row]:
    """Give the rows of one store; one round goes before those that count."""
    file, bucket = folder / "source", server.new_bucket()
    file.write_bytes(os.urandom(size))
    settings: dict[str, Any] = {
        key.removeprefix("DOCVAULT_").lower(): value for key, value in server.environment().items()
    }
    vault = start_vault(folder / "instance", workers=2, **settings)
    alone: dict[str, list[float]] = {"up": [], "down": []}
    ours: dict[str, list[float]] = {"up": [], "down": []}
    try:
        token = vault.log_in("alice", vault.register("alice"))
        for number in range(rounds + 1):
            alone["up"].append(put(server, bucket, str(number), file))
            took, answer = send_file(f"{vault.url}/api/v1/documents?name=measured", file, token)
            ours["up"].append(took)
            alone["down"].append(get(server, bucket, str(number)))
            url = f"{vault.url}/api/v1/documents/{json.loads(answer)['id']}/content"
            ours["down"].append(fetch(url, token))
            os.sync()
    finally:
        vault.stop()
    return [
        transfer(
            f"{words} {size // MIB} MiB over {server.name}",
            median(ours[way][1:]),
            median(alone[way][1:]),
            MUST,
        )
        for way, words in (("up", "upload"), ("down", "download"))
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="bench.s3", description="Measure the vault over S3 stores beside the minio client alone."
    )
    parser.add_argument("store", nargs="*", help=f"of {', '.join(STORES)}; all that are found, unless named")
    parser.add_argument("--mebibytes", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    if unknown := set(asked.store) - set(STORES):
        parser.error(f"there is no store named {', '.join(sorted(unknown))}")
    rows: list[Row] = []
    for name in asked.store or STORES:
        find, start = STORES[name]
        binary = find()
        if binary is None:
            print(f"{name} is not on this machine and left out")
            continue
        with tempfile.TemporaryDirectory(prefix="docvault-s3-") as folder:
            (Path(folder) / name).mkdir()
            server = start(binary, Path(folder) / name)
            try:
                rows += measure(server, Path(folder), asked.mebibytes * MIB, asked.rounds)
            finally:
                server.process.kill()
    print("Plain is the minio client alone, in the clear; a ratio is its seconds over the vault's.")
    print(as_text(rows))


if __name__ == "__main__":
    main()
