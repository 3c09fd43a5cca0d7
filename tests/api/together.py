"""Several calls at once: in one event loop, or in threads."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


async def async_together(*calls: Callable[[], Coroutine[Any, Any, T]]) -> list[T | BaseException]:
    """Make all calls at once; return what each gave or raised, in their order."""
    return await asyncio.gather(*(call() for call in calls), return_exceptions=True)


def sync_together(*calls: Callable[[], T]) -> list[T | BaseException]:
    """Make all calls at once; return what each gave or raised, in their order."""

    def outcome(call: Callable[[], T]) -> T | BaseException:
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the outcome
            return error

    with ThreadPoolExecutor(max_workers=len(calls)) as pool:
        return list(pool.map(outcome, calls))
