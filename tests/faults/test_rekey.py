"""Kill -9 at every point of a re-key, with shares and revocations before it goes on: one generation is readable.

Must-show 5: afterwards a copy of the old database and the old DEK open nothing of the new generation. Each act runs in
a child of this process that is killed; the same over a gibibyte, in the real server, is behind ``long``.
"""

from __future__ import annotations

import itertools
import os
import resource
import shutil
import signal
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cast import Vault
from tests.faults.launcher import Killer, Order
from tests.faults.test_kills import named
from tests.house import refill
from vault import failpoints
from vault.crypto.grants import unwrap_dek
from vault.crypto.manifests import Manifest, Part, decode_parts, open_manifest
from vault.crypto.parts import blob_name, open_part
from vault.errors import NotFound, Unreadable
from vault.extensions import db
from vault.wiring import Services

PART = 16384
CONTENT = os.urandom(5 * PART + 100)

POINTS = [
    Order("revoke.before_commit"),
    Order("revoke.after_commit"),
    Order("rekey_begun.before_commit"),
    Order("rekey_begun.after_commit"),
    Order("upload.before_put"),
    Order("folder.before_link", 1),
    Order("folder.after_link", 2),
    Order("upload.after_put", 3),
    Order("rekey_advanced.before_commit"),
    Order("rekey_advanced.after_commit"),
    Order("rekey_advanced.after_commit", 4),
    Order("upload.after_put", 6),
    Order("rekey.before_commit"),
    Order("rekey.after_commit"),
    Order("rekey.before_destroying"),
    Order("rekey.after_destroying"),
]
SWAPPED = {"rekey.after_commit", "rekey.before_destroying", "rekey.after_destroying"}


@pytest.fixture(scope="module")
def standing_small(
    cast_folder: tuple[Path, Vault], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Vault]:
    folder, made = cast_folder
    instance = tmp_path_factory.mktemp("rekey") / "instance"
    shutil.copytree(folder, instance)
    own = made.copied_to(instance, part_size=PART)
    yield own
    own.close()


@pytest.fixture
def vault(standing_small: Vault, cast_folder: tuple[Path, Vault]) -> Vault:
    return refill(standing_small, cast_folder[0], cast_folder[1].members)


def killed(vault: Vault, order: Order, act: Callable[[Services], None]) -> None:
    """Let ``act`` run in a child of this process that is killed at the point."""
    file = vault.instance.with_name("order")
    order.write(file)
    with vault.app.app_context():
        db.engine.dispose()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child only does this and dies
        child = os.fork()
    if child == 0:
        failpoints.hook = Killer(file)
        with vault.services() as bundle:
            act(bundle)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL, "it was never reached"


def revoke_and_rekey(vault: Vault, document: bytes, seconds: float = 0) -> Callable[[Services], None]:
    """What the owner's requests do: revoke Bob, ask for new keys, go on part by part."""

    def act(bundle: Services) -> None:
        alice = vault.alice.account
        (work_id,) = bundle.sharing.revoke(alice, [document], ["bob"], rekey=True, at_once=True)
        while bundle.work.go_on(alice, work_id, seconds=seconds) is not None:
            pass

    return act


def go_on(vault: Vault) -> None:
    with vault.services() as bundle:
        for view in bundle.work.open(vault.alice.account):
            bundle.work.finish(vault.alice.account, view.id)
        assert bundle.work.open(vault.alice.account) == []


def findings(vault: Vault) -> list[Any]:
    with vault.services() as bundle:
        return list(bundle.check.run().findings)


def generation(vault: Vault, document: bytes) -> int:
    """The one generation of a document; the database must hold no version of another."""
    with vault.services() as bundle:
        shown = bundle.documents.view(vault.alice.account, document)
    with vault.database() as connection:
        found = connection.execute("SELECT number FROM document_version WHERE document_id = ?", (document,))
        assert [row[0] for row in found] == [shown.number], "exactly one generation"
    assert shown.number == shown.generation
    return int(shown.generation)


class Keeper:
    """Bob, who kept what he had before he was revoked: the database, his passphrase, the DEK and all that it opens."""

    def __init__(self, vault: Vault, document: bytes, copy: Path) -> None:
        self.account = vault.bob.account
        self.document = document
        connection = sqlite3.connect(copy)
        with vault.database() as living:
            living.backup(connection)
        connection.row_factory = sqlite3.Row
        (grant,) = connection.execute(
            "SELECT * FROM shared_key_registry WHERE reader_id = ?", (self.account.user_id,)
        )
        (version,) = connection.execute("SELECT * FROM document_version WHERE id = ?", (grant["version_id"],))
        self.dek = self.unwrapped(grant)
        self.manifest: Manifest = open_manifest(
            self.dek, version["sealed_manifest"], document=document, version=version["id"], revision=0
        )
        (row,) = connection.execute("SELECT parts FROM part_list WHERE id = ?", (version["id"],))
        self.parts = decode_parts(row["parts"])
        connection.close()

    def unwrapped(self, grant: sqlite3.Row) -> bytes:
        return unwrap_dek(
            self.account.private,
            grant["wrapped_dek"],
            document=grant["document_id"],
            version=grant["version_id"],
            reader=self.account.user_id,
            key_version=grant["reader_key_version"],
        )

    def opens_old(self, blobs: Path) -> bytes:
        """What he reads with what he kept; the store is open to him."""
        (segment,) = self.manifest.segments
        return b"".join(
            open_part(
                segment.key,
                (blobs / blob_name(part.segment, part.offset, part.suffix)).read_bytes(),
                segment=part.segment,
                offset=part.offset,
                suffix=part.suffix,
            )
            for part in self.parts
        )

    def assert_opens_nothing(self, vault: Vault) -> None:
        """No row and no blob of today opens with the old DEK, the old segment keys or his private key."""
        with vault.database() as connection:
            versions = connection.execute("SELECT * FROM document_version").fetchall()
            grants = connection.execute("SELECT * FROM shared_key_registry").fetchall()
            lists = connection.execute("SELECT parts FROM part_list").fetchall()
        for version in versions:
            with pytest.raises(Unreadable):
                open_manifest(
                    self.dek,
                    version["sealed_manifest"],
                    document=version["document_id"],
                    version=version["id"],
                    revision=version["revision"],
                )
        for grant in grants:
            with pytest.raises(Unreadable):
                self.unwrapped(grant)
        parts = [part for row in lists for part in decode_parts(row["parts"])]
        for part in parts:
            self._assert_refused(vault, part)
        with pytest.raises(FileNotFoundError):
            self.opens_old(vault.blobs)

    def _assert_refused(self, vault: Vault, part: Part) -> None:
        blob = (vault.blobs / blob_name(part.segment, part.offset, part.suffix)).read_bytes()
        for key in (self.dek, *(segment.key for segment in self.manifest.segments)):
            for place in (part, *self.parts[:6]):
                with pytest.raises(Unreadable):
                    open_part(key, blob, segment=place.segment, offset=place.offset, suffix=place.suffix)


@pytest.mark.parametrize("order", POINTS, ids=named)
def test_a_rekey_that_is_killed_leaves_one_generation_and_goes_on(
    vault: Vault, order: Order, tmp_path: Path
) -> None:
    document = vault.upload("alice", CONTENT, share=("bob", "charlie"))
    assert vault.read("bob", document) == CONTENT
    bob = Keeper(vault, document, tmp_path / "old.sqlite3")
    assert bob.opens_old(vault.blobs) == CONTENT, "with what he kept he reads the old generation"

    killed(vault, order, revoke_and_rekey(vault, document))
    assert generation(vault, document) == (2 if order.point in SWAPPED else 1)
    assert vault.read("alice", document) == vault.read("charlie", document) == CONTENT
    if order.point == "revoke.before_commit":
        assert vault.read("bob", document) == CONTENT
        with vault.services() as bundle:
            revoke_and_rekey(vault, document)(bundle)
    with pytest.raises(NotFound):
        vault.read("bob", document)
    assert findings(vault) == []

    alice = vault.alice.account
    with vault.services() as bundle:
        bundle.sharing.share(alice, [document], ["dora"])
        bundle.sharing.revoke(alice, [document], ["charlie"])
    go_on(vault)
    assert generation(vault, document) == 2
    assert vault.read("alice", document) == vault.read("dora", document) == CONTENT
    for gone in ("bob", "charlie"):
        with pytest.raises(NotFound):
            vault.read(gone, document)
    with vault.services() as bundle:
        bundle.sweep.run()
    assert findings(vault) == []
    assert len({path.parent for path in vault.blob_files()}) == 1, (
        "the old blobs are gone, the new ones are there"
    )
    bob.assert_opens_nothing(vault)


def test_killed_again_and_again_it_comes_to_its_end(vault: Vault) -> None:
    """At the second put of each try: what was written is kept, so that every try comes further."""
    # Puts overlap: a try may have written some parts more than the two that it was let.
    content = os.urandom(20 * PART)
    document = vault.upload("alice", content, share=("bob",))
    act = revoke_and_rekey(vault, document, seconds=60)
    killed(vault, Order("upload.after_put", 2), act)

    def again(bundle: Services) -> None:
        (view,) = bundle.work.open(vault.alice.account)
        bundle.work.finish(vault.alice.account, view.id)

    for _ in range(2):
        killed(vault, Order("upload.after_put", 2), again)
        assert vault.read("alice", document) == content and generation(vault, document) == 1
    go_on(vault)
    assert vault.read("alice", document) == content and generation(vault, document) == 2
    assert findings(vault) == []


GIBIBYTE = [
    Order("revoke.before_commit"),
    Order("revoke.after_commit"),
    Order("rekey_begun.before_commit"),
    Order("rekey_begun.after_commit"),
    Order("upload.before_put", 5),
    Order("folder.before_link", 9),
    Order("folder.after_link", 9),
    Order("upload.after_put", 20),
    Order("rekey_advanced.before_commit"),
    Order("rekey_advanced.after_commit"),
    Order("upload.after_put", 10),
    Order("rekey.before_commit"),
    Order("rekey.after_commit"),
]
"""One after the other over one re-key: each try goes on from where the last was killed."""
BLOCK = 2**20


@pytest.mark.long
def test_must_show_5_a_gibibyte_killed_at_every_point(
    cast_folder: tuple[Path, Vault], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    instance = tmp_path / "instance"
    shutil.copytree(cast_folder[0], instance)
    vault = cast_folder[1].copied_to(instance, part_size=8 * BLOCK)
    alice, block = vault.alice.account, os.urandom(BLOCK)
    blocks = iter([block] * 1024)
    with vault.services() as bundle:
        people = bundle.uploads.resolve(alice, ("bob", "charlie"))
        document = bundle.uploads.receive(
            alice, lambda size: next(blocks, b""), name="gibibyte", length=1024 * BLOCK, recipients=people
        )
    bob = Keeper(vault, document, tmp_path / "old.sqlite3")
    asked = False

    def carry_on(bundle: Services) -> None:
        if not asked:
            bundle.sharing.revoke(alice, [document], ["bob"], rekey=True, at_once=True)
        for view in bundle.work.open(alice):
            bundle.work.finish(alice, view.id)

    began, readers = time.monotonic(), {"charlie"}
    for number, order in enumerate(GIBIBYTE):
        killed(vault, order, carry_on)
        asked = order.point != "revoke.before_commit"
        assert generation(vault, document) == (2 if order.point == "rekey.after_commit" else 1)
        assert first_and_last(vault, "alice", document) == {block}
        with vault.services() as bundle:
            who = ("dora", "charlie")[number % 2]
            if who in readers:
                bundle.sharing.revoke(alice, [document], [who])
            else:
                bundle.sharing.share(alice, [document], [who])
            readers ^= {who}
        for who in ("bob", "charlie", "dora"):
            if who in readers or (who == "bob" and not asked):
                assert first_and_last(vault, who, document) == {block}
            else:
                with pytest.raises(NotFound):
                    first_and_last(vault, who, document)
    killing = time.monotonic() - began
    with vault.services() as bundle:
        bundle.sweep.run()
        opened = bundle.downloads.open(alice, document)
        assert all(piece == block[: len(piece)] or piece in block for piece in opened.stream(0, opened.size))
    assert findings(vault) == []
    bob.assert_opens_nothing(vault)
    assert not [path for path in instance.rglob("*") if path.is_file() and holds(path, block[:64])]

    began = time.monotonic()
    with vault.services() as bundle:
        work_id, requests = bundle.rekey.ask(alice, document), [began]
        while bundle.work.go_on(alice, work_id) is not None:
            requests.append(time.monotonic())
        requests.append(time.monotonic())
    whole = requests[-1] - began
    longest = max(later - earlier for earlier, later in itertools.pairwise(requests))
    memory = max(
        resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    assert generation(vault, document) == 3
    vault.close()
    with capsys.disabled():
        print(
            f"\n{len(GIBIBYTE)} kills in {killing:.0f} s; 1 GiB undisturbed in {whole:.1f} s, "
            f"{len(requests) - 1} requests, the longest {longest:.2f} s; at most {memory / 1024:.0f} MiB of memory"
        )


def first_and_last(vault: Vault, who: str, document: bytes) -> set[bytes]:
    """Read the first and the last mebibyte of a document."""
    with vault.services() as bundle:
        opened = bundle.downloads.open(vault.members[who].account, document)
        ends = [(0, BLOCK), (opened.size - BLOCK, opened.size)]
        return {b"".join(opened.stream(start, stop)) for start, stop in ends}


def holds(path: Path, plain: bytes) -> bool:
    """Tell whether a file holds a piece of plaintext."""
    with path.open("rb") as file:
        return any(plain in piece for piece in iter(lambda: file.read(8 * BLOCK), b""))
