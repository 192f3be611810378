"""The ``docvault`` command. Each subcommand's module is imported when it is called, so that help stays quick."""

from __future__ import annotations

import importlib
import sys

import click

from vault import __version__
from vault.errors import VaultError

COMMANDS = {
    "serve": ("vault.cli.server", "Migrate, then serve the vault."),
    "users": ("vault.cli.server", "Invite, list, disable, enable and promote people."),
    "keys": ("vault.cli.server", "Make, tell, rotate and verify master keys."),
    "check": ("vault.cli.server", "Prove that every row is as it should be and every blob there."),
    "audit": ("vault.cli.audit", "Prove, export and anchor the audit chain."),
    "sweep": ("vault.cli.server", "Destroy what sealed orders name, end what has expired."),
    "backup": ("vault.cli.backup", "Write all rows and blobs into one archive, while the server runs."),
    "restore": ("vault.cli.backup", "Make a vault of such an archive, in an empty database and store."),
    "recover": ("vault.cli.recover", "Decrypt a user's documents from such an archive, without a server."),
    "login": ("vault.cli.client", "Log in to a server, as a user."),
    "logout": ("vault.cli.client", "End the session."),
    "put": ("vault.cli.client", "Send files; the same again goes on where it broke off."),
    "get": ("vault.cli.client", "Fetch a document; the same again goes on where it broke off."),
    "ls": ("vault.cli.client", "List the documents that you own or may read."),
    "share": ("vault.cli.client", "Let people read a document."),
    "revoke": ("vault.cli.client", "Take that back."),
    "rm": ("vault.cli.client", "Delete documents with all their versions."),
}


class LazyGroup(click.Group):
    """Know the names and short texts of all commands without importing one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(COMMANDS[cmd_name][0]), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="docvault")
def docvault() -> None:
    """Document Vault: a multi-user vault whose documents are locked at rest."""


def main() -> None:
    """Run the command; an error that the vault raises on purpose is one line and exit code 1."""
    try:
        docvault.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.exceptions.Exit as ended:
        sys.exit(ended.exit_code)
    except click.Abort:
        sys.exit(130)
    except VaultError as error:
        click.echo(f"docvault: {error}", err=True)
        sys.exit(1)
