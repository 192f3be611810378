"""A store that loses a node: ``python -m bench.pool [minio|seaweedfs] [--seconds N]``. Linux, with the tests' packages.

Four MinIO servers as one erasure-coded pool, or a SeaweedFS of one master and three volume servers with replication
001, each on a loopback address and in a folder of its own. A vault writes and reads documents while one node is killed
(-9) and comes back. Ends with 1 when a document that was acknowledged is not read back equal, or the node is not whole.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.servers.pools import Held, Node, Pool, start_minio_pool, start_seaweedfs_pool
from tests.servers.s3 import find_minio, find_seaweedfs
from tests.servers.vault import VaultServer, start_vault

SIZES = (1_000, 200_000, 3_000_000, 9_000_001)
"""One chunk, a shard that MinIO keeps beside its metadata or not, one part, two parts."""

PATIENCE = 300
"""Seconds in which a node must be whole again: MinIO heals a blob or two a second beside the reads."""

HEALTHY, DEAD, BACK = "all up", "one dead", "back"
STARTS = {"minio": (find_minio, start_minio_pool), "seaweedfs": (find_seaweedfs, start_seaweedfs_pool)}


@dataclass(frozen=True)
class Written:
    """A document whose upload was answered with 201."""

    id: str
    size: int
    sha256: str


@dataclass
class Story:
    """What happened, phase by phase; ``say`` gets each line of it."""

    say: Callable[[str], None]
    phase: str = HEALTHY
    written: list[Written] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    held: dict[str, Held] = field(default_factory=dict)
    whole: bool = False
    checked: bool = False

    def note(self, what: str, text: str) -> None:
        self.counts[self.phase, what] += 1
        self.say(f"{self.phase:9} {what:12} {text}")

    @property
    def lost(self) -> bool:
        return bool(self.wrong) or not self.checked


def write(story: Story, client: httpx.Client, size: int) -> None:
    """Upload one document of random bytes; it counts as written only when the vault says so."""
    content, began = os.urandom(size), time.monotonic()
    try:
        answer = client.post("/documents", params={"name": f"{size}.bin"}, content=content)
    except httpx.HTTPError as error:
        return story.note("not written", f"{size} bytes, {type(error).__name__}")
    took = time.monotonic() - began
    if answer.status_code != 201:
        return story.note("not written", f"{size} bytes, {answer.status_code} after {took:.2f} s")
    made = Written(answer.json()["id"], size, hashlib.sha256(content).hexdigest())
    story.written.append(made)
    story.note("written", f"{made.id[:8]} {size:>8} bytes {took:5.2f} s  sha256 {made.sha256[:16]}")


def read(story: Story, client: httpx.Client, document: Written) -> bool:
    """Download a document that was acknowledged; tell whether it came, and note it when it is another one."""
    began = time.monotonic()
    try:
        answer = client.get(f"/documents/{document.id}/content")
    except httpx.HTTPError as error:
        story.note("not read", f"{document.id[:8]} {type(error).__name__}")
        return False
    took = time.monotonic() - began
    if answer.status_code == 503:
        story.note("not read", f"{document.id[:8]} 503 after {took:.2f} s")
        return False
    found = hashlib.sha256(answer.content).hexdigest()
    if answer.status_code != 200 or found != document.sha256:
        story.wrong.append(document.id)
        story.note(
            "WRONG", f"{document.id[:8]} {answer.status_code} {len(answer.content)} bytes sha256 {found[:16]}"
        )
        return False
    story.note("read", f"{document.id[:8]} {document.size:>8} bytes {took:5.2f} s  sha256 {found[:16]} equal")
    return True


@contextmanager
def work(story: Story, vault: VaultServer, token: str) -> Iterator[None]:
    """Keep two people writing and two reading as fast as they can."""
    over = threading.Event()
    sizes = itertools.cycle(SIZES)

    def writing() -> None:
        with vault.client(token) as client:
            while not over.is_set():
                write(story, client, next(sizes))

    def reading() -> None:
        with vault.client(token) as client:
            while not over.wait(0.02):
                if story.written:
                    read(story, client, secrets.choice(story.written))

    threads = [threading.Thread(target=each) for each in (writing, writing, reading, reading)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def last(story: Story, phase: str, seconds: float, least: int, patience: float = 90) -> None:
    """Stay in a phase for some seconds, and until at least so much was written and read in it."""
    story.phase, began = phase, time.monotonic()
    while (went := time.monotonic() - began) < seconds or min(
        story.counts[phase, "written"], story.counts[phase, "read"]
    ) < least:
        if went > seconds + patience:
            raise TimeoutError(f"{phase}: fewer than {least} writes and reads in {went:.0f} s")
        time.sleep(0.05)


def read_everything(story: Story, vault: VaultServer, token: str, tries: int = 5) -> None:
    """Read all that was acknowledged; what does not come after some tries counts as lost."""
    with vault.client(token) as client:
        for document in story.written:
            if (
                not any(read(story, client, document) for _ in range(tries))
                and document.id not in story.wrong
            ):
                story.wrong.append(document.id)


def wait_until(answers: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not (done := answers()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return done


def survive(pool: Pool, instance: Path, seconds: float, least: int, say: Callable[[str], None]) -> Story:
    """Write and read while a node dies and comes back, wait until it is whole, then read without its neighbours."""
    story, bucket = Story(say), pool.server.new_bucket()
    settings: dict[str, Any] = {
        key.removeprefix("DOCVAULT_").lower(): value for key, value in pool.server.environment(bucket).items()
    }
    vault = start_vault(instance, workers=2, **settings)
    try:
        token = vault.log_in("alice", vault.register("alice"))
        node, neighbour = pool.nodes[1:3]
        with work(story, vault, token):
            last(story, HEALTHY, seconds, least)
            story.held["before"] = pool.held(node, bucket)
            say(f"kill -9 of {node.address}, which held {story.held['before']}")
            node.kill()
            last(story, DEAD, 2 * seconds, least)
            node.start()
            came_back = wait_until(lambda: pool.is_part(node))
            story.held["returned"] = pool.held(node, bucket)
            theirs = pool.held(neighbour, bucket)
            say(f"{node.address} is back with {story.held['returned']}, {neighbour.address} has {theirs}")
            last(story, BACK, seconds, least)
        story.phase = "healing"
        story.whole = came_back and made_whole(
            story, pool, node, bucket, lambda: read_everything(story, vault, token)
        )
        story.phase = "proof"
        for group in pool.proofs(node):
            say(
                f"kill -9 of {' and '.join(other.address for other in group)}: what {node.address} has is needed now"
            )
            for other in group:
                other.kill()
            read_everything(story, vault, token)
            for other in group:
                other.start()
            wait_until(lambda: all(pool.is_part(other) for other in pool.nodes))
        story.checked = check(instance, settings, say)
    finally:
        vault.stop()
    return story


def made_whole(story: Story, pool: Pool, node: Node, bucket: str, read_all: Callable[[], None]) -> bool:
    """Read every document, which heals what is missing, until the node holds its share; say how long that took."""
    began = time.monotonic()
    while time.monotonic() - began < PATIENCE:
        read_all()
        if wait_until(lambda: pool.has_its_share(node, bucket), seconds=2):
            break
    story.held["healed"] = pool.held(node, bucket)
    story.say(
        f"{node.address} holds {story.held['healed']} after {time.monotonic() - began:.1f} s of healing"
    )
    return pool.has_its_share(node, bucket)


def check(instance: Path, settings: dict[str, Any], say: Callable[[str], None]) -> bool:
    """Run ``docvault check`` on the whole; tell whether it found nothing wrong."""
    environment = os.environ | {f"DOCVAULT_{name.upper()}": value for name, value in settings.items()}
    done = subprocess.run(
        [sys.executable, "-m", "vault.cli", "check"],
        env=environment | {"DOCVAULT_INSTANCE": str(instance)},
        cwd=instance,
        capture_output=True,
        text=True,
        check=False,
    )
    say(f"docvault check ended with {done.returncode}: {done.stdout.strip()} {done.stderr.strip()}".strip())
    return done.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="bench.pool", description="Kill a node of the store while a vault works."
    )
    parser.add_argument("store", nargs="?", choices=sorted(STARTS), default="minio")
    parser.add_argument("--seconds", type=float, default=20, help="how long the node is away (20)")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON in the end")
    asked = parser.parse_args()
    find, start = STARTS[asked.store]
    binary = find()
    if binary is None:
        parser.error(f"there is no {asked.store} on this machine")
    began = time.monotonic()

    def say(text: str) -> None:
        sys.stdout.write(f"[{time.monotonic() - began:6.1f} s] {text}\n")
        sys.stdout.flush()

    with tempfile.TemporaryDirectory(prefix="docvault-pool-") as folder:
        pool = start(binary, Path(folder))
        try:
            story = survive(pool, Path(folder) / "instance", asked.seconds / 2, 3, say)
        finally:
            pool.stop()
    counts: dict[str, dict[str, int]] = {}
    for (phase, what), count in story.counts.items():
        counts.setdefault(phase, {})[what] = count
    if asked.json:
        print(json.dumps(counts))
    for phase, each in counts.items():
        say(f"{phase:9} " + ", ".join(f"{name}: {count}" for name, count in each.items()))
    say(
        f"{len(story.written)} documents acknowledged, {len(story.wrong)} lost or wrong; the node is "
        f"{'whole' if story.whole else 'NOT whole'}"
    )
    return int(story.lost or not story.whole)


if __name__ == "__main__":
    sys.exit(main())
