"""A dungeon master with one long session, and sub-agents with a session for each task.

After "Session Management Implementation" of a dungeon master built on ADK: only the root agent
keeps a long-running session; sub-agents get temporary ones, which must never linger. There,
`run_sub_agent` makes an id from the second, deletes the session in `finally`, and prints a warning
when that fails. Here ids are the server's, children end by themselves, even after kill -9, what
they found is handed back, and what they did stays on record.
"""

from __future__ import annotations

import asyncio
import sys

from common import Server, run
from sojourn import AsyncClient, AsyncSessionHandle, SessionChange, Status, connect

TASKS = [("narrative", "an inn"), ("npc", "its keeper"), ("bard", "a song"), ("bard", "another")]


async def run_sub_agent(root: AsyncSessionHandle, agent: str, action: str) -> str:
    """Give one task to a sub-agent, in a session of its own that ends with the task."""
    try:
        # It knows of the root's state what it is told, and nothing else.
        async with root.child(
            labels={"agent": agent}, inherit_state=["world"], max_lifetime=300
        ) as sub:
            await sub.append("user", action)
            world = (await sub.get_state()).values["world"]
            if agent == "lawyer":
                raise PermissionError("no rules tonight")
            answer = f"{agent} of {world}: {action}"
            await sub.append("assistant", answer)
            sub.result = {"answer": answer}
            return answer
    except PermissionError as error:
        return f"Error running sub-agent {agent}: {error}"


async def sub_agents(root: AsyncSessionHandle) -> None:
    """Route tasks from the root: at once, one of them in vain."""
    async with root.turn(holder="root_agent") as turn:
        await turn.append("user", "We enter the inn.")
        answers = await asyncio.gather(
            *(run_sub_agent(root, agent, action) for agent, action in TASKS),
            run_sub_agent(root, "lawyer", "complain"),
        )
        await turn.append("assistant", " ".join(answers[: len(TASKS)]))
    print(f"root: {answers[0]!r}, …, {answers[-1]!r}")

    # Handoff and audit trail: ended children stay readable, each with its id and its result.
    children = await root.children().to_list()
    print(f"unique ids: {len({child.session_id for child in children})} of {len(children)}")
    for child in children[-2:]:
        told = child.end_result or child.end_reason
        print(f"  {child.labels['agent']}: {child.status}, {child.message_count} messages, {told}")
    seen = await root.refresh(roll_up=True)
    print(f"lingering: {seen.rolled_up.active_count - 1}; the root: {seen.status}")
    print(f"in the root's history: {seen.message_count}, with the children's: ", end="")
    print(f"{seen.rolled_up.message_count} in {seen.rolled_up.session_count} sessions")


async def killed(client: AsyncClient, server: Server, root: AsyncSessionHandle) -> None:
    """Kill a process with -9 while its sub-agents work, and watch what becomes of them."""
    async with client.sessions.watch(parent=root.info) as watch:
        process = await asyncio.create_subprocess_exec(
            sys.executable, __file__, "--victim", server.target, client.app
        )
        alive: set[str] = set()
        ended = 0
        async for event in watch:
            if not isinstance(event, SessionChange):
                continue
            child = event.session
            if child.is_active:
                alive.add(child.uid)
                if len(alive) == 3:
                    process.kill()
                    print(f"kill -9, with {len(alive)} sub-agents at work")
            else:
                alive.remove(child.uid)
                ended += child.status is Status.FAILED
                if not alive:
                    break
    await process.wait()
    active = await root.children(status=Status.ACTIVE).count()
    print(f"{ended} ended as FAILED by themselves, {active} linger")


async def victim(target: str, app: str) -> None:
    """The process that is killed: two sub-agents of its turn, and one with a lease of its own."""
    async with connect(target, app=app) as client:
        root = await client.attach("campaign-1", user="root_agent")
        async with root.child(lease=1), root.turn(lease=1), root.child(), root.child():
            await asyncio.sleep(60)


async def story(client: AsyncClient, server: Server) -> None:
    """One evening of a campaign."""
    # Created when the campaign is loaded, and there until it ends: no idle timeout.
    root = await client.attach(
        "campaign-1", user="root_agent", idle_timeout=0, state={"world": "Faerun", "gold": 10}
    )
    await sub_agents(root)
    await killed(client, server, root)
    info = await root.refresh()
    print(f"the root is {info.status}, with {info.metrics.request_count} requests", end="")
    print(f" and {info.metrics.error_count} error")
    await root.end(reason="the campaign is over")
    print(f"the root is {root.info.status}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--victim"]:
        asyncio.run(victim(*sys.argv[2:]))
    else:
        run(story, __doc__, app="dungeon_master")
