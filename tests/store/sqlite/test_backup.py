"""Copies of the file while it is written: at one instant, private, and never half there."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sojourn_server.store.base import ReadTx, StoreDown, StoreFull, Tx
from sojourn_server.store.sqlite import SqliteStore, backup
from sojourn_server.store.staged import BackupTaken, NoBackupPlace
from tests.store.kit import APP, a_message, a_session, apply, create, create_many


def names(folder: Path) -> list[str]:
    """What is in a folder."""
    return sorted(each.name for each in folder.iterdir())


def put(folder: Path, name: str, text: str) -> None:
    """Let a folder hold a file."""
    folder.mkdir()
    (folder / name).write_text(text)


SECRET = b"a text that is erased"


@pytest.fixture
async def store(tmp_path: Path) -> Any:
    made = SqliteStore(tmp_path / "s.db", synchronous="OFF")
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "copies"


async def test_a_copy_is_a_store_of_one_instant_though_writes_go_on(
    store: SqliteStore, folder: Path
) -> None:
    """Each unit adds a session and a message: a copy that were torn would hold only one."""
    await create_many(store, [a_session(f"s-{number}") for number in range(2_000)])
    done, begun = asyncio.Event(), asyncio.Event()
    written = 0

    async def write() -> None:
        nonlocal written
        while not done.is_set():

            async def unit(tx: Tx, name: str = f"w-{written}") -> None:
                row = await tx.insert_session(a_session(name), None)
                await tx.insert_messages(row, [a_message(1, body=await tx.put_content(b"x" * 999))])

            await apply(store, unit)
            written += 1
            if written == 5:
                begun.set()

    writer = asyncio.create_task(write())
    await begun.wait()
    before = written
    size = await store.back_up(folder, "one.db")
    after = written
    done.set()
    await writer
    path = folder / "one.db"
    assert path.stat().st_size == size
    assert path.stat().st_mode & 0o777 == 0o600
    assert names(folder) == ["one.db"]
    with closing(sqlite3.connect(path)) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        (sessions,) = copy.execute("SELECT count(*) - 2000 FROM session").fetchone()
        (messages,) = copy.execute("SELECT count(*) FROM message").fetchone()
    assert sessions == messages
    assert before <= sessions <= after + 1
    restored = SqliteStore(path, synchronous="OFF")
    await restored.open()

    async def look(tx: ReadTx) -> bool:
        return await tx.session_by_key(APP, "ann", "s-1999") is not None

    assert await restored.read(look)
    await restored.close()


async def test_writers_need_not_wait_for_a_copy(
    store: SqliteStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the copy is being made, and held up there, units are committed."""
    await create(store, a_session("first"))
    at_work, go_on = threading.Event(), threading.Event()
    vacuum = backup.Copier._vacuum

    def slow(copier: backup.Copier, partial: Path) -> None:
        vacuum(copier, partial)
        at_work.set()
        assert go_on.wait(20)

    monkeypatch.setattr(backup.Copier, "_vacuum", slow)
    copying = asyncio.create_task(store.back_up(folder, "one.db"))
    await asyncio.to_thread(at_work.wait, 20)
    for number in range(20):
        await create(store, a_session(f"s-{number}"))
    assert not copying.done()
    go_on.set()
    assert await copying


async def test_a_copy_holds_nothing_that_was_erased(store: SqliteStore, folder: Path) -> None:
    bodies = []

    async def put(tx: Tx) -> None:
        row = await tx.insert_session(a_session(), None)
        for number in range(200):
            bodies.append(await tx.put_content(SECRET + os.urandom(number)))
            await tx.insert_messages(row, [a_message(number + 1, body=bodies[-1])])

    await apply(store, put)
    await store.back_up(folder, "before.db")
    assert SECRET in (folder / "before.db").read_bytes()

    async def erase(tx: Tx) -> None:
        row = await tx.session_by_key(APP, "ann", "s-1")
        assert row is not None
        await tx.purge_messages(row, 1, 200, 500)

    await apply(store, erase)
    await store.back_up(folder, "after.db")
    assert SECRET not in (folder / "after.db").read_bytes()


async def test_no_file_is_ever_overwritten(store: SqliteStore, folder: Path) -> None:
    put(folder, "one.db", "mine")
    with pytest.raises(BackupTaken):
        await store.back_up(folder, "one.db")
    assert (folder / "one.db").read_text() == "mine"
    assert len(names(folder)) == 1


async def test_a_file_that_comes_meanwhile_is_not_overwritten(
    store: SqliteStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = backup._check

    def late(path: Path) -> None:
        check(path)
        (folder / "one.db").write_text("mine")

    monkeypatch.setattr(backup, "_check", late)
    with pytest.raises(BackupTaken):
        await store.back_up(folder, "one.db")
    assert (folder / "one.db").read_text() == "mine"
    assert len(names(folder)) == 1


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
async def test_a_full_disk_leaves_nothing(
    store: SqliteStore, folder: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def full(path: Path) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(backup, "_sync", full)
    with pytest.raises(StoreFull):
        await store.back_up(folder, "one.db")
    assert names(folder) == []


async def test_a_database_that_gets_no_room_leaves_nothing(
    store: SqliteStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: backup.Copier, partial: Path) -> None:
        partial.write_bytes(b"half")
        with closing(sqlite3.connect(":memory:")) as database:
            database.execute("PRAGMA max_page_count = 1")
            database.execute("CREATE TABLE t (x)")

    monkeypatch.setattr(backup.Copier, "_vacuum", full)
    with pytest.raises(StoreFull):
        await store.back_up(folder, "one.db")
    assert names(folder) == []


async def test_a_folder_that_cannot_be_is_said(store: SqliteStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NoBackupPlace):
        await store.back_up(tmp_path / "file", "one.db")
    with pytest.raises(NoBackupPlace):
        await store.back_up(tmp_path / "no" / "such", "one.db")


async def test_a_folder_may_be_relative(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    await store.back_up(Path("near"), "one.db")
    assert (tmp_path / "near" / "one.db").exists()


async def test_what_a_killed_server_left_is_removed(store: SqliteStore, folder: Path) -> None:
    put(folder, f".old.db{backup.PARTIAL}", "half")
    await store.back_up(folder, "new.db")
    assert names(folder) == ["new.db"]


async def test_a_store_that_closes_breaks_off_its_copy(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqliteStore(tmp_path / "t.db", synchronous="OFF")
    await store.open()
    at_work = threading.Event()

    def endless(copier: backup.Copier, partial: Path) -> None:
        with closing(sqlite3.connect(partial, check_same_thread=False)) as database:
            copier._reading = database
            at_work.set()
            database.execute(
                "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
                "SELECT max(i) FROM n"
            ).fetchone()

    monkeypatch.setattr(backup.Copier, "_vacuum", endless)
    copying = asyncio.create_task(store.back_up(folder, "one.db"))
    await asyncio.to_thread(at_work.wait, 20)
    await asyncio.sleep(0.05)
    await store.close()
    with pytest.raises(StoreDown):
        await copying
    assert names(folder) == []
    with pytest.raises(StoreDown):
        await store.back_up(folder, "two.db")
