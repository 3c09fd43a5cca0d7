"""The deployment that could not be deleted.

After "Session Management for Vertex AI Reasoning Engines": deleting a deployment fails with `HTTP
400: The ReasoningEngine contains child resources: sessions`, and its users wait 30 to 60 minutes,
retry, and ask who still holds it. Here a deployment is an app. A delete that is refused says who is
in the way and when it could succeed; a drain needs no second call; a clean-up keeps the newest; and
force does what it says.
"""

from __future__ import annotations

from datetime import UTC, datetime

from common import Server, run
from sojourn import (
    AppStatus,
    AsyncClient,
    DeleteMode,
    NewMessage,
    Policy,
    errors,
)

AGENT_NAME = "bq_agent_mick"
KEEP = 1


class Deployments:
    """The deployments of one agent, each an app with a label that says so."""

    def __init__(self, client: AsyncClient) -> None:
        self.client = client
        self.labels = {"agent": f"{AGENT_NAME}-{client.app}"}

    def name(self, number: int) -> str:
        """The app of a deployment."""
        return f"{self.client.app}-v{number}"

    async def deploy(self, number: int) -> AsyncClient:
        """Make a new deployment: an app comes into being when it is first heard of."""
        engine = self.client.with_options(app=self.name(number))
        await engine.apps.update(labels=self.labels, policy=Policy(default_idle_timeout=1800))
        return engine

    async def show(self) -> None:
        """`make list-deployments`."""
        found = await self.client.apps.list(labels=self.labels).to_list()
        print(f"{len(found)} deployments:")
        for app in found:
            print(f"  {app.app.removeprefix(self.client.app)}: ", end="")
            print(f"{app.status}, {app.active_sessions} active sessions")


async def query(engine: AsyncClient, session_id: str, text: str) -> None:
    """Query an engine; the session is created when it is first named."""
    message = NewMessage("user", text)
    await engine.messages.append(session_id, [message], user="mick", create_if_missing=True)


async def life_cycle(engine: AsyncClient) -> None:
    """Created, active, expired: and how long it lasts is no secret."""
    await query(engine, "s-1", "How many rows?")
    session = await engine.sessions.get("s-1", user="mick")
    left = session.time_left
    assert left is not None
    print(f"s-1 is {session.status}; it expires in {left.total_seconds() / 60:.0f} minutes", end="")
    print(f" because of {session.expire_cause}, unless it is used")


async def who_holds_it(engine: AsyncClient) -> None:
    """The delete that fails, and what it says."""
    holder = await engine.attach("s-1", user="mick")
    async with holder.turn(holder="notebook-3"):
        try:
            await engine.apps.delete()
        except errors.AppHasSessionsError as refused:
            keys = [key.session_id for key in refused.first_keys]
            print(f"{refused.reason}: {refused.count} session, {keys}")
            print(f"  held by {list(refused.holders)}, last used by {refused.last_actor}")
    try:
        await engine.apps.delete()
    except errors.AppHasSessionsError as refused:
        seen = refused.earliest_success_time
        wait = "never" if seen is None else f"{(seen - datetime.now(UTC)).seconds / 60:.0f} minutes"
        print(f"  could succeed by itself in {wait}")


async def drain(engine: AsyncClient) -> None:
    """Option 1 without the waiting: no new sessions, and gone when the last is over."""
    await engine.apps.delete(mode=DeleteMode.DRAIN, drain_timeout=3600)
    app = await engine.apps.get()
    print(f"draining: {app.status}, {app.active_sessions} active session")
    try:
        await engine.sessions.create("s-2", user="mick")
    except errors.AppDrainingError as refused:
        print(f"a new session: {refused.reason}")
    await engine.sessions.end("s-1", user="mick")
    done = await engine.apps.delete(mode=DeleteMode.DRAIN, wait=True)
    print(f"after its last session: {done.status}")


async def force(engine: AsyncClient) -> None:
    """Option 4, `--list` and `--force-delete`, that does not fail while sessions are active."""
    await query(engine, "busy", "Are you still there?")
    ids = [ref.session_id for ref in await engine.sessions.list_ids().to_list()]
    done = await engine.apps.delete(mode=DeleteMode.FORCE)
    print(f"force: {ids} and the deployment are {done.status}")
    try:
        await query(engine, "straggler", "Hello?")
    except errors.AppDeletedError as refused:
        print(f"a query that comes late: {refused.reason}")


async def story(client: AsyncClient, _: Server) -> None:
    """From a failed delete to a clean desk."""
    deployments = Deployments(client)
    first = await deployments.deploy(1)
    await life_cycle(first)
    await who_holds_it(first)
    await drain(first)
    await force(await deployments.deploy(2))

    # `make cleanup-deployments AGENT_NAME=bq_agent_mick KEEP=1`, once.
    for number in (3, 4, 5):
        await query(await deployments.deploy(number), "s", "Hi")
    await deployments.show()
    cleaned = await client.apps.delete_many(
        deployments.labels, keep_newest=KEEP, mode=DeleteMode.FORCE
    )
    print(f"cleaned up: {[name.removeprefix(client.app) for name in cleaned.apps]}")
    await deployments.show()

    # "Can I prevent sessions from being created?"
    last = await deployments.deploy(5)
    await last.apps.update(policy=Policy(auto_create=False))
    try:
        await query(last, "unasked", "Hi")
    except errors.AutoCreateRefusedError as refused:
        print(f"without auto_create: {refused.reason}")
    assert (await last.apps.get()).status is AppStatus.ACTIVE


if __name__ == "__main__":
    run(story, __doc__, app="reasoning")
