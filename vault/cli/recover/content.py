"""The content of a version, decrypted part by part into a file of a new folder."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from vault.cli.recover.account import CannotRecover
from vault.cli.recover.rows import WRONG, why
from vault.crypto.manifests import Manifest, Part
from vault.crypto.parts import CHUNK, HEADER, PartReader, blob_name, blob_size, open_part
from vault.errors import Unreadable
from vault.storage.archive import ArchiveReader
from vault.storage.folder import FolderStore

LONGEST_FILE_NAME = 240


class Content:
    """Decrypt a version's parts into a file."""

    def __init__(self, store: ArchiveReader | FolderStore) -> None:
        self._store = store

    def write(
        self, manifest: Manifest, parts: list[Part], file: BinaryIO, *, accept_damage: bool
    ) -> list[str]:
        """Write the content and give what is wrong with it.

        Where damage is accepted, a chunk that does not open becomes zeros in its place; else ``Unreadable`` ends it.
        """
        keys = {segment.id: segment.key for segment in manifest.segments}
        digest, problems, at = hashlib.sha256(), [], 0
        for part in parts:
            try:
                plain = self._open(keys, part)
            except (*WRONG, KeyError) as error:
                where = f"bytes {at:,} to {at + part.length:,} ({blob_name(part.segment, part.offset, part.suffix)})"
                if not accept_damage:
                    raise Unreadable(f"{where} do not open: {why(error)}") from error
                plain, holes = self._salvage(keys, part)
                problems.append(f"{where}: {holes:,} of them do not open and are zeros")
            file.write(plain)
            digest.update(plain)
            at += len(plain)
        if manifest.sha256 is not None and not hmac.compare_digest(manifest.sha256, digest.digest()):
            problems.append("the SHA-256 of the content is not the one of the manifest")
        return problems

    def _blob(self, part: Part) -> bytes:
        size = blob_size(part.length)
        with self._store.get(blob_name(part.segment, part.offset, part.suffix), 0, size + 1) as blob:
            return blob.read()

    def _open(self, keys: dict[bytes, bytes], part: Part) -> bytes:
        blob = self._blob(part)
        if len(blob) != blob_size(part.length):
            raise Unreadable("the blob is of another size")
        return open_part(
            keys[part.segment], blob, segment=part.segment, offset=part.offset, suffix=part.suffix
        )

    def _salvage(self, keys: dict[bytes, bytes], part: Part) -> tuple[bytes, int]:
        """Open each chunk of a part by itself; give the plaintext and how many bytes of it had to become zeros."""
        plain, opened = bytearray(part.length), 0
        with suppress(*WRONG, KeyError):
            blob, reader = self._blob(part), PartReader(keys[part.segment], **part._asdict())
            reader.open_header(blob[:HEADER])
            for start in range(0, part.length, CHUNK):
                stop = min(start + CHUNK, part.length)
                span = reader.span(start, stop)
                with suppress(Unreadable):
                    plain[start:stop] = reader.open_chunks(
                        span.first_chunk, blob[span.blob_start : span.blob_stop]
                    )
                    opened += stop - start
        return bytes(plain), part.length - opened


class Folder:
    """Where recovered files go: a new folder for its owner alone."""

    def __init__(self, root: Path) -> None:
        self._root = root
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            if any(root.iterdir()):
                raise CannotRecover(
                    f"{root} is not empty. Recovered documents go into a new folder: --output."
                )
        except OSError as error:
            raise CannotRecover(f"{root} cannot be made: {error.strerror}.") from error

    @contextmanager
    def new_file(self, manifest: Manifest, mark: str) -> Iterator[tuple[BinaryIO, Path]]:
        """Open a file that stays only when the block ends well, named as the document; ``mark`` keeps two apart."""
        folder = self._root.joinpath(*map(safe_name, manifest.path))
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except FileExistsError:
            folder = self._root
        target = folder / safe_name(manifest.name)
        if os.path.lexists(target):
            target = target.with_name(f"{target.stem[:200]} ({mark}){target.suffix[:20]}")
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file, target
        except BaseException:
            target.unlink()
            raise


def safe_name(name: str) -> str:
    """Make of a name that somebody chose the name of a file in one folder: whatever it says, it stays in there."""
    safe = "".join(c if c.isprintable() and c not in '/\\:*?"<>|' else "_" for c in name).strip()
    if not safe or safe[0] in ".-":
        safe = f"_{safe}"
    return safe.encode()[:LONGEST_FILE_NAME].decode(errors="ignore")
