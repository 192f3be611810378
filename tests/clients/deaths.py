"""A file, an upload of it through two deaths of the whole server, and whether it has arrived."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.faults.launcher import Order
from tests.faults.served import Served, restart


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


def arrives_whole(
    doomed: Served, file: Path, digest: str, puts: int, upload: Callable[[], None], copies: int = 1
) -> None:
    """Upload through two deaths; each document that comes of it is the file, and nothing else is left of the upload."""
    before = doomed.documents()
    through_two_deaths(doomed, puts, upload)
    made = {found: name for found, name in doomed.documents().items() if found not in before}
    assert list(made.values()) == [file.name] * copies
    for document in made:
        found = hashlib.sha256()
        with doomed.client() as client, client.stream("GET", f"/documents/{document}/content") as answer:
            for piece in answer.iter_bytes(2**20):
                found.update(piece)
        assert found.hexdigest() == digest
    assert doomed.findings() == []
    for document in made:
        doomed.ask("DELETE", f"/documents/{document}").raise_for_status()
    with doomed.vault.services() as bundle:
        bundle.sweep.run()
