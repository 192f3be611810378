"""Make the test vectors in tests/vectors from fixed inputs: a second writer of vault/crypto/FORMAT.md.

It is written from FORMAT.md alone and imports nothing of the vault, so that the vectors do not merely repeat what the
vault's own code does. Everything that is random in the vault (salts, ids, keys, OAEP seeds, PSS salts) comes from a
SHAKE-256 stream by name here, so that a second run changes no byte. Run it with ``make vectors``.

Never use this file to protect anything: it signs and wraps with plain integers, and its randomness is no secret.
"""

import argparse
import base64
import hashlib
import hmac
import json
import sys
import unicodedata
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256, SHA512
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_private_key

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "vectors"
PROVENANCE = (
    "Made by tools/make_vectors.py (`make vectors`), an implementation of vault/crypto/FORMAT.md apart from the "
    "vault's own, from inputs.json and SHAKE-256 streams. Regenerating leaves no difference."
)
ABSENT = b"\xff\xff\xff\xff"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Case = dict[str, Any]


# --- FORMAT.md section 2: encoding ---


CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ*~$=U"


def stream(name: str, size: int) -> bytes:
    """Stand in for the random generator: the same bytes for the same name."""
    return hashlib.shake_256(b"docvault test vectors: " + name.encode()).digest(size)


def ident(name: str) -> bytes:
    return stream("id " + name, 16)


def key_of(name: str) -> bytes:
    return stream("key " + name, 32)


def u64(number: int) -> bytes:
    return number.to_bytes(8, "big")


def time64(moment: datetime) -> bytes:
    passed = moment - EPOCH
    return u64(passed.days * 86_400_000_000 + passed.seconds * 1_000_000 + passed.microseconds)


def item(value: bytes | None) -> bytes:
    return ABSENT if value is None else len(value).to_bytes(4, "big") + value


def enc(purpose: str, *fields: bytes | None) -> bytes:
    """Join a purpose and its fields, each already in its byte form."""
    return b"".join(item(value) for value in (("docvault/v1/" + purpose).encode(), *fields))


def listed(*fields: bytes | None) -> bytes:
    return b"".join(item(value) for value in fields)


# --- section 3: sealing ---


def cobblestone(key: bytes, plaintext: bytes, context: bytes, salt: bytes) -> bytes:
    info = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0" + salt + context
    derived = HKDFExpand(algorithm=SHA512(), length=76, info=info).derive(key)
    aead, base = AESGCM(derived[:32]), int.from_bytes(derived[32:44], "big")
    sealed = salt + derived[44:]
    for number in range(len(plaintext) // 16_384 + 1):
        chunk = plaintext[16_384 * number : 16_384 * (number + 1)]
        sealed += aead.encrypt((base ^ number).to_bytes(12, "big"), chunk, None)
    return sealed


def pad(plaintext: bytes) -> bytes:
    size = 128
    while size < 4 + len(plaintext):
        size *= 2
    return (len(plaintext).to_bytes(4, "big") + plaintext).ljust(size, b"\0")


def hkdf(key: bytes, info: bytes, salt: bytes | None = None, length: int = 32) -> bytes:
    return HKDF(algorithm=SHA256(), length=length, salt=salt, info=info).derive(key)


def mac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


# --- section 6: RSA, by RFC 8017, with a given seed or salt ---


def mgf1(seed: bytes, size: int) -> bytes:
    blocks = [hashlib.sha256(seed + n.to_bytes(4, "big")).digest() for n in range(size // 32 + 1)]
    return b"".join(blocks)[:size]


def xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


class Pair:
    """One RSA pair of inputs.json, used by hand."""

    def __init__(self, pkcs8: str) -> None:
        self.pkcs8 = bytes.fromhex(pkcs8)
        loaded = load_der_private_key(self.pkcs8, None)
        if not isinstance(loaded, RSAPrivateKey):
            raise SystemExit("inputs.json holds RSA keys only")
        numbers = loaded.private_numbers()
        self.n, self.e, self.d = numbers.public_numbers.n, numbers.public_numbers.e, numbers.d
        self.spki = loaded.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def oaep(self, message: bytes, label: bytes, seed: bytes) -> bytes:
        block = hashlib.sha256(label).digest() + b"\0" * (256 - len(message) - 66) + b"\1" + message
        masked = xor(block, mgf1(seed, 223))
        encoded = b"\0" + xor(seed, mgf1(masked, 32)) + masked
        return pow(int.from_bytes(encoded, "big"), self.e, self.n).to_bytes(256, "big")

    def pss(self, message: bytes, salt: bytes) -> bytes:
        digest = hashlib.sha256(bytes(8) + hashlib.sha256(message).digest() + salt).digest()
        masked = bytearray(xor(b"\0" * (255 - 32 - len(salt) - 1) + b"\1" + salt, mgf1(digest, 223)))
        masked[0] &= 0x7F  # the modulus has 2048 bits, the encoded message 2047
        return pow(int.from_bytes(bytes(masked) + digest + b"\xbc", "big"), self.d, self.n).to_bytes(
            256, "big"
        )


class Person:
    """A user of the vectors: an id and both pairs."""

    def __init__(self, name: str, keys: dict[str, str]) -> None:
        self.id = ident("user " + name)
        self.wrap, self.sign = Pair(keys["wrap_pkcs8"]), Pair(keys["sign_pkcs8"])
        self.fingerprint = hashlib.sha256(enc("fingerprint", self.wrap.spki, self.sign.spki)).digest()
        self.key_version = 1


# --- the vectors ---

MASTER = key_of("master")
ACCOUNT_KEY = key_of("account alice")
DEK = key_of("dek")
SEGMENT_KEY = key_of("segment")
DOCUMENT, VERSION, SEGMENT = ident("document"), ident("version"), ident("segment")
MOMENT = datetime(2026, 11, 22, 1, 2, 3, 456_789, tzinfo=UTC)
LATER = datetime(2026, 11, 22, 13, 2, 3, 456_789, tzinfo=UTC)
DAY = date(2026, 11, 22)
PASSPHRASE = "cafe\u0301 unter dem Nussbaum \U0001f333"


def hexed(case: Case) -> Case:
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in case.items()}


def encoding() -> list[Case]:
    cases: list[Case] = [
        {
            "name": "part context without a suffix",
            "purpose": "docvault/v1/part",
            "fields": {"segment": SEGMENT, "offset": 8_388_608, "suffix": None},
            "encoded": enc("part", SEGMENT, u64(8_388_608), None),
        },
        {
            "name": "part context with a suffix",
            "purpose": "docvault/v1/part",
            "fields": {"segment": SEGMENT, "offset": 0, "suffix": stream("suffix", 8)},
            "encoded": enc("part", SEGMENT, u64(0), stream("suffix", 8)),
        },
        {
            "name": "session context",
            "purpose": "docvault/v1/session",
            "fields": {
                "session": ident("session"), "user": ident("user alice"), "created_at": MOMENT.isoformat(),
                "expires_at": LATER.isoformat(), "generation": 3,
            },
            "encoded": enc(
                "session", ident("session"), ident("user alice"), time64(MOMENT), time64(LATER), u64(3)
            ),
        },
        {
            "name": "subject of a throttle",
            "purpose": "docvault/v1/subject",
            "fields": {"kind": "name", "text": "alice"},
            "encoded": enc("subject", b"name", b"alice"),
        },
    ]  # fmt: skip
    return [{**case, "fields": hexed(case["fields"])} for case in cases]


def keys() -> list[Case]:
    made: list[Case] = [
        {"name": "key id", "key": MASTER, "purpose": "docvault/v1/master/key-id",
         "derived": hkdf(MASTER, enc("master/key-id"), length=8)},
    ]  # fmt: skip
    for purpose in ("accounts", "directory", "rows", "sessions", "tokens", "uploads", "flask"):
        made.append(
            {"name": f"master.{purpose}", "key": MASTER, "purpose": f"docvault/v1/master/{purpose}",
             "derived": hkdf(MASTER, enc("master/" + purpose))}
        )  # fmt: skip
    for purpose in ("private-keys", "contacts", "index", "upload-names", "rekey", "waits"):
        made.append(
            {"name": f"account {purpose}", "key": ACCOUNT_KEY, "purpose": f"docvault/v1/account/{purpose}",
             "derived": hkdf(ACCOUNT_KEY, enc("account/" + purpose))}
        )  # fmt: skip
    days = (DAY - date(1970, 1, 1)).days
    made.append(
        {"name": "upload key of a day", "key": ACCOUNT_KEY, "purpose": "docvault/v1/account/uploads",
         "day": DAY.isoformat(), "derived": hkdf(ACCOUNT_KEY, enc("account/uploads", u64(days)))}
    )  # fmt: skip
    made.append(
        {"name": "session key", "key": key_of("session secret"), "purpose": "docvault/v1/session/key",
         "salt": hkdf(MASTER, enc("master/sessions")),
         "derived": hkdf(key_of("session secret"), enc("session/key"), hkdf(MASTER, enc("master/sessions")))}
    )  # fmt: skip
    return made


def passphrases() -> list[Case]:
    normal = unicodedata.normalize("NFC", PASSPHRASE).encode()
    salt = stream("kdf salt", 16)
    kek = Argon2id(salt=salt, length=32, iterations=3, lanes=4, memory_cost=65_536).derive(normal)
    return [
        {"name": "passphrase", "typed": PASSPHRASE, "normal": normal, "memory_kib": 65_536, "iterations": 3, "lanes": 4,
         "salt": salt, "kek": kek},
    ]  # fmt: skip


def seals(alice: Person, bob: Person) -> list[Case]:
    salt = stream("kdf salt", 16)
    kek = bytes.fromhex(hexed(passphrases()[0])["kek"])
    method = ident("unlock method")
    bound = (alice.id, method, b"passphrase", u64(65_536), u64(3), u64(4), salt)
    inner = cobblestone(kek, ACCOUNT_KEY, enc("unlock/inner", *bound), stream("salt inner", 24))
    outer = cobblestone(
        hkdf(MASTER, enc("master/accounts")), inner, enc("unlock/outer", *bound), stream("salt outer", 24)
    )
    recovery = ident("recovery method")
    number = int.from_bytes(stream("recovery code", 17), "big") >> 6
    digits = "".join(CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5)) + CROCKFORD[number % 37]
    code_kek = hkdf(number.to_bytes(32, "big"), enc("recovery/kek", alice.id, recovery))
    unbound = (alice.id, recovery, b"recovery", None, None, None, None)
    by_code = cobblestone(
        hkdf(MASTER, enc("master/accounts")),
        cobblestone(code_kek, ACCOUNT_KEY, enc("unlock/inner", *unbound), stream("salt recovery inner", 24)),
        enc("unlock/outer", *unbound), stream("salt recovery outer", 24),
    )  # fmt: skip
    private = hkdf(ACCOUNT_KEY, enc("account/private-keys"))
    owned = (alice.id, u64(1), alice.fingerprint)
    session_key = hkdf(key_of("session secret"), enc("session/key"), hkdf(MASTER, enc("master/sessions")))
    session = (ident("session"), alice.id, time64(MOMENT), time64(LATER), u64(3))
    index_body = enc(
        "index/body", alice.id, alice.fingerprint, u64(4), u64(2), u64(7), u64(20_000), "Bericht – 2026.pdf".encode(),
        b"application/pdf", listed(b"Finanzen", b"2026"),
    )  # fmt: skip
    return [
        {"name": "account key", "verb": "open_account_key", "user": alice.id, "method": method, "kind": "passphrase",
         "memory_kib": 65_536, "iterations": 3, "lanes": 4, "salt": salt, "kek": kek,
         "sealed": outer, "opened": ACCOUNT_KEY},
        {"name": "account key by recovery code", "verb": "open_account_key", "user": alice.id, "method": recovery,
         "kind": "recovery", "code": digits, "number": number.to_bytes(32, "big"), "kek": code_kek, "sealed": by_code,
         "opened": ACCOUNT_KEY},
        {"name": "private wrap key", "verb": "open_private_keys", "user": alice.id, "key_version": 1,
         "fingerprint": alice.fingerprint, "opened": alice.wrap.pkcs8,
         "sealed": cobblestone(private, alice.wrap.pkcs8, enc("private-key/wrap", *owned), stream("salt wrap", 24))},
        {"name": "private sign key", "verb": "open_private_keys", "user": alice.id, "key_version": 1,
         "fingerprint": alice.fingerprint, "opened": alice.sign.pkcs8,
         "sealed": cobblestone(private, alice.sign.pkcs8, enc("private-key/sign", *owned), stream("salt sign", 24))},
        {"name": "contact", "verb": "open_contact", "user": alice.id, "other": bob.id, "opened": bob.fingerprint,
         "sealed": cobblestone(
             hkdf(ACCOUNT_KEY, enc("account/contacts")), bob.fingerprint, enc("contact", alice.id, bob.id),
             stream("salt contact", 24))},
        {"name": "session", "verb": "open_session", "session": session[0], "user": alice.id,
         "created_at": MOMENT.isoformat(), "expires_at": LATER.isoformat(), "generation": 3,
         "secret": key_of("session secret"), "opened": ACCOUNT_KEY,
         "sealed": cobblestone(session_key, ACCOUNT_KEY, enc("session", *session), stream("salt session", 24))},
        {"name": "index entry", "verb": "open_index_entry", "document": DOCUMENT, "reader": bob.id, "body": index_body,
         "opened": {"owner": alice.id.hex(), "owner_fingerprint": alice.fingerprint.hex(), "number": 4, "revision": 2,
                    "epoch": 7, "name": "Bericht – 2026.pdf", "path": ["Finanzen", "2026"],
                    "media_type": "application/pdf", "size": 20_000},
         "sealed": cobblestone(
             hkdf(ACCOUNT_KEY, enc("account/index")), pad(index_body), enc("index", DOCUMENT, bob.id),
             stream("salt index", 24))},
        {"name": "grant that waits", "verb": "open_terms", "work": ident("work"), "user": alice.id,
         "document": DOCUMENT, "reader": bob.id,
         "opened": {"since": MOMENT.isoformat(), "expires_at": LATER.isoformat(), "epoch": 7},
         "sealed": cobblestone(
             hkdf(ACCOUNT_KEY, enc("account/waits")), enc("wait/body", time64(MOMENT), time64(LATER), u64(7)),
             enc("wait", ident("work"), alice.id, DOCUMENT, bob.id), stream("salt wait", 24))},
    ]  # fmt: skip


def content(size: int) -> bytes:
    """The content of a part: the numbers 0, 1, 2 ... as u32, cut to size."""
    return b"".join(n.to_bytes(4, "big") for n in range(size // 4 + 1))[:size]


def part_blob(size: int, offset: int, suffix: bytes | None, salt: str) -> bytes:
    sealed = cobblestone(
        SEGMENT_KEY, content(size), enc("part", SEGMENT, u64(offset), suffix), stream(salt, 24)
    )
    return sealed + blake3(sealed).digest()


def parts() -> list[Case]:
    made: list[Case] = []
    for size, offset, suffix in (
        (0, 0, None),
        (1, 0, None),
        (16_384, 8_388_608, None),
        (16_385, 0, stream("suffix", 8)),
    ):
        name = f"{SEGMENT.hex()}/{offset:016x}" + (f".{suffix.hex()}" if suffix else "")
        blob = part_blob(size, offset, suffix, f"salt part {size}")
        made.append(
            {"name": f"{size} bytes", "result": "valid", "segment_key": SEGMENT_KEY, "segment": SEGMENT,
             "offset": offset, "suffix": suffix, "length": size,
             "content_sha256": hashlib.sha256(content(size)).digest(), "blob_name": name, "blob_size": len(blob),
             "blob": base64.b64encode(blob).decode()}
        )  # fmt: skip
    small = made[1]
    blob = base64.b64decode(small["blob"])

    def damaged(name: str, sealed: bytes, **changed: Any) -> Case:
        whole = sealed + blake3(sealed).digest()
        return {
            **small,
            "name": name,
            "result": "invalid",
            **changed,
            "blob": base64.b64encode(whole).decode(),
        }

    sealed = blob[:-32]
    made += [
        damaged("salt changed", bytes([sealed[0] ^ 1]) + sealed[1:]),
        damaged("commitment changed", sealed[:24] + bytes([sealed[24] ^ 1]) + sealed[25:]),
        damaged("ciphertext changed", sealed[:56] + bytes([sealed[56] ^ 1]) + sealed[57:]),
        damaged("tag changed", sealed[:-1] + bytes([sealed[-1] ^ 1])),
        damaged("cut by a byte", sealed[:-1]),
        damaged("longer by a byte", sealed + b"\0"),
        damaged("header alone", sealed[:56]),
        damaged("another offset", sealed, offset=1),
        damaged("another segment", sealed, segment=ident("another segment")),
        damaged("a suffix", sealed, suffix=stream("suffix", 8)),
        damaged("another key", sealed, segment_key=key_of("another segment")),
    ]
    return made


def manifests(alice: Person) -> list[Case]:
    parts_body = enc(
        "parts/body",
        listed(
            SEGMENT, u64(0), u64(8_388_608), None, SEGMENT, u64(8_388_608), u64(1000), stream("suffix", 8)
        ),
    )
    digest = blake3(parts_body).digest()
    size = 8_389_608
    sha = hashlib.sha256(b"the content").digest()
    body = enc(
        "manifest/body", DOCUMENT, VERSION, u64(4), u64(2), alice.id, alice.fingerprint, listed(b"Finanzen"),
        b"Bericht.pdf", b"application/pdf", u64(size), listed(SEGMENT, SEGMENT_KEY, u64(size)), digest, sha,
    )  # fmt: skip
    sealed = cobblestone(
        DEK, pad(body), enc("manifest", DOCUMENT, VERSION, u64(2)), stream("salt manifest", 24)
    )
    return [
        {"name": "part list", "encoded": parts_body, "blake3": digest,
         "parts": [{"segment": SEGMENT.hex(), "offset": 0, "length": 8_388_608, "suffix": None},
                   {"segment": SEGMENT.hex(), "offset": 8_388_608, "length": 1000,
                    "suffix": stream("suffix", 8).hex()}]},
        {"name": "manifest", "dek": DEK, "document": DOCUMENT, "version": VERSION, "number": 4, "revision": 2,
         "owner": alice.id, "owner_fingerprint": alice.fingerprint, "path": ["Finanzen"], "title": "Bericht.pdf",
         "media_type": "application/pdf", "size": size, "segment": SEGMENT, "segment_key": SEGMENT_KEY,
         "parts_blake3": digest, "sha256": sha, "body": body, "padded": pad(body), "sealed": sealed,
         "etag": mac(DEK, enc("etag", VERSION, u64(2)))[:16].hex()},
    ]  # fmt: skip


def signatures(alice: Person, bob: Person) -> list[Case]:
    manifest = hexed(manifests(alice)[1])
    sealed = bytes.fromhex(manifest["sealed"])
    digest = bytes.fromhex(manifest["parts_blake3"])
    label = enc("dek-wrap", DOCUMENT, VERSION, bob.id, u64(1), bob.fingerprint)
    made: list[Case] = [
        {"name": "fingerprint of alice", "wrap_public": alice.wrap.spki, "sign_public": alice.sign.spki,
         "fingerprint": alice.fingerprint},
        {"name": "fingerprint of bob", "wrap_public": bob.wrap.spki, "sign_public": bob.sign.spki,
         "fingerprint": bob.fingerprint},
        {"name": "DEK wrapped for bob", "document": DOCUMENT, "version": VERSION, "reader": bob.id, "key_version": 1,
         "label": label, "dek": DEK, "wrapped": bob.wrap.oaep(DEK, label, stream("oaep seed", 32))},
    ]  # fmt: skip
    for name, expires in (("grant without expiry", None), ("grant with expiry", LATER)):
        message = enc(
            "grant",
            DOCUMENT,
            VERSION,
            u64(7),
            alice.id,
            u64(1),
            bob.id,
            b"read",
            time64(expires) if expires else None,
        )
        made.append(
            {"name": name, "document": DOCUMENT, "version": VERSION, "epoch": 7, "granter": alice.id,
             "granter_key_version": 1, "reader": bob.id, "permission": "read",
             "expires_at": expires.isoformat() if expires else None, "message": message,
             "signature": alice.sign.pss(message, stream("pss " + name, 32))}
        )  # fmt: skip
    for name, origin in (("version of the server", None), ("version of an agent", ident("agent"))):
        message = enc(
            "version", DOCUMENT, VERSION, u64(4), u64(2), u64(7), alice.id, u64(1), origin,
            hashlib.sha256(sealed).digest(), digest,
        )  # fmt: skip
        made.append(
            {"name": name, "document": DOCUMENT, "version": VERSION, "number": 4, "revision": 2, "epoch": 7,
             "owner": alice.id, "owner_key_version": 1, "origin": origin, "sealed_manifest": sealed,
             "parts_digest": digest, "message": message,
             "signature": alice.sign.pss(message, stream("pss " + name, 32))}
        )  # fmt: skip
    following = stream("fingerprint of the pair that follows", 32)
    message = enc("key-rotation", alice.id, u64(1), alice.fingerprint, u64(2), following)
    made.append(
        {"name": "statement of the pair that follows", "user": alice.id, "old_key_version": 1, "new_key_version": 2,
         "new_fingerprint": following, "message": message,
         "statement": alice.sign.pss(message, stream("pss statement", 32))}
    )  # fmt: skip
    return made


def rows(alice: Person) -> list[Case]:
    key = hkdf(MASTER, enc("master/rows"))
    columns: list[tuple[str, str, Any, bytes | None]] = [
        ("owner_id", "y", alice.id.hex(), alice.id),
        ("name", "s", "Käse", "Käse".encode()),
        ("number", "i", -2, (-2).to_bytes(8, "big", signed=True)),
        ("created_at", "t", MOMENT.isoformat(), time64(MOMENT)),
        ("disabled", "b", False, b"\0"),
        ("expires_at", "n", None, None),
    ]
    body = listed(*(value for name, tag, _, raw in columns for value in (name.encode(), tag.encode(), raw)))
    message = enc("row", b"document", u64(1), DOCUMENT, u64(9), body)
    directory = hkdf(MASTER, enc("master/directory"))
    return [
        {"name": "row seal", "key": key, "table": "document", "schema": 1, "row_id": DOCUMENT, "row_version": 9,
         "columns": [[name, tag, shown] for name, tag, shown, _ in columns], "message": message,
         "seal": mac(key, message)},
        {"name": "directory", "user": alice.id, "key_version": 1, "fingerprint": alice.fingerprint,
         "mac": mac(directory, enc("directory", alice.id, u64(1), alice.fingerprint))},
        {"name": "subject", "kind": "name", "text": "alice", "mac": mac(directory, enc("subject", b"name", b"alice"))},
    ]  # fmt: skip


def audit() -> list[Case]:
    fields = listed(
        b"s", b"share", b"y", DOCUMENT, b"i", u64(5), b"t", time64(MOMENT), b"n", None
    )  # each field: an item with its tag, an item with its value
    first = hashlib.sha256(enc("audit", bytes(32), u64(1), fields)).digest()
    second = hashlib.sha256(enc("audit", first, u64(2), listed(b"s", b"revoke"))).digest()
    seal = stream("seal", 32)
    return [
        {"name": "first entry", "previous": bytes(32), "sequence": 1, "hash": first,
         "fields": [["s", "share"], ["y", DOCUMENT.hex()], ["i", 5], ["t", MOMENT.isoformat()], ["n", None]]},
        {"name": "second entry", "previous": first, "sequence": 2, "fields": [["s", "revoke"]], "hash": second},
        {"name": "touched rows", "rows": [["document", DOCUMENT.hex(), 9, seal.hex()]],
         "encoded": enc("touched/body", listed(b"document", DOCUMENT, u64(9), seal))},
    ]  # fmt: skip


def tokens(alice: Person) -> list[Case]:
    def text(raw: bytes) -> str:
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    signing = hkdf(MASTER, enc("master/tokens"))
    kid = hkdf(MASTER, enc("master/key-id"), length=8).hex()
    issued, expires = 1_795_309_323, 1_795_310_223

    def signed(header: Case, claims: Case, key: bytes) -> str:
        parts = [text(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims)]
        message = ".".join(parts)
        return message + "." + text(mac(key, message.encode()))

    header = {"alg": "HS256", "typ": "docvault-session+jwt", "kid": kid}
    claims: Case = {
        "iss": "docvault", "aud": "docvault-session", "sub": alice.id.hex(), "sid": ident("session").hex(),
        "iat": issued, "exp": expires, "sec": text(key_of("session secret")),
        "upl": [text(key_of("upload today")), text(key_of("upload yesterday"))],
    }  # fmt: skip
    shown = {
        "user": alice.id, "session": ident("session"), "secret": key_of("session secret"), "issued_at": issued,
        "expires_at": expires, "upload_today": key_of("upload today"), "upload_yesterday": key_of("upload yesterday"),
    }  # fmt: skip
    return [
        {"name": "token", "result": "valid", "now": issued + 60, "token": signed(header, claims, signing), **shown},
        {"name": "expired", "result": "invalid", "now": expires + 31, "token": signed(header, claims, signing)},
        {"name": "another type", "result": "invalid", "now": issued + 60,
         "token": signed({**header, "typ": "JWT"}, claims, signing)},
        {"name": "a key in the header", "result": "invalid", "now": issued + 60,
         "token": signed({**header, "jku": "https://example.org/"}, claims, signing)},
        {"name": "another audience", "result": "invalid", "now": issued + 60,
         "token": signed(header, {**claims, "aud": "other"}, signing)},
        {"name": "another key", "result": "invalid", "now": issued + 60,
         "token": signed(header, claims, hkdf(MASTER, enc("master/rows")))},
    ]  # fmt: skip


def uploads(alice: Person) -> list[Case]:
    today, yesterday = key_of("upload today"), key_of("upload yesterday")
    segment, expires = key_of("upload segment"), datetime(2026, 11, 24, tzinfo=UTC)
    upload, key = ident("upload"), hkdf(MASTER, enc("master/uploads"))
    kid = hkdf(MASTER, enc("master/key-id"), length=8)
    deferred, final, partial = 2**63 - 1, 2**63 - 2, 2**63

    def locked(key: bytes) -> bytes:
        context = enc("upload/segment-key", upload, alice.id)
        return cobblestone(key, segment, context, stream("salt upload segment key", 24))

    def token(field: int, under: bytes = today, until: datetime = expires, cut: int | None = None) -> bytes:
        payload = (upload + alice.id + u64(field) + time64(until) + locked(under))[:cut]
        return kid + cobblestone(key, payload, enc("upload/token"), stream(f"salt upload token {field}", 24))

    def text(raw: bytes) -> str:
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    shown: Case = {
        "result": "valid", "upload": upload, "user": alice.id, "is_partial": False, "is_final": False,
        "expires_at": expires.isoformat(), "segment_key": segment, "upload_keys": [today.hex(), yesterday.hex()],
    }  # fmt: skip
    whole = token(10_000_000_000)
    edited = bytearray(whole)
    edited[60] ^= 1
    refused: Case = {"result": "invalid", "upload_keys": [today.hex(), yesterday.hex()]}
    metadata = b"filename UXVpdHRlbmdlbGVlLm9kdA==,filetype dGV4dC9wbGFpbg=="
    body = listed(metadata, b"")
    context = enc("upload/metadata", upload, alice.id)
    return [
        {"name": "token", **shown, "length": 10_000_000_000, "token": text(whole)},
        {"name": "token of 0 bytes", **shown, "length": 0, "token": text(token(0))},
        {"name": "partial", **shown, "length": 4096, "is_partial": True, "token": text(token(partial + 4096))},
        {"name": "deferred", **shown, "length": None, "token": text(token(deferred))},
        {"name": "deferred and partial", **shown, "length": None, "is_partial": True,
         "token": text(token(partial + deferred))},
        {"name": "final", **shown, "length": None, "is_final": True, "token": text(token(final))},
        {"name": "under the key of yesterday", **shown, "length": 1, "token": text(token(1, yesterday))},
        {"name": "expired long ago", **shown, "length": 1, "expires_at": MOMENT.replace(year=2000).isoformat(),
         "token": text(token(1, until=MOMENT.replace(year=2000)))},
        {"name": "edited", **refused, "token": text(bytes(edited))},
        {"name": "of another master key", **refused, "token": text(bytes(8) + whole[8:])},
        {"name": "shorter by a byte inside", **refused, "token": text(token(1, cut=-1))},
        {"name": "cut by a character", **refused, "token": text(whole)[:-1]},
        {"name": "with padding", **refused, "token": text(whole) + "=="},
        {"name": "metadata", "result": "metadata", "upload": upload, "user": alice.id, "opened": body,
         "upload_keys": [today.hex(), yesterday.hex()],
         "sealed": cobblestone(today, pad(body), context, stream("salt upload metadata", 24))},
        {"name": "metadata of yesterday", "result": "metadata", "upload": upload, "user": alice.id, "opened": body,
         "upload_keys": [today.hex(), yesterday.hex()],
         "sealed": cobblestone(yesterday, pad(body), context, stream("salt upload metadata yesterday", 24))},
    ]  # fmt: skip


def make() -> dict[str, str]:
    """Give the text of every vector file by its name."""
    inputs = json.loads((FOLDER / "inputs.json").read_text("utf-8"))
    alice, bob = Person("alice", inputs["alice"]), Person("bob", inputs["bob"])
    files = {
        "encoding": encoding(),
        "keys": keys(),
        "passphrases": passphrases(),
        "seals": seals(alice, bob),
        "parts": parts(),
        "manifests": manifests(alice),
        "signatures": signatures(alice, bob),
        "rows": rows(alice),
        "audit": audit(),
        "tokens": tokens(alice),
        "uploads": uploads(alice),
    }
    made: dict[str, str] = {}
    for name, cases in files.items():
        whole = {"provenance": PROVENANCE, "format": "docvault/v1", "master_key": MASTER.hex()}
        text = json.dumps({**whole, "cases": [hexed(case) for case in cases]}, indent=1, ensure_ascii=False)
        made[name + ".json"] = text + "\n"
    return made


def main() -> int:
    """Write the vectors, or with --check say which file would change."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--check", action="store_true", help="write nothing; fail if a file would change")
    checking = arguments.parse_args().check
    changed = 0
    for name, text in make().items():
        path = FOLDER / name
        if not path.exists() or path.read_text("utf-8") != text:
            changed += 1
            print(("would change " if checking else "wrote ") + path.name)
            if not checking:
                path.write_text(text, "utf-8")
    print(f"{changed} of the vector files changed")
    return 1 if checking and changed else 0


if __name__ == "__main__":
    sys.exit(main())
