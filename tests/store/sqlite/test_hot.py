"""Sessions kept in memory: they show what the file shows, and never less than was shown."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sojourn_server.store.base import ReadTx, SessionRow, StoreDown, Tx
from sojourn_server.store.sqlite import SqliteStore
from sojourn_server.store.sqlite.committer import Committer
from sojourn_server.store.sqlite.hot import Cold, Hot, Published, key_of
from tests.store.kit import (
    ACTOR,
    APP,
    Boom,
    ManualClock,
    a_session,
    create,
    create_many,
    delete,
    found,
    head,
    insert,
    update,
)

USER = "ann"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    made = SqliteStore(tmp_path / "sojourn.db", clock=ManualClock(), synchronous="OFF")
    await made.open()
    yield made
    await made.close()


def hot_of(store: SqliteStore) -> Hot:
    return store._readers._hot


async def by_key(tx: ReadTx, session_id: str = "s-1") -> tuple[int, int]:
    """Version and head, from memory if they are there."""
    row = await tx.session_by_key(APP, USER, session_id)
    return (row.session.version if row else 0), await tx.head(APP)


async def from_file(tx: ReadTx, session_id: str = "s-1") -> tuple[int, int]:
    """The same, always from the file."""
    await tx.next_due()
    return await by_key(tx, session_id)


async def bump(store: SqliteStore, session_id: str = "s-1") -> int:
    async def unit(tx: Tx) -> int:
        row = await tx.session_by_key(APP, USER, session_id)
        assert row is not None
        return (await update(tx, row, version=row.session.version + 1)).session.version

    return (await store.apply(APP, ACTOR, unit)).value


async def test_what_was_just_written_is_read_without_the_file(store: SqliteStore) -> None:
    row = await create(store, a_session())
    uid = row.session.uid
    hot = hot_of(store)
    assert hot.ask(by_key, 0) == (1, 1)
    assert hot.ask(lambda tx: tx.session_by_uid(APP, uid), 0) == row
    assert hot.ask(lambda tx: tx.session_by_uid("another", uid), 0) is None
    for query in (from_file, lambda tx: by_key(tx, "unknown"), lambda tx: tx.head("unknown")):
        with pytest.raises(Cold):
            hot.ask(query, 0)


async def test_what_was_read_is_kept_and_the_longest_unused_makes_room(store: SqliteStore) -> None:
    await create_many(store, [a_session(f"s-{number}") for number in range(5)])
    hot = Hot(most=3)
    store._readers._hot = hot
    for number in (0, 1, 2, 0, 3):
        assert (await found(store, f"s-{number}")).session.session_id == f"s-{number}"
    assert len(hot) == 3
    assert [key[2] for key in hot._rows] == ["s-2", "s-0", "s-3"]
    assert len(hot._keys) == 3


async def test_a_session_under_another_id_or_deleted_is_kept_no_more(store: SqliteStore) -> None:
    row = await create(store, a_session())

    async def rename(tx: Tx) -> None:
        await update(tx, row, session_id="s-2")

    await store.apply(APP, ACTOR, rename)
    assert await store.read(by_key) == (0, 2)
    renamed = await found(store, "s-2")
    await delete(store, renamed)
    assert await store.read(lambda tx: by_key(tx, "s-2")) == (0, await head(store))
    assert await store.read(lambda tx: tx.session_by_uid(APP, row.session.uid)) is None


async def test_nothing_of_a_unit_that_failed_is_shown(store: SqliteStore) -> None:
    row = await create(store, a_session())

    async def half(tx: Tx) -> None:
        await update(tx, row, version=99)
        await insert(tx, a_session("half"))
        raise Boom

    neighbours = [bump(store), store.apply(APP, ACTOR, half), bump(store)]
    answers = await asyncio.gather(*neighbours, return_exceptions=True)
    assert isinstance(answers[1], Boom)
    assert await store.read(by_key) == (3, 3)
    assert await store.read(lambda tx: by_key(tx, "half")) == (0, 3)


async def test_after_a_failed_commit_nothing_is_taken_from_memory(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await create(store, a_session())

    def breaks(*_: object, **__: object) -> int:
        raise sqlite3.OperationalError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(Committer, "_attempt", breaks)
        with pytest.raises(StoreDown):
            await bump(store)
    assert len(hot_of(store)) == 0
    assert await store.read(by_key) == (1, 1)


def test_once_the_file_has_shown_a_commit_memory_waits_for_it() -> None:
    """What a reader's thread may see before the loop has heard of it."""
    hot, row = Hot(), _row(version=1)
    hot.commit_begins()
    hot.commit_ends(Published({key_of(row): row}, {APP: 1}))
    hot.commit_begins()  # the second commit reaches the file at some time from here on …
    assert hot.ask(by_key, 0) == (1, 1)
    stamp = hot.read_begins()
    newer = _row(version=2)
    hot.read_ends(stamp, {key_of(newer): newer}, {APP: 2})  # … and a reader has shown it
    with pytest.raises(Cold):
        hot.ask(by_key, 0)
    hot.commit_ends(Published({key_of(newer): newer}, {APP: 2}))
    assert hot.ask(by_key, 0) == (2, 2)


def test_what_a_read_found_is_not_kept_when_a_commit_came_between() -> None:
    hot, old, new = Hot(), _row(version=1), _row(version=2)
    stamp = hot.read_begins()
    hot.commit_begins()
    hot.commit_ends(Published({key_of(new): new}, {APP: 2}))
    hot.read_ends(stamp, {key_of(old): old}, {APP: 1})
    assert hot.ask(by_key, 0) == (2, 2)


def _row(version: int) -> SessionRow:
    session = a_session(uid="01890000-0000-7000-8000-000000000001", version=version)
    return SessionRow(1, 1, session)


async def test_no_reader_ever_sees_less_than_before(store: SqliteStore) -> None:
    """Reads from memory and from the file, mixed at random, while others write."""
    await create(store, a_session())
    stop = asyncio.Event()
    counts = {"memory": 0, "file": 0}

    async def write() -> None:
        while not stop.is_set():
            version = await bump(store)
            seen, _ = await store.read(by_key)
            assert seen >= version, "a read does not see a unit that was answered before"

    async def read(chance: random.Random) -> None:
        last = (0, 0)
        while not stop.is_set():
            way = chance.choice((by_key, from_file))
            try:
                hot_of(store).ask(way, 0)
                counts["memory"] += 1
            except Cold:
                counts["file"] += 1
            shown = await store.read(way)
            assert shown >= last, "a read shows less than the one before"
            assert shown[0] == shown[1], "session and head are of different commits"
            last = shown
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(write()) for _ in range(4)]
    tasks += [asyncio.create_task(read(random.Random(number))) for number in range(8)]
    for _ in range(400):
        await bump(store)
    stop.set()
    await asyncio.gather(*tasks)
    assert min(counts.values()) > 50, counts
