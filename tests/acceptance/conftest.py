"""One server for each store, for all rows; one app for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import sojourn
from tests.acceptance.kit import Place, serving
from tests.cli.kit import Shell
from tests.store.backends import BACKENDS


@pytest.fixture(scope="session", params=BACKENDS)
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """The server of most rows."""
    with serving(request.param, tmp_path_factory.mktemp("server")) as place:
        yield place


@pytest.fixture(params=BACKENDS)
def store(request: pytest.FixtureRequest) -> str:
    """The kind of store, for a row with a server of its own."""
    name: str = request.param
    return name


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
