"""A rate lets through what was agreed, and no more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn_server.domain.rate import Rate


def test_a_full_bucket_gives_its_burst_at_once_and_then_by_the_rate() -> None:
    rate, bucket, now = Rate(10, 3), 0.0, 1_000.0
    for _ in range(3):
        assert rate.wait(bucket, now) == 0
        bucket = rate.taken(bucket, now)
    assert rate.wait(bucket, now) == pytest.approx(0.1)
    assert rate.wait(bucket, now + 0.1) == 0
    assert rate.wait(rate.taken(bucket, now + 0.1), now + 0.1) == pytest.approx(0.1)


def test_after_a_rest_there_is_a_burst_again_and_not_more() -> None:
    rate, bucket, now = Rate(10, 3), 0.0, 1_000.0
    given_at_once = 0
    now += 3_600
    while not rate.wait(bucket, now):
        bucket = rate.taken(bucket, now)
        given_at_once += 1
    assert given_at_once == 3


@given(
    rate=st.floats(0.5, 10_000),
    burst=st.integers(1, 1_000),
    pauses=st.lists(st.floats(0, 2), max_size=200),
)
def test_in_any_stretch_of_time_no_more_than_burst_and_rate(
    rate: float, burst: int, pauses: list[float]
) -> None:
    limiter, bucket, now = Rate(rate, burst), 0.0, 50.0
    taken_at: list[float] = []
    for pause in pauses:
        now += pause
        wait = limiter.wait(bucket, now)
        if not wait:
            bucket = limiter.taken(bucket, now)
            taken_at.append(now)
        else:
            # What it says is true: a little before it still waits, then it need not.
            assert limiter.wait(bucket, now + wait) == 0
            assert limiter.wait(bucket, now + wait / 2) > 0
    for first, start in enumerate(taken_at):
        for last in range(first, len(taken_at)):
            most = burst + (taken_at[last] - start) * rate
            assert last - first + 1 <= most + 1e-3


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (-1, 1), (1, 0)])
def test_a_rate_that_is_none_is_refused(rate: float, burst: int) -> None:
    with pytest.raises(ValueError, match="rate"):
        Rate(rate, burst)
