"""``docvault recover``: decrypt a user's documents from a backup, without a server, a database or a web framework.

This needs the archive, the master key, and the user's passphrase or recovery code; nothing else of the vault. It
imports the verbs of ``vault.crypto`` and the reader of archives alone, and does what ``docs/recover.md`` says step by
step. A check that fails does not end it: each document is told with all that is wrong with it, and is left out until
it is accepted by its id. What is encrypted opens or does not open; nothing can make up for that.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.progress import track

from vault.cli.recover.account import KINDS, Account, CannotRecover, open_account
from vault.cli.recover.content import Content, Folder
from vault.cli.recover.documents import Found, Recovery, Told
from vault.cli.recover.rows import WRONG, Rows, why
from vault.crypto.masterkey import MasterKeys, parse_master_key
from vault.errors import Misconfigured, Unreadable
from vault.storage.archive import ArchiveReader
from vault.storage.folder import FolderStore


@click.command()
@click.option(
    "--backup",
    "archive",
    required=True,
    type=click.Path(path_type=Path),
    help="What `docvault backup` wrote.",
)
@click.option("--user", "name", required=True, metavar="NAME", help="Whose documents.")
@click.option("--master-key-file", "key_files", multiple=True, type=click.Path(path_type=Path),
              help="A file with the master key; again for older ones. Else DOCVAULT_MASTER_KEY or _FILE.")  # fmt: skip
@click.option(
    "--recovery-code", "by_code", is_flag=True, help="Ask for the recovery code, not the passphrase."
)
@click.option(
    "--secret-stdin", is_flag=True, help="Read passphrase or code from standard input, to its line's end."
)
@click.option("--output", type=click.Path(path_type=Path), default=Path("recovered"), show_default=True,
              help="A new folder for the documents.")  # fmt: skip
@click.option("--blobs", type=click.Path(path_type=Path), help="A folder with the blobs, where the archive has only "
              "their list.")  # fmt: skip
@click.option(
    "--document", "chosen", multiple=True, metavar="ID", help="Only this document; may be repeated."
)
@click.option("--all-versions", is_flag=True, help="Older versions of the user's own documents too.")
@click.option("--accept-unverified", "accepted", multiple=True, metavar="ID",
              help="Recover this document although checks fail; what does not open becomes zeros.")  # fmt: skip
@click.option("--list", "only_list", is_flag=True, help="Check and list, and write nothing.")
@click.option("--json", "json_", is_flag=True, help="Print JSON for a script.")
def recover(
    archive: Path, name: str, key_files: tuple[Path, ...], by_code: bool, secret_stdin: bool, output: Path,
    blobs: Path | None, chosen: tuple[str, ...], all_versions: bool, accepted: tuple[str, ...], only_list: bool,
    json_: bool,
) -> None:  # fmt: skip
    """Decrypt a user's documents from a backup, without a server.

    Every check of the server is made: seals, signatures, part lists, what the user remembers, the audit chain. A
    document that fails one is told with all that is wrong and left out, until it is accepted by its id. Exit code 2
    when anything was wrong.
    """
    master = read_master_keys(key_files)
    kind = "recovery" if by_code else "passphrase"
    with ArchiveReader(archive) as source:
        rows = Rows(source, master)
        account = open_account(rows, master, name, kind, ask(kind, from_stdin=secret_stdin))
        recovery = Recovery(rows, master, account, source)
        found, told = recovery.find(all_versions=all_versions)
        found = [each for each in found if not chosen or each.document.id.hex() in chosen]
        content = Content(source if blobs is None else FolderStore(blobs))
        folder = None if only_list else Folder(output)
        for each in track(found, "Recovering", console=Console(stderr=True), disable=not sys.stderr.isatty()):
            told.append(recover_one(recovery, each, content, folder, accepted))
        general = _general(source, rows, recovery, account)
    tell(told, general, json_=json_)
    sys.exit(2 if general or any(each.problems for each in told) else 0)


def recover_one(
    recovery: Recovery, found: Found, content: Content, folder: Folder | None, accepted: tuple[str, ...]
) -> Told:
    """Check one version and, where a folder is given and it passes or is accepted, write its content."""
    told = Told(found.document.id.hex())
    manifest, parts, told.problems = recovery.examine(found)
    if manifest is None:
        return told
    told.number, told.name, told.path, told.size = (
        manifest.number, manifest.name, list(manifest.path), manifest.size,
    )  # fmt: skip
    is_accepted = told.document in accepted
    if told.problems and not is_accepted:
        return told
    if folder is None:
        told.state = "listed"
        return told
    mark = f"{told.document[:8]}" if found.is_current else f"{told.document[:8]}, version {manifest.number}"
    try:
        with folder.new_file(manifest, mark) as (file, target):
            told.problems += content.write(manifest, parts, file, accept_damage=is_accepted)
            if told.problems and not is_accepted:
                raise Unreadable(told.problems.pop())
        told.file = str(target)
        told.state = "unverified" if told.problems else "recovered"
    except WRONG as error:
        told.problems.append(why(error))
    except OSError as error:
        told.problems.append(f"the file could not be written: {error.strerror}")
    return told


def _general(source: ArchiveReader, rows: Rows, recovery: Recovery, account: Account) -> list[str]:
    """Tell what is wrong with the archive or the account as a whole."""
    found = [] if source.is_whole else ["the archive is not whole: it was cut"]
    if rows.unreadable:
        found.append(f"{rows.unreadable} lines of rows cannot be read")
    if recovery.chain_problem:
        found.append(f"{recovery.chain_problem}: older rows that were put back would not be seen")
    return found + [f"{row.problem} (the account's own)" for row in account.rows if row.problem]


def read_master_keys(files: tuple[Path, ...]) -> MasterKeys:
    """Read the master keys from files, or from the environment as the server does; the first is the one that seals."""
    environment = os.environ
    if not files and (named := environment.get("DOCVAULT_MASTER_KEY_FILE")):
        files = (Path(named),)
    try:
        texts = [file.read_text("ascii") for file in files]
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured("A master key file cannot be read.") from error
    if not texts and (given := environment.get("DOCVAULT_MASTER_KEY")):
        texts = [given]
    texts += environment.get("DOCVAULT_MASTER_KEY_FALLBACKS", "").replace(",", " ").split()
    if not texts:
        raise CannotRecover("The master key is needed too: --master-key-file, or DOCVAULT_MASTER_KEY.")
    first, *others = map(parse_master_key, texts)
    return MasterKeys(first, others)


def ask(kind: str, *, from_stdin: bool) -> str:
    """Ask for the secret without showing it."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise click.UsageError("There is no terminal to ask on: pipe the secret to --secret-stdin.")
    answer: str = click.prompt(KINDS[kind].capitalize(), hide_input=True, err=True)
    return answer


def tell(told: list[Told], general: list[str], *, json_: bool) -> None:
    """Print what became of each document."""
    if json_:
        click.echo(json.dumps({"problems": general, "documents": [asdict(each) for each in told]}, indent=2))
        return
    for each in told:
        whole = "/".join([*each.path, each.name]) if each.name is not None else "(its name does not open)"
        click.echo(f"{each.state:<10}  {each.document}  {visible(whole)}")
        for problem in each.problems:
            click.echo(f"            {visible(problem)}")
    for problem in general:
        click.echo(f"Attention: {problem}.")
    count = sum(each.state in {"recovered", "unverified"} for each in told)
    wrong = sum(bool(each.problems) for each in told)
    click.echo(f"{count} of {len(told)} documents recovered, {wrong} with something wrong.")


def visible(value: object) -> str:
    """Return a text for a terminal, with what would steer it written out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(value))
