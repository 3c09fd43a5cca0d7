"""`sojourn top`: the sessions as they are now, again and again."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import click

import sojourn
from sojourn.cli import encode
from sojourn.cli import parameters as given
from sojourn.cli.encode import Record
from sojourn.cli.endings import Ending, until_told
from sojourn.cli.output import Column, print_json_lines
from sojourn.cli.settings import Command, settings_of

SILENCE = timedelta(seconds=5)
"""When the server was not heard for so long, the table says so."""

ORDERS: dict[str, Callable[[sojourn.Session], Any]] = {
    "activity": lambda one: one.activity_time,
    "messages": lambda one: one.message_count,
    "requests": lambda one: one.metrics.request_count,
    "errors": lambda one: one.metrics.error_count,
    "age": lambda one: -one.create_time.timestamp(),
}

# No cell folds: a session is a line.
COLUMNS = [
    Column("SESSION", lambda one: one["session_id"]),
    Column("USER", lambda one: one["user"] or None),
    Column("STATUS", lambda one: one["status"]),
    Column("BUSY", lambda one: one["holder"]),
    Column("MSGS", lambda one: one["message_count"], right=True),
    Column("REQS", lambda one: one["metrics"]["request_count"], right=True),
    Column("ERRS", lambda one: one["metrics"]["error_count"], right=True),
    Column("AGE", lambda one: one["age"], right=True),
    Column("IDLE", lambda one: one["idle"], right=True),
    Column("LABELS", lambda one: one["labels"] or None),
]


@click.command(cls=Command)
@given.selection_options("active")
@click.option(
    "--sort",
    type=click.Choice([*ORDERS]),
    default="activity",
    show_default=True,
    help="What comes first: the newest activity, the most messages, requests or errors, the oldest "
    "session.",
)
@click.option(
    "--interval",
    type=given.DURATION,
    default="1s",
    show_default=True,
    help="How often the table is drawn.",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most so many.")
@click.option("--once", is_flag=True, help="Print once, and end.")
@click.pass_context
def top(
    context: click.Context,
    /,
    sort: str,
    interval: timedelta,
    limit: int | None,
    once: bool,
    **selected: Any,
) -> None:
    """Show the app's sessions on the terminal, and keep showing them as they change.

    The server is asked once; from then on it tells of every change. Ends with status 0 on Ctrl-C.
    Where there is no terminal it prints once, and ends.
    """
    settings = settings_of(context)
    if interval < timedelta(milliseconds=100):
        raise click.UsageError("--interval must be at least 100ms.")
    with until_told() as ending, ExitStack() as stack:
        client = stack.enter_context(settings.connect())
        cache = client.sessions.cache(**given.selection(default="active", **selected))
        with ending.waiting():
            stack.enter_context(cache)
        view = View(cache, settings.app, ORDERS[sort], limit)
        if not settings.as_table:
            print_json_lines(encode.session(one) for one in view.sessions())
        elif once or not _is_terminal():
            view.print()
        else:
            view.keep_drawing(ending, interval)


def _is_terminal() -> bool:
    # rich costs more than all other imports of a short command: only who sees a table pays.
    from sojourn.cli import tables  # noqa: PLC0415

    return tables.console().is_terminal


class View:
    """What is shown of a cache."""

    def __init__(
        self,
        cache: sojourn.SessionCache,
        app: str,
        order: Callable[[sojourn.Session], Any],
        limit: int | None,
    ) -> None:
        self._cache = cache
        self._app = app
        self._order = order
        self._limit = limit

    def sessions(self) -> list[sojourn.Session]:
        """Return the sessions to show, those that matter most first."""
        return sorted(self._cache.list(), key=self._order, reverse=True)[: self._limit]

    def print(self) -> None:
        """Print the table once."""
        from sojourn.cli import tables  # noqa: PLC0415 - see above

        tables.console().print(self._table(None))

    def keep_drawing(self, ending: Ending, interval: timedelta) -> None:
        """Draw the table again and again, until a signal ends it."""
        from rich.live import Live  # noqa: PLC0415 - see above

        from sojourn.cli import tables  # noqa: PLC0415

        console = tables.console()
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                live.update(self._table(console.height), refresh=True)
                with ending.waiting():
                    time.sleep(interval.total_seconds())

    def _table(self, height: int | None) -> Any:
        from sojourn.cli import tables  # noqa: PLC0415 - see above

        shown = self.sessions()
        # Two lines above the rows, and one that says how many there are not room for.
        room = len(shown) if height is None else max(1, height - 3)
        now = datetime.now(UTC)
        rows = [_row(one, now) for one in shown[:room]]
        return tables.live_table(self._title(), COLUMNS, rows, left_out=len(shown) - len(rows))

    def _title(self) -> str:
        sessions = self._cache.list()
        busy = sum(one.turn is not None for one in sessions)
        silence = self._cache.heard
        parts = [
            f"{self._app}: {len(sessions)} sessions, {busy} busy",
            f"{sum(one.metrics.request_count for one in sessions)} requests",
            f"{sum(one.metrics.error_count for one in sessions)} errors",
            f"revision {self._cache.revision}",
        ]
        if silence > SILENCE:
            parts.append(f"the server is silent since {silence.total_seconds():.0f} s")
        return ", ".join(parts)


def _row(session: sojourn.Session, now: datetime) -> Record:
    turn = session.turn
    return encode.session(session) | {
        "holder": None if turn is None else turn.holder or "somebody",
        "age": _span(now - session.create_time),
        "idle": _span(now - session.activity_time),
    }


def _span(length: timedelta) -> str:
    """Return a length of time in two or three letters."""
    seconds = max(0, int(length.total_seconds()))
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
