"""``docs/security-tests.md``: every row has a test or a reason, and the page says what the tests are."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from tests.attacks.generated import count, state_of
from tests.cast import Vault
from tools.security_tests import (
    ATTACKS,
    FAULTS,
    PAGE,
    REQUIREMENTS,
    WHY_NOT,
    Proof,
    by_id,
    find_tests,
    named,
    render,
)


@cache
def all_tests() -> list[Proof]:
    return list(find_tests())


def test_every_row_of_the_catalogue_has_a_test_or_a_reason() -> None:
    rows = by_id(all_tests())
    wanted = [*ATTACKS, *FAULTS, *map(str, REQUIREMENTS)]
    missing = [each for each in wanted if each not in rows and each not in WHY_NOT]
    assert missing == []
    assert set(rows) <= set(wanted), "a test bears an id that the catalogue does not have"
    assert set(WHY_NOT) <= set(wanted)


def test_every_attack_has_a_test_in_this_folder() -> None:
    here = by_id([test for test in all_tests() if test.file.startswith("tests/attacks/")])
    assert [each for each in ATTACKS if each not in here] == []


def test_the_page_is_up_to_date(lived_in: Vault) -> None:
    fresh = render(all_tests(), count(state_of(lived_in)))
    assert PAGE.read_text("utf-8") == fresh, "run: make security-tests"


def test_ids_are_read_from_names_and_marks(tmp_path: Path) -> None:
    assert list(named("test_k1_k3_both")) == ["K1", "K3"]
    assert list(named("test_checklist_17_the_inventory")) == list(named("test_17_x")) == ["17"]
    assert list(named("test_a_thing_of_k1_is_none")) == list(named("test_401_names_the_way")) == []
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_one.py").write_text(
        "import pytest\npytestmark = [pytest.mark.s3, pytest.mark.requirement(4)]\n"
        "@pytest.mark.requirement(5, 6)\ndef test_w10_x(): ...\ndef test_plain(): ...\ndef other(): ...\n"
    )
    found = by_id(list(find_tests(tmp_path / "tests")))
    assert {each: [test.name for test in rows] for each, rows in found.items()} == {
        "W10": ["test_w10_x"], "5": ["test_w10_x"], "6": ["test_w10_x"], "4": ["test_w10_x", "test_plain"],
    }  # fmt: skip
