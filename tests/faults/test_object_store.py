"""F7 to F10: an object store that refuses, fails, hangs, drips, lies, or does its work and loses the answer."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cast import Api, Vault, reader, settings_for
from tests.servers.processes import LOOPBACK, free_ports
from tests.servers.relay import (
    Exchange,
    Fault,
    HttpRelay,
    answering,
    cut_after,
    dripping,
    garbage,
    gone,
    half_closed,
    hanging,
    honest,
    only,
    refusing,
    rewriting,
)
from tests.servers.s3 import S3Server
from vault.app import create_app
from vault.errors import StoreUnavailable, Unreadable
from vault.storage.minio import MinioStore

pytestmark = pytest.mark.s3

PART = 65536
CONTENT = os.urandom(3 * PART - 1000)
OTHER = os.urandom(3 * PART - 1000)
LIMIT = 12.0
READ_TIMEOUT = 1.0


@dataclass
class Far:
    """A vault whose blobs lie in SeaweedFS, behind a relay; Alice owns two documents, Bob reads both."""

    vault: Vault
    relay: HttpRelay
    document: str
    other: str

    def api(self, who: str = "alice") -> Api:
        return self.vault.api(who)

    def check(self) -> list[Any]:
        with self.vault.services() as bundle:
            return list(bundle.check.run().findings)

    def content(self, document: str | None = None, **headers: str) -> Any:
        return self.api().get(f"/documents/{document or self.document}/content", headers=headers)


@pytest.fixture(scope="module")
def far(
    cast_folder: tuple[Path, Vault], seaweedfs: S3Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Far]:
    """The same vault for all tests of this module; the store gives up waiting after a second."""
    instance = tmp_path_factory.mktemp("far") / "instance"
    shutil.copytree(cast_folder[0], instance)
    with HttpRelay(seaweedfs.port) as relay:
        settings = {
            "storage": "minio", "minio_endpoint": relay.endpoint, "minio_access_key": seaweedfs.access_key,
            "minio_secret_key": seaweedfs.secret_key, "minio_bucket": seaweedfs.new_bucket(),
            "minio_secure": False, "part_size": PART,
        }  # fmt: skip
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "vault.storage.minio.MinioStore",
                lambda *words, **more: MinioStore(
                    *words, **more, connect_timeout=1, read_timeout=READ_TIMEOUT
                ),
            )
            vault = cast_folder[1].copied_to(instance, **settings)
        found = Far(
            vault,
            relay,
            vault.upload("alice", CONTENT, share=("bob",)).hex(),
            vault.upload("alice", OTHER, share=("bob",)).hex(),
        )
        yield found
        relay.fault = honest
        vault.close()


@pytest.fixture(autouse=True)
def healed(far: Far) -> Iterator[None]:
    """After each test the store works again, and everything is there and whole."""
    yield
    far.relay.fault = honest
    assert far.content().data == CONTENT
    assert far.content(far.other).data == OTHER
    assert far.check() == []
    assert far.vault.app.test_client().get("/readyz").status_code == 200


def refused_in_time(asked: Callable[[], Any]) -> None:
    began = time.monotonic()
    answer = asked()
    assert time.monotonic() - began < LIMIT
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["Retry-After"]) > 0


def everything_else_works(api: Api, document: str) -> None:
    for path in ("/documents", "/me", f"/documents/{document}", "/me/sessions"):
        assert api.get(path).status_code == 200, path


# F7


FAULTS: dict[str, Fault] = {
    "403": refusing("AccessDenied", "403 Forbidden"),
    "404 of the bucket": refusing("NoSuchBucket", "404 Not Found"),
    "404 of a proxy": answering("404 Not Found", b"<html>no such page</html>", "Content-Type: text/html"),
    "500": refusing("InternalError", "500 Internal Server Error"),
    "503": refusing("SlowDown", "503 Slow Down"),
    "wrong region": refusing("AuthorizationHeaderMalformed", "400 Bad Request"),
    "wrong secret": refusing("SignatureDoesNotMatch", "403 Forbidden"),
    "moved": answering("307 Temporary Redirect", b"", "Location: http://127.0.0.1:9/elsewhere"),
    "garbage": garbage,
    "reset": gone,
}


@pytest.mark.parametrize("case", FAULTS)
def test_f7_a_store_that_fails_is_503_in_time_and_the_rest_works(far: Far, case: str) -> None:
    documents = len(far.api().get("/documents").json["items"])
    far.relay.fault = FAULTS[case]
    far.relay.requests = 0
    refused_in_time(far.content)
    assert far.relay.requests <= 12, "tried again, but not for ever"
    refused_in_time(lambda: far.api().post("/documents?name=new", data=b"new"))
    refused_in_time(lambda: far.api().put(f"/documents/{far.document}/content", data=b"new"))
    assert far.vault.app.test_client().get("/readyz").status_code == 503
    assert far.vault.app.test_client().get("/healthz").status_code == 200
    everything_else_works(far.api(), far.document)
    assert len(far.api().get("/documents").json["items"]) == documents


def closed_port() -> dict[str, Any]:
    return {"minio_endpoint": f"{LOOPBACK}:{free_ports(1)[0]}"}


UNREACHABLE: dict[str, Callable[[Far], dict[str, Any]]] = {
    "refused": lambda far: closed_port(),
    "no such name": lambda far: {"minio_endpoint": "store.invalid:9000"},
    "no TLS there": lambda far: {"minio_endpoint": far.relay.endpoint, "minio_secure": True},
}


@pytest.mark.parametrize("case", UNREACHABLE)
def test_f7_a_store_that_cannot_be_reached_is_503_in_time_and_the_rest_works(far: Far, case: str) -> None:
    given = far.vault.settings.model_dump(exclude={"instance"}) | UNREACHABLE[case](far)
    keys = {
        name: value.get_secret_value() if hasattr(value, "get_secret_value") else value
        for name, value in given.items()
    }
    app = create_app(settings_for(far.vault.instance, **keys))
    api = Api(app, far.vault.alice.token)
    refused_in_time(lambda: api.get(f"/documents/{far.document}/content"))
    refused_in_time(lambda: api.post("/documents?name=new", data=b"new"))
    assert app.test_client().get("/readyz").status_code == 503
    everything_else_works(api, far.document)


def test_f7_one_may_log_out_while_the_store_is_away(far: Far) -> None:
    far.relay.fault = gone
    with far.vault.services() as bundle:
        member = far.vault.members["charlie"]
        token = bundle.sessions.log_in(
            "charlie", member.passphrase, address="127.0.0.1", client="tests"
        ).token
    api = Api(far.vault.app, token)
    assert api.delete("/token").status_code == 204
    assert api.get("/me").status_code == 401


@pytest.mark.parametrize("fault", [refusing("SlowDown", "503 Slow Down"), gone], ids=["503", "reset"])
def test_f7_a_fault_that_passes_is_not_seen(far: Far, fault: Fault) -> None:
    """Tried again once, everything goes well: reading, and a part of an upload."""
    far.relay.fault = only(fault, "GET", times=1)
    assert far.content().data == CONTENT
    far.relay.fault = only(fault, "PUT", times=1)
    sent = far.api().post("/documents?name=again", data=OTHER)
    assert sent.status_code == 201
    assert far.content(sent.json["id"]).data == OTHER
    far.api().delete(f"/documents/{sent.json['id']}")


# F8


@pytest.mark.parametrize("after", [0, 40, 1000, 30_000])
@pytest.mark.requirement(54)
def test_f8_a_store_that_hangs_is_given_up_and_others_go_on(far: Far, after: int) -> None:
    far.relay.fault = only(hanging(after), "GET")
    with ThreadPoolExecutor(4) as threads:
        began = time.monotonic()
        stuck = [threads.submit(lambda: read_out(far)) for _ in range(3)]
        while not all(future.done() for future in stuck):
            asked = time.monotonic()
            everything_else_works(far.api("bob"), far.document)
            assert time.monotonic() - asked < 2
        for future in stuck:
            received, complete = future.result()
            assert not complete and CONTENT.startswith(received)
        assert time.monotonic() - began < LIMIT
    free = far.vault.app.extensions["docvault"].transfers
    assert all(free.acquire(blocking=False) for _ in range(far.vault.settings.threads)), (
        "all workers are free"
    )
    free.release(far.vault.settings.threads)


def read_out(far: Far) -> tuple[bytes, bool]:
    """Read a document as far as it comes; tell whether it came to its end."""
    answer = far.content()
    if answer.status_code != 200:
        assert answer.status_code in {500, 503}
        return b"", False
    received = b""
    try:
        for piece in answer.iter_encoded():
            received += piece
    except (StoreUnavailable, Unreadable):
        pass
    finally:
        answer.close()
    return received, len(received) == answer.content_length


def test_f8_a_slow_store_is_slow_and_nothing_worse(far: Far) -> None:
    """Each piece within the time limit: it takes long, it arrives whole."""
    far.relay.fault = only(dripping(20_000, 0.05), "GET")
    assert far.content().data == CONTENT
    far.relay.fault = only(dripping(10_000, 0.3), "PUT")
    sent = far.api().post("/documents?name=slow", data=OTHER)
    assert sent.status_code == 201
    far.relay.fault = honest
    assert far.content(sent.json["id"]).data == OTHER
    far.api().delete(f"/documents/{sent.json['id']}")


def test_f9_a_store_that_says_yes_to_everything_is_no_document(far: Far) -> None:
    far.relay.fault = answering("200 OK")
    assert read_out(far) == (b"", False)


def test_f8_a_put_that_hangs_is_given_up_and_no_document(far: Far) -> None:
    documents = len(far.api().get("/documents").json["items"])
    far.relay.fault = only(hanging(0), "PUT")
    refused_in_time(lambda: far.api().post("/documents?name=stuck", data=OTHER))
    assert len(far.api().get("/documents").json["items"]) == documents


# F9


def flipped(at: int) -> Callable[[bytes], bytes]:
    def change(body: bytes) -> bytes:
        if not body:
            return body
        spot = at % len(body)
        return body[:spot] + bytes([body[spot] ^ 1]) + body[spot + 1 :]

    return change


LIES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda body: b"",
    "short by a byte": lambda body: body[:-1],
    "half": lambda body: body[: len(body) // 2],
    "long by a byte": lambda body: body + b"\0",
    "twice": lambda body: body * 2,
    "zeros": lambda body: bytes(len(body)),
    "first bit": flipped(0),
    "a bit in the middle": flipped(30_000),
    "last bit": flipped(-1),
    "backwards": lambda body: body[::-1],
}


@pytest.mark.parametrize("case", LIES)
def test_f9_a_body_that_is_not_the_blob_is_never_served_as_complete(far: Far, case: str) -> None:
    far.relay.fault = only(rewriting(LIES[case]), "GET")
    for _ in range(2):
        received, complete = read_out(far)
        assert not complete
        assert CONTENT.startswith(received)


@pytest.mark.parametrize("whose", ["another document's", "another part's", "an older version's"])
def test_f9_another_blob_with_200_is_never_served(far: Far, whose: str) -> None:
    """Whole, sealed, of the right size, and not the one that was asked for."""
    stale = far.api().post("/documents?name=stale", data=OTHER).json["id"]
    old = recorded(far, stale)
    far.api().put(f"/documents/{stale}/content", data=OTHER[::-1]).get_data()
    document = stale if whose == "an older version's" else far.document
    answers = {
        "another document's": recorded(far, far.other),
        "another part's": recorded(far, far.document)[1:] * 2,
        "an older version's": old,
    }[whose]
    turn = iter(answers * 50)

    def swapped(exchange: Exchange) -> Iterator[bytes]:
        yield next(turn)

    far.relay.fault = only(swapped, "GET")
    answer = far.content(document)
    received = b""
    try:
        received = answer.data if answer.status_code == 200 else b""
    except (StoreUnavailable, Unreadable):
        pass
    finally:
        answer.close()
    assert received == b""
    far.relay.fault = honest
    far.api().delete(f"/documents/{stale}")


def recorded(far: Far, document: str) -> list[bytes]:
    """The answers of the store, in order, while a document is read."""
    answers: list[bytes] = []

    def record(exchange: Exchange) -> Iterator[bytes]:
        answer = exchange.forward()
        if exchange.of_a_blob and exchange.method == "GET":
            answers.append(answer)
        yield answer

    far.relay.fault = record
    far.content(document).get_data()
    far.relay.fault = honest
    return answers


@pytest.mark.parametrize("fault", [half_closed, cut_after(2000), cut_after(50)], ids=["half", "cut", "early"])
def test_f9_an_answer_that_breaks_off_is_an_end_that_shows(far: Far, fault: Fault) -> None:
    far.relay.fault = only(fault, "GET")
    received, complete = read_out(far)
    assert not complete and CONTENT.startswith(received)


# F10


@pytest.mark.parametrize("keep", [0, 20], ids=["no answer", "half an answer"])
def test_f10_a_put_whose_answer_was_lost_makes_one_document(far: Far, keep: int) -> None:
    before = set(far.vault.app.extensions["docvault"].store.list())
    lose, met = cut_after(keep), set[str]()

    def first_of_each(exchange: Exchange) -> Iterator[bytes]:
        path = exchange.path.partition("?")[0]
        if exchange.method == "PUT" and path not in met:
            met.add(path)
            return lose(exchange)
        return honest(exchange)

    far.relay.fault = first_of_each
    sent = far.api().post("/documents?name=lost-answer", data=OTHER)
    assert sent.status_code == 201, sent.text
    far.relay.fault = honest
    names = [item["name"] for item in far.api().get("/documents").json["items"]]
    assert names.count("lost-answer") == 1
    assert far.content(sent.json["id"]).data == OTHER
    assert len(set(far.vault.app.extensions["docvault"].store.list()) - before) == 3, "no part twice"
    assert len(met) == 3
    assert far.check() == []
    far.api().delete(f"/documents/{sent.json['id']}")


def test_f10_puts_whose_answers_are_always_lost_are_no_document_and_are_swept(far: Far) -> None:
    """What the store kept is named by an upload row that has expired: ``check`` is clean, the sweep destroys it."""
    store = far.vault.app.extensions["docvault"].store
    with far.vault.services() as bundle:
        bundle.sweep.run()
        before = list(store.list())
        far.relay.fault = only(cut_after(0), "PUT")
        with pytest.raises(StoreUnavailable):
            bundle.uploads.receive(far.vault.alice.account, reader(OTHER), name="never", length=len(OTHER))
        far.relay.fault = honest
        assert len(list(store.list())) > len(before)
        assert far.check() == []
        bundle.sweep.run()
    assert list(store.list()) == before
