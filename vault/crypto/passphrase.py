"""Passphrases: made, brought to one form, stretched by Argon2id; and fingerprints shown as words.

The words are the EFF long list as the package ``diceware`` carries it, which is checked by digest.
"""

import hashlib
import importlib.util
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from vault.crypto.randomness import random_below, random_bytes
from vault.errors import BadPassphrase, CodeInvalid, Misconfigured, Unreadable

GENERATED_WORDS = 7
FINGERPRINT_WORDS = 6
LONGEST = 1024  # bytes of UTF-8 after NFC
_LONGEST_TYPED = (
    4 * LONGEST
)  # characters before NFC, which makes at most four of them one character of three bytes

_WORDS_SHA256 = "addd35536511597a02fa0a9ff1e5284677b8883b83e986e43f15a3db996b903e"


CODE_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32: no I, L, O, U
CODE_LENGTH = 26
_LOOK_ALIKES = str.maketrans("OIL", "011")


def _load_words() -> tuple[str, ...]:
    # Found without being imported: the package's own start-up code is of no use here.
    spec = importlib.util.find_spec("diceware")
    folders = spec.submodule_search_locations if spec else None
    if not folders:
        raise Misconfigured(
            "The package `diceware`, which carries the word list, is missing. Install the vault again."
        )
    listed = (Path(folders[0]) / "wordlists" / "wordlist_en_eff.txt").read_bytes()
    if hashlib.sha256(listed).hexdigest() != _WORDS_SHA256:
        raise Misconfigured(
            "The word list of the package `diceware` is not the EFF long list. Install the vault again."
        )
    return tuple(line.split("\t")[1] for line in listed.decode("ascii").splitlines())


WORDS: tuple[str, ...] = _load_words()


def generate_passphrase() -> str:
    """Make a passphrase of 7 words (90 bits), joined by single spaces. It is shown once and stored nowhere."""
    return " ".join(WORDS[random_below(len(WORDS))] for _ in range(GENERATED_WORDS))


def normalise(passphrase: str) -> bytes:
    """Bring a passphrase to the bytes that Argon2id reads: NFC, then UTF-8. Never cut, never trimmed (P4).

    Empty, longer than 1,024 bytes, or not text (a lone surrogate) raises BadPassphrase before any work.
    """
    if not passphrase:
        raise BadPassphrase("Type the passphrase.")
    if len(passphrase) > _LONGEST_TYPED:
        raise BadPassphrase(f"A passphrase has at most {LONGEST:,} bytes.")
    try:
        # Checked before NFC too, which passes lone surrogates through.
        encoded = unicodedata.normalize("NFC", passphrase).encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadPassphrase("The passphrase has characters that are not text.") from error
    if len(encoded) > LONGEST:
        raise BadPassphrase(f"A passphrase has at most {LONGEST:,} bytes.")
    return encoded


def new_code() -> str:
    """Make a code of 130 bits to type once: 26 digits and letters, none alike, in groups joined by hyphens."""
    drawn = "".join(CODE_ALPHABET[random_below(32)] for _ in range(CODE_LENGTH))
    return "-".join((drawn[:5], drawn[5:10], drawn[10:15], drawn[15:20], drawn[20:]))


def normalise_code(code: str) -> str:
    """Bring a typed code to its 26 characters: either case, hyphens and spaces anywhere, O for 0, I and L for 1.

    Anything else raises CodeInvalid.
    """
    if len(code) > 4 * CODE_LENGTH:
        raise CodeInvalid()
    plain = "".join(code.split()).replace("-", "").upper().translate(_LOOK_ALIKES)
    if len(plain) != CODE_LENGTH or not set(plain) <= set(CODE_ALPHABET):
        raise CodeInvalid()
    return plain


@dataclass(frozen=True, slots=True)
class KdfParameters:
    """What Argon2id runs with: memory in KiB, iterations, lanes, and the 16-byte salt."""

    memory_kib: int
    iterations: int
    lanes: int
    salt: bytes

    @classmethod
    def fresh(cls) -> "KdfParameters":
        """Give today's defaults with a new salt."""
        return cls(*KDF_DEFAULT, random_bytes(KDF_SALT))

    def check(self) -> None:
        """Raise Unreadable outside floor and ceiling, before anything is run or allocated (P1)."""
        cost = (self.memory_kib, self.iterations, self.lanes)
        for value, least, most in zip(cost, KDF_FLOOR, KDF_CEILING, strict=True):
            if type(value) is not int or not least <= value <= most:
                raise Unreadable("KDF parameters out of bounds")
        if type(self.salt) is not bytes or len(self.salt) != KDF_SALT:
            raise Unreadable("KDF salt of the wrong size")

    def is_current(self) -> bool:
        """Tell whether these are today's defaults; if not, the next good login seals anew with `fresh` ones."""
        return (self.memory_kib, self.iterations, self.lanes) == KDF_DEFAULT


# (memory in KiB, iterations, lanes)
KDF_DEFAULT = (65_536, 3, 4)
KDF_FLOOR = (65_536, 3, 4)
KDF_CEILING = (262_144, 10, 8)
KDF_SALT = 16


def derive_kek(passphrase: bytes, parameters: KdfParameters) -> bytes:
    """Stretch a normalised passphrase to the 32-byte KEK (Argon2id, RFC 9106). Takes about 0.1 s and 64 MiB.

    The parameters are checked first. The caller sees to it that only one runs at a time in a process.
    """
    parameters.check()
    return Argon2id(
        salt=parameters.salt,
        length=32,
        iterations=parameters.iterations,
        lanes=parameters.lanes,
        memory_cost=parameters.memory_kib,
    ).derive(passphrase)


def fingerprint_words(fingerprint: bytes) -> str:
    """Show a key fingerprint (32 bytes) as 6 words, for two people to compare by voice.

    The fingerprint as an integer, modulo 7776**6, in base 7776, most significant word first.
    """
    if len(fingerprint) != 32:
        raise ValueError("a fingerprint is 32 bytes")
    rest = int.from_bytes(fingerprint, "big") % len(WORDS) ** FINGERPRINT_WORDS
    words: list[str] = []
    for _ in range(FINGERPRINT_WORDS):
        rest, digit = divmod(rest, len(WORDS))
        words.append(WORDS[digit])
    return " ".join(reversed(words))
