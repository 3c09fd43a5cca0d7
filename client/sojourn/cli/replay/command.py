"""`sojourn replay FILE`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from sojourn.cli.failures import ExitCode, Failure
from sojourn.cli.replay import transcripts
from sojourn.cli.replay.run import Plan, run
from sojourn.cli.settings import Command, settings_of


@click.command(cls=Command)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--agents",
    type=click.IntRange(1, 1000),
    metavar="N",
    default=8,
    show_default=True,
    help="How many agents work at once, each on one session.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help="Only the first N sessions of the file.",
)
@click.option("--verify", is_flag=True, help="Read everything back, and compare byte for byte.")
@click.option(
    "--verify-only", is_flag=True, help="Play nothing; compare with what was played before."
)
@click.option("--replace", is_flag=True, help="Replace sessions of the same ids that have ended.")
@click.option("--delete", is_flag=True, help="Delete the sessions, unless something differs.")
@click.pass_context
def replay(
    context: click.Context,
    file: Path,
    agents: int,
    limit: int | None,
    verify: bool,
    verify_only: bool,
    replace: bool,
    delete: bool,
) -> None:
    """Play recorded agent sessions against the server, and measure.

    FILE holds one JSON object a line: session_id, messages in the chat-completions form, and, if
    known, user and outcome (completed or failed). Each becomes a session with a turn for each thing
    that the user says; each message is stored whole, letter by letter. The sessions are labelled
    source=FILE's name and outcome=….
    """
    settings = settings_of(context)
    connection = settings.connection()
    try:
        found = transcripts.read(file, limit)
    except OSError as error:
        raise click.UsageError(f"Cannot read {file}: {error.strerror}.") from error
    except transcripts.TranscriptError as error:
        raise click.UsageError(f"{file}: {error}.") from error
    plan = Plan(
        file=file.name,
        agents=agents,
        play=not verify_only,
        verify=verify or verify_only,
        delete=delete,
        replace=replace,
    )
    report = asyncio.run(run(connection, found, plan))
    report.print(as_table=settings.as_table)
    if report.failures:
        raise Failure(f"{len(report.failures)} session(s) could not be played", ExitCode.REFUSED)
    if report.mismatches:
        raise Failure(
            f"{len(report.mismatches)} difference(s) between the file and what was read back",
            ExitCode.MISMATCH,
        )
