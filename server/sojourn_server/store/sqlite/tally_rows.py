"""Bringing to the tallies what commits have moved, and reading them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from sojourn_server.domain.limits import SUM_COUNTERS_MOST
from sojourn_server.domain.sums import Sums
from sojourn_server.store.rows import Row
from sojourn_server.store.sqlite.queries import QUERIES
from sojourn_server.store.tallies import Tallies, TallyKey

_LOW_BITS: Final = 62
"""Two low parts add up to less than 64 bits."""
_LOW: Final = (1 << _LOW_BITS) - 1

WriteMany = Callable[[str, Iterable[Sequence[Any]]], object]


def _value(high: int, low: int) -> int:
    return high << _LOW_BITS | low


def bring(write_many: WriteMany, moved: Tallies) -> None:
    """Add what was moved to the tallies; rows that come to nothing go."""
    rows: list[Row] = []
    lessened: list[TallyKey] = []
    counters: list[Row] = []
    spent: list[Row] = []
    for key, more in moved.rows():
        rows.append(
            (
                *key,
                more.sessions,
                more.requests >> _LOW_BITS,
                more.requests & _LOW,
                more.errors >> _LOW_BITS,
                more.errors & _LOW,
                more.processing_time >> _LOW_BITS,
                more.processing_time & _LOW,
                more.messages >> _LOW_BITS,
                more.messages & _LOW,
            )
        )
        if more.sessions < 0:
            lessened.append(key)
        if not more.counters:
            continue
        for name, value in more.counters.items():
            if value:
                counters.append((*key, name, value >> _LOW_BITS, value & _LOW))
            if value < 0 or more.sessions < 0:
                spent.append((*key, name))
    for sql, values in (
        (QUERIES.tally_add, rows),
        (QUERIES.tally_prune, lessened),
        (QUERIES.tally_counter_add, counters),
        (QUERIES.tally_counter_prune, spent),
    ):
        if values:
            write_many(sql, values)


def sums_of(row: Row, counters: Iterable[Row]) -> Sums:
    """The sums of a row of `tally_get`, without its user, and of rows of `tally_counters`."""
    sessions, *parts = row
    values = [_value(*parts[place : place + 2]) for place in range(0, len(parts), 2)]
    requests, errors, processing_time, messages = values
    sums = Sums(
        sessions=sessions,
        requests=requests,
        errors=errors,
        processing_time=processing_time,
        messages=messages,
        counters={name: _value(high, low) for name, high, low in counters},
    )
    sums.trim(SUM_COUNTERS_MOST)
    return sums
