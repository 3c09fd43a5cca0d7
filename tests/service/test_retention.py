"""Retention: which ended sessions go, when, and with whom."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from sojourn_server.domain.clock import DAY, HOUR, MINUTE
from sojourn_server.domain.commands import NewOwner
from sojourn_server.domain.model import ChangeCause, DeletedWhy
from sojourn_server.jobs import retention as job
from sojourn_server.service import retention as module
from sojourn_server.service.retention import Retention
from sojourn_server.store.base import Applied
from tests.service.kit import APP, World, message, patches

OTHER = "billing"


async def sweep(world: World, which: Retention | None = None) -> int:
    """Remove all whose time has come; how many went."""
    counts: list[int] = []
    await job.sweep(which or Retention(world.units), counts.append)
    return sum(counts)


async def left(world: World, app: str = APP) -> list[str]:
    return [each.session_id for each in await world.every_session(app)]


async def end(world: World, *names: str) -> None:
    for name in names:
        await world.end(name)


async def test_a_session_goes_when_its_retention_has_passed_and_not_before(world: World) -> None:
    await world.rule(retention=HOUR)
    await world.create("s-1", metadata={"a": "1"}, state=patches(session={"b": "2"}))
    await world.say("s-1", "a", "b")
    await world.create("s-2", idle_timeout=0)
    await world.end("s-1", reason="done", result="3")
    world.clock.step(3_600)
    assert await sweep(world) == 0
    world.clock.step(0.001)
    assert await sweep(world) == 1
    assert await left(world) == ["s-2"]
    last = (await world.log())[-1]
    assert last.cause is ChangeCause.DELETED
    assert last.detail.deleted_why is DeletedWhy.RETENTION
    assert last.actor == ""


async def test_what_an_app_says_nothing_of_is_the_server_s_to_say(world: World) -> None:
    assert world.units.defaults.retention == 7 * DAY
    await world.create("s-1")
    other = await world.create("s-1", app=OTHER)
    await world.rule(OTHER, retention=0)
    await world.end("s-1")
    await world.end(other)
    world.clock.step(7 * 86_400 + 1)
    assert await sweep(world) == 1
    assert (await left(world), await left(world, OTHER)) == ([], ["s-1"])
    world.units.defaults.retention = 0
    await world.create("s-2")
    await world.end("s-2")
    world.clock.step(365 * 86_400)
    assert await sweep(world) == 0


async def test_a_changed_retention_counts_from_the_next_look_on(world: World) -> None:
    await world.create("s-1")
    await world.end("s-1")
    world.clock.step(120)
    assert await sweep(world) == 0
    await world.rule(retention=MINUTE)
    assert await sweep(world) == 1


async def test_sessions_go_in_the_order_of_their_ends_in_small_units(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 3)
    monkeypatch.setattr(module, "LOOK", 4)
    await world.rule(retention=HOUR)
    for number in range(10):
        await world.create(f"s-{number}")
    for number in reversed(range(10)):
        world.clock.step(1)
        await world.end(f"s-{number}")
    world.clock.step(3_601)
    head = await world.head()
    assert await sweep(world) == 10
    changes = await world.log(head)
    assert [c.before.session_id for c in changes if c.before] == [
        f"s-{n}" for n in range(9, -1, -1)
    ]
    sizes = [
        sum(c.revision == revision for c in changes) for revision in range(head + 1, head + 99)
    ]
    assert max(sizes) <= 3


async def test_a_unit_stops_after_many_messages(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MESSAGES", 5)
    await world.rule(retention=HOUR)
    for name in ("a", "b"):
        await world.create(name)
        await world.fill(name, 6)
        await world.end(name)
    world.clock.step(3_601)
    head = await world.head()
    assert await sweep(world) == 2
    assert await world.head() == head + 2


async def test_an_ended_child_stays_as_a_trace_until_its_parent_goes(world: World) -> None:
    await world.rule(retention=HOUR)
    parent = await world.create("p", idle_timeout=0)
    child = await world.create("c", parent_uid=parent.uid, owner=NewOwner(lease=HOUR))
    await world.create("d", parent_uid=child.uid, owner=NewOwner(lease=HOUR))
    await end(world, "c")  # and its own child with it
    world.clock.step(7_200)
    memory = Retention(world.units)
    assert await sweep(world, memory) == 0
    await end(world, "p")
    world.clock.step(3_601)
    assert await sweep(world, memory) == 3
    assert await left(world) == []
    ids = [c.before.session_id for c in (await world.log())[-3:] if c.before]
    assert ids == ["d", "c", "p"]


async def test_a_parent_stays_while_a_child_of_its_own_standing_does(world: World) -> None:
    await world.rule(retention=HOUR)
    parent = await world.create("p", idle_timeout=0)
    await world.create("c", parent_uid=parent.uid, idle_timeout=0)
    await world.create("trace", parent_uid=parent.uid, owner=NewOwner(lease=HOUR))
    await end(world, "trace", "p")
    world.clock.step(7_200)
    memory = Retention(world.units)
    assert await sweep(world, memory) == 0
    await end(world, "c")
    world.clock.step(1_800)
    assert await sweep(world, memory) == 0
    world.clock.step(1_801)
    # The parent was passed over before; it goes when what it waited for goes.
    assert await sweep(world, memory) == 3
    assert await left(world) == []


async def test_what_had_to_stay_is_looked_at_again_in_the_end(world: World) -> None:
    await world.rule(retention=HOUR)
    parent = await world.create("p", idle_timeout=0)
    await world.create("c", parent_uid=parent.uid, idle_timeout=0)
    await end(world, "p")
    world.clock.step(7_200)
    memory = Retention(world.units)
    assert await sweep(world, memory) == 0
    await world.delete("c")
    assert await sweep(world, memory) == 0
    memory.forget()
    assert await sweep(world, memory) == 1


async def test_a_session_with_an_active_grandchild_stays(world: World) -> None:
    await world.rule(retention=HOUR)
    parent = await world.create("p", idle_timeout=0)
    child = await world.create("c", parent_uid=parent.uid, owner=NewOwner(lease=HOUR))
    await world.create("g", parent_uid=child.uid, idle_timeout=0)
    await end(world, "p")
    world.clock.step(7_200)
    assert await sweep(world) == 0
    assert await left(world) == ["p", "c", "g"]


async def test_two_servers_that_both_sweep_do_no_harm(world: World) -> None:
    await world.rule(retention=HOUR)
    for number in range(40):
        await world.create(f"s-{number}")
        await world.append(f"s-{number}", [message()])
        await world.end(f"s-{number}")
    world.clock.step(3_601)
    first, second = await asyncio.gather(sweep(world), sweep(world))
    assert first + second == 40
    assert await left(world) == []


async def test_a_policy_that_is_changed_meanwhile_is_obeyed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.rule(retention=HOUR)
    await world.create("s-1")
    await world.end("s-1")
    world.clock.step(3_601)
    remove = module.Retention._remove

    async def after_a_change(self: Retention, app: str, uids: list[str]) -> tuple[int, int]:
        await world.rule(retention=2 * HOUR)
        return await remove(self, app, uids)

    monkeypatch.setattr(module.Retention, "_remove", after_a_change)
    assert await sweep(world) == 0
    assert await left(world) == ["s-1"]


async def test_the_job_sweeps_by_itself(world: World) -> None:
    await world.rule(retention=HOUR)
    await world.create("s-1")
    await world.end("s-1")
    world.clock.step(3_601)
    counts: list[int] = []
    task = asyncio.create_task(job.run(world.units, counts.append, interval=0.01))
    try:
        for _ in range(1_000):
            if counts:
                break
            await asyncio.sleep(0.01)
        assert counts == [1]
        assert not task.done()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_no_removal_waits_until_the_files_are_scrubbed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.rule(retention=HOUR)
    await world.create("s-1")
    await world.say("s-1", "a", "b")
    await world.end("s-1")
    world.clock.step(3_601)
    apply = world.store.apply
    scrubbed: list[bool] = []

    async def spy(*args: Any) -> Applied[Any]:
        applied: Applied[Any] = await apply(*args)
        scrubbed.append(applied.scrubbed)
        return applied

    monkeypatch.setattr(world.store, "apply", spy)
    assert await sweep(world) == 1
    assert scrubbed
    assert not any(scrubbed)
    assert await world.units.purged() is world.store.scrubs
