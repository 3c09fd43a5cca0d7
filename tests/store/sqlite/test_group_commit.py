"""Group commit: many units in one commit, each with its own fate."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path

import msgspec
import pytest

from sojourn_server.store import work
from sojourn_server.store.base import KeyTaken, Priority, ReadTx, StoreDown, StoreFull, Tx
from sojourn_server.store.sqlite import SqliteStore
from sojourn_server.store.sqlite.committer import Committer
from sojourn_server.store.work import CROWD, JOBS_BESIDE_CALLERS, Work
from tests.store.kit import (
    ACTOR,
    APP,
    Boom,
    a_session,
    apply,
    content_of,
    create,
    found,
    head,
    insert,
    list_ids,
    log_of,
)


class Watched:
    """Counts the batches that the writer commits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        self.batches: list[list[Work]] = []
        self.guarded = 0
        commit, attempt = Committer.commit, Committer._attempt

        def count(
            committer: Committer, connection: sqlite3.Connection, batch: Sequence[Work]
        ) -> int:
            self.sizes.append(len(batch))
            self.batches.append(list(batch))
            return commit(committer, connection, batch)

        def note(
            committer: Committer,
            connection: sqlite3.Connection,
            batch: Sequence[Work],
            guarded: bool,
        ) -> int:
            self.guarded += guarded
            return attempt(committer, connection, batch, guarded)

        monkeypatch.setattr(Committer, "commit", count)
        monkeypatch.setattr(Committer, "_attempt", note)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    made = SqliteStore(tmp_path / "sojourn.db", max_batch=64)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch, store: SqliteStore) -> Watched:
    return Watched(monkeypatch)


async def test_units_that_wait_share_a_commit_of_at_most_the_batch_size(
    store: SqliteStore, watched: Watched
) -> None:
    await asyncio.gather(*(create(store, a_session(f"s-{n}")) for n in range(200)))
    assert max(watched.sizes) == 64
    assert len(watched.sizes) < 20
    assert await head(store) == 200


@pytest.mark.rule("S5")
async def test_refusals_before_any_write_need_no_second_run(
    store: SqliteStore, watched: Watched
) -> None:
    async def refuses(tx: Tx) -> None:
        await tx.head(APP)
        raise Boom

    answers = await asyncio.gather(
        *(
            apply(store, refuses) if n % 2 else create(store, a_session(f"s-{n}"))
            for n in range(40)
        ),
        return_exceptions=True,
    )
    assert sum(isinstance(answer, Boom) for answer in answers) == 20
    assert watched.guarded == 0


@pytest.mark.rule("S5", "S10")
async def test_a_taken_key_needs_no_second_run(store: SqliteStore, watched: Watched) -> None:
    answers = await asyncio.gather(
        *(create(store, a_session(f"s-{n % 10}")) for n in range(40)), return_exceptions=True
    )
    assert sum(isinstance(answer, KeyTaken) for answer in answers) == 30
    assert watched.guarded == 0


@pytest.mark.rule("S1", "S5")
async def test_a_unit_that_fails_after_writing_is_undone_alone(
    store: SqliteStore, watched: Watched
) -> None:
    kept = (await apply(store, lambda tx: tx.put_content(b"kept words"))).value

    async def fails(tx: Tx) -> None:
        await tx.erase_content(kept)
        await tx.put_content(b"other word")
        await insert(tx, a_session("bad"))
        raise Boom

    async def good(number: int) -> int:
        async def unit(tx: Tx) -> int:
            await insert(tx, a_session(f"good-{number}"))
            return await tx.put_content(b"good word%d" % number)

        return (await apply(store, unit)).value

    answers = await asyncio.gather(
        *(apply(store, fails) if n % 3 == 1 else good(n) for n in range(30)),
        return_exceptions=True,
    )
    assert watched.guarded > 0, "this test would prove nothing"
    assert await content_of(store, kept) == b"kept words"
    for number, answer in enumerate(answers):
        if number % 3 == 1:
            assert isinstance(answer, Boom)
        else:
            assert isinstance(answer, int)
            assert await content_of(store, answer) == b"good word%d" % number
    assert len(await list_ids(store)) == 20
    assert [change.revision for change in await log_of(store)] == list(range(1, 21))


async def test_callers_go_before_jobs(store: SqliteStore, watched: Watched) -> None:
    def submit(number: int, priority: Priority) -> asyncio.Task[object]:
        session = a_session(f"{priority.name}-{number}")
        unit = store.apply(APP, ACTOR, lambda tx: insert(tx, session), priority)
        return asyncio.create_task(unit)

    tasks = [submit(n, Priority.JOB) for n in range(100)]
    tasks += [submit(n, Priority.CALLER) for n in range(100)]
    await asyncio.gather(*tasks)
    mixed = [batch for batch in watched.batches if {w.priority for w in batch} == set(Priority)]
    assert mixed
    for batch in mixed:
        priorities = [work.priority for work in batch]
        assert priorities == sorted(priorities)
        assert priorities.count(Priority.JOB) <= JOBS_BESIDE_CALLERS
    done = [work.priority for batch in watched.batches for work in batch]
    assert done.index(Priority.JOB) > 32
    assert Priority.CALLER not in done[-50:]


async def test_a_long_batch_is_cut_and_the_rest_comes_next(
    store: SqliteStore, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sojourn_server.store.sqlite.committer._BUDGET", 0)
    answers = await asyncio.gather(
        *(apply(store, partial(insert, session=a_session(f"s-{n}"))) for n in range(20))
    )
    assert [answer.revision for answer in answers] == list(range(1, 21))
    assert len(watched.sizes) >= 20


@pytest.mark.rule("S52")
async def test_a_failed_commit_fails_its_batch_and_the_next_goes_through(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await create(store, a_session("first"))
    attempt = Committer._attempt

    def fails(
        committer: Committer, connection: sqlite3.Connection, batch: Sequence[Work], guarded: bool
    ) -> int:
        monkeypatch.setattr(Committer, "_attempt", attempt)
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE app SET head = 77")
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        error.sqlite_errorname = "SQLITE_IOERR_FSYNC"
        raise error

    monkeypatch.setattr(Committer, "_attempt", fails)
    answers = await asyncio.gather(
        *(create(store, a_session(f"s-{n}")) for n in range(5)), return_exceptions=True
    )
    assert all(isinstance(answer, StoreDown) for answer in answers)
    assert "SQLITE_IOERR_FSYNC" in str(answers[0])
    assert await found(store, "first") == first
    await create(store, a_session("second"))
    assert await list_ids(store) == ["first", "second"]
    assert await head(store) == 2


@pytest.mark.rule("S52")
async def test_a_lost_connection_is_opened_again(store: SqliteStore) -> None:
    first = await create(store, a_session("first"))
    connection = store._writer._connection
    assert connection is not None
    await connection.run(sqlite3.Connection.close)
    with pytest.raises(StoreDown):
        await create(store, a_session("lost"))
    await create(store, a_session("second"))
    assert await list_ids(store) == ["first", "second"]
    assert await found(store, "first") == first


@pytest.mark.rule("S52")
async def test_a_lost_reader_is_opened_again(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await create(store, a_session("first"))

    async def breaks(tx: ReadTx) -> None:
        await tx.next_due()  # nothing that memory answers: this is a reader's connection
        connection = tx._execute.__self__  # type: ignore[attr-defined]
        connection.close()
        await tx.next_due()

    for _ in range(5):
        with pytest.raises(StoreDown):
            await store.read(breaks)
        assert await found(store, "first") == first


@pytest.mark.rule("S1", "S52")
async def test_a_unit_that_swallows_a_failure_of_the_database_is_not_committed(
    store: SqliteStore,
) -> None:
    connection = store._writer._connection
    assert connection is not None
    pages = await connection.run(lambda c: c.execute("PRAGMA page_count").fetchone()[0])
    await connection.run(lambda c: c.execute(f"PRAGMA max_page_count = {pages + 5}").fetchone())

    async def swallows(tx: Tx) -> str:
        await insert(tx, a_session("half"))
        try:
            await tx.put_content(b"x" * 1_000_000)
        except Exception:  # noqa: BLE001
            return "as if nothing had happened"
        return "unreached"

    with pytest.raises(StoreFull):
        await apply(store, swallows)
    await connection.run(lambda c: c.execute("PRAGMA max_page_count = 1000000").fetchone())
    assert await list_ids(store) == []
    assert await head(store) == 0


async def crowd(store: SqliteStore, name: str, size: int = CROWD) -> None:
    """Callers that come together, so that the next commit waits for as many."""
    await asyncio.gather(*(create(store, a_session(f"{name}-{n}")) for n in range(size)))


async def test_after_a_crowd_those_that_trickle_in_share_a_commit(
    store: SqliteStore, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "GATHER", 60.0)
    await crowd(store, "first")
    await crowd(store, "second")
    watched.sizes.clear()
    tasks = []
    for number in range(CROWD):
        tasks.append(asyncio.create_task(create(store, a_session(f"late-{number}"))))
        await asyncio.sleep(0.01)
        assert not watched.sizes or number == CROWD - 1
    await asyncio.gather(*tasks)
    assert watched.sizes == [CROWD]


async def test_a_commit_waits_for_a_crowd_that_stays_away_but_not_for_long(
    store: SqliteStore, watched: Watched
) -> None:
    await crowd(store, "first")
    await crowd(store, "second")
    watched.sizes.clear()
    for number in range(3):
        await create(store, a_session(f"alone-{number}"))
    assert watched.sizes == [1, 1, 1]


async def test_who_is_alone_never_waits_for_company(
    store: SqliteStore, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "GATHER", 3_600.0)
    for number in range(5):
        await create(store, a_session(f"alone-{number}"))
    assert watched.sizes == [1] * 5


async def test_nobody_waits_for_jobs_to_come_again(
    store: SqliteStore, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "GATHER", 3_600.0)

    async def nothing(tx: Tx) -> None:
        await tx.head(APP)

    for number in range(3):
        jobs = [store.apply(APP, ACTOR, nothing, Priority.JOB) for _ in range(4 * CROWD)]
        await asyncio.gather(create(store, a_session(f"s-{number}")), *jobs)
    assert sum(watched.sizes) == 3 * (4 * CROWD + 1)


async def test_closing_waits_for_no_crowd(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "GATHER", 3_600.0)
    await crowd(store, "first")
    await crowd(store, "second")
    last = asyncio.create_task(create(store, a_session("last")))
    await asyncio.sleep(0.01)
    assert not last.done()
    await store.close()
    await last


async def test_a_unit_sees_nothing_of_what_was_taken_back(store: SqliteStore) -> None:
    await create(store, a_session("kept", labels={"step": "0"}))
    seen: list[tuple[str, str]] = []

    async def change(tx: Tx, label: str, *, fail: bool) -> None:
        row = await tx.session_by_key(APP, "ann", "kept")
        assert row is not None
        seen.append((label, row.session.labels["step"]))
        session = msgspec.structs.replace(row.session, labels={"step": label})
        await tx.update_session(row, session, None)
        if fail:
            raise Boom

    answers = await asyncio.gather(
        apply(store, partial(change, label="1", fail=False)),
        apply(store, partial(change, label="2", fail=True)),
        apply(store, partial(change, label="3", fail=False)),
        return_exceptions=True,
    )
    assert isinstance(answers[1], Boom)
    # The batch ran twice, the second time with savepoints; each unit saw the committed ones.
    assert seen[-3:] == [("1", "0"), ("2", "1"), ("3", "1")]
    assert (await found(store, "kept")).session.labels == {"step": "3"}
