"""Times and durations as people and programs write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NANO = 10**9

_INSTANT = re.compile(r"(?P<whole>[^.]+?)(?:\.(?P<fraction>\d{1,9}))?(?P<zone>[zZ]|[+-]\d\d:\d\d)")
_PART = r"(\d+(?:\.\d+)?)(ms|s|m|h|d)"
_DURATION = re.compile(rf"(?:{_PART})+")
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def format_time(instant: datetime) -> str:
    """Return an instant as RFC 3339 in UTC, with microseconds."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def format_ns(nanoseconds: int) -> str:
    """Return an instant as RFC 3339 in UTC, with all nine digits."""
    seconds, rest = divmod(nanoseconds, NANO)
    return f"{EPOCH + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def parse_ns(text: str) -> int:
    """Return the nanoseconds since 1970 of an RFC 3339 text; raise ValueError when it is none."""
    match = _INSTANT.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no time such as 2030-05-17T09:30:00.000000001Z")
    zone = match["zone"].upper().replace("Z", "+00:00")
    since = datetime.fromisoformat(match["whole"] + zone) - EPOCH
    fraction = int((match["fraction"] or "0").ljust(9, "0"))
    return (since.days * 86_400 + since.seconds) * NANO + fraction


def parse_time(text: str) -> datetime:
    """Return the instant of an RFC 3339 text; raise ValueError when it is none."""
    return EPOCH + timedelta(microseconds=parse_ns(text) // 1000)


def parse_duration(text: str) -> timedelta:
    """Return the duration of a text such as `90`, `1h30m` or `never`, which is zero."""
    word = text.strip().lower()
    if word == "never":
        return timedelta(0)
    if re.fullmatch(r"\d+(?:\.\d+)?", word):
        word += "s"
    if _DURATION.fullmatch(word) is None:
        raise ValueError(f"{text!r} is no duration such as 90s, 15m, 1h30m, 7d or never")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in re.findall(_PART, word))
    try:
        return timedelta(seconds=seconds)
    except OverflowError:
        raise ValueError(f"{text!r} is too long") from None


def format_duration(length: timedelta) -> str:
    """Return a duration for people, to the millisecond below a minute, else to the second."""
    seconds = length.total_seconds()
    if seconds < 60:
        return f"{seconds:.3f}".rstrip("0").rstrip(".") + " s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    return " ".join(f"{number} {unit}" for number, unit in parts if number)


def seconds_of(length: timedelta) -> int | float:
    """Return a duration as a number of seconds: whole where it is whole."""
    seconds = length.total_seconds()
    return int(seconds) if seconds.is_integer() else seconds
