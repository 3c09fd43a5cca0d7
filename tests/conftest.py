"""What holds for all tests."""

from __future__ import annotations

import os

# Before gRPC is loaded: PostgreSQL's tools are run as another user, for which Python forks,
# and gRPC's handlers of forks crash the child now and then.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

from typing import Any

import pytest

from tests.faults import counts
from tests.longest import LONGEST


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One process more than there are processors: a good part of these tests waits for others."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several processes share the tests, the longest files begin first."""
    if hasattr(config, "workerinput"):
        place = {name: number for number, name in enumerate(LONGEST)}
        items.sort(key=lambda item: place.get(item.location[0], len(place)))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the lines of the table to the process that prints it."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["counts"] = counts.rows()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over the lines of a process that is done."""
    for line in getattr(node, "workeroutput", {}).get("counts", ()):
        counts.report(*line)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was counted."""
    counts.print_table(terminalreporter)
