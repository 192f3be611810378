"""Make the archive of a release that every later one must open: ``tests/archives/<release>``.

Run once for a release, on the release itself, and never again for the same one:
``python -m tools.make_archive 0.1.0``.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from pathlib import Path

from tests.cast import Vault, reader, register_cast
from tests.tus import Tus, metadata
from vault import __version__
from vault.services.clock import now
from vault.services.unlocked import UnlockedAccount
from vault.storage.archive import ArchiveWriter

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "archives"
DIGITS = "".join(f"{n} " for n in range(20_000)).encode()[:70_000]


def make(target: Path) -> None:
    """Let Alice and Bob store, share, replace, revoke, delete and change keys; write the archive and what opens it."""
    target.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        vault = register_cast(Path(folder) / "instance", part_size=32_768)
        alice, bob = vault.alice, vault.bob
        with vault.services() as bundle:

            def put(
                who: UnlockedAccount,
                content: bytes,
                name: str,
                path: tuple[str, ...] = (),
                to: tuple[str, ...] = (),
            ) -> bytes:
                made: bytes = bundle.uploads.receive(
                    who, reader(content), name=name, path=path, length=len(content),
                    recipients=bundle.uploads.resolve(who, to),
                )  # fmt: skip
                return made

            report = put(
                alice.account, DIGITS[:30_000], "Bericht – Äpfel.txt", ("Finanzen", "2026"), ("bob",)
            )
            bundle.uploads.receive(alice.account, reader(DIGITS), document_id=report, length=len(DIGITS))
            put(alice.account, b"", "empty")
            letter = put(bob.account, b"from Bob to Alice", "letter.txt", to=("alice",))
            gone = put(alice.account, b"deleted", "gone")
            revoked = put(bob.account, b"taken back", "revoked", to=("alice",))
            tus = Tus(vault, "alice")
            tus.upload(DIGITS[:25_000], step=9_000, Upload_Metadata=metadata(filename="in pieces"))
            halves = [tus.begin(12_000, Upload_Concat="partial") for _ in range(2)]
            for start, half in enumerate(halves):
                tus.patch(half, 0, DIGITS[12_000 * start : 12_000 * (start + 1)])
            tus.join(*halves, Upload_Metadata=metadata(filename="joined"))
            bundle.sharing.revoke(bob.account, [revoked], ["alice"])
            bundle.documents.delete(alice.account, [gone])
            for name, document in (("alice", letter), ("bob", report)):
                vault.read(name, document)  # so that each remembers the other's key
            bundle.work.finish(bob.account, bundle.keypairs.rotate(bob.account, bob.passphrase))
            bundle.sweep.run()
            code = bundle.recovery.make(alice.account, alice.passphrase)
            with (target / "archive.tar").open("wb") as file:
                bundle.backup.write(ArchiveWriter(file, now()), release=__version__)
        (target / "master.key").write_text((vault.instance / "master.key").read_text())
        (target / "alice.txt").write_text(f"{alice.passphrase}\n{code}\n")
        (target / "bob.txt").write_text(f"{bob.passphrase}\n")
        (target / "documents.json").write_text(
            json.dumps(contents(vault), indent=1, ensure_ascii=False) + "\n"
        )
        vault.close()


def contents(vault: Vault) -> dict[str, dict[str, str]]:
    """The SHA-256 of the current content of each document that Alice and Bob may read, by its path and name."""
    found: dict[str, dict[str, str]] = {}
    for name in ("alice", "bob"):
        with vault.services() as bundle:
            account = vault.members[name].account
            page = bundle.lists.page(account)
            found[name] = {
                "/".join([*item.path, item.name]): hashlib.sha256(vault.read(name, item.id)).hexdigest()
                for item in page.items
            }
    return found


if __name__ == "__main__":
    make(FOLDER / sys.argv[1])
