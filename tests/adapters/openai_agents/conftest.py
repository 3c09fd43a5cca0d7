"""The SDK sends no traces anywhere."""

from __future__ import annotations

import agents
import pytest


@pytest.fixture(autouse=True, scope="session")
def _no_traces() -> None:
    agents.set_tracing_disabled(True)
