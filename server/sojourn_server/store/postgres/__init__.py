"""The store in PostgreSQL, which any number of servers share."""

from sojourn_server.store.postgres.connection import Options
from sojourn_server.store.postgres.store import PostgresStore

__all__ = ["Options", "PostgresStore"]
