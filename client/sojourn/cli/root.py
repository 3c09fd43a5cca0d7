"""The root of the command line: the options that all commands share, and how commands end."""

from __future__ import annotations

import errno
import logging
from importlib.metadata import version
from typing import Any

import click

from sojourn import SojournError
from sojourn.cli import many
from sojourn.cli.admin import audit, backup, export, import_, info
from sojourn.cli.apps import apps
from sojourn.cli.failures import ExitCode, Failure, failure_of
from sojourn.cli.messages import messages
from sojourn.cli.replay.command import replay
from sojourn.cli.sessions import sessions
from sojourn.cli.settings import Group, global_options, settings_of
from sojourn.cli.state import state
from sojourn.cli.top import top
from sojourn.cli.users import users
from sojourn.cli.watching import watch


class Root(Group):
    """Turns what the client raises into one sentence and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        # What the client logs beside an error that it raises; people get the error's sentence.
        logging.getLogger("sojourn").addHandler(logging.NullHandler())
        try:
            return super().invoke(ctx)
        except SojournError as error:
            raise failure_of(error, settings_of(ctx)) from error
        except OSError as error:
            if error.errno == errno.EPIPE:
                # Nobody reads any more, as with `| head`: click ends quietly.
                raise
            raise Failure(f"cannot write: {error.strerror or error}", ExitCode.REFUSED) from error
        except KeyboardInterrupt:
            click.echo("sojourn: interrupted", err=True)
            raise click.exceptions.Exit(ExitCode.INTERRUPTED) from None


ENDINGS = "\n".join(f"  {code:<5}{code.sentence}" for code in ExitCode)

HELP = f"""Look after the sessions of AI agents, from the shell.

The options below may also stand after a command. Results are tables on a terminal, and JSON in a
pipe: one object a line, with everything there is.

\b
Exit status:
{ENDINGS}
"""

for command in (watch, *many.COMMANDS):
    sessions.add_command(command)

cli = Root(
    "sojourn",
    params=global_options(),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help=HELP,
    commands=[
        sessions,
        messages,
        state,
        apps,
        users,
        audit,
        export,
        import_,
        backup,
        info,
        replay,
        top,
    ],
)
cli = click.version_option(version("sojourn"), prog_name="sojourn")(cli)
