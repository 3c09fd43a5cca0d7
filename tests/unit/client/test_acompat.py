"""The pairs that the two faces stand on."""

import asyncio
import threading
import time

import pytest

from sojourn._acompat import AsyncTicker, LoopThread, SyncTicker, async_finish, sync_finish


async def test_work_is_finished_though_its_caller_is_cancelled() -> None:
    done: list[str] = []

    async def work() -> str:
        await asyncio.sleep(0.05)
        done.append("work")
        return "result"

    async def caller() -> None:
        await async_finish(work())
        done.append("never")

    task = asyncio.create_task(caller())
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == ["work"]


async def test_finished_work_gives_its_result_or_its_error() -> None:
    async def work(error: Exception | None) -> int:
        if error is not None:
            raise error
        return 5

    assert await async_finish(work(None)) == 5
    with pytest.raises(ValueError, match="mine"):
        await async_finish(work(ValueError("mine")))
    assert sync_finish(5) == 5


async def test_an_error_of_the_work_gives_way_to_the_cancellation() -> None:
    async def work() -> None:
        await asyncio.sleep(0.02)
        raise ValueError("mine")

    task = asyncio.create_task(async_finish(work()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_async_ticker_ticks_until_its_action_says_stop() -> None:
    ticks: list[float] = []

    async def action() -> bool:
        ticks.append(time.monotonic())
        return len(ticks) < 3

    ticker = AsyncTicker(0.01, action)
    while len(ticks) < 3:  # noqa: ASYNC110 - what is waited for is the number
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    assert len(ticks) == 3
    await ticker.stop()


async def test_an_async_ticker_is_stopped_in_the_middle_of_its_action() -> None:
    async def action() -> bool:
        await asyncio.sleep(60)
        return True

    ticker = AsyncTicker(0.001, action)
    await asyncio.sleep(0.02)
    await asyncio.wait_for(ticker.stop(), 1)


def test_a_sync_ticker_ticks_in_a_thread_and_stops() -> None:
    ticks: list[str] = []

    def action() -> bool:
        ticks.append(threading.current_thread().name)
        return True

    ticker = SyncTicker(0.01, action)
    while len(ticks) < 2:
        time.sleep(0.01)
    ticker.stop()
    count = len(ticks)
    assert set(ticks) == {"sojourn-ticker"}
    time.sleep(0.05)
    assert len(ticks) == count


def test_a_loop_thread_runs_coroutines_and_ends() -> None:
    before = set(threading.enumerate())
    thread = LoopThread()

    async def name() -> str:
        return threading.current_thread().name

    async def fails() -> None:
        raise ValueError("mine")

    assert thread.run(name()) == "sojourn-loop"
    with pytest.raises(ValueError, match="mine"):
        thread.run(fails())
    thread.close()
    assert set(threading.enumerate()) <= before
