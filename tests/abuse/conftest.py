"""One server for all of it, and what must be true of it afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.abuse.victim import HalfOpen, Victim
from tests.faults import counts


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    counts.print_table(terminalreporter)


@pytest.fixture(scope="package")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    """The server."""
    with Victim(tmp_path_factory.mktemp("victim")) as started:
        yield started


@pytest.fixture(scope="package")
def half_open(victim: Victim) -> Iterator[HalfOpen]:
    """Connections that say nothing, or only half of what they should."""
    opened = HalfOpen(victim.target)
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def opened_at_the_start(half_open: HalfOpen) -> None:
    """Half-open connections take their time to be closed: meanwhile the others are tried."""
