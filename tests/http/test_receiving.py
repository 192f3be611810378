"""Bodies that are received: forms in right and wrong order, cut, lying, malformed; and nothing is ever spooled."""

from __future__ import annotations

import io
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from tests.access_table import TABLE
from tests.cast import Browser, Vault
from tests.http.forms import BOUNDARY, CONTENT_TYPE, field, file, form
from vault.http.receiving import VaultRequest


def stored(vault: Vault) -> tuple[int, int, int]:
    """How many documents, upload rows and blobs there are."""
    with vault.database() as connection:
        documents, uploads = (
            connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("document", "upload")
        )
    return documents, uploads, len(vault.blob_files())


def send(browser: Browser, body: bytes, path: str = "/upload", **options: Any) -> Any:
    return browser.client.post(path, data=body, content_type=CONTENT_TYPE, **options)


def token(browser: Browser) -> bytes:
    return field("csrf_token", browser.csrf("/upload"))


NOTHING = (0, 0, 0)


# The order of a form


def test_a_form_with_its_token_first_is_stored(vault: Vault) -> None:
    alice = vault.browser("alice")
    body = form(token(alice), field("recipients", "bob, charlie"), file(b"one", "1.txt"), file(b"", "2.txt"))
    assert send(alice, body).status_code == 303
    for name in ("bob", "charlie"):
        items = vault.api(name).get("/documents?scope=shared&sort=name").json["items"]
        assert [(item["name"], item["size"]) for item in items] == [("1.txt", 3), ("2.txt", 0)]


@pytest.mark.parametrize(
    "wrong", ["file first", "no token", "empty token", "foreign token", "recipients alone first"]
)
def test_a_file_before_a_valid_token_is_400_and_nothing_is_stored(vault: Vault, wrong: str) -> None:
    alice, secret = vault.browser("alice"), file(b"content", "a.txt")
    body = {
        "file first": form(secret, token(alice)),
        "no token": form(secret),
        "empty token": form(field("csrf_token", ""), secret),
        "foreign token": form(field("csrf_token", vault.browser("bob").csrf("/upload")), secret),
        "recipients alone first": form(field("recipients", "bob"), secret, token(alice)),
    }[wrong]
    answer = send(alice, body)
    assert answer.status_code == 400
    assert "reload" in answer.text.lower()
    assert stored(vault) == NOTHING


def test_the_token_may_stand_in_the_header(vault: Vault) -> None:
    alice = vault.browser("alice")
    answer = send(alice, form(file(b"content")), headers={"X-CSRFToken": alice.csrf("/upload")})
    assert answer.status_code == 303


def test_a_bearer_token_needs_no_csrf_token(vault: Vault) -> None:
    answer = vault.api("alice").post("/documents", data=form(file(b"content")), content_type=CONTENT_TYPE)
    assert answer.status_code == 201


def test_a_cookie_at_the_api_needs_the_csrf_token(vault: Vault) -> None:
    alice = vault.browser("alice")
    for options in ({"data": form(file(b"x")), "content_type": CONTENT_TYPE}, {"data": b"x"}):
        refused = alice.client.post("/api/v1/documents", **options)
        assert (refused.status_code, refused.json["field"]) == (400, "csrf_token")
        assert stored(vault)[0] == 0
    headers = {"X-CSRFToken": alice.csrf("/upload")}
    assert alice.client.post("/api/v1/documents?name=a", data=b"x", headers=headers).status_code == 201


def test_a_logged_out_upload_stores_nothing(vault: Vault) -> None:
    nobody = vault.browser()
    body = form(field("csrf_token", nobody.csrf("/login")), file(b"content"))
    assert send(nobody, body).status_code == 401
    assert vault.api().post("/documents?name=a.txt", data=b"content").status_code == 401
    assert vault.api().post("/documents", data=body, content_type=CONTENT_TYPE).status_code == 401
    assert stored(vault) == NOTHING


def test_a_logged_out_upload_is_refused_before_its_body_is_read(vault: Vault) -> None:
    body = io.BytesIO(form(file(b"content")))
    for path in ("/upload", "/api/v1/documents"):
        answer = vault.browser().client.post(
            path, input_stream=body, content_type=CONTENT_TYPE, headers={"Content-Length": "100"}
        )
        assert answer.status_code == 401
        assert body.tell() == 0


def test_recipients_after_a_file_are_refused(vault: Vault) -> None:
    alice = vault.browser("alice")
    answer = send(alice, form(token(alice), file(b"content"), field("recipients", "bob")))
    assert answer.status_code == 400
    assert "before the first file" in answer.text
    assert stored(vault)[0] == 0


def test_a_form_stores_all_of_its_files_or_none(vault: Vault) -> None:
    """What was whole when the second file failed is no document either: "nothing was stored" is true."""
    alice, first = vault.browser("alice"), file(b"first", "1.txt")
    bad_second = {
        "a name that cannot be": form(token(alice), first, file(b"second", "..")),
        "no end": form(token(alice), first)[:-4],
        "junk": form(token(alice), first, b"junk"),
    }
    for case, body in bad_second.items():
        assert send(alice, body).status_code == 400, case
        assert stored(vault)[0] == 0, case
    with vault.services() as bundle:
        bundle.sweep.run()
    assert stored(vault) == NOTHING


def test_a_form_without_a_file_says_so(vault: Vault) -> None:
    alice = vault.browser("alice")
    for body in (
        form(token(alice)),
        form(token(alice), file(b"", "")),
        form(token(alice), field("file", "x")),
    ):
        answer = send(alice, body)
        assert answer.status_code == 400
        assert "Choose a file." in answer.text
    assert stored(vault) == NOTHING


def test_a_file_without_a_name_is_kept_whole_and_untitled(vault: Vault) -> None:
    answer = vault.api("alice").post("/documents", data=form(file(b"whole", "")), content_type=CONTENT_TYPE)
    assert answer.status_code == 201
    document = answer.json["id"]
    assert vault.api("alice").get(f"/documents/{document}/content").data == b"whole"
    assert vault.api("alice").get(f"/documents/{document}").json["name"] == "Untitled"


def test_a_new_version_is_one_file(vault: Vault) -> None:
    document = vault.upload("alice").hex()
    body = form(file(b"second"), file(b"third"))
    answer = vault.api("alice").put(f"/documents/{document}/content", data=body, content_type=CONTENT_TYPE)
    assert (answer.status_code, answer.json["field"]) == (400, "file")


def test_a_refused_recipient_is_named_before_a_byte_is_stored(vault: Vault) -> None:
    for names in ("nobody", "alice", "bob bob", "bob,nobody"):
        body = form(field("recipients", names), file(b"content"))
        answer = vault.api("alice").post("/documents", data=body, content_type=CONTENT_TYPE)
        assert (answer.status_code, answer.json["field"]) == (400, "recipients"), names
    assert stored(vault) == NOTHING


# The quota (requirement 41)


@pytest.mark.parametrize("kind", ["form", "form of many", "raw"])
def test_41_refused_uploads_store_no_more_than_the_quota(vault: Vault, kind: str) -> None:
    """What was refused lies in the store until the sweep, and counts until then."""
    limited = vault.reopened(quota_bytes=1_000_000, part_size=2**16)
    content = bytes(3_000_000)
    many = [file(content[:600_000], f"{number}.txt") for number in range(5)]
    body = {"form": form(file(content)), "form of many": form(*many), "raw": content}[kind]
    options: dict[str, Any] = {"content_type": CONTENT_TYPE}
    if kind == "raw":
        # Nobody announces the length of a body in chunks.
        chunked = {"wsgi.input_terminated": True, "CONTENT_LENGTH": ""}
        options = {"content_type": "text/plain", "environ_overrides": chunked}
    for _ in range(3):
        answer = limited.api("alice").post("/documents", input_stream=io.BytesIO(body), **options)
        assert (answer.status_code, answer.json["type"]) == (507, "urn:docvault:QuotaExceeded")
        assert sum(path.stat().st_size for path in limited.blob_files()) <= 1_000_000 + 2**16
    assert stored(limited)[0] == 0
    with limited.services() as bundle:
        bundle.sweep.run()
    assert stored(limited) == NOTHING
    answer = limited.api("alice").post(
        "/documents", data=form(file(content[:900_000])), content_type=CONTENT_TYPE
    )
    assert answer.status_code == 201
    limited.close()


# Length


def cut(vault: Vault, path: str, body: bytes, announced: int | str, content_type: str) -> Any:
    """Send fewer (or more) bytes than announced, as a connection that ends does."""
    return vault.api("alice").post(
        path,
        input_stream=io.BytesIO(body),
        content_type=content_type,
        environ_overrides={"CONTENT_LENGTH": str(announced)},
    )


@pytest.mark.parametrize("missing", [1, 30, 100_000, 9_000_000])
@pytest.mark.parametrize("kind", ["form", "raw"])
def test_a_body_shorter_than_announced_is_no_document(vault: Vault, kind: str, missing: int) -> None:
    """An upload cut off in the middle leaves no document, and its blobs go with the upload's row."""
    content = b"\x07" * 9_100_000
    body = form(file(content)) if kind == "form" else content
    path, media = ("/documents", CONTENT_TYPE) if kind == "form" else ("/documents?name=a", "text/plain")
    answer = cut(vault, path, body[: len(body) - missing], len(body), media)
    assert answer.status_code == 400
    documents, uploads, _ = stored(vault)
    assert (documents, uploads) == (0, 1)
    assert vault.api("alice").get("/documents").json["items"] == []
    with vault.services() as bundle:
        swept = bundle.sweep.run()
        assert swept.uploads == 1, "its row has expired, so that the sweep may act"
        assert stored(vault) == NOTHING
        assert bundle.check.run().findings == []


def test_a_form_longer_than_announced_is_cut_there(vault: Vault) -> None:
    body = form(file(b"content" * 100))
    answer = cut(vault, "/documents", body, len(body) - 40, CONTENT_TYPE)
    assert answer.status_code == 400
    assert stored(vault)[0] == 0


def test_a_negative_or_nonsensical_length_is_no_document(vault: Vault) -> None:
    for length in ("-1", "ten", "0x10", "1e3"):
        answer = cut(vault, "/documents?name=a", b"content", length, "text/plain")
        assert answer.status_code < 500
        assert all(item["size"] == 0 for item in vault.api("alice").get("/documents").json["items"])


def test_a_body_over_the_limit_is_413_at_once_and_while_it_comes(vault: Vault) -> None:
    small = vault.reopened(max_document_bytes=100_000)
    for announced in (100_001, 2**40, 2**63, 2**80):
        answer = cut(small, "/documents?name=a", b"", announced, "text/plain")
        assert answer.status_code == 413, announced
        assert answer.headers["Connection"] == "close"
    form_body = form(file(b"x" * 2_000_000))
    assert cut(small, "/documents", form_body, len(form_body), CONTENT_TYPE).status_code == 413
    inside = form(file(b"x" * 100_001))
    assert cut(small, "/documents", inside, len(inside), CONTENT_TYPE).status_code == 413
    unannounced = small.api("alice").post(
        "/documents?name=a",
        input_stream=io.BytesIO(b"x" * 200_000),
        environ_overrides={"wsgi.input_terminated": True},
    )
    assert unannounced.status_code == 413
    assert stored(small)[0] == 0
    fits = small.api("alice").post("/documents?name=a", data=b"x" * 100_000)
    assert fits.status_code == 201
    small.close()


def test_an_unannounced_body_is_taken_to_its_end(vault: Vault) -> None:
    """Chunked bodies have no Content-Length; the server marks where they end."""
    answer = vault.api("alice").post(
        "/documents?name=a",
        input_stream=io.BytesIO(b"x" * 3_000_000),
        environ_overrides={"wsgi.input_terminated": True},
    )
    assert answer.status_code == 201
    assert vault.api("alice").get(f"/documents/{answer.json['id']}").json["size"] == 3_000_000


# X10: forms made to cost


def boundary_line(end: bytes = b"\r\n") -> bytes:
    return f"--{BOUNDARY}".encode() + end


DISPOSITION = b'Content-Disposition: form-data; name="file"; filename="a.txt"\r\n'
HALF_A_PART = boundary_line() + DISPOSITION + b"\r\n"
END = b"\r\n" + boundary_line(b"--\r\n")

MALFORMED: dict[str, bytes] = {
    "nothing": b"",
    "one byte": b"-",
    "only text": b"hello",
    "only the end": boundary_line(b"--\r\n"),
    "only a boundary": boundary_line(),
    "boundary without line break": boundary_line(b""),
    "another boundary": b"--other\r\n" + DISPOSITION + b"\r\nx\r\n--other--\r\n",
    "preamble without line break": b"x" + form(file(b"x")),
    "boundary ended by LF": boundary_line(b"\n") + DISPOSITION + b"\r\nx" + END,
    "boundary ended by CR": boundary_line(b"\r") + DISPOSITION + b"\r\nx" + END,
    "boundary with a tail": boundary_line(b"tail\r\n") + DISPOSITION + b"\r\nx" + END,
    "headers ended by LF": boundary_line() + DISPOSITION.replace(b"\r\n", b"\n") + b"\nx" + END,
    "no headers": boundary_line() + b"\r\nx" + END,
    "no disposition": boundary_line() + b"Content-Type: text/plain\r\n\r\nx" + END,
    "disposition of another kind": boundary_line() + b'Content-Disposition: attachment; filename="a"\r\n\r\nx' + END,
    "no name": boundary_line() + b"Content-Disposition: form-data\r\n\r\nx" + END,
    "header without colon": boundary_line() + b"nonsense\r\n\r\nx" + END,
    "header with an empty name": boundary_line() + b": x\r\n\r\nx" + END,
    "header with NUL": boundary_line() + b"X-\x00: y\r\n" + DISPOSITION + b"\r\nx" + END,
    "header that goes on": boundary_line() + b"X: a\r\n  b\r\n" + DISPOSITION + b"\r\nx" + END,
    "header of 5,000 bytes": boundary_line() + b"X: " + b"a" * 5000 + b"\r\n" + DISPOSITION + b"\r\nx" + END,
    "nine headers": boundary_line() + b"X: a\r\n" * 9 + DISPOSITION + b"\r\nx" + END,
    "header never ends": boundary_line() + b"X: " + b"a" * 3_000_000,
    "headers never end": boundary_line() + DISPOSITION,
    "name that is not UTF-8": boundary_line() + b'Content-Disposition: form-data; name="\xff"\r\n\r\nx' + END,
    "file name that is not UTF-8": form(file(b"x", b"\xff\xfe.txt")),
    "open quotation": boundary_line() + b'Content-Disposition: form-data; name="file; filename="a\r\n\r\n' + END,
    "body never ends": HALF_A_PART + b"x" * 1000,
    "end without hyphens": HALF_A_PART + b"x\r\n" + boundary_line(),
    "end with one hyphen": HALF_A_PART + b"x\r\n" + boundary_line(b"-"),
    "junk after a boundary": HALF_A_PART + b"x\r\n" + boundary_line(b"junk"),
    "field that is not UTF-8": form(field("recipients", b"\xff\xfe"), file(b"x")),
    "field of 100,000 bytes": form(field("recipients", "a" * 100_000), file(b"x")),
}  # fmt: skip


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_form_is_refused_and_stores_no_document(house: Vault, case: str) -> None:
    answer = house.api("alice").post("/documents", data=MALFORMED[case], content_type=CONTENT_TYPE)
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.content_type == "application/problem+json"
    assert stored(house)[0] == 0


BOUNDARIES = {
    "absent": "multipart/form-data",
    "empty": "multipart/form-data; boundary=",
    "quoted empty": 'multipart/form-data; boundary=""',
    "very long": f"multipart/form-data; boundary={'b' * 4000}",
    "with a line break": "multipart/form-data; boundary*=UTF-8''a%0Ab",
    "with CR": "multipart/form-data; boundary*=UTF-8''a%0Db",
    "not ASCII": "multipart/form-data; boundary=\xe9",
    "of another multipart": f"multipart/mixed; boundary={BOUNDARY}",
}


@pytest.mark.parametrize("case", BOUNDARIES)
def test_a_content_type_without_a_usable_boundary_is_refused(house: Vault, case: str) -> None:
    alice = house.browser("alice")
    answer = alice.client.post("/upload", data=form(token(alice), file(b"x")), content_type=BOUNDARIES[case])
    assert answer.status_code in {400, 415}, answer.text
    assert stored(house)[0] == 0


def hundred_thousand_parts() -> bytes:
    return form(field("a", "b") * 100_000)


COSTLY = {
    "100,000 fields": lambda: form(field("a", "b") * 100_000),
    "100,000 empty files": lambda: form(file(b"", "") * 100_000),
    "CR and 8 MB without a line break, as a preamble": lambda: b"\r" + b"a" * 8_000_000,
    "8 MB of CR, as a preamble": lambda: b"\r" * 8_000_000,
    "CR and 8 MB without a line break, as a header": lambda: boundary_line() + b"\r" + b"a" * 8_000_000,
    "CR and 8 MB without a line break, as a field": lambda: form(field("a", b"\r" + b"a" * 8_000_000)),
    "8 MB of CR, as a field": lambda: form(field("a", b"\r" * 8_000_000)),
    "8 MB of almost boundaries": lambda: form(field("a", f"\r\n--{BOUNDARY[:-1]}".encode() * 280_000)),
}


@pytest.mark.parametrize("case", COSTLY)
def test_a_form_made_to_cost_is_refused_quickly_and_in_little_memory(house: Vault, case: str) -> None:
    body = COSTLY[case]()
    api = house.api("alice")
    api.get("/me")
    began = time.process_time()
    tracemalloc.start()
    try:
        answer = api.post("/documents", input_stream=io.BytesIO(body), content_type=CONTENT_TYPE,
                          headers={"Content-Length": str(len(body))})  # fmt: skip
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 400 <= answer.status_code < 500
    assert time.process_time() - began < 5
    assert peak < 20_000_000
    assert stored(house)[0] == 0


@pytest.mark.parametrize(
    "content", [b"\r" * 5_000_000, b"\r\n--" * 1_000_000, f"\r\n--{BOUNDARY[:-1]}".encode() * 9999]
)
def test_a_file_that_looks_like_boundaries_is_a_file(vault: Vault, content: bytes) -> None:
    answer = vault.api("alice").post("/documents", data=form(file(content)), content_type=CONTENT_TYPE)
    assert answer.status_code == 201
    assert vault.api("alice").get(f"/documents/{answer.json['id']}/content").data == content


# Nothing is spooled (checklist 48)

TAKES_FILES = {"POST /upload", "POST /documents/<id:document_id>/version", "POST /api/v1/documents"}


@pytest.fixture
def no_temporary_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Let every way to a temporary file fail; return the folder where one would lie."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))

    def refused(*args: Any, **options: Any) -> Any:
        raise AssertionError("something wants to write a temporary file")

    for name in ("TemporaryFile", "SpooledTemporaryFile", "NamedTemporaryFile", "mkstemp", "mkdtemp"):
        monkeypatch.setattr(tempfile, name, refused)
    monkeypatch.setattr("werkzeug.formparser.default_stream_factory", refused)
    return folder


@pytest.mark.parametrize(
    "key", [key for key in TABLE if not key.startswith("GET ") and "<" not in key and key not in TAKES_FILES]
)
def test_every_other_address_refuses_files(vault: Vault, no_temporary_file: Path, key: str) -> None:
    method, path = key.split(" ")
    alice = vault.browser("alice")
    headers = {"X-CSRFToken": alice.csrf("/upload")}
    body = form(field("username", "zoe"), file(b"x" * 600_000, "big.bin"))
    answer = alice.client.open(path, method=method, data=body, content_type=CONTENT_TYPE, headers=headers)
    if path.startswith("/api/"):
        assert answer.status_code in {204, 400, 403, 412, 415, 200}
    else:
        assert answer.status_code == 400
        assert "takes no files" in answer.text
    assert list(no_temporary_file.iterdir()) == []


def test_the_request_class_refuses_a_file_stream(house: Vault) -> None:
    """Werkzeug writes a form's files beyond 500 kB to disk in the clear; this is the one method that decides it."""
    assert house.app.request_class is VaultRequest
    with (
        house.app.test_request_context(
            "/", method="POST", data={"file": (io.BytesIO(b"x"), "a.txt")}
        ) as context,
        pytest.raises(Exception, match="takes no files"),
    ):
        _ = context.request.files


@pytest.mark.requirement(48)
def test_an_upload_and_a_download_write_no_temporary_file(vault: Vault, no_temporary_file: Path) -> None:
    alice, content = vault.browser("alice"), b"plaintext that must not lie about" * 400_000
    assert send(alice, form(token(alice), file(content))).status_code == 303
    (item,) = vault.api("alice").get("/documents").json["items"]
    assert alice.get(f"/documents/{item['id']}/content").data == content
    assert list(no_temporary_file.iterdir()) == []
    for path in vault.instance.rglob("*"):
        assert not path.is_file() or b"plaintext that must not" not in path.read_bytes(), path
