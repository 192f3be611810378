"""``docvault backup`` and ``docvault restore``: a whole vault, but its master key, in one file."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from vault import __version__
from vault.app import create_app, make_empty_schema, migrate_schema
from vault.cli.server import as_json, echo_json, opened
from vault.config import Settings, load_settings
from vault.errors import Misconfigured, VaultError
from vault.services.restore import Restore
from vault.wiring import new_backup, open_backup, opened_once, services, wiring

TOLD = 20
KINDS = {
    "lost": "is lost, and not in this backup (`docvault check`)",
    "damaged": "is damaged, and in this backup as it is (`docvault check`)",
    "deleted": "was destroyed while the backup ran, with the version that it belonged to",
}


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on a terminal's standard error; gives what moves it."""
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
        transient=True,
    )
    with bars:
        task = bars.add_task(what, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


@click.command()
@click.argument("archive", metavar="ARCHIVE")
@click.option("--without-blobs", is_flag=True, help="Write the list of the blobs, and not the blobs.")
@as_json
def backup(archive: str, without_blobs: bool, json_: bool) -> None:
    """Write all rows and blobs into ARCHIVE, a new file, or `-` for standard output.

    The server may go on running. The archive opens nothing without the master key, which is not in it. Exit code 2 when
    a blob is lost or damaged; what is there is written all the same.
    """
    target = None if archive == "-" else Path(archive)
    with opened() as vault, progress("Backing up") as moved, new_backup(target) as writer:
        written = vault.backup.write(writer, release=__version__, with_blobs=not without_blobs, moved=moved)
    _tell(asdict(written) | {"whole": written.whole}, json_=json_, to_pipe=archive == "-")
    sys.exit(0 if written.whole else 2)


def _tell(written: dict[str, Any], *, json_: bool, to_pipe: bool) -> None:
    """Say what a backup holds and lacks; on standard error where the archive itself goes to standard output."""
    if json_:
        click.echo(json.dumps(written, indent=2), err=to_pipe)
        return
    rows, blobs = sum(written["rows"].values()), written["blobs"]
    click.echo(
        f"Wrote {rows} rows and {blobs} of {written['named']} blobs, {written['blob_bytes']} bytes.",
        err=to_pipe,
    )
    for kind, what in KINDS.items():
        for name in written[kind][:TOLD]:
            click.echo(f"{name}: {what}", err=to_pipe)
        if len(written[kind]) > TOLD:
            click.echo(f"... and {len(written[kind]) - TOLD} more: {what}", err=to_pipe)


@click.command()
@click.argument("archive", type=click.Path(path_type=Path))
@as_json
def restore(archive: Path, json_: bool) -> None:
    """Make a vault of ARCHIVE, in the empty database and the store that are configured, and check it.

    The master key must be in its place before. What broke off is begun again by the same command.
    """
    settings = load_settings()
    _refuse_absent_key(settings)
    with open_backup(archive) as source, progress("Restoring blobs") as moved:
        app = create_app(settings)
        with opened_once(app):
            vault = services()
            vault.restore.refuse_unfit(source)
            wiring().store.check()
            make_empty_schema(app, str(source.about["schema"]))
            blobs = vault.restore.put_blobs(source, moved)
            rows = vault.restore.put_rows(source)
            migrate_schema(app)
            report = vault.check.run()
            noted = _note(vault.restore)
    if json_:
        findings = [asdict(finding) for finding in report.findings]
        echo_json(
            {"rows": rows, "blobs": blobs, "whole": report.whole, "findings": findings, "refused": noted}
        )
    else:
        click.echo(f"Restored {sum(rows.values())} rows and {blobs} blobs.")
        for finding in report.findings[:TOLD]:
            click.echo(f"{finding.invariant}  {finding.text}")
        if len(report.findings) > TOLD:
            click.echo(f"... and {len(report.findings) - TOLD} more: `docvault check` lists them.")
        if noted:
            click.echo(f"The vault is restored, but takes no changes: {noted}")
        click.echo("Everything is whole." if report.whole else "Not everything is as it should be.")
    sys.exit(0 if report.whole and not noted else 2)


def _note(restore: Restore) -> str:
    """Write into the audit chain that the vault was restored; gives why that cannot be, when it cannot."""
    try:
        restore.note()
    except VaultError as error:
        return str(error)
    return ""


def _refuse_absent_key(settings: Settings) -> None:
    """Raise ``Misconfigured`` where no master key is configured: one that is made now could open nothing."""
    if not (settings.read_master_key() or (settings.instance / "master.key").exists()):
        raise Misconfigured(
            f"There is no master key. Put the key of the backed-up vault into {settings.instance / 'master.key'} "
            "(chmod 600), or set DOCVAULT_MASTER_KEY_FILE; then run the same command again."
        )
