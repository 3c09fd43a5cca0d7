"""Children of a session: what they hand back, what they begin with, what they sum up to."""

import pytest

from sojourn import (
    AsyncClient,
    MetricsDelta,
    RawJson,
    StatePatch,
    Status,
    View,
    errors,
)


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
