"""Clients that others wrote for tus 1.0, against the real server, which is killed twice in the middle.

``tuspy`` and ``resumable-upload`` are from PyPI; those in JavaScript are in ``test_tus_js.py``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from resumable_upload import TusClient as ResumableUpload
from resumable_upload.client.uploader import Uploader
from resumable_upload.exceptions import TusCommunicationError
from tusclient.client import TusClient as Tuspy

from tests.clients.deaths import arrives_whole, written
from tests.faults.served import Served

STEP = 4 * 2**20


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
    """Three partial uploads at once, joined by a final one.

    The client tries a piece again, but asks only once where to go on; that question may meet the second death.
    """
    ask = Uploader._get_offset

    def ask_until_answered(uploader: Uploader) -> int:
        while True:
            try:
                return ask(uploader)
            except TusCommunicationError as error:
                if error.status_code is not None:
                    raise
                time.sleep(0.05)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Uploader, "_get_offset", ask_until_answered)
        by_resumable_upload(doomed, file, parallel=3)


@pytest.mark.parametrize(
    ("upload", "mebibytes"),
    [
        (by_tuspy, 64),
        (by_resumable_upload_in_parallel, 64),
        *[
            pytest.param(upload, 1024, marks=pytest.mark.long)
            for upload in (by_tuspy, by_tuspy_at_once, by_resumable_upload, by_resumable_upload_in_parallel)
        ],
    ],
    ids=lambda given: getattr(given, "__name__", str(given)),
)
def test_f1_a_client_brings_its_file_whole_through_two_deaths_of_the_server(
    doomed: Served, tmp_path: Path, upload: Callable[[Served, Path], None], mebibytes: int
) -> None:
    file, digest = written(tmp_path, mebibytes)
    arrives_whole(doomed, file, digest, mebibytes // 24, lambda: upload(doomed, file))
