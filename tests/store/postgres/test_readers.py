"""Reads when connections are few, and when their callers leave."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.store.backends import PostgresBackend
from tests.store.kit import APP, a_session, apply, create, head
from tests.store.postgres.proxy import Proxy


@pytest.mark.rule("S7")
async def test_a_read_that_comes_as_the_last_reader_leaves_is_answered(
    backend: PostgresBackend,
) -> None:
    store = await backend.open_as(size=2)
    await create(store, a_session())
    async with asyncio.timeout(20):
        for _ in range(20):
            # Woken by its answer, this asks again before the reader's task is seen to end.
            assert await head(store) == 1


@pytest.mark.rule("S52")
async def test_who_leaves_a_database_that_hangs_leaves_at_once(backend: PostgresBackend) -> None:
    proxy = Proxy(backend.dsn)
    store = await backend.open_as(dsn=await proxy.start(), size=2)
    await create(store, a_session())
    proxy.flow.clear()
    begin = time.monotonic()
    for check in (store.check_readable, store.check_writable):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await check()
    assert time.monotonic() - begin < 2
    proxy.flow.set()
    async with asyncio.timeout(20):
        assert await head(store) == 1
        assert (await apply(store, lambda tx: tx.head(APP))).value == 1
    await store.close()
    await proxy.stop()
