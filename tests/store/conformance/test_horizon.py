"""The log's beginning, which moves, and the hints that it has grown."""

from __future__ import annotations

import asyncio

import pytest

from sojourn_server.domain.model import Change, ChangeCause
from sojourn_server.store.base import Store, Tx
from tests.store.kit import (
    APP,
    START,
    ManualClock,
    a_session,
    apply,
    create,
    head,
    insert,
    log_of,
)

NEVER = 1_000_000
"""So many newer revisions has none."""


async def units(store: Store, count: int, changes: int = 1) -> None:
    """Units of so many changes each."""

    async def unit(tx: Tx) -> None:
        for _ in range(changes):
            await tx.log(Change(cause=ChangeCause.APP_UPDATED))

    for _ in range(count):
        await apply(store, unit)


async def oldest(store: Store, app: str = APP) -> int:
    return await store.read(lambda tx: tx.oldest(app))


async def revisions(store: Store) -> list[int]:
    return [change.revision for change in await log_of(store)]


@pytest.mark.rule("S43")
async def test_an_empty_log_has_no_oldest_revision(store: Store) -> None:
    assert await oldest(store) == 0
    assert await store.compact(APP, START + 1, 0, 10) == 0
    assert await store.read(lambda tx: tx.nonce(APP, 1)) is None


@pytest.mark.rule("S43")
async def test_a_log_is_shortened_to_the_newest_revisions(store: Store) -> None:
    await units(store, 10)
    assert await oldest(store) == 1
    assert await store.compact(APP, 0, 4, 100) == 6
    assert await revisions(store) == [7, 8, 9, 10]
    assert (await oldest(store), await head(store)) == (7, 10)
    assert await store.compact(APP, 0, 4, 100) == 0


@pytest.mark.rule("S43")
async def test_a_log_is_shortened_to_an_instant(store: Store, clock: ManualClock) -> None:
    for _ in range(6):
        await units(store, 1)
        clock.time += 10
    assert await store.compact(APP, START + 20, NEVER, 100) == 2
    assert await revisions(store) == [3, 4, 5, 6]
    assert await store.compact(APP, START + 20, NEVER, 100) == 0


@pytest.mark.rule("S43")
async def test_revisions_go_whole_and_about_as_many_as_asked(store: Store) -> None:
    await units(store, 5, changes=3)
    removed = await store.compact(APP, 0, 1, 4)
    assert removed == 6
    assert await revisions(store) == [3] * 3 + [4] * 3 + [5] * 3


@pytest.mark.rule("S43")
async def test_the_newest_revision_stays(store: Store) -> None:
    await units(store, 3)
    newest = (await log_of(store))[-1]
    while await store.compact(APP, START + NEVER, 0, 1):
        pass
    assert await log_of(store) == [newest]
    await units(store, 1)
    assert await revisions(store) == [3, 4]


@pytest.mark.rule("S43")
async def test_no_other_app_is_shortened(store: Store) -> None:
    await create(store, a_session(app="other"))
    await create(store, a_session("s-2", app="other"))
    await units(store, 3)
    await store.compact(APP, 0, 1, 100)
    assert len(await log_of(store, "other")) == 2
    assert await oldest(store, "other") == 1


@pytest.mark.rule("S41")
async def test_a_revision_is_known_by_its_nonce(store: Store) -> None:
    await units(store, 3, changes=2)
    nonces = {change.revision: change.nonce for change in await log_of(store)}
    assert len(set(nonces.values())) == 3
    for revision, nonce in nonces.items():
        assert await store.read(lambda tx, at=revision: tx.nonce(APP, at)) == nonce  # type: ignore[misc]
    assert await store.read(lambda tx: tx.nonce(APP, 4)) is None
    await store.compact(APP, 0, 1, 100)
    assert await store.read(lambda tx: tx.nonce(APP, 1)) is None


@pytest.mark.rule("S44")
async def test_a_hint_comes_after_a_commit_that_logs_and_after_no_other(store: Store) -> None:
    told: list[tuple[str, int]] = []
    tasks: list[asyncio.Task[None]] = []

    async def note(app: str) -> None:
        told.append((app, await head(store, app)))

    def tell(app: str) -> None:
        if app:
            tasks.append(asyncio.create_task(note(app)))

    store.on_commit(tell)
    await create(store, a_session())

    async def silent(tx: Tx) -> None:
        row = await tx.session_by_key(APP, "ann", "s-1")
        assert row is not None
        await tx.update_session(row, row.session, 1)

    async def failing(tx: Tx) -> None:
        await insert(tx, a_session("s-2"))
        raise ValueError("no")

    await apply(store, silent)
    with pytest.raises(ValueError, match="no"):
        await apply(store, failing)
    await create(store, a_session("s-3"))
    await asyncio.gather(*tasks)
    assert told == [(APP, 1), (APP, 2)]
