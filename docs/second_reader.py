#!/usr/bin/env python3
"""A second reader of backups, written from vault/crypto/FORMAT.md alone; it imports nothing of the vault.

It needs Python 3.11 and the package `cryptography` (50 or newer, for Argon2id), and stands here to prove two things:
that FORMAT.md is enough to get one's documents back, and that the vault's own `docvault recover` is not the only way.

    python3 second_reader.py ARCHIVE USER MASTER_KEY_FILE FOLDER [--recovery-code]  < secret

reads passphrase or recovery code from standard input, prints a line for each document, writes those that pass every
check into FOLDER, and ends with 1 when one did not. Numbers in comments are sections of FORMAT.md.
"""

import hashlib
import hmac
import itertools
import json
import pathlib
import struct
import sys
import tarfile
import time
import unicodedata
from typing import Any

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256, SHA512
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
)

CHUNK = 16_384
CODE = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
CHECK = CODE + "*~$=U"

Row = dict[str, Any]


class Refused(Exception):
    """Something is not what FORMAT.md says it must be."""


def need(fits: bool, what: str) -> None:
    if not fits:
        raise Refused(what)


# 2. Encoding


class Time(int):
    """Microseconds since 1970 UTC: the same as a number in `enc`, another type in a row."""


def item(value: bytes | None) -> bytes:
    return b"\xff\xff\xff\xff" if value is None else struct.pack(">I", len(value)) + value


def plain(value: Any) -> bytes | None:
    if isinstance(value, str):
        return value.encode()
    return struct.pack(">Q", value) if isinstance(value, int) else value


def enc(purpose: str, *fields: Any) -> bytes:
    return item(b"docvault/v1/" + purpose.encode()) + b"".join(item(plain(value)) for value in fields)


def split(data: bytes) -> list[bytes | None]:
    found: list[bytes | None] = []
    at = 0
    while at < len(data):
        need(len(data) - at >= 4, "a cut item")
        length = int.from_bytes(data[at : at + 4], "big")
        at += 4
        if length == 0xFFFFFFFF:
            found.append(None)
            continue
        need(at + length <= len(data), "a cut item")
        found.append(data[at : at + length])
        at += length
    return found


def dec(purpose: str, count: int, data: bytes) -> list[Any]:
    found = split(data)
    need(len(found) == count + 1 and found[0] == b"docvault/v1/" + purpose.encode(), f"not a {purpose}")
    return found[1:]


def number(data: bytes | None) -> int:
    need(data is not None and len(data) == 8, "a number of another size")
    return int.from_bytes(data or b"", "big")


# 3. Seals


def unseal(key: bytes, message: bytes, context: bytes) -> bytes:
    """Open a Cobblestone-256 message."""
    info = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0" + message[:24] + context
    derived = HKDFExpand(algorithm=SHA512(), length=76, info=info).derive(key)
    need(hmac.compare_digest(derived[44:], message[24:56]), "a key commitment")
    aead, nonce = AESGCM(derived[:32]), int.from_bytes(derived[32:44], "big")
    sealed = [message[at : at + CHUNK + 16] for at in range(56, len(message), CHUNK + 16)]
    need(bool(sealed) and len(sealed[-1]) >= 16, "a cut message")
    if len(sealed[-1]) == CHUNK + 16:
        raise Refused("a full chunk in the last place")
    try:
        return b"".join(
            aead.decrypt((nonce ^ k).to_bytes(12, "big"), one, None) for k, one in enumerate(sealed)
        )
    except InvalidTag:
        raise Refused("a chunk") from None


def unpad(padded: bytes) -> bytes:
    length = int.from_bytes(padded[:4], "big")
    size = 128
    while size < length + 4:
        size *= 2
    need(len(padded) == size and not padded[4 + length :].strip(b"\0"), "padding")
    return padded[4 : 4 + length]


# 4. Keys made of keys


def derive(key: bytes, purpose: str, *fields: Any, length: int = 32) -> bytes:
    return HKDF(algorithm=SHA256(), length=length, salt=None, info=enc(purpose, *fields)).derive(key)


class Master:
    """The master key, and the keys that are made of it."""

    def __init__(self, digits: str) -> None:
        self.key = bytes.fromhex(digits.strip())
        self.id = derive(self.key, "master/key-id", length=8)

    def derived(self, name: str, key_id: bytes) -> bytes:
        need(key_id == self.id, f"the master key {key_id.hex()} is needed, this one is {self.id.hex()}")
        return derive(self.key, f"master/{name}")


# 5. Passphrases and unlock methods


def kek_of(method: Row, secret: str) -> bytes:
    if method["kind"] == "passphrase":
        cost = method["memory_kib"], method["iterations"], method["lanes"]
        bounds = zip(cost, (65_536, 3, 4), (262_144, 10, 8), strict=True)
        need(all(low <= value <= high for value, low, high in bounds), "KDF parameters out of bounds")
        need(len(method["salt"]) == 16, "a salt of another size")
        passphrase = unicodedata.normalize("NFC", secret).encode()
        return Argon2id(
            salt=method["salt"], length=32, iterations=cost[1], lanes=cost[2], memory_cost=cost[0]
        ).derive(passphrase)
    typed = "".join(secret.split()).replace("-", "").upper()
    digits = typed.translate(str.maketrans("OIL", "011"))
    need(len(digits) == 27, "a recovery code has 26 digits and a check symbol")
    code = 0
    for digit in digits[:26]:
        code = code * 32 + CODE.index(digit)
    need(digits[26] == CHECK[code % 37], "the check symbol of the recovery code")
    return derive(code.to_bytes(32, "big"), "recovery/kek", method["user_id"], method["id"])


def account_key_of(master: Master, method: Row, secret: str) -> bytes:
    bound = [method[n] for n in ("user_id", "id", "kind", "memory_kib", "iterations", "lanes", "salt")]
    outer = master.derived("accounts", method["master_key_id"])
    inner = unseal(outer, method["sealed_account_key"], enc("unlock/outer", *bound))
    return unseal(kek_of(method, secret), inner, enc("unlock/inner", *bound))


# 6. RSA keys


def oaep(label: bytes) -> padding.OAEP:
    return padding.OAEP(mgf=padding.MGF1(SHA256()), algorithm=SHA256(), label=label)


def fingerprint_of(wrap: bytes, sign: bytes) -> bytes:
    for der in (wrap, sign):
        key: Any = load_der_public_key(der)
        numbers = key.public_numbers()
        bits = numbers.n.bit_length()
        need(
            numbers.e == 65_537 and 2048 <= bits <= 4096 and bits % 8 == 0 and numbers.n % 2 == 1,
            "an RSA key",
        )
        need(
            key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == der,
            "DER that is not canonical",
        )
    need(wrap != sign, "one key for two purposes")
    return hashlib.sha256(enc("fingerprint", wrap, sign)).digest()


def private_wrap_key(account_key: bytes, row: Row) -> Any:
    fingerprint = fingerprint_of(row["wrap_public"], row["sign_public"])
    context = enc("private-key/wrap", row["user_id"], row["version"], fingerprint)
    der = unseal(derive(account_key, "account/private-keys"), row["sealed_wrap_private"], context)
    key: Any = load_der_private_key(der, None)
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    need(public == row["wrap_public"], "a private key that is not the one of the public key")
    return key


def verify(row: Row, signature: bytes, message: bytes, what: str) -> None:
    key: Any = load_der_public_key(row["sign_public"])
    try:
        key.verify(signature, message, padding.PSS(mgf=padding.MGF1(SHA256()), salt_length=32), SHA256())
    except InvalidSignature:
        raise Refused(f"the signature of the {what}") from None


# BLAKE3 (the part list's digest): github.com/BLAKE3-team/BLAKE3-specs, unkeyed, 32 bytes out

IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
ORDER = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
MIXED = (
    (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
    (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),
)  # fmt: skip
START, END, PARENT, ROOT = 1, 2, 4, 8


def turn(value: int, by: int) -> int:
    return (value >> by | value << (32 - by)) & 0xFFFFFFFF


def compress(chain: tuple[int, ...], block: bytes, counter: int, flags: int, length: int) -> tuple[int, ...]:
    words = list(struct.unpack("<16I", block.ljust(64, b"\0")))
    v = [*chain, *IV[:4], counter & 0xFFFFFFFF, counter >> 32, length, flags]
    for _ in range(7):
        for k, (a, b, c, d) in enumerate(MIXED):
            for half, (first, second) in enumerate(((16, 12), (8, 7))):
                v[a] = (v[a] + v[b] + words[2 * k + half]) & 0xFFFFFFFF
                v[d] = turn(v[d] ^ v[a], first)
                v[c] = (v[c] + v[d]) & 0xFFFFFFFF
                v[b] = turn(v[b] ^ v[c], second)
        words = [words[k] for k in ORDER]
    return tuple(v[k] ^ v[k + 8] for k in range(8))


def chaining(data: bytes, first: int, flags: int) -> tuple[int, ...]:
    """Give the chaining value of a subtree that begins with chunk number `first`."""
    if len(data) <= 1024:
        chain: tuple[int, ...] = IV
        blocks = [data[at : at + 64] for at in range(0, len(data), 64)] or [b""]
        for k, block in enumerate(blocks):
            ends = (START if k == 0 else 0) | (END | flags if k == len(blocks) - 1 else 0)
            chain = compress(chain, block, first, ends, len(block))
        return chain
    left = 1024
    while left * 2 < len(data):
        left *= 2
    halves = chaining(data[:left], first, 0), chaining(data[left:], first + left // 1024, 0)
    return compress(IV, struct.pack("<16I", *halves[0], *halves[1]), 0, PARENT | flags, 64)


def blake3(data: bytes) -> bytes:
    return struct.pack("<8I", *chaining(data, 0, ROOT))


# 9 and 16. Backups and their rows


class Backup:
    """The archive: its rows, checked as they are read, and its blobs."""

    def __init__(self, path: str, master: Master) -> None:
        self.tar = tarfile.open(path, "r:")  # noqa: SIM115 - it is read until the end
        self.names = set(self.tar.getnames())
        self.about = json.loads(self.member("backup.json"))
        need(self.about["format"] == "docvault-backup" and self.about["version"] == 1, "this is not a backup")
        need("end.json" in self.names, "the archive was cut")
        self.master = master
        self.sealed = {one["name"]: one["sealed"] for one in self.about["tables"]}
        self.latest = self.follow_chain()

    def member(self, name: str) -> bytes:
        need(name in self.names, f"{name} is missing")
        file = self.tar.extractfile(name)
        return file.read() if file else b""

    def lines(self, table: str) -> list[Row]:
        found, n = [], 1
        while f"rows/{table}/{n:06}" in self.names:
            found += self.member(f"rows/{table}/{n:06}").splitlines()
            n += 1
        return [{name: typed(*pair) for name, pair in json.loads(line).items()} for line in found]

    def rows(self, table: str, **where: Any) -> list[Row]:
        """Give the rows that have these values; all of them must bear their seals and be the newest."""
        rows = [row for row in self.lines(table) if all(row[name] == value for name, value in where.items())]
        for row in rows:
            self.check_seal(table, row)
            if table != "document_index":
                now = self.latest.get((table, row["id"]))
                need(now == (row["row_version"], row["seal"]), f"a row of {table} is not the newest")
        return rows

    def row(self, table: str, **where: Any) -> Row:
        rows = self.rows(table, **where)
        need(len(rows) == 1, f"{len(rows)} rows of {table} where there must be one")
        return rows[0]

    def check_seal(self, table: str, row: Row) -> None:
        columns = b"".join(item(name.encode()) + tagged(row[name]) for name in self.sealed[table])
        message = enc("row", table, self.about["seal_schema"], row["id"], row["row_version"], columns)
        right = hmac.digest(self.master.derived("rows", row["seal_key_id"]), message, "sha256")
        need(hmac.compare_digest(right, row["seal"]), f"a row of {table} does not bear its seal")

    def follow_chain(self) -> dict[tuple[str, bytes], tuple[int, bytes]]:
        latest: dict[tuple[str, bytes], tuple[int, bytes]] = {}
        previous, sequence = bytes(32), 0
        for entry in self.lines("audit_entry"):
            sequence += 1
            names = "at actor_id action object_kind object_id subject_id succeeded detail request_id touched"
            fields = [int(entry[name]) if name == "succeeded" else entry[name] for name in names.split()]
            hashed = enc("audit", previous, sequence, b"".join(map(tagged, fields)))
            need((entry["sequence"], entry["previous_hash"]) == (sequence, previous), "the audit chain")
            previous = hashlib.sha256(hashed).digest()
            need(entry["entry_hash"] == previous, "the audit chain")
            (body,) = dec("touched/body", 1, entry["touched"])
            touched = split(body)
            for table, row_id, version, seal in zip(*[iter(touched)] * 4, strict=True):
                latest[table.decode(), row_id] = number(version), seal
        (head,) = self.lines("audit_head")
        self.check_seal("audit_head", head)
        need((head["sequence"], head["entry_hash"]) == (sequence, previous), "the end of the audit chain")
        return latest


def typed(tag: str, value: Any) -> Any:
    return bytes.fromhex(value) if tag == "y" else Time(value) if tag == "t" else value


def tagged(value: Any) -> bytes:
    """Encode a value with its type, as in a row's seal."""
    tags = ((bool, "b"), (Time, "t"), (int, "i"), (bytes, "y"), (str, "s"))
    for kind, tag in tags:
        if isinstance(value, kind):
            whole = bytes([value]) if kind is bool else value
            whole = struct.pack(">q", value) if kind in (int, Time) else plain(whole)
            return item(tag.encode()) + item(whole)
    return item(b"n") + item(None)


# 7 and 8. Documents and their blobs


class Reader:
    """A user whose account key is open."""

    def __init__(self, backup: Backup, name: str, kind: str, secret: str) -> None:
        self.backup = backup
        self.id = backup.row("user", username=name)["id"]
        method = backup.row("unlock_method", user_id=self.id, kind=kind)
        self.account_key = account_key_of(backup.master, method, secret)
        mine = [row for row in backup.rows("user_key", user_id=self.id) if row["sealed_wrap_private"]]
        self.keys = {row["version"]: (row, private_wrap_key(self.account_key, row)) for row in mine}

    def documents(self) -> list[tuple[Row, Row]]:
        """Give the grants on current versions, each with its document."""
        grants = self.backup.rows("shared_key_registry", reader_id=self.id)
        pairs = [(self.backup.row("document", id=grant["document_id"]), grant) for grant in grants]
        return [
            (document, grant) for document, grant in pairs if document["version_id"] == grant["version_id"]
        ]

    def owner_key(self, owner: bytes, version: int) -> tuple[Row, bytes]:
        """Give the row of an owner's key, once everything vouches for it, and its fingerprint."""
        row = self.backup.row("user_key", user_id=owner, version=version)
        fingerprint = fingerprint_of(row["wrap_public"], row["sign_public"])
        directory = self.backup.master.derived("directory", row["directory_key_id"])
        right = hmac.digest(directory, enc("directory", owner, version, fingerprint), "sha256")
        need(hmac.compare_digest(right, row["directory_mac"]), "the directory's MAC")
        need(row["retired_at"] is None, "a retired key")
        known = self.contact(owner)
        need(
            known is None or self.leads(owner, known, fingerprint), "the owner's key is not the one first met"
        )
        return row, fingerprint

    def contact(self, other: bytes) -> bytes | None:
        for row in self.backup.rows("contact", user_id=self.id, other_id=other):
            key = derive(self.account_key, "account/contacts")
            return unseal(key, row["sealed_fingerprint"], enc("contact", self.id, other))
        return None

    def leads(self, user: bytes, old: bytes, new: bytes) -> bool:
        """Tell whether the statements of a user's pairs lead from one fingerprint to another."""
        rows = sorted(self.backup.rows("user_key", user_id=user), key=lambda row: row["version"])
        for before, after in itertools.pairwise(rows):
            prints = [fingerprint_of(row["wrap_public"], row["sign_public"]) for row in (before, after)]
            if old == prints[0] != new and after["statement"]:
                pair = [before["version"], prints[0], after["version"], prints[1]]
                verify(before, after["statement"], enc("key-rotation", user, *pair), "statement")
                old = prints[1]
        return old == new

    def may_follow(self, owner: bytes, remembered: bytes, shown: bytes) -> bool:
        if self.leads(owner, remembered, shown):
            return True
        back = self.leads(owner, shown, remembered)
        return back if owner == self.id else self.contact(owner) == shown and not back

    def open(self, document: Row, grant: Row) -> tuple[list[str], bytes]:
        """Check and decrypt a document; gives path with name, and content."""
        version = self.backup.row("document_version", id=document["version_id"])
        ids = document["id"], version["id"]
        need(version["document_id"] == grant["document_id"] == document["id"], "rows that belong together")
        need(version["owner_id"] == grant["granter_id"] == document["owner_id"], "one owner")
        for name in ("number", "revision", "epoch"):
            need(version[name] == document[name], f"the {name}")
        need(grant["epoch"] == version["epoch"], "the epoch")
        need(grant["expires_at"] is None or grant["expires_at"] > time.time() * 10**6, "an expired grant")
        owner, fingerprint = self.owner_key(version["owner_id"], version["owner_key_version"])
        message = enc(
            "version", *ids, version["number"], version["revision"], version["epoch"], version["owner_id"],
            version["owner_key_version"], version["origin"],
            hashlib.sha256(version["sealed_manifest"]).digest(), version["parts_digest"],
        )  # fmt: skip
        verify(owner, version["signature"], message, "version")
        granter, _ = self.owner_key(grant["granter_id"], grant["granter_key_version"])
        message = enc(
            "grant", *ids, grant["epoch"], grant["granter_id"], grant["granter_key_version"], grant["reader_id"],
            grant["permission"], grant["expires_at"],
        )  # fmt: skip
        verify(granter, grant["signature"], message, "grant")
        dek = self.unwrap(grant, ids)
        context = enc("manifest", *ids, version["revision"])
        manifest = dec("manifest/body", 13, unpad(unseal(dek, version["sealed_manifest"], context)))
        need((manifest[0], manifest[1]) == ids, "a manifest of something else")
        need(
            (number(manifest[2]), number(manifest[3])) == (version["number"], version["revision"]),
            "its number",
        )
        need((manifest[4], manifest[5]) == (version["owner_id"], fingerprint), "the owner in the manifest")
        self.compare_memory(version, manifest)
        path = [name.decode() for name in [*split(manifest[6]), manifest[7]] if name is not None]
        return path, self.content(version, manifest)

    def unwrap(self, grant: Row, ids: tuple[bytes, bytes]) -> bytes:
        row, key = self.keys[grant["reader_key_version"]]
        fingerprint = fingerprint_of(row["wrap_public"], row["sign_public"])
        label = enc("dek-wrap", *ids, self.id, row["version"], fingerprint)
        dek: bytes = key.decrypt(grant["wrapped_dek"], oaep(label))
        return dek

    def compare_memory(self, version: Row, manifest: list[Any]) -> None:
        for row in self.backup.rows("document_index", reader_id=self.id, document_id=version["document_id"]):
            context = enc("index", version["document_id"], self.id)
            body = unpad(unseal(derive(self.account_key, "account/index"), row["sealed_entry"], context))
            entry = dec("index/body", 9, body)
            need(entry[0] == manifest[4], "another owner than remembered")
            need(self.may_follow(entry[0], entry[1], manifest[5]), "another key of the owner than remembered")
            need(
                (number(entry[2]), number(entry[3])) <= (version["number"], version["revision"]),
                "an older state",
            )
            need(number(entry[4]) <= version["epoch"], "an older epoch")

    def content(self, version: Row, manifest: list[Any]) -> bytes:
        encoded = self.backup.row("part_list", id=version["id"])["parts"]
        need(blake3(encoded) == manifest[11] == version["parts_digest"], "the digest of the part list")
        flat = split(manifest[10])
        segments = {flat[k]: (flat[k + 1], number(flat[k + 2])) for k in range(0, len(flat), 3)}
        (body,) = dec("parts/body", 1, encoded)
        pieces, done = [], dict.fromkeys(segments, 0)
        for segment, offset, length, suffix in zip(*[iter(split(body))] * 4, strict=True):
            need(segment in segments and number(offset) == done[segment], "a part in its place")
            name = f"blobs/{segment.hex()}/{number(offset):016x}" + (f".{suffix.hex()}" if suffix else "")
            blob = self.backup.member(name)
            context = enc("part", segment, number(offset), suffix)
            plaintext = unseal(segments[segment][0] or b"", blob[:-32], context)
            need(len(plaintext) == number(length), "a part of another length")
            done[segment] += len(plaintext)
            pieces.append(plaintext)
        need(done == {segment: length for segment, (_, length) in segments.items()}, "parts of all segments")
        content = b"".join(pieces)
        need(len(content) == number(manifest[9]), "the size")
        need(manifest[12] in (None, hashlib.sha256(content).digest()), "the SHA-256 of the content")
        return content


def main() -> int:
    words = [word for word in sys.argv[1:] if word != "--recovery-code"]
    if len(words) != 4:
        print(
            "second_reader.py ARCHIVE USER MASTER_KEY_FILE FOLDER [--recovery-code]; the secret on standard input"
        )
        return 2
    archive, user, key_file, folder = words
    secret = sys.stdin.readline().rstrip("\r\n")
    kind = "recovery" if "--recovery-code" in sys.argv else "passphrase"
    reader = Reader(Backup(archive, Master(pathlib.Path(key_file).read_text())), user, kind, secret)
    target = pathlib.Path(folder)
    target.mkdir(mode=0o700, exist_ok=True)
    refused = 0
    for document, grant in reader.documents():
        try:
            path, content = reader.open(document, grant)
        except (Refused, ValueError) as error:
            refused += 1
            print(f"refused   {document['id'].hex()}  {error}")
            continue
        # The name is somebody's text: the file is named by the document's id.
        (target / document["id"].hex()).write_bytes(content)
        print(f"opened    {document['id'].hex()}  {len(content)} bytes  {'/'.join(path)!r}")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
