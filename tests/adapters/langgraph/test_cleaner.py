"""The cleaner: what is over loses its checkpoints, nothing else does, and nothing is missed."""

from __future__ import annotations

import asyncio
import json
import operator
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph

import sojourn
from sojourn import ResetScope, Status, errors
from sojourn.adapters.langgraph import ThreadCleaner, Threads
from tests.acceptance.kit import Place, Servers, eventually
from tests.adapters.langgraph.kit import (
    Memory,
    answer,
    ask,
    at_work,
    graph,
    held,
    hi,
    left,
    put,
    ran,
    thread_id,
)

OTHER_UID = "01a1fb13-a47c-70a4-aa36-a53ca522a78d"


async def until_expired(threads: Threads, name: str = "t") -> None:
    async def is_so() -> bool:
        return (await threads.get(name)).status is Status.EXPIRED

    await eventually(is_so, "it has expired")


# --- what is over --------------------------------------------------------------------------------


class Outer(TypedDict):
    said: Annotated[list[str], operator.add]


async def test_all_that_a_graph_with_subgraphs_and_interrupts_has_stored_goes(
    threads: Threads, saver: InMemorySaver
) -> None:
    inner = graph(True, answer, ask)
    outer = StateGraph(Outer)
    outer.add_node("inner", inner)
    outer.add_edge(START, "inner")
    agent: Any = outer.compile(checkpointer=saver)
    kept = await ran(threads, saver, "kept")
    for _ in range(2):
        async with threads.run("t", idle_timeout=0.2) as config:
            await agent.ainvoke(hi(), config)
            stored = thread_id(config)
            assert len(saver.storage[stored]) > 1, "there is a name space of the subgraph"
            assert any(key[0] == stored for key in saver.writes), "an interrupt waits"
    async with at_work(ThreadCleaner(threads, saver)):
        await left(saver, kept)


@pytest.mark.parametrize(
    "how", ["expired", "called expired", "deleted", "erased", "replaced", "app"]
)
async def test_a_thread_that_is_over_loses_its_checkpoints(
    threads: Threads, client: sojourn.AsyncClient, saver: InMemorySaver, how: str
) -> None:
    async with at_work(ThreadCleaner(threads, saver)):
        await ran(threads, saver, user="ann", idle_timeout=0.1 if how == "expired" else 0)
        match how:
            case "called expired":
                await threads.end("t", user="ann", status=Status.EXPIRED)
            case "deleted":
                await threads.delete("t", user="ann")
            case "erased":
                await threads.erase("ann")
            case "replaced":
                await threads.end("t", user="ann")
                await threads.open("t", user="ann")
            case "app":
                await client.apps.delete(mode=sojourn.DeleteMode.FORCE)
        await left(saver)


async def test_a_thread_that_was_completed_keeps_its_checkpoints_unless_told(
    client: sojourn.AsyncClient, saver: InMemorySaver
) -> None:
    keeps = Threads(client)
    clears = Threads(client, clear_on=[Status.EXPIRED, Status.COMPLETED])
    await ran(keeps, saver, "t")
    other = await ran(keeps, saver, "other")
    await keeps.end("t")
    await ThreadCleaner(keeps, saver).sweep()
    assert len(held(saver)) == 2
    async with at_work(ThreadCleaner(clears, saver)):
        await left(saver, other)
        await keeps.end("other")
        await left(saver)


async def test_a_reset_takes_what_was_stored_before_it_and_not_what_comes_after(
    threads: Threads, saver: InMemorySaver
) -> None:
    before = await ran(threads, saver)
    await threads.reset("t")
    between = await ran(threads, saver)
    await threads.reset("t")
    after = await ran(threads, saver)
    assert len({before, between, after}) == 3
    position = Memory()
    await ThreadCleaner(threads, saver, position=position, thread_ids=lambda _: ()).sweep()
    assert held(saver) == {before, between, after}, "a sweep that is told of nothing does nothing"
    async with at_work(ThreadCleaner(threads, saver, position=position)):
        await threads.reset("t")
        await left(saver, before, between)
    # What was reset before the cleaner's position is found when all is looked at.
    await ThreadCleaner(threads, saver).sweep()
    assert held(saver) == set()


async def test_a_reset_of_counters_is_a_reset(
    threads: Threads, client: sojourn.AsyncClient, saver: InMemorySaver
) -> None:
    async with at_work(ThreadCleaner(threads, saver)):
        await ran(threads, saver)
        await client.sessions.reset("t", scope=ResetScope.METRICS)
        await left(saver)


async def test_a_thread_that_was_made_anew_keeps_what_is_new(
    threads: Threads, saver: InMemorySaver
) -> None:
    position = Memory()
    await threads.open("other")
    await ThreadCleaner(threads, saver, position=position).sweep()
    await ran(threads, saver, idle_timeout=0.1)
    await until_expired(threads)
    new = [await ran(threads, saver)]
    await threads.delete("t")
    new.append(await ran(threads, saver))
    async with at_work(ThreadCleaner(threads, saver, position=position)):
        await left(saver, new[-1])
    assert thread_id(await threads.config("t")) == new[-1]


async def test_every_generation_of_an_erased_thread_goes_though_nobody_tells_how_many(
    threads: Threads, saver: InMemorySaver
) -> None:
    await threads.open("other")
    position = Memory()
    await ThreadCleaner(threads, saver, position=position).sweep()
    for _ in range(3):
        await ran(threads, saver, user="ann")
        await threads.reset("t", user="ann")
    await ran(threads, saver, "u", user="ann")
    kept = await ran(threads, saver, user="bob")
    await threads.erase("ann")
    async with at_work(ThreadCleaner(threads, saver, position=position, sweep_every=0)):
        await left(saver, kept)


# --- all of it -----------------------------------------------------------------------------------


async def test_a_sweep_deletes_what_is_over_and_touches_nothing_of_others(
    threads: Threads, client: sojourn.AsyncClient, saver: InMemorySaver
) -> None:
    elsewhere = Threads(client, app=f"{threads.app}:x")
    foreign = {"plain", f"other:{OTHER_UID}", f"sojourn:{threads.app}-2:{OTHER_UID}"}
    foreign |= {f"sojourn:{threads.app}:plain", f"sojourn:{threads.app}:x:{OTHER_UID}"}
    for name in foreign:
        put(saver, name)
    put(saver, f"sojourn:{threads.app}:{OTHER_UID}")
    kept = {await ran(threads, saver), await ran(elsewhere, saver)}
    ended = await ran(threads, saver, "ended")
    await threads.end("ended")
    await ran(threads, saver, "over")
    await threads.end("over", status=Status.EXPIRED)
    await ran(threads, saver, "gone", user="ann")
    await threads.delete("gone", user="ann")
    assert await ThreadCleaner(threads, saver).sweep() == 3
    assert held(saver) == foreign | kept | {ended}


async def test_a_thread_that_is_begun_during_a_sweep_is_not_touched(
    threads: Threads, saver: InMemorySaver
) -> None:
    await threads.open("first")

    async def tell(_: str) -> set[str]:
        await ran(threads, saver)
        return held(saver)

    assert await ThreadCleaner(threads, saver, thread_ids=tell).sweep() == 0
    assert len(held(saver)) == 1


async def test_what_is_over_during_a_sweep_is_not_missed(
    threads: Threads, saver: InMemorySaver
) -> None:
    await ran(threads, saver)
    position = Memory()

    async def tell(_: str) -> set[str]:
        await ran(threads, saver, "late")
        await threads.delete("late")
        await threads.delete("t")
        return set()

    await ThreadCleaner(threads, saver, position=position, thread_ids=tell).sweep()
    assert len(held(saver)) == 2
    async with at_work(ThreadCleaner(threads, saver, position=position)):
        await left(saver)


async def test_a_worker_that_wrote_after_its_thread_was_over_is_cleaned_up_after(
    threads: Threads, saver: InMemorySaver
) -> None:
    position = Memory()
    async with at_work(ThreadCleaner(threads, saver, position=position)):
        await ran(threads, saver)
        config = await threads.config("t")
        await threads.delete("t")
        await left(saver)
        # A process that was cut off, for one, has no block that would take this back.
        await graph(saver).ainvoke(hi(), config)
    assert held(saver) == {thread_id(config)}
    async with at_work(ThreadCleaner(threads, saver, position=position, sweep_every=0.05)):
        await left(saver)


async def test_a_key_for_one_user_cannot_sweep_away_the_others(
    servers: Servers, place: Place, saver: InMemorySaver
) -> None:
    guarded = servers.guarded(place.store)
    async with guarded.client_of("agent") as agent, guarded.client_of("ann") as ann:
        kept = await ran(Threads(agent), saver, user="bob")
        with pytest.raises((errors.PermissionDeniedError, errors.NotFoundError)):
            await ThreadCleaner(Threads(ann), saver, position=Memory()).sweep()
        assert held(saver) == {kept}
        await agent.sessions.delete("t", user="bob")


async def test_a_cleaner_may_be_there_before_its_app(
    threads: Threads, saver: InMemorySaver
) -> None:
    put(saver, f"sojourn:{threads.app}:{OTHER_UID}")
    position = Memory()
    async with at_work(ThreadCleaner(threads, saver, position=position)):
        await asyncio.sleep(0.1)
        assert held(saver), "an app that is not there may be a wrong address"
        await ran(threads, saver)
        await threads.delete("t")
        await left(saver)


async def test_after_its_app_was_deleted_a_cleaner_goes_on_with_the_next_one(
    threads: Threads, client: sojourn.AsyncClient, saver: InMemorySaver
) -> None:
    position = Memory()
    async with at_work(ThreadCleaner(threads, saver, position=position)):
        await ran(threads, saver)
        await client.apps.delete(mode=sojourn.DeleteMode.FORCE)
        await left(saver)

        async def has_heard_of_it() -> bool:
            return bool(json.loads(position.text)["position"]["token"] == "")

        await eventually(has_heard_of_it, "it has read the log to its end")
        await client.apps.update(allow_again=True)
        kept = await ran(threads, saver, "kept")
        await ran(threads, saver)
        await threads.delete("t")
        await left(saver, kept)


async def test_after_an_app_was_deleted_in_its_absence_a_cleaner_looks_once(
    threads: Threads, client: sojourn.AsyncClient, saver: InMemorySaver
) -> None:
    listed: list[str] = []

    def tell(prefix: str) -> set[str]:
        listed.append(prefix)
        return held(saver)

    position = Memory()
    await ran(threads, saver)
    await ThreadCleaner(threads, saver, position=position).sweep()
    await client.apps.delete(mode=sojourn.DeleteMode.FORCE)
    cleaner = ThreadCleaner(threads, saver, position=position, thread_ids=tell)
    async with at_work(cleaner):
        await left(saver)
        before = position.holds

        async def it_has_tried_again() -> bool:
            return position.holds > before + 3

        await eventually(it_has_tried_again, "it comes back again and again")
    assert len(listed) == 1
