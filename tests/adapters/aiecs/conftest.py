"""A context engine on each store, and an agent without a model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from sojourn.adapters.aiecs import ContextSessions
from tests.acceptance.kit import Place


@pytest.fixture
async def context_engine(place: Place, app: str) -> AsyncIterator[ContextSessions]:
    """The line that changes: `ContextSessions(address, app=…)` for `ContextEngine()`."""
    context_engine = ContextSessions(place.target, app=app)
    await context_engine.initialize()
    yield context_engine
    await context_engine.close()


class Agent:
    """Does what it is told: fails when that is "Fail"."""

    agent_id = "agent-1"

    async def execute_task(self, task: Mapping[str, Any], context: Mapping[str, Any]) -> Any:
        """Answer a task."""
        if task["description"] == "Fail":
            raise TimeoutError("the model did not answer")
        return {"output": f"done: {task['description']}", "session": context.get("session_id")}


@pytest.fixture
def agent(context_engine: ContextSessions) -> Any:
    """An agent whose requests are counted."""
    return context_engine.track(Agent())
