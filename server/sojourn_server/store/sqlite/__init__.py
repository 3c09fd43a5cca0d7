"""The store in one SQLite file, owned by one server process."""

from sojourn_server.store.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
