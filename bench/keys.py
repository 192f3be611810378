"""Keys for the long run: a new master key, new key pairs, and the check of every blob and signature."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from bench.clients import many, request_bytes
from bench.table import Row

if TYPE_CHECKING:
    from bench.rows import Bench

GIB = 2**30


def master_key(bench: Bench) -> list[Row]:
    """Seal every row of a copy of the database anew under another master key."""
    documents = bench.scale.many_documents // 10
    bench.world.add_documents("archivist", documents)
    took, rows = bench.world.rotated(bench.folder / "rotated")
    per = took * 1000 / rows
    return [Row("new master key, 1,000 rows sealed anew", per, "s", note=f"{rows:,} rows in {took:.1f} s")]


def key_pairs(bench: Bench) -> list[Row]:
    """New pairs for somebody with whom many documents are shared: each grant is opened, wrapped and sealed anew."""
    count, reader = bench.scale.readers // 2, "collector"
    bench.world.somebody(reader)
    keep = bench.blobs()
    path = f"/api/v1/documents?name=shared.bin&recipients={reader}"
    requests = [request_bytes("POST", path, bench.token, b"x" * 1000)] * count
    many(bench.vault, requests, 8, 201)
    took = bench.world.new_pairs(reader)
    bench.rest(keep=keep)
    note = f"{count:,} grants in {took:.1f} s, the making of the pairs included"
    return [Row("new key pairs, 1,000 grants wrapped anew", took * 1000 / count, "s", note=note)]


def deep_check(bench: Bench) -> list[Row]:
    """`docvault check --deep` beside the server, by its own figures."""
    bench.kept(bench.scale.big)
    done = subprocess.run(
        [sys.executable, "-m", "vault.cli", "check", "--deep", "--json"],
        env=os.environ | bench.world.environment,
        capture_output=True,
        check=False,
    )
    told = json.loads(done.stdout)
    per = told["seconds"] * GIB / told["bytes_read"]
    note = f"{told['bytes_read']:,} bytes in {told['blobs_read']:,} blobs"
    return [Row("deep check, 1 GiB", per, "s", note=note)]
