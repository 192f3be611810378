"""What an operator types on the server: ``serve``, ``users``, ``keys``, ``check``, ``sweep``."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.console import Console
from rich.table import Table

from vault.app import create_app, migrate_schema, new_master_key
from vault.config import Settings, load_settings
from vault.errors import VaultError
from vault.wiring import Services, services, wiring

ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": "134217728",
    "MALLOC_TRIM_THRESHOLD_": "268435456",
    "MALLOC_ARENA_MAX": "1",
}

console = Console(highlight=False)


@contextmanager
def opened(new: Settings | None = None) -> Iterator[Services]:
    """Give the services of a vault whose schema is current and whose master key fits.

    Only ``serve``, which passes its settings, may find no vault there and make one: a command in the wrong folder must
    not. Raises ``Misconfigured``.
    """
    settings = new or load_settings()
    if new is None:
        settings.refuse_absent_vault()
    app = create_app(settings)
    with app.app_context():
        migrate_schema(app)
        yield services()


def echo_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, default=str))


as_json = click.option("--json", "json_", is_flag=True, help="Print JSON for a script.")


@click.command()
@click.option("--host", help="Address to listen on (127.0.0.1).")
@click.option("--port", type=int, help="Port to listen on (8000).")
@click.option("--workers", type=int, help="Number of worker processes (one for each core, at least 2).")
def serve(host: str | None, port: int | None, workers: int | None) -> None:
    """Migrate, then serve the vault until it is told to stop.

    SIGTERM ends within 30 seconds. SIGHUP starts fresh workers; what runs in the old ones may take another hour.
    """
    given = {"host": host, "port": port, "workers": workers}
    settings = load_settings(**{name: value for name, value in given.items() if value is not None})
    settings.refuse_plain_http_in_public()
    if any(name not in os.environ for name in ALLOCATOR):
        # glibc reads these when a process begins; without them each 1 MiB buffer costs 256 page faults, and each
        # thread keeps the parts of its last upload.
        os.execve(sys.executable, [sys.executable, "-m", "vault.cli", *sys.argv[1:]], os.environ | ALLOCATOR)  # noqa: S606
    _in_a_child(lambda: announce(settings))
    from vault.cli.gunicorn_server import run

    run(settings)


def _in_a_child(act: Callable[[], None]) -> None:
    """Do something in a process of its own, so that the workers, which are forked from this one, do not inherit it."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            act()
        except VaultError as error:
            click.echo(f"docvault: {error}", err=True)
            _leave(1)
        except BaseException:  # noqa: BLE001 - a forked process must never go on as if it were the first
            traceback.print_exc()
            _leave(1)
        _leave(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        sys.exit(1)


def _leave(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def announce(settings: Settings) -> None:
    """Prepare the vault, and print what its operator needs to know, the set-up link while there is no administrator."""
    is_new_key = not (settings.read_master_key() or (settings.instance / "master.key").exists())
    with opened(settings) as vault:
        wiring().store.check()
        base = settings.public_url or f"http://{settings.host}:{settings.port}"
        if is_new_key:
            key_file = (settings.instance / "master.key").absolute()
            click.echo(f"A master key was made in {key_file}. Back it up, away from this server.")
        if vault.invitations.setup_pending():
            click.echo(f"Make the first administrator: {base}/setup#{vault.invitations.make_setup_code()}")
        click.echo(f"Document Vault serves at {base}")


@click.group()
def users() -> None:
    """Invite, list, disable, enable, promote, reset and delete people."""


@users.command("invite")
@click.argument("username")
@as_json
def invite(username: str, json_: bool) -> None:
    """Make a one-time link of 7 days for USERNAME, who then registers himself."""
    with opened() as vault:
        made = vault.invitations.invite(None, username)
        settings = vault.settings
        base = settings.public_url or f"http://{settings.host}:{settings.port}"
        link = f"{base}/invitation#{made.code}"
    if json_:
        echo_json({"username": made.invitation.username, "code": made.code, "link": link})
    else:
        click.echo(link)


@users.command("list")
@as_json
def list_users(json_: bool) -> None:
    """List all accounts."""
    with opened() as vault:
        accounts = vault.accounts.list_accounts(None)
    if json_:
        echo_json([asdict(account) | {"id": account.id.hex()} for account in accounts])
        return
    table = Table("user", "role", "state", "last login", "documents", "bytes")
    for account in accounts:
        seen = f"{account.last_login_at:%Y-%m-%d %H:%M}" if account.last_login_at else "never"
        table.add_row(
            account.username,
            account.role,
            account.state,
            seen,
            str(account.documents),
            str(account.stored_bytes),
        )
    console.print(table)


def _change(username: str, done: str, **change: str) -> None:
    with opened() as vault:
        vault.accounts.change(None, username, **change)
    click.echo(f"{username} is {done}.")


@users.command()
@click.argument("username")
def disable(username: str) -> None:
    """Lock USERNAME out; his sessions end at once."""
    _change(username, "disabled", state="disabled")


@users.command()
@click.argument("username")
def enable(username: str) -> None:
    """Let USERNAME in again."""
    _change(username, "active", state="active")


@users.command()
@click.argument("username")
def promote(username: str) -> None:
    """Make USERNAME an administrator."""
    _change(username, "an administrator", role="admin")


@users.command("reset")
@click.argument("username")
@as_json
def reset(username: str, json_: bool) -> None:
    """Make a one-time link of 7 days for USERNAME, who has lost passphrase and recovery code; it opens nothing old."""
    with opened() as vault:
        made = vault.resets.begin(None, username)
        settings = vault.settings
        base = settings.public_url or f"http://{settings.host}:{settings.port}"
        link = f"{base}/reset#{made.code}"
    if json_:
        echo_json({"username": made.invitation.username, "code": made.code, "link": link})
    else:
        click.echo(link)


@users.command("delete")
@click.argument("username")
@click.option(
    "--confirm", prompt="User name once more, this cannot be undone", help="The user name once more."
)
def delete(username: str, confirm: str) -> None:
    """Delete USERNAME with all documents; the name stays reserved."""
    with opened() as vault:
        vault.deletion.delete(None, username, confirm)
    click.echo(f"{username} is deleted.")


@click.group()
def keys() -> None:
    """Make a master key; tell which are in use."""


@keys.command()
@click.option("--output", type=click.Path(path_type=Path), help="A new file, readable by its owner only.")
def generate(output: Path | None) -> None:
    """Make a master key: 64 hexadecimal digits, to standard output or a new file."""
    key = new_master_key()
    if output is None:
        click.echo(key)
        return
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise click.ClickException(f"{output} exists already; a master key is never overwritten.") from None
    with os.fdopen(descriptor, "w") as file:
        file.write(key + "\n")
    click.echo(f"The master key is in {output}. Keep a copy away from this server.", err=True)


@keys.command()
@as_json
def status(json_: bool) -> None:
    """Tell, for each master key in use, how many rows are sealed under it."""
    with opened() as vault:
        counted = vault.check.rows_by_key()
        mine = {key_id.hex() for key_id in wiring().master.key_ids}
        primary = wiring().master.key_id.hex()
    found = [
        {"key": key, "rows": rows, "configured": key in mine, "seals": key == primary}
        for key, rows in sorted(counted.items())
    ]
    if json_:
        echo_json(found)
        return
    table = Table("key id", "rows", "state")
    for line in found:
        state = "seals and opens" if line["seals"] else "opens" if line["configured"] else "NOT CONFIGURED"
        table.add_row(str(line["key"]), str(line["rows"]), state)
    console.print(table)


@click.command()
@as_json
def check(json_: bool) -> None:
    """Prove that every row is as it should be and every blob there, by its size; exit code 2 when something is not."""
    with opened() as vault, console.status("Looking at every row and the size of every blob"):
        report = vault.check.run()
    if json_:
        echo_json(
            {
                "whole": report.whole,
                "counted": report.counted,
                "findings": [asdict(f) for f in report.findings],
            }
        )
    else:
        for finding in report.findings:
            click.echo(f"{finding.invariant}  {finding.text}")
        counted = ", ".join(f"{count} {name}" for name, count in sorted(report.counted.items()) if count)
        click.echo(f"Looked at {counted}.")
        wrong = len(report.findings)
        found = "1 thing is" if wrong == 1 else f"{wrong} things are"
        click.echo(f"{found} not as it should be." if wrong else "Everything is whole.")
    sys.exit(0 if report.whole else 2)


@click.command()
@as_json
def sweep(json_: bool) -> None:
    """Destroy what sealed orders name, and end what has expired. `serve` does it every hour."""
    with opened() as vault, console.status("Sweeping"):
        swept = vault.sweep.run()
        vault.sweep.note_swept()
    if json_:
        echo_json(asdict(swept))
    else:
        click.echo(", ".join(f"{count} {name}" for name, count in asdict(swept).items()) + ".")
