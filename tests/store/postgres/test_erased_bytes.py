"""Where the bytes of erased content are in PostgreSQL, as docs/how-to/postgresql.md tells it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

import sojourn
import sojourn.testing
from tests import postgres

SHORT, LONG = b"a short secret, kept in its row", b"a long secret, kept beside it"


@pytest.fixture
def owned() -> Iterator[postgres.Restartable]:
    found = postgres.private()
    yield found
    found.close()


def places(folder: Path, words: bytes) -> set[str]:
    """Which parts of a cluster hold these words: `base` for tables, `pg_wal` for the log."""
    return {
        path.relative_to(folder).parts[0]
        for path in folder.rglob("*")
        if path.is_file() and words in path.read_bytes()
    }


async def test_erased_bytes_are_where_the_page_says(owned: postgres.Restartable) -> None:
    folder, dsn = owned.folder, owned.options().dsn

    def do(*statements: str) -> None:
        with psycopg.connect(dsn, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def found() -> tuple[set[str], set[str]]:
        do("CHECKPOINT")
        return places(folder, SHORT), places(folder, LONG)

    async with (
        sojourn.testing.serve(store=postgres.url(dsn)) as server,
        server.client(app="a") as client,
    ):
        # What stays comes first: a page is filled from its end, and a vacuum moves what is left
        # back there, perhaps over what is gone.
        stays = sojourn.NewMessage("user", "stays")
        await client.messages.append("other", stays, create_if_missing=True)
        for text in (SHORT.decode(), LONG.decode() + os.urandom(3_000).hex()):
            message = sojourn.NewMessage("user", text)
            await client.messages.append("s", message, create_if_missing=True)
        both = {"base", "pg_wal"}
        assert found() == (both, both)
        assert not (await client.sessions.delete("s")).scrubbed
        assert found() == (both, both), "rows are dead and not yet gone"
        do("VACUUM content")
        assert found()[0] == both, "a vacuum frees room and overwrites none"
        do("VACUUM FULL content")
        assert found() == ({"pg_wal"}, {"pg_wal"})
        for _ in range(6):
            do("SELECT pg_logical_emit_message(false, 'x', repeat('y', 9000000))")
            do("SELECT pg_switch_wal()", "CHECKPOINT")
        assert found() == (set(), set())
