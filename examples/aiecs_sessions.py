"""AIECS' "Session Management Best Practices" by AIECS' own names, on a server that all pods share.

The guide's calls are as they are there; one line is another: `ContextSessions(…)` stands where
`ContextEngine()` stood. The agent is a stub without a model. `session_practices.py` is the same
guide with Sojourn's own client, which needs fewer lines.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from common import Server, run
from sojourn import AsyncClient
from sojourn.adapters.aiecs import ContextSessions

MAX_SESSIONS = 4


class Agent:
    """Stands in for `HybridAgent(…, context_engine=context_engine)`."""

    async def execute_task(self, task: Mapping[str, Any], context: Mapping[str, Any]) -> Any:
        if task["description"] == "Fail":
            raise TimeoutError("the model did not answer")
        return {"output": f"{context['session_id']}: {task['description']}"}


async def life_cycle(context_engine: ContextSessions, agent: Any) -> None:
    """Created by the first request, counted, ended; ended again, which is no error."""
    for number in range(5):
        await agent.execute_task({"description": f"Request {number}"}, {"session_id": "user-123"})
    await context_engine.end_session("user-123", status="completed")
    await context_engine.end_session("user-123", status="expired")
    session = await context_engine.get_session("user-123")
    assert session is not None
    print(f"user-123: {session.request_count} requests, {session.status}")


async def metrics(context_engine: ContextSessions) -> None:
    """By hand, from many tasks at once, and summed up over a user's sessions."""
    await context_engine.create_session(
        session_id="user-456-device-789", user_id="user-456", metadata={"device": "mobile"}
    )
    await asyncio.gather(
        *(
            context_engine.update_session(
                session_id="user-456-device-789",
                increment_requests=True,
                add_processing_time=0.5,
                mark_error=number % 4 == 0,
            )
            for number in range(20)
        )
    )
    sessions = await context_engine.list_sessions(user_id="user-456")
    requests = sum(session.request_count for session in sessions)
    errors = sum(session.error_count for session in sessions)
    seconds = sum(session.total_processing_time for session in sessions)
    print(f"user-456: {requests} requests, {errors / requests:.0%} errors, {seconds / requests} s")


async def recovery(context_engine: ContextSessions, agent: Any) -> None:
    """Three tries, then the session has failed."""
    for attempt in range(1, 4):
        try:
            await agent.execute_task({"description": "Fail"}, {"session_id": "fragile"})
        except TimeoutError as error:
            print(f"try {attempt}: {error}")
    await context_engine.end_session("fragile", status="failed")
    session = await context_engine.get_session("fragile")
    assert session is not None
    print(f"fragile: {session.error_count} errors, {session.status}")


async def limits(context_engine: ContextSessions) -> None:
    """MAX_SESSIONS as the guide does it: look, clean up, look again."""
    for number in range(2 * MAX_SESSIONS):
        active = await context_engine.list_sessions(status="active")
        if len(active) >= MAX_SESSIONS:
            await context_engine.cleanup_inactive_sessions(max_idle_seconds=900)
            print(f"{len(active)} active: Maximum session limit reached")
            break
        await context_engine.create_session(session_id=f"s{number}", user_id="user-789")


async def pooling(context_engine: ContextSessions, agent: Any) -> None:
    """A session that was idle for too long makes way for an empty one under the same id."""
    for limit in (1800, 1800, 0):
        session = await context_engine.get_session("user-pool")
        if session is None or session.is_expired(max_idle_seconds=limit):
            session = await context_engine.create_session("user-pool", user_id="user-pool")
        await agent.execute_task({"description": "Task"}, {"session_id": "user-pool"})
        seen = await context_engine.get_session("user-pool")
        assert seen is not None
        print(f"pool, {limit} s: {seen.request_count} requests")


async def story(client: AsyncClient, server: Server) -> None:
    """The guide, from top to bottom."""
    context_engine = ContextSessions(server.target, app=client.app)  # was: ContextEngine()
    await context_engine.initialize()
    agent = context_engine.track(Agent())
    await life_cycle(context_engine, agent)
    await metrics(context_engine)
    await recovery(context_engine, agent)
    await limits(context_engine)
    await pooling(context_engine, agent)
    total = await context_engine.get_metrics()
    print(f"all: {total['total_sessions']} sessions, {total['total_requests']} requests")
    await context_engine.close()


if __name__ == "__main__":
    run(story, __doc__, app="aiecs")
