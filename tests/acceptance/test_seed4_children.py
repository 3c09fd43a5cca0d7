"""Rows S4-01 to S4-12: a root session, and a temporary one for each task."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import uuid
from datetime import timedelta
from typing import Any

import pytest
from google.adk.errors.already_exists_error import AlreadyExistsError

from sojourn import (
    AsyncClient,
    AsyncSessionHandle,
    EndCause,
    Session,
    SessionKey,
    Status,
    errors,
)
from sojourn.adapters.adk import SojournSessionService
from tests.acceptance.kit import Place, eventually

CAMPAIGN = "campaign-7"


class DiceError(Exception):
    """What goes wrong in a sub-agent."""


@pytest.fixture
async def root(client: AsyncClient) -> AsyncSessionHandle:
    """The root agent's session."""
    await client.sessions.create(CAMPAIGN, user="root_agent", idle_timeout=0, state={"hp": 12})
    return await client.attach(CAMPAIGN, user="root_agent")


async def run_sub_agent(root: AsyncSessionHandle, task: str, *, fails: bool = False) -> Session:
    """Run a task in a session of its own, and return that session."""
    async with root.child(labels={"agent": "npc"}) as child:
        await child.append("user", task)
        if fails:
            raise DiceError(task)
        await child.append("assistant", f"{task}: done")
    return child.info


async def children_of(client: AsyncClient, root: AsyncSessionHandle) -> list[Session]:
    """Return all children there are or were."""
    return await client.sessions.list(status="any", parent=root.info).to_list()


async def live_children(client: AsyncClient, root: AsyncSessionHandle) -> int:
    """Return how many children are live."""
    return await client.sessions.list(parent=root.info).count()


async def test_s4_01_the_root_lasts(client: AsyncClient, root: AsyncSessionHandle) -> None:
    """The root never expires by itself, keeps game and talk, and ends when the campaign ends."""
    assert root.info.expire_time is None
    await root.append("user", "We enter the cave.")
    await run_sub_agent(root, "describe the cave")
    read = await root.refresh(last_messages=5)
    assert (read.is_active, dict(read.state), read.message_count) == (True, {"hp": 12}, 1)
    ended = await root.end(reason="campaign over")
    assert ended.session.status is Status.COMPLETED


async def test_s4_02_a_session_for_each_task(client: AsyncClient, root: AsyncSessionHandle) -> None:
    """A task gets a session below the root, which is over when the task is."""
    async with root.child() as child:
        seen = await client.sessions.get(child.ref)
        assert (seen.parent_uid, seen.ephemeral, seen.is_active) == (root.uid, True, True)
        assert seen.user == "root_agent"
    assert (await client.sessions.get(child.ref)).status is Status.COMPLETED
    assert (await root.refresh()).is_active


async def test_s4_03_ids_never_collide(client: AsyncClient, root: AsyncSessionHandle) -> None:
    """Calls within one second get ids that differ, and an id that is taken is never shared."""
    made = [await run_sub_agent(root, f"task {n}") for n in range(10)]
    assert len({one.session_id for one in made}) == 10
    await client.sessions.create("sub_agent_npc_default_1700000000", user="root_agent")
    with pytest.raises(errors.SessionExistsError):
        await client.sessions.create("sub_agent_npc_default_1700000000", user="root_agent")


async def test_s4_04_by_app_user_and_id(place: Place) -> None:
    """ADK's own call creates a session by app, user and id; all others find it under these."""
    names: dict[str, Any] = {
        "app_name": "dungeon_master",
        "user_id": "root_agent",
        "session_id": f"sub_agent_{uuid.uuid4()}",
    }
    key = SessionKey(names["app_name"], names["user_id"], names["session_id"])
    async with SojournSessionService(f"sojourn://{place.target}") as service:
        made = await service.create_session(**names, state={"scene": "cave"})
        assert (made.app_name, made.user_id, made.id) == (key.app, key.user, key.session_id)
        with pytest.raises(AlreadyExistsError):
            await service.create_session(**names)
        assert await service.get_session(**names) == made
        async with place.client("dungeon_master") as client:
            read = await client.sessions.get(key)
            assert (read.key, dict(read.state)) == (key, {"scene": "cave"})
            await service.delete_session(**names)
            with pytest.raises(errors.SessionNotFoundError):
                await client.sessions.get(key)


async def test_s4_05_removed_in_the_end(client: AsyncClient, root: AsyncSessionHandle) -> None:
    """A temporary session ends with the root's turn, also when nobody cleans up after it."""
    async with root.turn() as turn:
        left = await client.sessions.create(
            user="root_agent", parent=root.info, owner_turn_token=turn.token
        )
        assert left.is_active
    over = await client.sessions.get(left)
    assert over.end_cause is EndCause.OWNER_ENDED
    below = await client.sessions.create(user="root_agent", parent=root.info, owner_lease=60)
    await root.end()
    assert (await client.sessions.get(below)).end_cause is EndCause.PARENT_ENDED


async def test_s4_06_a_removal_that_fails(
    place: Place, client: AsyncClient, root: AsyncSessionHandle
) -> None:
    """If the clean-up itself fails, that is told, and the server removes what is left over."""
    results = []
    with pytest.raises(errors.ClientClosedError):
        async with place.client(client.app) as broken:
            handle = await broken.attach(CAMPAIGN, user="root_agent")
            async with handle.child(lease=1) as child:
                results.append(await child.append("assistant", "the cave is dark"))
                await broken.close()
    assert results[0].changed

    async def over() -> bool:
        return await live_children(client, root) == 0

    await eventually(over, "the leftover has ended")
    [left] = await children_of(client, root)
    assert (left.uid, left.end_cause) == (child.uid, EndCause.OWNER_LOST)


async def test_s4_07_a_failing_sub_agent(client: AsyncClient, root: AsyncSessionHandle) -> None:
    """A sub-agent's failure is kept on its own session, and the root goes on as it was."""
    before = await root.refresh()
    with pytest.raises(DiceError):
        await run_sub_agent(root, "roll", fails=True)
    [child] = await children_of(client, root)
    failed = await client.sessions.get(child)
    assert (failed.status, failed.end_reason) == (Status.FAILED, "DiceError")
    after = await root.refresh()
    assert (after.etag, after.is_active) == (before.etag, True)
    assert (await run_sub_agent(root, "roll again")).status is Status.COMPLETED


KILLED = """
import sys, time
import sojourn
target, app = sys.argv[1:]
with sojourn.connect_sync(target, app=app) as client:
    root = client.attach("campaign-7", user="root_agent")
    with root.turn(lease=2), root.child() as one, root.child() as other:
        one.append("user", "describe the cave")
        print(client.sessions.list(user="root_agent").count() - 1, "running", flush=True)
        time.sleep(60)
"""


def killed_midway(target: str, app: str) -> bytes:
    """Run a program that is killed while its sub-agents work; return what it said before."""
    command = [sys.executable, "-c", KILLED, target, app]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        process.kill()
    return said


async def test_s4_08_nothing_lingers(
    place: Place, client: AsyncClient, root: AsyncSessionHandle
) -> None:
    """After many runs no sub-agent's session is live, nor after its process was killed."""
    for number in range(10):
        await run_sub_agent(root, f"task {number}")
    assert await live_children(client, root) == 0
    assert await asyncio.to_thread(killed_midway, place.target, client.app) == b"2 running\n"

    async def none_left() -> bool:
        return await live_children(client, root) == 0

    await eventually(none_left, "no child lingers")
    causes = {one.end_cause for one in await children_of(client, root)}
    assert causes == {EndCause.REQUEST, EndCause.OWNER_ENDED}
    read = await root.refresh()
    assert (read.is_active, read.turn) == (True, None)


async def test_s4_09_nothing_is_shared(client: AsyncClient, root: AsyncSessionHandle) -> None:
    """A sub-agent sees neither talk nor state of the root or of another, unless it is told."""
    await root.append("user", "a secret")
    async with root.child(state={"scene": "cave"}) as one, root.child() as other:
        await one.append("user", "to one")
        seen = await client.sessions.get(other.ref, last_messages=10)
        assert (seen.messages, dict(seen.state)) == ((), {})
        told = await client.sessions.get(one.ref, last_messages=10)
        assert ([m.content for m in told.messages], dict(told.state)) == (
            ["to one"],
            {"scene": "cave"},
        )
    read = await root.refresh(last_messages=10)
    assert ([m.content for m in read.messages], dict(read.state)) == (["a secret"], {"hp": 12})


async def test_s4_10_several_at_once(client: AsyncClient, root: AsyncSessionHandle) -> None:
    """Twenty sub-agents work at the same time below one root, each in a session of its own."""
    done = await asyncio.gather(*(run_sub_agent(root, f"task {n}") for n in range(20)))
    assert len({one.uid for one in done}) == 20
    for number, session in enumerate(done):
        talk = [one.content async for one in client.messages.list(session)]
        assert talk == [f"task {number}", f"task {number}: done"]
    assert await live_children(client, root) == 0


async def test_s4_11_again_and_again(client: AsyncClient, root: AsyncSessionHandle) -> None:
    """The same agent in the same campaign starts anew each time, with nothing of the last."""
    first, second = [await run_sub_agent(root, "describe the cave") for _ in range(2)]
    assert first.session_id != second.session_id
    assert first.labels == second.labels == {"agent": "npc"}
    assert (await client.sessions.get(second)).message_count == 2


async def test_s4_12_a_trail(client: AsyncClient, root: AsyncSessionHandle) -> None:
    """What each sub-agent did, and how it ended, can still be read when it is over."""
    await run_sub_agent(root, "describe the cave")
    with pytest.raises(DiceError):
        await run_sub_agent(root, "roll", fails=True)
    async with root.child() as live:
        trail = await children_of(client, root)
        assert [one.status.value for one in trail] == ["COMPLETED", "FAILED", "ACTIVE"]
        assert trail[2].uid == live.uid
    described = await client.sessions.get(trail[0], last_messages=5)
    assert [one.content for one in described.messages] == [
        "describe the cave",
        "describe the cave: done",
    ]
    assert described.end_time is not None
    assert described.end_time - described.create_time > timedelta(0)
