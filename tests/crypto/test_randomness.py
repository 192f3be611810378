"""Randomness comes from the operating system (C7)."""

import os
from collections import Counter

import pytest

from vault.crypto import randomness
from vault.crypto.randomness import new_id, new_secret, random_below, random_bytes


@pytest.mark.requirement(7)
def test_c7_the_source_is_the_operating_system() -> None:
    assert randomness._source is os.urandom


def test_c7_ids_and_secrets_do_not_repeat() -> None:
    assert len({new_id() for _ in range(10_000)}) == len({new_secret() for _ in range(10_000)}) == 10_000
    assert len(new_id()) == 16 and len(new_secret()) == 32 and len(random_bytes(7)) == 7


@pytest.mark.parametrize("bound", [1, 2, 3, 6, 7, 255, 256, 257, 7776])
def test_numbers_stay_below_their_bound(bound: int) -> None:
    assert {random_below(bound) for _ in range(200)} <= set(range(bound))


def test_c7_small_numbers_are_drawn_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over every byte that can be drawn, each number below 6 comes equally often; the rest is drawn again."""
    counts: Counter[int] = Counter()
    for byte in range(256):
        drawn = iter([byte])

        def source(count: int, drawn: object = drawn) -> bytes:
            return bytes([next(drawn)])  # type: ignore[call-overload]

        monkeypatch.setattr(randomness, "_source", source)
        try:
            counts[random_below(6)] += 1
        except StopIteration:
            continue
    assert counts == dict.fromkeys(range(6), 32)


def test_a_bound_below_one_is_refused() -> None:
    with pytest.raises(ValueError):
        random_below(0)
