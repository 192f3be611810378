"""Our own vectors, made by a second writer from FORMAT.md: old formats stay readable for ever."""

import base64
import hashlib
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from vault.crypto import purposes
from vault.crypto.accounts import (
    check_directory_mac,
    directory_mac,
    open_account_key,
    open_contact,
    open_private_keys,
    open_session,
    subject_mac,
    upload_key,
)
from vault.crypto.audit import decode_touched, encode_touched, entry_hash
from vault.crypto.derivation import derive
from vault.crypto.encoding import dec, enc
from vault.crypto.grants import Terms, open_terms, unwrap_dek, verify_grant
from vault.crypto.keypairs import PublicKeys, admit_keys, verify_statement
from vault.crypto.manifests import (
    IndexEntry,
    Manifest,
    Part,
    Segment,
    decode_parts,
    encode_parts,
    etag,
    open_index_entry,
    open_manifest,
    parts_digest,
    verify_version,
)
from vault.crypto.masterkey import MasterKeys, parse_master_key
from vault.crypto.parts import HEADER, PartReader, blob_name, blob_size, open_part
from vault.crypto.passphrase import KdfParameters, derive_kek, normalise
from vault.crypto.recovery import read_recovery_code, recovery_kek
from vault.crypto.resumable import (
    LONGEST_UPLOAD_TOKEN,
    issue_upload_token,
    open_segment_key,
    open_upload_metadata,
    read_upload_token,
)
from vault.crypto.rows import TAGS, row_seal
from vault.crypto.sealing import unpad
from vault.crypto.tokens import issue_token, read_token
from vault.errors import Unreadable

Vectors = Callable[[str], dict[str, Any]]
ROOT = Path(__file__).resolve().parents[2]


def raw(value: Any) -> Any:
    return None if value is None else bytes.fromhex(value)


def when(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def sure(text: str) -> datetime:
    return datetime.fromisoformat(text)


def by_name(whole: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {case["name"]: case for case in whole["cases"]}


def master_of(whole: dict[str, Any]) -> MasterKeys:
    return MasterKeys(parse_master_key(whole["master_key"]))


def test_the_vectors_regenerate_without_a_difference() -> None:
    """`make vectors` changes nothing."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "tools/make_vectors.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_tool_does_not_use_the_vaults_code() -> None:
    source = (ROOT / "tools" / "make_vectors.py").read_text("utf-8")
    assert "import vault" not in source and "from vault" not in source


@pytest.mark.parametrize("name", [
    "audit", "encoding", "inputs", "keys", "manifests", "parts", "passphrases", "rows", "seals", "signatures", "tokens",
])  # fmt: skip
def test_every_file_says_where_it_comes_from(own_vectors: Vectors, name: str) -> None:
    whole = own_vectors(name)
    assert len(whole["provenance"]) > 50 and whole["format"] == "docvault/v1"


def test_encodings(own_vectors: Vectors) -> None:
    known = {purpose.name: purpose for purpose in purposes.PURPOSES}
    for case in own_vectors("encoding")["cases"]:
        purpose = known[case["purpose"]]
        fields: list[Any] = []
        for (name, value), kind in zip(case["fields"].items(), purpose.kinds, strict=True):
            assert f"{name}:{kind}" in purpose.fields
            kind = kind.rstrip("?")
            fields.append(raw(value) if kind in ("id", "bytes") else when(value) if kind == "time" else value)
        assert enc(purpose, *fields).hex() == case["encoded"], case["name"]
        assert dec(purpose, raw(case["encoded"])) == fields


def test_keys(own_vectors: Vectors) -> None:
    whole = own_vectors("keys")
    cases = by_name(whole)
    master = master_of(whole)
    assert master.key_id.hex() == cases["key id"]["derived"]
    known = {purpose.name: purpose for purpose in purposes.PURPOSES}
    for name, case in cases.items():
        if name.startswith("master."):
            assert master.derive(known[case["purpose"]]).hex() == case["derived"]
        elif name.startswith("account "):
            assert derive(raw(case["key"]), known[case["purpose"]]).hex() == case["derived"]
    day = cases["upload key of a day"]
    assert upload_key(raw(day["key"]), date.fromisoformat(day["day"])).hex() == day["derived"]
    session = cases["session key"]
    assert (
        derive(raw(session["key"]), purposes.SESSION_KEY, salt=raw(session["salt"])).hex()
        == session["derived"]
    )


def test_passphrases(own_vectors: Vectors) -> None:
    for case in own_vectors("passphrases")["cases"]:
        assert normalise(case["typed"]).hex() == case["normal"]
        assert derive_kek(raw(case["normal"]), _parameters(case)).hex() == case["kek"]


def _parameters(case: dict[str, Any]) -> KdfParameters:
    return KdfParameters(case["memory_kib"], case["iterations"], case["lanes"], raw(case["salt"]))


def test_seals(own_vectors: Vectors) -> None:
    whole = own_vectors("seals")
    cases, master = by_name(whole), master_of(whole)
    case = cases["account key"]
    account_key = open_account_key(
        master, master.key_id, raw(case["kek"]), raw(case["sealed"]), user=raw(case["user"]),
        method=raw(case["method"]),
        kind=case["kind"], parameters=_parameters(case),
    )  # fmt: skip
    assert account_key == raw(case["opened"])
    case = cases["account key by recovery code"]
    owner = {"user": raw(case["user"]), "method": raw(case["method"])}
    secret = read_recovery_code(case["code"])
    assert secret == raw(case["number"])
    assert recovery_kek(secret, **owner) == raw(case["kek"])
    assert account_key == open_account_key(
        master,
        master.key_id,
        raw(case["kek"]),
        raw(case["sealed"]),
        kind=case["kind"],
        parameters=None,
        **owner,
    )
    wrap, sign = cases["private wrap key"], cases["private sign key"]
    keys = by_name(own_vectors("signatures"))["fingerprint of alice"]
    opened = open_private_keys(
        account_key, raw(wrap["sealed"]), raw(sign["sealed"]), user=raw(wrap["user"]), key_version=wrap["key_version"],
        public=PublicKeys(raw(keys["wrap_public"]), raw(keys["sign_public"])),
    )  # fmt: skip
    assert (opened.wrap_der, opened.sign_der) == (raw(wrap["opened"]), raw(sign["opened"]))
    case = cases["contact"]
    assert open_contact(
        account_key, raw(case["sealed"]), user=raw(case["user"]), other=raw(case["other"])
    ) == raw(case["opened"])
    case = cases["session"]
    assert open_session(
        master, master.key_id, raw(case["secret"]), raw(case["sealed"]), session=raw(case["session"]),
        user=raw(case["user"]),
        created_at=sure(case["created_at"]), expires_at=sure(case["expires_at"]), generation=case["generation"],
    ) == account_key  # fmt: skip
    case = cases["index entry"]
    said = case["opened"]
    assert open_index_entry(
        account_key, raw(case["sealed"]), document=raw(case["document"]), reader=raw(case["reader"])
    ) == IndexEntry(
        raw(said["owner"]), raw(said["owner_fingerprint"]), said["number"], said["revision"], said["epoch"],
        said["name"],
        tuple(said["path"]), said["media_type"], said["size"],
    )  # fmt: skip
    case = cases["grant that waits"]
    said = case["opened"]
    place = {name: raw(case[name]) for name in ("work", "user", "document", "reader")}
    assert open_terms(account_key, raw(case["sealed"]), **place) == Terms(
        sure(said["since"]), sure(said["expires_at"]), said["epoch"]
    )


def test_parts(own_vectors: Vectors) -> None:
    kinds = set()
    for case in own_vectors("parts")["cases"]:
        kinds.add(case["result"])
        blob = base64.b64decode(case["blob"])
        place = {"segment": raw(case["segment"]), "offset": case["offset"], "suffix": raw(case["suffix"])}
        reader = PartReader(raw(case["segment_key"]), length=case["length"], **place)
        if case["result"] == "invalid":
            with pytest.raises(Unreadable):
                open_part(raw(case["segment_key"]), blob, **place)
            with pytest.raises(Unreadable):
                reader.open_header(blob[:HEADER])
                reader.open_chunks(0, blob[HEADER:-32])
            continue
        opened = open_part(raw(case["segment_key"]), blob, **place)
        assert hashlib.sha256(opened).hexdigest() == case["content_sha256"] and len(opened) == case["length"]
        reader.open_header(blob[:HEADER])
        assert reader.open_chunks(0, blob[HEADER:-32]) == opened
        assert blob_name(**place) == case["blob_name"]
        assert blob_size(case["length"]) == case["blob_size"] == len(blob)
    assert kinds == {"valid", "invalid"}


def test_manifests(own_vectors: Vectors) -> None:
    cases = by_name(own_vectors("manifests"))
    listed = cases["part list"]
    parts = [Part(raw(p["segment"]), p["offset"], p["length"], raw(p["suffix"])) for p in listed["parts"]]
    assert encode_parts(parts).hex() == listed["encoded"]
    assert decode_parts(raw(listed["encoded"])) == parts
    assert parts_digest(raw(listed["encoded"])).hex() == listed["blake3"]
    case = cases["manifest"]
    opened = open_manifest(
        raw(case["dek"]), raw(case["sealed"]), document=raw(case["document"]), version=raw(case["version"]),
        revision=case["revision"],
    )  # fmt: skip
    assert opened == Manifest(
        raw(case["document"]), raw(case["version"]), case["number"], case["revision"], raw(case["owner"]),
        raw(case["owner_fingerprint"]), tuple(case["path"]), case["title"], case["media_type"], case["size"],
        (Segment(raw(case["segment"]), raw(case["segment_key"]), case["size"]),), raw(case["parts_blake3"]),
        raw(case["sha256"]),
    )  # fmt: skip
    assert unpad(raw(case["padded"])) == raw(case["body"])
    assert etag(raw(case["dek"]), version=raw(case["version"]), revision=case["revision"]) == case["etag"]


def test_signatures(own_vectors: Vectors) -> None:
    cases, inputs = by_name(own_vectors("signatures")), own_vectors("inputs")
    people = {}
    for who in ("alice", "bob"):
        case = cases[f"fingerprint of {who}"]
        people[who] = PublicKeys(raw(case["wrap_public"]), raw(case["sign_public"]))
        assert people[who].fingerprint.hex() == case["fingerprint"]
    bob = admit_keys(raw(inputs["bob"]["wrap_pkcs8"]), raw(inputs["bob"]["sign_pkcs8"]))
    case = cases["DEK wrapped for bob"]
    assert unwrap_dek(
        bob, raw(case["wrapped"]), document=raw(case["document"]), version=raw(case["version"]),
        reader=raw(case["reader"]),
        key_version=case["key_version"],
    ) == raw(case["dek"])  # fmt: skip
    for name in ("grant without expiry", "grant with expiry"):
        case = cases[name]
        bound: dict[str, Any] = {
            "document": raw(case["document"]), "version": raw(case["version"]), "epoch": case["epoch"],
            "granter": raw(case["granter"]), "granter_key_version": case["granter_key_version"],
            "reader": raw(case["reader"]), "permission": case["permission"], "expires_at": when(case["expires_at"]),
        }  # fmt: skip
        verify_grant(people["alice"], raw(case["signature"]), **bound)
        with pytest.raises(Unreadable):
            verify_grant(people["bob"], raw(case["signature"]), **bound)
    for name in ("version of the server", "version of an agent"):
        case = cases[name]
        verify_version(
            people["alice"], raw(case["signature"]), document=raw(case["document"]), version=raw(case["version"]),
            number=case["number"], revision=case["revision"], epoch=case["epoch"], owner=raw(case["owner"]),
            owner_key_version=case["owner_key_version"], origin=raw(case["origin"]),
            sealed_manifest=raw(case["sealed_manifest"]), parts_digest=raw(case["parts_digest"]),
        )  # fmt: skip
    case = cases["statement of the pair that follows"]
    verify_statement(
        people["alice"], raw(case["statement"]), user=raw(case["user"]), old_key_version=case["old_key_version"],
        new_key_version=case["new_key_version"], new_fingerprint=raw(case["new_fingerprint"]),
    )  # fmt: skip


def test_rows(own_vectors: Vectors) -> None:
    whole = own_vectors("rows")
    cases, master = by_name(whole), master_of(whole)
    case = cases["row seal"]
    read: dict[str, Callable[[Any], Any]] = {"y": raw, "t": when}
    columns = [(name, read.get(tag, lambda shown: shown)(shown)) for name, tag, shown in case["columns"]]
    assert [TAGS[type(value)].decode() for _, value in columns] == [tag for _, tag, _ in case["columns"]]
    assert row_seal(
        master.derive(purposes.MASTER_ROWS), table=case["table"], schema=case["schema"], row_id=raw(case["row_id"]),
        row_version=case["row_version"], columns=columns,
    ).hex() == case["seal"]  # fmt: skip
    case = cases["directory"]
    bound: dict[str, Any] = {
        "user": raw(case["user"]),
        "key_version": case["key_version"],
        "fingerprint": raw(case["fingerprint"]),
    }
    assert directory_mac(master, **bound).hex() == case["mac"]
    check_directory_mac(master, master.key_id, raw(case["mac"]), **bound)
    case = cases["subject"]
    assert subject_mac(master, case["kind"], case["text"]).hex() == case["mac"]


def test_audit(own_vectors: Vectors) -> None:
    cases = by_name(own_vectors("audit"))
    read: dict[str, Callable[[Any], Any]] = {"y": raw, "t": when}
    for name in ("first entry", "second entry"):
        case = cases[name]
        fields = [read.get(tag, lambda shown: shown)(shown) for tag, shown in case["fields"]]
        assert entry_hash(raw(case["previous"]), case["sequence"], fields).hex() == case["hash"]
    case = cases["touched rows"]
    rows = [(table, raw(row_id), row_version, raw(seal)) for table, row_id, row_version, seal in case["rows"]]
    assert encode_touched(rows).hex() == case["encoded"] and decode_touched(raw(case["encoded"])) == rows


def test_tokens(own_vectors: Vectors) -> None:
    whole = own_vectors("tokens")
    master = master_of(whole)
    for case in whole["cases"]:
        now = datetime.fromtimestamp(case["now"], UTC)
        if case["result"] == "invalid":
            with pytest.raises(Unreadable):
                read_token(master, case["token"], now)
            continue
        claims = read_token(master, case["token"], now)
        assert (claims.user, claims.session, claims.secret) == (
            raw(case["user"]),
            raw(case["session"]),
            raw(case["secret"]),
        )
        assert claims.upload_keys == (raw(case["upload_today"]), raw(case["upload_yesterday"]))
        assert claims.key_id == master.key_id
        said = claims._asdict()
        said.pop("key_id")
        assert read_token(master, issue_token(master, **said), now) == claims


def test_uploads(own_vectors: Vectors) -> None:
    whole = own_vectors("uploads")
    master, results = master_of(whole), []
    for case in whole["cases"]:
        results.append(case["result"])
        keys = [raw(key) for key in case["upload_keys"]]
        if case["result"] == "invalid":
            with pytest.raises(Unreadable):
                read_upload_token(master, case["token"])
            continue
        owned: dict[str, bytes] = {"upload": raw(case["upload"]), "user": raw(case["user"])}
        if case["result"] == "metadata":
            assert open_upload_metadata(keys, raw(case["sealed"]), **owned) == raw(case["opened"])
            continue
        ticket = read_upload_token(master, case["token"])
        said = {name: case[name] for name in ("length", "is_partial", "is_final")}
        said["expires_at"] = sure(case["expires_at"])
        from_it = {"sealed_key": ticket.sealed_key, "key_id": master.key_id}
        assert ticket._asdict() == owned | said | from_it
        assert open_segment_key(keys, ticket) == raw(case["segment_key"])
        assert len(case["token"]) == 310 <= LONGEST_UPLOAD_TOKEN
        again = read_upload_token(
            master, issue_upload_token(master, keys[0], raw(case["segment_key"]), **owned, **said)
        )
        assert again._replace(sealed_key=b"") == ticket._replace(sealed_key=b"")
    assert set(results) == {"valid", "invalid", "metadata"}
