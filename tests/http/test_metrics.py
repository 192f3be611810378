"""``/metrics``: for nobody, unless it has a token or an address of its own."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cast import Vault
from tests.house import house
from vault.config import load_settings
from vault.errors import Misconfigured

__all__ = ["house"]

TOKEN = "canary-0123456789abcdef"


class Came:
    """A socket on which a request came in, by the port that it was accepted at."""

    def __init__(self, port: int) -> None:
        self._port = port

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", self._port


def get(vault: Vault, path: str = "/metrics", *, port: int | None = None, **headers: str) -> Any:
    environ: dict[str, Any] = {} if port is None else {"gunicorn.socket": Came(port)}
    return vault.app.test_client().get(path, environ_overrides=environ, headers=headers)


def test_without_token_and_address_there_are_none(house: Vault) -> None:
    for answer in (
        get(house),
        get(house, Authorization="Bearer "),
        get(house, Authorization=f"Bearer {TOKEN}"),
    ):
        assert answer.status_code == 404
    assert house.browser("dora").get("/metrics").status_code == 404, (
        "an administrator has no more right to it"
    )


def test_with_a_token_they_are_for_whoever_brings_it(house: Vault) -> None:
    vault = house.reopened(metrics_token=TOKEN)
    answer = get(vault, Authorization=f"Bearer {TOKEN}", Accept="application/openmetrics-text; version=1.0.0")
    assert answer.status_code == 200
    assert answer.content_type.startswith("application/openmetrics-text")
    assert answer.data.endswith(b"# EOF\n") and b"docvault_logins_total" in answer.data
    assert answer.headers["Cache-Control"] == "no-store"
    for wrong in (
        {}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": "Bearer ü"},
        {"Authorization": f"Basic {TOKEN}"}, {"Authorization": TOKEN}, {"X-Token": TOKEN},
    ):  # fmt: skip
        answer = get(vault, **wrong)
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer"), wrong
        assert b"docvault_" not in answer.data and TOKEN.encode() not in answer.data
    assert get(vault, f"/metrics?token={TOKEN}").status_code == 401, "no secret belongs into an address"
    vault.close()


def test_at_their_own_address_there_is_nothing_else(house: Vault) -> None:
    vault = house.reopened(metrics_address="127.0.0.1:9464")
    assert get(vault, port=9464).status_code == 200
    for path in ("/", "/login", "/healthz", "/readyz", "/api/v1/me", "/static/vault.css", "/nothing"):
        assert get(vault, path, port=9464).status_code == 404, path
    assert get(vault, port=8000).status_code == 404
    assert get(vault, "/login", port=8000).status_code == 200
    vault.close()


def test_what_a_request_says_of_its_address_is_not_believed(house: Vault) -> None:
    vault = house.reopened(metrics_address="127.0.0.1:9464", proxies=1)
    said = {"Host": "127.0.0.1:9464", "X-Forwarded-Host": "127.0.0.1:9464", "X-Forwarded-Port": "9464"}
    assert get(vault, port=8000, **said).status_code == 404
    vault.close()


def test_at_their_own_address_a_token_is_asked_for_where_there_is_one(house: Vault) -> None:
    vault = house.reopened(metrics_address="127.0.0.1:9464", metrics_token=TOKEN)
    assert get(vault, port=9464).status_code == 401
    assert get(vault, port=9464, Authorization=f"Bearer {TOKEN}").status_code == 200
    assert get(vault, port=8000, Authorization=f"Bearer {TOKEN}").status_code == 200
    vault.close()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"metrics_token": "short"}, "DOCVAULT_METRICS_TOKEN: must have at least 16"),
        ({"metrics_address": "9464"}, "DOCVAULT_METRICS_ADDRESS: must look like"),
        ({"metrics_address": "127.0.0.1:"}, "DOCVAULT_METRICS_ADDRESS: must look like"),
        ({"metrics_address": "127.0.0.1:99999"}, "DOCVAULT_METRICS_ADDRESS: must look like"),
        ({"metrics_address": "127.0.0.1:8000"}, "needs a port of its own"),
    ],
)
def test_a_setting_that_cannot_be_is_said_at_the_start(given: dict[str, str], said: str) -> None:
    with pytest.raises(Misconfigured, match=said) as refused:
        load_settings(_env_file=None, **given)
    assert "short" not in str(refused.value)


def test_answers_are_counted_by_the_first_digit_of_their_status(house: Vault) -> None:
    vault = house.reopened(metrics_token=TOKEN)

    def counted() -> list[bytes]:
        text = get(vault, Authorization=f"Bearer {TOKEN}").data
        return [line.split()[1] for line in text.splitlines() if line.startswith(b"docvault_requests_total")]

    before = [float(count) for count in counted()]
    for path in ("/login", "/nothing", "/"):
        get(vault, path)
    after = [float(count) for count in counted()]
    assert [new - old for new, old in zip(after, before, strict=True)] == [0, 2, 1, 1, 0], (
        "this scrape is one"
    )
    vault.close()
