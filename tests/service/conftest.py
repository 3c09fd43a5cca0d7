"""Fixtures of the service's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sojourn_server.store.sqlite import SqliteStore
from tests.service.kit import FakeClock, World
from tests.service.truth import check_content, check_log


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def world(tmp_path: Path, clock: FakeClock) -> AsyncIterator[World]:
    """A world that is held to the truth of its log and its content in the end."""
    path = tmp_path / "sojourn.db"
    store = SqliteStore(path, clock=clock, synchronous="OFF")
    await store.open()
    made = World(store, clock)
    try:
        yield made
        for app in made.apps:
            check_log(await made.log(app=app), await made.head(app), await made.every_session(app))
    finally:
        await store.close()
    check_content(path)
