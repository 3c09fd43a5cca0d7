"""What is known of a credential between two calls. Pure: no clock, nothing is asked."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sojourn.errors import ConfigurationError
from sojourn.options import check_secret

LOOK_EVERY = 1.0
"""How long a file that was read, or a function that was asked, is left alone, in seconds."""
EARLY_SHARE = 0.1
EARLY_MOST = 60.0
"""How much of a token's time, and how many seconds of it at most, are left when it is renewed."""


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A secret, and when it is to be asked for again. Moments are those of `time.monotonic`."""

    value: str
    renew_at: float = math.inf
    expires_at: float = math.inf

    def __repr__(self) -> str:
        return f"Held(…, renew_at={self.renew_at}, expires_at={self.expires_at})"

    def kept(self, now: float) -> Held:
        """Return it as it is to be used when no other could be had."""
        return replace(self, renew_at=now + LOOK_EVERY)


def held_token(answer: object, now: float, wall: datetime) -> Held:
    """Return what a function's answer comes to.

    `now` and `wall` are one moment by both clocks. Raises `ConfigurationError` for an answer that
    is no token.
    """
    expiry: object = None
    if isinstance(answer, tuple) and len(answer) == 2:
        answer, expiry = answer
    value = check_secret(answer, "a token that a function gives")
    if expiry is None:
        return Held(value)
    left = _seconds_left(expiry, wall)
    early = min(EARLY_MOST, EARLY_SHARE * left)
    return Held(value, now + max(LOOK_EVERY, left - early), now + left)


def _seconds_left(expiry: object, wall: datetime) -> float:
    if isinstance(expiry, timedelta):
        return expiry.total_seconds()
    if isinstance(expiry, datetime) and expiry.tzinfo is not None:
        return (expiry - wall).total_seconds()
    raise ConfigurationError("a token's expiry is a datetime with a time zone, or a timedelta")
