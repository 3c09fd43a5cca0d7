"""Filling the tallies for the sessions of an older file: the second migration."""

from __future__ import annotations

import sqlite3
from typing import Final

from sojourn_server.store.sqlite.queries import QUERIES
from sojourn_server.store.sqlite.tally_rows import bring
from sojourn_server.store.tallies import AppMoves, Tallies, stored_session

_AT_ONCE: Final = 10_000
"""Sessions after which what was counted is written: memory holds no more."""


def fill(connection: sqlite3.Connection) -> None:
    """Count every session there is, within the migration's transaction."""
    moved, apps = Tallies(), AppMoves()
    sessions = connection.execute(QUERIES.backfill_sessions)
    while rows := sessions.fetchmany(_AT_ONCE):
        for app_pk, record in rows:
            session = stored_session(record)
            moved.move(app_pk, None, session)
            apps.move(app_pk, session)
        bring(connection.executemany, moved)
        connection.executemany(QUERIES.backfill_app, apps.rows())
        moved.clear()
        apps.clear()
