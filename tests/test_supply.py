"""Requirement 55: what is installed is pinned with its hashes, and listed."""

from __future__ import annotations

import configparser
import json
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.parts_list import LOCK, PARTS, locked, parts, release

PROJECT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.requirement(55)


def wanted() -> list[Requirement]:
    setup = configparser.ConfigParser()
    setup.read(PROJECT / "setup.cfg")
    text = setup["options"]["install_requires"] + setup["options.extras_require"]["postgresql"]
    return [Requirement(line) for line in text.split("\n") if line]


def test_every_dependency_is_pinned_to_a_version_that_setup_cfg_allows() -> None:
    found = locked(LOCK.read_text())
    assert len(found) > len(wanted()), "what they depend on is pinned as well"
    for requirement in wanted():
        name = canonicalize_name(requirement.name)
        assert name in found, f"{name} is not in requirements.lock: run make lock"
        assert requirement.specifier.contains(found[name][0]), f"{name}: run make lock"


def test_every_pinned_file_has_its_digest_and_none_an_address() -> None:
    text = LOCK.read_text()
    for name, (version, digests) in locked(text).items():
        assert digests, f"{name} {version} has no hash"
        assert re.fullmatch(r"[0-9][0-9A-Za-z.+!]*", version)
    assert "://" not in text and "--index-url" not in text and " @ " not in text


def test_the_parts_list_is_that_of_the_lock_file() -> None:
    assert json.loads(PARTS.read_text("utf-8")) == parts(LOCK.read_text(), release()), "run make lock"


def test_the_image_is_made_of_what_is_pinned() -> None:
    text = (PROJECT / "Dockerfile").read_text()
    assert "--require-hashes -r requirements.lock" in text
    assert "--no-deps ." in text, "and of nothing else"
