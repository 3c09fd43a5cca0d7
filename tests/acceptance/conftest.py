"""One server for each store, for all rows; one app for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import sojourn
from tests.acceptance.kit import GuardedPlace, Place, Servers, serving
from tests.cli.kit import Shell
from tests.store.backends import BACKENDS


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """The servers that rows share. Each is started for the first row that needs it."""
    with Servers(lambda: tmp_path_factory.mktemp("server")) as servers:
        yield servers


@pytest.fixture(params=BACKENDS)
def store(request: pytest.FixtureRequest) -> str:
    """The kind of store."""
    name: str = request.param
    return name


@pytest.fixture
def place(servers: Servers, store: str) -> Place:
    """The server of most rows."""
    return servers.open(store)


@pytest.fixture
def guarded(servers: Servers, store: str) -> GuardedPlace:
    """A server that asks who calls."""
    return servers.guarded(store)


@pytest.fixture
def talkative(servers: Servers, store: str) -> Place:
    """A server that logs every call."""
    return servers.open(store, "--log-level", "debug")


@pytest.fixture
def own(store: str, tmp_path: Path) -> Iterator[Place]:
    """A server of this row's own, which may be stopped and started."""
    with serving(store, tmp_path) as place:
        yield place


@pytest.fixture
def app(request: pytest.FixtureRequest) -> str:
    """An app of this row's own."""
    return str(request.function.__name__).removeprefix("test_")


@pytest.fixture
async def client(place: Place, app: str) -> AsyncIterator[sojourn.AsyncClient]:
    """A client with an event loop."""
    async with place.client(app) as client:
        yield client


@pytest.fixture
def blocking(place: Place, app: str) -> Iterator[sojourn.Client]:
    """A client without one."""
    with place.sync_client(app) as client:
        yield client


@pytest.fixture
def shell(place: Place, app: str) -> Shell:
    """A terminal."""
    return place.shell(app)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = ("API_KEY", "API_KEY_FILE", "TOKEN_FILE")
    for name in ("TARGET", "APP", *credentials, "TLS_CA", "ACTOR", "OUTPUT", "DEADLINE"):
        monkeypatch.delenv(f"SOJOURN_{name}", raising=False)
