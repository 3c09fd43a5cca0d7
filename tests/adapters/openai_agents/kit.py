"""What the tests of the OpenAI Agents SDK share: items, agents with a script, and runs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

from agents import Agent, RunConfig, Runner, TResponseInputItem
from agents.testing import ScriptedModel, assistant_message

RUNS = ("run", "run_sync", "run_streamed")


def user(text: Any) -> TResponseInputItem:
    """What a user says."""
    return cast("TResponseInputItem", {"role": "user", "content": text})


def assistant(text: Any) -> TResponseInputItem:
    """What an agent says."""
    return cast("TResponseInputItem", {"role": "assistant", "content": text})


def users(names: Sequence[object] | range) -> list[TResponseInputItem]:
    """An item for each."""
    return [user(str(name)) for name in names]


def said(items: Sequence[TResponseInputItem]) -> list[str]:
    """The texts of items, whichever of their forms they have."""
    texts: list[str] = []
    for item in cast("list[dict[str, Any]]", items):
        content = item.get("content") or item.get("output") or item["type"]
        texts.append(content[0]["text"] if isinstance(content, list) else str(content))
    return texts


def talker(*answers: str) -> tuple[Agent[Any], ScriptedModel]:
    """An agent that says these things, one a turn."""
    steps = [[assistant_message(text, item_id=f"msg-{text}")] for text in answers]
    model = ScriptedModel(steps)
    return Agent(name="talker", model=model), model


async def run(how: str, agent: Agent[Any], what: Any, session: Any, **config: Any) -> Any:
    """Run an agent in one of the SDK's three ways, to the end."""
    run_config = RunConfig(tracing_disabled=True, **config)
    if how == "run":
        return await Runner.run(agent, what, session=session, run_config=run_config)
    if how == "run_sync":
        return await asyncio.to_thread(_run_sync, agent, what, session, run_config)
    result = Runner.run_streamed(agent, what, session=session, run_config=run_config)
    async for _ in result.stream_events():
        pass
    return result


def _run_sync(agent: Agent[Any], what: Any, session: Any, config: RunConfig) -> Any:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        result = Runner.run_sync(agent, what, session=session, run_config=config)
        loop.run_until_complete(_closed(session))
        return result
    finally:
        loop.close()


async def _closed(session: Any) -> None:
    if session is not None:
        await session.close()
