"""What the server does beside requests, sweep and anchor: one round that fails ends neither."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from tests.cast import Vault
from vault.cli import gunicorn_server
from vault.errors import StoreUnavailable
from vault.services.chain import Chain
from vault.services.sweep import Sweep


class Enough(BaseException):
    """Ends a loop that never ends."""


def failing(*errors: BaseException) -> tuple[Callable[..., None], list[BaseException]]:
    """Give what raises these errors one by one, and the list of those still to come."""
    left = list(errors)

    def fail(*_: Any) -> None:
        raise left.pop(0)

    return fail, left


@pytest.mark.parametrize("error", [RuntimeError("broken"), StoreUnavailable()])
@pytest.mark.parametrize(
    ("loop", "service", "method", "said"),
    [("_sweep_hourly", Sweep, "run", "the sweep did not run"),
     ("_keep_anchor", Chain, "keep_anchor", "the anchor was not kept")],
)  # fmt: skip
def test_a_round_that_fails_is_logged_and_the_next_one_comes(
    vault: Vault,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    loop: str,
    service: type[Any],
    method: str,
    said: str,
) -> None:
    monkeypatch.setattr(gunicorn_server, "SWEEP_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(gunicorn_server, "ANCHOR_LOOK_SECONDS", 0.01)
    fail, left = failing(error, Enough())
    monkeypatch.setattr(service, method, fail)
    with caplog.at_level(logging.ERROR), pytest.raises(Enough):
        getattr(gunicorn_server, loop)(vault.app)
    assert left == []
    (record,) = [record for record in caplog.records if record.name == "vault.serve"]
    assert record.getMessage().startswith(said)
    assert (record.exc_info is not None) == isinstance(error, RuntimeError), "a defect with its place"
