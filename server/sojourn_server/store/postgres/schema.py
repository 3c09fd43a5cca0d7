"""The schema: which version a database has, and how it comes to the newest."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Final

import psycopg

from sojourn_server.store import sqlfile
from sojourn_server.store.base import StoreUnusable, TokenKey
from sojourn_server.store.postgres import backfill
from sojourn_server.store.postgres.connection import Link, Options
from sojourn_server.store.postgres.errors import as_unusable
from sojourn_server.store.postgres.queries import QUERIES

LOCK: Final = 0x534A524E
"""The advisory lock of migrations: `SJRN`."""

_OLDEST: Final = 14
"""The oldest PostgreSQL that is supported."""

_SECRET_BYTES: Final = 32

_STEPS: Final[dict[int, Callable[[Link], Awaitable[None]]]] = {2: backfill.fill}
"""What a migration does beside its SQL, by its number."""


def migrations() -> list[tuple[int, str]]:
    """The numbered migrations, the oldest first."""
    return sqlfile.migrations(__package__ or "")


def newest() -> int:
    """The version that this server knows."""
    return migrations()[-1][0]


async def version(link: Link, options: Options) -> int:
    """The version of the database's schema; 0: it has none yet.

    Raises:
        StoreUnusable: It must not be used.
    """
    if link.release < _OLDEST:
        raise as_unusable(options.place, f"it is older than PostgreSQL {_OLDEST}")
    (((standby,),),) = await link.run([(QUERIES.is_standby, ())])
    if standby:
        raise as_unusable(options.place, "it is a standby, which is read-only")
    (((ours, any_other),),) = await link.run([(QUERIES.schema_known, ())])
    if not ours:
        if any_other:
            raise as_unusable(options.place, "it holds tables of another program")
        return 0
    (((found,),),) = await link.run([(QUERIES.schema_version, ())])
    number = int(found)
    if number > newest():
        raise StoreUnusable(
            f"{options.place} was written by a newer server "
            f"(schema {number}, this one knows {newest()})."
        )
    return number


async def migrate(link: Link, options: Options) -> int:
    """Bring the schema to the newest version, and make the first token key.

    In one transaction, behind a lock: of servers that start at once, one does it and the
    others find it done.

    Returns:
        The version that it had.

    Raises:
        StoreUnusable: It must not be used.
        psycopg.Error: That failed; nothing has happened.
    """
    try:
        await link.run([*link.beginning(QUERIES.begin_unit), (QUERIES.migration_lock, (LOCK,))])
        before = await version(link, options)
        if before == 0:
            await link.run([(QUERIES.schema_make, ()), (QUERIES.schema_begin, ())])
        for number, script in migrations():
            if number > before:
                await link.script(script)
                if number in _STEPS:
                    await _STEPS[number](link)
                await link.run([(QUERIES.schema_set, (number,))])
        ((*keys,),) = await link.run([(QUERIES.token_keys, ())])
        if not keys:
            secret = os.urandom(_SECRET_BYTES)
            await link.run([(QUERIES.token_key_insert, (1, secret))])
        await link.run([(QUERIES.commit, ())])
    except (psycopg.Error, StoreUnusable):
        await link.reset()
        raise
    return before


async def token_keys(link: Link) -> tuple[TokenKey, ...]:
    """The keys for tokens, the current one first."""
    (rows,) = await link.run([(QUERIES.token_keys, ())])
    return tuple(TokenKey(key_id, bytes(secret)) for key_id, secret in rows)
