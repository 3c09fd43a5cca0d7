"""Ids that the server makes."""

from __future__ import annotations

import uuid

from hypothesis import given, settings
from hypothesis import strategies as st

from sojourn_server.domain.clock import MILLISECOND, WallClock
from sojourn_server.domain.ids import uuid7
from tests.unit.domain.values import START


@given(st.integers(0, 2**62))
@settings(max_examples=300, deadline=None)
def test_an_id_is_a_uuid_of_version_7_that_carries_its_millisecond(now: int) -> None:
    text = uuid7(now)
    made = uuid.UUID(text)
    assert (len(text), str(made)) == (36, text)
    assert made.version == 7
    assert made.variant == uuid.RFC_4122
    assert made.int >> 80 == now // MILLISECOND % 2**48


def test_ids_of_one_instant_differ() -> None:
    assert len({uuid7(START) for _ in range(20_000)}) == 20_000


def test_ids_sort_by_the_millisecond_they_were_made_in() -> None:
    made = [uuid7(START + step * MILLISECOND) for step in range(1_000)]
    assert made == sorted(made)


def test_every_random_bit_takes_both_values() -> None:
    seen_one = seen_zero = 0
    for _ in range(200):
        value = uuid.UUID(uuid7(START)).int
        seen_one |= value
        seen_zero |= ~value
    random_bits = (2**12 - 1) << 64 | (2**62 - 1)
    assert seen_one & seen_zero & random_bits == random_bits


def test_the_wall_clock_keeps_to_whole_microseconds() -> None:
    assert all(WallClock().now() % 1_000 == 0 for _ in range(100))
