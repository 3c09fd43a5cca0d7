"""Two servers on one database for all tests of the folder; each test has its own app."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator

import pytest

from sojourn_server.store.postgres import PostgresStore
from tests import postgres
from tests.cluster.kit import Clients, Cluster, clients_of


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    dsn = postgres.server().take()
    with Cluster(tmp_path_factory.mktemp("cluster"), dsn) as made:
        yield made
    postgres.server().give(dsn)


@pytest.fixture
async def clients(cluster: Cluster) -> AsyncIterator[Clients]:
    async with clients_of(cluster.servers, f"app-{uuid.uuid4()}") as made:
        yield made


@pytest.fixture
async def store(cluster: Cluster) -> AsyncIterator[PostgresStore]:
    """The database as one more server sees it."""
    async with cluster.store() as made:
        yield made
