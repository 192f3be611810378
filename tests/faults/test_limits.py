"""F24: files exactly at the limits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cast import Vault
from tests.http.forms import CONTENT_TYPE, field, file, form

PART = 16384
LARGEST = 5 * PART


@pytest.fixture
def limited(vault: Vault) -> Iterator[Vault]:
    """The same vault, with parts of 16 KiB and a limit of five of them."""
    own = vault.reopened(part_size=PART, max_document_bytes=LARGEST)
    yield own
    own.close()


SIZES = [0, 1, PART - 1, PART, PART + 1, LARGEST - 1, LARGEST, LARGEST + 1, LARGEST + PART, 2**21]


@pytest.mark.parametrize("size", SIZES)
def test_f24_a_file_of_this_size_is_taken_whole_or_refused(limited: Vault, size: int) -> None:
    vault, content = limited, bytes(range(256)) * (size // 256) + bytes(size % 256)
    api, browser = vault.api("alice"), vault.browser("alice")
    token = field("csrf_token", browser.csrf("/upload"))
    before = api.post("/documents?name=before", data=b"before").json["id"]
    fits = size <= LARGEST
    announced = api.post("/documents?name=raw", data=content)
    in_form = api.post("/documents", data=form(file(content)), content_type=CONTENT_TYPE)
    on_page = browser.client.post("/upload", data=form(token, file(content)), content_type=CONTENT_TYPE)
    replaced = api.put(f"/documents/{before}/content", data=content)
    assert announced.status_code == in_form.status_code == (201 if fits else 413)
    assert on_page.status_code == (303 if fits else 413)
    assert replaced.status_code == (200 if fits else 413)
    items = api.get("/documents").json["items"]
    assert len(items) == (4 if fits else 1)
    for item in items:
        read = api.get(f"/documents/{item['id']}/content")
        assert read.data == (content if fits else b"before")
        assert (item["size"], read.content_length) == (len(read.data), len(read.data))
        first = api.get(f"/documents/{item['id']}/content", headers={"Range": "bytes=0-0"})
        assert (first.status_code, first.data[:1]) == ((206, read.data[:1]) if read.data else (416, b"{"))
    with vault.services() as bundle:
        assert bundle.check.run().findings == []
        bundle.sweep.run()
        assert bundle.check.run().findings == []
    parts = max(1, -(-size // PART)) if fits else 1
    assert len(vault.blob_files()) == (4 * parts + 1 if fits else 1), "what was refused leaves nothing"
