"""Children of a session: what they hand back, what they begin with, what they sum up to."""

import pytest

from sojourn import (
    AsyncClient,
    AsyncSessionHandle,
    EndCause,
    InitialSession,
    MetricsDelta,
    NewSession,
    RawJson,
    SessionChange,
    StatePatch,
    Status,
    View,
    errors,
)
from sojourn._acompat import AsyncFunction, async_sleep
from tests.api.together import async_together


class Broken(Exception):
    """The user's own error."""


async def test_a_child_hands_its_result_back(client: AsyncClient) -> None:
    session = await client.attach("parent")
    before = await session.refresh()
    async with session.turn():
        async with session.child("good", labels={"agent": "bard"}) as sub:
            assert sub.result is None
            found = {"names": ["Ada"]}
            sub.result = found
            found["names"].append("too late")
        with pytest.raises(Broken):
            async with session.child("bad") as sub:
                sub.result = "half"
                raise Broken
        async with session.child("said") as sub:
            sub.result = 1
            await sub.end(result=[2])
    good, bad, said = await session.children().to_list()
    assert (good.status, good.end_result) == (Status.COMPLETED, {"names": ["Ada"]})
    assert (bad.status, bad.end_reason, bad.end_result) == (Status.FAILED, "Broken", "half")
    assert said.end_result == sub.result == [2]
    after = await session.refresh()
    assert (after.status, len(after.state), after.message_count) == (Status.ACTIVE, 0, 0)
    assert after.etag == before.etag


async def test_a_result_that_nobody_would_get_is_refused(client: AsyncClient) -> None:
    session = await client.attach("parent")
    async with session.child() as sub:
        with pytest.raises(errors.ArgumentTypeError):
            sub.result = {1, 2}
        with pytest.raises(errors.ContentTooLargeError):
            sub.result = "x" * 262_144
        await sub.end()
        with pytest.raises(errors.SessionEndedError):
            sub.result = 1
    with pytest.raises(errors.SessionEndedError) as caught:
        async with session.child() as sub:
            sub.result = "mine"
            await client.sessions.end(sub.ref, result="another")
    assert caught.value.metadata == {"status": "COMPLETED", "cause": "REQUEST"}
    assert (await session.children(descending=True).to_list())[0].end_result == "another"


async def test_children_are_told_as_asked(client: AsyncClient) -> None:
    session = await client.attach("parent")
    for name in ("a", "b", "c", "d"):
        await client.sessions.create(name, parent=session.info)
    await client.sessions.end("a")
    await client.sessions.end("b", status=Status.FAILED)
    await client.sessions.create("below", parent=await client.sessions.get("c"))
    every = await session.children(view=View.BASIC).to_list()
    assert [child.session_id for child in every] == ["a", "b", "c", "d"]
    for status, wanted in (
        ("active", ["c", "d"]),
        (Status.FAILED, ["b"]),
        ([Status.FAILED, Status.COMPLETED], ["a", "b"]),
    ):
        found = await session.children(status=status).to_list()
        assert [child.session_id for child in found] == wanted
    assert await session.children(status="completed").count() == 1
    newest = await session.children(descending=True).page(1, limit=2)
    assert [child.session_id for child in newest.items] == ["d", "c"]


async def test_a_child_begins_with_no_state_unless_keys_are_named(client: AsyncClient) -> None:
    session = await client.attach("parent", state={"scene": "inn", "gold": RawJson("1.00")})
    async with session.child() as sub:
        assert (await sub.get_state()).values == {}
    async with session.child(inherit_state=["gold", "nothing"]) as sub:
        assert (await sub.get_state()).values.json == {"gold": "1.00"}
        await sub.update_state({"gold": 0})
    async with session.child(inherit_state=["gold", "scene"], state={"scene": "cave"}) as sub:
        assert (await sub.get_state()).values == {"gold": 1.0, "scene": "cave"}
    patch = StatePatch({"own": 1}, expected_version=0)
    async with session.child(inherit_state=["scene"], state=patch) as sub:
        assert (await sub.get_state()).values == {"own": 1, "scene": "inn"}
    assert (await session.get_state()).values.json == {"scene": '"inn"', "gold": "1.00"}
    with pytest.raises(errors.ArgumentTypeError):
        async with session.child(inherit_state="gold"):
            raise AssertionError("never")


async def test_sums_of_a_session_and_all_below_it(client: AsyncClient) -> None:
    async with client.session("root") as root:
        await root.append("user", "hi")
        async with root.turn():
            async with root.child() as child, child.child() as grandchild:
                await grandchild.update(
                    metrics=MetricsDelta(
                        requests=2, errors=1, processing_time=1.5, counters={"tokens": 7}
                    )
                )
                await child.append_many([], metrics=MetricsDelta(counters={"tokens": 1, "b": -2}))
            async with root.child():
                seen = await root.refresh(roll_up=True, view=View.BASIC)
        sums = seen.rolled_up
        assert (sums.session_count, sums.active_count, sums.message_count) == (4, 2, 1)
        assert sums.metrics.counters == {"tokens": 8, "b": -2}
        assert (sums.metrics.request_count, sums.metrics.error_rate) == (2, 0.5)
        assert sums.metrics.average_processing_time.total_seconds() == 0.75
        assert sums.complete
        assert seen.metrics.counters == {}
        with pytest.raises(errors.NotLoadedError):
            assert (await root.refresh()).rolled_up is None


async def run_sub_agent(session: AsyncSessionHandle, name: str, task: str) -> str:
    """A sub-agent as a dungeon master runs it: a session for one task, and nothing left of it."""
    async with session.child(labels={"agent": name, "campaign": "default"}) as sub:
        await sub.append("user", task)
        if not task:
            raise Broken
        sub.result = {"answer": f"{name}: {task.upper()}"}
    return str(sub.result["answer"])


async def test_sub_agents_have_sessions_of_their_own_that_end_and_a_root_that_persists(
    client: AsyncClient,
) -> None:
    root = await client.attach("campaign-1", user="root_agent", idle_timeout=0)
    async with root.turn():
        answers = [await run_sub_agent(root, "bard", f"verse {number}") for number in range(3)]
        with pytest.raises(Broken):
            await run_sub_agent(root, "bard", "")
    assert answers == [f"bard: VERSE {number}" for number in range(3)]
    children = await root.children().to_list()
    # Unique ids, even of the same agent, campaign and second.
    assert len({child.session_id for child in children}) == 4
    # Terminated after completion; a failure is told, and stays with its session.
    assert [child.status for child in children] == [Status.COMPLETED] * 3 + [Status.FAILED]
    assert [child.message_count for child in children] == [1] * 4
    # None lingers, and the root persists with nothing of theirs in it.
    assert await client.sessions.list().count() == 1
    persisted = await root.refresh()
    assert (persisted.status, persisted.message_count) == (Status.ACTIVE, 0)
    assert (persisted.metrics.request_count, persisted.metrics.error_count) == (1, 0)
    assert persisted.expire_time is None


async def test_many_sub_agents_at_once_do_not_meet(client: AsyncClient) -> None:
    root = await client.attach("campaign-1", state={"gold": 1})

    def agent(number: int) -> AsyncFunction[[], str]:
        async def run() -> str:
            async with root.child() as sub:
                await sub.update_state({"mine": number})
                await sub.append("user", str(number))
                held = await sub.get_state()
                sub.result = number
                assert dict(held.values) == {"mine": number}
                return sub.session_id

        return run

    async with root.turn():
        ids = await async_together(*(agent(number) for number in range(20)))
    assert len(set(ids)) == 20
    children = await root.children().to_list()
    assert {child.session_id for child in children} == set(ids)
    assert sorted(child.end_result for child in children) == list(range(20))
    assert {child.status for child in children} == {Status.COMPLETED}


async def test_a_child_has_a_deadline_of_its_own(client: AsyncClient) -> None:
    root = await client.attach("root")
    with pytest.raises(errors.SessionEndedError) as caught:
        async with root.turn(), root.child(max_lifetime=0.2) as sub:
            while True:
                await sub.touch()
                await async_sleep(0.02)
    assert caught.value.metadata == {"status": "EXPIRED", "cause": "LIFETIME"}
    [child] = await root.children().to_list()
    assert (child.status, child.end_cause) == (Status.EXPIRED, EndCause.LIFETIME)
    assert (await root.refresh()).is_active


async def test_pre_warmed_children_end_with_the_turn_that_they_were_made_for(
    client: AsyncClient,
) -> None:
    root = await client.attach("root")
    async with root.turn() as turn:
        warm = [NewSession(parent=root.info, owner_turn_token=turn.token)] * 500
        made = await client.sessions.create_many(warm)
        await client.sessions.end(made.sessions[7], result="used")
    async with root.turn():
        children = await root.children(view=View.FULL).to_list()
    assert len({child.uid for child in children}) == 500
    assert {child.status for child in children} == {Status.COMPLETED}
    assert [child.end_result for child in children].count("used") == 1


async def test_all_below_a_chain_of_children_ends_with_the_turn_of_its_root(
    client: AsyncClient,
) -> None:
    root = await client.attach("root")
    async with root.turn() as turn:
        above = await client.sessions.create(parent=root.info, owner_turn_token=turn.token)
        for _ in range(60):
            above = await client.sessions.create(parent=above, owner_lease=60)
    lowest = await client.sessions.get(above)
    assert (lowest.status, lowest.end_cause) == (Status.COMPLETED, EndCause.PARENT_ENDED)
    sums = (await root.refresh(roll_up=True)).rolled_up
    assert (sums.session_count, sums.active_count) == (62, 1)


async def test_the_children_of_one_session_are_watched(client: AsyncClient) -> None:
    root = await client.attach("root")
    await client.sessions.create("elsewhere")
    async with (
        root.child() as first,
        client.sessions.watch(parent=root.info, initial_state=True) as watch,
    ):
        _, before, _ = [await watch.__anext__() for _ in range(3)]
        assert isinstance(before, InitialSession)
        active = {before.session.session_id}
        assert active == {first.session_id}
        ended: dict[str, Status] = {}
        with pytest.raises(Broken):
            async with root.child() as second, second.child():
                raise Broken
        await client.sessions.end(first.ref)
        async for event in watch:
            assert isinstance(event, SessionChange)
            session = event.session
            if session.is_active:
                active.add(session.session_id)
            else:
                active.discard(session.session_id)
                ended[session.session_id] = session.status
            if not active:
                break
    assert ended == {first.session_id: Status.COMPLETED, second.session_id: Status.FAILED}
