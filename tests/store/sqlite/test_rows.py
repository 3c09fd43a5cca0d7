"""What is in the tables: nothing is left behind, and no content row changes its size."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sojourn_server.domain.model import Change, ChangeCause
from sojourn_server.store.base import Tx
from sojourn_server.store.sqlite import SqliteStore
from sojourn_server.store.sqlite.content import CLASS_BITS, SIZES
from tests.store.kit import (
    START,
    Boom,
    a_request,
    a_session,
    apply,
    changed,
    create,
    finish_purges,
    put,
    put_message,
)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    made = SqliteStore(tmp_path / "sojourn.db")
    await made.open()
    yield made
    await made.close()


async def rows(store: SqliteStore, sql: str) -> list[tuple[int, ...]]:
    """What a query says to the writer's connection, in the committed state."""
    connection = store._writer._connection
    assert connection is not None

    def ask(raw: sqlite3.Connection) -> list[tuple[int, ...]]:
        return raw.execute(sql).fetchall()

    return await connection.run(ask)


async def count(store: SqliteStore, table: str) -> int:
    return (await rows(store, f"SELECT count(*) FROM {table}"))[0][0]


async def test_what_is_removed_leaves_no_row_behind(store: SqliteStore) -> None:
    parent = await create(store, a_session("parent"))
    labels = {"tier": "gold", "team": "red"}
    row = await create(store, a_session(labels=labels, parent_uid=parent.session.uid), due=5)

    async def fill(tx: Tx) -> None:
        for sequence in range(1, 10):
            await put_message(tx, row, sequence, b"text")
        held = await tx.put_content(b"popped")
        await tx.put_request(a_request(session_pk=row.pk, held=(held,)))
        await tx.update_session(row, changed(row.session, labels={"tier": "lead"}), 9)

    async def remove(tx: Tx) -> None:
        current = await tx.session_by_uid(row.session.app, row.session.uid)
        assert current is not None
        await tx.purge_messages(current, 1, 9, 4)
        await tx.delete_session(current)
        await tx.delete_session(parent)
        await tx.log(Change(cause=ChangeCause.DELETED, before=current.session))

    await apply(store, fill)
    assert await count(store, "session_label") == 1
    await apply(store, remove)
    await finish_purges(store, 4)
    assert await store.forget_requests(START + 1, 10) == 1
    for table in ("session", "session_label", "message", "purge", "request"):
        assert await count(store, table) == 0, table
    assert await count(store, "content") == await count(store, "content_free") == 10


async def test_content_rows_never_change_their_size(store: SqliteStore) -> None:
    dice = random.Random(11)
    ids: list[int] = []

    async def step(tx: Tx) -> None:
        for _ in range(10):
            data = dice.randbytes(dice.choice([0, 50, 61, 500, 5_000, 70_000]))
            if ids and dice.random() < 0.4:
                await tx.erase_content(ids.pop(dice.randrange(len(ids))))
            elif ids and dice.random() < 0.5:
                ids.append(await tx.replace_content(ids.pop(0), data))
            else:
                ids.append(await tx.put_content(data))

    sizes: dict[int, int] = {}
    for _ in range(30):
        await apply(store, step)
        raw = await rows(store, "SELECT content_id, length(data) FROM content")
        found = {row[0]: row[1] for row in raw}
        assert found.items() >= sizes.items(), "a row was removed or changed its size"
        sizes = found
    for content_id, size in sizes.items():
        assert size == SIZES[content_id & ((1 << CLASS_BITS) - 1)]


async def test_erased_rows_are_used_again(store: SqliteStore) -> None:
    async def churn(tx: Tx) -> None:
        kept = [await tx.put_content(b"x" * length) for length in (50, 500, 5_000)]
        for content_id in kept:
            await tx.erase_content(content_id)

    for _ in range(20):
        await apply(store, churn)
    assert await count(store, "content") == 3


async def test_erased_rows_are_used_again_after_a_unit_that_took_them_failed(
    store: SqliteStore,
) -> None:
    first = await put(store, b"words")
    await apply(store, lambda tx: tx.erase_content(first))

    async def takes_all(tx: Tx) -> None:
        for _ in range(3):
            await tx.put_content(b"others")
        raise Boom

    answers = await asyncio.gather(
        apply(store, takes_all),
        apply(store, lambda tx: tx.put_content(b"again")),
        return_exceptions=True,
    )
    assert isinstance(answers[0], Boom)
    assert not isinstance(answers[1], BaseException)
    assert answers[1].value == first
