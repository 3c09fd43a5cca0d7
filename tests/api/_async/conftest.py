"""One real server for all tests of this folder; each test has an app of its own."""

import uuid
from collections.abc import AsyncIterator, Iterator

import pytest

import sojourn
from sojourn import AsyncClient, testing
from tests.api.scripted import Script, scripted_server

# Expiries are looked for every 20 ms, so that tests need not wait for them.
SOON = 20_000_000


@pytest.fixture(scope="session")
def target() -> Iterator[str]:
    """Where the server is."""
    with testing.serve_sync(expiry_interval=SOON, sqlite_synchronous="OFF") as server:
        yield server.target


@pytest.fixture
def app() -> str:
    """An app that no other test uses."""
    return f"app-{uuid.uuid4().hex[:12]}"


@pytest.fixture
async def client(target: str, app: str) -> AsyncIterator[AsyncClient]:
    """A client of the real server."""
    async with sojourn.connect(target, app=app, deadline=10) as client:
        yield client


@pytest.fixture
def script() -> Iterator[Script]:
    """A server that answers what the test tells it to."""
    with scripted_server() as script:
        yield script
