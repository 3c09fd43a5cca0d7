"""Names that were removed are in no file: found out by searching the raw bytes.

In the file texts stand as they are, in UTF-8, in columns as well as inside msgpack.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sojourn_server.domain.auditing import AuditRange
from sojourn_server.domain.model import Change, ChangeCause
from sojourn_server.store.base import Candidates, StoreDown, Tx
from sojourn_server.store.sqlite import SqliteStore, stale
from sojourn_server.store.sqlite.stale import NotClearable, Pages, unused
from tests.store.kit import APP, a_request, a_session, an_app, apply

USERS = 120
SESSIONS = 8
DOOMED = range(0, USERS, 2)


def name_of(number: int) -> str:
    return f"SECRET-user-{number:04}-of-many"


def words_of(number: int) -> list[bytes]:
    """What nobody may find of a user: name, ids, labels, message ids."""
    name = name_of(number)
    return [f"{what}{name}".encode() for what in ("", "session-", "label-", "message-")]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    made = SqliteStore(tmp_path / "sojourn.db", synchronous="OFF")
    await made.open()
    await apply(made, lambda tx: tx.put_app(an_app()))
    yield made
    await made.close()


async def write(store: SqliteStore, user: str, number: int) -> None:
    async def unit(tx: Tx) -> None:
        session = a_session(f"session-{user}-{number}", user=user, labels={"team": f"label-{user}"})
        row = await tx.insert_session(session, None)
        await tx.put_request(a_request(f"message-{user}-{number}", outcome=user.encode()))
        await tx.log(Change(cause=ChangeCause.CREATED, after=row.session))

    await store.apply(APP, user, unit)


async def fill(store: SqliteStore) -> None:
    """Many sessions in no order, so that pages are split and rebalanced all the time."""
    jobs = [(name_of(user), number) for user in range(USERS) for number in range(SESSIONS)]
    random.Random(7).shuffle(jobs)
    for begin in range(0, len(jobs), 50):
        await asyncio.gather(*(write(store, *job) for job in jobs[begin : begin + 50]))


async def remove(store: SqliteStore, numbers: Iterable[int]) -> None:
    """Take every row of some users out, or the names out of it, as an erasure does."""
    names = {name_of(number) for number in numbers}

    async def sessions(tx: Tx) -> None:
        for name in names:
            for row in await tx.candidates(Candidates(app=APP, user=name, limit=100)):
                await tx.delete_session(row)

    async def names_too(tx: Tx) -> None:
        changes = [each for each in await tx.changes(APP, 0, 10_000) if each.actor in names]
        empty = [
            msgspec.structs.replace(each, actor="", before=None, after=None) for each in changes
        ]
        await tx.rewrite_changes(APP, empty)
        entries = [
            msgspec.structs.replace(each, actor="", user="alias", session_id="")
            for each in await tx.audit(AuditRange(app=APP, limit=10_000))
            if each.user in names
        ]
        await tx.rewrite_audit(APP, entries)

    await apply(store, sessions)
    await apply(store, names_too)
    await store.forget_requests(2**62, 100_000)
    await apply(store, lambda tx: tx.clear_stale())


async def purge(store: SqliteStore) -> None:
    for _ in range(2_000):
        if await store.purge(100):
            return
        await asyncio.sleep(0.001)
    raise AssertionError("the store never says that it is clean")


def found_in(folder: Path, numbers: Iterable[int]) -> set[int]:
    """Which of some users can be found in any file, by any of their names."""
    raw = b"".join(path.read_bytes() for path in sorted(folder.iterdir()))
    return {number for number in numbers if any(word in raw for word in words_of(number))}


def is_sound(path: Path) -> bool:
    with sqlite3.connect(path) as database:
        answer = database.execute("PRAGMA integrity_check").fetchall()
    database.close()
    return bool(answer == [("ok",)])


@pytest.mark.rule("S92")
async def test_names_of_removed_rows_are_in_no_file(store: SqliteStore, tmp_path: Path) -> None:
    await fill(store)
    await remove(store, DOOMED)
    await empty_the_wal(store)
    assert found_in(tmp_path, DOOMED), "without the clearing they would be found"
    await purge(store)
    assert found_in(tmp_path, DOOMED) == set()
    others = set(range(USERS)) - set(DOOMED)
    assert found_in(tmp_path, others) == others
    await store.close()
    assert is_sound(tmp_path / "sojourn.db")


async def write_everywhere(store: SqliteStore) -> None:
    """Write again to pages all over the file, and empty the WAL into it."""
    others = [name_of(number) for number in range(1, USERS, 2)]
    await asyncio.gather(*(write(store, name, 99) for name in others))
    await empty_the_wal(store)


async def empty_the_wal(store: SqliteStore) -> None:
    connection = store._writer._connection
    assert connection is not None
    await connection.run(lambda raw: raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())


async def test_later_writes_bring_nothing_back(store: SqliteStore, tmp_path: Path) -> None:
    await fill(store)
    await remove(store, DOOMED)
    await purge(store)
    await write_everywhere(store)
    assert found_in(tmp_path, DOOMED) == set()


class _Forgetful:
    """The connection of a `Pages` that forgets to let the writer's pages go."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, sql: str) -> Any:
        return self._connection.execute("SELECT 1" if "shrink" in sql else sql)


async def test_it_is_the_forgotten_pages_that_keep_them_away(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug that is switched on: the writer goes on with the pages that it remembers."""
    clear = Pages.clear

    def clear_only(self: Pages, raw: Any, first: int) -> int:
        forgetful: Any = _Forgetful(raw)
        return clear(self, forgetful, first)

    monkeypatch.setattr(Pages, "clear", clear_only)
    await fill(store)
    await remove(store, DOOMED)
    await purge(store)
    await write_everywhere(store)
    assert found_in(tmp_path, DOOMED)


@pytest.mark.rule("S92")
async def test_others_write_while_the_pages_are_cleared(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stale, "BUDGET_NS", 0)
    monkeypatch.setattr(stale, "CHUNK", 8)
    await fill(store)
    await remove(store, DOOMED)
    done = asyncio.Event()

    async def others() -> None:
        number = 100
        while not done.is_set():
            await asyncio.gather(*(write(store, name_of(user), number) for user in (1, 51, 119)))
            number += 1

    writing = asyncio.create_task(others())
    await purge(store)
    done.set()
    await writing
    assert found_in(tmp_path, DOOMED) == set()
    await store.close()
    assert is_sound(tmp_path / "sojourn.db")


@pytest.mark.rule("S92")
async def test_a_store_that_died_before_it_was_clean_becomes_so(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stale, "BUDGET_NS", 0)
    await fill(store)
    await remove(store, DOOMED)
    assert not await store.purge(0)
    folder = tmp_path / "after"
    folder.mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(f"{store.path}{suffix}", f"{folder / 'left.db'}{suffix}")
    other = SqliteStore(folder / "left.db")
    await other.open()
    assert found_in(folder, DOOMED)
    await purge(other)
    assert found_in(folder, DOOMED) == set()
    await other.close()
    assert is_sound(folder / "left.db")


async def test_a_wish_made_meanwhile_is_fulfilled_too(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stale, "BUDGET_NS", 0)
    await fill(store)
    await remove(store, range(0, USERS, 4))
    await store.purge(100)
    await remove(store, range(2, USERS, 4))
    await purge(store)
    assert found_in(tmp_path, DOOMED) == set()


def page(*head: int, size: int = 64) -> memoryview:
    return memoryview(bytes(head).ljust(size, b"\xff"))


def test_the_room_of_a_page() -> None:
    # A leaf with one cell at 60, a free block of 6 bytes at 50, cells from 50 on.
    raw = bytearray(page(13, 0, 50, 0, 1, 0, 50, 0, 0, 60))
    raw[50:54] = bytes((0, 0, 0, 6))
    assert list(unused(memoryview(bytes(raw)), 64)) == [(10, 50), (54, 56)]
    assert list(unused(page(0, 0, 0, 9), 64)) == []


@pytest.mark.parametrize(
    "head",
    [(13, 0, 0, 0, 9, 0, 20), (13, 0, 0, 0, 1, 1, 0), (10, 0, 62, 0, 1, 0, 50)],
    ids=["cells in the index", "cells beyond the page", "a free block beyond the page"],
)
def test_a_page_that_is_none_is_left_alone(head: tuple[int, ...]) -> None:
    with pytest.raises(NotClearable):
        list(unused(page(*head), 64))


async def test_a_file_that_cannot_be_cleared_is_never_said_to_be_clean(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stale, "_MOST_PAGES", 1)
    await fill(store)
    await remove(store, [0])
    with pytest.raises(StoreDown):
        await store.purge(100)
