"""What the tests that break things share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import powercut


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that makes a disk forgetful."""
    return powercut.build(tmp_path_factory.mktemp("shim"))
