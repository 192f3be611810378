"""What a user types on his own machine: ``login``, ``put``, ``get``, ``ls``, ``share`` and their kin."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from vault.agent.client import (
    Client,
    LoggedOut,
    Refused,
    Unreachable,
    check_server,
    log_in,
    stored_login,
    visible,
    whole_name,
)
from vault.agent.configuration import Configuration
from vault.agent.downloads import Fetcher, Wished, file_name
from vault.agent.patience import TRIES
from vault.agent.uploads import MOST_PARALLEL, Sender, Sent, Wanted
from vault.errors import Locked, VaultError

SORTS = ("date", "name", "size", "owner", "type")
ENDS_ALL = (LoggedOut, Locked, Unreachable)

Function = TypeVar("Function", bound=Callable[..., Any])

as_json = click.option("--json", "json_", is_flag=True, help="Print JSON for a script.")
tries_option = click.option(
    "--tries",
    type=click.IntRange(min=1),
    default=TRIES,
    show_default=True,
    help="How often in a row to try without getting further.",
)


class LocalFault(VaultError):
    """A file or folder of this machine could not be used."""


@contextmanager
def plain_errors() -> Iterator[None]:
    """Make one line of what the system says about a file; a pipe whose reader is gone is the caller's matter."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise
        place = f"{visible(error.filename)}: " if error.filename else ""
        raise LocalFault(f"{place}{visible(error.strerror or type(error).__name__)}") from error


@contextmanager
def connected() -> Iterator[Client]:
    """Give a client with the stored login."""
    with plain_errors(), Client.of_stored_login(Configuration()) as client:
        yield client


def echo_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, default=str))


class Shown:
    """Progress on a terminal's standard error; nothing but notices where it is none."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
            transient=True,
        )

    def __enter__(self) -> Shown:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def bar(self, name: str, size: int | None) -> Callable[[int], None]:
        """Add a bar and return what moves it to so many bytes."""
        task = self._progress.add_task(visible(name), total=size)
        return lambda done: self._progress.update(task, completed=done)

    def notice(self, text: str) -> None:
        if self._progress.disable:
            click.echo(f"docvault: {text}", err=True)
        else:
            self._progress.console.print(text, markup=False, highlight=False)


# login, logout


@click.command()
@click.argument("url", required=False)
@click.option("--username", metavar="NAME", help="Who logs in; asked for where it is not given.")
@click.option(
    "--passphrase-stdin",
    is_flag=True,
    help="Read the passphrase from standard input, to its first line's end.",
)
@as_json
def login(url: str | None, username: str | None, passphrase_stdin: bool, json_: bool) -> None:
    """Log in to the vault at URL, that of the last login where none is given.

    The token is kept in your configuration folder, for you alone; a passphrase is kept nowhere. A session ends when it
    has idled for 30 minutes, and after 12 hours.
    """
    configuration = Configuration()
    before = stored_login(configuration)
    is_asked = sys.stdin.isatty()
    if url is None and before is None and not is_asked:
        raise click.UsageError("Give the server's address.")
    server = check_server(url or (before.server if before else click.prompt("Server", err=True)))
    if username is None:
        if not is_asked:
            raise click.UsageError("Give your name by --username: there is no terminal to ask on.")
        default = before.username if before and before.server == server else None
        username = click.prompt("User name", default=default, err=True)
    with plain_errors():
        made = log_in(configuration, server, str(username), _passphrase(passphrase_stdin))
    if json_:
        echo_json({"server": made.server, "username": made.username})
    else:
        click.echo(f"You are logged in to {made.server} as {visible(made.username)}.")


def _passphrase(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise click.UsageError("There is no terminal to ask on: pipe the passphrase to --passphrase-stdin.")
    answer: str = click.prompt("Passphrase", hide_input=True, err=True)
    return answer


@click.command()
def logout() -> None:
    """End the session, here and on the server."""
    with connected() as client:
        client.log_out()
        click.echo(f"You are logged out of {client.server}.")


# put


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--name", help="The document's name, where it is not the file's.")
@click.option(
    "--share", "recipients", multiple=True, metavar="USER", help="Who may read it; may be given again."
)
@click.option("--new-version", "document", metavar="ID|NAME", help="Make it a new version of this document.")
@click.option("--path", metavar="FOLDERS", help="The folder to put it in, like a/b.")
@click.option(
    "--parallel",
    type=click.IntRange(1, MOST_PARALLEL),
    default=1,
    show_default=True,
    help="Send files of more than 64 MiB in so many pieces at once.",
)
@tries_option
@as_json
def put(
    files: tuple[str, ...],
    name: str | None,
    recipients: tuple[str, ...],
    document: str | None,
    path: str | None,
    parallel: int,
    tries: int,
    json_: bool,
) -> None:
    """Send FILEs to the vault; - is standard input.

    What breaks off goes on by itself. After a kill, or a login, the same command goes on where it was; a file that has
    changed meanwhile begins anew.
    """
    if len(files) > 1 and (name is not None or document is not None):
        raise click.UsageError("--name and --new-version go with one FILE.")
    if "-" in files and name is None:
        raise click.UsageError("Standard input needs a --name.")
    if document is not None and recipients:
        raise click.UsageError(
            "A new version is for those who read the document now: --share goes with a new one."
        )
    if any("," in recipient for recipient in recipients):
        raise click.UsageError("Give each person a --share of his own.")
    with connected() as client, Shown() as shown, client.kept_alive():
        client.configuration.forget_old()
        version_of = client.find(document, scope="owned")["id"] if document is not None else ""
        sender = Sender(client, tries=tries, parallel=parallel, notice=shown.notice)
        ended = []
        for file in files:
            wanted = Wanted(name or os.path.basename(file), path or "", recipients, version_of)
            ended.append(_put_one(sender, shown, file, wanted, is_alone=len(files) == 1))
    if json_:
        echo_json(ended)
    else:
        for done in ended:
            if "error" not in done:
                click.echo(f"{done['id'] or 'stored'}  {visible(done['name'])}")
    if any("error" in done for done in ended):
        sys.exit(1)


def _put_one(sender: Sender, shown: Shown, file: str, wanted: Wanted, *, is_alone: bool) -> dict[str, Any]:
    """Send one file; the error of one among many is told, and the others go on."""
    try:
        with plain_errors():
            sent = _send(sender, shown, file, wanted)
    except VaultError as error:
        if is_alone or isinstance(error, ENDS_ALL):
            raise
        shown.notice(f"{visible(file)}: {error}")
        return {"file": file, "name": wanted.name, "error": str(error)}
    return {"file": file, "name": wanted.name, "id": sent.document, "size": sent.size}


def _send(sender: Sender, shown: Shown, file: str, wanted: Wanted) -> Sent:
    if file == "-":
        return sender.send_stream(sys.stdin.buffer, wanted, shown.bar(wanted.name, None))
    path = Path(file)
    return sender.send_file(path, wanted, shown.bar(wanted.name, path.stat().st_size))


# get


@click.command()
@click.argument("wanted", metavar="ID|NAME")
@click.option("-o", "--output", metavar="FILE|-", help="Where to write it; - is standard output.")
@click.option("--version", metavar="ID", help="An older version; only for the owner.")
@click.option("--force", is_flag=True, help="Overwrite a file that is there.")
@tries_option
@as_json
def get(wanted: str, output: str | None, version: str | None, force: bool, tries: int, json_: bool) -> None:
    """Fetch a document into the current folder, under its own name.

    It is written to a file of the name with .part at its end, which only you can read, and renamed when it is whole.
    The same command again goes on with what is there.
    """
    if output == "-" and json_:
        raise click.UsageError("Standard output holds the document: --json goes with a file.")
    if output is not None and output != "-" and Path(output).is_dir():
        raise click.UsageError("-o is a file, not a folder.")
    with connected() as client, Shown() as shown, client.kept_alive():
        client.configuration.forget_old()
        found = client.find(wanted)
        found = found if "etag" in found else client.document(found["id"])
        told = {} if version else {"etag": found.get("etag"), "sha256": found.get("sha256")}
        wished = Wished(found["id"], version, **told)
        fetcher = Fetcher(client, tries=tries, notice=shown.notice)
        moved = shown.bar(found["name"], None if version else found["size"])
        if output == "-":
            fetcher.fetch_to(wished, sys.stdout.buffer, moved)
            return
        target = Path(output) if output is not None else Path(file_name(found["name"]))
        size = fetcher.fetch(wished, target, force=force, moved=moved)
    if json_:
        echo_json({"id": found["id"], "name": found["name"], "file": str(target), "size": size})
    else:
        click.echo(visible(target))


# ls


@click.command()
@click.option("--shared", "scope", flag_value="shared", help="Only what others share with you.")
@click.option("--owned", "scope", flag_value="owned", help="Only what is yours.")
@click.option("--search", metavar="WORDS", help="Only what has all of these words in its name or folder.")
@click.option(
    "--sort",
    type=click.Choice([*SORTS, *(f"-{sort}" for sort in SORTS)]),
    default="-date",
    show_default=True,
    metavar="|".join(SORTS),
    help="The order; with - before it the reverse.",
)
@click.option(
    "--long", "long_", is_flag=True, help="Also owner, readers, end of the share and media type; exact sizes."
)
@as_json
def ls(scope: str | None, search: str | None, sort: str, long_: bool, json_: bool) -> None:
    """List documents: id, size, date and name."""
    with connected() as client:
        rows = list(client.documents(scope=scope or "all", search=search, sort=sort))
    if json_:
        echo_json(rows)
        return
    lines = [_long(row) if long_ else _short(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [
            cell.rjust(width) if n == 1 else cell.ljust(width)
            for n, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        click.echo("  ".join(cells).rstrip())


def _short(row: dict[str, Any]) -> list[str]:
    return [row["id"], decimal(row["size"]), _local(row.get("date")), _named(row)]


def _long(row: dict[str, Any]) -> list[str]:
    until = f"until {_local(row['expires_at'])}" if row.get("expires_at") else "-"
    readers = row.get("readers")
    told = [
        str(row.get("owner")),
        "1 reader" if readers == 1 else f"{readers} readers",
        until,
        str(row.get("media_type")),
    ]
    return [
        row["id"],
        str(row["size"]),
        _local(row.get("date")),
        *(visible(text) for text in told),
        _named(row),
    ]


def _named(row: dict[str, Any]) -> str:
    return visible(whole_name(row)) if row.get("readable", True) else "(cannot be opened)"


def _local(time: object) -> str:
    try:
        return f"{datetime.fromisoformat(str(time)).astimezone():%Y-%m-%d %H:%M}"
    except ValueError:
        return "-"


# share, revoke, rm


class Moment(click.ParamType):
    """A time with its zone; without one it is that of this machine."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return datetime.fromisoformat(str(value)).astimezone(UTC).isoformat()
        except (ValueError, OverflowError):
            self.fail("Write a time like 2030-01-31, or 2030-01-31T12:00:00Z.", param, ctx)


@click.command()
@click.argument("wanted", metavar="ID|NAME")
@click.argument("usernames", nargs=-1, required=True, metavar="USER...")
@click.option(
    "--until", type=Moment(), metavar="TIME", help="When it ends, like 2030-01-31 or 2030-01-31T12:00:00Z."
)
@as_json
def share(wanted: str, usernames: tuple[str, ...], until: str | None, json_: bool) -> None:
    """Let USERs read a document; all of them or, when one is refused, nobody.

    Compare the six words of a person's key with him once, by telephone or in person.
    """
    with connected() as client:
        document = client.find(wanted, scope="owned")["id"]
        client.share(document, list(usernames), until)
        readers = client.readers(document)
    if json_:
        echo_json({"id": document, "readers": readers})
        return
    named = {username.strip().lower() for username in usernames}
    for reader in readers:
        if reader.get("username") in named:
            click.echo(visible(f"{reader['username']} may read it. His key: {reader.get('fingerprint')}"))


@click.command()
@click.argument("wanted", metavar="ID|NAME")
@click.argument("usernames", nargs=-1, required=True, metavar="USER...")
@click.option("--rekey", is_flag=True, help="Write it anew under new keys, for those who are left.")
@click.option("--at-once", is_flag=True, help="With --rekey: destroy the old content now, not in an hour.")
@as_json
def revoke(wanted: str, usernames: tuple[str, ...], rekey: bool, at_once: bool, json_: bool) -> None:
    """Take a document from USERs who may read it; as a reader, leave it by the name `me`.

    What somebody kept of the old keys opens nothing of a document that was written anew. If this is broken off, it goes
    on from the document's page.
    """
    leaves = usernames == ("me",)
    with connected() as client:
        document = client.find(wanted, scope="shared" if leaves else "owned")["id"]
        for username in usernames:
            last = rekey and username == usernames[-1]
            try:
                work = client.revoke(document, username, rekey=last, at_once=at_once)
            except Refused:
                if rekey and username != usernames[0]:
                    _rekey_all_the_same(client, document, at_once)
                raise
            if not json_:
                click.echo("You have left it." if leaves else f"{visible(username)} may no longer read it.")
        if work is not None:
            finish(client, work, "New keys")
        if json_:
            echo_json({"id": document, "readers": [] if leaves else client.readers(document)})
        elif rekey and not leaves:
            click.echo("It has new keys.")


def _rekey_all_the_same(client: Client, document: str, at_once: bool) -> None:
    """Make new keys although a later name was refused: those before it are out, and must stay out."""
    try:
        work = client.rekey(document, at_once=at_once)
        if work is not None:
            finish(client, work, "New keys")
    except VaultError as error:
        click.echo(f"It has no new keys yet: {error}", err=True)
    else:
        click.echo("It has new keys.", err=True)


def finish(client: Client, work: dict[str, Any], label: str) -> None:
    """Let work that takes long go on to its end, with a bar on a terminal."""
    total = int(work["total"])
    with click.progressbar(length=total, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        while not work["finished"]:
            before, work = work, client.go_on(work["id"])
            bar.update(int(work["done"]) - int(before["done"]))
            if work == before:
                raise LocalFault(
                    f"{label}: somebody else is at this work, or it is stuck. Look at the document's page."
                )


@click.command()
@click.argument("wanted", nargs=-1, required=True, metavar="ID|NAME...")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
def rm(wanted: tuple[str, ...], yes: bool, json_: bool) -> None:
    """Delete documents with all their versions. There is no way back."""
    with connected() as client:
        found = [client.find(each, scope="owned") for each in wanted]
        if not yes:
            for row in found:
                click.echo(f"{row['id']}  {visible(whole_name(row))}", err=True)
            click.confirm(f"Delete {len(found)} for good?", abort=True, err=True)
        for row in found:
            client.delete(row["id"])
            if not json_:
                click.echo(f"{visible(whole_name(row))} is deleted.")
    if json_:
        echo_json([row["id"] for row in found])
