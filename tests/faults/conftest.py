"""Prints the table of counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import counts, powercut


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    counts.print_table(terminalreporter)


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that makes a disk forgetful."""
    return powercut.build(tmp_path_factory.mktemp("shim"))
