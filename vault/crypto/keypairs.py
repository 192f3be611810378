"""The two RSA pairs of a user: *wrap* (OAEP only) and *sign* (PSS only), both with SHA-256 and MGF1-SHA-256.

A public key is an attacker's input: it is checked when the object is built (K5). A private key is parsed
only after an authenticated seal has opened (K4), so that loading may leave out the costly check of its
numbers.
"""

import hashlib
import hmac

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
)

from vault.crypto.encoding import enc
from vault.crypto.purposes import FINGERPRINT, KEY_ROTATION
from vault.errors import Unreadable

SMALLEST_BITS = 2048
LARGEST_BITS = 4096
EXPONENT = 65_537
PSS_SALT = 32


def _oaep(label: bytes) -> padding.OAEP:
    return padding.OAEP(mgf=padding.MGF1(SHA256()), algorithm=SHA256(), label=label)


def _pss() -> padding.PSS:
    return padding.PSS(mgf=padding.MGF1(SHA256()), salt_length=PSS_SALT)


def _check_bounds(numbers: rsa.RSAPublicNumbers) -> None:
    bits = numbers.n.bit_length()
    if not SMALLEST_BITS <= bits <= LARGEST_BITS or bits % 8 or numbers.e != EXPONENT or numbers.n % 2 == 0:
        raise Unreadable("RSA key out of bounds")


def _load_public(der: bytes) -> rsa.RSAPublicKey:
    if len(der) > 1024:
        # A SubjectPublicKeyInfo of 4096 bits has 550 bytes: nothing larger is parsed.
        raise Unreadable("public key too long")
    try:
        key = load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Unreadable("public key does not parse") from error
    if not isinstance(key, rsa.RSAPublicKey):
        raise Unreadable("public key is not RSA")
    return key


def _public_der(key: rsa.RSAPublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _private_der(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


class PublicKeys:
    """Wrap keys for a user and verify what he signed. Built from two SubjectPublicKeyInfo DERs, or Unreadable."""

    __slots__ = ("_sign", "_wrap", "fingerprint", "sign_der", "wrap_der")

    def __init__(self, wrap_der: bytes, sign_der: bytes) -> None:
        self._take(_load_public(wrap_der), _load_public(sign_der))
        if (self.wrap_der, self.sign_der) != (wrap_der, sign_der):
            raise Unreadable("public key is not canonical DER")

    @classmethod
    def _of(cls, wrap: rsa.RSAPublicKey, sign: rsa.RSAPublicKey) -> "PublicKeys":
        made = cls.__new__(cls)
        made._take(wrap, sign)
        return made

    def _take(self, wrap: rsa.RSAPublicKey, sign: rsa.RSAPublicKey) -> None:
        numbers = wrap.public_numbers(), sign.public_numbers()
        for one in numbers:
            _check_bounds(one)
        if numbers[0].n == numbers[1].n:
            raise Unreadable("one key for two purposes")
        self._wrap = wrap
        self._sign = sign
        self.wrap_der: bytes = _public_der(wrap)
        self.sign_der: bytes = _public_der(sign)
        self.fingerprint: bytes = hashlib.sha256(enc(FINGERPRINT, self.wrap_der, self.sign_der)).digest()

    @property
    def bits(self) -> int:
        """The size of the smaller of the two."""
        return min(self._wrap.key_size, self._sign.key_size)

    def wrap(self, label: bytes, key: bytes) -> bytes:
        """Encrypt a key to this user (RSA-OAEP), bound to `label`, which comes from `enc` only.

        OAEP authenticates nobody: anybody can wrap. Compare the fingerprint with the contact before, and see
        who signed the grant after.
        """
        if not label:
            raise ValueError("a wrap has a label")
        return self._wrap.encrypt(key, _oaep(label))

    def verify(self, message: bytes, signature: bytes) -> None:
        """Raise Unreadable unless `signature` (RSA-PSS, salt of 32 bytes) is this user's for `message`."""
        try:
            self._sign.verify(signature, message, _pss(), SHA256())
        except InvalidSignature as error:
            raise Unreadable("signature") from error


class PrivateKeys:
    """Unwrap and sign for a user. Built from two PKCS#8 DERs *that came out of an authenticated seal*, or
    were just made.

    The numbers are not checked against each other here: `admit_keys` does that once, when keys enter.
    """

    __slots__ = ("_sign", "_wrap", "public", "sign_der", "wrap_der")

    def __init__(self, wrap_der: bytes, sign_der: bytes) -> None:
        self._wrap = _load_private(wrap_der, checked=False)
        self._sign = _load_private(sign_der, checked=False)
        self.public = PublicKeys._of(self._wrap.public_key(), self._sign.public_key())
        self.wrap_der = wrap_der
        self.sign_der = sign_der

    def unwrap(self, label: bytes, wrapped: bytes) -> bytes:
        """Decrypt what `PublicKeys.wrap` made for this user under the same label; anything else raises Unreadable."""
        try:
            return self._wrap.decrypt(wrapped, _oaep(label))
        except ValueError as error:
            raise Unreadable("wrapped key") from error

    def sign(self, message: bytes) -> bytes:
        """Sign a message, which comes from `enc` only (RSA-PSS, random salt of 32 bytes)."""
        return self._sign.sign(message, _pss(), SHA256())

    def __repr__(self) -> str:
        return f"<PrivateKeys {self.public.fingerprint.hex()[:8]}>"


def _load_private(der: bytes, *, checked: bool) -> rsa.RSAPrivateKey:
    try:
        # Left unchecked, this takes 3 us instead of 28 ms. Sound only for keys out of an authenticated seal
        # (K4).
        key = load_der_private_key(der, None, unsafe_skip_rsa_key_validation=not checked)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Unreadable("private key does not parse") from error
    if not isinstance(key, rsa.RSAPrivateKey):
        raise Unreadable("private key is not RSA")
    return key


def generate_keys(bits: int = SMALLEST_BITS) -> PrivateKeys:
    """Make both pairs (about 40 ms each at 2048 bits). The generator's result passes the full check before
    it returns.
    """
    if not SMALLEST_BITS <= bits <= LARGEST_BITS or bits % 8:
        raise ValueError("RSA keys have 2048 to 4096 bits")
    made = [rsa.generate_private_key(public_exponent=EXPONENT, key_size=bits) for _ in range(2)]
    return admit_keys(_private_der(made[0]), _private_der(made[1]))


def admit_keys(wrap_der: bytes, sign_der: bytes) -> PrivateKeys:
    """Take keys in for the first time, with the full check of their numbers (30 ms each at 2048 bits, 200 at 4096)."""
    for der in (wrap_der, sign_der):
        _load_private(der, checked=True)
    return PrivateKeys(wrap_der, sign_der)


def load_private(wrap_der: bytes, sign_der: bytes, expected: PublicKeys) -> PrivateKeys:
    """Load keys that came out of an authenticated seal, and compare what they derive with the row's public keys (K3).

    Bounds are checked too; a difference raises Unreadable.
    """
    keys = PrivateKeys(wrap_der, sign_der)
    if not hmac.compare_digest(keys.public.fingerprint, expected.fingerprint):
        raise Unreadable("private keys are not those of the public keys")
    return keys


def sign_statement(
    old: PrivateKeys, *, user: bytes, old_key_version: int, new_key_version: int, new_fingerprint: bytes
) -> bytes:
    """Say with the old pair that the new one follows it; never where somebody else may know the old one."""
    return old.sign(
        enc(KEY_ROTATION, user, old_key_version, old.public.fingerprint, new_key_version, new_fingerprint)
    )


def verify_statement(
    old: PublicKeys,
    statement: bytes,
    *,
    user: bytes,
    old_key_version: int,
    new_key_version: int,
    new_fingerprint: bytes,
) -> None:
    """Raise Unreadable unless the holder of the old pair said that the new one follows it, in this order."""
    old.verify(
        enc(KEY_ROTATION, user, old_key_version, old.fingerprint, new_key_version, new_fingerprint), statement
    )
