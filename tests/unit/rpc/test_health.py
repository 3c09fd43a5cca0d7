"""Health follows the store, and a drain."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from grpc_health.v1 import health_pb2

from sojourn_server.rpc import health as health_module
from sojourn_server.rpc.health import LIVE, WRITE, Health
from sojourn_server.rpc.methods import services
from sojourn_server.store.base import StoreDown, StoreFull


class FakeStore:
    """A store that is well or not."""

    readable: Exception | None = None
    writable: Exception | None = None
    hangs = False

    async def check_readable(self) -> None:
        if self.hangs:
            await asyncio.sleep(60)
        if self.readable:
            raise self.readable

    async def check_writable(self) -> None:
        if self.writable:
            raise self.writable


async def statuses(health: Health) -> dict[str, str]:
    found = {}
    for name in ("", WRITE, LIVE, *services()):
        request = health_pb2.HealthCheckRequest(service=name)
        answer = await health.servicer.Check(request, None)
        found[name] = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    return found


def a_health(store: FakeStore) -> Health:
    fake: Any = store
    return Health(fake, services())


async def test_a_store_that_is_well_serves():
    health = a_health(FakeStore())
    await health.probe()
    assert set((await statuses(health)).values()) == {"SERVING"}


async def test_a_store_that_cannot_be_read_serves_nothing_but_the_process_lives():
    store = FakeStore()
    store.readable = StoreDown("away")
    health = a_health(store)
    await health.probe()
    found = await statuses(health)
    assert found.pop(LIVE) == "SERVING"
    assert set(found.values()) == {"NOT_SERVING"}


@pytest.mark.parametrize("error", [StoreFull("full"), StoreDown("away"), OSError("odd")])
async def test_a_store_that_cannot_be_written_still_serves_reads(error: Exception):
    store = FakeStore()
    store.writable = error
    health = a_health(store)
    await health.probe()
    found = await statuses(health)
    assert found.pop(WRITE) == "NOT_SERVING"
    assert set(found.values()) == {"SERVING"}


async def test_a_store_that_heals_serves_again():
    store = FakeStore()
    store.writable = StoreFull("full")
    health = a_health(store)
    await health.probe()
    store.writable = None
    await health.probe()
    assert set((await statuses(health)).values()) == {"SERVING"}


async def test_a_store_that_hangs_is_not_well(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(health_module, "PATIENCE", 0.01)
    store = FakeStore()
    store.hangs = True
    health = a_health(store)
    await health.probe()
    found = await statuses(health)
    assert found.pop(LIVE) == "SERVING"
    assert set(found.values()) == {"NOT_SERVING"}


async def test_a_drain_is_for_good():
    health = a_health(FakeStore())
    await health.probe()
    await health.drain()
    await health.probe()
    assert set((await statuses(health)).values()) == {"NOT_SERVING"}


async def test_the_probe_runs_for_ever(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(health_module, "PERIOD", 0.005)
    store = FakeStore()
    health = a_health(store)
    task = asyncio.create_task(health.run())
    await asyncio.sleep(0.05)
    store.readable = StoreDown("away")
    await asyncio.sleep(0.05)
    task.cancel()
    assert (await statuses(health))[""] == "NOT_SERVING"
