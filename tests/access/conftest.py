"""The matrix is run once for each store, and its tests look at what came of it."""

from __future__ import annotations

import asyncio

import pytest

from tests.access import matrix
from tests.access.matrix import Ran
from tests.faults import counts
from tests.store.backends import BACKENDS


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    counts.print_table(terminalreporter)


@pytest.fixture(scope="session", params=BACKENDS)
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return asyncio.run(matrix.run(request.param, tmp_path_factory.mktemp("matrix")))
