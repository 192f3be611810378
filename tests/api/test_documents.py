"""``POST documents``, ``GET|PATCH|DELETE documents/<id>``."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cast import Vault
from tests.http.forms import CONTENT_TYPE, field, file, form


def view(house: Vault, document: str, who: str = "alice") -> dict[str, Any]:
    found: dict[str, Any] = house.api(who).get(f"/documents/{document}").json
    return found


def test_a_raw_body_becomes_a_document(house: Vault) -> None:
    answer = house.api("alice").post(
        "/documents?name=Brief%20an%20Bj%C3%B6rn.pdf&recipients=bob,charlie",
        data=b"hello",
        content_type="application/pdf",
    )
    assert answer.status_code == 201
    document = answer.json["id"]
    assert answer.json["items"] == [{"id": document}]
    assert answer.headers["Location"] == f"/api/v1/documents/{document}"
    found = view(house, document)
    assert (found["name"], found["media_type"], found["size"]) == ("Brief an Björn.pdf", "application/pdf", 5)
    assert found["sha256"] == "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    assert (found["number"], found["revision"], found["readers"]) == (1, 0, 2)
    assert view(house, document, "bob")["owner"] == "alice"


def test_a_raw_body_without_a_name_is_untitled(house: Vault) -> None:
    for query in ("", "?name=", "?name=%20", "?name=folder/"):
        document = house.api("alice").post(f"/documents{query}", data=b"x").json["id"]
        assert view(house, document)["name"] == "Untitled", query


def test_an_empty_body_is_an_empty_document(house: Vault) -> None:
    document = house.api("alice").post("/documents?name=empty", data=b"").json["id"]
    assert view(house, document)["size"] == 0
    answer = house.api("alice").get(f"/documents/{document}/content")
    assert (answer.status_code, answer.data, answer.content_length) == (200, b"", 0)


def test_a_form_becomes_one_document_a_file(house: Vault) -> None:
    body = form(field("recipients", "bob"), file(b"one", "1.txt"), file(b"two", "2.txt"))
    answer = house.api("alice").post("/documents", data=body, content_type=CONTENT_TYPE)
    assert answer.status_code == 201
    assert [view(house, item["id"], "bob")["name"] for item in answer.json["items"]] == ["1.txt", "2.txt"]
    assert answer.json["id"] == answer.json["items"][0]["id"]


@pytest.mark.parametrize("size", [0, 1, 16383, 16384, 16385, 8 * 2**20 - 1, 8 * 2**20, 8 * 2**20 + 1])
@pytest.mark.requirement(13)
def test_a_document_of_any_size_comes_back_as_it_was(house: Vault, size: int) -> None:
    content = bytes(range(256)) * (size // 256) + b"z" * (size % 256)
    document = house.api("alice").post("/documents?name=a", data=content).json["id"]
    assert house.api("alice").get(f"/documents/{document}/content").data == content
    assert view(house, document)["size"] == size


def test_equal_documents_share_nothing(vault: Vault) -> None:
    """Attack C10: no byte, name or size beyond the length tells that two documents are the same."""
    for name in ("alice", "bob", "alice"):
        vault.api(name).post("/documents?name=same", data=b"the same content" * 100)
    blobs = [path.read_bytes() for path in vault.blob_files()]
    assert len({path.parent.name for path in vault.blob_files()}) == 3
    assert len(set(blobs)) == 3 and len({blob[:24] for blob in blobs}) == 3
    etags = {
        item["id"]: view(vault, item["id"])["etag"]
        for item in vault.api("alice").get("/documents").json["items"]
    }
    assert len(set(etags.values())) == 2


def test_a_reader_sees_what_is_for_readers(house: Vault) -> None:
    document = house.upload("alice", b"x", share=("bob", "charlie")).hex()
    assert house.api("bob").get(f"/documents/{document}/shares").status_code == 403
    assert "charlie" not in house.api("bob").get(f"/documents/{document}").text


def test_a_rename_is_a_new_revision_with_a_new_etag(house: Vault) -> None:
    document = house.upload("alice", b"x").hex()
    before = view(house, document)
    answer = house.api("alice").patch(f"/documents/{document}", json={"name": "new.txt"})
    assert (answer.json["name"], answer.json["revision"], answer.json["number"]) == ("new.txt", 1, 1)
    assert answer.json["etag"] != before["etag"]
    assert answer.json["sha256"] == before["sha256"]
    assert house.api("alice").get(f"/documents/{document}/content").data == b"x"


def test_a_move_keeps_the_name_and_a_rename_the_folder(house: Vault) -> None:
    document = house.upload("alice", name="a.txt").hex()
    path = [f"folder {number}" for number in range(32)]
    moved = house.api("alice").patch(f"/documents/{document}", json={"path": path}).json
    assert (moved["name"], moved["path"]) == ("a.txt", path)
    renamed = house.api("alice").patch(f"/documents/{document}", json={"name": "b.txt"}).json
    assert (renamed["name"], renamed["path"]) == ("b.txt", path)
    home = house.api("alice").patch(f"/documents/{document}", json={"path": []}).json
    assert home["path"] == []


def test_a_change_of_nothing_is_400(house: Vault) -> None:
    document = house.upload("alice").hex()
    assert house.api("alice").patch(f"/documents/{document}", json={}).status_code == 400
    assert view(house, document)["revision"] == 0


def test_if_match_keeps_an_older_hand_from_overwriting(house: Vault) -> None:
    document = house.upload("alice").hex()
    api, path = house.api("alice"), f"/documents/{document}"
    seen = api.get(path).headers["ETag"]
    assert api.patch(path, json={"name": "first"}, headers={"If-Match": seen}).status_code == 200
    late = api.patch(path, json={"name": "second"}, headers={"If-Match": seen})
    assert (late.status_code, late.json["type"]) == (412, "urn:docvault:PreconditionFailed")
    assert view(house, document)["name"] == "first"
    now = api.get(path).headers["ETag"]
    for header in ("{}", "*", '"old", {}'):
        answer = api.patch(path, json={"name": "third"}, headers={"If-Match": header.format(now)})
        assert answer.status_code == 200, header
        now = api.get(path).headers["ETag"]
    for header in ('""', f"W/{now}", "nonsense", '"' + "0" * 32 + '"', "", '"é"'):
        refused = api.patch(
            path, json={"name": "fourth"}, headers={"If-Match": header.encode().decode("latin-1")}
        )
        assert refused.status_code == 412, header


def test_a_deleted_document_is_gone_for_everybody(vault: Vault) -> None:
    document = vault.upload("alice", b"x", share=("bob",)).hex()
    assert vault.api("alice").delete(f"/documents/{document}").status_code == 204
    for name in ("alice", "bob"):
        assert vault.api(name).get(f"/documents/{document}").status_code == 404
        assert vault.api(name).get("/documents").json["items"] == []
    assert vault.api("alice").delete(f"/documents/{document}").status_code == 404
    with vault.services() as bundle:
        bundle.sweep.run()
        assert vault.blob_files() == []
        assert bundle.check.run().findings == []


def test_a_document_and_its_view_have_one_etag(house: Vault) -> None:
    document = house.upload("alice").hex()
    answer = house.api("alice").get(f"/documents/{document}")
    content = house.api("alice").get(f"/documents/{document}/content")
    assert answer.headers["ETag"] == content.headers["ETag"] == f'"{answer.json["etag"]}"'
