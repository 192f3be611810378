"""FORMAT.md and INVENTORY.md against the code, and the examples against the vectors (checklist 17)."""

import base64
import json
import re
from pathlib import Path

import vault.crypto
from tests.crypto.conftest import OWN_VECTORS
from vault.crypto import keypairs, manifests, parts, passphrase, sealing, tokens
from vault.crypto.purposes import PREFIX, PURPOSES, RESERVED

FOLDER = Path(vault.crypto.__file__).parent
FORMAT = (FOLDER / "FORMAT.md").read_text("utf-8")
INVENTORY = (FOLDER / "INVENTORY.md").read_text("utf-8")


def _tables(text: str) -> list[list[list[str]]]:
    """Every table of a text: its rows without head and rule, each a list of cells."""
    found: list[list[list[str]]] = []
    inside = False
    for line in text.splitlines():
        if not line.startswith("|"):
            inside = False
        elif set(line) <= set("|- "):
            inside = True
            found.append([])
        elif inside:
            found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def _section(number: int) -> str:
    return re.split(rf"^## {number}\. ", FORMAT, flags=re.MULTILINE)[1].split("\n## ")[0]


def test_the_table_of_purposes_is_the_code() -> None:
    listed, reserved = _tables(_section(11))
    assert [(row[0], row[2]) for row in listed] == [
        (purpose.name.removeprefix(PREFIX), ", ".join(purpose.fields) or "(none)") for purpose in PURPOSES
    ]
    assert [tuple(row) for row in reserved] == [
        (purpose.name.removeprefix(PREFIX), ", ".join(purpose.fields)) for purpose in RESERVED
    ]


def test_the_limits_are_the_code() -> None:
    limits = {row[0]: row[1] for row in _tables(_section(1))[0]}
    assert f"0 to {parts.PART_SIZE:,} bytes" in limits["part"]
    assert limits["parts of a version"] == f"at most {manifests.MOST_PARTS:,}"
    assert limits["segments of a version"] == f"1 to {manifests.MOST_SEGMENTS:,}"
    assert manifests.LARGEST_SIZE == 1 << 43 and "2^43" in limits["size of a version"]
    assert f"1 to {manifests.LONGEST_NAME:,} bytes" in limits["name of a document, name of a folder"]
    assert limits["path"] == f"0 to {manifests.LONGEST_PATH} names"
    assert f"0 to {manifests.LONGEST_MEDIA_TYPE} bytes" in limits["media type"]
    assert f"1 to {passphrase.LONGEST:,} bytes" in limits["passphrase"]
    assert f"{keypairs.SMALLEST_BITS:,} to {keypairs.LARGEST_BITS:,} bits" in limits["RSA modulus"]
    assert f"{keypairs.EXPONENT:,}" in limits["RSA modulus"]
    assert limits["token"] == f"at most {tokens.LONGEST_TOKEN:,} characters"
    assert limits["chunk of a seal"].startswith(
        f"{sealing.CHUNK:,} bytes of plaintext, {sealing.SEALED_CHUNK:,} sealed"
    )
    bounds = [tuple(int(cell.replace(",", "")) for cell in row[1:]) for row in _tables(_section(5))[0]]
    assert bounds == [passphrase.KDF_DEFAULT, passphrase.KDF_FLOOR, passphrase.KDF_CEILING]
    assert passphrase._WORDS_SHA256 in FORMAT


def test_the_token_is_described() -> None:
    section = _section(10)
    for constant in (tokens.ALGORITHM, tokens.TYPE, tokens.ISSUER, tokens.AUDIENCE):
        assert f"`{constant}`" in section
    claims = {name.strip() for row in _tables(section)[0] for name in row[0].split(",")}
    assert claims == tokens._CLAIMS


def test_every_worked_example_is_a_vector() -> None:
    texts = [path.read_text("utf-8") for path in sorted(OWN_VECTORS.glob("*.json"))]
    parts_file = json.loads((OWN_VECTORS / "parts.json").read_text("utf-8"))
    (blob,) = [base64.b64decode(case["blob"]) for case in parts_file["cases"] if case["name"] == "1 bytes"]
    examples = re.findall(r"```\n(.*?)```", _section(13), flags=re.DOTALL)
    values = [value for example in examples for value in re.split(r"\n\n", example)]
    checked = 0
    for value in values:
        joined = "".join(value.split())
        lines = [line for line in value.splitlines() if line]
        assert re.fullmatch("[0-9a-f]+", joined)
        known = joined == blob.hex() or any(f'"{joined}"' in text for text in texts)
        # A block of short values has one a line; a long value runs over several.
        assert known or all(any(f'"{line}"' in text for text in texts) for line in lines), value
        checked += 1
    assert checked >= 15


def test_checklist_17_the_inventory_has_every_key_and_algorithm() -> None:
    algorithms, keys = _tables(INVENTORY)
    named = {row[0] for row in keys}
    for purpose in PURPOSES:
        short = purpose.name.removeprefix(PREFIX)
        room, _, rest = short.partition("/")
        if room == "master" and rest != "key-id":
            assert f"master.{rest}" in named
        elif room == "account" or short == "session/key":
            assert short.replace("/", " ") in named
    assert len(named) == len(keys)
    text = {row[0]: row[1] for row in algorithms}
    default = "{} KiB, {} iterations, {} lanes".format(*passphrase.KDF_DEFAULT)
    ceiling = "ceiling {} KiB, {}, {}".format(*passphrase.KDF_CEILING)
    assert text["Argon2id"].startswith(default) and ceiling in text["Argon2id"]
    assert f"salt {passphrase.KDF_SALT}" in text["Argon2id"]
    bits = f"{keypairs.SMALLEST_BITS} to {keypairs.LARGEST_BITS} bits, e {keypairs.EXPONENT}"
    assert (
        bits in text["RSA-OAEP"]
        and bits in text["RSA-PSS"]
        and f"salt {keypairs.PSS_SALT}" in text["RSA-PSS"]
    )
    seal = text["Cobblestone-256 (AES-256-GCM, HKDF-Expand-SHA-512)"]
    assert seal == (
        f"chunk {sealing.CHUNK}, tag {sealing.TAG}, salt {sealing.SALT}, commitment {sealing.COMMITMENT}"
    )
    assert (
        text["HMAC-SHA256 as JWT HS256"] == f"leeway {tokens.LEEWAY.seconds} s"
        and tokens.ALGORITHM == "HS256"
    )


def test_checklist_17_the_inventory_names_the_modules_that_use_each_algorithm() -> None:
    signs = {
        "Cobblestone256": "Cobblestone-256 (AES-256-GCM, HKDF-Expand-SHA-512)", "HKDF(": "HKDF-SHA256",
        "padding.OAEP": "RSA-OAEP", "padding.PSS": "RSA-PSS", "Argon2id(": "Argon2id", "blake3(": "BLAKE3",
        "hashlib.sha256": "SHA-256", "jwt.encode": "HMAC-SHA256 as JWT HS256",
        "os.urandom": "operating system's generator",
    }  # fmt: skip
    where = {row[0]: row[3] for row in _tables(INVENTORY)[0]}
    for path in FOLDER.glob("*.py"):
        source = path.read_text("utf-8")
        for sign, algorithm in signs.items():
            if sign in source and not (sign == "hashlib.sha256" and path.name == "passphrase.py"):
                assert f"`{path.name}`" in where[algorithm], f"{path.name} uses {algorithm}"


def test_the_promise_is_there() -> None:
    assert "stays readable for ever" in FORMAT
