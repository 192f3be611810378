"""Two servers over one PostgreSQL and one object store: nothing lives in a process or on a machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cast import MASTER_KEY
from tests.servers.postgres import PostgresServer
from tests.servers.s3 import S3Server
from tests.servers.vault import start_vault


@pytest.fixture(params=["seaweedfs", "minio_server"])
def store(request: pytest.FixtureRequest) -> S3Server:
    server: S3Server = request.getfixturevalue(request.param)
    return server


def test_what_one_server_took_the_other_gives_with_the_same_token(
    postgresql: PostgresServer, store: S3Server, tmp_path: Path
) -> None:
    settings = {
        "database_url": postgresql.new_database(),
        "storage": "minio",
        "minio_endpoint": store.endpoint,
        "minio_access_key": store.access_key,
        "minio_secret_key": store.secret_key,
        "minio_bucket": store.new_bucket(),
        "minio_secure": "false",
        "master_key": MASTER_KEY,
        "workers": 2,
    }
    first = start_vault(tmp_path / "first", **settings)
    second = start_vault(tmp_path / "second", **settings)
    try:
        token = first.log_in("alice", first.register("alice"))
        content = os.urandom(20_000_001)
        with first.client(token) as here, second.client(token) as there:
            sent = here.post("/documents?name=contract.pdf", content=content)
            assert sent.status_code == 201, sent.text
            document = sent.json()["id"]
            assert there.get(f"/documents/{document}/content").content == content
            assert there.get("/documents").json()["items"][0]["name"] == "contract.pdf"
            there.delete("/token").raise_for_status()
            assert here.get("/me").status_code == 401, "a logout on one server holds on the other"
    finally:
        first.stop()
        second.stop()
