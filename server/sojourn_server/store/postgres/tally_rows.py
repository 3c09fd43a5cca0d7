"""Bringing to the tallies what commits have moved, and reading them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from sojourn_server.domain.limits import SUM_COUNTERS_MOST
from sojourn_server.domain.sums import Sums
from sojourn_server.store.postgres.arrays import columns
from sojourn_server.store.postgres.connection import Statement
from sojourn_server.store.postgres.queries import QUERIES
from sojourn_server.store.rows import Row
from sojourn_server.store.tallies import Tallies


def tally_statements(app_pk: int, moved: Tallies) -> Iterator[Statement]:
    """The statements that add what was moved; rows that come to nothing go."""
    rows: list[Row] = []
    lessened: list[Row] = []
    counters: list[Row] = []
    spent: list[Row] = []
    for (_, of_user, status, user), more in moved.rows():
        key = (of_user, int(status), user)
        # Numbers that may outgrow 64 bits travel as texts.
        values = (more.requests, more.errors, more.processing_time, more.messages)
        rows.append((*key, more.sessions, *map(str, values)))
        if more.sessions < 0:
            lessened.append(key)
        for name, value in (more.counters or {}).items():
            if value:
                counters.append((*key, name, str(value)))
            if value < 0 or more.sessions < 0:
                spent.append((*key, name))
    if rows:
        yield QUERIES.tallies_add, (app_pk, *columns(rows))
    if lessened:
        yield QUERIES.tallies_prune, (*columns(lessened), app_pk)
    if counters:
        yield QUERIES.tally_counters_add, (app_pk, *columns(counters))
    if spent:
        yield QUERIES.tally_counters_prune, (*columns(spent), app_pk)


def sums_of(row: Row) -> Sums:
    """The sums of a row of `tally_get`."""
    sessions, requests, errors, processing_time, messages, counters = row
    named: dict[str, Any] = {} if counters is None else msgspec.json.decode(counters)
    sums = Sums(
        sessions=sessions,
        requests=int(requests),
        errors=int(errors),
        processing_time=int(processing_time),
        messages=int(messages),
        counters={name: int(value) for name, value in named.items()},
    )
    sums.trim(SUM_COUNTERS_MOST)
    return sums
