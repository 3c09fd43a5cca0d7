"""One server process for all tests of the command line; one app for each test."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.kit import Shell
from tools import demo

NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real server, which must end well."""
    with demo.server(tmp_path_factory.mktemp("server")) as address:
        yield address


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = ("API_KEY", "API_KEY_FILE", "TOKEN_FILE")
    for name in ("TARGET", "APP", *credentials, "TLS_CA", "ACTOR", "OUTPUT", "DEADLINE"):
        monkeypatch.delenv(f"SOJOURN_{name}", raising=False)


@pytest.fixture
def shell(target: str) -> Shell:
    return Shell(target, f"app-{next(NUMBERS)}")


@pytest.fixture
def sample() -> Path:
    return demo.SAMPLE
