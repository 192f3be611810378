"""Part lists, manifests, signed versions and index entries: M1, C5, W4, and strict decoding."""

from collections.abc import Sequence
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.crypto.conftest import Person
from tests.crypto.test_accounts import refused_when_changed
from vault.crypto.derivation import derive
from vault.crypto.encoding import Field, enc, item, items
from vault.crypto.manifests import (
    IndexEntry,
    IndexKey,
    Manifest,
    Part,
    Segment,
    decode_parts,
    encode_parts,
    etag,
    open_index_entry,
    open_manifest,
    parts_digest,
    read_parts,
    seal_index_entry,
    seal_manifest,
    sign_version,
    verify_version,
)
from vault.crypto.parts import PART_SIZE
from vault.crypto.purposes import ACCOUNT_INDEX, INDEX, INDEX_BODY, MANIFEST, MANIFEST_BODY, PARTS_BODY
from vault.crypto.randomness import new_id, new_secret
from vault.crypto.sealing import pad, seal, sealed_size
from vault.errors import Unreadable

DOCUMENT, VERSION, OWNER, READER = new_id(), new_id(), new_id(), new_id()
SEGMENT, OTHER = new_id(), new_id()
DEK, ACCOUNT_KEY, FINGERPRINT = new_secret(), new_secret(), new_secret()

PARTS = [Part(SEGMENT, 0, PART_SIZE), Part(SEGMENT, PART_SIZE, 10, b"12345678"), Part(OTHER, 0, 5)]
SIZE = PART_SIZE + 15
MANIFEST_OF = Manifest(
    document=DOCUMENT, version=VERSION, number=3, revision=2, owner=OWNER, owner_fingerprint=FINGERPRINT,
    path=("Finanzen", "2026"), name="Bericht – final.pdf", media_type="application/pdf", size=SIZE,
    segments=(Segment(SEGMENT, new_secret(), PART_SIZE + 10), Segment(OTHER, new_secret(), 5)),
    parts_digest=parts_digest(encode_parts(PARTS)), sha256=new_secret(),
)  # fmt: skip
ENTRY = IndexEntry(
    OWNER, FINGERPRINT, 3, 2, 7, "Bericht – final.pdf", ("Finanzen", "2026"), "application/pdf", SIZE
)


# --- part lists ---


def test_part_lists_round_trip() -> None:
    assert decode_parts(encode_parts(PARTS)) == PARTS
    assert decode_parts(encode_parts([])) == []
    assert decode_parts(encode_parts([Part(SEGMENT, 0, 0)])) == [Part(SEGMENT, 0, 0)]


@given(
    st.lists(st.tuples(st.integers(1, PART_SIZE), st.none() | st.binary(min_size=8, max_size=8)), max_size=6)
)
def test_any_part_list_round_trips(drawn: list[tuple[int, bytes | None]]) -> None:
    parts, offset = [], 0
    for length, suffix in drawn:
        parts.append(Part(SEGMENT, offset, length, suffix))
        offset += length
    assert decode_parts(encode_parts(parts)) == parts


BAD_LISTS: dict[str, list[Part]] = {
    "a gap": [Part(SEGMENT, 0, 5), Part(SEGMENT, 6, 5)],
    "an overlap": [Part(SEGMENT, 0, 5), Part(SEGMENT, 4, 5)],
    "a part twice": [Part(SEGMENT, 0, 5), Part(SEGMENT, 0, 5)],
    "not from 0": [Part(SEGMENT, 1, 5)],
    "out of order": [Part(SEGMENT, 5, 5), Part(SEGMENT, 0, 5)],
    "a segment in two runs": [Part(SEGMENT, 0, 5), Part(OTHER, 0, 5), Part(SEGMENT, 5, 5)],
    "an empty part behind another": [Part(SEGMENT, 0, 5), Part(SEGMENT, 5, 0)],
    "a part behind an empty one": [Part(SEGMENT, 0, 0), Part(SEGMENT, 0, 5)],
    "a part too long": [Part(SEGMENT, 0, PART_SIZE + 1)],
}


@pytest.mark.parametrize("name", BAD_LISTS)
def test_c2_bad_part_lists_are_neither_written_nor_read(name: str) -> None:
    parts = BAD_LISTS[name]
    with pytest.raises(Unreadable):
        encode_parts(parts)
    body = b"".join(
        items((p.segment, p.offset.to_bytes(8, "big"), p.length.to_bytes(8, "big"), p.suffix)) for p in parts
    )
    with pytest.raises(Unreadable):
        decode_parts(enc(PARTS_BODY, body))


def test_c3_cut_and_damaged_part_lists_are_unreadable() -> None:
    encoded = encode_parts(PARTS)
    for size in range(len(encoded)):
        with pytest.raises(Unreadable):
            decode_parts(encoded[:size])
    with pytest.raises(Unreadable):
        decode_parts(encoded + b"\0")
    digest = parts_digest(encoded)
    for at in range(len(encoded)):
        damaged = encoded[:at] + bytes([encoded[at] ^ 1]) + encoded[at + 1 :]
        assert parts_digest(damaged) != digest
        try:
            decode_parts(damaged)
        except Unreadable:
            continue


@pytest.mark.parametrize("values", [
    (bytes(15), bytes(8), bytes(8), None), (bytes(16), bytes(7), bytes(8), None), (bytes(16), bytes(8), bytes(9), None),
    (bytes(16), bytes(8), bytes(8), bytes(7)), (bytes(16), bytes(8), bytes(8), b""), (None, bytes(8), bytes(8), None),
    (bytes(16), bytes(8), bytes(8)),
])  # fmt: skip
def test_parts_of_wrong_sizes_are_unreadable(values: Sequence[bytes | None]) -> None:
    with pytest.raises(Unreadable):
        decode_parts(enc(PARTS_BODY, items(values)))


def test_a_part_of_wrong_sizes_is_not_written() -> None:
    for part in (Part(bytes(15), 0, 1), Part(SEGMENT, 0, 1, b"short")):
        with pytest.raises(ValueError):
            encode_parts([part])


def test_the_part_list_must_be_the_manifests() -> None:
    encoded = encode_parts(PARTS)
    assert read_parts(MANIFEST_OF, encoded) == PARTS
    for other in (
        PARTS[:2],
        PARTS[1:],
        [PARTS[2], PARTS[0], PARTS[1]],
        [PARTS[0], PARTS[1]._replace(length=9), PARTS[2]],
    ):
        try:
            changed = encode_parts(other)
        except Unreadable:
            continue
        with pytest.raises(Unreadable):
            read_parts(MANIFEST_OF, changed)
        # Nor with a digest that fits: the segments must be covered exactly.
        with pytest.raises(Unreadable):
            read_parts(MANIFEST_OF._replace(parts_digest=parts_digest(changed)), changed)


def test_the_digest_is_blake3() -> None:
    assert parts_digest(b"parts") == blake3(b"parts").digest()


# --- manifests ---


def _open(sealed: bytes, dek: bytes = DEK, **changed: Any) -> Manifest:
    return open_manifest(dek, sealed, **{"document": DOCUMENT, "version": VERSION, "revision": 2, **changed})


def test_manifests_round_trip() -> None:
    assert _open(seal_manifest(DEK, MANIFEST_OF)) == MANIFEST_OF
    bare = MANIFEST_OF._replace(path=(), media_type="", sha256=None)
    assert _open(seal_manifest(DEK, bare)) == bare


def test_m1_w2_a_manifest_opens_in_its_own_place_only() -> None:
    sealed = seal_manifest(DEK, MANIFEST_OF)
    refused_when_changed(
        open_manifest,
        {"dek": DEK, "sealed": sealed, "document": DOCUMENT, "version": VERSION, "revision": 2},
        {
            "dek": [new_secret()],
            "sealed": [sealed[:-1], sealed + b"\0", bytes(len(sealed))],
            "document": [new_id()],
            "version": [new_id()],
            "revision": [0, 1, 3],
        },
    )


def test_c1_every_flipped_byte_of_a_manifest() -> None:
    sealed = seal_manifest(DEK, MANIFEST_OF)
    for at in range(len(sealed)):
        with pytest.raises(Unreadable):
            _open(sealed[:at] + bytes([sealed[at] ^ 1 << at % 8]) + sealed[at + 1 :])


def test_w4_one_manifest_does_not_open_under_two_keys() -> None:
    """The seal commits to its key: a second DEK, wrapped for another reader, cannot show another document."""
    sealed = seal_manifest(DEK, MANIFEST_OF)
    other = seal_manifest(new_secret(), MANIFEST_OF)
    with pytest.raises(Unreadable):
        _open(other)
    with pytest.raises(Unreadable):
        _open(sealed[:24] + other[24:])


def test_names_of_similar_length_are_sealed_to_one_size() -> None:
    sizes = {len(seal_manifest(DEK, MANIFEST_OF._replace(name="n" * length))) for length in range(1, 40)}
    assert sizes == {sealed_size(512)}


def _body(**changed: Any) -> list[Field]:
    m = MANIFEST_OF._replace(**{k: v for k, v in changed.items() if k in Manifest._fields})
    fields: dict[str, Field] = {
        "document": m.document, "version": m.version, "number": m.number, "revision": m.revision, "owner": m.owner,
        "owner_fingerprint": m.owner_fingerprint, "path": items([p.encode() for p in m.path]), "name": m.name,
        "media_type": m.media_type, "size": m.size,
        "segments": items([raw for s in m.segments for raw in (s.id, s.key, s.length.to_bytes(8, "big"))]),
        "parts_digest": m.parts_digest, "sha256": m.sha256,
    }  # fmt: skip
    fields.update(
        {k: v for k, v in changed.items() if k.endswith("_raw") is False and k not in Manifest._fields}
    )
    for name, value in changed.items():
        if name.endswith("_raw"):
            fields[name.removesuffix("_raw")] = value
    return list(fields.values())


S1, S2 = MANIFEST_OF.segments
BAD_BODIES: dict[str, dict[str, Any]] = {
    "another document inside": {"document": new_id()},
    "another version inside": {"version": new_id()},
    "another revision inside": {"revision": 3},
    "segments that do not add up": {"size": SIZE + 1},
    "a segment twice": {"segments": (S1, S2._replace(id=S1.id))},
    "a segment's key twice": {"segments": (S1, S2._replace(key=S1.key))},
    "no segment": {"segments": (), "size": 0},
    "a cut segment": {"segments_raw": items([S1.id, S1.key])},
    "a segment's key too short": {"segments_raw": items([S1.id, S1.key[:-1], SIZE.to_bytes(8, "big")])},
    "an absent segment key": {"segments_raw": items([S1.id, None, SIZE.to_bytes(8, "big")])},
    "an empty name": {"name": ""},
    "a name too long": {"name": "n" * 1025},
    "a path too deep": {"path": ("a",) * 33},
    "an empty folder": {"path": ("a", "")},
    "an absent folder": {"path_raw": items([b"a", None])},
    "a folder that is not UTF-8": {"path_raw": items([b"\xff"])},
    "a media type too long": {"media_type": "m" * 256},
    "a size beyond the limit": {"size": 1 << 44, "segments": (S1._replace(length=1 << 44),)},
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_BODIES)
def test_a_manifest_that_nobody_should_write_is_unreadable(name: str) -> None:
    """Sealed properly, by a reader who has the DEK: the decoder is strict."""
    body = enc(MANIFEST_BODY, *_body(**BAD_BODIES[name]))
    sealed = seal(DEK, pad(body), enc(MANIFEST, DOCUMENT, VERSION, 2))
    with pytest.raises(Unreadable):
        _open(sealed)


def test_the_body_of_that_table_is_right_without_changes() -> None:
    body = enc(MANIFEST_BODY, *_body())
    assert _open(seal(DEK, pad(body), enc(MANIFEST, DOCUMENT, VERSION, 2))) == MANIFEST_OF


def test_bodies_with_other_bytes_are_unreadable() -> None:
    body = enc(MANIFEST_BODY, *_body())
    context = enc(MANIFEST, DOCUMENT, VERSION, 2)
    for wrong in (
        pad(body + b"\0"),
        pad(body[:-1]),
        body,
        pad(body) + bytes(512),
        pad(b""),
        b"",
        pad(body)[:-1] + b"\1",
    ):
        with pytest.raises(Unreadable):
            _open(seal(DEK, wrong, context))


@settings(max_examples=300)
@given(st.binary(max_size=400))
def test_any_body_is_a_manifest_or_unreadable(body: bytes) -> None:
    with pytest.raises(Unreadable):
        _open(seal(DEK, pad(body), enc(MANIFEST, DOCUMENT, VERSION, 2)))


@pytest.mark.parametrize("changed", [
    {"name": ""}, {"name": "n" * 1025}, {"path": ("a",) * 33}, {"path": ("",)}, {"media_type": "m" * 256},
    {"size": SIZE - 1}, {"segments": ()}, {"segments": (S1, S1)}, {"name": "\ud800"},
])  # fmt: skip
def test_a_manifest_beyond_the_limits_is_not_written(changed: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        seal_manifest(DEK, MANIFEST_OF._replace(**changed))


def test_etags_change_with_version_revision_and_key() -> None:
    tags = {etag(DEK, version=VERSION, revision=0), etag(DEK, version=VERSION, revision=1),
            etag(DEK, version=new_id(), revision=0), etag(new_secret(), version=VERSION, revision=0)}  # fmt: skip
    assert len(tags) == 4 and all(len(tag) == 32 and tag == tag.lower() for tag in tags)


# --- signed versions ---


def test_m2_every_field_of_a_version_is_signed(alice: Person, bob: Person) -> None:
    sealed = seal_manifest(DEK, MANIFEST_OF)
    bound: dict[str, Any] = {
        "document": DOCUMENT, "version": VERSION, "number": 3, "revision": 2, "epoch": 7, "owner": alice.id,
        "owner_key_version": 1, "origin": None, "sealed_manifest": sealed, "parts_digest": MANIFEST_OF.parts_digest,
    }  # fmt: skip
    signature = sign_version(alice.keys, **bound)
    refused_when_changed(
        verify_version,
        {"public": alice.keys.public, "signature": signature, **bound},
        {
            "public": [bob.keys.public],
            "signature": [sign_version(bob.keys, **bound), b""],
            "document": [new_id()],
            "version": [new_id()],
            "number": [2, 4],
            "revision": [1, 3],
            "epoch": [6, 8],
            "owner": [bob.id],
            "owner_key_version": [2],
            "origin": [b"", new_id()],
            "sealed_manifest": [seal_manifest(DEK, MANIFEST_OF), sealed[:-1]],
            "parts_digest": [new_secret()],
        },
    )


# --- index entries ---


def test_index_entries_round_trip() -> None:
    for entry in (ENTRY, ENTRY._replace(path=(), media_type="", name="x", size=0)):
        sealed = seal_index_entry(ACCOUNT_KEY, entry, document=DOCUMENT, reader=READER)
        assert open_index_entry(ACCOUNT_KEY, sealed, document=DOCUMENT, reader=READER) == entry


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40),
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9), max_size=5).map(
        tuple
    ),
)
def test_any_name_and_path_round_trips(name: str, path: tuple[str, ...]) -> None:
    key, entry = IndexKey(ACCOUNT_KEY), ENTRY._replace(name=name, path=path)
    assert (
        key.open(key.seal(entry, document=DOCUMENT, reader=READER), document=DOCUMENT, reader=READER) == entry
    )


def test_m1_an_index_entry_opens_in_its_own_row_only() -> None:
    sealed = seal_index_entry(ACCOUNT_KEY, ENTRY, document=DOCUMENT, reader=READER)
    refused_when_changed(
        open_index_entry,
        {"account_key": ACCOUNT_KEY, "sealed": sealed, "document": DOCUMENT, "reader": READER},
        {
            "account_key": [new_secret()],
            "sealed": [sealed[:-1], seal_manifest(DEK, MANIFEST_OF)],
            "document": [new_id(), READER],
            "reader": [new_id(), DOCUMENT],
        },
    )
    with pytest.raises(ValueError):
        open_index_entry(ACCOUNT_KEY, sealed, document=DOCUMENT + READER, reader=b"")


def test_the_written_out_context_is_that_of_enc() -> None:
    key = derive(ACCOUNT_KEY, ACCOUNT_INDEX)
    body = enc(
        INDEX_BODY, ENTRY.owner, ENTRY.owner_fingerprint, ENTRY.number, ENTRY.revision, ENTRY.epoch, ENTRY.size,
        ENTRY.name, ENTRY.media_type, items([p.encode() for p in ENTRY.path]),
    )  # fmt: skip
    sealed = seal(key, pad(body), enc(INDEX, DOCUMENT, READER))
    assert open_index_entry(ACCOUNT_KEY, sealed, document=DOCUMENT, reader=READER) == ENTRY


def test_damaged_bodies_of_index_entries_are_unreadable() -> None:
    key = derive(ACCOUNT_KEY, ACCOUNT_INDEX)
    head = [INDEX_BODY.name.encode(), OWNER, FINGERPRINT, bytes(8), bytes(8), bytes(8), bytes(8)]
    right = items([*head, b"name", b"type", items([b"folder"])])
    wrong = [
        right[:-1], right + b"\0", right + item(b""), b"", right[:40],
        items([MANIFEST_BODY.name.encode(), *head[1:], b"name", b"type", b""]),
        items([*head[:1], OWNER[:-1], *head[2:], b"name", b"type", b""]),
        items([*head[:6], bytes(7), b"name", b"type", b""]),
        items([*head, None, b"type", b""]), items([*head, b"name", None, b""]), items([*head, b"name", b"type", None]),
        items([*head, b"\xff", b"type", b""]), items([*head, b"name", b"\xff", b""]),
        items([*head, b"name", b"type", items([b"\xff"])]), items([*head, b"name", b"type", items([None])]),
        items([*head, b"name", b"type", b"\0"]), items([*head, b"name", b"type"]),
    ]  # fmt: skip
    for body in wrong:
        with pytest.raises(Unreadable):
            sealed = seal(key, pad(body), enc(INDEX, DOCUMENT, READER))
            open_index_entry(ACCOUNT_KEY, sealed, document=DOCUMENT, reader=READER)
            pytest.fail(body.hex())


@given(st.binary(max_size=300))
def test_any_body_is_an_entry_or_unreadable(body: bytes) -> None:
    sealed = seal(derive(ACCOUNT_KEY, ACCOUNT_INDEX), pad(body), enc(INDEX, DOCUMENT, READER))
    with pytest.raises(Unreadable):
        open_index_entry(ACCOUNT_KEY, sealed, document=DOCUMENT, reader=READER)


def test_index_entries_hide_the_length_of_a_name() -> None:
    key = IndexKey(ACCOUNT_KEY)
    sizes = {
        len(key.seal(ENTRY._replace(name="n" * length, path=()), document=DOCUMENT, reader=READER))
        for length in range(1, 60)
    }
    assert sizes == {sealed_size(256)}
    assert repr(key) == "<IndexKey>"


def test_an_entry_beyond_the_limits_is_not_written() -> None:
    with pytest.raises(ValueError):
        seal_index_entry(ACCOUNT_KEY, ENTRY._replace(name=""), document=DOCUMENT, reader=READER)
