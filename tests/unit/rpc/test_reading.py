"""Requests on their way in: slow ones are bounded, and nobody waits for halves."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc.aio
import pytest

from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.rpc.reading import PATIENCE, SLOW, SLOW_OF_ALL, SLOW_OF_ONE, Reading


class Slow:
    """A call whose request comes when it is told to."""

    def __init__(self, reading: Reading, who: str = "key:a") -> None:
        self.came: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        context: Any = self
        self.task = asyncio.ensure_future(reading.read(context, who))

    async def read(self) -> Any:
        return await self.came

    async def reason(self) -> Reason:
        with pytest.raises(Refusal) as caught:
            await self.task
        return caught.value.reason


async def begun(reading: Reading, count: int, who: str = "key:a") -> list[Slow]:
    calls = [Slow(reading, who) for _ in range(count)]
    await asyncio.sleep(0)
    return calls


async def refused(calls: list[Slow]) -> int:
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return sum(call.task.done() for call in calls)


async def test_a_request_is_read_and_forgotten() -> None:
    reading = Reading()
    (call,) = await begun(reading, 1)
    assert len(reading) == 1
    call.came.set_result(b"bytes")
    assert await call.task == b"bytes"
    assert len(reading) == 0


async def test_a_call_without_a_request_is_refused() -> None:
    reading = Reading()
    (call,) = await begun(reading, 1)
    call.came.set_result(grpc.aio.EOF)
    assert await call.reason() is Reason.MALFORMED_REQUEST


async def test_of_one_caller_only_so_many_may_be_slow_and_the_first_stay() -> None:
    reading = Reading()
    calls = await begun(reading, SLOW_OF_ONE + 3)
    others = await begun(reading, 2, "key:b")
    reading.look(time.monotonic())
    assert await refused(calls) == 0, "none is slow yet"
    reading.look(time.monotonic() + SLOW)
    assert await refused([*calls, *others]) == 3
    assert {await call.reason() for call in calls[SLOW_OF_ONE:]} == {Reason.RATE_LIMITED}
    for call in [*calls[:SLOW_OF_ONE], *others]:
        call.came.set_result(b"at last")
        assert await call.task == b"at last"
    assert len(reading) == 0


async def test_of_all_callers_only_so_many_may_be_slow() -> None:
    reading = Reading()
    calls = [call for who in "abc" for call in await begun(reading, SLOW_OF_ONE, who)]
    reading.look(time.monotonic() + SLOW)
    assert await refused(calls) == len(calls) - SLOW_OF_ALL
    reading.close()
    await asyncio.gather(*(call.task for call in calls), return_exceptions=True)


async def test_a_request_that_never_comes_is_given_up() -> None:
    reading = Reading()
    (call,) = await begun(reading, 1)
    reading.look(time.monotonic() + PATIENCE - 1)
    assert await refused([call]) == 0
    reading.look(time.monotonic() + PATIENCE + 1)
    assert await call.reason() is Reason.RATE_LIMITED


async def test_a_drain_waits_for_no_request() -> None:
    reading = Reading()
    calls = await begun(reading, 3)
    reading.close()
    assert {await call.reason() for call in calls} == {Reason.DRAINING}


async def test_who_gives_up_is_cancelled_and_not_refused() -> None:
    reading = Reading()
    (call,) = await begun(reading, 1)
    call.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call.task
    assert len(reading) == 0
