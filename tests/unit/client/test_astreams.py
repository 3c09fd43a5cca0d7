"""The pairs that watches and caches stand on."""

import asyncio
import threading

import pytest

from sojourn._astreams import AsyncMonitor, AsyncWorker, SyncMonitor, SyncWorker


async def test_an_async_monitor_wakes_all_who_wait_and_only_then_are_they_told() -> None:
    monitor, there = AsyncMonitor(), asyncio.Event()
    waiting = [asyncio.create_task(monitor.wait_for(there.is_set, 30)) for _ in range(3)]
    await asyncio.sleep(0)
    with monitor:
        monitor.notify()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not any(one.done() for one in waiting)
    there.set()
    with monitor:
        monitor.notify()
    assert await asyncio.gather(*waiting) == [True] * 3


async def test_an_async_monitor_waits_no_longer_than_asked() -> None:
    monitor = AsyncMonitor()
    assert not await monitor.wait_for(lambda: False, 0.01)
    assert await monitor.wait_for(lambda: True, 0)


async def test_who_waits_at_an_async_monitor_can_be_cancelled_and_is_forgotten() -> None:
    monitor = AsyncMonitor()
    waiting = asyncio.create_task(monitor.wait_for(lambda: False))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert monitor._waiting == set()


def test_a_sync_monitor_wakes_all_who_wait() -> None:
    monitor, there = SyncMonitor(), threading.Event()
    found: list[bool] = []
    waiting = [
        threading.Thread(target=lambda: found.append(monitor.wait_for(there.is_set, 30)))
        for _ in range(3)
    ]
    for one in waiting:
        one.start()
    there.set()
    with monitor:
        monitor.notify()
    for one in waiting:
        one.join(30)
    assert found == [True] * 3
    assert not monitor.wait_for(lambda: False, 0.01)


async def test_an_async_worker_is_waited_for() -> None:
    done: list[str] = []

    async def work() -> None:
        await asyncio.sleep(0.01)
        done.append("work")

    await AsyncWorker(work, "sojourn-test").join()
    assert done == ["work"]


def test_a_sync_worker_works_in_a_thread_of_its_own_and_may_join_itself() -> None:
    names: list[str] = []
    ready = threading.Event()

    def work() -> None:
        ready.wait(30)
        names.append(threading.current_thread().name)
        worker.join()

    worker = SyncWorker(work, "sojourn-test")
    ready.set()
    worker.join()
    assert names == ["sojourn-test"]
