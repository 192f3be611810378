"""Measure the vault: ``python -m bench [--only NAME] [--small] [--json]``. Linux, with curl."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from bench.rows import GROUPS, Scale, measure
from bench.servers import THREADS, WORKERS
from bench.table import as_json, as_text


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="bench", description="Measure the vault against plain send and receive."
    )
    parser.add_argument(
        "--only", action="append", choices=sorted(GROUPS), metavar="NAME",
        help=f"measure this group only, may repeat: {', '.join(GROUPS)}",
    )  # fmt: skip
    parser.add_argument("--small", action="store_true", help="less of everything; the big file has 256 MiB")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--folder", type=Path, help="where the instance lies meanwhile; 4 GiB are needed")
    asked = parser.parse_args()
    if shutil.which("curl") is None:
        parser.error("curl is needed")
    scale = Scale.small() if asked.small else Scale()
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:4.0f} s] {text}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="docvault-bench-", dir=asked.folder) as folder:
        rows = measure([name for name in GROUPS if name in (asked.only or GROUPS)], Path(folder), scale, say)
    if asked.json:
        print(as_json(rows))
    else:
        print(
            f"Medians of {scale.rounds} and more, {WORKERS} workers of {THREADS} threads, "
            "SQLite, folder store, durable. "
            "A ratio is plain seconds over the vault's."
        )
        print(as_text(rows))
    say("done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
