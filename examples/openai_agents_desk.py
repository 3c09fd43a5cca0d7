"""A help desk on the OpenAI Agents SDK: two pods, one conversation.

The SDK keeps a conversation in a `Session`, and brings some that write to a database. What users
ask for beside that: pods that answer in turn, an answer that is taken back, labels and owners that
can be looked for, a conversation that expires, and one that is forgotten when its user leaves. The
model is a stub that says what it is told, so the program needs no network.
"""

from __future__ import annotations

import asyncio
from typing import Any

from agents import Agent, Runner, function_tool, set_tracing_disabled
from agents.testing import ScriptedModel, assistant_message, function_call

import sojourn
from common import Server, run
from sojourn import AsyncClient
from sojourn.adapters.openai_agents import SojournSession

USER = "u-456"


@function_tool
def find_order(number: str) -> str:
    """What the desk may look up."""
    return f"order {number} left yesterday"


def desk(*steps: Any) -> Agent[Any]:
    """An agent with a stub for a model: texts are said, anything else is done."""
    outputs = [
        [assistant_message(step, item_id=f"msg-{step}") if isinstance(step, str) else step]
        for step in steps
    ]
    return Agent(name="desk", model=ScriptedModel(outputs), tools=[find_order])


def session(client: AsyncClient) -> SojournSession:
    """Made anew for each request: it is a name, and the client is shared."""
    return SojournSession(
        "order-77", client, user=USER, labels={"channel": "web"}, idle_timeout=30 * 86_400
    )


async def conversation(pod: AsyncClient, other: AsyncClient) -> None:
    """Each turn is another pod's."""
    looks_up = function_call("find_order", {"number": "77"}, call_id="call-1")
    agent = desk(looks_up, "It left yesterday.")
    answer = await Runner.run(agent, "Where is my order 77?", session=session(pod))
    print(f"one pod: {answer.final_output}")
    agent = desk("Tomorrow, I think.")
    answer = await Runner.run(agent, "And when is it here?", session=session(other))
    print(f"the other: {answer.final_output}")
    assert isinstance(agent.model, ScriptedModel)
    seen = agent.model.calls[0].input
    assert isinstance(seen, list)
    print(f"  its model saw {[item.get('type', item.get('role')) for item in seen]}")

    # The answer was a guess: it is taken back, with its question, and asked again.
    for _ in range(2):
        await session(pod).pop_item()
    agent = desk("Tomorrow before noon.")
    await Runner.run(agent, "And when is it here?", session=session(pod))


async def at_once(pod: AsyncClient, other: AsyncClient) -> None:
    """Two tabs of one browser: whoever comes first, no turn is lost or torn."""
    await asyncio.gather(
        Runner.run(desk("You are welcome."), "Thanks!", session=session(pod)),
        Runner.run(desk("Until nine."), "Until when are you there?", session=session(other)),
    )
    items = await session(pod).get_items()
    print(f"after two runs at once: {len(items)} items")


async def story(client: AsyncClient, server: Server) -> None:
    """A conversation, and what there is around it."""
    set_tracing_disabled(True)
    async with sojourn.connect(server.target, app=client.app, actor="example") as other:
        await conversation(client, other)
        await at_once(client, other)

    async for found in client.sessions.list(labels={"channel": "web"}):
        print(f"{found.user}'s {found.session_id}: {found.message_count} messages,", end=" ")
        print(f"expires after {found.idle_timeout.days} idle days")

    erased = await client.users.erase(USER)
    print(f"erased: {erased.sessions} session, {erased.messages} messages")
    print(f"what is left: {await session(client).get_items()}")


if __name__ == "__main__":
    run(story, __doc__, app="desk")
