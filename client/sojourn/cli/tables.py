"""Tables on a terminal, by rich. Imported only when there is a table to show."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from sojourn.cli.encode import Record, dumps
from sojourn.cli.failures import visible
from sojourn.cli.output import Column

PIPE_WIDTH = 200
"""How wide a table is that nobody looks at on a terminal."""

STATUS_STYLES = {
    "ACTIVE": "green",
    "COMPLETED": "blue",
    "FAILED": "red",
    "EXPIRED": "yellow",
}


def console() -> Console:
    """Return a console on standard output."""
    found = Console(highlight=False, emoji=False, markup=False)
    return (
        found
        if found.is_terminal
        else Console(highlight=False, emoji=False, markup=False, width=PIPE_WIDTH)
    )


def show_table(columns: Sequence[Column], records: Sequence[Record]) -> None:
    """Print a table."""
    console().print(_table(columns, records))


def live_table(
    title: str, columns: Sequence[Column], records: Sequence[Record], *, left_out: int
) -> Group:
    """Return a title and a table below it; `left_out` rows have no room."""
    more = [Text(f"and {left_out} more", style="dim")] if left_out else []
    return Group(Text(visible(title), style="bold"), _table(columns, records), *more)


def _table(columns: Sequence[Column], records: Sequence[Record]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(
            column.title,
            justify="right" if column.right else "left",
            overflow="fold" if column.fold else "ellipsis",
            no_wrap=not column.fold,
        )
    for record in records:
        table.add_row(*(_cell(column.text(record), fold=column.fold) for column in columns))
    return table


def show_facts(facts: Sequence[tuple[str, object]]) -> None:
    """Print names and values."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(Text(name), _cell(value, fold=True))
    console().print(table)


def _cell(value: object, *, fold: bool) -> Text:
    """Return a cell: plain text, whatever marks or control characters it holds."""
    if value is None:
        return Text("–", style="dim")
    text = value if isinstance(value, str) else _plain(value)
    return Text(visible(text, keep="\n" if fold else ""), style=STATUS_STYLES.get(text, ""))


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={_inner(inner)}" for key, inner in value.items())
    return dumps(value)


def _inner(value: object) -> str:
    return value if isinstance(value, str) else dumps(value)
