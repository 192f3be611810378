"""Attack X1: whatever is uploaded, it comes back as an attachment that no browser runs or guesses the type of."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cast import Vault
from tests.http.forms import CONTENT_TYPE, file, form
from tests.http.hostile import FILES
from vault.http.sending import CONTENT_POLICY


@pytest.fixture(scope="module")
def uploaded(
    cast_folder: tuple[Path, Vault], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Vault, dict[str, str]]]:
    """A vault into which Charlie has put every hostile file, shared with Alice; the ids by name."""
    folder, made = cast_folder
    instance = tmp_path_factory.mktemp("hostile") / "instance"
    shutil.copytree(folder, instance)
    vault = made.copied_to(instance)
    charlie, ids = vault.api("charlie"), {}
    for name, (media_type, content) in FILES.items():
        if "\r\n" in media_type:
            body = form(file(content, name, media_type=media_type))
            answer = charlie.post("/documents", data=body, content_type=CONTENT_TYPE)
        else:
            query = {"name": name, "recipients": "alice"}
            answer = charlie.post(
                "/documents", query_string=query, data=content, content_type=media_type or None
            )
        assert answer.status_code == 201, name
        ids[name] = answer.json["id"]
    yield vault, ids
    vault.close()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.requirement(49)
def test_a_hostile_file_is_never_more_than_bytes(uploaded: tuple[Vault, dict[str, str]], name: str) -> None:
    vault, ids = uploaded
    for path in (f"/documents/{ids[name]}/content", f"/api/v1/documents/{ids[name]}/content"):
        for headers in ({}, {"Range": "bytes=0-"}, {"Accept": "text/html", "Sec-Fetch-Dest": "iframe"}):
            answer = vault.browser("charlie").get(path, headers=headers)
            assert answer.status_code in {200, 206}
            assert answer.data == FILES[name][1], "not unpacked, not changed"
            assert answer.headers["Content-Type"] == "application/octet-stream"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Content-Disposition"].startswith("attachment; ")
            policy = answer.headers["Content-Security-Policy"]
            assert "sandbox" in policy and "default-src 'none'" in policy and "allow" not in policy
            assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
            assert answer.headers["Cache-Control"] == "no-store"
            assert "Content-Encoding" not in answer.headers
            assert "X-Injected" not in answer.headers


def test_a_list_with_hostile_names_and_types_has_none_of_them_as_markup(
    uploaded: tuple[Vault, dict[str, str]],
) -> None:
    vault, ids = uploaded
    for path in ("/", *(f"/documents/{id}" for id in ids.values())):
        html = vault.browser("charlie").get(path).text
        assert "document.title='ran'" not in html
        assert "X-Injected" not in html


@pytest.mark.requirement(50)
def test_there_is_no_preview_and_no_other_way_to_the_bytes(uploaded: tuple[Vault, dict[str, str]]) -> None:
    """Attack A3, checklist 49 and 50: the route table knows two addresses of content, two for versions, two of zips."""
    vault, _ = uploaded
    giving = {rule.rule for rule in vault.app.url_map.iter_rules() if re.search("content|zip", rule.rule)}
    assert giving == {
        "/documents/zip",
        "/api/v1/documents/zip",
        "/documents/<id:document_id>/content",
        "/documents/<id:document_id>/versions/<id:version_id>/content",
        "/api/v1/documents/<id:document_id>/content",
        "/api/v1/versions/<id:version_id>/content",
    }
    for word in ("preview", "thumb", "inline", "render", "link", "public"):
        assert not any(word in rule.rule for rule in vault.app.url_map.iter_rules()), word


def test_a_zip_is_an_attachment_that_no_browser_runs(uploaded: tuple[Vault, dict[str, str]]) -> None:
    """Whatever is in it, and whichever face asks for it."""
    vault, ids = uploaded
    query = "&".join(f"id={one}" for one in ids.values())
    for get in (vault.browser("charlie").get, vault.api("charlie").get):
        answer = get(f"/documents/zip?{query}")
        headers = answer.headers
        assert (answer.status_code, headers["Content-Type"]) == (200, "application/zip")
        assert headers["Content-Disposition"].startswith("attachment;")
        assert headers["Content-Security-Policy"] == CONTENT_POLICY
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert answer.content_length == len(answer.data)
