"""How many rows there are: counted once, a bounded number at a time, then kept up to date.

`SELECT count(*)` reads a whole index, in one snapshot that keeps the WAL from being
emptied for as long. So each step counts the next few thousand rows and ends; after the
last one, what commits add and remove is enough. What others write behind a step's back
is missed: the number is exact if nothing was written while it was being counted, and
off by no more than that.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from sojourn_server.store.sqlite.queries import QUERIES
from sojourn_server.store.stats import Rows

Run = Callable[[str, tuple[Any, ...]], sqlite3.Cursor]
"""Executes one statement and answers a cursor."""

STEP: Final = 50_000
"""How many rows one step counts: a few milliseconds of a reader's thread."""


class _Walk(NamedTuple):
    """How a table is counted, in the order of its key."""

    table: str
    before: tuple[Any, ...]
    """Lower than every key."""
    skip: str
    """The key of the n-th row after a key."""
    rest: str
    """How many rows there are after a key."""


_WALKS: Final = (
    _Walk("sessions", (-1,), QUERIES.session_skip, QUERIES.session_rest),
    _Walk("messages", (-1, -1), QUERIES.message_skip, QUERIES.message_rest),
    _Walk("changes", (-1, -1, -1), QUERIES.change_skip, QUERIES.change_rest),
    _Walk("requests", (-1, "", "", ""), QUERIES.request_skip, QUERIES.request_rest),
)


class Place(NamedTuple):
    """How far counting has come."""

    walk: int = 0
    """The table; one more than there are: all are counted."""
    after: tuple[Any, ...] | None = None
    """The key to go on after; None: from the beginning."""
    found: int = 0
    """Rows found so far; with `after` None those of the table before, which is done."""


def step(run: Run, place: Place, most: int) -> Place:
    """Count up to `most` more rows of a table.

    Args:
        run: Reads one snapshot.
        place: Where to go on.
        most: At least 1.
    """
    walk = _WALKS[place.walk]
    after, found = (walk.before, 0) if place.after is None else (place.after, place.found)
    row: tuple[Any, ...] | None = run(walk.skip, (*after, most - 1)).fetchone()
    if row is not None:
        return Place(place.walk, row, found + most)
    rest: int = run(walk.rest, after).fetchone()[0]
    return Place(place.walk + 1, None, found + rest)


class Census:
    """Keeps what was counted, and adds what has been written since."""

    def __init__(self) -> None:
        self.most = STEP
        """How many rows the next step counts."""
        self.place = Place()
        self._base = Rows()
        """What there was, less what commits had added by then."""

    @property
    def done(self) -> bool:
        """Whether every table is counted."""
        return self.place.walk == len(_WALKS)

    def note(self, began: Place, place: Place, net: Rows) -> None:
        """Take in what a step has found, unless another one was faster.

        Args:
            began: Where it went on.
            place: Where it came to.
            net: Rows that commits have added, less those they have removed.
        """
        if began is not self.place:
            return
        if place.walk != self.place.walk:
            table = _WALKS[self.place.walk].table
            setattr(self._base, table, place.found - getattr(net, table))
        self.place = place

    def rows(self, net: Rows) -> Rows | None:
        """How many rows there are; None: they are still being counted."""
        if not self.done:
            return None
        found = msgspec.structs.replace(self._base)
        found.add(net)
        return found
