"""C1 to C5: the blobs of documents are edited, cut, lengthened, exchanged, downgraded and put back, on disk."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from cryptography.cobblestone import Cobblestone256Encryptor
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.attacks.attacker import CANARY, Attacker, answer, assert_refused, failures, flip, write_blob
from tests.cast import Vault, reader
from vault.crypto.encoding import enc
from vault.crypto.parts import CHUNK, HEADER, TRAILER, blob_size
from vault.crypto.purposes import PART, Purpose
from vault.crypto.sealing import SEALED_CHUNK

PART_SIZE = 2 * CHUNK
THREE_CHUNKS = (CANARY * 700)[: 2 * CHUNK + 100]
THREE_PARTS = (CANARY * 1400)[: 2 * PART_SIZE + 5000]
MIB = 2**20


@pytest.fixture
def parted(vault: Vault) -> Iterator[Vault]:
    """The same vault with parts of two chunks."""
    own = vault.reopened(part_size=PART_SIZE)
    yield own
    own.close()


def content(vault: Vault, who: str, document: bytes, **options: Any) -> Any:
    return vault.api(who).get(f"/documents/{document.hex()}/content", **options)


def chunk_at(k: int) -> int:
    return HEADER + SEALED_CHUNK * k


def replace(vault: Vault, document: bytes, new: bytes) -> None:
    with vault.services() as bundle:
        bundle.uploads.receive(vault.alice.account, reader(new), document_id=document)


# C1


@pytest.mark.requirement(14)
def test_c1_no_bit_of_a_document_of_three_chunks_can_be_flipped(vault: Vault) -> None:
    document, other = vault.upload("alice", THREE_CHUNKS), vault.upload("alice", b"safe")
    path = Attacker(vault).blob(document)
    end = blob_size(len(THREE_CHUNKS)) - TRAILER
    places = {
        "salt": 0, "end of the salt": 23, "commitment": 24, "end of the commitment": HEADER - 1,
        "first byte": HEADER, "first chunk": HEADER + 5000, "first tag": chunk_at(1) - 16, "its end": chunk_at(1) - 1,
        "second chunk": chunk_at(1), "second tag": chunk_at(2) - 1, "last chunk": chunk_at(2), "last tag": end - 16,
        "the end": end - 1,
    }  # fmt: skip
    for at in places.values():
        was = flip(path, at)
        assert_refused(vault, partial(content, vault, "alice", document), document)
        write_blob(path, was)
    assert answer(content(vault, "alice", document)).body == THREE_CHUNKS
    assert vault.read("alice", other) == b"safe"


@pytest.mark.parametrize("size", [0, 5])
def test_c1_every_place_of_a_small_blob_counts_but_its_digest(vault: Vault, size: int) -> None:
    """The last 32 bytes find damage without keys; what they say is never believed, and never hides a byte."""
    document = vault.upload("alice", CANARY[:size])
    path = Attacker(vault).blob(document)
    step = 3 if size else 7
    for at in range(0, blob_size(size), step):
        was = flip(path, at)
        if at < blob_size(size) - TRAILER:
            assert_refused(vault, partial(content, vault, "alice", document), document)
        else:
            assert answer(content(vault, "alice", document)).body == CANARY[:size]
        write_blob(path, was)


@pytest.mark.requirement(47)
def test_c1_a_flipped_bit_later_in_a_part_cuts_the_answer_short(vault: Vault) -> None:
    whole = (CANARY * 50_000)[: 3 * MIB]
    document = vault.upload("alice", whole)
    flip(Attacker(vault).blob(document), chunk_at(2 * MIB // CHUNK) + 3)
    got = answer(content(vault, "alice", document))
    assert (got.status, got.cut) == (200, True)
    assert len(got.body) < len(whole)
    assert whole.startswith(got.body), "what was sent is what was stored"
    assert [event[0] for event in failures(vault)] == [document.hex()]
    tail = content(vault, "alice", document, headers={"Range": f"bytes={3 * MIB - 100}-"})
    assert answer(tail).body == whole[-100:], "a range beside the damage is good"
    inside = {"Range": f"bytes={2 * MIB}-{2 * MIB + 10}"}
    with_damage = partial(content, vault, "alice", document, headers=inside)
    assert_refused(vault, with_damage, document, secret=whole[2 * MIB : 2 * MIB + 11])


# C2


def test_c2_the_three_parts_of_a_document_keep_their_order(parted: Vault) -> None:
    document = parted.upload("alice", THREE_PARTS)
    attacker = Attacker(parted)
    paths = [attacker.blob(document, part) for part in range(3)]
    blobs = [path.read_bytes() for path in paths]
    assert len(set(paths)) == 3
    for order in itertools.product(range(3), repeat=3):
        if order == (0, 1, 2):
            continue
        for path, k in zip(paths, order, strict=True):
            write_blob(path, blobs[k])
        got = answer(content(parted, "alice", document))
        assert got.status == 500 or got.cut, order
        assert THREE_PARTS.startswith(got.body if got.status == 200 else b"")
    for path, blob in zip(paths, blobs, strict=True):
        write_blob(path, blob)
    assert answer(content(parted, "alice", document)).body == THREE_PARTS


@pytest.mark.parametrize("gone", [0, 1, 2], ids=["first", "middle", "last"])
def test_c2_a_part_that_is_dropped_is_an_error_and_not_a_404(parted: Vault, gone: int) -> None:
    document, other = parted.upload("alice", THREE_PARTS), parted.upload("alice", b"safe")
    path = Attacker(parted).blob(document, gone)
    kept = path.read_bytes()
    path.unlink()
    assert_refused(parted, partial(content, parted, "alice", document), document)
    assert parted.read("alice", other) == b"safe"
    write_new(path, kept)
    assert parted.read("alice", document) == THREE_PARTS


def write_new(path: Path, blob: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(blob)


@pytest.mark.parametrize(
    "order", [(1, 0, 2), (0, 0, 2), (1, 1, 2), (0, 2), (1, 2), (0, 1), (0, 1, 1, 2)], ids=str
)
def test_c2_chunks_of_a_part_are_not_exchanged_repeated_or_left_out(
    vault: Vault, order: tuple[int, ...]
) -> None:
    document = vault.upload("alice", THREE_CHUNKS)
    path = Attacker(vault).blob(document)
    blob = path.read_bytes()
    body = blob[:-TRAILER]
    chunks = [body[chunk_at(0) : chunk_at(1)], body[chunk_at(1) : chunk_at(2)], body[chunk_at(2) :]]
    sealed = body[:HEADER] + b"".join(chunks[k] for k in order)
    write_blob(path, sealed + blake3(sealed).digest())
    assert_refused(vault, partial(content, vault, "alice", document), document)


@pytest.mark.parametrize("owner", ["alice", "bob"])
def test_c2_blobs_of_two_documents_exchanged(vault: Vault, owner: str) -> None:
    document = vault.upload("alice", CANARY)
    other = vault.upload(owner, CANARY[::-1])
    attacker = Attacker(vault)
    one, two = attacker.blob(document), attacker.blob(other)
    first, second = one.read_bytes(), two.read_bytes()
    write_blob(one, second)
    write_blob(two, first)
    assert_refused(vault, partial(content, vault, "alice", document), document)
    assert_refused(vault, partial(content, vault, owner, other), other, secret=CANARY[::-1])
    write_blob(one, first)
    assert vault.read("alice", document) == CANARY


# C3


@pytest.mark.parametrize(
    "length",
    [0, HEADER, HEADER + 16, chunk_at(1), chunk_at(2), chunk_at(2) + 16, -TRAILER, -1],
    ids=lambda length: f"cut at {length}",
)
@pytest.mark.requirement(14)
def test_c3_a_cut_blob_is_refused_before_the_first_byte(vault: Vault, length: int) -> None:
    document = vault.upload("alice", THREE_CHUNKS)
    path = Attacker(vault).blob(document)
    write_blob(path, path.read_bytes()[:length])
    assert_refused(vault, partial(content, vault, "alice", document), document)


@pytest.mark.parametrize(
    "more", [b"\0", b"x" * TRAILER, b"y" * SEALED_CHUNK], ids=lambda more: f"{len(more)} bytes"
)
@pytest.mark.parametrize("where", ["after", "before the digest", "before"])
def test_c3_a_lengthened_blob_is_refused_before_the_first_byte(vault: Vault, where: str, more: bytes) -> None:
    document = vault.upload("alice", THREE_CHUNKS)
    path = Attacker(vault).blob(document)
    blob = path.read_bytes()
    new = {
        "after": blob + more,
        "before": more + blob,
        "before the digest": blob[:-TRAILER] + more + blob[-TRAILER:],
    }
    write_blob(path, new[where])
    assert_refused(vault, partial(content, vault, "alice", document), document)


@pytest.mark.parametrize("length", [CHUNK, 2 * CHUNK, PART_SIZE + CHUNK])
def test_c3_a_blob_cut_at_a_chunks_edge_and_filled_up_to_its_size_is_refused(
    parted: Vault, length: int
) -> None:
    """The size that is compared first is right; the short last chunk is what tells."""
    document = parted.upload("alice", (CANARY * 1000)[:length])
    path = Attacker(parted).blob(document, -1)
    blob = path.read_bytes()
    write_blob(path, blob[:-SEALED_CHUNK] + bytes(SEALED_CHUNK))
    assert_refused(parted, partial(content, parted, "alice", document), document)


# C4


def part_key(vault: Vault, document: bytes) -> tuple[bytes, bytes]:
    """The segment of a document's content and its key, as only its readers can have it."""
    with vault.services() as bundle:
        placed = bundle.downloads.open(vault.alice.account, document)._parts[0]
        return placed.part.segment, placed.key


def cobblestone(key: bytes, context: bytes, plain: bytes) -> bytes:
    encryptor = Cobblestone256Encryptor(key, context)
    sealed = encryptor.update(plain) + encryptor.finalize()
    return bytes(sealed) + blake3(sealed).digest()


@pytest.mark.parametrize(
    "kind", ["no context", "another version", "another use", "one AES-GCM message", "plain text"]
)
def test_c4_no_other_format_is_tried(vault: Vault, kind: str) -> None:
    """Even with the right key: what is not this format, in this version, for this place, is not content."""
    document = vault.upload("alice", b"?" * len(CANARY))
    segment, key = part_key(vault, document)
    size = blob_size(len(CANARY))
    nonce = bytes(12)
    old = enc(PART, segment, 0, None).replace(b"docvault/v1/", b"docvault/v0/")
    blobs = {
        "no context": cobblestone(key, b"", CANARY),
        "another version": cobblestone(key, old, CANARY),
        "another use": cobblestone(key, enc(Purpose("docvault/v1/manifest"),), CANARY),
        "one AES-GCM message": (nonce + AESGCM(key).encrypt(nonce, CANARY, None)).ljust(size, b"\0"),
        "plain text": CANARY.ljust(size, b"\0"),
    }  # fmt: skip
    path = Attacker(vault).blob(document)
    write_blob(path, blobs[kind])
    assert_refused(vault, partial(content, vault, "alice", document), document)
    write_blob(path, cobblestone(key, enc(PART, segment, 0, None), CANARY))
    assert answer(content(vault, "alice", document)).body == CANARY, (
        "the true format with the true key is read"
    )


@pytest.mark.parametrize("column", ["sealed_manifest", "parts_digest", "owner_key_version"])
def test_c4_an_older_form_of_the_signed_row_is_not_read(vault: Vault, column: str) -> None:
    document = vault.upload("alice", CANARY)
    attacker = Attacker(vault)
    row = attacker.row("document_version", document_id=document)
    other = {
        "sealed_manifest": row["sealed_manifest"][56:],
        "parts_digest": bytes(32),
        "owner_key_version": 0,
    }
    attacker.update("document_version", row["id"], **{column: other[column]})
    attacker.reseal("document_version", row["id"])
    assert_refused(vault, partial(content, vault, "alice", document), document)


# C5


def test_c5_blobs_of_an_older_version_under_the_current_ones_names(parted: Vault) -> None:
    """Only the owner reads the older one; its bytes in the place of the newer are no document."""
    document = parted.upload("alice", THREE_PARTS, share=("bob",))
    attacker = Attacker(parted)
    old = [attacker.blob(document, part) for part in range(3)]
    new_content = THREE_PARTS[::-1]
    replace(parted, document, new_content)
    new = [attacker.blob(document, part) for part in range(3)]
    kept = [path.read_bytes() for path in new]
    for one, other in zip(old, new, strict=True):
        write_blob(other, one.read_bytes())
    for name in ("alice", "bob"):
        assert_refused(parted, partial(content, parted, name, document), document)
    for path, blob in zip(new, kept, strict=True):
        write_blob(path, blob)
    assert parted.read("bob", document) == new_content


@pytest.mark.parametrize("who", ["alice", "bob"])
def test_c5_an_older_version_put_back_as_the_current_one(vault: Vault, who: str) -> None:
    """With the master key, so that every seal fits and every signature is the owner's own: memory tells."""
    document = vault.upload("alice", CANARY, share=("bob",))
    attacker = Attacker(vault)
    before = attacker.row("document", id=document)
    grants = attacker.rows("shared_key_registry", document_id=document)
    replace(vault, document, b"corrected")
    assert vault.read(who, document) == b"corrected", "he remembers version 2"
    attacker.put("document", before)
    attacker.put("shared_key_registry", *grants)
    assert_refused(vault, partial(content, vault, who, document), document)
    listed = vault.api(who).get("/documents").json["items"]
    assert [item["readable"] for item in listed] == [False]


def test_c5_the_name_from_before_a_rename_put_back(vault: Vault) -> None:
    document = vault.upload("alice", CANARY, name="old.txt", share=("bob",))
    attacker = Attacker(vault)
    rows = {table: attacker.rows(table) for table in ("document", "document_version")}
    with vault.services() as bundle:
        bundle.documents.rename(vault.alice.account, document, "new.txt")
        assert bundle.documents.view(vault.bob.account, document).name == "new.txt"
    for table, saved in rows.items():
        attacker.put(table, *saved)
    for who in ("alice", "bob"):
        assert_refused(vault, partial(content, vault, who, document), document)
