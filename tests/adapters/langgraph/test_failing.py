"""The cleaner of a saver that fails, hangs, or has no asynchronous methods."""

from __future__ import annotations

import asyncio
import json

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver

from sojourn import errors
from sojourn.adapters import _langgraph_cleaner, _langgraph_savers
from sojourn.adapters.langgraph import ThreadCleaner, Threads
from tests.acceptance.kit import eventually
from tests.adapters.langgraph.kit import (
    Failing,
    Memory,
    SyncOnly,
    at_work,
    graph,
    held,
    hi,
    left,
    on_one_store,
    put,
    ran,
)


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
