"""`sojourn audit`, `export`, `import`, `backup` and `info`: what operators do."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import IO, Any

import click

import sojourn
from sojourn.cli import app_views
from sojourn.cli import parameters as given
from sojourn.cli.asking import Progress
from sojourn.cli.output import print_facts, print_json, print_json_lines, print_sentence
from sojourn.cli.session_views import short_time
from sojourn.cli.settings import Command, settings_of
from sojourn.cli.times import format_time

STDIO = "-"
CAUSES = [one.lower().replace("_", "-") for one in sojourn.ChangeCause if one != "UNKNOWN"]


@click.command(cls=Command)
@click.option("--uid", default="", help="Of this session only.")
@click.option("--user", default=None, help='Of one user only; "" means the app\'s own sessions.')
@click.option("--session", "session_id", default="", help="Of this session of the --user only.")
@click.option(
    "--cause",
    "causes",
    type=click.Choice(CAUSES, case_sensitive=False),
    multiple=True,
    help="Only this; again for more.",
)
@click.option("--by", default=None, metavar="ACTOR", help='Only by them; "" is the server itself.')
@click.option("--since", type=given.INSTANT, help="Then or later: a time, or how long ago.")
@click.option("--until", type=given.INSTANT, help="Before then: a time, or how long ago.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most so many.")
@click.pass_context
def audit(
    context: click.Context,
    uid: str,
    user: str | None,
    session_id: str,
    causes: tuple[str, ...],
    by: str | None,
    since: datetime | timedelta | None,
    until: datetime | timedelta | None,
    limit: int | None,
) -> None:
    """Show what was done in an app and by whom, newest first.

    A time is written 2030-05-17T09:30:00Z; how long ago is written 90s, 15m, 2h or 7d.
    """
    settings = settings_of(context)
    now = datetime.now(UTC)
    span = sojourn.TimeRange(
        *(now - one if isinstance(one, timedelta) else one for one in (since, until))
    )
    with settings.connect() as client:
        pager = client.admin.audit(
            uid=uid,
            user=user,
            session_id=session_id,
            causes=[sojourn.ChangeCause(one.upper().replace("-", "_")) for one in causes],
            actor=by,
            time=span,
            page_size=min(limit or 200, 200),
        )
        records = (app_views.audit_entry(one) for one in islice(pager, limit))
        if settings.as_table:
            app_views.show_entries(records)
        else:
            print_json_lines(records)


class _Counting:
    """Passes lines on to a file, and says how many they were."""

    def __init__(self, file: IO[bytes], progress: Progress) -> None:
        self._file = file
        self._progress = progress
        self._lines = 0

    def write(self, line: bytes) -> int:
        return self._file.write(line)

    def writelines(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            self._file.write(line)
            self._lines += 1
        self._progress.say(f"{self._lines} lines exported")


@click.command("export", cls=Command)
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@given.selection_options("any")
@click.option("--older-than", type=given.DURATION, help="Created longer ago than this.")
@click.option("--idle-longer-than", type=given.DURATION, help="Idle for longer than this.")
@click.pass_context
def export(context: click.Context, /, file: str, **selected: Any) -> None:
    """Write an app's sessions, with all they hold, to FILE as JSON Lines; - is the standard output.

    FILE appears when it is whole. `sojourn import` reads it.
    """
    settings = settings_of(context)
    chosen = given.selection(default="any", **selected)
    progress = Progress()
    try:
        with settings.connect() as client:
            if file == STDIO:
                out: Any = _Counting(sys.stdout.buffer, progress)
                done = client.admin.export_jsonl(out, **chosen)
                sys.stdout.buffer.flush()
            else:
                done = client.admin.export_jsonl(file, **chosen)
    finally:
        progress.end()
    if file == STDIO:
        return
    if settings.as_table:
        print_sentence(f"{done.sessions} session(s) with {done.messages} message(s) are in {file}.")
    else:
        print_json({"app": settings.app, "file": file} | asdict(done))


@click.command("import", cls=Command)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option(
    "--on-existing",
    type=click.Choice(["fail", "skip", "rename"], case_sensitive=False),
    default="fail",
    show_default=True,
    help="What to do if a session's id is taken: fail, pass it over, or give it another id.",
)
@click.option("--partial", is_flag=True, help="Take a file that is not whole.")
@click.pass_context
def import_(context: click.Context, file: str, on_existing: str, partial: bool) -> None:
    """Take in the sessions of FILE, which `sojourn export` wrote; - is the standard input.

    Each session is taken in whole or not at all. After an error those that were taken in stay, and
    with --on-existing skip the same file can be imported again.
    """
    settings = settings_of(context)
    source: Any = sys.stdin.buffer if file == STDIO else Path(file)
    with settings.connect() as client:
        done = client.admin.import_jsonl(
            source,
            on_existing=sojourn.OnExisting(on_existing.upper()),
            partial=partial,
            deadline=settings.deadline_said,
        )
    if settings.as_table:
        print_sentence(
            f"{done.sessions} session(s) with {done.messages} message(s) are in {settings.app}; "
            f"{done.skipped} passed over, {done.renamed} renamed."
        )
    else:
        print_json({"app": settings.app} | asdict(done))


@click.command(cls=Command)
@click.argument("name")
@click.pass_context
def backup(context: click.Context, name: str) -> None:
    """Copy the server's SQLite file, while it runs, to a new file NAME in its backup folder."""
    settings = settings_of(context)
    with settings.connect(any_app=True) as client:
        done = client.admin.backup(name, deadline=settings.deadline_said)
    if settings.as_table:
        print_sentence(f"{name} is written, {done.bytes} bytes.")
    else:
        print_json({"name": name, "bytes": done.bytes})


@click.command(cls=Command)
@click.pass_context
def info(context: click.Context) -> None:
    """Say what the server is."""
    settings = settings_of(context)
    with settings.connect(any_app=True) as client:
        found = client.admin.info()
    record = asdict(found) | {"start_time": format_time(found.start_time)}
    if settings.as_table:
        facts = record | {"start_time": short_time(record["start_time"])}
        print_facts([(name.replace("_", " "), value) for name, value in facts.items()])
    else:
        print_json(record)
