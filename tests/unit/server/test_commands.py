"""What `sojourn-server` does to a store besides serving it."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import sojourn.testing
from sojourn_server.command import command
from sojourn_server.domain.model import App
from sojourn_server.store.base import Store, Tx
from sojourn_server.store.postgres import Options, PostgresStore
from sojourn_server.store.sqlite import SqliteStore
from tests import postgres
from tests.store.kit import an_app


def ran(store: str, *arguments: str) -> Result:
    return CliRunner().invoke(command(), ["--store", store, *arguments])


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store in which there is nothing."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'sojourn.db'}"
    return postgres.url(postgres.server().fresh())


def opened(url: str) -> Store:
    if url.startswith("sqlite"):
        return SqliteStore(Path(url.removeprefix("sqlite:///")))
    return PostgresStore(Options(url, size=2))


async def put_app(tx: Tx, app: App) -> None:
    await tx.put_app(app)


async def put(url: str, *names: str) -> None:
    store = opened(url)
    await store.open()
    for name in names:
        await store.apply(name, "the test", partial(put_app, app=an_app(name)))
    await store.close()


async def feed_of(url: str, name: str) -> str:
    store = opened(url)
    await store.open()
    app = await store.read(lambda tx: tx.app(name))
    await store.close()
    assert app is not None
    return app.feed_id


def test_new_feeds_gives_every_app_another_one(url: str) -> None:
    asyncio.run(put(url, "a", "b"))
    done = ran(url, "new-feeds")
    assert (done.exit_code, done.output) == (0, "apps with a new feed: 2\n")
    first = asyncio.run(feed_of(url, "a"))
    assert first != an_app().feed_id
    assert ran(url, "new-feeds").exit_code == 0
    assert asyncio.run(feed_of(url, "a")) not in {first, an_app().feed_id}


def test_new_feeds_of_an_empty_store_is_none(url: str) -> None:
    assert ran(url, "new-feeds").output == "apps with a new feed: 0\n"


async def test_new_feeds_is_refused_while_a_server_has_the_file(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'sojourn.db'}"
    async with sojourn.testing.serve(store=url):
        done = await asyncio.to_thread(ran, url, "new-feeds")
    assert done.exit_code == 3
    assert done.output.endswith("sojourn.db is in use by another server.\n")


def test_new_feeds_names_what_is_wrong_with_the_settings() -> None:
    done = ran("mysql://host/name", "new-feeds")
    assert done.exit_code == 2
    assert "store must be" in done.output


@pytest.mark.parametrize("name", ["migrate", "new-feeds"])
def test_where_a_server_would_listen_is_nothing_to_a_command(name: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'sojourn.db'}"
    done = ran(url, "--listen", "0.0.0.0:7070", "--metrics-listen", "0.0.0.0:1", name)
    assert done.exit_code == 0, done.output
