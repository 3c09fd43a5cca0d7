"""Threads and LangGraph's real runner: what a session beside a thread brings to it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

import sojourn
from sojourn import ChangeCause, DeletedWhy, SessionChange, Status, errors
from sojourn.adapters._langgraph_names import ALL, Rules, Stretch
from sojourn.adapters.langgraph import Threads
from tests.acceptance.kit import Place, eventually
from tests.adapters.langgraph.kit import answer, ask, graph, held, hi, on_one_store, thread_id


async def test_a_graph_remembers_from_run_to_run(threads: Threads, saver: InMemorySaver) -> None:
    agent = graph(saver)
    last: Any = None
    for _ in range(2):
        async with threads.run("t", user="ann", labels={"tier": "gold"}) as config:
            last = await agent.ainvoke(hi(), config)
    assert last == {"said": ["hi", "heard 1", "hi", "heard 3"]}
    session = await threads.get("t", user="ann")
    assert session.labels == {"by": "langgraph", "tier": "gold"}
    assert session.metrics.request_count == 2
    assert session.expire_time is None, "no idle timeout unless told"
    assert session.max_lifetime == timedelta(0)
    state = await agent.aget_state(await threads.config("t", user="ann"))
    assert state.values == last


async def test_the_same_thread_id_of_two_users_is_two_threads(
    threads: Threads, saver: InMemorySaver
) -> None:
    agent = graph(saver)
    for user in ("ann", "bob"):
        async with threads.run("t", user=user) as config:
            assert await agent.ainvoke(hi(user), config) == {"said": [user, "heard 1"]}
    assert len(held(saver)) == 2
    assert [one.user async for one in threads.list(labels={"by": "langgraph"})] == ["ann", "bob"]


async def test_a_thread_that_expired_begins_anew_before_any_cleaner_comes(
    threads: Threads, saver: InMemorySaver
) -> None:
    agent = graph(saver)
    async with threads.run("t", idle_timeout=0.1) as config:
        await agent.ainvoke(hi(), config)

    async def has_expired() -> bool:
        return (await threads.get("t")).status is Status.EXPIRED

    await eventually(has_expired, "it has expired")
    async with threads.run("t") as config:
        assert await agent.ainvoke(hi(), config) == {"said": ["hi", "heard 1"]}


async def test_a_reset_thread_begins_anew_at_once_with_the_same_session(
    threads: Threads, saver: InMemorySaver
) -> None:
    agent = graph(saver)
    async with threads.run("t") as config:
        await agent.ainvoke(hi(), config)
    before = await threads.get("t")
    await threads.reset("t", reason="a clean start")
    async with threads.run("t") as config:
        assert await agent.ainvoke(hi(), config) == {"said": ["hi", "heard 1"]}
    assert (await threads.get("t")).uid == before.uid


@on_one_store
async def test_resets_that_do_not_count_leave_the_thread_as_it_is(
    client: sojourn.AsyncClient, saver: InMemorySaver
) -> None:
    threads = Threads(client, clear_on_reset=False)
    async with threads.run("t") as config:
        await graph(saver).ainvoke(hi(), config)
    await threads.reset("t")
    async with threads.run("t") as config:
        assert len((await graph(saver).ainvoke(hi(), config))["said"]) == 4


async def test_a_thread_does_not_expire_while_it_runs(
    threads: Threads, saver: InMemorySaver
) -> None:
    async def slow(_: Any) -> Any:
        await asyncio.sleep(0.5)
        return {"said": [(await threads.get("t")).status.value]}

    async with threads.run("t", idle_timeout=0.1) as config:
        assert (await graph(saver, slow).ainvoke(hi(), config))["said"] == ["hi", "ACTIVE"]


async def test_a_second_run_on_a_thread_is_refused_or_waits(
    threads: Threads, saver: InMemorySaver
) -> None:
    waits = sojourn.inputs.TurnFields(on_conflict=sojourn.OnConflict.WAIT, wait_timeout=10)
    agent = graph(saver)

    async def later() -> Any:
        async with threads.run("t", turn=waits) as config:
            return await agent.ainvoke(hi("b"), config)

    async with threads.run("t", turn={"holder": "first"}) as config:
        with pytest.raises(errors.TurnConflictError):
            async with threads.run("t"):
                pytest.fail("two at once")
        second = asyncio.create_task(later())
        await agent.ainvoke(hi("a"), config)
        assert not second.done()
    assert (await second)["said"] == ["a", "heard 1", "b", "heard 3"]


@on_one_store
async def test_what_a_graph_raises_is_recorded_and_raised(
    threads: Threads, saver: InMemorySaver
) -> None:
    def fail(_: Any) -> Any:
        raise RuntimeError("no model today")

    with pytest.raises(RuntimeError, match="no model today"):
        async with threads.run("t") as config:
            await graph(saver, fail).ainvoke(hi(), config)
    session = await threads.get("t")
    assert (session.metrics.request_count, session.metrics.error_count) == (1, 1)
    assert session.is_active
    async with threads.run("t") as config:
        # The graph's own way to go on after a failure: its last checkpoint is still there.
        assert (await graph(saver, answer).ainvoke(None, config))["said"] == ["hi", "heard 1"]


@on_one_store
async def test_a_graph_that_was_interrupted_resumes_in_another_run(
    threads: Threads, saver: InMemorySaver
) -> None:
    agent = graph(saver, answer, ask)
    async with threads.run("t") as config:
        await agent.ainvoke(hi(), config)
    async with threads.run("t") as config:
        last = await agent.ainvoke(Command(resume="yes"), config)
    assert last["said"] == ["hi", "heard 1", "allowed: yes"]


def test_programs_without_an_event_loop_use_the_sync_client(
    place: Place, app: str, saver: InMemorySaver
) -> None:
    threads = Threads(place.target, app=app)
    last: Any = None
    with place.sync_client(app) as client:
        for _ in range(2):
            session = client.attach("t", user="ann", replace_ended=True, idle_timeout=0)
            with session.turn():
                last = graph(saver).invoke(hi(), threads.config_of(session.info))
    assert len(last["said"]) == 4


@pytest.mark.parametrize("how", ["delete", "reset", "erase", "expire"])
async def test_what_a_run_stores_after_its_thread_was_over_it_takes_back(
    client: sojourn.AsyncClient, saver: InMemorySaver, how: str
) -> None:
    threads = Threads(client, saver=saver)

    async def run() -> None:
        async with threads.run("t", user="ann") as config:
            match how:
                case "delete":
                    await threads.delete("t", user="ann")
                case "reset":
                    await threads.reset("t", user="ann")
                case "erase":
                    await threads.erase("ann")
                case _:
                    await threads.end("t", user="ann", status=Status.EXPIRED)
            await graph(saver).ainvoke(hi(), config)
            assert held(saver)

    with pytest.raises((errors.AbortedError, errors.NotFoundError, errors.SessionEndedError)):
        await run()
    assert not held(saver)


async def test_a_run_that_another_one_took_over_leaves_the_thread_alone(
    client: sojourn.AsyncClient, saver: InMemorySaver
) -> None:
    threads = Threads(client, saver=saver)
    steal = sojourn.inputs.TurnFields(on_conflict=sojourn.OnConflict.STEAL)

    async def run() -> None:
        async with threads.run("t"), threads.run("t", turn=steal) as config:
            await graph(saver).ainvoke(hi(), config)

    with pytest.raises(errors.TurnSupersededError):
        await run()
    assert held(saver) == {thread_id(await threads.config("t"))}


@on_one_store
async def test_the_own_config_of_a_program_is_kept_but_for_the_thread_id(
    threads: Threads, client: sojourn.AsyncClient
) -> None:
    own: Any = {"configurable": {"model": "m", "thread_id": "x"}, "tags": ["a"]}
    async with threads.run("t", config=own) as config:
        pass
    session = await client.sessions.get("t")
    assert config["configurable"] == {
        "model": "m",
        "thread_id": f"sojourn:{threads.app}:{session.uid}",
    }
    assert config["tags"] == ["a"]
    assert own["configurable"]["thread_id"] == "x"


async def test_a_thread_is_touched_ended_and_deleted(threads: Threads) -> None:
    opened = await threads.open("t", user="ann", idle_timeout=100)
    assert (await threads.touch("t", user="ann")).activity_time > opened.activity_time
    assert (await threads.end("t", user="ann", reason="done")).session.status is Status.COMPLETED
    assert (await threads.list(status=None).to_list())[0].uid == opened.uid
    await threads.delete("t", user="ann")
    with pytest.raises(errors.SessionNotFoundError):
        await threads.config("t", user="ann")


def test_threads_are_of_one_app() -> None:
    with pytest.raises(errors.ConfigurationError):
        Threads("localhost:7070")


UID = "01a1fb13-a47c-70a4-aa36-a53ca522a78d"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"sojourn:a:{UID}", Stretch(UID, 1)),
        (f"sojourn:a:{UID}:2", Stretch(UID, 2)),
        (f"sojourn:a:b:{UID}", None),
        (f"sojourn:ab:{UID}", None),
        (f"sojourn:a:{UID}:0", None),
        (f"sojourn:a:{UID}x", None),
        (f"sojourn:a:{UID}\n", None),
        (UID, None),
        ("sojourn:a:", None),
    ],
)
def test_the_saver_s_thread_ids_of_an_app_are_told_from_all_others(
    text: str, found: Stretch | None
) -> None:
    rules = Rules("a", "sojourn:a:", frozenset({Status.EXPIRED}), clear_on_reset=True)
    assert rules.parse(text) == found
    if found is not None:
        assert rules.thread_id(found) == text
        assert Stretch.parse(str(found)) == found


def changed(cause: ChangeCause, generation: int = 3, **fields: Any) -> SessionChange:
    """A change as a watch tells it, as far as the rules look at it."""
    status = fields.pop("status", Status.ACTIVE)
    session: Any = SimpleNamespace(uid=UID, generation=generation, status=status)
    return SessionChange(
        revision=1,
        index=0,
        cause=cause,
        time=datetime.now(UTC),
        actor="",
        membership=sojourn.Membership.LEFT,
        uid=UID,
        session=session,
        **fields,
    )


@pytest.mark.parametrize("why", [*DeletedWhy])
def test_whatever_the_reason_for_a_deletion_it_is_over(why: DeletedWhy) -> None:
    rules = Rules("a", "sojourn:a:", frozenset({Status.EXPIRED}), clear_on_reset=True)
    generation = ALL if why is DeletedWhy.ERASED else 3
    change = changed(ChangeCause.DELETED, deleted_why=why)
    assert [*rules.over_with(change)] == [Stretch(UID, generation)]


@pytest.mark.parametrize("cause", [*ChangeCause])
def test_while_a_session_is_there_only_its_status_and_resets_count(cause: ChangeCause) -> None:
    rules = Rules("a", "sojourn:a:", frozenset({Status.EXPIRED}), clear_on_reset=True)
    before = [Stretch(UID, 2)] if cause is ChangeCause.RESET else []
    for status in (Status.ACTIVE, Status.COMPLETED, Status.FAILED):
        assert [*rules.over_with(changed(cause, status=status))] == before
    assert Stretch(UID, 3) in [*rules.over_with(changed(cause, status=Status.EXPIRED))]
    deaf = Rules("a", "sojourn:a:", frozenset({Status.EXPIRED}), clear_on_reset=False)
    assert [*deaf.over_with(changed(cause))] == []
    assert [*deaf.over_with(changed(cause, status=Status.EXPIRED))] == [Stretch(UID, 1)]
