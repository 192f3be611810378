"""What an error becomes: a page for people, problem+json (RFC 9457) for the API, each with the id that the log has."""

from __future__ import annotations

import inspect
import json
import logging
from typing import Any

import pytest

from tests.cast import Vault
from vault import errors
from vault.http import problems

MAKE: dict[str, tuple[Any, ...]] = {
    "BadInput": ("name", "This is wrong."),
    "BadPassphrase": ("This is wrong.",),
    "TooManyAttempts": (90,),
    "KeyChanged": ("bob",),
    "TooLarge": (1000,),
    "QuotaExceeded": (1000,),
    "TooManyUploads": (32,),
    "RangeUnsatisfiable": (1000,),
}
"""Arguments of the errors that need some."""

ANSWERED = [
    kind
    for kind in vars(errors).values()
    if inspect.isclass(kind)
    and issubclass(kind, errors.VaultError)
    and not issubclass(kind, errors.Misconfigured)
    and kind not in {errors.VaultError, errors.StorageError, errors.Exists, errors.Missing}
]
RAISED = pytest.mark.parametrize("kind", ANSWERED, ids=lambda kind: kind.__name__)


class Failing:
    """A vault with two addresses more, ``/fail`` and ``/api/v1/fail``, that raise ``error``."""

    def __init__(self, vault: Vault) -> None:
        self.error: Exception = RuntimeError()
        self.vault = vault
        vault.app.add_url_rule("/fail", "fail", self._fail, methods=["GET", "POST"])
        vault.app.add_url_rule("/api/v1/fail", "fail_api", self._fail)

    def _fail(self) -> str:
        raise self.error

    def asked(self, error: Exception) -> Any:
        """The API's answer to this error."""
        self.error = error
        return self.vault.api("alice").get("/fail")

    def page(self, error: Exception) -> Any:
        """The page for it."""
        self.error = error
        return self.vault.browser("alice").client.post("/fail")


@pytest.fixture(scope="module")
def failing(house: Vault) -> Failing:
    return Failing(house)


@RAISED
def test_every_error_has_a_status_of_its_own(kind: type[errors.VaultError]) -> None:
    assert any(family in problems.STATUS for family in kind.__mro__), f"{kind.__name__} would be a plain 500"


@RAISED
def test_an_error_is_problem_json_for_the_api(failing: Failing, kind: type[errors.VaultError]) -> None:
    error = kind(*MAKE.get(kind.__name__, ()))
    answer = failing.asked(error)
    problem = json.loads(answer.text)
    assert answer.content_type == "application/problem+json"
    assert answer.status_code == problem["status"] == problems.status_of(error)
    assert problem["type"] == f"urn:docvault:{kind.__name__}"
    assert problem["title"] and problem["detail"] == str(error)
    assert problem["instance"] == answer.headers["X-Request-Id"]
    assert problem.get("field") == getattr(error, "field", None)
    assert ("Retry-After" in answer.headers) == (answer.status_code in {423, 429, 503})


@RAISED
def test_an_error_is_a_page_for_people(failing: Failing, kind: type[errors.VaultError]) -> None:
    answer = failing.page(kind(*MAKE.get(kind.__name__, ())))
    assert answer.mimetype == "text/html"
    assert "<h1" in answer.text
    assert answer.headers["X-Request-Id"] in answer.text


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 429, 500, 503])
def test_each_of_these_has_a_page_of_its_own(house: Vault, status: int) -> None:
    loader = house.app.jinja_env
    own = loader.get_template(f"errors/{status}.html")
    with house.app.test_request_context("/"):
        shown = own.render(status=status, title="T", text="What to do.", request_id="0123")
        plain = loader.get_template("errors/error.html").render(
            status=status, title="T", text="What to do.", request_id="0123"
        )
    assert shown != plain
    assert str(status) in shown and "0123" in shown


def test_a_range_that_cannot_be_tells_the_size(failing: Failing) -> None:
    assert failing.asked(errors.RangeUnsatisfiable(1234)).headers["Content-Range"] == "bytes */1234"


def test_401_names_the_way_to_log_in(house: Vault) -> None:
    answer = house.api().get("/me")
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")


@pytest.mark.requirement(59)
def test_an_unknown_error_tells_nothing_but_its_number(
    failing: Failing, caplog: pytest.LogCaptureFixture
) -> None:
    """Checklist 59: the detail is in the log alone, under the number that the page shows."""
    error = RuntimeError("detail: SELECT passphrase FROM canary")
    with caplog.at_level(logging.ERROR):
        for answer in (failing.page(error), failing.asked(error)):
            assert answer.status_code == 500
            assert "canary" not in answer.text and "RuntimeError" not in answer.text
            assert answer.headers["X-Request-Id"] in answer.text
    assert "canary" in caplog.text
    assert failing.vault.api("alice").get("/me").status_code == 200, "the process goes on"


@pytest.mark.requirement(59)
def test_where_the_store_lies_is_told_to_the_operator_alone(
    failing: Failing, caplog: pytest.LogCaptureFixture
) -> None:
    error = errors.StoreUnavailable("The blob folder /secret/place is not there. Is its disk mounted?")
    with caplog.at_level(logging.ERROR):
        for answer in (failing.page(error), failing.asked(error)):
            assert answer.status_code == 503
            assert "/secret/place" not in answer.text and "Nothing was lost" in answer.text
    assert [getattr(record, "reason", "") for record in caplog.records] == [str(error)] * 2


def test_addresses_that_do_not_exist_answer_in_the_form_of_their_asker(house: Vault) -> None:
    assert house.browser("alice").get("/nowhere").mimetype == "text/html"
    answer = house.api("alice").get("/nowhere")
    assert (answer.status_code, answer.content_type) == (404, "application/problem+json")
    answer = house.api("alice").put("/documents")
    assert (answer.status_code, answer.content_type) == (405, "application/problem+json")
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS", "POST"}


@pytest.mark.requirement(53)
def test_debug_is_off(house: Vault) -> None:
    assert house.app.debug is False
    assert house.app.testing is False
    assert house.browser("alice").get("/console").status_code == 404
