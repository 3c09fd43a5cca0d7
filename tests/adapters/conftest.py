"""One server for each store, for all adapters; one app for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

import sojourn
from tests.acceptance.kit import Place, Servers
from tests.store.backends import BACKENDS


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """The servers that tests share. Each is started for the first test that needs it."""
    with Servers(lambda: tmp_path_factory.mktemp("server")) as servers:
        yield servers


@pytest.fixture(params=BACKENDS)
def place(request: pytest.FixtureRequest, servers: Servers) -> Place:
    """A server on each store."""
    return servers.open(request.param)


@pytest.fixture
def app(request: pytest.FixtureRequest) -> str:
    """An app of this test's own."""
    return str(request.node.name)[:120]


@pytest.fixture
async def client(place: Place, app: str) -> AsyncIterator[sojourn.AsyncClient]:
    """A client in the event loop of the test."""
    async with place.client(app) as client:
        yield client


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("API_KEY", "API_KEY_FILE", "TOKEN_FILE", "TLS_CA", "ACTOR"):
        monkeypatch.delenv(f"SOJOURN_{name}", raising=False)
