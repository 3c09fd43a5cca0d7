"""What a write comes to when others write too, when its answer is lost, when its caller leaves."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import pytest
from agents import TResponseInputItem

import sojourn
from sojourn.adapters import _items as things
from sojourn.adapters.openai_agents import SojournSession
from tests.acceptance.kit import Place, eventually
from tests.adapters.lossy import LossyLine, lossy_line
from tests.adapters.openai_agents.kit import said, user, users
from tests.api.cutting import cutter

LARGE = "x" * (2 * things.PART_BYTES)


# --- others write, too ------------------------------------------------------------------------


async def test_the_first_items_of_many_workers_make_one_session(place: Place, app: str) -> None:
    async with place.client(app) as one, place.client(app) as other:
        sessions = [SojournSession("s", client) for client in (one, other) for _ in range(12)]
        await asyncio.gather(
            *(session.add_items(users([f"{n}a", f"{n}b"])) for n, session in enumerate(sessions))
        )
        texts = said(await sessions[0].get_items())
        assert sorted(texts) == sorted(f"{n}{part}" for n in range(24) for part in "ab")
        # No batch is torn apart.
        assert all(a[:-1] == b[:-1] for a, b in zip(texts[::2], texts[1::2], strict=True))


def test_one_object_serves_the_loops_of_several_threads(place: Place, app: str) -> None:
    session = SojournSession("s", place.target, app=app)

    async def add(name: str) -> None:
        await session.add_items(users([name]))
        await session.close()

    with ThreadPoolExecutor(5) as threads:
        list(threads.map(lambda n: asyncio.run(add(str(n))), range(20)))

    async def read() -> list[str]:
        async with session:
            return said(await session.get_items())

    assert sorted(asyncio.run(read())) == sorted(map(str, range(20)))


async def test_the_first_items_after_an_end_make_one_session(client: sojourn.AsyncClient) -> None:
    await SojournSession("s", client).add_items(users(["old"]))
    await client.sessions.end("s")
    await asyncio.gather(*(SojournSession("s", client).add_items(users([n])) for n in range(8)))
    assert sorted(said(await SojournSession("s", client).get_items())) == list("01234567")


async def test_each_item_is_popped_by_one(place: Place, app: str) -> None:
    async with place.client(app) as one, place.client(app) as other:
        items = [user(f"{n}{LARGE if n % 4 == 0 else ''}") for n in range(9)]
        await SojournSession("s", one).add_items(items)
        popped = await asyncio.gather(
            *(SojournSession("s", one if n % 2 else other).pop_item() for n in range(11))
        )
        assert sorted(said([item for item in popped if item is not None])) == sorted(said(items))
        assert popped.count(None) == 2
        assert await one.messages.list("s").to_list() == []


async def test_pops_and_appends_of_many_parts_lose_and_double_nothing(
    client: sojourn.AsyncClient,
) -> None:
    popped: list[TResponseInputItem] = []

    async def add(name: str) -> None:
        for n in range(4):
            await SojournSession("s", client).add_items([user(f"{name}{n}{LARGE}"), user(name)])

    async def pop() -> None:
        for _ in range(6):
            item = await SojournSession("s", client).pop_item()
            popped.extend([] if item is None else [item])

    await asyncio.gather(add("a"), add("b"), pop(), pop())
    left = await SojournSession("s", client).get_items()
    expected = [text for name in "ab" for n in range(4) for text in (f"{name}{n}{LARGE}", name)]
    assert Counter(said(left + popped)) == Counter(expected)


async def test_a_batch_of_any_size_is_one(place: Place, app: str) -> None:
    """All or nothing for whoever reads meanwhile, also above what one request holds."""
    async with place.client(app) as client, place.client(app) as looker:
        session = SojournSession("s", client)
        await session.add_items(users(["first"]))
        seen: set[int] = set()
        adding = asyncio.create_task(session.add_items(users(range(1_200))))
        while not adding.done():
            seen.add(len(await SojournSession("s", looker).get_items()))
            await asyncio.sleep(0.05)
        await adding
        assert seen <= {1, 1_201}
        assert said(await session.get_items()) == ["first", *map(str, range(1_200))]
        assert said(await session.get_items(1_100)) == [*map(str, range(100, 1_200))]


async def test_what_is_read_in_several_requests_stood_there_at_one_time(
    client: sojourn.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others replace the history between two requests of a read: it begins again."""
    session = SojournSession("s", client)
    await session.add_items(users(range(1_050)))
    listed = client.messages.list
    times = 0

    def replaced_before(*args: Any, **fields: Any) -> Any:
        nonlocal times
        times += 1
        pager = listed(*args, **fields)
        if times == 1:
            return _After(SojournSession("s", client)._atomic_replace_items(users("ab")), pager)
        return pager

    monkeypatch.setattr(client.messages, "list", replaced_before)
    assert said(await session.get_items()) == ["a", "b"]
    assert times == 1


class _After:
    """Pages that are read after something else was done."""

    def __init__(self, first: Awaitable[object], pager: Any) -> None:
        self._first = first
        self._pager = pager

    async def pages(self) -> AsyncIterator[Any]:
        await self._first
        async for page in self._pager.pages():
            yield page


# --- answers are lost -------------------------------------------------------------------------


@asynccontextmanager
async def losing_the_answer(
    place: Place, app: str, to: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[SojournSession, LossyLine]]:
    """A session whose client does not hear the answer to its first call of this kind."""
    async with lossy_line(place.target) as line, sojourn.AsyncClient(line.target, app=app) as away:
        owner = away.sessions if to == "reset" else away.messages
        real = getattr(owner, to)

        async def held(*args: Any, **fields: Any) -> Any:
            monkeypatch.setattr(owner, to, real)
            line.hold()
            return await real(*args, **fields)

        session = SojournSession("s", away)
        await session.get_items()  # The connection is there.
        monkeypatch.setattr(owner, to, held)
        yield session, line


WRITES: dict[str, tuple[str, Callable[[SojournSession], Awaitable[Any]], list[str], Any]] = {
    "add": ("append", lambda s: s.add_items(users("cd")), ["a", "b", "c", "d"], None),
    "pop": ("truncate", lambda s: s.pop_item(), ["a"], user("b")),
    "clear": ("reset", lambda s: s.clear_session(), [], None),
    "replace": ("replace", lambda s: s._atomic_replace_items(users("x")), ["x"], True),
}


@pytest.mark.parametrize("write", WRITES)
async def test_a_write_whose_answer_is_lost_happens_once(
    place: Place, app: str, write: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rpc, call, left, answer = WRITES[write]
    async with place.client(app) as client:
        near = SojournSession("s", client)
        await near.add_items(users("ab"))
        before = (await client.sessions.get("s")).etag
        async with losing_the_answer(place, app, rpc, monkeypatch) as (session, line):
            calling = asyncio.ensure_future(call(session))

            async def happened() -> bool:
                return (await client.sessions.get("s")).etag != before

            await eventually(happened, "the write was done")
            assert not calling.done()
            line.lose()
            assert await calling == answer
        assert said(await near.get_items()) == left


async def test_a_large_batch_comes_whole_and_once_over_a_bad_line(place: Place, app: str) -> None:
    async with cutter(place.target) as bad, sojourn.AsyncClient(bad.target, app=app) as client:
        session = SojournSession("s", client)
        await session.add_items(users(["first"]))
        adding = asyncio.create_task(session.add_items(users(range(1_500))))
        while not adding.done() and bad.cuts < 5:
            await asyncio.sleep(0.03)
            bad.cut()
        await adding
        assert bad.cuts
        assert said(await session.get_items()) == ["first", *map(str, range(1_500))]


# --- callers leave ----------------------------------------------------------------------------


@pytest.mark.parametrize("write", WRITES)
async def test_who_cancels_a_write_waits_for_its_outcome(
    place: Place, app: str, write: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rpc, call, left, _ = WRITES[write]
    async with place.client(app) as client:
        near = SojournSession("s", client)
        await near.add_items(users("ab"))
        async with losing_the_answer(place, app, rpc, monkeypatch) as (session, line):
            calling = asyncio.ensure_future(call(session))
            await eventually(lambda: _is_held(line), "the write was sent")
            for _ in range(3):
                calling.cancel()
                await asyncio.sleep(0)
            assert not calling.done()
            line.lose()
            with pytest.raises(asyncio.CancelledError):
                await calling
        assert said(await near.get_items()) == left


async def _is_held(line: LossyLine) -> bool:
    return line.holding
