"""Every MUST of tus 1.0.0 that binds a server, in the core protocol and in each extension that we name.

Requirement 42. Each test is named after the section of the protocol's text that it holds, headings joined by ``_``.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from tests.cast import Vault
from tests.tus import PIECE, UPLOADS, VERSION, Tus, metadata
from vault.services import clock

pytestmark = pytest.mark.requirement(42)

HELLO = b"hello world"
EXTENSIONS = [
    "creation", "creation-with-upload", "creation-defer-length", "checksum", "expiration", "termination",
    "concatenation",
]  # fmt: skip


@pytest.fixture(scope="module")
def roomy(house: Vault) -> Iterator[Vault]:
    """The house with room for as many open uploads as the tests leave."""
    vault = house.reopened(max_open_uploads=10_000)
    yield vault
    vault.close()


@pytest.fixture
def tus(roomy: Vault) -> Tus:
    """Alice's client; every test makes uploads of its own."""
    return Tus(roomy)


def log_in_anew(tus: Tus) -> None:
    """Give the client a token of the day that the clock shows."""
    alice = tus.vault.alice
    with tus.vault.services() as bundle:
        logged_in = bundle.sessions.log_in("alice", alice.passphrase, address="127.0.0.1", client="tests")
    tus.api.headers["Authorization"] = f"Bearer {logged_in.token}"


def number(answer: Any, header: str) -> int:
    text = answer.headers[header]
    assert re.fullmatch("0|[1-9][0-9]*", text), f"{header}: {text}"
    return int(text)


def checksum(algorithm: str, body: bytes) -> str:
    return f"{algorithm} {b64encode(hashlib.new(algorithm, body).digest()).decode()}"


def all_kinds(tus: Tus) -> list[tuple[str, Any]]:
    """An answer of each kind that the server gives, good and bad."""
    place = tus.begin(len(HELLO))
    ended = tus.begin(5)
    return [
        ("options", tus.send("OPTIONS", Tus_Resumable=None)),
        ("creation", tus.create(5)),
        ("bad creation", tus.create(-1)),
        ("head", tus.head(place)),
        ("patch", tus.patch(place, 0, HELLO[:5])),
        ("conflict", tus.patch(place, 0, HELLO)),
        ("wrong type", tus.patch(place, 5, HELLO, Content_Type="text/plain")),
        ("another version", tus.head(place, Tus_Resumable="0.2.2")),
        ("missing", tus.head(f"{UPLOADS}/nothing")),
        ("terminated", tus.delete(ended)),
        ("gone", tus.head(ended)),
        ("logged out", Tus(tus.vault, None).create(5)),
        ("locked", Tus(tus.vault, None).head(place)),
    ]


# Core Protocol: Headers


def test_core_headers_upload_offset_is_a_number_that_is_not_negative(tus: Tus) -> None:
    place = tus.begin(len(HELLO))
    assert number(tus.head(place), "Upload-Offset") == 0
    assert number(tus.patch(place, 0, HELLO[:4]), "Upload-Offset") == 4
    assert number(tus.head(place), "Upload-Offset") == 4
    for wrong in ("-1", "1.0", "0x4", "", "four", " ", "+4", "4,4", "٤", "9" * 30, None):
        answer = tus.patch(place, wrong, HELLO[4:])
        assert answer.status_code == 400, wrong
    assert tus.offset(place) == 4


def test_core_headers_upload_length_is_a_number_that_is_not_negative(tus: Tus) -> None:
    for wrong in ("-1", "1.5", "ten", "", "0x10", "+1", "1 1", str(1 << 63), "٣"):
        assert tus.create(None, Upload_Defer_Length=None, Upload_Length=wrong).status_code == 400, wrong
    assert number(tus.head(tus.begin(12)), "Upload-Length") == 12


def test_core_headers_tus_version_is_a_list_of_versions(tus: Tus) -> None:
    assert tus.send("OPTIONS").headers["Tus-Version"].split(",") == [VERSION]


def test_core_headers_tus_resumable_is_in_every_response(tus: Tus) -> None:
    for what, answer in all_kinds(tus):
        assert answer.headers.getlist("Tus-Resumable") == [VERSION], what


@pytest.mark.parametrize("version", ["0.2.2", "1.0", "1.0.1", "2.0.0", "", "1.0.0,2.0.0", None])
def test_core_headers_tus_resumable_of_another_version_is_412_and_nothing_is_done(
    tus: Tus, version: str | None
) -> None:
    place = tus.begin(len(HELLO))
    for answer in (
        tus.create(5, Tus_Resumable=version),
        tus.head(place, Tus_Resumable=version),
        tus.patch(place, 0, HELLO, Tus_Resumable=version),
        tus.delete(place, Tus_Resumable=version),
        tus.join(place, Tus_Resumable=version),
    ):
        assert answer.status_code == 412
        assert answer.headers["Tus-Version"] == VERSION
        assert "Location" not in answer.headers and "Upload-Offset" not in answer.headers
    assert tus.offset(place) == 0, "it was neither sent to nor ended"


def test_core_headers_tus_extension_is_a_list(tus: Tus) -> None:
    assert tus.send("OPTIONS").headers["Tus-Extension"].split(",") == EXTENSIONS


def test_core_headers_tus_max_size_is_a_number_that_is_not_negative(tus: Tus) -> None:
    assert number(tus.send("OPTIONS"), "Tus-Max-Size") == tus.vault.settings.max_document_bytes


@pytest.mark.parametrize("actual", ["POST", "PATCH", "DELETE", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("wanted", ["PATCH", "DELETE", "HEAD", "OPTIONS", "patch"])
def test_core_headers_x_http_method_override_is_the_method(tus: Tus, actual: str, wanted: str) -> None:
    place = tus.begin(len(HELLO))
    asked = {"X_HTTP_Method_Override": wanted, "Upload_Offset": 0, "Content_Type": PIECE}
    answer = tus.send(actual, place, HELLO[:3] if wanted.upper() == "PATCH" else None, **asked)
    assert answer.status_code == (200 if wanted == "HEAD" else 204), answer.text
    after = tus.head(place)
    if wanted == "DELETE":
        assert after.status_code == 410
    else:
        assert number(after, "Upload-Offset") == (3 if wanted.upper() == "PATCH" else 0)
    assert ("Tus-Version" in answer.headers) == (wanted == "OPTIONS")


def test_core_headers_x_http_method_override_makes_a_creation_too(tus: Tus) -> None:
    answer = tus.send("OPTIONS", X_HTTP_Method_Override="POST", Upload_Length=5)
    assert (answer.status_code, tus.offset(answer.headers["Location"])) == (201, 0)


@pytest.mark.parametrize("wanted", ["GET", "PUT", "TRACE", "nonsense", ""])
def test_core_headers_x_http_method_override_with_a_method_that_is_none_here(tus: Tus, wanted: str) -> None:
    place = tus.begin(5)
    for target in (place, UPLOADS):
        answer = tus.send("POST", target, X_HTTP_Method_Override=wanted, Upload_Length=5)
        assert answer.status_code == 405
    assert tus.offset(place) == 0


# Core Protocol: Requests


def test_core_requests_head_always_tells_the_offset(tus: Tus) -> None:
    place = tus.begin(len(HELLO))
    assert number(tus.head(place), "Upload-Offset") == 0
    tus.patch(place, 0, HELLO[:6])
    assert number(tus.head(place), "Upload-Offset") == 6
    tus.patch(place, 6, HELLO[6:])
    assert number(tus.head(place), "Upload-Offset") == len(HELLO), "also of one that is complete"


def test_core_requests_head_tells_the_length_where_it_is_known(tus: Tus) -> None:
    place = tus.begin(len(HELLO))
    assert number(tus.head(place), "Upload-Length") == len(HELLO)
    tus.patch(place, 0, HELLO)
    assert number(tus.head(place), "Upload-Length") == len(HELLO)


@pytest.mark.parametrize("place", ["nothing", "A" * 310, "0" * 32])
def test_core_requests_head_of_what_is_not_there_has_no_offset(tus: Tus, place: str) -> None:
    answer = tus.head(f"{UPLOADS}/{place}")
    assert answer.status_code == 404
    assert "Upload-Offset" not in answer.headers


def test_core_requests_head_is_never_cached(tus: Tus) -> None:
    place = tus.begin(5)
    for answer in (tus.head(place), tus.head(f"{UPLOADS}/nothing"), Tus(tus.vault, None).head(place)):
        assert "no-store" in answer.headers["Cache-Control"].split(", ")


def test_core_requests_patch_of_another_type_is_415(tus: Tus) -> None:
    place = tus.begin(len(HELLO))
    for kind in ("application/octet-stream", "text/plain", "multipart/form-data; boundary=x", None):
        assert tus.patch(place, 0, HELLO, Content_Type=kind).status_code == 415
    assert tus.offset(place) == 0
    assert tus.patch(place, 0, HELLO, Content_Type=f"{PIECE}; charset=utf-8").status_code == 204


@pytest.mark.parametrize("offset", [0, 3, 5, 10, 11, 12, 1 << 62])
def test_core_requests_patch_at_another_offset_is_409_and_changes_nothing(tus: Tus, offset: int) -> None:
    place = tus.begin(len(HELLO))
    tus.patch(place, 0, HELLO[:4])
    answer = tus.patch(place, offset, HELLO[4:])
    assert answer.status_code == 409
    assert tus.offset(place) == 4
    assert tus.patch(place, 4, HELLO[4:]).status_code == 204
    document = tus.head(place).headers["X-Vault-Document"]
    assert tus.vault.read("alice", bytes.fromhex(document)) == HELLO


def test_core_requests_patch_is_204_with_the_new_offset(tus: Tus) -> None:
    place, offset = tus.begin(len(HELLO)), 0
    for size in (1, 0, 4, 6):
        answer = tus.patch(place, offset, HELLO[offset : offset + size])
        offset += size
        assert (answer.status_code, number(answer, "Upload-Offset"), answer.data) == (204, offset, b"")
    assert offset == len(HELLO)


def test_core_requests_patch_of_what_is_not_there_is_404(tus: Tus) -> None:
    assert tus.patch(f"{UPLOADS}/nothing", 0, HELLO).status_code == 404


def test_core_requests_patch_with_more_than_the_length_is_refused_and_changes_nothing(tus: Tus) -> None:
    place = tus.begin(5)
    assert tus.patch(place, 0, b"sixsix").status_code == 413
    assert tus.offset(place) == 0


@pytest.mark.parametrize("place", ["", "/nothing"])
@pytest.mark.parametrize("version", [VERSION, "0.2.2", "nonsense", None])
def test_core_requests_options_ignores_the_version_and_tells_ours(
    tus: Tus, place: str, version: str | None
) -> None:
    """Nobody needs to be logged in to ask."""
    for client in (tus, Tus(tus.vault, None)):
        answer = client.send("OPTIONS", UPLOADS + place, Tus_Resumable=version)
        assert answer.status_code == 204
        assert answer.headers["Tus-Version"] == VERSION
        assert answer.headers["Tus-Extension"].split(",") == EXTENSIONS
        assert number(answer, "Tus-Max-Size") > 0


# Creation


def test_creation_is_announced(tus: Tus) -> None:
    assert "creation" in tus.send("OPTIONS").headers["Tus-Extension"].split(",")


def test_creation_requests_post_is_201_with_the_address(tus: Tus) -> None:
    answer = tus.create(5)
    assert (answer.status_code, answer.data) == (201, b"")
    place = answer.headers["Location"]
    assert place.startswith(UPLOADS + "/")
    assert tus.offset(place) == 0


def test_creation_requests_post_says_one_of_length_and_deferred_length(tus: Tus) -> None:
    assert tus.send("POST").status_code == 400
    assert tus.create(5, Upload_Defer_Length=1).status_code == 400


@pytest.mark.parametrize("wrong", ["0", "2", "true", "", "-1", "11"])
def test_creation_headers_upload_defer_length_is_1_or_absent(tus: Tus, wrong: str) -> None:
    assert tus.create(None, Upload_Defer_Length=wrong).status_code == 400
    assert "Upload-Defer-Length" not in tus.head(tus.begin(5)).headers


def test_creation_defer_length_is_announced(tus: Tus) -> None:
    assert "creation-defer-length" in tus.send("OPTIONS").headers["Tus-Extension"].split(",")


def test_creation_defer_length_is_told_until_the_length_is_known(tus: Tus) -> None:
    place = tus.begin(None)
    for offset, piece in ((0, HELLO[:3]), (3, HELLO[3:6])):
        asked = tus.head(place)
        assert asked.headers["Upload-Defer-Length"] == "1" and "Upload-Length" not in asked.headers
        assert tus.patch(place, offset, piece).status_code == 204
    assert tus.head(place).headers["Upload-Defer-Length"] == "1"
    assert tus.patch(place, 6, HELLO[6:8], Upload_Length=len(HELLO)).status_code == 204
    asked = tus.head(place)
    assert "Upload-Defer-Length" not in asked.headers and number(asked, "Upload-Length") == len(HELLO)
    assert tus.patch(place, 8, HELLO[8:]).status_code == 204
    assert tus.vault.read("alice", bytes.fromhex(tus.head(place).headers["X-Vault-Document"])) == HELLO


@pytest.mark.parametrize("other", [len(HELLO) - 1, len(HELLO) + 1, 0, 3])
def test_creation_defer_length_is_not_changed_once_set(tus: Tus, other: int) -> None:
    place = tus.begin(None)
    assert tus.patch(place, 0, HELLO[:3], Upload_Length=len(HELLO)).status_code == 204
    assert tus.patch(place, 3, b"", Upload_Length=other).status_code == 400
    assert number(tus.head(place), "Upload-Length") == len(HELLO)
    assert tus.patch(place, 3, HELLO[3:], Upload_Length=len(HELLO)).status_code == 204


def test_creation_defer_length_ends_with_an_empty_piece_too(tus: Tus) -> None:
    """Some clients send everything, and then the length alone."""
    place = tus.begin(None)
    assert tus.patch(place, 0, HELLO).status_code == 204
    answer = tus.patch(place, len(HELLO), b"", Upload_Length=len(HELLO))
    assert answer.status_code == 204
    assert tus.vault.read("alice", bytes.fromhex(answer.headers["X-Vault-Document"])) == HELLO


def test_creation_headers_upload_metadata_comes_back_as_it_was_told(tus: Tus) -> None:
    told = (
        metadata(filename="Käse 🌳.txt", filetype="text/plain", own=b"\x00\xff\r\nbinary")
        + ",is_confidential"
    )
    for headers in ({}, {"Upload_Concat": "partial"}):
        place = tus.begin(len(HELLO), Upload_Metadata=told, **headers)
        assert tus.head(place).headers["Upload-Metadata"] == told
        tus.patch(place, 0, HELLO)
        assert tus.head(place).headers["Upload-Metadata"] == told
    assert "Upload-Metadata" not in tus.head(tus.begin(5)).headers


@pytest.mark.parametrize(
    "wrong",
    ["filename not-base64!", "a YQ==,a Yg==", "filename YQ", "filename YQ== YQ==", "a YQ==,,a YQ==", "filename =",
     "filename //8=", "path w6T/"],
)  # fmt: skip
def test_creation_headers_upload_metadata_that_is_none_is_refused(tus: Tus, wrong: str) -> None:
    assert tus.create(5, Upload_Metadata=wrong).status_code == 400


def test_creation_requests_post_beyond_the_largest_size_is_413(tus: Tus) -> None:
    most = number(tus.send("OPTIONS"), "Tus-Max-Size")
    assert tus.create(most + 1).status_code == 413
    assert tus.delete(tus.begin(most)).status_code == 204
    place = tus.begin(None)
    assert tus.patch(place, 0, b"a", Upload_Length=most + 1).status_code == 413


# Creation With Upload


def test_creation_with_upload_is_announced_together_with_creation(tus: Tus) -> None:
    assert {"creation", "creation-with-upload"} <= set(
        tus.send("OPTIONS").headers["Tus-Extension"].split(",")
    )


@pytest.mark.parametrize("size", [0, 1, 5, len(HELLO)])
def test_creation_with_upload_tells_the_offset_after_what_was_taken(tus: Tus, size: int) -> None:
    answer = tus.create(len(HELLO), HELLO[:size])
    assert (answer.status_code, number(answer, "Upload-Offset")) == (201, size)
    place = answer.headers["Location"]
    assert tus.offset(place) == size
    if size < len(HELLO):
        answer = tus.patch(place, size, HELLO[size:])
    assert tus.vault.read("alice", bytes.fromhex(answer.headers["X-Vault-Document"])) == HELLO


def test_creation_with_upload_of_a_deferred_length_and_of_a_part(tus: Tus) -> None:
    for headers in ({}, {"Upload_Concat": "partial"}):
        answer = tus.create(None, HELLO, **headers)
        assert (answer.status_code, number(answer, "Upload-Offset")) == (201, len(HELLO))


def test_creation_with_upload_of_another_type_takes_no_body(tus: Tus) -> None:
    answer = tus.create(len(HELLO), HELLO, Content_Type="text/plain")
    assert (answer.status_code, tus.offset(answer.headers["Location"])) == (201, 0)


# Expiration


def test_expiration_is_announced(tus: Tus) -> None:
    assert "expiration" in tus.send("OPTIONS").headers["Tus-Extension"].split(",")


def test_expiration_headers_upload_expires_is_in_every_answer_to_post_and_patch(tus: Tus) -> None:
    for headers in ({}, {"Upload_Concat": "partial"}):
        created = tus.create(len(HELLO), **headers)
        place = created.headers["Location"]
        answers = [created, tus.patch(place, 0, HELLO[:5]), tus.patch(place, 5, HELLO[5:])]
        for answer in (*answers, tus.create(5, HELLO[:2]), tus.create(None)):
            text = answer.headers["Upload-Expires"]
            assert re.fullmatch(r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", text), text
            expires = parsedate_to_datetime(text)
            assert timedelta(days=1) < expires - datetime.now(UTC) <= timedelta(days=2)


def test_expiration_an_upload_that_has_expired_is_410(tus: Tus, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tus.begin(5)
    expires = parsedate_to_datetime(tus.head(place).headers["Upload-Expires"])
    monkeypatch.setattr(clock, "now", lambda: expires)
    log_in_anew(tus)
    for answer in (tus.head(place), tus.patch(place, 0, HELLO[:5]), tus.delete(place)):
        assert answer.status_code == 410
        assert "Upload-Offset" not in answer.headers


# Checksum


def test_checksum_is_announced_with_its_algorithms(tus: Tus) -> None:
    told = tus.send("OPTIONS").headers
    assert "checksum" in told["Tus-Extension"].split(",") and "checksum-trailer" not in told["Tus-Extension"]
    algorithms = told["Tus-Checksum-Algorithm"].split(",")
    assert "sha1" in algorithms
    assert all(re.fullmatch("[!-@[-~]+", name) for name in algorithms), "ASCII without capitals"


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_checksum_that_fits_is_204(tus: Tus, algorithm: str) -> None:
    place = tus.begin(len(HELLO))
    for start, piece in ((0, HELLO[:4]), (4, HELLO[4:])):
        answer = tus.patch(place, start, piece, Upload_Checksum=checksum(algorithm, piece))
        assert answer.status_code == 204
    assert tus.vault.read("alice", bytes.fromhex(answer.headers["X-Vault-Document"])) == HELLO


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
@pytest.mark.parametrize("kind", ["plain", "partial", "deferred"])
def test_checksum_that_does_not_fit_is_460_and_the_piece_is_discarded(
    tus: Tus, algorithm: str, kind: str
) -> None:
    headers = {"Upload_Concat": "partial"} if kind == "partial" else {}
    place = tus.begin(None if kind == "deferred" else len(HELLO), **headers)
    tus.patch(place, 0, HELLO[:4])
    before = tus.vault.blob_files()
    for body in (HELLO[4:], b"", HELLO[4:6]):
        answer = tus.patch(place, 4, body, Upload_Checksum=checksum(algorithm, b"another piece"))
        assert answer.status_code == 460
        assert "Upload-Offset" not in answer.headers
    assert tus.offset(place) == 4
    assert tus.vault.blob_files() == before


@pytest.mark.parametrize(
    "wrong",
    ["md5 XrY7u+Ae7tCTyyK7j1rNww==", "SHA1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=", "crc32 AAAAAA==", "sha1", "sha1 ", "",
     "sha1 not-base64", "sha1 AAAA", "Kq5sNclPz7QV2+lfQIuc6R7oRu0=", "sha1  Kq5sNclPz7QV2+lfQIuc6R7oRu0=",
     "../sha1 AAAA", "sha512 AAAA"],
)  # fmt: skip
def test_checksum_of_another_algorithm_or_form_is_400_and_the_piece_is_discarded(
    tus: Tus, wrong: str
) -> None:
    place = tus.begin(len(HELLO))
    assert tus.patch(place, 0, HELLO, Upload_Checksum=wrong).status_code == 400
    assert tus.offset(place) == 0


# Termination


def test_termination_is_announced(tus: Tus) -> None:
    assert "termination" in tus.send("OPTIONS").headers["Tus-Extension"].split(",")


@pytest.mark.parametrize("sent", [0, 5])
@pytest.mark.parametrize("headers", [{}, {"Upload_Concat": "partial"}], ids=["plain", "partial"])
def test_termination_requests_delete_is_204_and_the_address_is_gone(
    tus: Tus, sent: int, headers: dict[str, str]
) -> None:
    """What is complete is a document here: its upload's address ends with 409, and the document is deleted as one."""
    place = tus.begin(len(HELLO), **headers)
    tus.patch(place, 0, HELLO[:sent])
    answer = tus.delete(place)
    assert (answer.status_code, answer.data) == (204, b"")
    for later in (
        tus.head(place),
        tus.patch(place, sent, HELLO[sent:]),
        tus.patch(place, 0, HELLO),
        tus.delete(place),
    ):
        assert later.status_code == 410
        assert "Upload-Offset" not in later.headers
    assert tus.join(place).status_code in {400, 410}


# Concatenation


def partials(tus: Tus, *contents: bytes, **headers: Any) -> list[str]:
    places = []
    for content in contents:
        place = tus.begin(len(content), Upload_Concat="partial", **headers)
        if content:
            assert tus.patch(place, 0, content).status_code == 204
        places.append(place)
    return places


def test_concatenation_is_announced_and_unfinished_is_not(tus: Tus) -> None:
    told = tus.send("OPTIONS").headers["Tus-Extension"].split(",")
    assert "concatenation" in told and "concatenation-unfinished" not in told


def test_concatenation_joins_in_the_order_of_the_list(tus: Tus) -> None:
    one, two, three = partials(tus, b"one", b"two", b"three")
    answer = tus.join(three, one, two)
    assert answer.status_code == 201
    assert tus.vault.read("alice", bytes.fromhex(answer.headers["X-Vault-Document"])) == b"threeonetwo"


def test_concatenation_length_is_the_sum_and_equals_the_offset(tus: Tus) -> None:
    answer = tus.join(*partials(tus, b"hello", b"", b" world"))
    asked = tus.head(answer.headers["Location"])
    assert number(asked, "Upload-Length") == number(asked, "Upload-Offset") == len(HELLO)


def test_concatenation_head_tells_the_kind_as_it_was_told(tus: Tus) -> None:
    places = partials(tus, b"hello", b" world")
    assert tus.head(places[0]).headers["Upload-Concat"] == "partial"
    whole = [f"http://localhost{place}" for place in places]
    final = tus.join(*whole).headers["Location"]
    assert tus.head(final).headers["Upload-Concat"] == f"final;{' '.join(whole)}"
    assert tus.head(places[0]).headers["Upload-Concat"] == "partial", "also when it is joined"
    assert "Upload-Concat" not in tus.head(tus.begin(5)).headers


def test_concatenation_head_of_a_partial_upload_tells_its_offset_and_length(tus: Tus) -> None:
    place = tus.begin(len(HELLO), Upload_Concat="partial")
    for offset in (0, 4, len(HELLO)):
        tus.patch(place, tus.offset(place), HELLO[tus.offset(place) : offset])
        asked = tus.head(place)
        assert (number(asked, "Upload-Offset"), number(asked, "Upload-Length")) == (offset, len(HELLO))


def test_concatenation_patch_of_a_final_upload_is_403_and_changes_nothing(tus: Tus) -> None:
    places = partials(tus, b"hello", b" world")
    answer = tus.join(*places)
    final, document = answer.headers["Location"], bytes.fromhex(answer.headers["X-Vault-Document"])
    before = tus.vault.blob_files()
    for offset in (0, 5, len(HELLO)):
        assert tus.patch(final, offset, b"more").status_code == 403
        assert tus.patch(final, offset, b"").status_code == 403
    assert tus.vault.blob_files() == before
    assert tus.vault.read("alice", document) == HELLO
    assert [tus.offset(place) for place in (*places, final)] == [5, 6, 11]


def test_concatenation_of_unfinished_uploads_is_refused(tus: Tus) -> None:
    (done,) = partials(tus, b"hello")
    begun = tus.begin(6, Upload_Concat="partial")
    deferred = tus.begin(None, Upload_Concat="partial")
    tus.patch(begun, 0, b" wor")
    tus.patch(deferred, 0, b" world")
    for places in ((done, begun), (begun, done), (deferred,), (done, deferred)):
        assert tus.join(*places).status_code == 409
    tus.patch(begun, 4, b"ld")
    assert tus.join(done, begun).status_code == 201


def test_concatenation_a_final_upload_has_no_length_of_its_own(tus: Tus) -> None:
    assert tus.join(*partials(tus, b"hello"), Upload_Length=5).status_code == 400


def test_concatenation_metadata_of_the_parts_are_not_those_of_the_whole(tus: Tus) -> None:
    places = partials(tus, b"hello", Upload_Metadata=metadata(filename="part.txt"))
    named = tus.join(*places, Upload_Metadata=metadata(filename="whole.txt"))
    assert tus.head(named.headers["Location"]).headers["Upload-Metadata"] == metadata(filename="whole.txt")
    nameless = tus.join(*partials(tus, b"hello", Upload_Metadata=metadata(filename="part.txt")))
    assert "Upload-Metadata" not in tus.head(nameless.headers["Location"]).headers
    document = nameless.headers["X-Vault-Document"]
    assert tus.vault.api("alice").get(f"/documents/{document}").json["name"] != "part.txt"


@pytest.mark.parametrize("wrong", ["final", "final;", "FINAL;x", "partially", "", "final,x", "partial;x"])
def test_concatenation_headers_upload_concat_is_partial_or_final_with_a_list(tus: Tus, wrong: str) -> None:
    answer = tus.create(5, Upload_Concat=wrong)
    assert answer.status_code == (400 if wrong else 201)


def test_concatenation_of_parts_that_were_joined_before_answers_the_same_document(tus: Tus) -> None:
    one, two, three = partials(tus, b"one", b"two", b"three")
    first = tus.join(one, two)
    again = tus.join(one, two)
    assert again.status_code == 201
    assert again.headers["X-Vault-Document"] == first.headers["X-Vault-Document"]
    for others in ((one, three), (one,), (two, one), (one, two, three), (three, one, two)):
        assert tus.join(*others).status_code == 409
    assert tus.join(three).status_code == 201
