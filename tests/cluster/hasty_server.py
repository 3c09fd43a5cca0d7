"""`sojourn-server` that answers before its commits are on disk, to see that it is found out."""

from __future__ import annotations

from sojourn_server import command
from sojourn_server.store.postgres.connection import Link, Statement

_beginning = Link.beginning


def hasty(link: Link, begin: str) -> list[Statement]:
    return [*_beginning(link, begin), ("SET LOCAL synchronous_commit = off", ())]


if __name__ == "__main__":
    Link.beginning = hasty  # type: ignore[assignment, method-assign]
    command.main()
