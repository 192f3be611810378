"""``/api/v1/uploads`` beside what tus says: who is let in by what, and which refusals have which status."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.attacks.attacker import Attacker
from tests.cast import Api, Browser, Vault
from tests.tus import PIECE, UPLOADS, VERSION, Tus, metadata
from vault.crypto.sealing import sealed_size
from vault.services import clock

HELLO = b"hello world"


def document_of(answer: Any) -> str:
    return str(answer.headers["X-Vault-Document"])


def test_a_document_is_what_its_metadata_say(vault: Vault) -> None:
    told = metadata(
        filename="Käse 🌳.txt", filetype="text/plain", path="Haus/Garten", recipients="bob, charlie"
    )
    tus = Tus(vault)
    place = tus.begin(len(HELLO), Upload_Metadata=told)
    document = document_of(tus.patch(place, 0, HELLO))
    shown = vault.api("alice").get(f"/documents/{document}").json
    assert (shown["name"], shown["path"], shown["media_type"]) == (
        "Käse 🌳.txt",
        ["Haus", "Garten"],
        "text/plain",
    )
    assert vault.api("bob").get(f"/documents/{document}/content").data == HELLO
    assert vault.api("charlie").get(f"/documents/{document}/content").data == HELLO
    assert vault.api("dora").get(f"/documents/{document}/content").status_code == 404


def test_the_document_is_told_by_every_answer_that_can(vault: Vault) -> None:
    tus = Tus(vault)
    whole = tus.create(len(HELLO), HELLO)
    empty = tus.create(0)
    assert vault.api("alice").get(f"/documents/{document_of(empty)}/content").data == b""
    for answer in (whole, empty):
        assert document_of(tus.head(answer.headers["Location"])) == document_of(answer)
    assert "X-Vault-Document" not in tus.create(0, Upload_Concat="partial").headers


@pytest.mark.parametrize(("who", "status"), [("alice", 201), ("bob", 403), ("charlie", 404), ("dora", 404)])
def test_a_new_version_is_begun_by_the_owner_alone(vault: Vault, who: str, status: int) -> None:
    document = vault.upload("alice", b"old", share=("bob",)).hex()
    answer = Tus(vault, who).create(3, b"new", Upload_Metadata=metadata(document=document))
    assert answer.status_code == status
    assert vault.read("bob", bytes.fromhex(document)) == (b"new" if status == 201 else b"old")


@pytest.mark.parametrize(
    ("told", "field"),
    [({"recipients": "nobody"}, "recipients"), ({"recipients": "alice"}, "recipients"), ({"document": "x"}, "document"),
     ({"filename": ".."}, "name")],
)  # fmt: skip
def test_wrong_metadata_name_the_field(house: Vault, told: dict[str, str], field: str) -> None:
    answer = Tus(house).create(5, Upload_Metadata=metadata(**told))
    assert (answer.status_code, answer.json["field"]) == (400, field)


# Who is let in by what


def test_a_cookie_counts_together_with_the_csrf_token_alone(vault: Vault) -> None:
    browser = vault.browser("alice")
    given = {"Tus-Resumable": VERSION, "X-CSRFToken": browser.csrf("/upload")}
    place = sent(browser, "POST", UPLOADS, given | {"Upload-Length": "11"}).headers["Location"]
    piece = given | {"Upload-Offset": "0", "Content-Type": PIECE}
    for token in (None, "", "wrong"):
        wrong = {name: value for name, value in (piece | {"X-CSRFToken": token}).items() if value is not None}
        for method in ("PATCH", "DELETE"):
            assert sent(browser, method, place, wrong, HELLO).status_code == 400, (method, token)
        assert sent(browser, "POST", UPLOADS, wrong | {"Upload-Length": "11"}).status_code == 400
    assert sent(browser, "HEAD", place, {"Tus-Resumable": VERSION}).headers["Upload-Offset"] == "0"
    assert sent(browser, "PATCH", place, piece, HELLO).status_code == 204


def sent(browser: Browser, method: str, place: str, headers: dict[str, Any], body: bytes = b"") -> Any:
    return browser.client.open(place, method=method, headers=headers, data=body)


def test_a_piece_from_another_site_is_refused(house: Vault) -> None:
    tus = Tus(house)
    place = tus.begin(5)
    for method in ("PATCH", "DELETE"):
        assert tus.send(method, place, b"hello", Origin="https://evil.example").status_code == 403
    assert tus.offset(place) == 0


@pytest.mark.parametrize("token", ["", "nonsense", "a.b.c"])
def test_with_a_token_that_is_none_an_upload_of_ours_waits_and_no_other(house: Vault, token: str) -> None:
    place = Tus(house).begin(5)
    nobody = Tus(house, api=Api(house.app, token or None))
    for act in (nobody.head, nobody.delete, lambda place: nobody.patch(place, 0, HELLO[:5])):
        waiting = act(place)
        assert (waiting.status_code, waiting.headers["Retry-After"]) == (423, "15")
        unknown = act(place[:-1])
        assert (unknown.status_code, unknown.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert nobody.create(5).status_code == 401
    assert Tus(house).offset(place) == 0


def test_a_token_that_grew_old_waits_and_a_new_login_goes_on(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    tus = Tus(vault)
    place = tus.begin(len(HELLO))
    tus.patch(place, 0, HELLO[:5])
    later = clock.now() + timedelta(minutes=20)
    monkeypatch.setattr(clock, "now", lambda: later)
    for answer in (tus.head(place), tus.patch(place, 5, HELLO[5:]), tus.delete(place)):
        assert (answer.status_code, answer.headers["Retry-After"]) == (423, "15")
    again = vault.api().post("/token", json={"username": "alice", "passphrase": vault.alice.passphrase}).json
    tus = Tus(vault, api=Api(vault.app, again["token"]))
    assert tus.offset(place) == 5
    assert vault.api("alice").get("/me").status_code == 401
    answer = tus.patch(place, 5, HELLO[5:])
    assert answer.status_code == 204
    monkeypatch.undo()
    assert vault.read("alice", bytes.fromhex(document_of(answer))) == HELLO


@pytest.mark.parametrize("event", ["log out", "disable", "change passphrase"])
def test_a_session_that_ended_waits_at_the_completion(vault: Vault, event: str) -> None:
    """Requirement 31: a piece is the one exception, and the last one is none."""
    tus = Tus(vault)
    place = tus.begin(len(HELLO))
    if event == "log out":
        vault.api("alice").delete("/token")
    elif event == "disable":
        vault.api("dora").patch("/accounts/alice", json={"state": "disabled"})
    else:
        other = (
            vault.api().post("/token", json={"username": "alice", "passphrase": vault.alice.passphrase}).json
        )
        body = {"current": vault.alice.passphrase, "new": "correct horse battery staple, purple"}
        Api(vault.app, other["token"]).put("/me/passphrase", json=body)
    assert tus.patch(place, 0, HELLO[:5]).status_code == 204
    answer = tus.patch(place, 5, HELLO[5:])
    assert (answer.status_code, answer.headers["Retry-After"]) == (423, "15")
    assert tus.head(place).status_code == tus.delete(place).status_code == 423
    assert tus.create(5).status_code == 401


# Limits


def test_41_limits_have_their_statuses(vault: Vault) -> None:
    limited = vault.reopened(quota_bytes=2000, max_document_bytes=1000, max_open_uploads=3)
    tus = Tus(limited)
    assert tus.create(1001).status_code == 413
    places = [tus.begin(900), tus.begin(900)]
    assert tus.create(900).status_code == 507, "the quota is reserved"
    assert tus.create(10).status_code == 201
    answer = tus.create(10)
    assert (answer.status_code, answer.json["type"]) == (507, "urn:docvault:TooManyUploads")
    assert tus.delete(places[0]).status_code == 204
    assert tus.create(10).status_code == 201
    answer = tus.patch(places[1], 0, bytes(901))
    assert answer.status_code == 413
    limited.close()


def test_41_a_checked_piece_is_at_most_one_part(vault: Vault) -> None:
    small = vault.reopened(part_size=16384)
    tus = Tus(small)
    place = tus.begin(40_000)
    right = "sha1 " + "A" * 27 + "="
    refused = tus.patch(place, 0, bytes(16385), Upload_Checksum=right)
    assert refused.status_code == 413
    assert refused.json["detail"] == "A piece with a checksum may have at most 16,384 bytes."
    assert tus.patch(place, 0, bytes(16384), Upload_Checksum=right).status_code == 460
    assert tus.offset(place) == 0
    small.close()


# What others see of it


def test_law_2_the_row_of_an_upload_shows_neither_name_nor_its_length(vault: Vault) -> None:
    tus, attacker = Tus(vault), Attacker(vault)
    for name in ("a", "x" * 60, "ü" * 120):
        tus.begin(5, Upload_Metadata=metadata(filename=name, path="Familie"))
    rows = attacker.rows("upload")
    assert {len(row["sealed_metadata"]) for row in rows} <= {
        sealed_size(1 << power) for power in range(7, 13)
    }
    assert not [
        value for row in rows for value in row.values() if isinstance(value, bytes) and b"Familie" in value
    ]


def test_43_foreign_and_missing_are_one_answer(house: Vault) -> None:
    place = Tus(house).begin(5)
    for name in ("bob", "charlie", "dora"):
        other = Tus(house, name)
        for act in (other.head, other.delete, lambda place, other=other: other.patch(place, 0, HELLO[:5])):
            foreign, missing = act(place), act(f"{UPLOADS}/{'A' * 310}")
            assert foreign.status_code == missing.status_code == 404
            ids = [answer.headers["X-Request-Id"] for answer in (foreign, missing)]
            assert foreign.text.replace(ids[0], "") == missing.text.replace(ids[1], "")
        part = Tus(house).begin(5, Upload_Concat="partial")
        Tus(house).patch(part, 0, HELLO[:5])
        assert other.join(part).status_code == 404


def test_every_refusal_is_problem_json_with_the_id_of_the_log(house: Vault) -> None:
    tus = Tus(house)
    place = tus.begin(5)
    for answer in (
        tus.patch(place, 3, HELLO[:5]),
        tus.create(-1),
        tus.patch(place, 0, HELLO),
        tus.send("POST", place),
        tus.patch(place, 0, HELLO[:5], Content_Type="text/plain"),
        tus.patch(place, 0, HELLO[:5], Tus_Resumable=None),
        Tus(house, None).patch(place, 0, HELLO[:5]),
    ):
        if answer.status_code != 405:
            assert answer.content_type == "application/problem+json"
            assert answer.json["instance"] == answer.headers["X-Request-Id"]
        assert place.rpartition("/")[2] not in answer.text
