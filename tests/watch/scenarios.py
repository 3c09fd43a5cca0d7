"""What is done while a bug is on, and answers the guarantees that were seen to be broken."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from sojourn_server.domain import resume
from sojourn_server.domain.errors import Refusal
from sojourn_server.domain.filter import LabelOperator, LabelSelector, SessionFilter
from sojourn_server.domain.resume import Point
from tests.service.kit import APP
from tests.watch.kit import Scene, Watcher
from tests.watch.storm import Storm
from tests.watch.validators import broken, observed

GOLD = SessionFilter(labels=(LabelSelector("tier", LabelOperator.IN, ("gold",)),))
PATIENCE = 1.5
"""How long a revision may take to be seen, in seconds: longer, and it is lost."""

Scenario = Callable[[Scene], Awaitable[dict[str, str]]]


async def usual(world: Scene) -> dict[str, str]:
    """Watchers of every kind, while others write."""
    storm = Storm([world])
    tokens: list[tuple[str, int]] = []
    async with storm.blowing():
        await storm.answered(20)
        watchers = [
            await world.watch_now(previous=True),
            await world.watch_now(previous=True),
            await world.watch_now(filter=GOLD),
            await world.watch_now(filter=GOLD, user="ann"),
        ]
        tokens.append((watchers[0].record.token, watchers[0].record.revision))
        await storm.answered(60)
        watchers.append(world.watch(token=tokens[0][0], start=tokens[0][1]))
        watchers.append(world.watch(initial=True))
        await storm.answered(100)
    made = await world.make("of-bob", user="bob", labels={"tier": "gold"})
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            await watchers[2].reach(made.revision)
    first = watchers[3].record
    begin, token = first.messages[0].revision, first.messages[0].resume_token
    watchers.append(world.watch(token=token, start=begin, filter=GOLD, user="ann"))
    await world.create("idle", idle_timeout=1)
    world.clock.step(1)
    await world.units.settle(APP, (await world.stored("idle")).uid)
    return await _found(world, storm, watchers)


async def initial_states(world: Scene) -> dict[str, str]:
    """Initial states, while others write."""
    storm = Storm([world], sessions=25)
    async with storm.blowing():
        await storm.answered(60)
        watchers = [world.watch(initial=True) for _ in range(12)]
        await storm.answered(200)
    return await _found(world, storm, watchers)


async def one_by_one(world: Scene) -> dict[str, str]:
    """Writes that wait for each other, and one watcher."""
    watcher = await world.watch_now()
    for number in range(40):
        await world.create(f"s-{number}")
    return await _found(world, Storm([world]), [watcher])


async def with_large_units(world: Scene) -> dict[str, str]:
    """Units that do not fit into one part."""
    labels = {f"k{n}": "v" * 200 for n in range(60)}
    root = await world.create("root")
    for number in range(30):
        await world.create(f"s-{number}", parent_uid=root.uid, labels=labels)
    watcher = await world.watch_now(previous=True)
    await world.end("root", cascade=True)
    return await _found(world, Storm([world]), [watcher])


async def slow(world: Scene) -> dict[str, str]:
    """A watcher that takes nothing for a while, and may have little waiting for it."""
    storm = Storm([world])
    watcher = await world.watch_now()
    for each in world.hub._streams:
        each._most = 5_000
    watcher.stuck.clear()
    async with storm.blowing():
        await storm.answered(100)
    watcher.stuck.set()
    return await _found(world, storm, [watcher])


async def compacted(world: Scene) -> dict[str, str]:
    """A token just before the log's beginning."""
    for number in range(10):
        await world.create(f"s-{number}")
    storm = Storm([world])
    await storm.archive.keep()
    token = await _token(world, 5)
    await world.store.compact(APP, 0, 4, 100)
    return await _resumed(world, storm, world.watch(token=token, start=5))


async def another_nonce(world: Scene) -> dict[str, str]:
    """A token of a revision that a failover has lost."""
    for number in range(5):
        await world.create(f"s-{number}")
    token = await _token(world, 3, flip=1)
    return await _refused(world.watch(token=token, start=3))


async def another_filter(world: Scene) -> dict[str, str]:
    """A token of a watch of everything, brought by one of gold."""
    for number in range(5):
        await world.create(f"s-{number}")
    return await _refused(world.watch(token=await _token(world, 3), start=3, filter=GOLD))


async def erased(world: Scene) -> dict[str, str]:
    """Content that is gone, and whose id another session's content has taken."""
    watcher = await world.watch_now()
    await world.create("s-1", metadata={"m": "1"})
    await world.update("s-1", remove_metadata=("m",))
    await world.create("s-2", metadata={"m": '"another one"'})
    head = await world.head()
    await watcher.reach(head)
    token, start = watcher.record.messages[0].resume_token, 0
    full = world.watch(token=token, start=start, content=True)
    await full.reach(head)
    wrong = [
        change.revision
        for change in full.record.changes
        if change.session.session.key.session_id == "s-1" and dict(change.session.session.metadata)
    ]
    return {"W20": f"W20: not the content of now: {wrong}"} if wrong else {}


async def _found(world: Scene, storm: Storm, watchers: Sequence[Watcher]) -> dict[str, str]:
    found: dict[str, str] = {}
    kept = await storm.archive.keep()
    head = await world.head()

    async def reach(watcher: Watcher) -> None:
        async with asyncio.timeout(PATIENCE):
            await watcher.reach(head)
        observed(watcher.record, head)

    for ended in await asyncio.gather(*map(reach, watchers), return_exceptions=True):
        if isinstance(ended, (TimeoutError, Refusal, AssertionError)):
            found["W5"] = f"W5: {head} was returned, and not seen"
        elif ended is not None:
            raise ended
    for watcher in watchers:
        found |= broken(watcher.record, kept)
    return found


async def _resumed(world: Scene, storm: Storm, watcher: Watcher) -> dict[str, str]:
    try:
        async with asyncio.timeout(PATIENCE):
            await watcher.reach(await world.head())
    except (TimeoutError, Refusal):
        pass
    return broken(watcher.record, await storm.archive.keep())


async def _refused(watcher: Watcher) -> dict[str, str]:
    try:
        await watcher.opened()
    except Refusal:
        return {}
    return {"W9": "W9: a token that is of something else was taken"}


async def _token(world: Scene, revision: int, flip: int = 0) -> str:
    async def read(tx: Any) -> tuple[str, int]:
        return (await tx.app(APP)).feed_id, await tx.nonce(APP, revision)

    feed_id, nonce = await world.store.read(read)
    scope = resume.scope_hash(APP, None, "", SessionFilter())
    return resume.seal(world.services.sealer, feed_id, Point(revision, nonce ^ flip), scope)
