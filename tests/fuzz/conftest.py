"""One live server in this process for all tests of the folder, with something in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sojourn import testing
from tests.faults import counts
from tests.fuzz.caller import Caller
from tests.fuzz.furnish import Furniture, furnish


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    counts.print_table(terminalreporter)


@pytest.fixture(scope="session")
def caller() -> Iterator[Caller]:
    with testing.serve_sync(sqlite_synchronous="OFF") as server:
        caller = Caller(server.target)
        yield caller
        caller.close()


@pytest.fixture
def furniture(caller: Caller) -> Furniture:
    """Sessions, messages and tokens, all there and all good."""
    return furnish(caller)
