"""Log in again and again in one process, and time the Argon2id inside; started by the benchmark, prints JSON.

A login is one Argon2id and some work beside it. Argon2id takes ten times as long as the work and its time varies by
more than that, so it is timed inside each login and not for itself.
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
from vault.services import passphrases


def measure(username: str, passphrase: str, rounds: int) -> dict[str, float]:
    argon2id: list[float] = []

    def timed(prepared: bytes, parameters: KdfParameters) -> bytes:
        began = time.perf_counter()
        kek = derive_kek(prepared, parameters)
        argon2id.append(time.perf_counter() - began)
        return kek

    app = create_app(load_settings(_env_file=None, log_level="ERROR"))
    vars(passphrases)["derive_kek"] = timed
    client = app.test_client(use_cookies=False)
    logins = []
    for _ in range(rounds + 2):
        began = time.perf_counter()
        answer = client.post("/api/v1/token", json={"username": username, "passphrase": passphrase})
        logins.append(time.perf_counter() - began)
        if answer.status_code != 201:
            raise SystemExit(f"login: {answer.status_code} {answer.text}")
    logins, argon2id = logins[2:], argon2id[2:]
    beside = [login - inside for login, inside in zip(logins, argon2id, strict=True)]
    return {"login": median(logins), "argon2id": median(argon2id), "beside": median(beside)}


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], os.environ["BENCH_PASSPHRASE"], int(sys.argv[2]))))
