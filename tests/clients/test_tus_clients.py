"""Clients that others wrote for tus 1.0, against the real server, which is killed twice in the middle.

``tuspy`` and ``resumable-upload`` are from PyPI; tus-js-client is driven by the browser's tests.
"""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from resumable_upload import TusClient as ResumableUpload
from tusclient.client import TusClient as Tuspy

from tests.cast import Vault
from tests.faults.launcher import Order
from tests.faults.served import Served, restart, served

STEP = 4 * 2**20


@pytest.fixture(scope="module")
def doomed(cast_folder: tuple[Path, Vault], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The cast's vault under a server that is killed whole, with the parts that everybody has."""
    made = served(cast_folder, tmp_path_factory.mktemp("clients"), part_size=8 * 2**20)
    yield made
    made.close()


def headers(doomed: Served) -> dict[str, str]:
    return {"Authorization": f"Bearer {doomed.vault.alice.token}"}


def by_tuspy(doomed: Served, file: Path) -> None:
    client = Tuspy(f"{doomed.server.url}/api/v1/uploads", headers=headers(doomed))
    with file.open("rb") as stream:
        client.uploader(
            file_stream=stream, chunk_size=STEP, metadata={"filename": file.name}, retries=200, retry_delay=0.1,
            upload_checksum=True,
        ).upload()  # fmt: skip


def by_tuspy_at_once(doomed: Served, file: Path) -> None:
    """All in one piece, whose rest is sent again after each death."""
    client = Tuspy(f"{doomed.server.url}/api/v1/uploads", headers=headers(doomed))
    with file.open("rb") as stream:
        client.uploader(
            file_stream=stream, metadata={"filename": file.name}, retries=200, retry_delay=0.1
        ).upload()


def by_resumable_upload(doomed: Served, file: Path, parallel: int = 1) -> None:
    client = ResumableUpload(
        f"{doomed.server.url}/api/v1/uploads", chunk_size=STEP, headers=headers(doomed), max_retries=12,
        retry_delay=0.05,
    )  # fmt: skip
    client.upload_file(str(file), metadata={"filename": file.name}, parallel_uploads=parallel)


def by_resumable_upload_in_parallel(doomed: Served, file: Path) -> None:
    """Three partial uploads at once, joined by a final one."""
    by_resumable_upload(doomed, file, parallel=3)


def written(folder: Path, mebibytes: int) -> tuple[Path, str]:
    """A file of random bytes, and its hash."""
    file, digest = folder / "Bericht über alles.bin", hashlib.sha256()
    with file.open("wb") as output:
        for _ in range(mebibytes):
            piece = os.urandom(2**20)
            digest.update(piece)
            output.write(piece)
    return file, digest.hexdigest()


def through_two_deaths(doomed: Served, puts: int, upload: Callable[[], None]) -> None:
    """Upload while the whole server is killed at its n-th put, starts anew on its port, and is killed once again.

    The server dies with the thread that started it, so the upload has the thread.
    """
    with ThreadPoolExecutor(1) as threads:
        uploading = threads.submit(upload)
        for _ in range(2):
            Order("upload.after_put", puts, "all").write(doomed.order_file)
            assert doomed.server.process.wait(600) == -signal.SIGKILL
            restart(doomed)
        uploading.result(600)


LONG = pytest.mark.long


@pytest.mark.parametrize(
    ("upload", "mebibytes"),
    [
        (by_tuspy, 64),
        (by_resumable_upload_in_parallel, 64),
        *[
            pytest.param(upload, 1024, marks=LONG)
            for upload in (by_tuspy, by_tuspy_at_once, by_resumable_upload, by_resumable_upload_in_parallel)
        ],
    ],
    ids=lambda given: getattr(given, "__name__", str(given)),
)
def test_f1_a_client_brings_its_file_whole_through_two_deaths_of_the_server(
    doomed: Served, tmp_path: Path, upload: Callable[[Served, Path], None], mebibytes: int
) -> None:
    file, digest = written(tmp_path, mebibytes)
    before = doomed.documents()
    through_two_deaths(doomed, mebibytes // 24, lambda: upload(doomed, file))
    (document,) = [found for found in doomed.documents() if found not in before]
    assert doomed.documents()[document] == file.name
    found = hashlib.sha256()
    with doomed.client() as client, client.stream("GET", f"/documents/{document}/content") as answer:
        for piece in answer.iter_bytes(2**20):
            found.update(piece)
    assert found.hexdigest() == digest
    assert doomed.findings() == []
    doomed.ask("DELETE", f"/documents/{document}").raise_for_status()
    with doomed.vault.services() as bundle:
        bundle.sweep.run()
