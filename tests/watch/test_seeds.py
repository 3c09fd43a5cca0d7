"""Each validator is shown to fail: bugs are switched on in turn, and each is caught."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.service.kit import FakeClock
from tests.store.backends import make_backend
from tests.watch.kit import Scene, scene
from tests.watch.scenarios import Scenario
from tests.watch.seeds import SCENARIOS, SEEDS, Seed


@pytest.fixture
async def world(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Scene]:
    backend = make_backend("sqlite", tmp_path, clock, synchronous="OFF")
    async with scene(await backend.open(), clock) as made:
        yield made
    await backend.close()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.__name__)
async def test_nothing_is_found_where_no_bug_is(world: Scene, scenario: Scenario) -> None:
    assert await scenario(world) == {}


@pytest.mark.parametrize("seed", SEEDS, ids=lambda each: each.name.replace(" ", "-"))
async def test_a_bug_is_caught(world: Scene, seed: Seed, monkeypatch: pytest.MonkeyPatch) -> None:
    seed.plant(monkeypatch)
    found = await seed.scenario(world)
    assert found.get(seed.guarantee, "").startswith(seed.guarantee), found
