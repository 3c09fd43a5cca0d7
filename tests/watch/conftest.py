"""Fixtures of the watch's tests: each body runs on every backend."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.faults import counts
from tests.service.kit import FakeClock
from tests.store.backends import BACKENDS, Backend, make_backend
from tests.watch.kit import Scene, scene


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    counts.print_table(terminalreporter)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=BACKENDS)
async def backend(
    request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock
) -> AsyncIterator[Backend]:
    made = make_backend(request.param, tmp_path, clock, synchronous="OFF")
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture
async def world(backend: Backend, clock: FakeClock) -> AsyncIterator[Scene]:
    async with scene(await backend.open(), clock) as made:
        yield made
