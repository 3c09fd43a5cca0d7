"""The root of the command line: the options that all commands share, and how commands end."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import click

from sojourn import SojournError
from sojourn.cli.failures import ExitCode, failure_of
from sojourn.cli.messages import messages
from sojourn.cli.replay.command import replay
from sojourn.cli.sessions import sessions
from sojourn.cli.settings import Group, Settings, global_options, settings_of
from sojourn.cli.state import state


class Root(Group):
    """Turns what the client raises into one sentence and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except SojournError as error:
            raise failure_of(error, settings_of(ctx)) from error
        except KeyboardInterrupt:
            click.echo("sojourn: interrupted", err=True)
            raise click.exceptions.Exit(ExitCode.INTERRUPTED) from None


cli = Root(
    "sojourn",
    params=global_options(),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="""Look after the sessions of AI agents, from the shell.

    The options below may also stand after a command. Results are tables on a terminal, and JSON
    in a pipe: one object a line, with everything there is.

    \b
    Exit status:
      0    done
      1    refused by the service; the reason says why
      2    a wrong command, option, value or input file
      3    no server answered, or not in time
      4    replay read something else back than what it wrote
      130  interrupted
    """,
    commands=[sessions, messages, state, replay],
)
cli = click.version_option(version("sojourn"), prog_name="sojourn")(cli)


@cli.command("version", hidden=True)
def show_version() -> None:
    """Print the version."""
    click.echo(version("sojourn"))


__all__ = ["Settings", "cli"]
