"""``GET documents/<id>/versions``, ``GET versions/<id>/content``, ``POST documents/<id>/restore``."""

from __future__ import annotations

import pytest

from tests.cast import Vault


@pytest.fixture
def document(house: Vault) -> str:
    """A document of three versions, the second one renamed."""
    document = house.upload("alice", b"first", name="a.txt", share=("bob",)).hex()
    alice = house.api("alice")
    alice.put(f"/documents/{document}/content", data=b"second version")
    alice.patch(f"/documents/{document}", json={"name": "b.txt"})
    alice.put(f"/documents/{document}/content", data=b"third")
    return document


def test_versions_are_listed_newest_first(house: Vault, document: str) -> None:
    answer = house.api("alice").get(f"/documents/{document}/versions").json
    shown = [(v["number"], v["revision"], v["name"], v["size"], v["current"]) for v in answer["items"]]
    assert shown == [(3, 0, "b.txt", 5, True), (2, 1, "b.txt", 14, False), (1, 0, "a.txt", 5, False)]
    assert answer["next"] is None


def test_every_version_is_read_by_the_owner_alone(house: Vault, document: str) -> None:
    versions = house.api("alice").get(f"/documents/{document}/versions").json["items"]
    for version, content in zip(versions, (b"third", b"second version", b"first"), strict=True):
        path = f"/versions/{version['id']}/content"
        answer = house.api("alice").get(path)
        assert (answer.status_code, answer.data) == (200, content)
        assert answer.headers["Content-Disposition"].endswith(version["name"])
        assert house.api("alice").get(path, headers={"Range": "bytes=1-2"}).data == content[1:3]
        assert house.api("bob").get(path).status_code == 403
        assert house.api("charlie").get(path).status_code == 404
        assert house.api("dora").get(path).status_code == 404


def test_an_older_version_is_made_the_newest_again(house: Vault, document: str) -> None:
    versions = house.api("alice").get(f"/documents/{document}/versions").json["items"]
    before = {path.parent.name for path in house.blob_files()}
    answer = house.api("alice").post(f"/documents/{document}/restore", json={"version": versions[1]["id"]})
    assert answer.status_code == 200
    assert (answer.json["number"], answer.json["name"], answer.json["size"]) == (4, "b.txt", 14)
    assert house.api("bob").get(f"/documents/{document}/content").data == b"second version"
    new = {path.parent.name for path in house.blob_files()} - before
    assert len(new) == 1, "written anew, under new keys"
    assert len(house.api("alice").get(f"/documents/{document}/versions").json["items"]) == 4
    with house.services() as bundle:
        assert bundle.check.run().findings == []


def test_restore_takes_a_version_of_this_document(house: Vault, document: str) -> None:
    other = house.upload("alice", b"other").hex()
    foreign = house.upload("charlie", b"charlie's").hex()
    for owner, id in (("alice", other), ("charlie", foreign)):
        version = house.api(owner).get(f"/documents/{id}/versions").json["items"][0]["id"]
        answer = house.api("alice").post(f"/documents/{document}/restore", json={"version": version})
        assert answer.status_code == 404
    assert house.api("alice").get(f"/documents/{document}/content").data == b"third"


def test_a_revoked_reader_reads_no_version(house: Vault, document: str) -> None:
    version = house.api("alice").get(f"/documents/{document}").json["version"]
    house.api("alice").delete(f"/documents/{document}/shares/bob")
    assert house.api("bob").get(f"/versions/{version}/content").status_code == 404
    old = house.api("alice").get(f"/documents/{document}/versions").json["items"][-1]["id"]
    assert house.api("alice").get(f"/versions/{old}/content").data == b"first", (
        "its epoch was raised with the rest"
    )


def test_a_deleted_documents_versions_are_gone(house: Vault) -> None:
    before = {path.parent.name for path in house.blob_files()}
    document = house.upload("alice", b"first").hex()
    house.api("alice").put(f"/documents/{document}/content", data=b"second")
    versions = house.api("alice").get(f"/documents/{document}/versions").json["items"]
    assert len({path.parent.name for path in house.blob_files()} - before) == 2
    house.api("alice").delete(f"/documents/{document}")
    for version in versions:
        assert house.api("alice").get(f"/versions/{version['id']}/content").status_code == 404
    with house.services() as bundle:
        bundle.sweep.run()
    assert {path.parent.name for path in house.blob_files()} == before
