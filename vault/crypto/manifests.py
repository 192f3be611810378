"""What a version is: its part list, its manifest, the owner's signature over both, and a reader's memory of it."""

import hashlib
import hmac
from collections.abc import Sequence
from struct import Struct
from struct import error as StructError
from typing import NamedTuple

from blake3 import blake3

from vault.crypto.derivation import derive
from vault.crypto.encoding import dec, enc, items, split, text
from vault.crypto.keypairs import PrivateKeys, PublicKeys
from vault.crypto.parts import PART_SIZE, SUFFIX
from vault.crypto.purposes import (
    ACCOUNT_INDEX,
    ETAG,
    INDEX,
    INDEX_BODY,
    MANIFEST,
    MANIFEST_BODY,
    PARTS_BODY,
    VERSION,
)
from vault.crypto.sealing import pad, seal, unpad, unseal
from vault.errors import Unreadable

LONGEST_PATH = 32  # names
LONGEST_NAME = 1024  # bytes of UTF-8, of a document or of one folder
LONGEST_MEDIA_TYPE = 255  # bytes
MOST_SEGMENTS = 1024
MOST_PARTS = 1 << 20
LARGEST_SIZE = 1 << 43  # bytes: MOST_PARTS parts of 8 MiB


class Segment(NamedTuple):
    """A run of content under one key of its own."""

    id: bytes
    key: bytes
    length: int


class Part(NamedTuple):
    """One blob: `length` bytes of `segment` from `offset` on; its name has the 8-byte `suffix` where there is one."""

    segment: bytes
    offset: int
    length: int
    suffix: bytes | None = None


class Manifest(NamedTuple):
    """The sealed description of a version. `sha256` is that of the content, where it is known."""

    document: bytes
    version: bytes
    number: int
    revision: int
    owner: bytes
    owner_fingerprint: bytes
    path: tuple[str, ...]
    name: str
    media_type: str
    size: int
    segments: tuple[Segment, ...]
    parts_digest: bytes
    sha256: bytes | None = None


class IndexEntry(NamedTuple):
    """What a reader remembers of a document: its owner, the highest state seen, and what a list shows."""

    owner: bytes
    owner_fingerprint: bytes
    number: int
    revision: int
    epoch: int
    name: str
    path: tuple[str, ...]
    media_type: str
    size: int


# --- part list ---

_PART = Struct(">I16sIQIQ")  # segment, offset, length, each with its item length; the suffix item follows


def encode_parts(parts: Sequence[Part]) -> bytes:
    """Encode a part list, in the order of the content. Its digest goes into the manifest and the signed row."""
    body: list[bytes] = []
    for part in parts:
        if len(part.segment) != 16 or (part.suffix is not None and len(part.suffix) != SUFFIX):
            raise ValueError("a part has a segment id of 16 bytes and a suffix of 8 or none")
        body.append(_PART.pack(16, part.segment, 8, part.offset, 8, part.length))
        body.append(items((part.suffix,)))
    encoded = enc(PARTS_BODY, b"".join(body))
    decode_parts(encoded)
    return encoded


def decode_parts(encoded: bytes) -> list[Part]:
    """Decode a part list strictly: known sizes, lengths within 8 MiB, each segment in one run from 0 without a gap.

    Compare `parts_digest` with the manifest's first; this does not.
    """
    body: bytes
    (body,) = dec(PARTS_BODY, encoded)
    parts: list[Part] = []
    at, end = 0, len(body)
    ended: set[bytes] = set()
    segment, expected = b"", 0
    while at < end:
        try:
            n_segment, found, n_offset, offset, n_length, length = _PART.unpack_from(body, at)
        except StructError as error:
            raise Unreadable("cut part") from error
        at += _PART.size
        mark, at = body[at : at + 4], at + 4
        suffix: bytes | None = None
        if mark == b"\0\0\0\x08":
            suffix, at = body[at : at + SUFFIX], at + SUFFIX
        elif mark != b"\xff\xff\xff\xff":
            raise Unreadable("part suffix")
        if at > end or (n_segment, n_offset, n_length) != (16, 8, 8) or length > PART_SIZE:
            raise Unreadable("part")
        if found != segment:
            if found in ended:
                raise Unreadable("a segment in two runs")
            ended.add(found)
            segment, expected = found, 0
        elif length == 0 or expected == 0:
            raise Unreadable("an empty part beside others")
        if offset != expected:
            raise Unreadable("a gap between parts")
        expected += length
        parts.append(Part(found, offset, length, suffix))
    if len(parts) > MOST_PARTS:
        raise Unreadable("too many parts")
    return parts


def parts_digest(encoded: bytes) -> bytes:
    """BLAKE3-256 of an encoded part list."""
    return blake3(encoded).digest()


def read_parts(manifest: Manifest, encoded: bytes) -> list[Part]:
    """Decode the part list that belongs to an opened manifest: digest, and every segment covered exactly, or
    Unreadable.
    """
    if not hmac.compare_digest(parts_digest(encoded), manifest.parts_digest):
        raise Unreadable("part list is not the manifest's")
    parts = decode_parts(encoded)
    covered: dict[bytes, int] = {}
    for part in parts:
        covered[part.segment] = covered.get(part.segment, 0) + part.length
    if list(covered.items()) != [(segment.id, segment.length) for segment in manifest.segments]:
        raise Unreadable("parts do not cover the segments")
    return parts


# --- manifest ---

_PATH_FIELD = MANIFEST_BODY.fields.index("path:list")
_SEGMENTS_FIELD = MANIFEST_BODY.fields.index("segments:list")


def _check_names(path: tuple[str, ...], name: str, media_type: str) -> None:
    if len(path) > LONGEST_PATH or not all(0 < len(folder.encode()) <= LONGEST_NAME for folder in path):
        raise ValueError("a path has at most 32 names of 1 to 1,024 bytes")
    if not 0 < len(name.encode()) <= LONGEST_NAME:
        raise ValueError("a name has 1 to 1,024 bytes")
    if len(media_type.encode()) > LONGEST_MEDIA_TYPE:
        raise ValueError("a media type has at most 255 bytes")


def _encode_path(path: tuple[str, ...]) -> bytes:
    return items([folder.encode() for folder in path])


def _decode_path(body: bytes) -> tuple[str, ...]:
    if not body:
        return ()
    return tuple([text(_present(folder)) for folder in split(body)])


def _present(value: bytes | None) -> bytes:
    if value is None:
        raise Unreadable("an absent item in a list")
    return value


def _encode_segments(segments: Sequence[Segment]) -> bytes:
    return items([item for one in segments for item in (one.id, one.key, one.length.to_bytes(8, "big"))])


def _decode_segments(body: bytes) -> tuple[Segment, ...]:
    found = [_present(item) for item in split(body)]
    if len(found) % 3:
        raise Unreadable("segments")
    segments: list[Segment] = []
    for identity, key, length in zip(found[::3], found[1::3], found[2::3], strict=True):
        if (len(identity), len(key), len(length)) != (16, 32, 8):
            raise Unreadable("segment")
        segments.append(Segment(identity, key, int.from_bytes(length, "big")))
    return tuple(segments)


def _check_segments(manifest: Manifest) -> None:
    segments = manifest.segments
    if not 0 < len(segments) <= MOST_SEGMENTS or len({one.id for one in segments}) != len(segments):
        raise ValueError("a version has 1 to 1,024 segments with ids of their own")
    if len({one.key for one in segments}) != len(segments):
        raise ValueError("each segment has a key of its own")
    if manifest.size > LARGEST_SIZE or sum(one.length for one in segments) != manifest.size:
        raise ValueError("the segments' lengths add up to the size")


def seal_manifest(dek: bytes, manifest: Manifest) -> bytes:
    """Seal a version's description under its DEK, padded. A manifest beyond the format's limits raises ValueError."""
    _check_names(manifest.path, manifest.name, manifest.media_type)
    _check_segments(manifest)
    body = enc(
        MANIFEST_BODY, manifest.document, manifest.version, manifest.number, manifest.revision, manifest.owner,
        manifest.owner_fingerprint, _encode_path(manifest.path), manifest.name, manifest.media_type, manifest.size,
        _encode_segments(manifest.segments), manifest.parts_digest, manifest.sha256,
    )  # fmt: skip
    return seal(dek, pad(body), enc(MANIFEST, manifest.document, manifest.version, manifest.revision))


def open_manifest(dek: bytes, sealed: bytes, *, document: bytes, version: bytes, revision: int) -> Manifest:
    """Open and decode a manifest strictly; whatever `seal_manifest` would not have made raises Unreadable.

    Verify the owner's signature over `sealed` as well (`verify_version`): every reader knows the DEK, so
    that the seal alone says only that one of them wrote it.
    """
    body = dec(MANIFEST_BODY, unpad(unseal(dek, sealed, enc(MANIFEST, document, version, revision))))
    body[_PATH_FIELD] = _decode_path(body[_PATH_FIELD])
    body[_SEGMENTS_FIELD] = _decode_segments(body[_SEGMENTS_FIELD])
    manifest = Manifest(*body)
    if (manifest.document, manifest.version, manifest.revision) != (document, version, revision):
        raise Unreadable("manifest of something else")
    try:
        _check_names(manifest.path, manifest.name, manifest.media_type)
        _check_segments(manifest)
    except ValueError as error:
        raise Unreadable("manifest beyond the limits") from error
    return manifest


def sign_version(
    private: PrivateKeys,
    *,
    document: bytes,
    version: bytes,
    number: int,
    revision: int,
    epoch: int,
    owner: bytes,
    owner_key_version: int,
    origin: bytes | None,
    sealed_manifest: bytes,
    parts_digest: bytes,
) -> bytes:
    """Sign a version as its owner. `origin` names the agent that made it, or is None for the server."""
    return private.sign(
        _version_message(
            document,
            version,
            number,
            revision,
            epoch,
            owner,
            owner_key_version,
            origin,
            sealed_manifest,
            parts_digest,
        )
    )


def verify_version(
    public: PublicKeys,
    signature: bytes,
    *,
    document: bytes,
    version: bytes,
    number: int,
    revision: int,
    epoch: int,
    owner: bytes,
    owner_key_version: int,
    origin: bytes | None,
    sealed_manifest: bytes,
    parts_digest: bytes,
) -> None:
    """Raise Unreadable unless the owner signed exactly this version, with this sealed manifest and part list."""
    public.verify(
        _version_message(
            document,
            version,
            number,
            revision,
            epoch,
            owner,
            owner_key_version,
            origin,
            sealed_manifest,
            parts_digest,
        ),
        signature,
    )


def _version_message(
    document: bytes,
    version: bytes,
    number: int,
    revision: int,
    epoch: int,
    owner: bytes,
    owner_key_version: int,
    origin: bytes | None,
    sealed_manifest: bytes,
    digest: bytes,
) -> bytes:
    sealed_digest = hashlib.sha256(sealed_manifest).digest()
    return enc(
        VERSION,
        document,
        version,
        number,
        revision,
        epoch,
        owner,
        owner_key_version,
        origin,
        sealed_digest,
        digest,
    )


def etag(dek: bytes, *, version: bytes, revision: int) -> str:
    """Name a state of a version for HTTP: 32 hex digits that change with every revision and tell nothing of content."""
    return hmac.digest(dek, enc(ETAG, version, revision), "sha256")[:16].hex()


# --- index entry ---

_INDEX_FIXED = Struct(f">{len(INDEX_BODY.head)}sI16sI32sIQIQIQIQ")
_INDEX_SIZES = (16, 32, 8, 8, 8, 8)
_ID_ITEM = b"\0\0\0\x10"


class IndexKey:
    """Seal and open the index entries of one reader. Made once for a request: a list opens thousands of them."""

    __slots__ = ("_key",)

    def __init__(self, account_key: bytes) -> None:
        self._key = derive(account_key, ACCOUNT_INDEX)

    def seal(self, entry: IndexEntry, *, document: bytes, reader: bytes) -> bytes:
        """Seal what `reader` remembers of `document`, padded."""
        _check_names(entry.path, entry.name, entry.media_type)
        body = enc(
            INDEX_BODY, entry.owner, entry.owner_fingerprint, entry.number, entry.revision, entry.epoch, entry.size,
            entry.name, entry.media_type, _encode_path(entry.path),
        )  # fmt: skip
        return seal(self._key, pad(body), enc(INDEX, document, reader))

    def move(self, sealed: bytes, new: "IndexKey", *, document: bytes, reader: bytes) -> bytes:
        """Seal an entry anew under the key of another account key, or raise Unreadable; it is not decoded."""
        context = enc(INDEX, document, reader)
        return seal(new._key, unseal(self._key, sealed, context), context)

    def open(self, sealed: bytes, *, document: bytes, reader: bytes) -> IndexEntry:
        """Open and decode an entry strictly, or raise Unreadable."""
        if len(document) != 16 or len(reader) != 16:
            raise ValueError("an id is 16 bytes")
        # enc(INDEX, document, reader), written out for speed; a test holds the two equal.
        context = INDEX.head + _ID_ITEM + document + _ID_ITEM + reader
        body = unpad(unseal(self._key, sealed, context))
        try:
            (
                head, n1, owner, n2, fingerprint, n3, number, n4, revision, n5, epoch, n6, size,
            ) = _INDEX_FIXED.unpack_from(body)  # fmt: skip
        except StructError as error:
            raise Unreadable("cut index entry") from error
        if head != INDEX_BODY.head or (n1, n2, n3, n4, n5, n6) != _INDEX_SIZES:
            raise Unreadable("not an index entry")
        rest: list[bytes] = []
        at = _INDEX_FIXED.size
        for _ in range(3):
            start = at + 4
            at = start + int.from_bytes(body[at:start], "big")
            rest.append(body[start:at])
        if at != len(body):
            # Any length that points beyond the end, an absent item's too, has carried `at` beyond it.
            raise Unreadable("not an index entry")
        name, media_type, path = rest
        try:
            return IndexEntry(
                owner,
                fingerprint,
                number,
                revision,
                epoch,
                name.decode(),
                _decode_path(path),
                media_type.decode(),
                size,
            )
        except UnicodeDecodeError as error:
            raise Unreadable("not UTF-8") from error

    def __repr__(self) -> str:
        return "<IndexKey>"


def seal_index_entry(account_key: bytes, entry: IndexEntry, *, document: bytes, reader: bytes) -> bytes:
    """Seal one index entry; see `IndexKey` for many."""
    return IndexKey(account_key).seal(entry, document=document, reader=reader)


def open_index_entry(account_key: bytes, sealed: bytes, *, document: bytes, reader: bytes) -> IndexEntry:
    """Open one index entry; see `IndexKey` for many."""
    return IndexKey(account_key).open(sealed, document=document, reader=reader)
