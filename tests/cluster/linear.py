"""Whether a history of one session is linearizable.

Wing and Gong's search with Lowe's memory: take operations one after the other, each that
began before any that is left had ended, and see whether the session could have answered
so; go back where it could not. What was tried once, the same operations with the same
outcome, is not tried again.

Every write names the etag that it left, and no etag is used twice, so hardly anything is
ever taken back.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import NamedTuple


class Did(Enum):
    """What an operation did."""

    GET = auto()
    """It read the session, which was as `seen`."""
    UPDATE = auto()
    """It wrote a value where the etag was `expected`, and left `seen`."""
    MISMATCH = auto()
    """It was refused: the etag was not `expected`."""
    RESET = auto()
    """It cleared the value and left `seen`."""
    END = auto()
    """It ended the session, or found it ended, and left `seen`."""
    ENDED = auto()
    """It was refused: the session had ended."""


class Seen(NamedTuple):
    """A session at one moment."""

    etag: str
    value: int | None
    """What was written last; of an `END` nobody knows."""
    generation: int
    active: bool


class Operation(NamedTuple):
    """One call, from its caller's side."""

    begin: int
    """When it was sent."""
    end: int
    """When its answer was there."""
    did: Did
    seen: Seen | None = None
    """What its answer shows; None for a refusal."""
    expected: str = ""
    """The etag that an update asked for."""


def after(state: Seen, operation: Operation) -> Seen | None:
    """The session after an operation; None where it could not have been answered so."""
    seen, did = operation.seen, operation.did
    if did is Did.GET:
        return state if seen == state else None
    if did is Did.MISMATCH:
        return state if state.active and operation.expected != state.etag else None
    if did is Did.ENDED:
        return None if state.active else state
    assert seen is not None
    if did is Did.END:
        fits = not seen.active and seen.generation == state.generation
        fits = fits and (seen.etag != state.etag) == state.active
        return seen._replace(value=state.value) if fits else None
    fits = state.active and seen.active and seen.etag != state.etag
    if did is Did.RESET:
        fits = fits and seen.value is None and seen.generation == state.generation + 1
    else:
        fits = fits and operation.expected == state.etag and seen.generation == state.generation
    return seen if fits else None


def is_linearizable(first: Seen, history: Sequence[Operation]) -> bool:
    """Whether the operations can have happened one after the other, each while it ran.

    Args:
        first: The session before all of them.
        history: The operations, in any order.
    """
    operations = sorted(history, key=lambda operation: operation.begin)
    everything = (1 << len(operations)) - 1
    tried: set[tuple[int, Seen]] = set()
    ways = [(0, first)]
    while ways:
        done, state = ways.pop()
        if done == everything:
            return True
        if (done, state) in tried:
            continue
        tried.add((done, state))
        ways += _ways_on(operations, done, state)
    return False


def _ways_on(operations: Sequence[Operation], done: int, state: Seen) -> list[tuple[int, Seen]]:
    """Each operation that may come next, with what is done then and the session after it."""
    ways: list[tuple[int, Seen]] = []
    first_end: int | None = None
    for number, operation in enumerate(operations):
        if done >> number & 1:
            continue
        if first_end is not None and operation.begin > first_end:
            # One that is left had ended before this one began, and all after it.
            break
        first_end = operation.end if first_end is None else min(first_end, operation.end)
        then = after(state, operation)
        if then == state:
            # What changes nothing and fits here stands in nobody's way: no need to try others.
            return [(done | 1 << number, state)]
        if then is not None:
            ways.append((done | 1 << number, then))
    return ways
