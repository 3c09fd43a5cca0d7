"""AIECS' own agent with its sessions in Sojourn: `real_agent.py TARGET APP`; prints JSON.

A program of its own: AIECS brings some 150 packages that warn a lot, and is not in the environment
that all other tests run in.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from aiecs.domain.agent import (  # type: ignore[import-not-found]
    AgentConfiguration,
    HybridAgent,
)
from aiecs.llm.clients.base_client import (  # type: ignore[import-not-found]
    BaseLLMClient,
    LLMResponse,
)

from sojourn.adapters.aiecs import ContextSessions


class Stub(BaseLLMClient):  # type: ignore[misc]
    """A model that answers with the number of messages it was told."""

    def __init__(self) -> None:
        super().__init__("stub")
        self.told: list[list[str]] = []

    async def generate_text(self, messages: Any, model: Any = None, **_: Any) -> Any:
        self.told.append([one.content for one in messages])
        text = f"FINAL RESPONSE: answer {len(self.told)} finish"
        return LLMResponse(content=text, provider="stub", model="stub")

    async def stream_text(self, messages: Any, model: Any = None, **_: Any) -> Any:
        yield (await self.generate_text(messages, model)).content

    async def get_embeddings(self, texts: Any, model: Any = None, **_: Any) -> Any:
        return [[0.0] for _ in texts]

    async def close(self) -> None:
        pass


async def agent(context_engine: ContextSessions, stub: Stub) -> Any:
    """A new process: an agent that knows nothing by itself."""
    made = HybridAgent(
        agent_id="agent-1",
        name="agent",
        llm_client=stub,
        tools=[],
        config=AgentConfiguration(),
        context_engine=context_engine,
    )
    await made.initialize()
    return context_engine.track(made)


async def main(target: str, app: str) -> None:
    """Two agents, one session."""
    context_engine = ContextSessions(target, app=app)
    await context_engine.initialize()
    stub = Stub()
    results = []
    for number in range(2):
        tracked = await agent(context_engine, stub)
        result = await tracked.execute_task(
            {"description": f"Question {number}"}, {"session_id": "user-123"}
        )
        results.append(result["success"])
    session = await context_engine.get_session("user-123")
    assert session is not None
    history = await context_engine.get_conversation_history("user-123")
    await context_engine.end_session("user-123", status="completed")
    await context_engine.end_session("user-123", status="completed")
    found = {
        "results": results,
        "requests": session.request_count,
        "history": [[one.role, one.content] for one in history],
        "second": stub.told[-1],
    }
    await context_engine.close()
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
