"""``POST|DELETE documents/<id>/rekey``, ``DELETE documents/<id>/shares/<username>?rekey=true``."""

from __future__ import annotations

import pytest

from tests.cast import Vault
from vault.errors import StoreUnavailable
from vault.services import rekey as rekeying
from vault.services import work

CONTENT = b"twelve bytes"


@pytest.fixture
def document(vault: Vault) -> str:
    return vault.upload("alice", CONTENT, share=("bob", "charlie")).hex()


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """No request has time for anything but to begin."""
    monkeypatch.setattr(rekeying.Rekey, "_copy", lambda self, account, begun, until: begun.cursor.done)


def test_a_small_document_has_new_keys_at_once(vault: Vault, document: str) -> None:
    api = vault.api("alice")
    before = api.get(f"/documents/{document}").json
    assert (before["generation"], before["rekeyed_at"], before["rekey"]) == (1, None, None)
    assert api.post(f"/documents/{document}/rekey", json={"at_once": True}).status_code == 204
    after = api.get(f"/documents/{document}").json
    assert (after["generation"], after["number"], after["rekey"]) == (2, 2, None)
    assert after["rekeyed_at"] and after["sha256"] == before["sha256"]
    assert vault.api("bob").get(f"/documents/{document}/content").data == CONTENT
    assert len(vault.blob_files()) == 1


def test_a_revocation_with_new_keys(vault: Vault, document: str) -> None:
    api = vault.api("alice")
    assert api.delete(f"/documents/{document}/shares/bob?rekey=true").status_code == 204
    assert api.delete(f"/documents/{document}/shares/charlie?rekey=false").status_code == 204
    assert api.get(f"/documents/{document}").json["generation"] == 2
    assert vault.api("bob").get(f"/documents/{document}/content").status_code == 404
    assert len(vault.blob_files()) == 2, "the old one has an hour"


@pytest.mark.parametrize("query", ["rekey=yes", "rekey=", "at_once=1", "rekey=true&at_once=True"])
def test_a_flag_is_true_or_false_and_nothing_happens_before_that_is_known(
    vault: Vault, document: str, query: str
) -> None:
    answer = vault.api("alice").delete(f"/documents/{document}/shares/bob?{query}")
    assert (answer.status_code, answer.json["type"]) == (400, "urn:docvault:BadInput")
    assert vault.api("bob").get(f"/documents/{document}/content").data == CONTENT


@pytest.mark.usefixtures("slow")
def test_what_does_not_fit_a_request_is_202_and_goes_on(
    vault: Vault, document: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = vault.api("alice")
    answer = api.delete(f"/documents/{document}/shares/bob?rekey=true&at_once=true")
    assert answer.status_code == 202
    assert (answer.json["kind"], answer.json["document"], answer.json["finished"]) == (
        "rekey",
        document,
        False,
    )
    assert (answer.json["done"], answer.json["total"]) == (0, 1)
    place = answer.headers["Location"]
    assert place == f"/api/v1/me/work/{answer.json['id']}"
    assert api.get(f"/documents/{document}").json["rekey"] == answer.json["id"]
    assert vault.api("bob").get(f"/documents/{document}/content").status_code == 404, "from this moment on"
    assert vault.api("charlie").get(f"/documents/{document}").json["rekey"] is None
    assert api.post(f"/documents/{document}/rekey", json={}).json["id"] == answer.json["id"], "twice is once"
    monkeypatch.undo()
    assert api.post(place.removeprefix("/api/v1")).json["finished"] is True
    assert api.get(f"/documents/{document}").json["generation"] == 2
    assert len(vault.blob_files()) == 1
    assert api.post(place.removeprefix("/api/v1")).status_code == 404


def test_a_store_that_is_away_does_not_undo_the_revocation(
    vault: Vault, document: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise StoreUnavailable

    monkeypatch.setattr(rekeying.Rekey, "_copy", away)
    answer = vault.api("alice").delete(f"/documents/{document}/shares/bob?rekey=true")
    assert answer.status_code == 202
    assert vault.api("alice").post(f"/me/work/{answer.json['id']}").status_code == 503
    assert vault.api("bob").get(f"/documents/{document}/content").status_code == 404


@pytest.mark.usefixtures("slow")
def test_it_is_overtaken_or_stopped(vault: Vault, document: str) -> None:
    api = vault.api("alice")
    place = f"/me/work/{api.post(f'/documents/{document}/rekey', json={}).json['id']}"
    assert api.patch(f"/documents/{document}", json={"name": "new.txt"}).status_code == 200
    assert api.post(place).status_code == 409
    assert api.post(place).json["finished"] is False, "it begins anew"
    assert api.delete(f"/documents/{document}/rekey").status_code == 204
    assert api.delete(f"/documents/{document}/rekey").status_code == 404
    assert api.post(place).status_code == 404
    shown = api.get(f"/documents/{document}").json
    assert (shown["generation"], shown["name"], shown["rekey"]) == (1, "new.txt", None)


def test_batches_are_of_two_seconds() -> None:
    assert work.BATCH_SECONDS == 2.0 > rekeying.SWAP_SECONDS
