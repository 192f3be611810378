"""HKDF-SHA256 by purpose: the only way to make one key of another."""

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from vault.crypto.encoding import Field, enc
from vault.crypto.purposes import Purpose


def derive(
    key: bytes, purpose: Purpose, *fields: Field, salt: bytes | None = None, length: int = 32
) -> bytes:
    """Derive `length` bytes from a uniformly random 32-byte key, bound to a purpose and its fields (RFC 5869).

    Never for a passphrase: that is what `passphrase.derive_kek` is for.
    """
    if len(key) != 32:
        raise ValueError("a key is 32 bytes")
    return hkdf_sha256(key, salt, enc(purpose, *fields), length)


def hkdf_sha256(key: bytes, salt: bytes | None, info: bytes, length: int) -> bytes:
    """HKDF with SHA-256 as RFC 5869 has it. Everything but the published test cases goes through `derive`."""
    return HKDF(algorithm=SHA256(), length=length, salt=salt, info=info).derive(key)
