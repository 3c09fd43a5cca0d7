"""The tallies of a database: counted for sessions of an older release, gone with their sessions."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from sojourn_server.domain.model import Metrics
from sojourn_server.store.postgres import Options, PostgresStore, schema
from tests import postgres
from tests.store.backends import PostgresBackend
from tests.store.kit import APP, a_session, create, delete, found
from tests.store.older import assert_counted, old_apps, old_row, old_sessions


@pytest.fixture
def older() -> Iterator[str]:
    """A database as schema 1 has it."""
    dsn = postgres.server().fresh()
    with psycopg.connect(dsn, autocommit=True) as made:
        made.execute(schema.migrations()[0][1].encode())
        made.execute("CREATE TABLE sojourn_schema (version integer NOT NULL)")
        made.execute("INSERT INTO sojourn_schema VALUES (1)")
        for app in old_apps():
            made.execute(
                "INSERT INTO app (name, head, created, contents, epoch, record)"
                " VALUES (%(name)s, %(head)s, %(created)s, 0, 0, %(record)s)",
                app,
            )
        for number, session in enumerate(old_sessions(), 1):
            made.execute(
                "INSERT INTO session (pk, app_pk, uid, user_id, session_id, status, parent,"
                " update_time, activity_time, due, record) VALUES (%(pk)s, %(app_pk)s, %(uid)s,"
                " %(user)s, %(session_id)s, %(status)s, %(parent)s, %(update_time)s,"
                " %(activity_time)s, %(due)s, %(record)s)",
                {**old_row(session, number), "user": session.user},
            )
    yield dsn
    with psycopg.connect(dsn, autocommit=True) as database:
        database.execute("DROP SCHEMA public CASCADE")
        database.execute("CREATE SCHEMA public")


@pytest.mark.rule("S70", "S71")
async def test_sessions_of_an_older_database_are_counted(
    older: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sojourn_server.store.postgres.backfill._AT_ONCE", 7)
    store = PostgresStore(Options(older))
    assert await store.versions() == (1, schema.newest())
    await store.open()
    await assert_counted(store, old_sessions())
    await store.close()


@pytest.mark.rule("S74")
async def test_no_row_names_a_user_without_sessions(backend: PostgresBackend) -> None:
    store = await backend.open()
    metrics = Metrics(requests=1, counters={"tokens": 3})
    await create(store, a_session("s-1", user="gone", metrics=metrics))
    with psycopg.connect(backend.dsn, autocommit=True) as looking:

        def rows() -> list[tuple[object, ...]]:
            both = "SELECT user_id FROM tally UNION ALL SELECT user_id FROM tally_counter"
            return sorted(looking.execute(both.encode()).fetchall())

        assert rows() == [("",), ("",), ("gone",), ("gone",)]
        await delete(store, await found(store, "s-1", "gone", APP))
        assert rows() == []
