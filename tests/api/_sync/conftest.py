# Generated from tests/api/_async/conftest.py by `make gen`. Edit the source, never this file.
"""A real server and a client of it, or a server that does what the test tells it to."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

import sojourn
from sojourn import Client, RetryOptions, _resume, testing
from sojourn.testing import LocalServer
from tests.api.scripted import Script, scripted_server
from tests.api.scripted_watch import WatchScript, watched_server
from tests.api.stores import settings_of, stores

SHORT = RetryOptions(initial_backoff=timedelta(milliseconds=5))
# Expiries are looked for every 20 ms, so that tests need not wait for them.
SOON = 20_000_000


@pytest.fixture(params=stores(__name__))
def server(request: pytest.FixtureRequest) -> Iterator[LocalServer]:
    """A real server. One for each test, so that grpc sees one event loop at a time."""
    with settings_of(request.param) as settings:
        with testing.serve_sync(expiry_interval=SOON, **settings) as server:
            yield server


@pytest.fixture
def app() -> str:
    """The client's app."""
    return "support"


@pytest.fixture
def client(server: LocalServer, app: str) -> Iterator[Client]:
    """A client of the real server."""
    with server.client(app=app, deadline=10) as client:
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
def watcher(feed: WatchScript) -> Iterator[Client]:
    """A client of the scripted streams."""
    with sojourn.connect_sync(feed.target, app="support", actor="me") as client:
        yield client
