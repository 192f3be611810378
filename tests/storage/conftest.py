"""The three stores that pass one contract, each empty and its test's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.servers.s3 import S3Server
from vault.storage.folder import FolderStore
from vault.storage.protocol import BlobStore

S3_SERVERS = [
    pytest.param("seaweedfs", marks=pytest.mark.s3),
    pytest.param("minio_server", marks=pytest.mark.s3),
]


@pytest.fixture(params=["folder", *S3_SERVERS])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    if request.param == "folder":
        folder = FolderStore(tmp_path / "blobs")
        folder.check()
        return folder
    server: S3Server = request.getfixturevalue(request.param)
    return server.store()


@pytest.fixture(params=S3_SERVERS)
def s3(request: pytest.FixtureRequest) -> S3Server:
    server: S3Server = request.getfixturevalue(request.param)
    return server
