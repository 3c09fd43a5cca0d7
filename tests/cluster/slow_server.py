"""`sojourn-server` whose transactions rest between their beginning and the app's lock.

So others that begin later come first: what begins first commits last.
"""

from __future__ import annotations

from sojourn_server import command
from sojourn_server.store.postgres.connection import Link, Statement

REST = "SELECT pg_sleep(random() * 0.02)"

_beginning = Link.beginning


def resting(link: Link, begin: str) -> list[Statement]:
    return [*_beginning(link, begin), (REST, ())]


if __name__ == "__main__":
    Link.beginning = resting  # type: ignore[assignment, method-assign]
    command.main()
