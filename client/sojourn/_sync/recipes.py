# Generated from client/sojourn/_async/recipes.py by `make gen`. Edit the source, never this file.
"""Recipes on top of turns: functions that run as a turn, and several tries."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import ParamSpec, TypeVar

from sojourn._acompat import SyncFunction, sync_finish, sync_sleep
from sojourn._errands import find_session
from sojourn._retry import backoff
from sojourn._sync.handles import SessionHandle
from sojourn._sync.live_turn import TurnHandle
from sojourn.inputs import TurnFields
from sojourn.options import RetryOptions

P = ParamSpec("P")
T = TypeVar("T")


def sync_tracked(function: SyncFunction[P, T], fields: TurnFields) -> SyncFunction[P, T]:
    """Return the function such that each call is one turn of the session among its arguments."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        session = find_session(SessionHandle, args, kwargs)
        with session.turn(**fields):
            return function(*args, **kwargs)

    return run


class Attempt:
    """One try of `sojourn.retrying`: a turn that ends quietly when there is another try to come."""

    def __init__(
        self,
        session: SessionHandle,
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
        self._turn: AbstractContextManager[TurnHandle] = session.turn(**fields)

    def __enter__(self) -> TurnHandle:
        return self._turn.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        self._turn.__exit__(kind, error, trace)
        if error is None:
            self.succeeded = True
            return False
        if not isinstance(error, self._on):
            return False
        if self._is_last:
            sync_finish(self._session.fail_after(error))
        return not self._is_last


def sync_retrying(
    session: SessionHandle,
    *,
    attempts: int,
    on: tuple[type[Exception], ...],
    pauses: RetryOptions,
    fields: TurnFields,
) -> Iterator[Attempt]:
    """Yield one try after the other until one succeeds; see `sojourn.retrying`."""
    for number in range(1, attempts + 1):
        attempt = Attempt(session, number, is_last=number == attempts, on=on, fields=fields)
        yield attempt
        if attempt.succeeded:
            return
        sync_sleep(backoff(number, pauses))
