"""The matrix is run once for each store, and its tests look at what came of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest

from sojourn import testing
from sojourn_server.access import keys
from sojourn_server.access.keys import KeyFile
from sojourn_server.domain.rate import Rate
from sojourn_server.rpc import admission
from tests.access import matrix
from tests.access.matrix import Ran
from tests.access.places import GRANTED, Place
from tests.api.stores import settings_of
from tests.faults import counts
from tests.store.backends import BACKENDS


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    counts.print_table(terminalreporter)


@contextlib.contextmanager
def unpaced() -> Iterator[None]:
    """Refusals are not held back here: nearly all of these calls are refused."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("REFUSALS", "ALL_REFUSALS"):
            patch.setattr(admission, name, Rate(100_000, 100_000))
        yield


@pytest.fixture(scope="session", params=BACKENDS)
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    with unpaced():
        return asyncio.run(matrix.run(request.param, tmp_path_factory.mktemp("matrix")))


@pytest.fixture(params=BACKENDS)
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    made = {
        name: keys.make(name.split(",")[0], *how, keys.utc_now()) for name, how in GRANTED.items()
    }
    path = tmp_path / "keys.json"
    keys.write_file(path, KeyFile(keys=tuple(entry for _, entry in made.values())))
    with settings_of(request.param) as settings, unpaced():
        async with (
            testing.serve(keys_file=path, **settings) as server,
            grpc.aio.insecure_channel(server.target) as channel,
        ):
            yield Place(channel, {name: key for name, (key, _) in made.items()})
