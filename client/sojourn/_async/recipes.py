"""Recipes on top of turns: functions that run as a turn, and several tries."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import ParamSpec, TypeVar

from sojourn._acompat import AsyncFunction, async_finish, async_sleep
from sojourn._async.handles import AsyncSessionHandle
from sojourn._async.live_turn import AsyncTurnHandle
from sojourn._errands import find_session
from sojourn._retry import backoff
from sojourn.inputs import TurnFields
from sojourn.options import RetryOptions

P = ParamSpec("P")
T = TypeVar("T")


def async_tracked(function: AsyncFunction[P, T], fields: TurnFields) -> AsyncFunction[P, T]:
    """Return the function such that each call is one turn of the session among its arguments."""

    @functools.wraps(function)
    async def run(*args: P.args, **kwargs: P.kwargs) -> T:
        session = find_session(AsyncSessionHandle, args, kwargs)
        async with session.turn(**fields):
            return await function(*args, **kwargs)

    return run


class AsyncAttempt:
    """One try of `sojourn.retrying`: a turn that ends quietly when there is another try to come."""

    def __init__(
        self,
        session: AsyncSessionHandle,
        number: int,
        *,
        is_last: bool,
        on: tuple[type[Exception], ...],
        fields: TurnFields,
    ) -> None:
        self.number = number
        """1 for the first try."""
        self.succeeded = False
        self._session = session
        self._is_last = is_last
        self._on = on
        self._turn: AbstractAsyncContextManager[AsyncTurnHandle] = session.turn(**fields)

    async def __aenter__(self) -> AsyncTurnHandle:
        return await self._turn.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        await self._turn.__aexit__(kind, error, trace)
        if error is None:
            self.succeeded = True
            return False
        if not isinstance(error, self._on):
            return False
        if self._is_last:
            await async_finish(self._session.fail_after(error))
        return not self._is_last


async def async_retrying(
    session: AsyncSessionHandle,
    *,
    attempts: int,
    on: tuple[type[Exception], ...],
    pauses: RetryOptions,
    fields: TurnFields,
) -> AsyncIterator[AsyncAttempt]:
    """Yield one try after the other until one succeeds; see `sojourn.retrying`."""
    for number in range(1, attempts + 1):
        attempt = AsyncAttempt(session, number, is_last=number == attempts, on=on, fields=fields)
        yield attempt
        if attempt.succeeded:
            return
        await async_sleep(backoff(number, pauses))
