"""LangGraph's threads with a life of their own: labels, expiry, one run at a time, erasure.

LangGraph keeps checkpoints and leaves it to its users when they go. Here each thread has a session
beside it, and a cleaner that follows the sessions deletes the checkpoints of those that are over.
The model is a stub, and the checkpointer is LangGraph's own in memory.
"""

from __future__ import annotations

import asyncio
import operator
from contextlib import suppress
from typing import Annotated, Any, TypedDict

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

from common import Server, run
from sojourn import AsyncClient, errors
from sojourn.adapters.langgraph import ThreadCleaner, Threads


class State(TypedDict):
    """What the agent remembers."""

    said: Annotated[list[str], operator.add]


def model(state: State) -> State:
    """The stub."""
    return {"said": [f"answer {len(state['said']) // 2 + 1}"]}


def approval(state: State) -> State:
    """Waits for a person where a refund is asked for."""
    if not any("refund" in text for text in state["said"]):
        return {"said": []}
    return {"said": [f"refund: {interrupt('may I?')}"]}


def build(saver: InMemorySaver) -> Any:
    """The agent's graph, with the checkpointer."""
    graph = StateGraph(State)
    graph.add_node("model", model)
    graph.add_node("approval", approval)
    graph.add_edge(START, "model")
    graph.add_edge("model", "approval")
    graph.add_edge("approval", END)
    return graph.compile(checkpointer=saver)


class Desk:
    """A help desk: its graph, its threads, and what its checkpointer holds."""

    def __init__(self, client: AsyncClient) -> None:
        self.saver = InMemorySaver()
        self.graph = build(self.saver)
        self.threads = Threads(client, labels={"agent": "desk"}, saver=self.saver)

    async def say(self, text: str | Command[Any], thread: str, user: str, **fields: Any) -> str:
        """One run on a thread; return the last thing said."""
        said = {"said": [text]} if isinstance(text, str) else text
        async with self.threads.run(thread, user=user, **fields) as config:
            state = await self.graph.ainvoke(said, config)
        return str(state["said"][-1])

    async def kept(self, count: int) -> int:
        """Wait until the checkpointer holds so many threads; return how many it holds."""
        for _ in range(3000):
            if len(self.saver.storage) == count:
                break
            await asyncio.sleep(0.01)
        return len(self.saver.storage)


async def runs(desk: Desk) -> None:
    """Several runs on a thread, one that waits for a person, and one too many."""
    print(await desk.say("Where is my order?", "chat", "ann", labels={"tier": "gold"}))
    print(await desk.say("And the other one?", "chat", "ann"))
    await desk.say("I want a refund", "claim", "ann")
    print(await desk.say(Command(resume="granted"), "claim", "ann"))
    async with desk.threads.run("chat", user="ann", turn={"holder": "worker-1"}):
        try:
            await desk.say("Hello?", "chat", "ann")
        except errors.TurnConflictError as busy:
            print(f"{busy.reason}: held by {busy.metadata['holder']}")
    print(await desk.say("Hi", "chat", "bob", idle_timeout=0.2))
    async for session in desk.threads.list(labels={"agent": "desk"}):
        requests, labels = session.metrics.request_count, dict(sorted(session.labels.items()))
        print(f"  {session.user}/{session.session_id}: {requests} runs, {labels}")


async def story(client: AsyncClient, _: Server) -> None:
    """Threads come, and go with all they stored."""
    desk = Desk(client)
    await runs(desk)
    print(f"threads in the checkpointer: {await desk.kept(3)}")

    cleaner = asyncio.create_task(ThreadCleaner(desk.threads, desk.saver).run())
    print(f"after bob's has expired: {await desk.kept(2)}")

    # The same session, and a new thread of checkpoints at once.
    await desk.threads.reset("chat", user="ann", reason="the user asked for a clean start")
    print(f"after the reset: {await desk.say('Do you know me?', 'chat', 'ann')}")
    print(f"threads in the checkpointer: {await desk.kept(2)}")

    await desk.threads.erase("ann")
    print(f"after ann was erased: {await desk.kept(0)}")
    cleaner.cancel()
    with suppress(asyncio.CancelledError):
        await cleaner


if __name__ == "__main__":
    run(story, __doc__, app="desk")
