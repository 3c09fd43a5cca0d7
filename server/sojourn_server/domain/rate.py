"""How fast somebody may go: a token bucket, kept as one number."""

from __future__ import annotations


class Rate:
    """A rate and a burst, shared by all who are held to them.

    A bucket is one number, the instant at which it will be full again. Full is any instant
    that is past, so a bucket that nobody uses needs no care, and 0.0 is a full one.

    Args:
        per_second: How many tokens come back each second; more than 0.
        burst: How many a full bucket holds; at least 1.

    Raises:
        ValueError: One of the two is too small.
    """

    __slots__ = ("_depth", "_gap")

    def __init__(self, per_second: float, burst: int) -> None:
        if per_second <= 0 or burst < 1:
            raise ValueError("a rate is more than 0, and a burst at least 1")
        self._gap = 1 / per_second
        self._depth = burst * self._gap

    def taken(self, full_at: float, now: float) -> float:
        """The bucket after one token was taken, whether or not it was there.

        Args:
            full_at: When the bucket will be full, in seconds of any clock.
            now: What time it is by that clock.
        """
        return (max(now, full_at)) + self._gap

    def wait(self, full_at: float, now: float) -> float:
        """How long until a token is there, in seconds; 0.0: there is one.

        Args:
            full_at: When the bucket will be full.
            now: What time it is.
        """
        late = full_at + self._gap - now - self._depth
        # What is lost in adding up instants is no reason to wait.
        return late if late > self._gap * 1e-6 else 0.0
