"""What is special to SQLite runs on SQLite alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.store.backends import Backend, SqliteBackend
from tests.store.kit import ManualClock


@pytest.fixture
async def backend(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Backend]:
    made = SqliteBackend(tmp_path, clock)
    yield made
    await made.close()
