"""``GET documents``: scope, sort, search, pages."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.cast import Vault, reader
from vault.services import clock

FILES = [("b.txt", 3), ("Äpfel.pdf", 1), ("a 10.png", 9), ("a 9.PNG", 9), ("Zoë.zip", 0), ("birne.md", 5)]


def fill(vault: Vault) -> Vault:
    """Put in six documents of Alice, a minute apart, and two of Bob that she may read."""
    start = datetime.now(UTC) - timedelta(hours=1)
    with pytest.MonkeyPatch.context() as patch:
        for number, (name, size) in enumerate(FILES):
            patch.setattr(clock, "now", lambda number=number: start + timedelta(minutes=number))
            vault.upload("alice", b"x" * size, name=name, share=("charlie",))
        for number, name in enumerate(("from bob.txt", "Bobs zweites.txt")):
            patch.setattr(clock, "now", lambda number=number: start + timedelta(minutes=10 + number))
            vault.upload("bob", b"x" * 100, name=name, share=("alice",))
    return vault


@pytest.fixture(scope="module")
def listed(house: Vault) -> Vault:
    return fill(house)


def names(vault: Vault, who: str = "alice", **query: Any) -> list[str]:
    answer = vault.api(who).get("/documents", query_string=query)
    assert answer.status_code == 200, answer.text
    return [item["name"] for item in answer.json["items"]]


def test_a_scope_is_ones_own_what_is_shared_or_all(listed: Vault) -> None:
    assert len(names(listed)) == len(names(listed, scope="all")) == 8
    assert len(names(listed, scope="owned")) == 6
    assert names(listed, scope="shared") == ["Bobs zweites.txt", "from bob.txt"]
    assert names(listed, "bob", scope="shared") == []
    assert len(names(listed, "charlie")) == 6
    assert names(listed, "dora") == [], "an administrator sees nobody's documents"


def test_a_row_tells_what_it_is(listed: Vault) -> None:
    item = listed.api("alice").get("/documents?scope=shared&limit=1").json["items"][0]
    assert item["name"] == "Bobs zweites.txt"
    assert (item["owner"], item["is_owner"], item["size"], item["readers"]) == ("bob", False, 100, 1)
    assert item["new"] is True and item["readable"] is True and item["expires_at"] is None
    assert item["date"].endswith("Z") and item["path"] == []
    assert set(item) == {
        "id", "name", "path", "media_type", "size", "owner", "is_owner", "date", "shared_at", "expires_at", "readers",
        "new", "readable",
    }  # fmt: skip


SORTED = {
    "date": ["b.txt", "Äpfel.pdf", "a 10.png", "a 9.PNG", "Zoë.zip", "birne.md"],
    "name": ["a 10.png", "a 9.PNG", "Äpfel.pdf", "b.txt", "birne.md", "Zoë.zip"],
}


@pytest.mark.parametrize("key", SORTED)
def test_a_list_is_sorted_both_ways(listed: Vault, key: str) -> None:
    assert names(listed, scope="owned", sort=key) == SORTED[key]
    assert names(listed, scope="owned", sort=f"-{key}") == SORTED[key][::-1]


def test_a_list_is_sorted_by_size_owner_and_type(listed: Vault) -> None:
    def column(sort: str, name: str) -> list[Any]:
        items = listed.api("alice").get("/documents", query_string={"sort": sort}).json["items"]
        return [item[name] for item in items]

    for sort, name in (("size", "size"), ("owner", "owner"), ("type", "media_type")):
        values = column(sort, name)
        assert values == sorted(values)
        assert column(f"-{sort}", name) == values[::-1]


@pytest.mark.parametrize("sort", ["-date", "date", "name", "-name", "size", "-owner", "type"])
@pytest.mark.parametrize("scope", ["owned", "all"])
@pytest.mark.parametrize("limit", [1, 3, 8])
def test_pages_together_are_the_list_once_each(listed: Vault, sort: str, scope: str, limit: int) -> None:
    whole = [i["id"] for i in listed.api("alice").get(f"/documents?sort={sort}&scope={scope}").json["items"]]
    seen, after, pages = [], None, 0
    while True:
        query = {"sort": sort, "scope": scope, "limit": limit} | ({"after": after} if after else {})
        page = listed.api("alice").get("/documents", query_string=query).json
        assert len(page["items"]) <= limit
        seen += [item["id"] for item in page["items"]]
        after, pages = page["next"], pages + 1
        if after is None:
            break
    assert seen == whole
    assert pages == -(-len(whole) // limit)


def test_a_page_stays_in_its_place_when_something_new_comes(vault: Vault) -> None:
    listed = fill(vault)
    first = listed.api("alice").get("/documents?limit=2&scope=owned").json
    listed.upload("alice", name="newer.txt")
    second = listed.api("alice").get(f"/documents?limit=2&scope=owned&after={first['next']}").json
    assert [i["name"] for i in first["items"] + second["items"]] == SORTED["date"][::-1][:4]


SEARCHES = {
    "apfel": [],
    "äpfel": ["Äpfel.pdf"],
    "A\u0308PFEL": ["Äpfel.pdf"],
    "ZOË": ["Zoë.zip"],
    ".png": ["a 9.PNG", "a 10.png"],
    "a png": ["a 9.PNG", "a 10.png"],
    "9 a": ["a 9.PNG"],
    "txt bob": ["Bobs zweites.txt", "from bob.txt"],
    "nothing of this": [],
    "%": [],
    "_": [],
    "\u0000": [],
    "x" * 3000: [],
}


@pytest.mark.parametrize("query", SEARCHES, ids=lambda query: repr(query[:20]))
def test_a_search_finds_every_word_in_any_case(listed: Vault, query: str) -> None:
    assert names(listed, q=query) == SEARCHES[query]


def test_an_empty_search_is_the_whole_list(listed: Vault) -> None:
    assert len(names(listed, q="")) == len(names(listed, q="   ")) == 8


def test_a_search_is_paged_too(listed: Vault) -> None:
    first = listed.api("alice").get("/documents?q=.&limit=2&sort=name").json
    rest = listed.api("alice").get(f"/documents?q=.&limit=50&sort=name&after={first['next']}").json
    assert len(first["items"]) == 2 and rest["next"] is None
    assert [i["name"] for i in first["items"] + rest["items"]] == names(listed, q=".", sort="name")


def test_a_search_looks_into_folders(vault: Vault) -> None:
    listed = fill(vault)
    document = listed.api("alice").get("/documents?q=birne").json["items"][0]["id"]
    moved = listed.api("alice").patch(f"/documents/{document}", json={"path": ["Steuern", "2026"]})
    assert moved.json["path"] == ["Steuern", "2026"]
    assert names(listed, q="steuern 2026") == ["birne.md"]
    assert names(listed, "charlie", q="steuern") == ["birne.md"], "the reader's index follows"


BAD = {
    "limit": ["0", "-1", "1001", "ten", "1.5", "", "9" * 400, "0x10", " ", "１001"],
    "sort": ["", "-", "nothing", "--date", "date,name", "owner_id", "name desc", "DATE"],
    "scope": ["", "mine", "all,owned", "ALL", "*"],
    "after": ["x", "o-1", "o", "d", "d-", "dx-00", "d1-zz", "o99999999999999999999", "-", "' OR 1=1--",
              "d" + "9" * 50 + "-00"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD.items() for value in values]
)
def test_a_list_that_does_not_exist_is_400(house: Vault, name: str, value: str) -> None:
    answer = house.api("alice").get("/documents", query_string={name: value})
    assert answer.status_code == 400, answer.text
    assert answer.json["field"] == name


def test_a_cursor_of_another_order_is_400(listed: Vault) -> None:
    by_date = listed.api("alice").get("/documents?limit=1").json["next"]
    by_name = listed.api("alice").get("/documents?limit=1&sort=name").json["next"]
    assert listed.api("alice").get(f"/documents?sort=name&after={by_date}").status_code == 400
    assert listed.api("alice").get(f"/documents?after={by_name}").status_code == 400


def test_new_is_what_came_since_the_last_visit(vault: Vault) -> None:
    document = vault.upload("alice", share=("bob",)).hex()
    assert vault.api("bob").get("/documents").json["items"][0]["new"] is True
    assert vault.api("alice").get("/documents").json["items"][0]["new"] is False, "one's own is never new"
    from tests.cast import Api

    sent = {"username": "bob", "passphrase": vault.bob.passphrase}
    token = vault.api().post("/token", json=sent).json["token"]
    token = vault.api().post("/token", json=sent).json["token"]
    assert Api(vault.app, token).get("/documents").json["items"][0]["new"] is False
    with vault.services() as bundle:
        account = vault.alice.account
        bundle.uploads.receive(account, reader(b"second"), document_id=bytes.fromhex(document))
    assert Api(vault.app, token).get("/documents").json["items"][0]["new"] is True, "a new version is news"


def test_a_list_of_nothing_is_empty(vault: Vault) -> None:
    for query in ("", "?sort=name", "?q=a", "?after=o50&sort=name"):
        assert vault.api("alice").get(f"/documents{query}").json == {"items": [], "next": None}
