"""Every call is counted once, whatever becomes of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sojourn.v1 import session_service_pb2 as pb
from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.metrics.calls import CODES, Calls, MethodCalls
from sojourn_server.rpc.errors import TABLE
from sojourn_server.service.answers import Call
from tests.unit.rpc.wire import CREATE, GET, UseCase, Wire, created, failed, serving


@contextlib.asynccontextmanager
async def counted(use: UseCase) -> AsyncIterator[tuple[Wire, Calls]]:
    calls = Calls()
    async with serving(use, observe=calls.observe) as wire:
        yield wire, calls
        # A refusal is counted once it is sent, when its caller may have it already.
        await wire.pipeline.idle()


def of(calls: Calls, path: str) -> MethodCalls:
    """What was counted of one method."""
    (found,) = [each for each in calls.methods if each.method.path == path]
    return found


def raising(error: Exception) -> UseCase:
    async def use(request: Any, call: Call) -> Any:
        raise error

    return use


async def test_a_call_is_counted_by_its_method_and_code() -> None:
    async with counted(created) as (wire, calls):
        for _ in range(3):
            await wire.create()
    assert of(calls, CREATE).labels == ("unary", "sojourn.v1.SessionService", "CreateSession")
    assert of(calls, CREATE).started == 3
    assert of(calls, CREATE).by_code() == {"OK": 3}
    assert of(calls, CREATE).in_flight == 0
    assert of(calls, CREATE).seconds.count == 3
    assert 0 < of(calls, CREATE).seconds.total < 10
    assert of(calls, GET).started == 0
    assert sum(calls.refusals().values()) == 0


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (Refusal(Reason.ETAG_MISMATCH, "it changed"), "Aborted", "ETAG_MISMATCH"),
        (Refusal(Reason.SESSION_NOT_FOUND, "gone"), "NotFound", "SESSION_NOT_FOUND"),
        (ValueError("a fault"), "Internal", "INTERNAL"),
    ],
)
async def test_a_refusal_is_counted_by_its_code_and_reason(
    error: Exception, code: str, reason: str
) -> None:
    async with counted(raising(error)) as (wire, calls):
        await failed(wire.create())
    assert of(calls, CREATE).by_code() == {"OK": 0, code: 1}
    assert calls.refusals()[reason] == 1
    assert sum(calls.refusals().values()) == 1


async def test_what_is_refused_before_any_use_case_is_counted() -> None:
    async with counted(created) as (wire, calls):
        await failed(wire.raw(CREATE, b"\xff\xff\xff"))
        await failed(wire.create(pb.CreateSessionRequest()))
        wire.pipeline.draining = True
        await failed(wire.create())
    refusals = calls.refusals()
    assert of(calls, CREATE).by_code() == {"OK": 0, "InvalidArgument": 2, "Unavailable": 1}
    assert (refusals["MALFORMED_REQUEST"], refusals["INVALID_FIELD"]) == (1, 1)
    assert refusals["DRAINING"] == 1


async def test_a_call_whose_caller_goes_away_was_canceled_and_is_no_refusal() -> None:
    begun = asyncio.Event()

    async def use(request: Any, call: Call) -> Any:
        begun.set()
        await asyncio.sleep(60)

    async with counted(use) as (wire, calls):
        call = asyncio.create_task(wire.create())
        await begun.wait()
        assert (of(calls, CREATE).started, of(calls, CREATE).in_flight) == (1, 1)
        call.cancel()
        async with asyncio.timeout(5):
            await wire.pipeline.idle()
        assert of(calls, CREATE).by_code() == {"OK": 0, "Canceled": 1}
        assert of(calls, CREATE).in_flight == 0
        assert sum(calls.refusals().values()) == 0


async def test_a_call_that_is_broken_off_by_a_drain_is_counted() -> None:
    begun = asyncio.Event()

    async def use(request: Any, call: Call) -> Any:
        begun.set()
        await asyncio.sleep(60)

    async with counted(use) as (wire, calls):
        call = asyncio.create_task(failed(wire.create()))
        await begun.wait()
        wire.pipeline.evict()
        await call
    assert of(calls, CREATE).by_code() == {"OK": 0, "Unavailable": 1}


def test_every_outcome_has_a_code_as_the_ecosystem_writes_it() -> None:
    assert CODES.keys() == {reason.value for reason in TABLE} | {"OK", "CANCELLED"}
    assert set(CODES.values()) == {
        "OK",
        "Canceled",
        "PermissionDenied",
        "InvalidArgument",
        "NotFound",
        "AlreadyExists",
        "FailedPrecondition",
        "Aborted",
        "ResourceExhausted",
        "OutOfRange",
        "Unauthenticated",
        "Unavailable",
        "Unimplemented",
        "Internal",
    }
