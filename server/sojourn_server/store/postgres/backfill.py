"""Filling the tallies for the sessions of an older database: the second migration."""

from __future__ import annotations

from typing import Any, Final

from sojourn_server.store.postgres.connection import Link, Statement
from sojourn_server.store.postgres.queries import QUERIES
from sojourn_server.store.postgres.tally_rows import tally_statements
from sojourn_server.store.tallies import AppMoves, Tallies, stored_session

_AT_ONCE: Final = 5_000
"""Sessions after which what was counted is written: memory holds no more."""


async def fill(link: Link) -> None:
    """Count every session there is, within the migration's transaction."""
    sql: str = QUERIES.backfill_first
    place: tuple[Any, ...] = ()
    while True:
        (rows,) = await link.run([(sql, (*place, _AT_ONCE))])
        if not rows:
            return
        apps = AppMoves()
        moved: dict[int, Tallies] = {}
        for app_pk, _user, _status, _pk, record in rows:
            session = stored_session(record)
            apps.move(app_pk, session)
            moved.setdefault(app_pk, Tallies()).move(app_pk, None, session)
        statements: list[Statement] = [(QUERIES.backfill_app, row) for row in apps.rows()]
        for app_pk, tallies in moved.items():
            statements += tally_statements(app_pk, tallies)
        await link.run(statements)
        sql, place = QUERIES.backfill_after, rows[-1][:4]
