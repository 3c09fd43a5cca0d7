"""Graphs with stubs for models, savers that fail or last, and a cleaner that runs beside a test."""

from __future__ import annotations

import asyncio
import contextlib
import operator
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple, empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt

from sojourn.adapters.langgraph import HeldPosition, ThreadCleaner, Threads
from tests.acceptance.kit import eventually

on_one_store = pytest.mark.parametrize("place", ["sqlite"], indirect=True)
"""Where the store makes no difference: it is the saver, or the adapter, that is looked at."""


class Talk(TypedDict):
    """What the graphs remember."""

    said: Annotated[list[str], operator.add]


def answer(state: Talk) -> Talk:
    """The stub: says how much it has heard."""
    return {"said": [f"heard {len(state['said'])}"]}


def ask(state: Talk) -> Talk:
    """The stub that wants a person's word."""
    return {"said": [f"allowed: {interrupt('may I?')}"]}


def graph(saver: BaseCheckpointSaver[Any] | bool | None, *nodes: Any) -> Any:
    """A graph of nodes one after the other, kept by a saver."""
    made = StateGraph(Talk)
    names = [f"n{number}" for number, _ in enumerate(nodes or (answer,))]
    for name, node in zip(names, nodes or (answer,), strict=True):
        made.add_node(name, node)
    for one, other in zip([START, *names], [*names, END], strict=True):
        made.add_edge(one, other)
    return made.compile(checkpointer=saver)


def hi(text: str = "hi") -> Talk:
    """What a user says."""
    return {"said": [text]}


def held(saver: InMemorySaver) -> set[str]:
    """The thread ids that a saver has anything of: checkpoints, writes or values."""
    return {*saver.storage, *(key[0] for key in saver.writes), *(key[0] for key in saver.blobs)}


def put(saver: InMemorySaver, thread_id: str) -> None:
    """Keep a checkpoint of a thread without a graph."""
    config = RunnableConfig(configurable={"thread_id": thread_id, "checkpoint_ns": ""})
    saver.put(config, empty_checkpoint(), {"source": "input", "step": -1, "parents": {}}, {})


def thread_id(config: RunnableConfig) -> str:
    """The saver's thread id that a config names."""
    return str(config["configurable"]["thread_id"])


async def ran(threads: Threads, saver: InMemorySaver, name: str = "t", **fields: Any) -> str:
    """Run a graph on a thread, and return the saver's thread id."""
    async with threads.run(name, **fields) as config:
        await graph(saver).ainvoke(hi(), config)
    assert thread_id(config) in held(saver)
    return thread_id(config)


@asynccontextmanager
async def at_work(cleaner: ThreadCleaner) -> AsyncIterator[asyncio.Task[None]]:
    """Let a cleaner work beside the block; what ends it early ends the test."""
    task = asyncio.create_task(cleaner.run())
    try:
        yield task
        assert not task.done(), task.result()
    except AssertionError as error:
        if task.done():
            raise AssertionError("the cleaner has ended") from task.exception()
        raise error from None
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def left(saver: InMemorySaver, *thread_ids: str) -> None:
    """Wait until these are all that a saver holds."""

    async def only_these() -> bool:
        return held(saver) == set(thread_ids)

    await eventually(only_these, f"only {thread_ids} are left")


class Memory:
    """A position that is kept in this process, and by nobody alone."""

    def __init__(self, text: str = "") -> None:
        self.text = text
        self.saved: list[str] = []
        self.holds = 0

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[HeldPosition]:
        """Hold it, whoever else does."""
        self.holds += 1
        yield self

    async def load(self) -> str:
        """Return what was saved."""
        return self.text

    async def save(self, text: str) -> None:
        """Keep it."""
        self.text = text
        self.saved.append(text)


class Failing(InMemorySaver):
    """Fails to delete some threads, so many times."""

    def __init__(self, **times: int) -> None:
        super().__init__()
        self.times = times
        self.asked: list[str] = []

    async def adelete_thread(self, thread_id: str) -> None:
        """Delete a thread, or fail."""
        self.asked.append(thread_id)
        if self.times.get(thread_id, 0) > 0:
            self.times[thread_id] -= 1
            raise OSError("the disk is away")
        await super().adelete_thread(thread_id)


class SyncOnly(InMemorySaver):
    """A saver for programs without an event loop, as the one for SQLite is."""

    async def adelete_thread(self, thread_id: str) -> None:
        """It is not there."""
        raise NotImplementedError(thread_id)

    async def alist(self, *_: Any, **__: Any) -> AsyncIterator[CheckpointTuple]:
        """It is not there."""
        nothing: list[CheckpointTuple] = []
        for one in nothing:
            yield one
        raise NotImplementedError("use list")
