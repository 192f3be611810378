"""What the run says of parts that are not on a machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.plugin import PARTS

ROOT = Path(__file__).resolve().parent.parent.parent
ASKS = """
def test_one(minio_server): ...
def test_two(minio_server): ...
def test_three(chromium): ...
def test_four(): ...
"""


def run(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run four small tests on a machine that has neither MinIO nor a browser."""
    file = tmp_path / "test_asks.py"
    file.write_text(ASKS)
    missing = {
        "DOCVAULT_TEST_REQUIRE": "",
        "DOCVAULT_TEST_MINIO": str(tmp_path / "minio"),
        "DOCVAULT_TEST_CHROMIUM": str(tmp_path / "chromium"),
    }
    words: list[str | Path] = [
        "-q",
        "-p",
        "tests.servers.plugin",
        "-p",
        "no:cacheprovider",
        f"--rootdir={ROOT}",
        "-c",
        ROOT / "setup.cfg",
    ]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *words, file],
        cwd=ROOT,
        env={**os.environ, **missing, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_last_lines_name_what_was_left_out_and_how_to_get_it(tmp_path: Path) -> None:
    done = run(tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    *_, heading, chromium, minio, counts = done.stdout.splitlines()
    assert "left out on this machine" in heading
    assert chromium.startswith("chromium: 1 test. To get it: sudo apt-get install -y chromium")
    assert minio.startswith("minio: 2 tests. To get it: bash .ci/run")
    assert counts.startswith("1 passed, 3 skipped")


def test_a_part_that_is_required_and_missing_stops_the_run(tmp_path: Path) -> None:
    done = run(tmp_path, DOCVAULT_TEST_REQUIRE="chromium,minio")

    assert done.returncode == 4
    assert "minio: bash .ci/run" in done.stderr
    assert "chromium: sudo apt-get" in done.stderr


def test_a_required_part_that_nobody_knows_stops_the_run(tmp_path: Path) -> None:
    done = run(tmp_path, DOCVAULT_TEST_REQUIRE="chrome")

    assert done.returncode == 4
    assert "names chrome; it knows chromium" in done.stderr


@pytest.mark.parametrize("name", PARTS)
def test_every_part_says_how_to_get_it(name: str) -> None:
    assert PARTS[name].how_to_get
