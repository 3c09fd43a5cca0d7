"""Fixtures of the service's tests: each body runs on every backend."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.service.kit import FakeClock, World
from tests.service.truth import check_database, check_file, check_log, check_tallies
from tests.store.backends import BACKENDS, PostgresBackend, make_backend


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=BACKENDS)
async def world(
    request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock
) -> AsyncIterator[World]:
    """A world that is held to the truth of its log and its content in the end."""
    backend = make_backend(request.param, tmp_path, clock, synchronous="OFF")
    made = World(await backend.open(), clock)
    try:
        yield made
        for app in made.apps:
            sessions = await made.every_session(app)
            check_log(await made.log(app=app), await made.head(app), sessions)
            await check_tallies(made.store, app, sessions)
    finally:
        await backend.close()
    if isinstance(backend, PostgresBackend):
        check_database(backend.dsn)
    else:
        check_file(tmp_path / "sojourn.db")
