"""The published cases of C2SP chunked-encryption, RSA-OAEP, RSA-PSS and HKDF against our own code.

The package `cryptography_vectors` has cases of chunked-encryption with SHA-256, for AES-128-GCM and AES-256-GCM: they
always run, against our reader with that hash and key size. The folder that DOCVAULT_TEST_VECTORS names has those of
Cobblestone-256 itself, with SHA-512: they run against our reader, `unseal` and the library's stream.
"""

import base64
import hashlib
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cryptography_vectors
import pytest
from cryptography.cobblestone import Cobblestone256Decryptor
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.hashes import SHA256

from tests.crypto.conftest import Person
from vault.crypto.derivation import hkdf_sha256
from vault.crypto.keypairs import PrivateKeys, PublicKeys
from vault.crypto.parts import MessageReader
from vault.crypto.sealing import CHUNK, HEADER, SEALED_CHUNK, TAG, unseal
from vault.errors import Unreadable

Published = Callable[[str], list[dict[str, Any]]]


class ReaderOf256(MessageReader):
    __slots__ = ()
    _HASH = SHA256


class ReaderOf128(ReaderOf256):
    __slots__ = ()
    _AEAD = b"AEAD_AES_128_GCM"
    _KEY = 16


READERS: dict[str, type[MessageReader]] = {"AEAD_AES_128_GCM": ReaderOf128, "AEAD_AES_256_GCM": ReaderOf256}


def _package_cases() -> list[dict[str, Any]]:
    path = Path(cryptography_vectors.__file__).parent / "chunked-encryption" / "vectors.json"
    cases = [case for case in json.loads(path.read_text("utf-8"))["vectors"] if case["aead"] in READERS]
    for case in cases:
        message = base64.b64decode(case["ciphertext"] or "")  # null stands for no bytes
        case["message"] = zlib.decompress(message) if case.get("compressed") else message
    return cases


PACKAGE = _package_cases()


def read_by_range(
    key: bytes, context: bytes, message: bytes, kind: type[MessageReader] = MessageReader
) -> tuple[bytes, bool]:
    """Read a message of unknown length by our own reader; gives what was released, and whether all of it was right."""
    released = b""
    try:
        body = len(message) - HEADER
        full, rest = divmod(body, SEALED_CHUNK)
        length = full * CHUNK + max(rest - TAG, 0)
        reader = kind(key, context, max(length, 0))
        reader.open_header(message[:HEADER])
        for number in range(full):
            start = HEADER + number * SEALED_CHUNK
            released += reader.open_chunks(number, message[start : start + SEALED_CHUNK])
        released += reader.open_chunks(full, message[HEADER + full * SEALED_CHUNK :])
        # A reader of blobs begins with the last chunk.
        span = reader.last_span()
        reader.open_chunks(span.first_chunk, message[span.blob_start : span.blob_stop])
    except (Unreadable, ValueError):
        return released, False
    return released, True


def read_by_stream(key: bytes, context: bytes, message: bytes, step: int) -> tuple[bytes, bool]:
    released = b""
    try:
        decryptor = Cobblestone256Decryptor(key, context)
        for at in range(0, len(message), step):
            released += decryptor.update(message[at : at + step])
        released += decryptor.finalize()
    except (InvalidTag, ValueError):
        return released, False
    return released, True


def test_the_package_has_all_its_cases() -> None:
    assert len(PACKAGE) == 68
    assert sum(case["expect"] == "success" for case in PACKAGE) == 18


@pytest.mark.parametrize("case", PACKAGE, ids=[case["name"] for case in PACKAGE])
def test_c3_c2sp_cases_of_the_package(case: dict[str, Any]) -> None:
    key, context, message = bytes.fromhex(case["key"]), case["context"].encode(), case["message"]
    released, right = read_by_range(key, context, message, READERS[case["aead"]])
    assert right == (case["expect"] == "success")
    # Of a damaged message exactly the chunks before the damage may come out.
    assert len(released) == case.get("payload_length", 0)
    if "payload_sha256" in case:
        assert hashlib.sha256(released).hexdigest() == case["payload_sha256"]


def test_c3_c2sp_cases_of_the_folder(published: Published) -> None:
    groups = published("c2sp_chunked_encryption_aes_256_gcm_test.json")
    count = 0
    for group in groups:
        assert (group["aead"], group["sha"]) == ("AEAD_AES_256_GCM", "SHA-512")
        for case in group["tests"]:
            count += 1
            key, context = bytes.fromhex(case["key"]), bytes.fromhex(case["ctx"])
            message = zlib.decompress(bytes.fromhex(case["ct"]))
            for released, right in (
                read_by_range(key, context, message),
                read_by_stream(key, context, message, 4096),
            ):
                assert right == (case["result"] == "valid"), case["comment"]
                assert len(released) == case.get("msgLength", 0), case["comment"]
                if "msgSha512" in case:
                    assert hashlib.sha512(released).hexdigest() == case["msgSha512"], case["comment"]
            try:
                opened = unseal(key, message, context)
            except (Unreadable, ValueError):
                assert case["result"] == "invalid", case["comment"]
            else:
                assert case["result"] == "valid" and opened == released, case["comment"]
    assert count == 35


def test_hkdf_cases_of_the_folder(published: Published) -> None:
    count = 0
    for group in published("hkdf_sha256_test.json"):
        for case in group["tests"]:
            count += 1
            ikm, salt, info = (bytes.fromhex(case[name]) for name in ("ikm", "salt", "info"))
            if case["result"] == "invalid":
                with pytest.raises(ValueError):
                    hkdf_sha256(ikm, salt or None, info, case["size"])
            else:
                assert hkdf_sha256(ikm, salt or None, info, case["size"]).hex() == case["okm"], case["tcId"]
    assert count == 86


def test_oaep_cases_of_the_folder(published: Published, alice: Person) -> None:
    """Checklist 2: SHA-256 for hash and MGF1, labels included."""
    count = 0
    for group in published("rsa_oaep_2048_sha256_mgf1sha256_test.json"):
        assert (group["sha"], group["mgf"], group["mgfSha"]) == ("SHA-256", "MGF1", "SHA-256")
        keys = PrivateKeys(bytes.fromhex(group["privateKeyPkcs8"]), alice.keys.sign_der)
        for case in group["tests"]:
            count += 1
            label, wrapped = bytes.fromhex(case["label"]), bytes.fromhex(case["ct"])
            if case["result"] == "valid":
                assert keys.unwrap(label, wrapped).hex() == case["msg"], case["tcId"]
            else:
                with pytest.raises(Unreadable):
                    keys.unwrap(label, wrapped)
    assert count == 37


def test_pss_cases_of_the_folder(published: Published, alice: Person) -> None:
    """PKCS #1 v1.5 signatures and other salt lengths are among those that are refused."""
    count = 0
    for group in published("rsa_pss_2048_sha256_mgf1_32_test.json"):
        assert (group["sha"], group["mgfSha"], group["sLen"]) == ("SHA-256", "SHA-256", 32)
        keys = PublicKeys(alice.keys.public.wrap_der, bytes.fromhex(group["publicKeyDer"]))
        for case in group["tests"]:
            count += 1
            message, signature = bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"])
            if case["result"] == "valid":
                keys.verify(message, signature)
            else:
                with pytest.raises(Unreadable):
                    keys.verify(message, signature)
    assert count == 108
