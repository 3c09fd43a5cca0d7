"""How values are spread."""

from __future__ import annotations

from bisect import bisect_right

from hypothesis import given
from hypothesis import strategies as st

from sojourn_server.domain.tally import Spread


def test_a_value_lies_up_to_its_bound():
    spread = Spread((1, 2))
    for value in (0.5, 1, 1.5, 2, 2.5, 100):
        spread.add(value)
    assert spread.counts == [2, 2, 2]
    assert spread.count == 6
    assert spread.total == 107.5


def test_a_copy_stays_as_it_was():
    spread = Spread((1,))
    spread.add(0.5)
    copy = spread.copy()
    spread.add(2)
    assert (copy.counts, copy.total, copy.bounds) == ([1, 0], 0.5, (1,))
    copy.add(7)
    assert spread.counts == [1, 1]


@given(st.lists(st.integers(0, 50)), st.sets(st.integers(0, 50), min_size=1))
def test_the_counts_up_to_each_bound_are_those_of_the_values(values: list[int], bounds: set[int]):
    spread = Spread(sorted(bounds))
    for value in values:
        spread.add(value)
    below = 0
    for bound, count in zip(spread.bounds, spread.counts, strict=False):
        below += count
        assert below == bisect_right(sorted(values), bound)
    assert spread.count == len(values)
