"""Two recipes for agents: `tracked` functions, and `retrying` a request; for both clients."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from typing import Any, TypeVar, Unpack, cast, overload

from sojourn import _checks as check
from sojourn._async.handles import AsyncSessionHandle
from sojourn._async.recipes import AsyncAttempt, async_retrying, async_tracked
from sojourn._sync.handles import SessionHandle
from sojourn._sync.recipes import Attempt, sync_retrying, sync_tracked
from sojourn.inputs import TurnFields
from sojourn.options import RetryOptions

__all__ = ["retrying", "tracked"]

F = TypeVar("F", bound=Callable[..., Any])

PAUSES = RetryOptions(
    initial_backoff=timedelta(milliseconds=500), max_backoff=timedelta(seconds=10)
)


@overload
def tracked(function: F, /) -> F: ...


@overload
def tracked(**fields: Unpack[TurnFields]) -> Callable[[F], F]: ...


def tracked(function: F | None = None, /, **fields: Unpack[TurnFields]) -> F | Callable[[F], F]:
    """Make each call of a function one turn of the session among its arguments.

        @sojourn.tracked
        async def answer(session: sojourn.AsyncSessionHandle, question: str) -> str: ...

    The turn is counted and timed, and an exception counts as its error and is raised again. A
    function that is declared `async` takes a `AsyncSessionHandle`, any other a `SessionHandle`;
    exactly one argument must be such a handle, else `ArgumentTypeError`. The fields are those of
    `turns.begin`: `@sojourn.tracked(holder="pod-1")`. A session has one turn at a time, so a
    tracked function that calls another one with the same session gets `TurnConflictError`.
    """

    def decorate(wrapped: F) -> F:
        wrap = async_tracked if inspect.iscoroutinefunction(wrapped) else sync_tracked
        return cast("F", wrap(wrapped, fields))

    return decorate if function is None else decorate(function)


@overload
def retrying(
    session: AsyncSessionHandle,
    *,
    attempts: int = 3,
    on: tuple[type[Exception], ...] = (Exception,),
    pauses: RetryOptions = PAUSES,
    **fields: Unpack[TurnFields],
) -> AsyncIterator[AsyncAttempt]: ...


@overload
def retrying(
    session: SessionHandle,
    *,
    attempts: int = 3,
    on: tuple[type[Exception], ...] = (Exception,),
    pauses: RetryOptions = PAUSES,
    **fields: Unpack[TurnFields],
) -> Iterator[Attempt]: ...


def retrying(
    session: AsyncSessionHandle | SessionHandle,
    *,
    attempts: int = 3,
    on: tuple[type[Exception], ...] = (Exception,),
    pauses: RetryOptions = PAUSES,
    **fields: Unpack[TurnFields],
) -> AsyncIterator[AsyncAttempt] | Iterator[Attempt]:
    """Try a request several times, each try a turn of its own; then give the session up.

        async for attempt in sojourn.retrying(session):
            async with attempt as turn:
                await turn.append("assistant", await ask_the_model())

    A try that fails with an exception named in `on` is counted as an error and followed by a pause
    and the next try. When the last one fails, the session ends as FAILED, with the exception's type
    name as its reason, and the exception is raised. Any other exception is raised at once, and the
    session stays open. The pauses are those of `pauses`, whose `max_attempts` is not looked at; the
    other fields are those of `turns.begin`.
    """
    check.integer("attempts", attempts, minimum=1)
    if isinstance(session, AsyncSessionHandle):
        return async_retrying(session, attempts=attempts, on=on, pauses=pauses, fields=fields)
    if isinstance(session, SessionHandle):
        return sync_retrying(session, attempts=attempts, on=on, pauses=pauses, fields=fields)
    raise check.wrong_type("session", "a session handle", session)
