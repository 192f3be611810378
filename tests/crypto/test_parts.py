"""Parts against an attacker who owns the blob store: C1 to C5, and the sizes of checklist 13."""

import itertools
from collections.abc import Iterator

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.crypto.recorder import recording
from vault.crypto.encoding import enc
from vault.crypto.parts import (
    CHUNK,
    HEADER,
    PART_SIZE,
    TRAILER,
    MessageReader,
    PartReader,
    PartStream,
    Span,
    blob_name,
    blob_size,
    digest_matches,
    open_part,
    seal_part,
)
from vault.crypto.purposes import PART
from vault.crypto.randomness import new_id, new_secret, random_bytes
from vault.crypto.sealing import SALT, SEALED_CHUNK, TAG, seal
from vault.errors import Unreadable

KEY, SEGMENT = bytes(range(32)), bytes(range(16))
CONTENT = random_bytes(4 * CHUNK)
SIZES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK - 1, 2 * CHUNK, 2 * CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 5]
EDGES = [PART_SIZE - 1, PART_SIZE]


def reader_of(length: int, key: bytes = KEY, segment: bytes = SEGMENT, offset: int = 0) -> PartReader:
    return PartReader(key, segment=segment, offset=offset, suffix=None, length=length)


def read_all(reader: MessageReader, blob: bytes) -> bytes:
    """Read a whole blob chunk by chunk, the way a range is read, the last chunk included.

    The digest is left out: of what was cut off, a byte of it would be the right one once in 256 times.
    """
    blob = blob[:-TRAILER]
    reader.open_header(blob[:HEADER])
    found: list[bytes] = []
    for number in range(reader.length // CHUNK):
        span = reader.span(number * CHUNK, (number + 1) * CHUNK)
        found.append(reader.open_chunks(span.first_chunk, blob[span.blob_start : span.blob_stop]))
    span = reader.last_span()
    found.append(reader.open_chunks(span.first_chunk, blob[span.blob_start : span.blob_stop]))
    return b"".join(found)


def sealed_blob(length: int, offset: int = 0, key: bytes = KEY, segment: bytes = SEGMENT) -> bytes:
    return bytes(seal_part(key, CONTENT[:length], segment=segment, offset=offset))


def redigested(message: bytes) -> bytes:
    """Give a changed message the digest that fits it, as an attacker would."""
    return message + blake3(message).digest()


def both_refuse(
    blob: bytes, length: int, offset: int = 0, key: bytes = KEY, segment: bytes = SEGMENT
) -> None:
    with pytest.raises(Unreadable):
        open_part(key, blob, segment=segment, offset=offset)
    with pytest.raises(Unreadable):
        read_all(reader_of(length, key, segment, offset), blob)


# --- sizes ---


@pytest.mark.parametrize("length", SIZES)
@pytest.mark.requirement(13)
def test_round_trip_and_size(length: int) -> None:
    """Checklist 13: our reader and the library's stream agree, and the size is the formula's."""
    blob = sealed_blob(length)
    assert len(blob) == blob_size(length) == 56 + 16400 * (length // 16384) + length % 16384 + 16 + 32
    assert digest_matches(blob)
    assert open_part(KEY, blob, segment=SEGMENT, offset=0) == CONTENT[:length]
    assert read_all(reader_of(length), blob) == CONTENT[:length]


@pytest.mark.parametrize("length", EDGES)
@pytest.mark.requirement(13)
def test_round_trip_at_the_edge_of_a_part(length: int) -> None:
    content = random_bytes(length)
    blob = seal_part(KEY, content, segment=SEGMENT, offset=0)
    assert len(blob) == blob_size(length)
    assert open_part(KEY, blob, segment=SEGMENT, offset=0) == content
    assert read_all(reader_of(length), bytes(blob)) == content


def test_one_byte_more_than_a_part_makes_two_parts() -> None:
    content = random_bytes(PART_SIZE + 1)
    with pytest.raises(ValueError):
        seal_part(KEY, content, segment=SEGMENT, offset=0)
    first = seal_part(KEY, content[:PART_SIZE], segment=SEGMENT, offset=0)
    second = seal_part(KEY, content[PART_SIZE:], segment=SEGMENT, offset=PART_SIZE)
    opened = open_part(KEY, first, segment=SEGMENT, offset=0) + open_part(
        KEY, second, segment=SEGMENT, offset=PART_SIZE
    )
    assert opened == content
    with pytest.raises(ValueError):
        reader_of(PART_SIZE + 1)


@pytest.mark.parametrize("size", [1, 1000, CHUNK - 1, CHUNK, CHUNK + 1])
def test_content_cut_into_small_parts(size: int) -> None:
    """Two parts, and a part more or less by a byte, whatever the size of a part is set to."""
    for total in (size - 1, size, size + 1, 2 * size):
        content, opened = CONTENT[:total], b""
        for offset in range(0, max(total, 1), size):
            piece = content[offset : offset + size]
            blob = seal_part(KEY, piece, segment=SEGMENT, offset=offset)
            opened += read_all(reader_of(len(piece), offset=offset), bytes(blob))
        assert opened == content


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_is_sealed(kind: type) -> None:
    blob = seal_part(KEY, kind(CONTENT[:100]), segment=SEGMENT, offset=0)
    assert open_part(KEY, blob, segment=SEGMENT, offset=0) == CONTENT[:100]


def test_a_sealed_blob_cannot_be_written_to() -> None:
    assert seal_part(KEY, b"x", segment=SEGMENT, offset=0).readonly


@pytest.mark.requirement(8)
def test_a_part_that_is_tried_again_is_a_new_message() -> None:
    """C6: two sealings of one part share no salt, so no (key, nonce)."""
    with recording() as recorder:
        salts = {bytes(seal_part(KEY, b"x", segment=SEGMENT, offset=0)[:SALT]) for _ in range(1000)}
    assert len(salts) == recorder.count == 1000 and not recorder.repeated


# --- ranges ---


def _ranges(length: int) -> Iterator[tuple[int, int]]:
    edges = sorted(
        {
            at
            for base in (0, CHUNK, 2 * CHUNK, length)
            for at in (base - 1, base, base + 1)
            if 0 <= at <= length
        }
    )
    return itertools.combinations_with_replacement(edges, 2)


@pytest.mark.parametrize("length", SIZES)
def test_every_range_at_the_edges(length: int) -> None:
    blob = sealed_blob(length)
    reader = reader_of(length)
    reader.open_header(blob[:HEADER])
    for start, stop in _ranges(length):
        span = reader.span(start, stop)
        opened = reader.open_chunks(span.first_chunk, blob[span.blob_start : span.blob_stop])
        skip = start - span.plain_start
        assert 0 <= skip <= CHUNK and opened[skip : skip + stop - start] == CONTENT[start:stop]


@settings(max_examples=60)
@given(st.integers(0, 3 * CHUNK), st.integers(0, 3 * CHUNK))
def test_any_range(one: int, other: int) -> None:
    start, stop = sorted((one, other))
    blob, reader = _THREE, reader_of(3 * CHUNK)
    reader.open_header(blob[:HEADER])
    span = reader.span(start, stop)
    opened = reader.open_chunks(span.first_chunk, blob[span.blob_start : span.blob_stop])
    assert opened[start - span.plain_start :][: stop - start] == CONTENT[start:stop]


_THREE = sealed_blob(3 * CHUNK)


def test_spans_are_those_of_the_format() -> None:
    reader = reader_of(2 * CHUNK + 5)
    assert reader.span(0, 1) == Span(0, 56, 56 + 16400)
    assert reader.span(CHUNK - 1, CHUNK + 1) == Span(0, 56, 56 + 2 * 16400)
    assert reader.span(2 * CHUNK, 2 * CHUNK + 1) == Span(2, 56 + 2 * 16400, 56 + 2 * 16400 + 21)
    assert reader.last_span() == Span(2, 56 + 2 * 16400, blob_size(2 * CHUNK + 5) - TRAILER)
    assert reader_of(CHUNK).last_span() == Span(1, 56 + 16400, 56 + 16400 + 16)
    assert reader_of(0).span(0, 0) == reader_of(0).last_span() == Span(0, 56, 72)


@pytest.mark.parametrize(("start", "stop"), [(-1, 0), (1, 0), (0, 6), (6, 6)])
def test_a_range_outside_is_refused(start: int, stop: int) -> None:
    with pytest.raises(ValueError):
        reader_of(5).span(start, stop)


def test_the_header_goes_first() -> None:
    with pytest.raises(ValueError):
        reader_of(5).open_chunks(0, bytes(21))


@pytest.mark.parametrize("key_size", [0, 16, 31, 33])
def test_a_key_of_another_size_is_refused(key_size: int) -> None:
    with pytest.raises(ValueError):
        reader_of(5, key=bytes(key_size))


# --- C1 ---

_LENGTH = 2 * CHUNK + 17


def test_c1_every_byte_of_three_chunks() -> None:
    """Flip one bit of each byte in turn: the digest, our reader, and (every 7th) the library's stream all see it."""
    blob = sealed_blob(_LENGTH)
    reader = reader_of(_LENGTH)
    reader.open_header(blob[:HEADER])
    end = len(blob) - TRAILER
    damaged = bytearray(blob)
    for at in range(end):
        damaged[at] ^= 1 << at % 8
        if at < HEADER:
            with pytest.raises(Unreadable):
                reader_of(_LENGTH).open_header(damaged[:HEADER])
        else:
            number = (at - HEADER) // SEALED_CHUNK
            start = HEADER + number * SEALED_CHUNK
            with pytest.raises(Unreadable):
                reader.open_chunks(number, damaged[start : min(start + SEALED_CHUNK, end)])
        if at % 7 == 0:
            assert not digest_matches(damaged)
            with pytest.raises(Unreadable):
                open_part(KEY, redigested(bytes(damaged[:end])), segment=SEGMENT, offset=0)
        damaged[at] ^= 1 << at % 8
    assert read_all(reader_of(_LENGTH), bytes(damaged)) == CONTENT[:_LENGTH]


def test_c1_every_byte_of_the_digest() -> None:
    blob = sealed_blob(100)
    for at in range(len(blob) - TRAILER, len(blob)):
        damaged = bytearray(blob)
        damaged[at] ^= 1
        assert not digest_matches(damaged)
        with pytest.raises(Unreadable):
            open_part(KEY, damaged, segment=SEGMENT, offset=0)


@pytest.mark.parametrize(
    "at", [HEADER, HEADER + CHUNK, HEADER + SEALED_CHUNK, HEADER + 2 * SEALED_CHUNK, -TRAILER - 1]
)
def test_c1_one_bad_chunk_gives_out_nothing_of_the_others(at: int) -> None:
    blob = bytearray(sealed_blob(_LENGTH))
    blob[at] ^= 0x80
    reader = reader_of(_LENGTH)
    reader.open_header(blob[:HEADER])
    with pytest.raises(Unreadable) as raised:
        reader.open_chunks(0, blob[HEADER:-TRAILER])
    assert CONTENT[:16] not in repr(raised.value.__dict__).encode()


# --- C2 ---


def _chunks(blob: bytes, count: int) -> list[bytes]:
    return [blob[HEADER + k * SEALED_CHUNK : HEADER + (k + 1) * SEALED_CHUNK] for k in range(count)]


def test_c2_every_permutation_of_three_chunks() -> None:
    blob = sealed_blob(3 * CHUNK)
    chunks, rest = _chunks(blob, 3), blob[HEADER + 3 * SEALED_CHUNK : -TRAILER]
    for order in itertools.permutations(range(3)):
        changed = redigested(blob[:HEADER] + b"".join(chunks[k] for k in order) + rest)
        if order == (0, 1, 2):
            assert read_all(reader_of(3 * CHUNK), changed) == CONTENT[: 3 * CHUNK]
        else:
            both_refuse(changed, 3 * CHUNK)


def test_c2_no_chunk_opens_in_anothers_place() -> None:
    blob = sealed_blob(3 * CHUNK)
    reader = reader_of(3 * CHUNK)
    reader.open_header(blob[:HEADER])
    for place, (number, chunk) in itertools.product(range(3), enumerate(_chunks(blob, 3))):
        if place != number:
            with pytest.raises(Unreadable):
                reader.open_chunks(place, chunk)


@pytest.mark.parametrize("dropped", [0, 1, 2])
def test_c2_a_dropped_chunk(dropped: int) -> None:
    blob = sealed_blob(3 * CHUNK)
    kept = [chunk for k, chunk in enumerate(_chunks(blob, 3)) if k != dropped]
    changed = redigested(blob[:HEADER] + b"".join(kept) + blob[HEADER + 3 * SEALED_CHUNK : -TRAILER])
    both_refuse(changed, 3 * CHUNK)
    both_refuse(changed, 2 * CHUNK)


@pytest.mark.parametrize("doubled", [0, 1, 2])
def test_c2_a_doubled_chunk(doubled: int) -> None:
    blob = sealed_blob(3 * CHUNK)
    chunks = _chunks(blob, 3)
    chunks.insert(doubled, chunks[doubled])
    changed = redigested(blob[:HEADER] + b"".join(chunks) + blob[HEADER + 3 * SEALED_CHUNK : -TRAILER])
    both_refuse(changed, 3 * CHUNK)
    both_refuse(changed, 4 * CHUNK)


def test_c2_chunks_of_two_messages_under_one_key_do_not_mix() -> None:
    one, other = sealed_blob(_LENGTH), sealed_blob(_LENGTH)
    for cut in (HEADER, HEADER + SEALED_CHUNK, HEADER + 2 * SEALED_CHUNK):
        both_refuse(redigested(one[:cut] + other[cut:-TRAILER]), _LENGTH)


@pytest.mark.requirement(12)
def test_c2_blobs_swapped_between_segments_documents_and_offsets() -> None:
    """A blob opens in its own place only: another segment, another key, another offset, another suffix are refused."""
    blob = sealed_blob(100)
    assert open_part(KEY, blob, segment=SEGMENT, offset=0) == CONTENT[:100]
    both_refuse(blob, 100, segment=new_id())
    both_refuse(blob, 100, key=new_secret())
    both_refuse(blob, 100, offset=PART_SIZE)
    both_refuse(sealed_blob(100, offset=PART_SIZE), 100)
    for mine, theirs in ((None, bytes(8)), (bytes(8), None), (bytes(8), bytes(7) + b"\1")):
        sealed = seal_part(KEY, b"x", segment=SEGMENT, offset=0, suffix=mine)
        with pytest.raises(Unreadable):
            open_part(KEY, sealed, segment=SEGMENT, offset=0, suffix=theirs)
        reader = PartReader(KEY, segment=SEGMENT, offset=0, suffix=theirs, length=1)
        with pytest.raises(Unreadable):
            reader.open_header(sealed[:HEADER])


# --- C3 ---


@pytest.mark.parametrize("length", [0, 1, CHUNK, CHUNK + 1, 2 * CHUNK, _LENGTH])
def test_c3_cut_at_and_beside_every_edge(length: int) -> None:
    blob = sealed_blob(length)
    message = blob[:-TRAILER]
    edges = {0, 1, SALT, HEADER - 1, HEADER, len(message) - 1}
    for k in range(length // CHUNK + 1):
        start = HEADER + k * SEALED_CHUNK
        edges |= {
            start - 1,
            start,
            start + 1,
            start + TAG - 1,
            start + TAG,
            start + CHUNK,
            start + SEALED_CHUNK - 1,
        }
    for edge in sorted(at for at in edges if 0 <= at < len(message)):
        both_refuse(redigested(message[:edge]), length)
        # Nor does a reader open it that was told the shorter length.
        shorter = max(0, edge - HEADER - TAG)
        shorter -= TAG * (shorter // SEALED_CHUNK)
        if shorter < length:
            with pytest.raises(Unreadable):
                read_all(reader_of(shorter), redigested(message[:edge]))


@pytest.mark.parametrize("length", [0, 1, CHUNK - 1, CHUNK, _LENGTH])
def test_c3_appended_bytes(length: int) -> None:
    message = sealed_blob(length)[:-TRAILER]
    for more in (b"\0", bytes(TAG - 1), bytes(TAG), bytes(SEALED_CHUNK), message[HEADER:], message):
        changed = redigested(message + more)
        with pytest.raises(Unreadable):
            open_part(KEY, changed, segment=SEGMENT, offset=0)
        reader = reader_of(length)
        reader.open_header(changed[:HEADER])
        with pytest.raises(Unreadable):
            reader.open_chunks(0, changed[HEADER:-TRAILER])
        with pytest.raises(Unreadable):
            read_all(reader_of(min(length + len(more), PART_SIZE)), changed)


def test_c3_a_full_chunk_is_no_last_chunk() -> None:
    """The blob ends at a chunk's edge, and the reader is told that it is complete there."""
    blob = sealed_blob(2 * CHUNK)
    reader = reader_of(CHUNK)
    reader.open_header(blob[:HEADER])
    assert reader.open_chunks(0, blob[HEADER : HEADER + SEALED_CHUNK]) == CONTENT[:CHUNK]
    span = reader.last_span()
    with pytest.raises(Unreadable):
        reader.open_chunks(span.first_chunk, blob[span.blob_start : span.blob_stop])
    with pytest.raises(Unreadable):
        reader.open_chunks(0, blob[HEADER : HEADER + 2 * SEALED_CHUNK])


@pytest.mark.parametrize("size", [0, 1, TAG - 1, TAG, SEALED_CHUNK - 1, SEALED_CHUNK + 1, 3 * SEALED_CHUNK])
def test_c3_a_piece_of_another_length_is_refused(size: int) -> None:
    reader = reader_of(_LENGTH)
    blob = sealed_blob(_LENGTH)
    reader.open_header(blob[:HEADER])
    with pytest.raises(Unreadable):
        reader.open_chunks(0, (blob[HEADER:] + bytes(CHUNK))[:size])
    with pytest.raises(ValueError):
        reader.open_chunks(-1, blob[HEADER : HEADER + SEALED_CHUNK])


@pytest.mark.parametrize("told", [0, 4, 6, 100, CHUNK - 1])
def test_c3_the_last_chunk_must_have_the_length_of_the_part_list(told: int) -> None:
    """An authentic blob of 5 bytes in the place of a part that the signed list gives another length."""
    blob = sealed_blob(5)
    reader = reader_of(told)
    reader.open_header(blob[:HEADER])
    with pytest.raises(Unreadable):
        reader.open_chunks(0, blob[HEADER:-TRAILER])


@pytest.mark.parametrize("size", [0, 1, HEADER - 1, HEADER + 1])
def test_c3_a_header_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(Unreadable):
        reader_of(5).open_header(sealed_blob(5)[:size])


@pytest.mark.parametrize("blob", [b"", bytes(31), bytes(32), bytes(103)])
def test_c3_a_blob_too_short_for_a_digest(blob: bytes) -> None:
    assert not digest_matches(blob)
    assert not digest_matches(redigested(blob)[:103])


# --- C4, C5 ---


def test_c4_every_bit_of_the_header() -> None:
    blob = sealed_blob(100)
    for at, bit in itertools.product(range(HEADER), range(8)):
        damaged = bytearray(blob)
        damaged[at] ^= 1 << bit
        with pytest.raises(Unreadable):
            reader_of(100).open_header(damaged[:HEADER])
        if bit == 0:
            both_refuse(redigested(bytes(damaged[:-TRAILER])), 100)


def test_c4_another_format_version_is_refused() -> None:
    """What a later or older format would have sealed under the same key does not open as version 1."""
    context = enc(PART, SEGMENT, 0, None)
    for other in (
        context.replace(b"/v1/", b"/v2/"),
        context.replace(b"/v1/", b"/v0/"),
        context[4:],
        b"\0" + context,
    ):
        message = seal(KEY, CONTENT[:100], other)
        both_refuse(redigested(message), 100)


def test_c5_old_bytes_under_new_keys() -> None:
    """Version 1's blob in version 2's place: each version has segments and keys of its own."""
    old = sealed_blob(100, key=new_secret(), segment=new_id())
    new_key, new_segment = new_secret(), new_id()
    both_refuse(old, 100, key=new_key, segment=new_segment)


def test_c10_the_same_content_twice_shares_no_bytes() -> None:
    one, other = sealed_blob(64), sealed_blob(64, key=new_secret(), segment=new_id())
    pieces = {one[at : at + 8] for at in range(len(one) - 8)}
    assert not any(other[at : at + 8] in pieces for at in range(len(other) - 8))


# --- names ---


def test_blob_names() -> None:
    assert blob_name(SEGMENT, 0) == "000102030405060708090a0b0c0d0e0f/0000000000000000"
    assert blob_name(SEGMENT, PART_SIZE) == "000102030405060708090a0b0c0d0e0f/0000000000800000"
    assert (
        blob_name(SEGMENT, 0, b"\xff" * 8)
        == "000102030405060708090a0b0c0d0e0f/0000000000000000.ffffffffffffffff"
    )


@pytest.mark.parametrize(
    ("segment", "offset", "suffix"),
    [
        (bytes(15), 0, None),
        (SEGMENT, -1, None),
        (SEGMENT, 1 << 63, None),
        (SEGMENT, 0, b""),
        (SEGMENT, 0, bytes(9)),
    ],
)
def test_a_part_without_a_proper_place_is_refused(segment: bytes, offset: int, suffix: bytes | None) -> None:
    with pytest.raises(ValueError):
        blob_name(segment, offset, suffix)
    with pytest.raises(ValueError):
        seal_part(KEY, b"", segment=segment, offset=offset, suffix=suffix)


# PartStream: from the beginning on, by the library's own decryptor


def stream_of(length: int) -> PartStream:
    return PartStream(KEY, segment=SEGMENT, offset=0, suffix=None, length=length)


def stream_all(length: int, message: bytes, step: int) -> bytes:
    stream = stream_of(length)
    return b"".join(stream.open(message[at : at + step]) for at in range(0, len(message), step))


@pytest.mark.parametrize("length", SIZES)
@pytest.mark.parametrize("step", [1000, SEALED_CHUNK - 1, SEALED_CHUNK, HEADER + 2 * SEALED_CHUNK, 10**6])
def test_a_stream_gives_the_plaintext_by_any_step(length: int, step: int) -> None:
    message = sealed_blob(length)[:-TRAILER]
    assert stream_all(length, message, step) == CONTENT[:length]


def test_a_stream_gives_each_whole_chunk_at_once() -> None:
    message = sealed_blob(2 * CHUNK + 5)[:-TRAILER]
    stream, end = stream_of(2 * CHUNK + 5), HEADER + SEALED_CHUNK
    assert stream.open(message[:HEADER]) == b""
    assert stream.open(message[HEADER:end]) == CONTENT[:CHUNK]
    assert stream.open(message[end:]) == CONTENT[CHUNK : 2 * CHUNK + 5]


@pytest.mark.parametrize("at", [0, SALT, HEADER, HEADER + SEALED_CHUNK - 1, HEADER + SEALED_CHUNK, -1])
def test_c1_a_stream_gives_nothing_of_a_changed_chunk(at: int) -> None:
    message = bytearray(sealed_blob(CHUNK + 9)[:-TRAILER])
    message[at] ^= 1
    found = b""
    stream = stream_of(CHUNK + 9)
    with pytest.raises(Unreadable):
        for start in range(0, len(message), 100):
            found += stream.open(bytes(message[start : start + 100]))
    assert found in (b"", CONTENT[:CHUNK])


@pytest.mark.parametrize("length", [CHUNK, 2 * CHUNK, 2 * CHUNK + 5])
def test_c3_a_stream_notices_a_message_of_another_length(length: int) -> None:
    """Longer, or cut at a chunk's edge: the last chunk is always a short one."""
    message = sealed_blob(length)[:-TRAILER]
    with pytest.raises(Unreadable):
        stream_of(length).open(message + bytes(1))
    cut = message[: HEADER + SEALED_CHUNK]
    with pytest.raises(Unreadable):
        stream_of(CHUNK - TAG).open(cut[: HEADER + CHUNK])
    longer = sealed_blob(length + CHUNK)[: len(message)]
    with pytest.raises(Unreadable):
        stream_of(length).open(longer)


@given(st.integers(0, 3 * CHUNK + 5), st.lists(st.integers(0, 20_000), max_size=8))
@settings(max_examples=60)
def test_a_stream_gives_only_what_the_reader_gives(length: int, cuts: list[int]) -> None:
    blob = sealed_blob(length)
    message, stream, found = blob[:-TRAILER], stream_of(length), b""
    for step in [*cuts, len(message)]:
        piece, message = message[:step], message[step:]
        found += stream.open(piece) if piece else b""
    assert found == read_all(reader_of(length), blob)
