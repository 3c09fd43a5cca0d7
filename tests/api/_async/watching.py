"""What the tests of watches share."""

from sojourn import AsyncWatch, Change, WatchEvent


async def take(watch: AsyncWatch, count: int) -> list[WatchEvent]:
    """Read so many events."""
    return [await watch.__anext__() for _ in range(count)]


def places(events: list[WatchEvent]) -> list[tuple[int, int]]:
    """Which changes there are among the events."""
    return [(one.revision, one.index) for one in events if isinstance(one, Change)]
