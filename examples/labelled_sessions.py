"""Cloud sessions with labels: listed, recovered elsewhere, monitored, and always cleaned up.

After AGB's "Session Management Guide", in its order: create with labels and change them, validate
labels, look at a session, list by labels and pages, release, recover by id in another process, and
its best practices: clean up always, handle errors, label consistently, monitor usage, replace a
session that is used up. The sessions' environments stay AGB's; what is kept of them is here.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from common import Server, run
from sojourn import AsyncClient, AsyncSessionHandle, ChangeCause, MetricsDelta, connect, errors

IMAGE = "agb-code-space-1"
MAX_OPERATIONS_PER_SESSION = 100


def project_labels(project: str, environment: str, **more: str) -> dict[str, str]:
    """Use a consistent labelling strategy."""
    stamp = str(int(time.time()))
    standard = {"created_by": "agb-sdk", "image": IMAGE, "timestamp": stamp}
    return {"project": project, "environment": environment, **standard, **more}


async def labels(client: AsyncClient) -> None:
    """Set, replace, read and validate labels."""
    created = await client.sessions.create(
        "s-1", labels=project_labels("demo", "testing", team="backend")
    )
    print(f"created {created.session_id} with {len(created.labels)} labels")
    changed = {"project": "demo", "environment": "production", "version": "v1.2.0"}
    result = await client.sessions.update("s-1", labels=changed, replace_labels=True)
    print(f"labels now: {dict(sorted(result.session.labels.items()))}")
    for wrong in ({"": "empty-key"}, {"project": ""}, {"team": None}, {7: "key"}):
        try:
            await client.sessions.update("s-1", labels=wrong)  # type: ignore[arg-type]
        except errors.InvalidArgumentError as error:
            print(f"refused: {error.field_violations[0].description}")


async def listing(client: AsyncClient) -> None:
    """List ids by any combination of labels, page by page, with the total."""
    for number in range(23):
        environment = "testing" if number % 2 else "staging"
        await client.sessions.create(
            f"run-{number:02}", labels=project_labels("pages", environment)
        )
    pager = client.sessions.list_ids(labels={"project": "pages"})
    for number in (2, 9):
        page = await pager.page(number, limit=10)
        ids = [ref.session_id for ref in page.items]
        print(f"page {number}: {ids[:1]} to {ids[-1:]}, {len(ids)} of {page.total_size}; ", end="")
        print(f"more: {bool(page.next_page_token)}")
    both = client.sessions.list_ids(labels={"project": "pages", "environment": "testing"})
    print(f"of pages, in testing: {await both.count()}")


async def release(client: AsyncClient) -> None:
    """A released session is in no list, and says of itself that it has ended."""
    before = await client.sessions.list_ids().count()
    await client.sessions.end("s-1")
    async with client.sessions.watch(labels={"project": "pages"}) as watch:
        await client.sessions.update("run-00", idle_timeout=0.01)
        async for change in watch.changes():
            if change.cause is ChangeCause.EXPIRED:
                break
    print(f"two of {before} released: {before - await client.sessions.list_ids().count()} less")
    for name in ("s-1", "run-00"):
        info = await client.sessions.get(name)
        print(f"  {name}: {info.status}, {info.end_cause}")


async def recover(client: AsyncClient, server: Server) -> None:
    """Another process goes on with a session, by its id alone."""
    session = await client.attach("long-job", labels={"project": "recovery"})
    await session.update_state({"step": 3})
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "--recover", server.target, client.app
    )
    await process.wait()
    print(f"back here, the state is {dict((await session.get_state()).values)}")


async def in_another_process(target: str, app: str) -> None:
    """Find the session, as it was left, and work on."""
    async with connect(target, app=app) as client:
        session = await client.attach("long-job")
        step = (await session.get_state()).values["step"]
        await session.update_state({"step": step + 1})
        print(f"recovered long-job in another process, at step {step}", flush=True)


@asynccontextmanager
async def monitored(session: AsyncSessionHandle, name: str) -> AsyncIterator[AsyncSessionHandle]:
    """Monitor usage: the time it took, and whether the session stayed healthy."""
    async with session.turn(holder=name):
        yield session
    info = await session.refresh()
    healthy = info.is_active and info.error_rate == 0
    print(f"{name}: {info.metrics.processing_time.total_seconds():.3f} s, healthy: {healthy}")


async def best_practices(client: AsyncClient) -> None:
    """Clean up always, handle errors gracefully, recreate what is used up."""
    async with client.session("practice", labels=project_labels("ml", "staging")) as session:
        async with monitored(session, "data_processing"):
            await session.append("user", "import pandas")
        await session.update(labels={"status": "training_complete", "accuracy": "0.94"})

    async def operation(broken: AsyncSessionHandle) -> None:
        await broken.append("user", "print('Hello')")
        raise RuntimeError("no such image")

    try:
        await client.run(operation, "fragile")
    except RuntimeError as error:
        status = (await client.sessions.get("fragile")).status
        print(f"operation failed: {error}; its session is {status}")

    sessions: set[str] = set()
    for _ in range(21):
        worker, _ = await client.sessions.get_or_replace(
            "worker", max_requests=MAX_OPERATIONS_PER_SESSION
        )
        sessions.add(worker.uid)
        await client.sessions.update(worker, metrics=MetricsDelta(requests=10))
    print(f"210 tasks, {MAX_OPERATIONS_PER_SESSION} a session: {len(sessions)} sessions")


async def story(client: AsyncClient, server: Server) -> None:
    """The guide, from top to bottom."""
    await labels(client)
    await listing(client)
    await release(client)
    await recover(client, server)
    await best_practices(client)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--recover"]:
        asyncio.run(in_another_process(*sys.argv[2:]))
    else:
        run(story, __doc__, app="agb")
