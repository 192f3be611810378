"""What an operator types on the server: ``serve``, ``users``, ``keys``, ``check``, ``sweep``."""

from __future__ import annotations

import json
import os
import resource
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from vault.app import create_app, migrate_schema, new_master_key
from vault.config import Settings, load_settings
from vault.errors import AuditBroken, VaultError
from vault.services.check import Report
from vault.services.masterkey import KeyState, Named, Outcome
from vault.wiring import Services, alarm, opened_once, services, wiring, write_key_file

ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": "134217728",
    "MALLOC_TRIM_THRESHOLD_": "268435456",
    "MALLOC_ARENA_MAX": "1",
}

console = Console(highlight=False)


@contextmanager
def opened(new: Settings | None = None, *, looking: bool = False) -> Iterator[Services]:
    """Give the services of a vault whose schema is current and whose master key fits.

    Only ``serve``, which passes its settings, may find no vault there and make one: a command in the wrong folder must
    not. Raises ``Misconfigured``, and ``AuditBroken`` where the chain has no end, unless ``looking`` for what is wrong.
    """
    settings = new or load_settings()
    if new is None:
        settings.refuse_absent_vault()
    app = create_app(settings)
    with opened_once(app):
        with suppress(AuditBroken) if looking else nullcontext():
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
    # Keys and contents are in memory: no crash writes them to a disk (attack M7).
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
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
    is_new_key = not (settings.names_master_key or (settings.instance / "master.key").exists())
    with opened(settings) as vault:
        wiring().store.check()
        base = settings.public_url or f"http://{settings.host}:{settings.port}"
        if is_new_key:
            key_file = (settings.instance / "master.key").absolute()
            click.echo(f"A master key was made in {key_file}. Back it up, away from this server.")
        stopped = alarm()
        if stopped is not None:
            click.echo(f"READ-ONLY: {stopped.said} {stopped.detail} See `docvault audit verify`.", err=True)
        elif vault.invitations.setup_pending():
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
    """Make a master key, tell which are in use, move rows to a new one."""


@keys.command()
@click.option("--output", type=click.Path(path_type=Path), help="A new file, readable by its owner only.")
def generate(output: Path | None) -> None:
    """Make a master key: 64 hexadecimal digits, to standard output or a new file."""
    key = new_master_key()
    if output is None:
        click.echo(key)
        return
    try:
        write_key_file(output, key)
    except FileExistsError:
        raise click.ClickException(f"{output} exists already; a master key is never overwritten.") from None
    click.echo(f"The master key is in {output}. Keep a copy away from this server.", err=True)


@keys.command()
@as_json
def status(json_: bool) -> None:
    """Tell what each master key does here, since when, and how much is under it."""
    with opened() as vault:
        found = vault.masterkey.status()
    if json_:
        echo_json([_key_in_json(key) for key in found])
        return
    table = Table("key id", "state", "since", "rows", "waits for")
    for key in found:
        since = f"{key.since:%Y-%m-%d}, {_days(key.since)} days" if key.since else ""
        known = "" if key.is_configured or key.state == "retired" else ", NOT CONFIGURED HERE"
        told = (
            key.key_id.hex(),
            _state(key) + known,
            since,
            f"{key.rows:,}",
            _waits(key.waiting, key.is_primary),
        )
        table.add_row(*told)
    console.print(table)
    for key in found:
        if key.may_be_destroyed:
            click.echo(f"{key.key_id.hex()} may be destroyed: no row is under it, and none ever will be.")
        elif key.compromised_at is not None and key.state not in {"seals", "retired"}:
            click.echo(
                f"{key.key_id.hex()}: accept or drop each row that `keys rotate --compromised` refuses, before the "
                "next key is promoted."
            )


STATES = {
    "seals": "seals and opens",
    "announced": "announced: opens, has sealed nothing yet",
    "promoted elsewhere": "promoted on another server",
    "retiring": "opens; `keys rotate` moves its rows",
    "waiting": "opens; its rows are moved, what hangs on it is waited for",
    "empty": "nothing is under it; `keys rotate` retires it",
    "retired": "retired",
    "unknown": "unknown",
}


def _state(key: KeyState) -> str:
    if key.compromised_at is None or key.state in {"seals", "retired"}:
        return STATES[key.state]
    return "somebody else has it; `keys rotate --compromised` moves what is under it"


def _days(since: datetime) -> int:
    return (datetime.now(UTC) - since).days


def _waits(waiting: dict[str, int], is_primary: bool = False) -> str:
    return "" if is_primary else ", ".join(f"{count:,} {name}" for name, count in waiting.items())


def _key_in_json(key: KeyState) -> dict[str, Any]:
    return {
        "key": key.key_id.hex(),
        "state": key.state,
        "since": key.since,
        "days": _days(key.since) if key.since else None,
        "rows": key.rows,
        "waiting": {} if key.is_primary else key.waiting,
        "configured": key.is_configured,
        "seals": key.is_primary,
        "compromised_at": key.compromised_at,
        "may_be_destroyed": key.may_be_destroyed,
    }


def _named(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> list[Named]:
    """Read rows from TABLE:ID, the two words by which a refusal names them."""
    try:
        return [(table, bytes.fromhex(name)) for table, name in (value.split(":") for value in values)]
    except ValueError:
        raise click.BadParameter("a row is named TABLE:ID, as in user:0f1e...") from None


def _key_ids(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> list[bytes]:
    try:
        return [bytes.fromhex(value) for value in values]
    except ValueError:
        raise click.BadParameter("a key id is what `keys status` shows first.") from None


@keys.command()
@click.option("--dry-run", is_flag=True, help="Open every row and seal it anew, but write nothing.")
@click.option(
    "--end", is_flag=True, help="End sessions, codes and uploads under older keys instead of waiting."
)
@click.option(
    "--compromised", is_flag=True, help="Somebody else has an older key: end all that, trust the anchor only."
)
@click.option(
    "--anchor", "copy", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="With --compromised: a copy of the anchor file, where the server's own may have been written by others.",
)  # fmt: skip
@click.option(
    "--key", "stolen", metavar="KEY_ID", multiple=True, callback=_key_ids,
    help="With --compromised: this older key alone, besides those marked before. Repeat it.",
)  # fmt: skip
@click.option("--without-anchor", is_flag=True, help="With --compromised: believe the audit chain as it is.")
@click.option(
    "--broken-chain", is_flag=True,
    help="With --compromised: where the audit chain is broken, believe it up to the entry before that.",
)  # fmt: skip
@click.option(
    "--accept", "accepted", metavar="TABLE:ID", multiple=True, callback=_named,
    help="With --compromised: seal this row anew as it is, although the anchor does not know it so. Repeat it.",
)  # fmt: skip
@click.option(
    "--drop", "dropped", metavar="TABLE:ID", multiple=True, callback=_named,
    help="With --compromised: delete this row, which was refused. Repeat it.",
)  # fmt: skip
@as_json
def rotate(
    dry_run: bool,
    end: bool,
    compromised: bool,
    copy: Path | None,
    stolen: list[bytes],
    without_anchor: bool,
    broken_chain: bool,
    accepted: list[Named],
    dropped: list[Named],
    json_: bool,
) -> None:
    """Seal all rows anew under the master key, while the servers run; the same again goes on where it broke off.

    Exit code 2 when rows were refused; they stay as they are.
    """
    if (accepted or dropped or broken_chain or stolen) and not compromised:
        raise click.UsageError("--accept, --drop, --key and --broken-chain go with --compromised.")
    if set(accepted) & set(dropped):
        raise click.UsageError("A row is accepted or dropped, not both.")
    if dropped and dry_run:
        raise click.UsageError("--drop cannot be tried: leave it out, and the row is shown as refused.")
    with opened() as vault, _bar() as tell:
        anchored = _anchored(vault, copy, broken_chain) if compromised and not without_anchor else None
        how: dict[str, Any] = {
            "compromised": compromised,
            "anchored": anchored,
            "broken_chain": broken_chain,
            "stolen": stolen,
            "accepted": accepted,
        }
        if dry_run:
            done = vault.masterkey.dry_run(tell, **how)
        else:
            done = vault.masterkey.rotate(tell, end=end, dropped=dropped, **how)
    if json_:
        echo_json(asdict(done) | {"retired": [key_id.hex() for key_id in done.retired], "dry_run": dry_run})
    else:
        _tell_rotated(done, dry_run, compromised)
    sys.exit(2 if done.refused or done.missed else 0)


def _anchored(vault: Services, copy: Path | None, broken_chain: bool) -> int:
    path = copy or vault.settings.anchor_file
    if path is not None:
        return vault.masterkey.anchored(path, broken_chain=broken_chain)
    raise click.ClickException(
        "There is no anchor here (DOCVAULT_ANCHOR_FILE), and whoever has an older key could have written the audit "
        "chain anew. Fetch the anchor file, or look at `docvault check` and say --without-anchor."
    )


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on standard error, so that what is printed stays clean."""
    columns = TextColumn("Sealing anew"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _tell_rotated(done: Outcome, dry_run: bool, compromised: bool) -> None:
    click.echo(f"{done.resealed:,} rows {'would be' if dry_run else 'were'} sealed anew.")
    for line in done.refused:
        click.echo(f"Refused: {line}")
    for what, names in (("Accepted", done.accepted), ("Dropped", done.dropped), ("Not refused", done.missed)):
        for name in names:
            click.echo(f"{what}: {name}")
    if done.ended:
        click.echo(f"Ended: {_waits(done.ended)}.")
    if done.waiting:
        click.echo(
            f"Waiting for the end of {_waits(done.waiting)}; then run this again, or end them with --end."
        )
    for key_id in done.retired:
        click.echo(
            f"{key_id.hex()} is retired. Take it out of DOCVAULT_MASTER_KEY_FALLBACKS; it may be destroyed."
        )
    if compromised:
        click.echo(
            "Copies of the database from before stay what they were: whoever has the older key and the passphrase of "
            "somebody reads his documents in them. Ask people to take new passphrases if theirs may be known."
        )


@keys.command()
@as_json
def verify(json_: bool) -> None:
    """Verify every row's seal, what is under a master key in it, and the audit chain; exit code 2 when one fails."""
    with opened() as vault, console.status("Looking at every row"):
        report = vault.masterkey.verify()
    _end_with(report, json_)


@click.command()
@click.option("--deep", is_flag=True, help="Read every blob and verify every signature; the result is kept.")
@click.option(
    "--repair",
    is_flag=True,
    help="Move blobs that are older than 30 days and that nothing names to quarantine, and nothing else.",
)
@as_json
def check(deep: bool, repair: bool, json_: bool) -> None:
    """Prove that every row is as it should be and every blob there; exit code 2 when something is not.

    It needs no passphrase. Without --deep the size of each blob is compared, and some are read, drawn by lot.
    """
    with opened(looking=True) as vault:
        with _progress(json_) as told:
            report = vault.check.run(deep=deep, told=told)
        moved, refused = [], ""
        try:
            moved = vault.check.repair(report) if repair else []
        except AuditBroken as broken:
            refused = str(broken)
        if deep:
            refused += _kept(vault, report)
    _end_with(report, json_, moved, refused)


def _end_with(report: Report, json_: bool, moved: Sequence[str] = (), refused: str = "") -> NoReturn:
    if json_:
        echo_json(_shown(report) | {"quarantined": list(moved), "refused": refused or None})
    else:
        _tell(report, moved, refused)
    sys.exit(0 if report.whole and not refused else 2)


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Draw a bar on a terminal: rows first, then bytes."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    screen = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %")
    with Progress(
        *columns,
        TimeRemainingColumn(),
        console=screen,
        transient=True,
        disable=quiet or not screen.is_terminal,
    ) as progress:
        bars = {
            "rows": progress.add_task("Rows", total=None),
            "bytes": progress.add_task("Blobs", total=None),
        }
        yield lambda what, done, total: progress.update(bars[what], completed=done, total=total)


def _kept(vault: Services, report: Report) -> str:
    """Keep the result for the pages and the metrics; say why not, where the vault is too damaged for that."""
    try:
        vault.check_results.keep(report)
    except VaultError as error:
        return f"The result could not be kept: {error}"
    return ""


def _shown(report: Report) -> dict[str, Any]:
    risks = report.risks
    return {
        "whole": report.whole,
        "deep": report.deep,
        "counted": report.counted,
        "findings": [finding.shown() for finding in report.findings],
        "one_reader": [document.hex() for document in risks.one_reader],
        "no_reader": [document.hex() for document in risks.no_reader],
        "no_recovery": [user.hex() for user in risks.no_recovery],
        "blobs_read": report.blobs_read,
        "bytes_read": report.read_bytes,
        "seconds": round(report.seconds, 3),
    }


def _tell(report: Report, moved: Sequence[str], refused: str) -> None:
    for finding in report.findings:
        click.echo(f"{finding.invariant}  {finding.text}")
    counted = ", ".join(f"{count} {name}" for name, count in sorted(report.counted.items()) if count)
    click.echo(f"Looked at {counted}.")
    per_gib = report.seconds * 2**30 / report.read_bytes if report.read_bytes else 0
    click.echo(
        f"Read {report.blobs_read} blobs, {report.read_bytes:,} bytes, in {report.seconds:.1f} s"
        + (f" ({per_gib:.1f} s per GiB)." if report.read_bytes >= 2**20 else ".")
    )
    risks = report.risks
    for count, what, why in (
        (len(risks.one_reader), "document", "one active account alone can read"),
        (len(risks.no_reader), "document", "no active account can read"),
        (len(risks.no_recovery), "active account", "nothing but a passphrase opens"),
    ):
        if count:
            click.echo(f"At risk: {count} {what}{'s' if count > 1 else ''} that {why}.")
    if moved:
        click.echo(f"Moved {len(moved)} blobs to quarantine.")
    if refused:
        click.echo(refused)
    wrong = len(report.findings)
    found = "1 thing is" if wrong == 1 else f"{wrong} things are"
    click.echo(f"{found} not as it should be." if wrong else "Everything is whole.")


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
