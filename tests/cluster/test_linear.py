"""The checker of histories: what it must let pass, and what it must not."""

from __future__ import annotations

import pytest

from tests.cluster.linear import Did, Operation, Seen, is_linearizable

A = Seen("a", None, 1, active=True)
B = A._replace(etag="b", value=1)
C = A._replace(etag="c", value=2)


def get(begin: int, end: int, seen: Seen) -> Operation:
    return Operation(begin, end, Did.GET, seen)


def update(begin: int, end: int, expected: Seen, seen: Seen) -> Operation:
    return Operation(begin, end, Did.UPDATE, seen, expected.etag)


def refused(begin: int, end: int, expected: Seen) -> Operation:
    return Operation(begin, end, Did.MISMATCH, None, expected.etag)


def reset(begin: int, end: int, seen: Seen) -> Operation:
    return Operation(begin, end, Did.RESET, seen)


def end(begin: int, end: int, seen: Seen) -> Operation:
    return Operation(begin, end, Did.END, seen)


CLEARED = Seen("r", None, 2, active=True)
OVER = B._replace(etag="e", value=None, active=False)
LATE = Operation(5, 6, Did.ENDED)

GOOD = {
    "nothing": [],
    "one after the other": [get(1, 2, A), update(3, 4, A, B), get(5, 6, B), update(7, 8, B, C)],
    "a read of either while it is written": [update(1, 9, A, B), get(2, 3, A), get(4, 5, B)],
    "a read before the write that began earlier": [update(1, 9, A, B), get(2, 8, A)],
    "two writers, the loser told so": [update(1, 9, A, B), refused(2, 8, A)],
    "the loser told so before the winner": [refused(2, 3, A), update(1, 9, A, B)],
    "ends that touch": [update(1, 2, A, B), get(2, 3, A)],
    "a way that has to be taken back": [
        update(1, 20, A, B),
        get(2, 19, B),
        refused(3, 18, A),
        get(4, 17, A),
    ],
    "a reset": [update(1, 2, A, B), reset(3, 6, CLEARED), refused(4, 5, B), get(7, 8, CLEARED)],
    "an end, told twice": [
        *(update(1, 2, A, B), end(3, 4, OVER), end(3, 4, OVER), LATE),
        get(7, 8, OVER._replace(value=1)),
    ],
}

BAD = {
    "a stale read": [update(1, 2, A, B), get(3, 4, A)],
    "a read of what is not written yet": [get(1, 2, B), update(3, 4, A, B)],
    "a read that goes back": [update(1, 9, A, B), get(2, 3, B), get(4, 5, A)],
    "a lost update": [update(1, 4, A, B), update(2, 3, A, C)],
    "a lost update, one after the other": [update(1, 2, A, B), update(3, 4, A, C), get(5, 6, C)],
    "a write that vanishes": [update(1, 2, A, B), get(3, 4, B), get(5, 6, A)],
    "a refusal for no reason": [refused(1, 2, A)],
    "a read of a value that nobody wrote": [update(1, 2, A, B), get(3, 4, B._replace(value=7))],
    "a reset that keeps the value": [
        *(update(1, 2, A, B), reset(3, 4, CLEARED)),
        get(5, 6, CLEARED._replace(value=1)),
    ],
    "a reset that happens twice": [reset(1, 2, CLEARED), get(3, 4, CLEARED._replace(generation=3))],
    "a write after the end": [update(1, 2, A, B), end(3, 4, OVER), update(5, 6, B, C)],
    "a refusal of what has not ended": [LATE],
    "an end that changes twice": [
        *(update(1, 2, A, B), end(3, 4, OVER)),
        end(5, 6, OVER._replace(etag="f")),
    ],
}


@pytest.mark.parametrize("name", GOOD)
def test_it_lets_pass(name: str) -> None:
    assert is_linearizable(A, GOOD[name])
    assert is_linearizable(A, GOOD[name][::-1]), "the order of the list says nothing"


@pytest.mark.parametrize("name", BAD)
def test_it_finds(name: str) -> None:
    assert not is_linearizable(A, BAD[name])


def test_many_at_once_are_not_too_many() -> None:
    """Twelve writers at a time, each told of the etag that only one of them could replace."""
    history, state, now = [], A, 0
    for number in range(40):
        then = state._replace(etag=f"e-{number}", value=number)
        history += [update(now, now + 9, state, then)]
        history += [refused(now + n % 5, now + 9, state) for n in range(11)]
        state, now = then, now + 10
    assert is_linearizable(A, history)
    assert not is_linearizable(A, [*history, get(now, now + 1, A)])
