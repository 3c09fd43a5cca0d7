"""Rows S1-13 to S1-15 and S1-29 to S1-36: requests, errors and times of sessions."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

import sojourn
from sojourn import AsyncClient, AsyncSessionHandle, MetricsDelta, RetryOptions, Status, errors

QUICK = RetryOptions(initial_backoff=timedelta(milliseconds=1))


class ModelError(Exception):
    """What an agent's model raises."""


async def test_s1_13_counting_by_hand(client: AsyncClient) -> None:
    """A request, its seconds and its error are added in one step, and none is lost."""
    await client.sessions.create("user-123")
    await client.sessions.update("user-123", metrics=MetricsDelta(requests=1, processing_time=1.5))
    await client.sessions.update(
        "user-123", metrics=MetricsDelta(requests=1, errors=1, processing_time=0.1)
    )
    metrics = (await client.sessions.get("user-123")).metrics
    assert (metrics.request_count, metrics.error_count) == (2, 1)
    assert metrics.processing_time == timedelta(seconds=1.6)
    one = MetricsDelta(requests=1, processing_time=0.25, counters={"tokens": 10})
    await asyncio.gather(
        *(client.sessions.update("user-123", metrics=one) for _ in range(100)),
    )
    metrics = (await client.sessions.get("user-123")).metrics
    assert metrics.request_count == 102
    assert metrics.processing_time == timedelta(seconds=26.6)
    assert metrics.counters == {"tokens": 1000}


async def test_s1_14_each_counter_alone(client: AsyncClient) -> None:
    """An error may be marked without a request or a time, and a request without a time."""
    await client.sessions.create("s")
    await client.sessions.update("s", metrics=MetricsDelta(errors=1))
    metrics = (await client.sessions.get("s")).metrics
    assert (metrics.request_count, metrics.error_count) == (0, 1)
    await client.sessions.update("s", metrics=MetricsDelta(requests=1, errors=1))
    metrics = (await client.sessions.get("s")).metrics
    assert (metrics.request_count, metrics.error_count) == (1, 2)
    await client.sessions.update("s", metrics=MetricsDelta(processing_time=0.5))
    metrics = (await client.sessions.get("s")).metrics
    assert (metrics.request_count, metrics.processing_time) == (1, timedelta(seconds=0.5))


async def test_s1_15_requests_count_themselves(client: AsyncClient) -> None:
    """Ten calls of an agent's function are ten requests, without a line of book-keeping."""

    @sojourn.tracked
    async def execute(session: AsyncSessionHandle, task: str) -> str:
        await session.append("user", task)
        return task.upper()

    async with client.session("user-123") as session:
        for number in range(10):
            assert await execute(session, f"Request {number}") == f"REQUEST {number}"
    metrics = (await client.sessions.get("user-123")).metrics
    assert (metrics.request_count, metrics.error_count) == (10, 0)
    assert metrics.processing_time > timedelta(0)


async def test_s1_30_mean_processing_time(client: AsyncClient) -> None:
    """The mean time per request is there to be read, and no division by zero before the first."""
    created = await client.sessions.create("s")
    assert created.average_processing_time == timedelta(0)
    await client.sessions.update("s", metrics=MetricsDelta(requests=4, processing_time=6))
    session = await client.sessions.get("s")
    assert session.average_processing_time == timedelta(seconds=1.5)


async def test_s1_31_error_rate(client: AsyncClient) -> None:
    """The error rate is there to be read, and no division by zero before the first request."""
    created = await client.sessions.create("s")
    assert created.error_rate == 0.0
    await client.sessions.update("s", metrics=MetricsDelta(requests=4, errors=1))
    assert (await client.sessions.get("s")).error_rate == 0.25


async def test_s1_32_measured_durations(client: AsyncClient) -> None:
    """A measured duration is added as it is, as seconds or as a timedelta, without rounding up."""
    await client.sessions.create("s")
    for duration in (0.1, 0.000001, timedelta(milliseconds=2), 3):
        delta = MetricsDelta(requests=1, processing_time=duration)
        await client.sessions.update("s", metrics=delta)
    metrics = (await client.sessions.get("s")).metrics
    assert metrics.processing_time == timedelta(seconds=3.102001)
    with pytest.raises(errors.InvalidFieldError):
        await client.sessions.update("s", metrics=MetricsDelta(processing_time=-1))


async def test_s1_33_a_failed_task_is_counted_and_raised(client: AsyncClient) -> None:
    """When a task fails, its session counts request and error, and the caller gets the cause."""
    session = await client.attach("s")
    with pytest.raises(ModelError, match="no answer"):
        async with session.turn():
            raise ModelError("no answer")
    read = await client.sessions.get("s")
    assert (read.metrics.request_count, read.metrics.error_count) == (1, 1)
    assert "ModelError" in read.last_turn_error
    assert read.is_active
    async with session.turn():
        pass
    assert (await client.sessions.get("s")).metrics.error_count == 1


async def test_s1_34_three_tries(client: AsyncClient) -> None:
    """A task is tried three times; after the last failure its session has failed, and says why."""
    tries: list[int] = []
    session = await client.attach("hopeless")
    with pytest.raises(ModelError):
        async for attempt in sojourn.retrying(session, pauses=QUICK):
            async with attempt:
                tries.append(attempt.number)
                raise ModelError("no answer")
    assert tries == [1, 2, 3]
    read = await client.sessions.get("hopeless")
    assert (read.status, read.end_reason) == (Status.FAILED, "ModelError")
    assert (read.metrics.request_count, read.metrics.error_count) == (3, 3)

    session = await client.attach("recovers")
    async for attempt in sojourn.retrying(session, pauses=QUICK):
        async with attempt as turn:
            if attempt.number < 3:
                raise ModelError("no answer")
            await turn.append("assistant", "Here it is.")
    read = await client.sessions.get("recovers")
    assert read.is_active
    assert (read.metrics.request_count, read.metrics.error_count) == (3, 2)
