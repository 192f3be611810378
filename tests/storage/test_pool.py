"""A store over several machines loses one of them while a vault works, and gets it back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.pool import BACK, DEAD, HEALTHY, Story, survive
from tests.servers.plugin import need
from tests.servers.pools import Pool, start_minio_pool, start_seaweedfs_pool

pytestmark = pytest.mark.s3


@pytest.fixture
def minio_pool(tmp_path: Path) -> Iterator[Pool]:
    pool = start_minio_pool(need("minio"), tmp_path)
    yield pool
    pool.stop()


@pytest.fixture
def seaweedfs_pool(tmp_path: Path) -> Iterator[Pool]:
    pool = start_seaweedfs_pool(need("seaweedfs"), tmp_path)
    yield pool
    pool.stop()


def lose_a_node(pool: Pool, folder: Path) -> Story:
    """Let it happen in short; what was acknowledged is whole at the end, and the vault never stood still."""
    lines: list[str] = []
    story = survive(pool, folder / "instance", seconds=0.5, least=3, say=lines.append)
    told = "\n".join(lines)

    assert story.wrong == [], told
    assert story.checked, told
    for phase in (HEALTHY, DEAD, BACK):
        assert story.counts[phase, "written"] >= 3, told
        assert story.counts[phase, "read"] >= 3, told
        assert story.counts[phase, "not written"] == story.counts[phase, "not read"] == 0, told
    assert story.whole, told
    assert story.held["healed"].count > story.held["returned"].count >= story.held["before"].count, told
    return story


def test_a_pool_of_four_minio_servers_loses_a_node_and_heals_it(minio_pool: Pool, tmp_path: Path) -> None:
    lose_a_node(minio_pool, tmp_path)


def test_seaweedfs_with_two_copies_loses_a_volume_server(seaweedfs_pool: Pool, tmp_path: Path) -> None:
    lose_a_node(seaweedfs_pool, tmp_path)
