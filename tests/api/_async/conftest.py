"""A real server and a client of it, or a server that does what the test tells it to."""

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import pytest

import sojourn
from sojourn import AsyncClient, RetryOptions, _resume, testing
from sojourn.testing import AsyncLocalServer
from tests.api.scripted import Script, scripted_server
from tests.api.scripted_watch import WatchScript, watched_server
from tests.api.stores import settings_of, stores

SHORT = RetryOptions(initial_backoff=timedelta(milliseconds=5))
# Expiries are looked for every 20 ms, so that tests need not wait for them.
SOON = 20_000_000


@pytest.fixture(params=stores(__name__))
async def server(request: pytest.FixtureRequest) -> AsyncIterator[AsyncLocalServer]:
    """A real server. One for each test, so that grpc sees one event loop at a time."""
    with settings_of(request.param) as settings:
        async with testing.serve(expiry_interval=SOON, **settings) as server:
            yield server


@pytest.fixture
def app() -> str:
    """The client's app."""
    return "support"


@pytest.fixture
async def client(server: AsyncLocalServer, app: str) -> AsyncIterator[AsyncClient]:
    """A client of the real server."""
    async with server.client(app=app, deadline=10) as client:
        yield client


@pytest.fixture
def script() -> Iterator[Script]:
    """A server that answers what the test tells it to."""
    with scripted_server() as script:
        yield script


@pytest.fixture
def feed(monkeypatch: pytest.MonkeyPatch) -> Iterator[WatchScript]:
    """A server whose streams do what the test tells them to; watches pause but shortly."""
    monkeypatch.setattr(_resume, "PAUSES", SHORT)
    with watched_server() as feed:
        yield feed


@pytest.fixture
async def watcher(feed: WatchScript) -> AsyncIterator[AsyncClient]:
    """A client of the scripted streams."""
    async with sojourn.connect(feed.target, app="support", actor="me") as client:
        yield client
