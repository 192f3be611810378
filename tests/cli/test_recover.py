"""``docvault recover``: documents come out of a backup with the user's secret and the master key, and nothing else."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.attacker import Attacker, flip
from tests.cast import MASTER_KEY, Vault
from tests.cli.commands import Command, Ended
from tests.servers.vault import ROOT
from tests.services.test_backup import write
from tests.services.test_keypairs import rotate
from tests.services.test_recovery import made_code
from vault.cli.recover.account import Account
from vault.cli.recover.documents import Recovery
from vault.cli.recover.rows import Row
from vault.crypto.keypairs import generate_keys, sign_statement
from vault.services import keypairs

ODD = "..\\..\\.ssh\\\u202eauthorized:keys"


@dataclass
class Recovering:
    """The command on a backup of a vault, with somebody's secret on its standard input."""

    vault: Vault
    command: Command
    archive: Path
    folder: Path
    patch: pytest.MonkeyPatch

    def __call__(self, *words: str, name: str = "alice", secret: str | None = None) -> Ended:
        typed = self.vault.members[name].passphrase if secret is None else secret
        self.patch.setattr(sys, "stdin", io.StringIO(typed + "\n"))
        return self.command(
            "recover", "--backup", str(self.archive), "--user", name, "--secret-stdin",
            "--master-key-file", str(self.vault.instance / "master.key"), "--output", str(self.folder), *words,
        )  # fmt: skip

    def told(self, *words: str, **options: Any) -> dict[str, dict[str, Any]]:
        """What became of each document, by its id."""
        ended = self(*words, "--json", **options)
        assert ended.code in {0, 2}, ended.text
        return {each["document"]: each for each in json.loads(ended.out)["documents"]}

    def backup(self, **options: Any) -> None:
        self.archive.unlink(missing_ok=True)
        write(self.vault, self.archive, **options)

    def files(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in self.folder.rglob("*")
            if path.is_file()
        }


@pytest.fixture
def recovering(vault: Vault, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recovering:
    return Recovering(vault, command, tmp_path / "archive", tmp_path / "out", monkeypatch)


def test_all_that_a_user_may_read_comes_out_and_nothing_else(recovering: Recovering) -> None:
    """Own and shared documents, empty and of several parts, with their folders; and older versions on request."""
    vault = recovering.vault
    large = os.urandom(9_000_000)
    first = vault.upload("alice", large, "large.bin", share=("bob",))
    vault.upload("alice", b"", "empty")
    vault.upload("bob", b"from Bob", "bob.txt", share=("alice",))
    vault.upload("bob", b"not hers", "secret.txt")
    with vault.services() as bundle:
        read = io.BytesIO(b"a second version").read
        bundle.uploads.receive(vault.alice.account, read, document_id=first, length=16)
    recovering.backup()
    ended = recovering()
    assert ended.code == 0, ended.text
    assert recovering.files() == {"large.bin": b"a second version", "empty": b"", "bob.txt": b"from Bob"}
    assert "3 of 3 documents recovered, 0 with something wrong." in ended.out
    assert all(
        path.stat().st_mode & 0o077 == 0 for path in [recovering.folder, *recovering.folder.rglob("*")]
    )
    shutil.rmtree(recovering.folder)
    assert recovering("--all-versions", "--document", first.hex()).code == 0
    assert recovering.files() == {
        "large.bin": b"a second version",
        f"large ({first.hex()[:8]}, version 1).bin": large,
    }
    shutil.rmtree(recovering.folder)
    assert recovering(name="charlie").code == 0
    assert recovering.files() == {}


def test_a_recovery_code_opens_an_archive_too(recovering: Recovering) -> None:
    code = made_code(recovering.vault)
    recovering.vault.upload("alice", b"opened by paper", "kit.txt")
    recovering.backup()
    assert recovering("--recovery-code", secret=code.lower().replace("-", " ")).code == 0
    assert recovering.files() == {"kit.txt": b"opened by paper"}
    shutil.rmtree(recovering.folder)
    wrong = recovering("--recovery-code", secret=code[:-1] + ("0" if code[-1] != "0" else "1"))
    assert wrong.code == 1 and "slip in this code" in wrong.err
    none = recovering("--recovery-code", secret=code, name="bob")
    assert none.code == 1 and "has no recovery code" in none.err


def test_neither_flask_nor_sqlalchemy_is_needed(recovering: Recovering, tmp_path: Path) -> None:
    """In a process where no part of a web framework or of a database can be imported."""
    recovering.vault.upload("alice", b"without a server", "plain.txt")
    recovering.backup()
    program = tmp_path / "alone.py"
    program.write_text(
        "import sys\n"
        "class Refusing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        top = name.split('.')[0]\n"
        "        if top in {'flask', 'sqlalchemy', 'werkzeug', 'jinja2', 'alembic', 'wtforms', 'pydantic', 'httpx',\n"
        "                   'sqlite3', 'psycopg'} or top.startswith('flask_'):\n"
        "            raise ImportError(name)\n"
        "        if name in {'vault.services', 'vault.models', 'vault.app', 'vault.http', 'vault.wiring'}:\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Refusing())\n"
        "from vault.cli import main\n"
        "main()\n"
    )
    words = [
        "recover",
        "--backup",
        recovering.archive,
        "--user",
        "alice",
        "--secret-stdin",
        "--output",
        tmp_path / "out",
    ]
    done = subprocess.run(
        [sys.executable, program, *words],
        input=recovering.vault.alice.passphrase + "\n",
        env={"PYTHONPATH": str(ROOT), "PATH": "",
             "DOCVAULT_MASTER_KEY_FILE": str(recovering.vault.instance / "master.key")},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert recovering.files() == {"plain.txt": b"without a server"}


@pytest.mark.parametrize(
    ("words", "options", "said"),
    [
        ((), {"secret": "another passphrase altogether"}, "does not open the account"),
        ((), {"name": "alice", "secret": ""}, "Type the passphrase"),
        (("--user", "nobody"), {}, "no user nobody"),
        (("--master-key-file", "KEY"), {}, "was not given"),
    ],
)
def test_what_is_missing_is_said(
    recovering: Recovering, tmp_path: Path, words: tuple[str, ...], options: dict[str, str], said: str
) -> None:
    recovering.backup()
    if "KEY" in words:
        (recovering.vault.instance / "master.key").write_text(MASTER_KEY)
        words = ()
    ended = recovering(*words, **options)
    assert ended.code == 1 and said in ended.err and ended.err.count("\n") == 1
    assert not recovering.folder.exists()


def test_an_empty_folder_is_needed_and_a_hostile_name_stays_in_it(recovering: Recovering) -> None:
    vault = recovering.vault
    vault.upload("bob", b"hostile", ODD, share=("alice",))
    vault.upload("bob", b"hostile too", ODD, share=("alice",))
    recovering.backup()
    assert recovering().code == 0
    files = recovering.files()
    assert sorted(files.values()) == [b"hostile", b"hostile too"]
    assert all("/" not in name and name.isprintable() and name[0] not in ".-" for name in files)
    again = recovering()
    assert again.code == 1 and "is not empty" in again.err


def row_edited(attacker: Attacker, document: bytes) -> None:
    attacker.update("document", document, readers=7)


def version_signed_by_nobody(attacker: Attacker, document: bytes) -> None:
    version = attacker.row("document_version", document_id=document)
    attacker.update("document_version", version["id"], origin=b"o" * 16)
    attacker.reseal("document_version", version["id"])


def grant_signed_by_nobody(attacker: Attacker, document: bytes) -> None:
    grant = attacker.row("shared_key_registry", document_id=document, permission="read")
    attacker.update("shared_key_registry", grant["id"], permission="more")
    attacker.reseal("shared_key_registry", grant["id"])


def key_of_another(attacker: Attacker, document: bytes) -> None:
    """The master key's holder vouches for other public keys of Alice's: whoever met her knows better."""
    row = attacker.row("user_key", user_id=attacker.vault.alice.account.user_id)
    attacker.update("user_key", row["id"], directory_mac=bytes(32))
    attacker.reseal("user_key", row["id"])


def parts_of_another(attacker: Attacker, document: bytes) -> None:
    version = attacker.row("document", id=document)["version_id"]
    other = attacker.row("document", id=attacker.vault.upload("alice", b"other"))["version_id"]
    attacker.update("part_list", version, parts=attacker.row("part_list", id=other)["parts"])
    attacker.reseal("part_list", version)


def epoch_raised(attacker: Attacker, document: bytes) -> None:
    attacker.update("document", document, epoch=9)
    attacker.reseal("document", document)


CHECKS: list[tuple[Callable[[Attacker, bytes], None], str]] = [
    (row_edited, "the row in document does not bear its seal"),
    (version_signed_by_nobody, "the owner's signature does not fit the version"),
    (grant_signed_by_nobody, "the owner's signature does not fit the grant"),
    (key_of_another, "the owner's key is not one that the directory vouches for"),
    (parts_of_another, "the part list is not the one of the manifest"),
    (epoch_raised, "the rows of document, version and grant do not belong together"),
]


@pytest.mark.parametrize(("tamper", "said"), CHECKS, ids=[tamper.__name__ for tamper, _ in CHECKS])
def test_a_check_that_fails_is_told_and_the_document_left_out_until_accepted(
    recovering: Recovering, tamper: Callable[[Attacker, bytes], None], said: str
) -> None:
    vault = recovering.vault
    document = vault.upload("alice", b"c" * 40_000, "contract", share=("bob",))
    fine = vault.upload("bob", b"fine", "fine")
    assert vault.read("bob", document) == b"c" * 40_000
    tamper(Attacker(vault), document)
    recovering.backup()
    told = recovering.told(name="bob")
    assert said in told[document.hex()]["problems"] and told[document.hex()]["state"] == "failed"
    assert told[fine.hex()] | {"problems": []} == told[fine.hex()]
    assert recovering.files() == {"fine": b"fine"}
    shutil.rmtree(recovering.folder)
    told = recovering.told("--accept-unverified", document.hex(), name="bob")
    assert told[document.hex()]["state"] == "unverified" and said in told[document.hex()]["problems"]
    content = recovering.files()["contract"]
    assert content == b"c" * 40_000 or tamper is parts_of_another


def test_rows_that_were_put_back_are_seen_against_the_audit_chain_and_what_the_user_remembers(
    recovering: Recovering,
) -> None:
    """The same attack with and without the chain cut off too: the user's own memory stands alone then."""
    vault = recovering.vault
    attacker = Attacker(vault)
    document = vault.upload("alice", b"1" * 100, "contract", share=("bob",))
    tables = ("document", "document_version", "part_list", "shared_key_registry")
    old = {table: attacker.rows(table) for table in tables}
    with vault.services() as bundle:
        bundle.sharing.revoke(vault.alice.account, [document], ["bob"])
    assert vault.read("alice", document) == b"1" * 100
    for table, rows in old.items():
        attacker.put(table, *rows)
    recovering.backup()
    problems = recovering.told()[document.hex()]["problems"]
    assert "you remember a newer state of this document" in problems
    assert sum("older one was put back" in problem for problem in problems) == 3
    told = recovering.told(name="bob")[document.hex()]
    assert told["state"] == "failed" and any("older one was put back" in text for text in told["problems"])
    last = attacker.rows("audit_entry")[-1]
    with vault.database() as connection:
        connection.execute("DELETE FROM audit_entry WHERE sequence > 5")
    assert last["sequence"] > 5
    recovering.backup()
    shutil.rmtree(recovering.folder, ignore_errors=True)
    ended = recovering("--json")
    assert ended.code == 2
    assert "the audit chain" in json.loads(ended.out)["problems"][0]
    (told,) = json.loads(ended.out)["documents"]
    assert told["problems"] == ["you remember a newer state of this document"]


def test_statements_lead_from_a_remembered_key_to_the_one_that_signs_and_never_back() -> None:
    """Each pair by the one before it; a statement by another pair, or for another user, leads nowhere."""
    user, pairs = b"u" * 16, [generate_keys() for _ in range(3)]

    def statement(by: int, of: int, who: bytes = user) -> bytes:
        return sign_statement(
            pairs[by], user=who, old_key_version=of, new_key_version=of + 1,
            new_fingerprint=pairs[of].public.fingerprint,
        )  # fmt: skip

    def leads(one: int, other: int, *statements: bytes | None) -> bool:
        account = Account(b"r" * 16, "reader", bytes(32), {}, {}, [])
        recovery = Recovery(None, None, account, None)  # type: ignore[arg-type]
        for at, (pair, said) in enumerate(zip(pairs, statements, strict=True)):
            values = {
                "version": at + 1,
                "wrap_public": pair.public.wrap_der,
                "sign_public": pair.public.sign_der,
            }
            recovery._public[user, at + 1] = Row("user_key", values | {"statement": said})
        return recovery._leads(user, pairs[one].public.fingerprint, pairs[other].public.fingerprint)

    good = (None, statement(0, 1), statement(1, 2))
    assert [leads(one, other, *good) for one, other in ((0, 0), (0, 1), (0, 2), (1, 2))] == [True] * 4
    assert [leads(one, other, *good) for one, other in ((1, 0), (2, 0), (2, 1))] == [False] * 3
    assert not leads(0, 2, None, None, statement(1, 2))
    assert not leads(0, 1, None, statement(2, 1), None)
    assert not leads(0, 1, None, statement(0, 1, b"v" * 16), None)


@pytest.mark.parametrize("ended", [False, True], ids=["halfway", "ended"])
def test_documents_of_somebody_who_changes_his_keys_come_out_with_every_check(
    recovering: Recovering, monkeypatch: pytest.MonkeyPatch, ended: bool
) -> None:
    """Own ones and, for a reader who remembers the old pair, shared ones: the statement leads on."""
    vault = recovering.vault
    monkeypatch.setattr(keypairs, "READ_AT_ONCE", 2)
    for n in range(4):
        vault.read("bob", vault.upload("alice", b"%d" % n, f"{n}.txt", share=("bob",)))
    rotate(vault, "alice", to_the_end=ended)
    recovering.backup()
    for name in ("alice", "bob"):
        told = recovering(name=name)
        assert told.code == 0, told.text
        assert recovering.files() == {f"{n}.txt": b"%d" % n for n in range(4)}
        shutil.rmtree(recovering.folder)
    row = Attacker(vault).row("user_key", user_id=vault.alice.account.user_id, version=2)
    Attacker(vault).update("user_key", row["id"], statement=row["statement"][::-1])
    Attacker(vault).reseal("user_key", row["id"])
    recovering.backup()
    told = recovering(name="bob")
    assert told.code == (2 if ended else 0)
    assert ("not the one that you first met" in told.out) == ended


def test_damage_is_told_with_its_place_and_what_opens_is_recovered_when_accepted(
    recovering: Recovering,
) -> None:
    vault = recovering.vault
    content = os.urandom(100_000)
    document = vault.upload("alice", content, "photo")
    lost = vault.upload("alice", b"lost", "lost")
    attacker = Attacker(vault)
    path = attacker.blob(document)
    flip(path, 20_000)
    attacker.blob(lost).unlink()
    recovering.backup()
    told = recovering.told()
    assert "do not open: blob digest" in told[document.hex()]["problems"][0]
    assert "the blob is missing" in told[lost.hex()]["problems"][0]
    assert recovering.files() == {}
    shutil.rmtree(recovering.folder)
    told = recovering.told("--accept-unverified", document.hex())
    assert "16,384 of them do not open and are zeros" in told[document.hex()]["problems"][0]
    zeros = content[:16384] + bytes(16384) + content[32768:]
    assert recovering.files() == {"photo": zeros}


def test_blobs_may_lie_in_a_folder_and_a_cut_archive_gives_what_it_has(
    recovering: Recovering, tmp_path: Path
) -> None:
    vault = recovering.vault
    vault.upload("alice", b"a" * 50_000, "a")
    recovering.backup(with_blobs=False)
    assert recovering("--blobs", str(vault.blobs)).code == 0
    assert recovering.files() == {"a": b"a" * 50_000}
    shutil.rmtree(recovering.folder)
    recovering.backup()
    whole = recovering.archive.read_bytes()
    recovering.archive.write_bytes(whole[: whole.index(b"end.json")])
    ended = recovering()
    assert ended.code == 2 and "the archive is not whole" in ended.out
    assert recovering.files() == {"a": b"a" * 50_000}


def test_what_is_no_archive_is_said(recovering: Recovering, tmp_path: Path) -> None:
    for content in (b"", b"hello" * 1000, bytes(2048)):
        recovering.archive.write_bytes(content)
        ended = recovering()
        assert ended.code == 1 and "not a backup" in ended.err, ended.text
    recovering.archive.unlink()
    assert recovering().code == 1


def test_a_list_writes_nothing(recovering: Recovering) -> None:
    recovering.vault.upload("alice", b"a", "\u202ename")
    recovering.backup()
    ended = recovering("--list")
    assert ended.code == 0 and "\\u202ename" in ended.out and "\u202e" not in ended.out
    assert not recovering.folder.exists()
