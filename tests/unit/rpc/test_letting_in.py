"""Admission as callers meet it, over a real port."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from grpc_status import rpc_status

from sojourn.v1 import session_service_pb2 as pb
from sojourn_server.domain.clock import SECOND
from sojourn_server.rpc.admission import Admission, Budget, Budgets
from sojourn_server.service.answers import Call
from tests.unit.rpc.test_streams import Streaming, ending, streaming
from tests.unit.rpc.wire import CREATE, Wire, created, failed, failure_of, serving

WIDE = Budget(1_000, 1_000, 1_000)
WATCH = pb.WatchSessionsRequest(app="a")


def request_in(app: str) -> pb.CreateSessionRequest:
    return pb.CreateSessionRequest(app=app, session=pb.NewSession())


class Held:
    """A use case that goes on when it is told to."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.begun = 0
        self.rests = False

    async def __call__(self, request: Any, call: Call) -> Any:
        self.begun += 1
        if self.rests:
            call.rest()
        await self.go.wait()
        return await created(request, call)


async def until(true: Callable[[], bool]) -> None:
    for _ in range(2_000):
        if true():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came to be")


def at_rest(wire: Wire) -> bool:
    admission = wire.pipeline.admission
    server = admission._server
    figures = (admission.running, admission.waiting, admission.held)
    return not any((*figures, server.calls, server.streams, server.bytes_in_flight))


async def test_a_call_over_a_budget_is_refused_with_its_limit_and_does_nothing() -> None:
    use = Held()
    admission = Admission(Budgets(calls=Budget(9, 1, 9)))
    async with serving(use, admission=admission) as wire:
        first = asyncio.create_task(wire.create())
        await until(lambda: use.begun == 1)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await wire.create()
        failure = failure_of(caught.value)
        assert (failure.code, failure.reason) == ("RESOURCE_EXHAUSTED", "RATE_LIMITED")
        assert failure.metadata == {"limit": "1 calls", "of": "app"}
        status, retry = rpc_status.from_call(caught.value), RetryInfo()
        assert status is not None
        assert any(detail.Unpack(retry) for detail in status.details)
        assert retry.retry_delay.ToNanoseconds() == SECOND
        assert failure.correlation_id
        # Another app is not meant.
        other = asyncio.create_task(wire.create(request_in("b")))
        await until(lambda: use.begun == 2)
        use.go.set()
        await asyncio.gather(first, other)
        await until(lambda: at_rest(wire))
    assert use.begun == 2


async def test_beyond_the_calls_that_run_others_wait_and_then_run() -> None:
    use = Held()
    admission = Admission(Budgets(calls=WIDE, running=2))
    async with serving(use, admission=admission) as wire:
        calls = [asyncio.create_task(wire.create()) for _ in range(20)]
        await until(lambda: admission.waiting == 18)
        assert use.begun == 2
        use.go.set()
        await asyncio.gather(*calls)
        assert use.begun == 20
        await until(lambda: at_rest(wire))


async def test_who_waits_counts_down_its_deadline_and_never_runs() -> None:
    use = Held()
    admission = Admission(Budgets(calls=WIDE, running=1))
    async with serving(use, admission=admission) as wire:
        first = asyncio.create_task(wire.create())
        await until(lambda: use.begun == 1)
        data = request_in("a").SerializeToString()
        late = wire.channel.unary_unary(CREATE)(data, timeout=0.1)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await late
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await until(lambda: admission.waiting == 0)
        use.go.set()
        await first
        await until(lambda: at_rest(wire))
    assert use.begun == 1


async def test_a_drain_refuses_who_waits_and_lets_who_runs_finish() -> None:
    use = Held()
    admission = Admission(Budgets(calls=WIDE, running=1))
    async with serving(use, admission=admission) as wire:
        first = asyncio.create_task(wire.create())
        await until(lambda: use.begun == 1)
        second = asyncio.create_task(failed(wire.create()))
        await until(lambda: admission.waiting == 1)
        wire.pipeline.draining = True
        assert (await second).reason == "DRAINING"
        use.go.set()
        await first
        await wire.pipeline.idle()
        await until(lambda: at_rest(wire))
    assert use.begun == 1


async def test_new_work_that_waited_into_a_drain_is_refused() -> None:
    use = Held()
    admission = Admission(Budgets(calls=WIDE, running=1))
    async with serving(use, admission=admission) as wire:
        first = asyncio.create_task(wire.create())
        await until(lambda: use.begun == 1)
        second = asyncio.create_task(failed(wire.create()))
        await until(lambda: admission.waiting == 1)
        wire.pipeline.finishing = True
        use.go.set()
        assert (await second).reason == "DRAINING"
        await first
        await until(lambda: at_rest(wire))
    assert use.begun == 1


async def test_a_call_that_waits_for_minutes_lets_others_run() -> None:
    use = Held()
    use.rests = True
    budgets = Budgets(calls=Budget(1, 1, 1), streams=Budget(9, 2, 9), running=1)
    async with serving(use, admission=Admission(budgets)) as wire:
        calls = [asyncio.create_task(wire.create())]
        await until(lambda: use.begun == 1)
        calls.append(asyncio.create_task(wire.create()))
        await until(lambda: use.begun == 2)
        # There is a limit to them, too.
        failure = await failed(wire.create())
        assert (failure.code, failure.reason) == ("RESOURCE_EXHAUSTED", "RATE_LIMITED")
        assert failure.metadata == {"limit": "2 streams and waiting calls", "of": "app"}
        use.go.set()
        await asyncio.gather(*calls)
        await until(lambda: at_rest(wire))


async def test_what_is_not_there_or_is_nonsense_is_given_back_too() -> None:
    async def no(request: Any, call: Call) -> Any:
        raise RuntimeError("a fault")

    async with serving(no) as wire:
        for data in (request_in("a").SerializeToString(), b"\xff", b""):
            with pytest.raises(grpc.aio.AioRpcError):
                await wire.raw(CREATE, data)
        await until(lambda: at_rest(wire))


async def test_who_does_not_heed_refusals_waits_for_them() -> None:
    admission = Admission(Budgets(calls=Budget(9, 0, 9)))
    async with serving(created, admission=admission) as wire:
        flood = [asyncio.create_task(failed(wire.create())) for _ in range(300)]
        await until(lambda: admission.held >= 100)
        # Those of another app are told at once.
        async with asyncio.timeout(2):
            assert (await failed(wire.create(request_in("b")))).reason == "RATE_LIMITED"
        assert admission.held
        # They are let go one by one; a drain does not wait for them.
        wire.pipeline.draining = True
        async with asyncio.timeout(5):
            assert {failure.reason for failure in await asyncio.gather(*flood)} == {"RATE_LIMITED"}
        await until(lambda: at_rest(wire))


async def opened(server: Streaming) -> Any:
    stream = server.open(WATCH)
    assert (await stream.read()).revision == 1
    return stream


@pytest.mark.guarantee("W18")
@pytest.mark.parametrize(("budget", "of"), [(Budget(9, 2, 9), "app"), (Budget(9, 9, 2), "server")])
async def test_streams_are_bounded_with_a_reason_of_their_own(budget: Budget, of: str) -> None:
    async with streaming() as server:
        server.pipeline.admission._budgets = Budgets(streams=budget)
        streams = [await opened(server) for _ in range(2)]
        failure = await ending(server.open(WATCH))
        assert (failure.code, failure.reason) == ("RESOURCE_EXHAUSTED", "STREAM_LIMIT")
        assert failure.metadata == {"limit": "2 streams and waiting calls", "of": of}
        streams[0].cancel()
        await until(lambda: len(server.pipeline.streams) == 1)
        streams[0] = await opened(server)
        for stream in streams:
            stream.cancel()
        admission = server.pipeline.admission
        await until(lambda: not admission._server.streams)
        assert admission.running == 0
