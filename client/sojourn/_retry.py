"""When a failed call is sent again, and after which pause. Pure: no clock, no sleep.

Only what says that no server has decided is repeated: UNAVAILABLE, and a CANCELLED without a
correlation id, with which gRPC's core ends calls that a stopping server has read and no handler
has seen. And only where a repeat does nothing twice: reads, writes that carry a request id, and the
few writes that are safe to repeat by nature. The request id is made before the first attempt and
stays the same.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from datetime import timedelta
from enum import Enum, auto
from types import MappingProxyType

from sojourn.errors import SojournError
from sojourn.options import RetryOptions


class Repeat(Enum):
    """What makes an RPC safe to repeat."""

    READ = auto()
    """It changes nothing."""
    REQUEST_ID = auto()
    """The server knows the repeat by its request id; without one it is not repeated."""
    SAME = auto()
    """Doing it twice is the same as doing it once."""
    NEVER = auto()
    """Not by this rule: it is done twice, or has its own way to go on."""


REPEAT: Mapping[str, Repeat] = MappingProxyType(
    {
        "AggregateSessions": Repeat.READ,
        "BatchGetSessions": Repeat.READ,
        "ExportSessions": Repeat.READ,
        "GetApp": Repeat.READ,
        "GetMessage": Repeat.READ,
        "GetServerInfo": Repeat.READ,
        "GetSession": Repeat.READ,
        "GetState": Repeat.READ,
        "ListApps": Repeat.READ,
        "ListAuditEntries": Repeat.READ,
        "ListMessages": Repeat.READ,
        "ListSessions": Repeat.READ,
        "AppendMessages": Repeat.REQUEST_ID,
        "BatchCreateSessions": Repeat.REQUEST_ID,
        "BeginTurn": Repeat.REQUEST_ID,
        "CreateSession": Repeat.REQUEST_ID,
        "DeleteApp": Repeat.REQUEST_ID,
        "DeleteApps": Repeat.REQUEST_ID,
        "DeleteSession": Repeat.REQUEST_ID,
        "DeleteSessions": Repeat.REQUEST_ID,
        "EndSession": Repeat.REQUEST_ID,
        "EndSessions": Repeat.REQUEST_ID,
        "EndTurn": Repeat.REQUEST_ID,
        "EraseUser": Repeat.REQUEST_ID,
        "ForkSession": Repeat.REQUEST_ID,
        "PopMessages": Repeat.REQUEST_ID,
        "ReplaceMessages": Repeat.REQUEST_ID,
        "ResetSession": Repeat.REQUEST_ID,
        "TruncateMessages": Repeat.REQUEST_ID,
        "UpdateApp": Repeat.REQUEST_ID,
        "UpdateSession": Repeat.REQUEST_ID,
        "UpdateState": Repeat.REQUEST_ID,
        "RenewTurn": Repeat.SAME,
        "TouchSession": Repeat.SAME,
        "BackupStore": Repeat.NEVER,
        "ImportSessions": Repeat.NEVER,
        "WatchSessions": Repeat.NEVER,
    }
)


def is_repeatable(method: str, request_id: str) -> bool:
    """Say whether an RPC may be sent twice; one that the table does not know may not."""
    repeat = REPEAT.get(method, Repeat.NEVER)
    if repeat is Repeat.REQUEST_ID:
        return bool(request_id)
    return repeat in {Repeat.READ, Repeat.SAME}


def is_undecided(error: SojournError) -> bool:
    """Say whether no server has decided about the call."""
    cut_off = error.code == "CANCELLED" and not error.correlation_id
    return error.code == "UNAVAILABLE" or cut_off


def backoff(
    attempt: int, options: RetryOptions, draw: Callable[[], float] = random.random
) -> float:
    """Return the pause after the n-th failed attempt (from 1), in seconds: full jitter.

    `draw` gives a random number from 0 to 1.
    """
    cap = options.max_backoff.total_seconds()
    try:
        ceiling = options.initial_backoff.total_seconds() * options.multiplier ** (attempt - 1)
    except OverflowError:
        ceiling = cap
    return draw() * min(cap, ceiling)


def pause_before_retry(
    error: SojournError,
    *,
    attempt: int,
    time_left: float,
    options: RetryOptions,
    draw: Callable[[], float] = random.random,
) -> float | None:
    """Return the seconds to wait before the next attempt; None: give up and raise the error.

    `attempt` is the number of the attempt that failed, from 1; `time_left` the seconds until the
    call's deadline.
    """
    if not is_undecided(error) or not is_repeatable(error.method, error.request_id):
        return None
    if attempt >= options.max_attempts:
        return None
    pause = backoff(attempt, options, draw)
    if error.retry_after is not None:
        # Jitter on top, so that those who were told the same do not come back together.
        pause += max(error.retry_after, timedelta(0)).total_seconds()
    return pause if pause < time_left else None
