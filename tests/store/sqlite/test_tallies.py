"""The tallies of a file: counted for sessions of an older release, gone with their sessions."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from sojourn_server.store.base import StoreUnusable
from sojourn_server.store.sqlite import SqliteStore, schema
from tests.store.kit import APP, a_session, create, delete, found
from tests.store.older import assert_counted, old_apps, old_row, old_sessions


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sojourn.db"


def write_older(path: Path) -> None:
    """A file as schema 1 has it."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as made:
        for statement in schema.statements(schema.migrations()[0][1]):
            made.execute(statement)
        made.execute("PRAGMA user_version = 1")
        made.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        made.executemany(
            "INSERT INTO app (app_pk, name, head, created, record)"
            " VALUES (:app_pk, :name, :head, :created, :record)",
            old_apps(),
        )
        made.executemany(
            "INSERT INTO session (pk, app_pk, uid, user, session_id, status, parent, update_time,"
            " activity_time, due, record) VALUES (:pk, :app_pk, :uid, :user, :session_id, :status,"
            " :parent, :update_time, :activity_time, :due, :record)",
            [
                {**old_row(session, number), "user": session.user}
                for number, session in enumerate(old_sessions(), 1)
            ],
        )


def tally_rows(path: Path) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(path)) as looking:
        return looking.execute("SELECT of_user, user FROM tally").fetchall()


@pytest.mark.rule("S70", "S71")
async def test_sessions_of_an_older_file_are_counted(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sojourn_server.store.sqlite.backfill._AT_ONCE", 7)
    write_older(path)
    store = SqliteStore(path)
    await store.open()
    await assert_counted(store, old_sessions())
    await store.close()


async def test_a_migration_that_fails_while_it_counts_leaves_the_file_as_it_was(path: Path) -> None:
    write_older(path)
    with contextlib.closing(sqlite3.connect(path)) as broken:
        broken.execute("UPDATE session SET record = x'00' WHERE pk = (SELECT max(pk) FROM session)")
        broken.commit()
    store = SqliteStore(path)
    with pytest.raises(StoreUnusable, match="cannot be read"):
        await store.open()
    await store.close()
    assert schema.version_of(path) == 1


@pytest.mark.rule("S74")
async def test_no_row_names_a_user_without_sessions(path: Path) -> None:
    store = SqliteStore(path)
    await store.open()
    await create(store, a_session("s-1", user="gone"))
    assert tally_rows(path) == [(0, ""), (1, "gone")]
    await delete(store, await found(store, "s-1", "gone", APP))
    assert tally_rows(path) == []
    await store.close()
