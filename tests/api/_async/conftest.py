"""A real server and a client of it, or a server that does what the test tells it to."""

from collections.abc import AsyncIterator, Iterator

import pytest

from sojourn import AsyncClient, testing
from sojourn.testing import AsyncLocalServer
from tests.api.scripted import Script, scripted_server

# Expiries are looked for every 20 ms, so that tests need not wait for them.
SOON = 20_000_000


@pytest.fixture
async def server() -> AsyncIterator[AsyncLocalServer]:
    """A real server. One for each test, so that grpc sees one event loop at a time."""
    async with testing.serve(expiry_interval=SOON, sqlite_synchronous="OFF") as server:
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
