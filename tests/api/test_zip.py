"""``GET|POST documents/zip`` and the page's way to it: many documents as one file."""

from __future__ import annotations

import io
import zipfile
from datetime import UTC, datetime

import pytest

from tests.cast import Vault


def ids_of(house: Vault, **documents: bytes) -> list[str]:
    return [
        house.upload("alice", content, name=f"{name}.txt", share=("bob",)).hex()
        for name, content in documents.items()
    ]


def names(content: bytes) -> list[str]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        return archive.namelist()


@pytest.mark.parametrize("who", ["alice", "bob"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_many_documents_come_as_one_file_of_the_announced_length(house: Vault, who: str, method: str) -> None:
    ids = ids_of(house, one=b"1" * 1000, two=b"", three=b"3")
    api = house.api(who)
    if method == "GET":
        answer = api.get("/documents/zip?" + "&".join(f"id={one}" for one in ids))
    else:
        answer = api.post("/documents/zip", json={"ids": ids})
    assert answer.status_code == 200
    assert answer.content_length == len(answer.data)
    assert names(answer.data) == ["one.txt", "two.txt", "three.txt"]
    headers = answer.headers
    assert headers["Content-Type"] == "application/zip"
    assert headers["Content-Disposition"].startswith(
        f'attachment; filename="documents-{datetime.now(UTC):%Y-%m-%d}.zip"'
    )
    assert (headers["Accept-Ranges"], headers["Cache-Control"]) == ("none", "no-store")
    assert "ETag" not in headers
    assert "sandbox" in headers["Content-Security-Policy"]


def test_a_range_and_a_condition_are_passed_over(house: Vault) -> None:
    (one,) = ids_of(house, one=b"1" * 1000)
    whole = house.api("alice").get(f"/documents/zip?id={one}").data
    headers = {"Range": "bytes=0-9", "If-None-Match": "*"}
    answer = house.api("alice").get(f"/documents/zip?id={one}", headers=headers)
    assert (answer.status_code, len(answer.data)) == (200, len(whole))


def test_a_head_tells_the_length_and_is_no_download(house: Vault) -> None:
    (one,) = ids_of(house, one=b"1" * 1000)
    answer = house.api("bob").head(f"/documents/zip?id={one}")
    assert (answer.status_code, answer.data) == (200, b"")
    assert not any(entry[:2] == ("download", one) for entry in house.audit())
    assert answer.content_length == len(house.api("bob").get(f"/documents/zip?id={one}").data)
    assert [entry[:2] for entry in house.audit()].count(("download", one)) == 1


@pytest.mark.parametrize("other", ["0" * 32, "foreign"])
def test_one_that_one_may_not_read_is_404_for_all(house: Vault, other: str) -> None:
    own = house.upload("charlie", b"own").hex()
    foreign = ids_of(house, one=b"1")[0] if other == "foreign" else other
    answer = house.api("charlie").get(f"/documents/zip?id={own}&id={foreign}")
    assert (answer.status_code, answer.json["type"]) == (404, "urn:docvault:NotFound")


@pytest.mark.parametrize(
    "query", ["", "?id=", "?id=x", "?id=" + "A" * 32, "?id=" + "0" * 33, "?id=..%2f..%2fetc"]
)
def test_what_is_no_id_is_400(house: Vault, query: str) -> None:
    answer = house.api("alice").get(f"/documents/zip{query}")
    assert (answer.status_code, answer.json["field"]) == (400, "id")
    assert house.browser("alice").get(f"/documents/zip{query}").status_code == 400


@pytest.mark.parametrize(
    "body", [{}, {"ids": "x"}, {"ids": [1]}, {"ids": ["x"]}, {"ids": []}, {"ids": None}, {"id": ["0" * 32]}]
)
def test_a_body_that_names_no_documents_is_400(house: Vault, body: dict[str, object]) -> None:
    assert house.api("alice").post("/documents/zip", json=body).status_code == 400


def test_more_than_a_thousand_are_400(house: Vault) -> None:
    ids = [f"{number:032x}" for number in range(1001)]
    answer = house.api("alice").post("/documents/zip", json={"ids": ids})
    assert (answer.status_code, answer.json["field"]) == (400, "id")


def test_many_of_one_name_come_in_one_file(house: Vault) -> None:
    ids = []
    for _ in range(2):
        form = {"file": [(io.BytesIO(b"%d" % number), f"{number}.txt") for number in range(30)]}
        ids += [item["id"] for item in house.api("dora").post("/documents", data=form).json["items"]]
    answer = house.api("dora").post("/documents/zip", json={"ids": ids})
    found = names(answer.data)
    assert answer.content_length == len(answer.data)
    assert found == [f"{n}.txt" for n in range(30)] + [f"{n} (2).txt" for n in range(30)]


# Pages


@pytest.mark.parametrize("who", ["alice", "bob"])
def test_the_ticked_documents_are_downloaded(house: Vault, who: str) -> None:
    ids = ids_of(house, one=b"1", two=b"2")
    browser = house.browser(who)
    form = {"action": "download", "documents": ids}
    sent = browser.post("/documents/selected", form, form_on="/upload")
    assert (sent.status_code, sent.location) == (303, f"/documents/zip?id={ids[0]}&id={ids[1]}")
    answer = browser.get(sent.location)
    assert names(answer.data) == ["one.txt", "two.txt"]


def test_one_ticked_document_comes_as_itself(house: Vault) -> None:
    (one,) = ids_of(house, one=b"1")
    form = {"action": "download", "documents": [one]}
    sent = house.browser("bob").post("/documents/selected", form, form_on="/upload")
    assert (sent.status_code, sent.location) == (303, f"/documents/{one}/content")


@pytest.mark.parametrize("page", ["/", "/shared"])
def test_both_lists_have_the_button(house: Vault, page: str) -> None:
    ids_of(house, one=b"1")
    text = house.browser("alice" if page == "/" else "bob").get(page).text
    assert 'name="action" value="download"' in text


def test_what_one_may_not_read_is_a_page_that_says_so(house: Vault) -> None:
    ids = ids_of(house, one=b"1", two=b"2")
    browser = house.browser("charlie")
    sent = browser.post("/documents/selected", {"action": "download", "documents": ids}, form_on="/upload")
    answer = browser.get(sent.location)
    assert (answer.status_code, answer.mimetype) == (404, "text/html")
    assert "Content-Disposition" not in answer.headers
