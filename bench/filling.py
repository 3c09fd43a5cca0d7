"""Fills an app with sessions through BatchCreateSessions.

Session i belongs to user i mod `users`; one in ten of each user's sessions, spread
over the whole list, has the label `tier` = `gold`, the others `tier` = `plain`.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from bench.calls import TIMEOUT, Caller
from sojourn.v1 import session_service_pb2

BATCH = 500
AT_ONCE = 3
"""Batches on their way from one worker; one where the instant of the deadline counts."""
WEEK = 7 * 86_400


def session_id(index: int) -> str:
    """The id of session i."""
    return f"session-{index:08d}"


def user(index: int, users: int) -> str:
    """Whose session i is."""
    return f"user-{index % users}"


def is_gold(index: int, users: int) -> bool:
    """Whether the label selects session i."""
    return (index // users + index) % 10 == 0


async def fill(caller: Caller, order: dict[str, Any]) -> dict[str, Any]:
    """Create sessions `first` … `last` − 1.

    The order may carry `due`, an instant of time.time(): all of them become overdue then.
    """
    users, due = order["users"], order.get("due")
    starts = iter(range(order["first"], order["last"], BATCH))

    async def batches() -> None:
        for start in starts:
            request = session_service_pb2.BatchCreateSessionsRequest(app=order["app"])
            for index in range(start, min(start + BATCH, order["last"])):
                new = request.sessions.add(
                    user=user(index, users),
                    session_id=session_id(index),
                    labels={"tier": "gold" if is_gold(index, users) else "plain"},
                )
                new.idle_timeout.seconds = WEEK
            if due is not None:
                left = int((due - time.time()) * 1e9)
                for new in request.sessions:
                    new.idle_timeout.FromNanoseconds(left)
            await caller.sessions.BatchCreateSessions(request, timeout=TIMEOUT)

    began = time.perf_counter()
    await asyncio.gather(*(batches() for _ in range(AT_ONCE if due is None else 1)))
    return {"seconds": time.perf_counter() - began}
