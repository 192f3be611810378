"""The recovery code: made, written for people, read back, and the key that it gives.

130 random bits as 26 digits of Crockford's base 32 (crockford.com/base32.html) and his check symbol, in groups. The
code is strong by itself: no Argon2id stretches it.
"""

from vault.crypto.derivation import derive
from vault.crypto.passphrase import CODE_ALPHABET, CODE_LENGTH
from vault.crypto.purposes import RECOVERY_KEK
from vault.crypto.randomness import random_below
from vault.errors import CodeMistyped

BITS = 5 * CODE_LENGTH
CHECK_SYMBOLS = CODE_ALPHABET + "*~$=U"
GROUP = 5
_LOOK_ALIKES = str.maketrans("OIL", "011")
_LONGEST_TYPED = 4 * (CODE_LENGTH + 1)


def new_recovery_code() -> str:
    """Make a code of 130 bits, as a person writes it down. It is shown once and stored nowhere."""
    return write_recovery_code(random_below(1 << BITS).to_bytes(32, "big"))


def write_recovery_code(secret: bytes) -> str:
    """Write a code's 32 bytes as 26 digits and the check symbol, five to a group, joined by hyphens."""
    number = int.from_bytes(secret, "big")
    if len(secret) != 32 or number >> BITS:
        raise ValueError("a recovery code has 130 bits")
    digits = [CODE_ALPHABET[(number >> shift) & 31] for shift in range(BITS - 5, -1, -5)]
    plain = "".join(digits) + CHECK_SYMBOLS[number % len(CHECK_SYMBOLS)]
    return "-".join(plain[start : start + GROUP] for start in range(0, len(plain), GROUP))


def read_recovery_code(typed: str) -> bytes:
    """Read a typed code to its 32 bytes: either case, hyphens and spaces anywhere, O for 0, I and L for 1.

    A wrong length, a character that is none, and a check symbol that does not fit raise CodeMistyped: one wrong
    character and two exchanged ones are always noticed.
    """
    plain = ""
    if len(typed) <= _LONGEST_TYPED:
        plain = "".join(typed.split()).replace("-", "").upper().translate(_LOOK_ALIKES)
    digits, check = plain[:CODE_LENGTH], plain[CODE_LENGTH:]
    if len(plain) != CODE_LENGTH + 1 or not set(digits) <= set(CODE_ALPHABET):
        raise CodeMistyped
    number = 0
    for digit in digits:
        number = number << 5 | CODE_ALPHABET.index(digit)
    if check != CHECK_SYMBOLS[number % len(CHECK_SYMBOLS)]:
        raise CodeMistyped
    return number.to_bytes(32, "big")


def recovery_kek(secret: bytes, *, user: bytes, method: bytes) -> bytes:
    """Derive the KEK of a recovery code (the 32 bytes of `read_recovery_code`) for one unlock method of one user."""
    return derive(secret, RECOVERY_KEK, user, method)
