"""Running a unit or a read on a connection's thread."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


def drive(work: Awaitable[T]) -> T:
    """Run an awaitable that never waits, to its end.

    The methods of a transaction are coroutines so that one unit serves every backend;
    on this one they answer at once, so a unit that suspends waits for something else.

    Raises:
        RuntimeError: It waits for something other than its transaction.
        Exception: Whatever it raised.
    """
    steps = work.__await__()
    try:
        next(steps)
    except StopIteration as end:
        value: T = end.value
        return value
    steps.close()
    raise RuntimeError("a unit must wait for nothing but its transaction")
