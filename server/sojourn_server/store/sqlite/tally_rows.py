"""Bringing to the rows of `tally` what commits have moved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from sqlite3 import Cursor
from typing import Any

from sojourn_server.domain.sums import Sums
from sojourn_server.store.sqlite.queries import QUERIES
from sojourn_server.store.tallies import Tallies, decode_sums, encode_sums

Write = Callable[[str, Sequence[Any]], Cursor]


def bring(write: Write, moved: Tallies) -> None:
    """Add what was moved to the tallies; one without sessions goes.

    The sums are exact and may outgrow 64 bits, so they are added here, not by SQL.
    """
    for key, more in moved.rows():
        row = write(QUERIES.tally_get, key).fetchone()
        sums = Sums() if row is None else decode_sums(row[0])
        sums.add(more)
        if sums.sessions:
            write(QUERIES.tally_put, (*key, sums.sessions, encode_sums(sums)))
        else:
            write(QUERIES.tally_delete, key)
