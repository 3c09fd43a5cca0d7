"""The stores that the servers of these tests keep their sessions in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests import postgres
from tests.store.backends import BACKENDS


def stores(module: str) -> tuple[str, ...]:
    """What a module of tests runs on.

    The generated copies with the sync client meet the first store alone: they are about
    the client, and what the server does is asked on every store by their source.
    """
    return BACKENDS if "_async" in module else BACKENDS[:1]


@contextmanager
def settings_of(store: str) -> Iterator[dict[str, Any]]:
    """The settings of a server on a store of its own."""
    if store == "sqlite":
        yield {"sqlite_synchronous": "OFF"}
        return
    dsn = postgres.server().take()
    yield {"store": postgres.url(dsn), "postgres_connections": 4}
    postgres.server().give(dsn)
