"""Upload addresses in the hands of others (W10), addresses that are none (X5), limits told wrongly (A6).

Requirement 42 is ``tests/api/test_tus_conformance.py``; 43 and 41 are here and in ``tests/*/test_resumable.py``.
"""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote

import pytest

from tests.attacks.attacker import CANARY, Attacker
from tests.cast import Api, Vault
from tests.tus import UPLOADS, Tus, metadata
from vault.crypto.masterkey import MasterKeys
from vault.crypto.parts import open_part
from vault.crypto.resumable import (
    issue_upload_token,
    open_segment_key,
    open_upload_metadata,
    read_upload_token,
)
from vault.errors import Unreadable

NAME = "Zwetschgendatschi-Rezept.odt"


def begun(vault: Vault) -> tuple[str, str]:
    """The address of an upload of Alice's that has half of its content, and its token."""
    tus = Tus(vault)
    place = tus.begin(2 * len(CANARY), Upload_Metadata=metadata(filename=NAME))
    assert tus.patch(place, 0, CANARY).status_code == 204
    return place, place.rpartition("/")[2]


def keys_of(token: str) -> list[bytes]:
    """The upload keys that somebody's session token carries."""
    claims = token.split(".")[1]
    return [
        base64.urlsafe_b64decode(key + "=")
        for key in json.loads(base64.urlsafe_b64decode(claims + "=="))["upl"]
    ]


# W10


def test_w10_the_address_alone_opens_and_changes_nothing(vault: Vault) -> None:
    place, _ = begun(vault)
    before = vault.blob_files()
    nobody = Tus(vault, None)
    for answer in (nobody.head(place), nobody.patch(place, len(CANARY), CANARY), nobody.delete(place)):
        assert answer.status_code == 423
        assert not {"Upload-Offset", "Upload-Length", "Upload-Metadata", "X-Vault-Document"} & set(
            answer.headers.keys()
        )
        assert NAME not in answer.text
    assert vault.blob_files() == before
    assert Tus(vault).offset(place) == len(CANARY)


def test_w10_the_address_and_the_master_key_open_nothing(vault: Vault) -> None:
    """Attacker 2 with a proxy's log: he reads the token, and every blob and row, but has no key of the user."""
    token = begun(vault)[1]
    attacker = Attacker(vault)
    master: MasterKeys = attacker.master
    ticket = read_upload_token(master, token)
    row = attacker.row("upload", id=ticket.upload)
    (blob,) = vault.blob_files()
    others = [key for name in ("bob", "charlie", "dora") for key in keys_of(vault.members[name].token)]
    known = [*others, ticket.sealed_key[:32], row["sealed_metadata"][:32], ticket.upload * 2]
    for key in known:
        with pytest.raises(Unreadable):
            open_segment_key((key,), ticket)
        with pytest.raises(Unreadable):
            open_upload_metadata((key,), row["sealed_metadata"], upload=ticket.upload, user=ticket.user)
        with pytest.raises(Unreadable):
            open_part(key, blob.read_bytes(), segment=ticket.upload, offset=0, suffix=None)
    keys = keys_of(vault.alice.token)
    segment_key = open_segment_key(keys, ticket)
    assert (
        open_part(segment_key, blob.read_bytes(), segment=ticket.upload, offset=0, suffix=None) == CANARY
    ), "so that the refusals are for want of her key"


def test_w10_a_token_made_with_the_master_key_does_not_take_an_upload_over(vault: Vault) -> None:
    """Attacker 2 is Charlie too: he makes a token that says that Alice's upload is his."""
    place, token = begun(vault)
    attacker = Attacker(vault)
    ticket = read_upload_token(attacker.master, token)
    charlie, (own_key, _) = vault.charlie.account.user_id, keys_of(vault.charlie.token)
    forged = issue_upload_token(
        attacker.master, own_key, bytes(32), upload=ticket.upload, user=charlie, length=ticket.length,
        expires_at=ticket.expires_at,
    )  # fmt: skip
    other = Tus(vault, "charlie")
    answer = other.patch(f"{UPLOADS}/{forged}", len(CANARY), CANARY)
    assert answer.status_code == 404, "the row is Alice's"
    assert "X-Vault-Document" not in answer.headers
    assert vault.api("charlie").get("/documents").json["items"] == []
    assert other.head(f"{UPLOADS}/{forged}").status_code == 404
    assert other.delete(f"{UPLOADS}/{forged}").status_code == 404
    answer = Tus(vault).patch(place, len(CANARY), CANARY)
    assert vault.read("alice", bytes.fromhex(answer.headers["X-Vault-Document"])) == CANARY * 2


def test_w10_no_page_links_to_an_upload_and_no_referer_carries_one(vault: Vault) -> None:
    place, token = begun(vault)
    for path in ("/", "/shared", "/upload", "/account", place, f"{place}/", f"/uploads/{token}"):
        answer = vault.browser("alice").get(path)
        assert token[:60] not in answer.text
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert token[:60] not in str(answer.headers)


def test_w10_a_row_of_an_upload_given_to_somebody_else_is_refused(vault: Vault) -> None:
    """Attacker 1 writes the row, attacker 2 seals it: neither makes Alice's parts Charlie's document."""
    place, token = begun(vault)
    attacker = Attacker(vault)
    ticket = read_upload_token(attacker.master, token)
    attacker.update("upload", ticket.upload, user_id=vault.charlie.account.user_id)
    assert Tus(vault).head(place).status_code == 500
    attacker.reseal("upload", ticket.upload)
    assert Tus(vault).head(place).status_code in {404, 410, 500}
    assert Tus(vault, "charlie").head(place).status_code == 404


@pytest.mark.parametrize(
    "column", ["document_id", "kind", "reserved_bytes", "expires_at", "sealed_metadata", "joined_id"]
)
def test_m2_an_edited_row_of_an_upload_is_refused(vault: Vault, column: str) -> None:
    place, token = begun(vault)
    attacker = Attacker(vault)
    upload = read_upload_token(attacker.master, token).upload
    other: dict[str, Any] = {
        "document_id": bytes(16), "kind": "final", "reserved_bytes": 1, "expires_at": "2001-01-01 00:00:00.000000",
        "sealed_metadata": bytes(200), "joined_id": bytes(16),
    }  # fmt: skip
    attacker.update("upload", upload, **{column: other[column]})
    tus = Tus(vault)
    for answer in (tus.head(place), tus.patch(place, len(CANARY), CANARY), tus.delete(place)):
        assert answer.status_code == 500, answer.text
    assert vault.api("alice").get("/documents").json["items"] == []


# X5

PATHS = [
    "..", "../", "../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc/passwd", "/etc/passwd",
    "//etc/passwd", "C:\\Windows\\win.ini", "..\\..\\x", "%00", "a%00b", "\x01", "%0d%0aX-Injected:%201", "file:///etc/passwd",
    "~", "*", "0" * 32, "0" * 310, "A" * 5000, "é" * 50, "%ff%fe", "' OR 1=1 --", "{{7*7}}", "0" * 32 + "/ended",
    "-", "_" * 310,
]  # fmt: skip


@pytest.mark.parametrize("token", PATHS, ids=lambda text: ascii(text)[:30])
def test_x5_an_address_that_is_none_reaches_nothing(house: Vault, token: str) -> None:
    before = house.blob_files()
    for spelled in (token, quote(token, safe="")):
        tus = Tus(house)
        for answer in (
            tus.head(f"{UPLOADS}/{spelled}"),
            tus.patch(f"{UPLOADS}/{spelled}", 0, b"hello"),
            tus.delete(f"{UPLOADS}/{spelled}"),
        ):
            assert answer.status_code in {400, 404, 405}, answer.status_code
            assert "Upload-Offset" not in answer.headers and "X-Injected" not in answer.headers
    assert house.blob_files() == before


@pytest.mark.parametrize("place", PATHS, ids=lambda text: ascii(text)[:30])
def test_x5_upload_concat_takes_addresses_of_ours_alone(house: Vault, place: str) -> None:
    tus = Tus(house)
    own = tus.begin(5, Upload_Concat="partial")
    tus.patch(own, 0, b"hello")
    token = own.rpartition("/")[2]
    printable = quote(place, safe="/:.%'{}*~-_\\")
    forms = (
        printable, f"{UPLOADS}/{printable}", f"{own}/{printable}", f"{own}{printable}", f"{UPLOADS}/../uploads/{token}",
        f"{UPLOADS}//{token}", f"{UPLOADS}/{token}/", f"/{token}", token, f"{UPLOADS}", f"{UPLOADS}/",
        f"{UPLOADS}/%2e%2e/{token}",
    )  # fmt: skip
    for form in forms:
        answer = tus.join(form)
        assert answer.status_code in {400, 404}, (form, answer.status_code)
        assert tus.join(own, form).status_code in {400, 404}
    assert tus.join(own).status_code == 201


@pytest.mark.parametrize(
    "header", ["Upload_Metadata", "Upload_Checksum", "Upload_Length", "Upload_Offset", "Upload_Defer_Length"]
)
def test_x5_nonsense_in_a_header_is_refused_or_passed_over(house: Vault, header: str) -> None:
    tus = Tus(house)
    before = house.blob_files()
    place = tus.begin(5)
    for value in ("../../x", "/etc/passwd", "%00", "a" * 8000, "\x7f", "é", "1;2", "{}", "-0", "1e3", " "):
        created = tus.create(5, **{header: value})
        assert created.status_code in {201, 400}, value
        if created.status_code == 201:
            assert tus.delete(created.headers["Location"]).status_code == 204
        if header != "Upload_Metadata":
            assert tus.patch(place, 0, b"hell", **{header: value}).status_code in {204, 400, 409}, value
    assert tus.delete(place).status_code == 204
    assert [path for path in house.blob_files() if path.name != "ended"] == [
        path for path in before if path.name != "ended"
    ]


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "a/../../b", "..", "C:\\x\\..\\..\\y", "a\0b", "x\r\nSet-Cookie: a=b"]
)
@pytest.mark.requirement(44)
def test_x5_a_name_in_the_metadata_is_data_only(house: Vault, name: str) -> None:
    """Requirement 44."""
    tus = Tus(house)
    answer = tus.create(0, Upload_Metadata=metadata(filename=name))
    assert answer.status_code in {201, 400}
    if answer.status_code == 201:
        document = answer.headers["X-Vault-Document"]
        shown = house.api("alice").get(f"/documents/{document}").json["name"]
        assert "/" not in shown and shown not in {"..", "."}
        content = house.api("alice").get(f"/documents/{document}/content")
        assert "Set-Cookie" not in content.headers
        assert all(path.resolve().is_relative_to(house.blobs.resolve()) for path in house.blob_files())


# A6


@pytest.mark.parametrize("length", ["5", "1000000", "0"])
def test_a6_what_the_headers_say_of_a_length_gives_no_room(vault: Vault, length: str) -> None:
    limited = vault.reopened(quota_bytes=3000, max_document_bytes=2000)
    tus, body = Tus(limited), bytes(2001)
    others = {"Content_Length": length, "X_Expected_Entity_Length": "1", "OC_Total_Length": "1"}
    assert tus.create(2001, **others).status_code == 413
    for place in (tus.begin(1000), tus.begin(None)):
        answer = tus.patch(place, 0, body, OC_Total_Length=1)
        assert answer.status_code == 413
        assert tus.patch(place, 0, b"a", Upload_Length=2001).status_code in {400, 413}
        assert limited.api("alice").get("/me").json["stored_bytes"] == 0
    assert sum(path.stat().st_size for path in limited.blob_files()) < 2000
    limited.close()


def test_43_an_upload_is_bound_to_who_began_it_whatever_the_cookie_says(vault: Vault) -> None:
    place, _ = begun(vault)
    for name in ("bob", "charlie", "dora"):
        mixed = Tus(vault, api=Api(vault.app, vault.members[name].token))
        for answer in (mixed.head(place), mixed.patch(place, len(CANARY), CANARY), mixed.delete(place)):
            assert answer.status_code == 404
    assert Tus(vault).offset(place) == len(CANARY)
