"""Printing: JSON Lines for programs, tables and sentences for people.

JSON goes out as UTF-8 whatever the terminal's encoding is: a pipe must not depend on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import click

from sojourn.cli.encode import Record, dumps
from sojourn.cli.failures import visible


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: what it is called, and what it says of a record."""

    title: str
    text: Callable[[Record], object]
    right: bool = False
    """Whether it is set to the right, as numbers are."""
    fold: bool = False
    """Whether a long text goes on in the next line, instead of being cut."""


def print_json(record: object) -> None:
    """Print one object on one line."""
    click.echo(dumps(record).encode() + b"\n", nl=False)


def print_json_lines(records: Iterable[Record]) -> int:
    """Print objects as they come, one a line, and return how many they were."""
    count = 0
    for record in records:
        print_json(record)
        count += 1
    return count


def print_sentence(text: str) -> None:
    """Print a sentence for people on standard output."""
    click.echo(visible(text, keep="\n"))


def print_table(columns: Iterable[Column], records: Iterable[Record], *, nothing: str) -> None:
    """Print records as a table; without any, say so on standard error."""
    # rich costs more than all other imports of a short command: only who sees a table pays.
    from sojourn.cli import tables  # noqa: PLC0415

    rows = list(records)
    if rows:
        tables.show_table(list(columns), rows)
    else:
        click.echo(nothing, err=True)


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Print names and values, one pair a line; values that are None or empty are left out."""
    from sojourn.cli import tables  # noqa: PLC0415 - see above

    tables.show_facts([(name, value) for name, value in facts if value not in (None, "", {}, [])])
