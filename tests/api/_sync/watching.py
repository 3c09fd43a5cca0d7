# Generated from tests/api/_async/watching.py by `make gen`. Edit the source, never this file.
"""What the tests of watches share."""

from sojourn import Change, Watch, WatchEvent


def take(watch: Watch, count: int) -> list[WatchEvent]:
    """Read so many events."""
    return [watch.__next__() for _ in range(count)]


def places(events: list[WatchEvent]) -> list[tuple[int, int]]:
    """Which changes there are among the events."""
    return [(one.revision, one.index) for one in events if isinstance(one, Change)]
