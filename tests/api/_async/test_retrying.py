"""The recipe: three tries, then the session has failed."""

from datetime import timedelta

import pytest

import sojourn
from sojourn import AsyncClient, RetryOptions, Status, errors

QUICK = RetryOptions(initial_backoff=timedelta(milliseconds=1))


class Flaky(Exception):
    """Goes away by itself."""


class Fatal(Exception):
    """Does not."""


async def test_a_try_that_succeeds_is_the_last(client: AsyncClient) -> None:
    session = await client.attach("s")
    tries = []
    async for attempt in sojourn.retrying(session, pauses=QUICK):
        async with attempt as turn:
            tries.append(attempt.number)
            await turn.append("user", f"try {attempt.number}")
            if attempt.number < 2:
                raise Flaky
    assert tries == [1, 2]
    stored = await session.refresh()
    assert (stored.metrics.request_count, stored.metrics.error_count) == (2, 1)
    assert stored.is_active


async def test_after_three_tries_the_session_has_failed(client: AsyncClient) -> None:
    tries = []
    with pytest.raises(Flaky):
        async with client.session("s") as session:
            async for attempt in sojourn.retrying(session, pauses=QUICK):
                async with attempt:
                    tries.append(attempt.number)
                    raise Flaky
    assert tries == [1, 2, 3]
    stored = await client.sessions.get("s")
    assert (stored.status, stored.end_reason) == (Status.FAILED, "Flaky")
    assert stored.metrics.error_count == 3


async def test_other_errors_are_raised_at_once_and_the_session_stays_open(
    client: AsyncClient,
) -> None:
    session = await client.attach("s")
    tries = []
    with pytest.raises(Fatal):
        async for attempt in sojourn.retrying(session, on=(Flaky,), pauses=QUICK):
            async with attempt:
                tries.append(attempt.number)
                raise Fatal
    assert tries == [1]
    stored = await session.refresh()
    assert stored.is_active
    assert stored.metrics.error_count == 1


async def test_one_try_is_the_fewest(client: AsyncClient) -> None:
    session = await client.attach("s")
    with pytest.raises(errors.InvalidFieldError):
        sojourn.retrying(session, attempts=0)
    with pytest.raises(errors.ArgumentTypeError):
        sojourn.retrying("s")  # type: ignore[call-overload]


async def test_the_fields_of_the_turns_can_be_named(client: AsyncClient) -> None:
    session = await client.attach("s")
    async for attempt in sojourn.retrying(session, holder="pod-1", pauses=QUICK):
        async with attempt as turn:
            assert turn.info.holder == "pod-1"
