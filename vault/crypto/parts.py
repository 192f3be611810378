"""Parts: one blob each, a Cobblestone-256 message followed by the BLAKE3 digest of its bytes.

``seal_part`` writes through the library; ``PartReader`` is our own random access to the published format, so
that a range is read and authenticated without the bytes before it. Chunk k of a blob lies at 56 + 16400 k;
the last chunk is always shorter than 16 KiB, which authenticates the length (C3). Source: c2sp.org/chunked-
encryption.
"""

import hmac
from typing import NamedTuple, TypeAlias

from blake3 import blake3
from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512, HashAlgorithm
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from vault.crypto.encoding import enc
from vault.crypto.purposes import PART
from vault.crypto.sealing import CHUNK, COMMITMENT, HEADER, SALT, SEALED_CHUNK, TAG, announce, sealed_size
from vault.errors import Unreadable

__all__ = [
    "CHUNK", "HEADER", "PART_SIZE", "TRAILER", "MessageReader", "PartReader", "PartSealer", "PartStream", "Span",
    "blob_name", "blob_size", "digest_matches", "open_part", "plain_length", "seal_part",
]  # fmt: skip

Buffer: TypeAlias = bytes | bytearray | memoryview

PART_SIZE = 8 * 1024 * 1024  # bytes of plaintext, the most that a part may hold
TRAILER = 32  # bytes of BLAKE3
SUFFIX = 8  # bytes

_INFO = b"c2sp.org/chunked-encryption@v1+"
_PIECE = 512 * 1024
_NONCE = 12


def blob_name(segment: bytes, offset: int, suffix: bytes | None = None) -> str:
    """Name the blob of a part: segment id, the offset in it as 16 hex digits, and the suffix where it has one."""
    _check_place(segment, offset, suffix)
    name = f"{segment.hex()}/{offset:016x}"
    return name if suffix is None else f"{name}.{suffix.hex()}"


def _check_place(segment: bytes, offset: int, suffix: bytes | None) -> None:
    if len(segment) != 16 or not 0 <= offset < 1 << 63 or (suffix is not None and len(suffix) != SUFFIX):
        raise ValueError("a part lies in a segment (16 bytes) at an offset, with a suffix of 8 bytes or none")


def blob_size(length: int) -> int:
    """Give the exact size of the blob of a part of `length` bytes: 56 + 16400 (n // 16384) + n % 16384 + 16 + 32."""
    return sealed_size(length) + TRAILER


def plain_length(size: int) -> int:
    """Give the length of the part whose blob has this size; a size that no part has raises Unreadable."""
    chunks, rest = divmod(size - HEADER - TAG - TRAILER, SEALED_CHUNK)
    length = CHUNK * chunks + rest
    if chunks < 0 or rest >= CHUNK or length > PART_SIZE:
        raise Unreadable("blob size")
    return length


def _context(segment: bytes, offset: int, suffix: bytes | None) -> bytes:
    _check_place(segment, offset, suffix)
    return enc(PART, segment, offset, suffix)


class PartSealer:
    """Encrypt one part of at most 8 MiB as its bytes come, into the one buffer that becomes its blob.

    ``expected`` is how many bytes will come at most; where more come, the buffer grows once. Each sealer draws a new
    salt, so that a part that is tried again is a new message (C6).
    """

    def __init__(
        self, segment_key: bytes, expected: int, *, segment: bytes, offset: int, suffix: bytes | None = None
    ) -> None:
        self.length = 0
        self._key = segment_key
        self._context = _context(segment, offset, suffix)
        self._encryptor = Cobblestone256Encryptor(segment_key, self._context)
        self._digest = blake3()
        self._blob = memoryview(bytearray(blob_size(min(expected, PART_SIZE))))
        self._written = 0

    def add(self, plaintext: Buffer) -> None:
        """Encrypt the next bytes of the part."""
        plain = memoryview(plaintext).cast("B")
        self.length += len(plain)
        if self.length > PART_SIZE:
            raise ValueError("a part is at most 8 MiB")
        if blob_size(self.length) > len(self._blob):
            grown = memoryview(bytearray(blob_size(PART_SIZE)))
            grown[: self._written] = self._blob[: self._written]
            self._blob = grown
        # By pieces, so that the digest reads each from the processor's cache.
        for at in range(0, len(plain), _PIECE):
            count = self._encryptor.update_into(plain[at : at + _PIECE], self._blob[self._written :])
            self._wrote(count)

    def _wrote(self, count: int) -> None:
        self._digest.update(self._blob[self._written : self._written + count])
        self._written += count

    def finish(self) -> memoryview:
        """Give the whole blob, read-only."""
        last = self._encryptor.finalize()
        self._blob[self._written : self._written + len(last)] = last
        self._wrote(len(last))
        self._blob[self._written : self._written + TRAILER] = self._digest.digest()
        announce(self._key, bytes(self._blob[:SALT]), self._context)
        return self._blob[: self._written + TRAILER].toreadonly()


def seal_part(
    segment_key: bytes, plaintext: Buffer, *, segment: bytes, offset: int, suffix: bytes | None = None
) -> memoryview:
    """Encrypt one part of at most 8 MiB that is in memory as a whole; gives the blob, read-only."""
    plain = memoryview(plaintext).cast("B")
    sealer = PartSealer(segment_key, len(plain), segment=segment, offset=offset, suffix=suffix)
    sealer.add(plain)
    return sealer.finish()


def digest_matches(blob: Buffer) -> bool:
    """Tell whether a blob's trailing BLAKE3 digest fits it. This finds damage without keys; it authenticates
    nothing.
    """
    view = memoryview(blob)
    if len(view) < HEADER + TAG + TRAILER:
        return False
    return hmac.compare_digest(blake3(view[:-TRAILER]).digest(), view[-TRAILER:])


class Span(NamedTuple):
    """Where whole sealed chunks lie in a blob: the first one's number, and the byte range [blob_start, blob_stop)."""

    first_chunk: int
    blob_start: int
    blob_stop: int

    @property
    def plain_start(self) -> int:
        """The offset in the plaintext of the first byte that these chunks open to."""
        return self.first_chunk * CHUNK


class MessageReader:
    """Read any range of a Cobblestone-256 message. Give it the first 56 bytes, then the spans it asks for.

    `length` is that of the plaintext; it comes from something signed, never from the store. One reader serves one
    thread at a time.
    """

    __slots__ = ("_aead", "_base_nonce", "_context", "_key", "_last_chunk", "_last_size", "length")

    # Cobblestone-256. The specification's test cases for other hashes and keys run in a subclass of the tests.
    _HASH: type[HashAlgorithm] = SHA512
    _AEAD = b"AEAD_AES_256_GCM"
    _KEY = 32

    def __init__(self, key: bytes, context: bytes, length: int) -> None:
        if len(key) != self._KEY:
            raise ValueError(f"a key is {self._KEY} bytes")
        if length < 0:
            raise ValueError("a length is not negative")
        self.length = length
        self._key = key
        self._context = context
        self._last_chunk = length // CHUNK
        self._last_size = length % CHUNK + TAG
        self._aead: AESGCM | None = None
        self._base_nonce = 0

    def open_header(self, header: Buffer) -> None:
        """Derive the message's key from its first 56 bytes and check the key commitment, or raise Unreadable."""
        if len(header) != HEADER:
            raise Unreadable("blob header")
        info = _INFO + self._AEAD + b"\0" + bytes(header[:SALT]) + self._context
        size = self._KEY + _NONCE + COMMITMENT
        derived = HKDFExpand(algorithm=self._HASH(), length=size, info=info).derive(self._key)
        key, base_nonce, commitment = (
            derived[: self._KEY],
            derived[self._KEY : -COMMITMENT],
            derived[-COMMITMENT:],
        )
        if not hmac.compare_digest(commitment, header[SALT:]):
            raise Unreadable("key commitment")
        self._aead = AESGCM(key)
        self._base_nonce = int.from_bytes(base_nonce, "big")

    def span(self, start: int, stop: int) -> Span:
        """Give the chunks that hold the plaintext range [start, stop)."""
        if not 0 <= start <= stop <= self.length:
            raise ValueError("the range is not in this message")
        first = start // CHUNK
        return self._span(first, max(first, (stop - 1) // CHUNK))

    def last_span(self) -> Span:
        """Give the last chunk, which alone authenticates the length. It may open to nothing."""
        return self._span(self._last_chunk, self._last_chunk)

    def _span(self, first: int, last: int) -> Span:
        end = HEADER + SEALED_CHUNK * last + (self._last_size if last == self._last_chunk else SEALED_CHUNK)
        return Span(first, HEADER + SEALED_CHUNK * first, end)

    def open_chunks(self, first_chunk: int, ciphertext: Buffer) -> bytes:
        """Open consecutive whole sealed chunks, the first of them number `first_chunk`.

        All are authenticated before anything is returned; a single bad one, or a chunk of a length that its
        place does not have, raises Unreadable. `open_header` goes first.
        """
        if self._aead is None:
            raise ValueError("open_header goes first")
        view = memoryview(ciphertext)
        full, rest = divmod(len(view), SEALED_CHUNK)
        beyond = first_chunk + full
        if rest:
            if beyond != self._last_chunk or rest != self._last_size:
                raise Unreadable("chunk length")
        elif not full or beyond > self._last_chunk:
            # A full chunk in the last one's place: a message that was cut at a chunk's edge, or goes on (C3).
            raise Unreadable("chunk count")
        if first_chunk < 0:
            raise ValueError("chunks count from 0")
        decrypt, base = self._aead.decrypt, self._base_nonce
        try:
            return b"".join(
                [
                    decrypt(
                        (base ^ (first_chunk + k)).to_bytes(_NONCE, "big"), view[at : at + SEALED_CHUNK], None
                    )
                    for k, at in enumerate(range(0, len(view), SEALED_CHUNK))
                ]
            )
        except InvalidTag as error:
            raise Unreadable("chunk") from error


class PartReader(MessageReader):
    """Read any range of one part of `length` bytes, as the signed part list says it."""

    __slots__ = ()

    def __init__(
        self, segment_key: bytes, *, segment: bytes, offset: int, suffix: bytes | None, length: int
    ) -> None:
        if length > PART_SIZE:
            raise ValueError("a part is at most 8 MiB")
        super().__init__(segment_key, _context(segment, offset, suffix), length)


class PartStream:
    """Open one part of `length` bytes from its beginning on, through the library's own decryptor.

    A third cheaper than `PartReader`, which begins anywhere. What is given out is authenticated; the length is when
    the last byte of the message has come. One stream serves one thread at a time.
    """

    __slots__ = ("_decryptor", "_left")

    def __init__(
        self, segment_key: bytes, *, segment: bytes, offset: int, suffix: bytes | None, length: int
    ) -> None:
        self._decryptor = Cobblestone256Decryptor(segment_key, _context(segment, offset, suffix))
        self._left = sealed_size(length)

    def open(self, ciphertext: Buffer) -> bytes:
        """Open the next bytes of the message, the 56 of its header first; gives all whole chunks among them.

        Raises Unreadable, and then must not be used again.
        """
        self._left -= len(ciphertext)
        if self._left < 0:
            raise Unreadable("chunk count")
        try:
            plain = self._decryptor.update(ciphertext)
            return plain if self._left else plain + self._decryptor.finalize()
        except InvalidTag as error:
            raise Unreadable("chunk") from error


def open_part(
    segment_key: bytes, blob: Buffer, *, segment: bytes, offset: int, suffix: bytes | None = None
) -> bytes:
    """Open a whole blob through the library's own decryptor, after its digest; anything wrong raises Unreadable."""
    if not digest_matches(blob):
        raise Unreadable("blob digest")
    decryptor = Cobblestone256Decryptor(segment_key, _context(segment, offset, suffix))
    try:
        return decryptor.update(memoryview(blob)[:-TRAILER]) + decryptor.finalize()
    except InvalidTag as error:
        raise Unreadable("blob") from error
