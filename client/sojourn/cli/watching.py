"""`sojourn sessions watch`: every change, as it is committed."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

import sojourn
from sojourn.cli import change_views, encode
from sojourn.cli import parameters as given
from sojourn.cli.endings import raise_if_unread, until_told
from sojourn.cli.output import print_json, print_sentence
from sojourn.cli.positions import PositionFile
from sojourn.cli.settings import Command, settings_of


@click.command(cls=Command)
@given.selection_options("any")
@click.option(
    "--position-file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Keep in FILE how far it came, and go on there the next time.",
)
@click.option("--after", default="", metavar="TOKEN", help="Begin after this token.")
@click.option(
    "--initial-state", is_flag=True, help="Begin with the sessions as they are, if not elsewhere."
)
@click.option("--previous", is_flag=True, help="Show each session as it was before, too.")
@click.option("--content", is_flag=True, help="With metadata, state and messages.")
@click.option(
    "--app-changes", is_flag=True, help="Show changes of shared state and of the app itself, too."
)
@click.option("--bookmarks", is_flag=True, help="Show up to where nothing else has changed.")
@click.option(
    "--bookmark-interval",
    type=given.DURATION,
    help="How often to be told that nothing changed, 100ms to 60s.  [default: 5s]",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="End after N changes.")
@click.option(
    "--resync",
    is_flag=True,
    help="Show the state anew where the log no longer reaches back, instead of failing.",
)
@click.pass_context
def watch(
    context: click.Context,
    /,
    position_file: Path | None,
    after: str,
    initial_state: bool,
    previous: bool,
    content: bool,
    app_changes: bool,
    bookmarks: bool,
    bookmark_interval: timedelta | None,
    limit: int | None,
    resync: bool,
    **selected: Any,
) -> None:
    """Show every change of the app's sessions, each once, in the order of the log.

    It goes on by itself when the server restarts or the connection is cut, and ends with status 0
    on Ctrl-C, SIGTERM, and when nobody reads its output any more. With --position-file each change
    comes once over all runs; only what was printed when a run was killed by force may come again.
    """
    settings = settings_of(context)
    if after and position_file is not None:
        raise click.UsageError("--after and --position-file exclude each other.")
    if after and initial_state:
        raise click.UsageError("--after and --initial-state exclude each other.")
    file = None if position_file is None else PositionFile(position_file)
    start = (file.read() if file is not None else None) or sojourn.WatchPosition(after)
    with until_told() as ending, ExitStack() as stack:
        client = stack.enter_context(settings.connect())
        watched = client.sessions.watch(
            after=start,
            initial_state=initial_state and not start.token,
            previous=previous,
            content=content,
            app_changes=app_changes,
            bookmark_interval=bookmark_interval,
            resync=(lambda _error: None) if resync else None,
            **given.selection(default="any", **selected),
        )
        with ending.waiting():
            stack.enter_context(watched)
        changes = 0
        while limit is None or changes < limit:
            with ending.waiting():
                event = next(watched)
            if bookmarks or not isinstance(event, sojourn.Bookmark):
                _show(event, as_table=settings.as_table)
            else:
                raise_if_unread()
            if file is not None:
                file.write(watched.position)
            changes += isinstance(event, sojourn.Change)


def _show(event: sojourn.WatchEvent, *, as_table: bool) -> None:
    if as_table:
        print_sentence(change_views.line_of(event))
    else:
        print_json(encode.event(event))
