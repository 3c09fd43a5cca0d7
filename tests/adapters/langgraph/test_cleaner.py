"""The cleaner: what is over loses its checkpoints, nothing else does, and nothing is missed."""

from __future__ import annotations

import asyncio
import json
import operator
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph

import sojourn
from sojourn import ResetScope, Status, errors
from sojourn.adapters import _langgraph_cleaner, _langgraph_savers
from sojourn.adapters.langgraph import ThreadCleaner, Threads
from tests.acceptance.kit import Place, Servers, eventually
from tests.adapters.langgraph.kit import (
    Failing,
    Memory,
    SyncOnly,
    answer,
    ask,
    at_work,
    graph,
    held,
    hi,
    left,
    on_one_store,
    put,
    thread_id,
)

OTHER_UID = "01a1fb13-a47c-70a4-aa36-a53ca522a78d"


async def ran(threads: Threads, saver: InMemorySaver, name: str = "t", **fields: Any) -> str:
    """Run a graph on a thread, and return the saver's thread id."""
    async with threads.run(name, **fields) as config:
        await graph(saver).ainvoke(hi(), config)
    assert thread_id(config) in held(saver)
    return thread_id(config)


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


# --- a saver that fails --------------------------------------------------------------------------


@on_one_store
async def test_what_the_saver_fails_to_delete_is_tried_until_it_succeeds_and_holds_up_nobody(
    threads: Threads,
) -> None:
    saver = Failing()
    told: list[tuple[str, str]] = []
    names = [await ran(threads, saver, f"t{number}") for number in range(3)]
    saver.times = {names[0]: 3, names[1]: 10**9}
    position = Memory()
    cleaner = ThreadCleaner(
        threads,
        saver,
        position=position,
        on_failure=lambda name, error: told.append((name, type(error).__name__)),
    )
    async with at_work(cleaner):
        for number in range(3):
            await threads.delete(f"t{number}")
        await left(saver, names[1])
    assert list(cleaner.failing) == [names[1]]
    assert cleaner.failing[names[1]] >= 1
    assert told.count((names[0], "OSError")) == 3
    # It is stored with the position: another one goes on with it, though the change is long past.
    saver.times.clear()
    async with at_work(successor := ThreadCleaner(threads, saver, position=position)):
        await left(saver)

        async def nothing_fails() -> bool:
            return not successor.failing and not json.loads(position.text)["failing"]

        await eventually(nothing_fails, "nothing waits any more")


@on_one_store
async def test_a_deletion_that_hangs_counts_as_failed_and_holds_up_nobody(
    threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hanging(InMemorySaver):
        hangs = ""

        async def adelete_thread(self, thread_id: str) -> None:
            if thread_id == self.hangs:
                await asyncio.Event().wait()
            await super().adelete_thread(thread_id)

    monkeypatch.setattr(_langgraph_savers, "PATIENCE", 0.05)
    saver = Hanging()
    saver.hangs = await ran(threads, saver, "hangs")
    await ran(threads, saver)
    told: list[BaseException] = []
    cleaner = ThreadCleaner(threads, saver, on_failure=lambda _, error: told.append(error))
    async with at_work(cleaner):
        await threads.delete("hangs")
        await threads.delete("t")
        await left(saver, saver.hangs)
        saver.hangs = ""
        await left(saver)
    assert {type(error) for error in told} == {TimeoutError}


@on_one_store
async def test_while_too_many_wait_no_more_changes_are_read(
    threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_langgraph_cleaner, "MAX_FAILING", 2)
    saver = Failing()
    names = [await ran(threads, saver, f"t{number}") for number in range(4)]
    saver.times = dict.fromkeys(names[:2], 10**9)
    cleaner = ThreadCleaner(threads, saver, position=Memory())
    async with at_work(cleaner):
        for number in range(2):
            await threads.delete(f"t{number}")

        async def two_wait() -> bool:
            return len(cleaner.failing) == 2

        await eventually(two_wait, "two wait")
        for number in range(2, 4):
            await threads.delete(f"t{number}")

        async def tried_again() -> bool:
            return sum(cleaner.failing.values()) > 20

        await eventually(tried_again, "they are tried again and again")
        assert not {*names[2:]} & {*saver.asked}
        saver.times.clear()
        await left(saver)


@on_one_store
async def test_when_more_wait_than_can_be_stored_the_position_stays(
    threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_langgraph_cleaner, "MAX_STORED", 1)
    saver = Failing()
    names = [await ran(threads, saver, f"t{number}") for number in range(3)]
    saver.times = dict.fromkeys(names, 4)
    position = Memory()
    for number in range(3):
        await threads.delete(f"t{number}")
    async with at_work(ThreadCleaner(threads, saver, position=position)):

        async def tried() -> bool:
            return len(saver.asked) >= 6

        await eventually(tried, "it was tried")
        await left(saver)
    assert position.saved
    assert all(len(json.loads(text)["failing"]) <= 1 for text in position.saved)


@on_one_store
async def test_a_saver_that_tells_no_threads_is_asked_again(
    threads: Threads, saver: InMemorySaver
) -> None:
    asked: list[str] = []

    async def tell(prefix: str) -> set[str]:
        asked.append(prefix)
        if len(asked) < 4:
            raise OSError("the disk is away")
        return held(saver)

    kept = await ran(threads, saver)
    await ran(threads, saver, user="ann")
    await threads.erase("ann")
    async with at_work(ThreadCleaner(threads, saver, thread_ids=tell)):
        await left(saver, kept)
    assert asked == [f"sojourn:{threads.app}:"] * 4


@on_one_store
async def test_an_erased_thread_waits_when_the_saver_tells_no_threads(
    threads: Threads, saver: InMemorySaver
) -> None:
    works = [True]

    def tell(prefix: str) -> set[str]:
        assert prefix.startswith(f"sojourn:{threads.app}:")
        if not works[0]:
            raise OSError("the disk is away")
        return held(saver)

    cleaner = ThreadCleaner(threads, saver, thread_ids=tell)
    async with at_work(cleaner):
        first = await ran(threads, saver, user="ann")
        works[0] = False
        await threads.erase("ann")

        async def waits() -> bool:
            return first in cleaner.failing

        await eventually(waits, "it waits")
        works[0] = True
        await left(saver)


@on_one_store
async def test_a_saver_without_asynchronous_methods_is_used_in_a_thread(threads: Threads) -> None:
    saver = SyncOnly()
    async with threads.run("t") as config:
        graph(saver).invoke(hi(), config)
    kept = await threads.open("kept")
    put(saver, threads.rules.thread_id(threads.rules.stretch(kept)))
    assert await ThreadCleaner(threads, saver).sweep() == 0
    async with at_work(ThreadCleaner(threads, saver)):
        await threads.delete("t")
        await left(saver, f"sojourn:{threads.app}:{kept.uid}")


@on_one_store
def test_a_saver_that_cannot_delete_is_refused(threads: Threads) -> None:
    class Cannot(InMemorySaver):
        adelete_thread = BaseCheckpointSaver.adelete_thread
        delete_thread = BaseCheckpointSaver.delete_thread

    with pytest.raises(errors.ConfigurationError, match="Cannot has no delete_thread"):
        ThreadCleaner(threads, Cannot())


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
