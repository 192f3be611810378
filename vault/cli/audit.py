"""``docvault audit``: prove the audit chain, hand it on, hold it against its anchor."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path

import click

from vault.cli.server import as_json, console, echo_json, opened
from vault.services.anchor import Line
from vault.services.chain import AnchorState, Verdict


@click.group()
def audit() -> None:
    """Prove, export and anchor the audit chain."""


@audit.command()
@click.option(
    "--anchor", "copies", multiple=True, type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A copy of an anchor file that must fit as well; may be given several times.",
)  # fmt: skip
@as_json
def verify(copies: tuple[Path, ...], json_: bool) -> None:
    """Walk every entry and name each position that is not as it should be; exit code 2 when there is one."""
    with opened(looking=True) as vault, console.status("Walking the audit chain"):
        verdict = vault.chain.verify(copies)
    if json_:
        echo_json(_shape(verdict))
    else:
        _tell(verdict)
    sys.exit(0 if verdict.whole else 2)


def _shape(verdict: Verdict) -> dict[str, object]:
    end = verdict.end
    return {
        "whole": verdict.whole,
        "entries": verdict.entries,
        "end": {"sequence": end.sequence, "entry_hash": end.entry_hash.hex()} if end else None,
        "anchored": verdict.anchored,
        "faults": [asdict(fault) for fault in verdict.faults],
        "went_back": verdict.went_back,
    }


def _tell(verdict: Verdict) -> None:
    for fault in verdict.faults:
        click.echo(f"position {fault.position}: {fault.text}")
    if verdict.went_back:
        first = verdict.went_back[0]
        click.echo(
            f"A clock was put back: {len(verdict.went_back)} entries are earlier than the one before, first {first}."
        )
    wrong = len(verdict.faults)
    lines = f"{verdict.anchored} lines of anchors" if verdict.anchored else "No anchor"
    click.echo(f"{verdict.entries} entries; {lines} compared.")
    found = "1 thing is" if wrong == 1 else f"{wrong} things are"
    click.echo(f"{found} not as it should be." if wrong else "The audit chain is whole.")


@audit.command()
@click.option("--output", type=click.Path(path_type=Path), help="A new file, readable by its owner only.")
def export(output: Path | None) -> None:
    """Write every entry as a line of JSON, to standard output or a new file; no key is needed to verify it."""
    with opened(looking=True) as vault:
        if output is None:
            vault.chain.export(sys.stdout.buffer.write)
            return
        try:
            descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise click.ClickException(f"{output} exists already; name a new file.") from None
        with os.fdopen(descriptor, "wb") as file, console.status("Writing the audit chain"):
            count = vault.chain.export(file.write)
            file.flush()
            os.fsync(file.fileno())
    click.echo(f"{count} entries are in {output}.", err=True)


@audit.command()
@click.option("--accept", is_flag=True, help="Let an older state that was put back stand, after asking.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
def anchor(accept: bool, yes: bool, json_: bool) -> None:
    """Hold the chain against the anchor file, and note its end there; exit code 2 when they do not agree.

    Without DOCVAULT_ANCHOR_FILE it prints the line, to be kept somewhere else by hand.
    """
    with opened() as vault:
        state = vault.chain.anchor_state()
        if accept and state.alarm:
            click.echo(state.alarm, err=True)
            if not yes:
                click.confirm(
                    "Everything after the state that is there now is lost. Let it stand?", abort=True
                )
            state = vault.chain.accept()
    if json_:
        echo_json(_state(state))
    else:
        _tell_state(state)
    sys.exit(2 if state.alarm else 0)


def _state(state: AnchorState) -> dict[str, object]:
    last = state.last
    return {
        "file": str(state.path) if state.path else None,
        "satisfied": not state.alarm,
        "alarm": state.alarm or None,
        "end": {"sequence": state.end.sequence, "entry_hash": state.end.entry_hash.hex()},
        "anchored": {"sequence": last.sequence, "at": last.at.isoformat()} if last else None,
    }


def _tell_state(state: AnchorState) -> None:
    if state.path is None:
        click.echo(Line.now(state.end).encoded().decode(), nl=False)
    elif state.alarm:
        click.echo(f"READ-ONLY: {state.alarm}")
    else:
        click.echo(
            f"{state.path} has come to position {state.last.sequence if state.last else 0}, the chain to "
            f"{state.end.sequence}."
        )
