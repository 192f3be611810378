"""Log in again and again in one process, beside Argon2id alone; started by the benchmark, prints JSON.

A login is one Argon2id and some work beside it. Only in one process, with the same allocator and the same memory,
does the difference of the two say how much is beside it.
"""

from __future__ import annotations

import json
import os
import sys
import time

from bench.table import median
from vault.app import create_app
from vault.config import load_settings
from vault.crypto.passphrase import KdfParameters, derive_kek


def measure(username: str, passphrase: str, rounds: int) -> dict[str, float]:
    app = create_app(load_settings(_env_file=None, log_level="ERROR"))
    parameters = KdfParameters.fresh()
    client = app.test_client(use_cookies=False)
    logins, alone, beside = [], [], []
    for number in range(rounds + 2):
        began = time.perf_counter()
        derive_kek(passphrase.encode(), parameters)
        between = time.perf_counter()
        answer = client.post("/api/v1/token", json={"username": username, "passphrase": passphrase})
        ended = time.perf_counter()
        if answer.status_code != 201:
            raise SystemExit(f"login: {answer.status_code} {answer.text}")
        if number >= 2:
            alone.append(between - began)
            logins.append(ended - between)
            beside.append(ended - 2 * between + began)
    return {"login": median(logins), "argon2id": median(alone), "beside": median(beside)}


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], os.environ["BENCH_PASSPHRASE"], int(sys.argv[2]))))
