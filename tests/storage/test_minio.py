"""The S3 store when keys, bucket, network or server are not as they should be."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers.plugin import need
from tests.servers.processes import LOOPBACK, free_ports
from tests.servers.relay import CannedServer, Relay
from tests.servers.s3 import S3Server, start_minio
from vault.errors import Exists, Misconfigured, Missing, StoreFull, StoreUnavailable
from vault.storage.minio import MinioStore

NAME = f"{'ab' * 16}/{0:016x}"
OTHER = f"{'cd' * 16}/ended"
XML = "Content-Type: application/xml"


def at(
    endpoint: str, access_key: str = "someone", secret_key: str = "something", bucket: str = "blobs"
) -> MinioStore:
    """A store for a server that need not exist; the region is given, so that the first request is the real one."""
    return MinioStore(endpoint, access_key, secret_key, bucket, secure=False, region="us-east-1")


def through(relay: Relay, server: S3Server, bucket: str) -> MinioStore:
    return at(relay.endpoint, access_key=server.access_key, secret_key=server.secret_key, bucket=bucket)


def s3_error(code: str) -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>".encode()


def every_call(store: MinioStore) -> list[Callable[[], object]]:
    return [
        lambda: store.put_new(NAME, b"x" * 100_000),
        lambda: store.get(NAME),
        lambda: store.get(NAME, 5, 10),
        lambda: store.size(NAME),
        lambda: store.delete([OTHER]),  # given up, but done by a server that only slept
        lambda: list(store.list()),
    ]


def test_check_names_a_wrong_secret(s3: S3Server) -> None:
    store = MinioStore(s3.endpoint, s3.access_key, "mistyped-by-hand", s3.new_bucket(), secure=False)

    with pytest.raises(Misconfigured, match="DOCVAULT_MINIO_SECRET_KEY") as refusal:
        store.check()

    assert "mistyped-by-hand" not in str(refusal.value)


def test_check_names_an_unknown_access_key(s3: S3Server) -> None:
    store = MinioStore(s3.endpoint, "nobody", s3.secret_key, s3.new_bucket(), secure=False)

    with pytest.raises(Misconfigured, match="DOCVAULT_MINIO_ACCESS_KEY"):
        store.check()


def test_check_names_a_bucket_that_is_not_there(s3: S3Server) -> None:
    with pytest.raises(Misconfigured, match="no such bucket; make it, or correct DOCVAULT_MINIO_BUCKET"):
        s3.store("never-made").check()


def test_a_bucket_that_vanished_is_not_a_missing_blob(s3: S3Server) -> None:
    for call in every_call(s3.store("never-made")):
        with pytest.raises(StoreUnavailable):
            call()


@pytest.mark.parametrize("endpoint", ["http://localhost:9000", "localhost:9000/path", "", "a b"])
def test_check_explains_an_unusable_address(endpoint: str) -> None:
    with pytest.raises(Misconfigured, match="host:port"):
        at(endpoint).check()


def test_check_explains_an_unusable_bucket_name() -> None:
    with pytest.raises(Misconfigured, match="3 to 63"):
        at("localhost:9000", bucket="A").check()


def test_a_server_that_is_down_is_given_up_fast() -> None:
    (port,) = free_ports(1)
    store = at(f"{LOOPBACK}:{port}")

    for call in every_call(store):
        before = time.monotonic()
        with pytest.raises(StoreUnavailable):
            call()
        assert time.monotonic() - before < 2

    with pytest.raises(
        StoreUnavailable, match=f"{port} does not answer .ConnectionRefusedError.*DOCVAULT_MINIO_ENDPOINT"
    ):
        store.check()


@pytest.mark.s3
@pytest.mark.requirement(54)
def test_a_server_that_hangs_or_dies_is_given_up_and_comes_back(tmp_path: Path) -> None:
    server = start_minio(need("minio"), tmp_path)
    try:
        bucket = server.new_bucket()
        patient = server.store(bucket)
        patient.check()
        patient.put_new(NAME, b"kept")
        store = MinioStore(
            server.endpoint, server.access_key, server.secret_key, bucket, secure=False, read_timeout=0.3
        )

        server.process.suspend()
        for call in every_call(store):
            before = time.monotonic()
            with pytest.raises(StoreUnavailable):
                call()
            assert time.monotonic() - before < 3
        server.process.resume()
        with patient.get(NAME) as blob:
            assert blob.read() == b"kept"
    finally:
        server.process.kill()

    with pytest.raises(StoreUnavailable):
        store.size(NAME)


def test_a_lost_answer_ends_in_exists_and_the_blob_is_ours(s3: S3Server) -> None:
    """The pool sends the PUT again, and the server has it already: the service tells by size and digest."""
    data = os.urandom(100_000)
    bucket = s3.new_bucket()
    with Relay(s3.port, lost=1) as relay:
        store = through(relay, s3, bucket)
        with pytest.raises(Exists):
            store.put_new(NAME, data)
        assert relay.connections >= 2
        assert store.size(NAME) == len(data)
        with store.get(NAME, len(data) - 32) as blob:
            assert blob.read() == data[-32:]


def test_an_answer_cut_in_the_middle_raises(s3: S3Server) -> None:
    bucket = s3.new_bucket()
    s3.store(bucket).put_new(NAME, os.urandom(3_000_000))
    with Relay(s3.port, lost=1, keep=1_000_000) as relay, through(relay, s3, bucket).get(NAME) as blob:
        assert blob.size == 3_000_000
        assert len(blob.read(500_000)) == 500_000
        with pytest.raises(StoreUnavailable):
            blob.read(2_000_000)


def test_check_refuses_a_store_that_overwrites(s3: S3Server) -> None:
    """A real server that never sees the header, as one does that ignores it."""

    def hide(piece: bytes) -> bytes:
        return piece.replace(b"If-None-Match:", b"X-Not-Looked-At:")

    bucket = s3.new_bucket()
    with Relay(s3.port, change=hide) as relay:
        store = through(relay, s3, bucket)
        with pytest.raises(Misconfigured, match="ignores `If-None-Match"):
            store.check()

    assert list(s3.store(bucket).list()) == []


def test_leaves_out_objects_that_are_not_ours(s3: S3Server) -> None:
    bucket = s3.new_bucket()
    store = s3.store(bucket)
    store.put_new(NAME, b"ours")
    for name in ("readme.txt", "ab/cd/ef", f"{'ab' * 16}/notes"):
        s3.client().put_object(bucket_name=bucket, object_name=name, data=io.BytesIO(b"x"), length=1)

    assert [info.name for info in store.list()] == [NAME]


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        ("507 Insufficient Storage", "XMinioStorageFull", StoreFull),
        ("400 Bad Request", "XMinioAdminBucketQuotaExceeded", StoreFull),
        ("412 Precondition Failed", "PreconditionFailed", Exists),
        ("403 Forbidden", "AccessDenied", StoreUnavailable),
        ("409 Conflict", "ConditionalRequestConflict", StoreUnavailable),
        ("301 Moved Permanently", "PermanentRedirect", StoreUnavailable),
        ("200 OK", "", None),
    ],
)
def test_reads_the_answer_to_a_put(status: str, code: str, error: type[Exception] | None) -> None:
    with CannedServer(status, s3_error(code) if code else b"", XML) as server:
        if error is None:
            at(server.endpoint).put_new(NAME, b"x")
        else:
            with pytest.raises(error):
                at(server.endpoint).put_new(NAME, b"x")


def test_a_conflict_is_asked_again() -> None:
    with CannedServer("409 Conflict", s3_error("ConditionalRequestConflict"), XML) as server:
        with pytest.raises(StoreUnavailable):
            at(server.endpoint).put_new(NAME, b"x")
        assert server.requests == 3


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        ("200 OK", []),
        ("206 Partial Content", []),
        ("206 Partial Content", ["Content-Range: bytes 0-9/*"]),
        ("206 Partial Content", ["Content-Range: bytes 5-15/100"]),
        ("206 Partial Content", ["Content-Range: bytes 5-9/7000"]),
        ("416 Requested Range Not Satisfiable", ["Content-Type: text/xml"]),
        ("500 Internal Server Error", ["Content-Type: text/html"]),
        ("403 Forbidden", ["Content-Type: text/html"]),
    ],
)
def test_an_answer_that_is_not_the_range_is_refused(status: str, headers: list[str]) -> None:
    with CannedServer(status, b"0123456789", *headers) as server, pytest.raises(StoreUnavailable):
        at(server.endpoint).get(NAME, 5, 20)


def test_says_missing_only_of_a_blob() -> None:
    with CannedServer("404 Not Found", s3_error("NoSuchKey"), XML) as server, pytest.raises(Missing):
        at(server.endpoint).get(NAME)
    with (
        CannedServer("404 Not Found", s3_error("NoSuchBucket"), XML) as server,
        pytest.raises(StoreUnavailable),
    ):
        at(server.endpoint).get(NAME)


def test_a_blob_that_was_not_deleted_is_told() -> None:
    answer = (
        f"<DeleteResult><Error><Key>{NAME}</Key><Code>AccessDenied</Code></Error></DeleteResult>".encode()
    )
    with (
        CannedServer("200 OK", answer, XML) as server,
        pytest.raises(StoreUnavailable, match="did not delete 1"),
    ):
        at(server.endpoint).delete([NAME])


def test_serves_on_after_a_fork(s3: S3Server) -> None:
    """gunicorn forks: parent and child use the same store object at once, over connections of their own."""
    program = f"""
import os
from vault.storage.minio import MinioStore
store = MinioStore({s3.endpoint!r}, {s3.access_key!r}, {s3.secret_key!r}, {s3.new_bucket()!r}, secure=False)
store.put_new({NAME!r}, b"x" * 100000)
child = os.fork()
for _ in range(30):
    with store.get({NAME!r}) as blob:
        assert blob.read() == b"x" * 100000
if child:
    assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize("answers", [False, True])
def test_no_presigned_address_in_logs_and_errors(answers: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Law 5: for some minutes such an address lets anybody write to the bucket."""
    caplog.set_level(logging.DEBUG)
    (port,) = free_ports(1)
    with CannedServer("500 Internal Server Error", s3_error("InternalError"), XML) as server:
        store = at(server.endpoint if answers else f"{LOOPBACK}:{port}", secret_key="very-secret")
        with pytest.raises(StoreUnavailable) as error:
            store.put_new(NAME, b"x")

    shown = repr(store) + caplog.text + "".join(traceback.format_exception(error.value))
    assert NAME in caplog.text
    assert "X-Amz" not in shown
    assert "very-secret" not in shown


def test_f7_a_404_that_is_not_about_the_blob_is_no_missing_blob() -> None:
    """The answer to a HEAD has no body that says what is not there: the bucket, or whatever a proxy looks for."""
    for body, headers in (
        (s3_error("NoSuchBucket"), XML),
        (b"<html>nothing here</html>", "Content-Type: text/html"),
    ):
        with CannedServer("404 Not Found", body, headers) as server, pytest.raises(StoreUnavailable):
            at(server.endpoint).size(NAME)
