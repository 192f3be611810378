"""Two servers over one PostgreSQL and one object store: nothing lives in a process or on a machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.cast import MASTER_KEY
from tests.servers.postgres import PostgresServer
from tests.servers.s3 import S3Server
from tests.servers.vault import VaultServer, start_vault
from tests.tus import PIECE, UPLOADS, VERSION, metadata

Pair = tuple[VaultServer, VaultServer]


@pytest.fixture(scope="module", params=["seaweedfs", "minio_server"])
def store(request: pytest.FixtureRequest) -> S3Server:
    server: S3Server = request.getfixturevalue(request.param)
    return server


@pytest.fixture(scope="module")
def pair(
    postgresql: PostgresServer, store: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
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
    folder: Path = tmp_path_factory.mktemp("two")
    first = start_vault(folder / "first", **settings)
    second = start_vault(folder / "second", **settings)
    yield first, second
    first.stop()
    second.stop()


def test_what_one_server_took_the_other_gives_with_the_same_token(pair: Pair) -> None:
    first, second = pair
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


def tus(
    client: httpx.Client, method: str, place: str, body: bytes | None = None, **headers: object
) -> httpx.Response:
    given = {"Tus-Resumable": VERSION} | {
        name.replace("_", "-"): str(value) for name, value in headers.items()
    }
    answer = client.request(method, place.removeprefix("/api/v1"), content=body, headers=given)
    assert answer.status_code < 300, answer.text
    return answer


def test_the_pieces_of_one_upload_go_to_both_servers_by_turns(pair: Pair) -> None:
    first, second = pair
    token = first.log_in("bob", first.register("bob"))
    content = os.urandom(20_000_001)
    step = 3_000_000
    with first.client(token) as here, second.client(token) as there:
        both = (here, there)
        told = {"Upload_Metadata": metadata(filename="turns.bin")}
        place = tus(here, "POST", UPLOADS, Upload_Length=len(content), **told).headers["Location"]
        for number, start in enumerate(range(0, len(content), step)):
            assert tus(both[number % 2], "HEAD", place).headers["Upload-Offset"] == str(start)
            piece = content[start : start + step]
            sent = tus(both[1 - number % 2], "PATCH", place, piece, Upload_Offset=start, Content_Type=PIECE)
        for client in both:
            assert tus(client, "HEAD", place).headers["Upload-Offset"] == str(len(content))
            assert client.get(f"/documents/{sent.headers['X-Vault-Document']}/content").content == content


def test_parts_that_went_to_one_server_each_are_joined_by_either(pair: Pair) -> None:
    first, second = pair
    token = second.log_in("charlie", second.register("charlie"))
    halves = [os.urandom(9_000_000), os.urandom(9_000_001)]
    with first.client(token) as here, second.client(token) as there:
        places = []
        for client, other, half in ((here, there, halves[0]), (there, here, halves[1])):
            place = tus(client, "POST", UPLOADS, Upload_Length=len(half), Upload_Concat="partial").headers[
                "Location"
            ]
            tus(other, "PATCH", place, half, Upload_Offset=0, Content_Type=PIECE)
            places.append(place)
        joined = [
            tus(client, "POST", UPLOADS, Upload_Concat=f"final;{' '.join(places)}")
            for client in (here, there)
        ]
        (document,) = {answer.headers["X-Vault-Document"] for answer in joined}
        assert here.get(f"/documents/{document}/content").content == b"".join(halves)
