"""C8, C9: what answers, times, lengths and encodings would tell about plaintext."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.attacker import CANARY, Attacker, assert_refused, write_blob
from tests.cast import Vault
from vault.crypto.parts import CHUNK, HEADER, TRAILER, blob_size

SIZE = CHUNK + 300


def corruptions(path: Path, other: Path) -> dict[str, bytes]:
    """Eight kinds of damage to a blob of two chunks, all of its length."""
    good = path.read_bytes()
    end = len(good) - TRAILER

    def flipped(at: int) -> bytes:
        return good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]

    return {
        "salt": flipped(0),
        "commitment": flipped(HEADER - 1),
        "first byte of the first chunk": flipped(HEADER),
        "tag of the first chunk": flipped(HEADER + CHUNK),
        "last chunk": flipped(end - 17),
        "tag of the last chunk": flipped(end - 1),
        "another document's blob": other.read_bytes(),
        "zeros": bytes(len(good)),
    }


@pytest.mark.requirement(15)
def test_c8_eight_kinds_of_damage_have_one_answer(vault: Vault) -> None:
    document = vault.upload("alice", (CANARY * 300)[:SIZE], share=("bob",))
    other = vault.upload("alice", bytes(SIZE), share=("bob",))
    attacker = Attacker(vault)
    path = attacker.blob(document)
    good = path.read_bytes()
    answers: dict[str, Any] = {}
    times: dict[str, float] = {}
    for kind, damaged in corruptions(path, attacker.blob(other)).items():
        write_blob(path, damaged)
        asked: list[Any] = []

        def act(asked: list[Any] = asked) -> Any:
            asked.append(vault.api("bob").get(f"/documents/{document.hex()}/content"))
            return asked[0]

        got = assert_refused(vault, act, document)
        request_id = asked[0].headers["X-Request-Id"]
        headers = {name: value for name, value in asked[0].headers if name != "X-Request-Id"}
        answers[kind] = (
            got.status,
            got.body.replace(request_id.encode(), b""),
            tuple(sorted(headers.items())),
        )
        rounds = []
        for _ in range(3):
            began = time.perf_counter()
            act()
            rounds.append(time.perf_counter() - began)
        times[kind] = statistics.median(rounds)
    assert len(set(answers.values())) == 1, answers
    print({kind: f"{1000 * seconds:.1f} ms" for kind, seconds in times.items()})
    write_blob(path, good)
    assert vault.read("bob", document) == (CANARY * 300)[:SIZE]
    assert vault.read("bob", other) == bytes(SIZE)


def test_c8_no_address_takes_ciphertext_to_open_from_anybody(vault: Vault) -> None:
    """What opens something takes an id and finds the ciphertext itself; an upload's token is sealed by the vault."""
    words = (
        "decrypt",
        "unwrap",
        "unseal",
        "open",
        "key",
        "ciphertext",
        "wrapped",
        "manifest",
        "signature",
        "dek",
    )
    for rule in vault.app.url_map.iter_rules():
        assert not any(word in rule.rule.split("/") for word in words[:4]), rule.rule
    document = vault.upload("alice", CANARY)
    for field in words[4:]:
        for method, path, body in (
            ("PATCH", f"/documents/{document.hex()}", {"name": "x"}),
            ("POST", f"/documents/{document.hex()}/shares", {"usernames": ["bob"]}),
            ("POST", "/token", {"username": "alice", "passphrase": "wrong"}),
        ):
            sent = vault.api("alice").open(method, path, json=body | {field: "00" * 64})
            assert sent.status_code == 400, (field, path)


def test_c9_nothing_is_compressed_neither_at_rest_nor_on_its_way(vault: Vault) -> None:
    """A length that depends on content is an oracle as soon as an attacker adds to it."""
    content = {"zeros": bytes(50_000), "canary": (CANARY * 1000)[:50_000]}
    attacker = Attacker(vault)
    for name, body in content.items():
        document = vault.upload("alice", body, name=name)
        assert attacker.blob(document).stat().st_size == blob_size(len(body))
        for path in (f"/documents/{document.hex()}/content", f"/documents/{document.hex()}", "/documents"):
            got = vault.api("alice").get(path, headers={"Accept-Encoding": "gzip, br, zstd, deflate"})
            assert got.status_code == 200
            assert "Content-Encoding" not in got.headers and "Transfer-Encoding" not in got.headers
            if path.endswith("/content"):
                assert got.data == body and got.content_length == len(body)
