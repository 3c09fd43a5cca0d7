"""Fixtures of what only PostgreSQL can do: several stores over one database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.store.backends import PostgresBackend
from tests.store.kit import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def backend(clock: ManualClock) -> AsyncIterator[PostgresBackend]:
    made = PostgresBackend(clock)
    yield made
    await made.close()
