"""Rows S4-13 to S4-21: handing back, monitoring, time-outs, figures, recovery."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from bench.plan import SECTIONS
from bench.results import TARGETS
from sojourn import (
    AsyncClient,
    AsyncSessionHandle,
    ChangeCause,
    EndCause,
    MetricsDelta,
    NewMessage,
    NewSession,
    OnConflict,
    SessionChange,
    SessionFilter,
    StatePatch,
    Status,
    errors,
)
from tests.acceptance.kit import Place

PERFORMANCE = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "performance.md"


async def a_root(client: AsyncClient) -> AsyncSessionHandle:
    """Return the root's session."""
    await client.sessions.create("root", user="root_agent", idle_timeout=0)
    return await client.attach("root", user="root_agent")


async def test_s4_13_results_are_handed_back(client: AsyncClient) -> None:
    """What a sub-agent found out is kept as its result, and the root goes on with it."""
    root = await a_root(client)
    async with root.turn() as turn:
        async with root.child(labels={"agent": "campaign_creation"}) as child:
            await child.end(result={"outline": ["cave", "dragon"]})
        found = await client.sessions.get(child.ref)
        assert (found.status, found.end_result) == (
            Status.COMPLETED,
            {"outline": ["cave", "dragon"]},
        )
        await turn.append(
            "tool", "campaign outline", metadata={"from": child.uid, **found.end_result}
        )
    [message] = await root.messages()
    assert message.metadata["outline"] == ["cave", "dragon"]
    assert message.metadata["from"] == child.uid


async def test_s4_14_the_system_s_own_tests(client: AsyncClient) -> None:
    """Ids are unique, sessions end with their tasks, none lingers, and the root persists."""
    root = await a_root(client)
    sessions = client.sessions

    async def run(name: str) -> str:
        async with root.child(labels={"agent": name}) as child:
            assert (await sessions.get(child.ref)).is_active
        return child.session_id

    one, other = await run("npc"), await run("rules")
    assert one != other
    for session_id in (one, other):
        ended = await sessions.get(session_id, user="root_agent")
        assert ended.status is Status.COMPLETED
    ids = [await run("npc") for _ in range(3)]
    assert len({*ids, one, other}) == 5
    assert await root.children(status="active").count() == 0
    assert await root.children(status="completed").count() == 5
    assert [one.session_id async for one in sessions.list(user="root_agent")] == ["root"]


async def test_s4_15_monitoring(client: AsyncClient) -> None:
    """Whoever watches the children of a root sees each of them begin and end, and nothing else."""
    root = await a_root(client)
    async with root.watch_children() as watch:
        await root.append("user", "not a child")
        await client.sessions.create("somebody")
        async with root.child() as child:
            pass
        changes = watch.changes()
        seen = [await anext(changes) for _ in range(2)]
    assert [one.cause for one in seen] == [ChangeCause.CREATED, ChangeCause.ENDED]
    assert {one.uid for one in seen if isinstance(one, SessionChange)} == {child.uid}


async def test_s4_16_a_time_out_for_long_tasks(client: AsyncClient) -> None:
    """A task that takes longer than it may is stopped, however busy it is; the root is not."""
    root = await a_root(client)
    with pytest.raises(errors.SessionEndedError):
        async with root.child(max_lifetime=0.15) as child:
            while True:
                await child.append("assistant", "still thinking")
                await asyncio.sleep(0.02)
    late = await client.sessions.get(child.ref)
    assert (late.status, late.end_cause) == (Status.EXPIRED, EndCause.LIFETIME)
    assert (await root.refresh()).is_active


async def test_s4_18_a_high_frequency(client: AsyncClient) -> None:
    """Many short-lived sessions are made in one call, and each is ready for its task."""
    root = await a_root(client)
    made = await client.sessions.create_many(
        [
            NewSession(user="root_agent", parent=root.info, owner_lease=60, labels={"n": str(n)})
            for n in range(100)
        ]
    )
    assert len({one.uid for one in made.sessions}) == 100
    await asyncio.gather(
        *(client.messages.append(one, NewMessage("user", "go")) for one in made.sessions[:20])
    )
    await asyncio.gather(*(client.sessions.end(one) for one in made.sessions[:20]))
    assert await root.children(status="active").count() == 80
    assert await root.children().count() == 100
    assert (await root.end()).descendants_ended == 80


async def test_s4_19_state_for_workflows(client: AsyncClient) -> None:
    """The steps of a long workflow are kept, and two workers do not overwrite each other's."""
    root = await a_root(client)
    plan = {"steps": ["map", "monsters", "loot"], "done": 0, "seed": 12345678901234567890}
    await root.update_state(plan)
    state = await root.get_state()
    assert dict(state.values) == plan
    patch = StatePatch({"done": 1}, expected_version=state.version)
    await root.update_state(patch)
    with pytest.raises(errors.StateVersionMismatchError) as behind:
        await root.update_state(StatePatch({"done": 9}, expected_version=state.version))
    assert behind.value.metadata["scope"] == "session"
    assert (await root.get_state()).values["done"] == 1


async def test_s4_20_recovery_after_a_crash(own: Place) -> None:
    """After a crash of the server and of the game, the campaign goes on where it was."""
    async with own.client("dungeon_master") as client:
        root = await a_root(client)
        await root.append_many([NewMessage("user", "We enter.")], state={"room": 3})
        begun = await client.turns.begin(root.ref, holder="game-1", lease=1)
        await client.sessions.create(
            "task", user="root_agent", parent=root.info, owner_turn_token=begun.turn_token
        )
    own.server.kill()
    own.server.start()
    async with own.client("dungeon_master") as client:
        root = await client.attach("root", user="root_agent")
        assert dict((await root.get_state()).values) == {"room": 3}
        assert [one.content for one in await root.messages()] == ["We enter."]
        async with root.turn(holder="game-2", on_conflict=OnConflict.STEAL) as turn:
            await turn.append("assistant", "It is dark.")
        with pytest.raises(errors.TurnSupersededError):
            await client.turns.end(begun.turn_token)
        task = await client.sessions.get("task", user="root_agent")
        assert task.end_cause in {EndCause.OWNER_ENDED, EndCause.OWNER_LOST}


async def test_s4_17_metrics_rolled_up(client: AsyncClient) -> None:
    """What sub-agents spent is counted on them, and summed up with their root when asked."""
    root = await a_root(client)
    await root.update(metrics=MetricsDelta(requests=1, counters={"tokens": 5}))
    for tokens in (10, 20):
        async with root.child(labels={"agent": "npc"}) as child:
            await child.update(metrics=MetricsDelta(requests=2, counters={"tokens": tokens}))
    [own] = [one async for one in client.sessions.aggregate(parent=root.info)]
    assert (own.metrics.request_count, own.metrics.counters) == (4, {"tokens": 30})
    no_parent = SessionFilter(has_parent=False)
    [alone] = [one async for one in client.sessions.aggregate(filter=no_parent)]
    assert alone.metrics.counters == {"tokens": 5}
    summed = client.sessions.aggregate(filter=no_parent, roll_up=True)
    [rolled] = [one async for one in summed]
    assert rolled.metrics.request_count == 5
    assert rolled.metrics.counters == {"tokens": 35}
    [npcs] = [one async for one in client.sessions.aggregate(label_key="agent") if one.group]
    assert (npcs.group, npcs.session_count) == ("npc", 2)


def test_s4_21_speed_is_measured() -> None:
    """What making and ending short-lived sessions costs is a part of the bench, with its figure."""
    assert "children" in SECTIONS
    assert "children of turns" in TARGETS
    text = PERFORMANCE.read_text(encoding="utf-8")
    section = text.partition("## Short-lived children\n")[2].partition("\n## ")[0]
    assert re.search(r"[\d,]+ pairs a second", section)
