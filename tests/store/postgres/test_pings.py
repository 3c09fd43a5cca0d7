"""Hints from one server to another, over a connection that may break."""

from __future__ import annotations

import asyncio

from sojourn_server.store.base import Store
from sojourn_server.store.postgres import pings
from tests import postgres
from tests.store.backends import PostgresBackend
from tests.store.kit import APP, ManualClock, a_session, create

WAIT = 10.0


class Ears:
    """What a store was told."""

    def __init__(self, store: Store) -> None:
        self.heard: list[str] = []
        self._more = asyncio.Event()
        store.on_commit(self._hear)

    def _hear(self, app: str) -> None:
        self.heard.append(app)
        self._more.set()

    async def wait_for(self, app: str) -> None:
        async with asyncio.timeout(WAIT):
            while app not in self.heard:
                self._more.clear()
                await self._more.wait()


async def test_a_commit_through_one_store_is_heard_of_at_another() -> None:
    backend = PostgresBackend(ManualClock())
    try:
        first, second = await backend.open(), await backend.open()
        near, far = Ears(first), Ears(second)
        await far.wait_for("")  # it listens
        await near.wait_for("")
        await create(first, a_session())
        await far.wait_for(APP)
        # Its own ping is none of its business.
        assert near.heard.count(APP) == 1
    finally:
        await backend.close()


async def test_a_listener_whose_connection_is_cut_listens_again() -> None:
    backend = PostgresBackend(ManualClock())
    try:
        first, second = await backend.open(), await backend.open_as()
        Ears(first)
        far = Ears(second)
        await far.wait_for("")
        far.heard.clear()
        listener = second._pings.listener  # type: ignore[union-attr]
        assert listener is not None
        postgres.server().execute("SELECT pg_terminate_backend(%s)", listener.pid)
        # It cannot know what it has missed, and says so.
        await far.wait_for("")
        await create(first, a_session())
        await far.wait_for(APP)
    finally:
        await backend.close()


def test_a_ping_of_too_many_apps_names_none() -> None:
    assert pings._payload({"b", "a"}) == "a\nb"
    assert pings._payload({f"{number:0128}" for number in range(100)}) == ""
