"""F5: kill -9 while a passphrase changes, a code is used or an account is deleted.

The old way in works afterwards or the new one, never both and never neither.
"""

from __future__ import annotations

import itertools
from typing import Any

import httpx
import pytest

from tests.faults.launcher import Order
from tests.faults.served import Served

NUMBERS = itertools.count()
OWN = "correct horse battery staple, and a purple umbrella"
CHANGES = ["passphrase.written", "passphrase.sessions_ended", "passphrase_change.after_commit"]
USES = ["recovery.method_deleted", "recovery.keys_moved", "recovery_used.after_commit"]
DELETIONS = ["account_deleted.after_commit", "delete.before_commit"]


class Person:
    """Somebody new with a document of his own; ``passphrase`` is the one that opens his account."""

    def __init__(self, doomed: Served) -> None:
        self.doomed, self.name = doomed, f"nina-{next(NUMBERS)}"
        new = doomed.ask("POST", "/users", json={"username": self.name}).raise_for_status().json()
        self.passphrase = str(new["passphrase"])
        self.token = self.enter(self.passphrase).raise_for_status().json()["token"]
        sent = self.ask("POST", "/documents?name=mine", content=b"mine")
        self.document = sent.raise_for_status().json()["id"]

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        with self.doomed.client(None) as client:
            headers = {"Authorization": f"Bearer {self.token}"}
            return client.request(method, path, headers=headers, **options)

    def enter(self, passphrase: str) -> httpx.Response:
        sent = {"username": self.name, "passphrase": passphrase}
        with self.doomed.client(None) as client:
            return client.post("/token", json=sent)

    def recover(self, code: str, new: str) -> httpx.Response:
        with self.doomed.client(None) as client:
            return client.post("/recovery", json={"username": self.name, "code": code, "new": new})

    def opens_with(self, passphrase: str) -> bool:
        """Tell whether a passphrase gets in; whoever is in reads his document and its name."""
        entered = self.enter(passphrase)
        if entered.status_code != 201:
            return False
        self.token = entered.json()["token"]
        assert self.ask("GET", f"/documents/{self.document}/content").content == b"mine"
        names = [item["name"] for item in self.ask("GET", "/documents?sort=name").json()["items"]]
        assert names == ["mine"]
        return True


@pytest.fixture(scope="module")
def nina(doomed: Served) -> Person:
    """One person for the tests that leave an account behind."""
    return Person(doomed)


@pytest.mark.parametrize("point", CHANGES)
def test_f5_a_killed_change_leaves_the_old_passphrase_or_the_new(
    doomed: Served, nina: Person, point: str
) -> None:
    sent = {"current": nina.passphrase, "new": OWN}
    doomed.killed(Order(point), lambda: nina.ask("PUT", "/me/passphrase", json=sent))
    new_one = point.endswith("after_commit")
    assert nina.opens_with(OWN) == new_one
    assert nina.opens_with(nina.passphrase) != new_one
    nina.passphrase = OWN if new_one else nina.passphrase
    assert doomed.findings() == []


@pytest.mark.parametrize("point", USES)
def test_f5_a_killed_recovery_leaves_code_and_passphrase_or_the_new_one(
    doomed: Served, nina: Person, point: str
) -> None:
    made = nina.ask("POST", "/me/recovery", json={"current": nina.passphrase}).raise_for_status()
    code, new = made.json()["code"], f"{OWN} {next(NUMBERS)}"
    doomed.killed(Order(point), lambda: nina.recover(code, new))
    new_one = point.endswith("after_commit")
    assert nina.opens_with(new) == new_one
    assert nina.opens_with(nina.passphrase) != new_one
    assert nina.recover(code, new).status_code == (401 if new_one else 200)
    assert nina.opens_with(new)
    nina.passphrase = new
    assert doomed.findings() == []


@pytest.mark.parametrize("point", DELETIONS)
def test_f5_a_killed_deletion_has_ended_the_account_and_the_sweep_does_the_rest(
    doomed: Served, point: str
) -> None:
    nina = Person(doomed)
    doomed.killed(Order(point), lambda: nina.ask("DELETE", "/me", json={"current": nina.passphrase}))
    assert nina.ask("GET", "/me").status_code == 401
    assert not nina.opens_with(nina.passphrase)
    assert doomed.findings() == []
    with doomed.vault.services() as bundle:
        bundle.sweep.run()
    with doomed.vault.database() as connection:
        left = connection.execute(
            "SELECT count(*) FROM document WHERE id = ?", (bytes.fromhex(nina.document),)
        )
        assert left.fetchone()[0] == 0
    assert doomed.findings() == []
