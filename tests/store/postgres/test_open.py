"""Opening: migrations, several servers at once, and sentences that give nothing away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from sojourn_server.store.base import StoreDown, StoreUnusable
from sojourn_server.store.postgres import Options, PostgresStore, schema
from sojourn_server.store.postgres.queries import QUERIES
from tests import postgres
from tests.store.backends import PostgresBackend
from tests.store.kit import APP, a_session, create, found, head

SECRETS = ("hunter2", "geheim-user")


@pytest.fixture
def empty() -> Iterator[str]:
    """A database in which there is nothing."""
    dsn = postgres.server().fresh()
    yield dsn
    with psycopg.connect(dsn, autocommit=True) as database:
        database.execute("DROP SCHEMA public CASCADE")
        database.execute("CREATE SCHEMA public")


async def test_many_servers_that_start_at_once_migrate_once(empty: str) -> None:
    stores = [PostgresStore(Options(empty)) for _ in range(8)]
    await asyncio.gather(*(store.open() for store in stores))
    assert len({tuple(store.token_keys) for store in stores}) == 1
    assert await stores[3].versions() == (schema.newest(), schema.newest())
    await create(stores[0], a_session())
    assert await head(stores[7]) == 1
    for store in stores:
        await store.close()


async def test_looking_for_the_version_changes_nothing(empty: str) -> None:
    store = PostgresStore(Options(empty))
    assert await store.versions() == (0, schema.newest())
    assert await store.versions() == (0, schema.newest())


@pytest.mark.rule("S51")
async def test_a_newer_schema_is_refused(empty: str) -> None:
    store = PostgresStore(Options(empty))
    await store.open()
    await store.close()
    with psycopg.connect(empty, autocommit=True) as database:
        database.execute("UPDATE sojourn_schema SET version = 99")
    for act in (PostgresStore.open, PostgresStore.versions):
        with pytest.raises(StoreUnusable, match="newer server"):
            await act(PostgresStore(Options(empty)))


@pytest.mark.rule("S51")
async def test_a_database_of_another_program_is_refused_and_left_alone(empty: str) -> None:
    with psycopg.connect(empty, autocommit=True) as database:
        database.execute("CREATE TABLE session (a integer)")
        with pytest.raises(StoreUnusable, match="another program"):
            await PostgresStore(Options(empty)).open()
        row = database.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
        assert row.fetchone() == (1,)


async def test_a_migration_that_fails_leaves_nothing(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = schema.migrations()
    newest = schema.newest()
    more = "CREATE TABLE more (a integer); CREATE TABLE more (a integer);"
    broken = [*good, (newest + 1, more)]
    monkeypatch.setattr(schema, "migrations", lambda: broken)
    with pytest.raises(StoreUnusable):
        await PostgresStore(Options(empty)).open()
    monkeypatch.setattr(schema, "migrations", lambda: good)
    assert await PostgresStore(Options(empty)).versions() == (0, newest)


@pytest.mark.rule("S51", "S52")
@pytest.mark.parametrize(
    "where",
    [
        {"host": "127.0.0.1", "port": "1"},
        {"dbname": "sojourn_none"},
        {"host": "no.such.host.invalid"},
        {},
    ],
    ids=str,
)
async def test_no_text_names_the_user_or_the_password(
    where: dict[str, str],
    empty: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    password, user = SECRETS
    dsn = make_conninfo(empty, user=user, password=password, **where)
    store = PostgresStore(Options(dsn))
    texts = [repr(store), str(store.place)]
    for act in (store.open, store.versions):
        with pytest.raises(StoreUnusable) as caught:
            await act()
        texts += [str(caught.value), repr(caught.value.__cause__)]
    store._writer.start()
    store._readers.start()
    with pytest.raises(StoreDown) as down:
        await create(store, a_session())
    with pytest.raises(StoreDown) as lost:
        await store.check_readable()
    await store.close()
    texts += [str(down.value), repr(down.value.__cause__), str(lost.value), caplog.text]
    texts += list(capfd.readouterr())
    for secret in SECRETS:
        assert not any(secret in text for text in texts), texts


async def test_nothing_is_prepared_behind_a_pool_of_connections(
    backend: PostgresBackend,
) -> None:
    """What PgBouncer in transaction mode asks for: nothing outlives a transaction."""
    store = await backend.open_as(prepare=False)
    row = await create(store, a_session())
    for _ in range(12):
        await store.read(lambda tx: tx.candidates(_everything()))
        assert await found(store, "s-1") == row
    async with store._links.one() as link:
        (prepared,) = await link.run([("SELECT count(*) FROM pg_prepared_statements", ())])
        assert prepared == [(0,)]
        (kept,) = await link.run([("SELECT current_setting('enable_seqscan')", ())])
        assert kept == [("on",)]
        *_, ours = await link.run(
            [*link.beginning("BEGIN"), ("SELECT current_setting('enable_seqscan')", ())]
        )
        assert ours == [("off",)]
        await link.reset()


def _everything():
    from sojourn_server.store.base import Candidates  # noqa: PLC0415

    return Candidates(app=APP)


async def test_the_clock_is_the_databases(backend: PostgresBackend) -> None:
    backend._clock = None
    store = await backend.open_as()
    ((asked,),) = postgres.server().execute(
        "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint * 1000"
    )
    assert isinstance(asked, int)

    async def now(tx: object) -> int:
        return tx.now  # type: ignore[attr-defined, no-any-return]

    for read in (await store.read(now), (await store.apply(APP, "me", now)).value):
        assert asked <= read < asked + 60_000_000_000


@pytest.mark.rule("S3")
@pytest.mark.parametrize("prepare", [True, False])
@pytest.mark.parametrize(("given", "used"), [("off", "on"), ("on", "on"), ("local", "local")])
async def test_what_was_answered_is_on_disk_whatever_the_database_says(
    backend: PostgresBackend, given: str, used: str, prepare: bool
) -> None:
    dsn = make_conninfo(backend.dsn, options=f"-c synchronous_commit={given}")
    store = await backend.open_as(dsn=dsn, prepare=prepare)
    async with store._links.one() as link:
        begin = link.beginning(QUERIES.begin_unit)
        *_, ((found,),) = await link.run([*begin, ("SHOW synchronous_commit", ())])
        await link.reset()
    assert found == used


async def test_a_standby_is_refused_by_that_name(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "QUERIES", QUERIES._replace(is_standby="SELECT true"))
    with pytest.raises(StoreUnusable, match="is a standby, which is read-only"):
        await PostgresStore(Options(empty)).open()


async def test_a_connection_to_a_database_that_became_a_standby_is_left(
    backend: PostgresBackend,
) -> None:
    store = await backend.open_as()
    await create(store, a_session())
    with psycopg.connect(backend.dsn, autocommit=True) as admin:
        admin.execute("ALTER ROLE CURRENT_USER SET default_transaction_read_only = on")
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'sojourn' AND datname = current_database()"
        )
    try:
        for _ in range(2):  # of the connection that was cut, and of the one that came after it
            with pytest.raises(StoreDown):
                await store.check_writable()
    finally:
        with psycopg.connect(
            backend.dsn, autocommit=True, options="-c default_transaction_read_only=off"
        ) as admin:
            admin.execute("ALTER ROLE CURRENT_USER RESET default_transaction_read_only")
    # The connections that were made meanwhile would stay read-only for good.
    await store.check_writable()
    await create(store, a_session("s-2"))
