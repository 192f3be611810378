"""What every JSON route refuses: malformed JSON, other content types, wrong fields and types, malformed ids."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.access_table import TABLE
from tests.cast import Vault

JSON_ROUTES = {key: line for key, line in TABLE.items() if line.json is not None}
MALFORMED = [
    "", "{", "}", "nothing", "{'name': 'a'}", '{"name": }', '{"name": "a",}', '{"name": "a"} trailing', "\x00",
    "\ufeff{}",
    '{"name": "\x01"}', '{"name": "\\x41"}', "NaN", "{" * 50_000, '{"a":' * 50_000,
]  # fmt: skip
NOT_AN_OBJECT = ["null", "1", '"name"', "[]", '[{"name": "a"}]', "true", "[" * 400 + "]" * 400]


@pytest.fixture
def document(house: Vault) -> str:
    return house.upload("alice").hex()


def patch(house: Vault, document: str, body: Any, content_type: str = "application/json") -> Any:
    return house.api("alice").patch(f"/documents/{document}", data=body, content_type=content_type)


@pytest.mark.parametrize(
    "body", [*MALFORMED, *NOT_AN_OBJECT], ids=lambda body: repr(body[:12]) + str(len(body))
)
def test_malformed_json_is_400(house: Vault, document: str, body: str) -> None:
    answer = patch(house, document, body.encode())
    assert answer.status_code == 400, answer.text
    assert answer.content_type == "application/problem+json"
    assert answer.json["status"] == 400


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "latin-1"])
def test_json_that_is_not_utf_8_loses_nothing(house: Vault, document: str, encoding: str) -> None:
    """Python's reader knows UTF-16 and UTF-32 by their first bytes; anything else is 400, never a mangled name."""
    answer = patch(house, document, json.dumps({"name": "Björn"}, ensure_ascii=False).encode(encoding))
    assert answer.status_code in {200, 400}
    assert answer.json.get("name", "Björn") == "Björn"


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/xml", "", "json",
     "text/json"],
)  # fmt: skip
def test_another_content_type_is_415(house: Vault, document: str, content_type: str) -> None:
    answer = patch(house, document, '{"name": "a"}', content_type)
    assert answer.status_code == 415
    assert "application/json" in answer.json["detail"]


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON"])
def test_json_with_a_parameter_or_in_capitals_is_json(house: Vault, document: str, content_type: str) -> None:
    assert patch(house, document, '{"name": "a"}', content_type).status_code == 200


@pytest.mark.parametrize("value", [1, 1.5, True, [], {}, ["a"], {"a": "b"}])
def test_a_text_field_takes_text_alone(house: Vault, document: str, value: Any) -> None:
    answer = patch(house, document, json.dumps({"name": value}))
    assert (answer.status_code, answer.json["field"]) == (400, "name")


def test_a_path_is_a_list_of_texts(house: Vault, document: str) -> None:
    for path in (["a", 1], [None], [["a"]], [{}], ["a"] * 33, ["a" * 300], ["a/b"], [".."], ["a\nb"]):
        answer = patch(house, document, json.dumps({"path": path}))
        assert answer.status_code == 400, path
    assert house.api("alice").get(f"/documents/{document}").json["path"] == []


def test_a_field_given_twice_is_taken_once(house: Vault, document: str) -> None:
    answer = patch(house, document, '{"name": "first", "name": "second"}')
    assert answer.json["name"] == "second"


def test_a_body_over_the_limit_is_413(house: Vault, document: str) -> None:
    body = json.dumps({"name": "a" * 5_000_000})
    assert patch(house, document, body).status_code == 413


@pytest.mark.parametrize("key", JSON_ROUTES)
def test_every_json_route_refuses_what_is_no_json_object(house: Vault, key: str) -> None:
    method, rule = key.split(" ")
    path = rule.removeprefix("/api/v1").replace("<id:document_id>", "0" * 32).replace("<username>", "bob")
    for name in ("alice", "dora"):
        for body, content_type, status in (("{", "application/json", 400), ("[]", "application/json", 400),
                                           ("a=b", "application/x-www-form-urlencoded", 415)):  # fmt: skip
            answer = house.api(name).open(method, path, data=body, content_type=content_type)
            assert answer.status_code == status, body


@pytest.mark.parametrize("version", ["", "0", "x" * 32, "0" * 31, "0" * 34, "\ud800", "0" * 5000, "00 " * 16])
def test_a_malformed_id_in_a_body_is_400_or_unknown(house: Vault, document: str, version: str) -> None:
    answer = house.api("alice").post(f"/documents/{document}/restore", json={"version": version})
    assert answer.status_code in {400, 404}
    assert answer.status_code == 400 or version.startswith("00 ")
