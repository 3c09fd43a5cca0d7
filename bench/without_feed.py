"""The server without its feed: nobody is told of commits. What the feed costs is the rest."""

from __future__ import annotations

from collections.abc import Callable

from sojourn_server.__main__ import main
from sojourn_server.store.sqlite import SqliteStore


def _tell_nobody(_: SqliteStore, __: Callable[[str], None]) -> None:
    """Forget who wants to be told."""


SqliteStore.on_commit = _tell_nobody  # type: ignore[method-assign]

if __name__ == "__main__":
    main()
