# Generated from tests/api/_async/test_children.py by `make gen`. Edit the source, never this file.
"""Children of a session: what they hand back, what they begin with, what they sum up to."""

import pytest

from sojourn import (
    Client,
    EndCause,
    InitialSession,
    MetricsDelta,
    NewSession,
    RawJson,
    SessionChange,
    SessionHandle,
    StatePatch,
    Status,
    View,
    errors,
)
from sojourn._acompat import SyncFunction, sync_sleep
from tests.api.together import sync_together


class Broken(Exception):
    """The user's own error."""


def test_a_child_hands_its_result_back(client: Client) -> None:
    session = client.attach("parent")
    before = session.refresh()
    with session.turn():
        with session.child("good", labels={"agent": "bard"}) as sub:
            assert sub.result is None
            found = {"names": ["Ada"]}
            sub.result = found
            found["names"].append("too late")
        with pytest.raises(Broken):
            with session.child("bad") as sub:
                sub.result = "half"
                raise Broken
        with session.child("said") as sub:
            sub.result = 1
            sub.end(result=[2])
    good, bad, said = session.children().to_list()
    assert (good.status, good.end_result) == (Status.COMPLETED, {"names": ["Ada"]})
    assert (bad.status, bad.end_reason, bad.end_result) == (Status.FAILED, "Broken", "half")
    assert said.end_result == sub.result == [2]
    after = session.refresh()
    assert (after.status, len(after.state), after.message_count) == (Status.ACTIVE, 0, 0)
    assert after.etag == before.etag


def test_a_result_that_nobody_would_get_is_refused(client: Client) -> None:
    session = client.attach("parent")
    with session.child() as sub:
        with pytest.raises(errors.ArgumentTypeError):
            sub.result = {1, 2}
        with pytest.raises(errors.ContentTooLargeError):
            sub.result = "x" * 262_144
        sub.end()
        with pytest.raises(errors.SessionEndedError):
            sub.result = 1
    with pytest.raises(errors.SessionEndedError) as caught:
        with session.child() as sub:
            sub.result = "mine"
            client.sessions.end(sub.ref, result="another")
    assert caught.value.metadata == {"status": "COMPLETED", "cause": "REQUEST"}
    assert (session.children(descending=True).to_list())[0].end_result == "another"


def test_children_are_told_as_asked(client: Client) -> None:
    session = client.attach("parent")
    for name in ("a", "b", "c", "d"):
        client.sessions.create(name, parent=session.info)
    client.sessions.end("a")
    client.sessions.end("b", status=Status.FAILED)
    client.sessions.create("below", parent=client.sessions.get("c"))
    every = session.children(view=View.BASIC).to_list()
    assert [child.session_id for child in every] == ["a", "b", "c", "d"]
    for status, wanted in (
        ("active", ["c", "d"]),
        (Status.FAILED, ["b"]),
        ([Status.FAILED, Status.COMPLETED], ["a", "b"]),
    ):
        found = session.children(status=status).to_list()
        assert [child.session_id for child in found] == wanted
    assert session.children(status="completed").count() == 1
    newest = session.children(descending=True).page(1, limit=2)
    assert [child.session_id for child in newest.items] == ["d", "c"]


def test_a_child_begins_with_no_state_unless_keys_are_named(client: Client) -> None:
    session = client.attach("parent", state={"scene": "inn", "gold": RawJson("1.00")})
    with session.child() as sub:
        assert (sub.get_state()).values == {}
    with session.child(inherit_state=["gold", "nothing"]) as sub:
        assert (sub.get_state()).values.json == {"gold": "1.00"}
        sub.update_state({"gold": 0})
    with session.child(inherit_state=["gold", "scene"], state={"scene": "cave"}) as sub:
        assert (sub.get_state()).values == {"gold": 1.0, "scene": "cave"}
    patch = StatePatch({"own": 1}, expected_version=0)
    with session.child(inherit_state=["scene"], state=patch) as sub:
        assert (sub.get_state()).values == {"own": 1, "scene": "inn"}
    assert (session.get_state()).values.json == {"scene": '"inn"', "gold": "1.00"}
    with pytest.raises(errors.ArgumentTypeError):
        with session.child(inherit_state="gold"):
            raise AssertionError("never")


def test_sums_of_a_session_and_all_below_it(client: Client) -> None:
    with client.session("root") as root:
        root.append("user", "hi")
        with root.turn():
            with root.child() as child, child.child() as grandchild:
                grandchild.update(
                    metrics=MetricsDelta(
                        requests=2, errors=1, processing_time=1.5, counters={"tokens": 7}
                    )
                )
                child.append_many([], metrics=MetricsDelta(counters={"tokens": 1, "b": -2}))
            with root.child():
                seen = root.refresh(roll_up=True, view=View.BASIC)
        sums = seen.rolled_up
        assert (sums.session_count, sums.active_count, sums.message_count) == (4, 2, 1)
        assert sums.metrics.counters == {"tokens": 8, "b": -2}
        assert (sums.metrics.request_count, sums.metrics.error_rate) == (2, 0.5)
        assert sums.metrics.average_processing_time.total_seconds() == 0.75
        assert sums.complete
        assert seen.metrics.counters == {}
        with pytest.raises(errors.NotLoadedError):
            assert (root.refresh()).rolled_up is None


def run_sub_agent(session: SessionHandle, name: str, task: str) -> str:
    """A sub-agent as a dungeon master runs it: a session for one task, and nothing left of it."""
    with session.child(labels={"agent": name, "campaign": "default"}) as sub:
        sub.append("user", task)
        if not task:
            raise Broken
        sub.result = {"answer": f"{name}: {task.upper()}"}
    return str(sub.result["answer"])


def test_sub_agents_have_sessions_of_their_own_that_end_and_a_root_that_persists(
    client: Client,
) -> None:
    root = client.attach("campaign-1", user="root_agent", idle_timeout=0)
    with root.turn():
        answers = [run_sub_agent(root, "bard", f"verse {number}") for number in range(3)]
        with pytest.raises(Broken):
            run_sub_agent(root, "bard", "")
    assert answers == [f"bard: VERSE {number}" for number in range(3)]
    children = root.children().to_list()
    # Unique ids, even of the same agent, campaign and second.
    assert len({child.session_id for child in children}) == 4
    # Terminated after completion; a failure is told, and stays with its session.
    assert [child.status for child in children] == [Status.COMPLETED] * 3 + [Status.FAILED]
    assert [child.message_count for child in children] == [1] * 4
    # None lingers, and the root persists with nothing of theirs in it.
    assert client.sessions.list().count() == 1
    persisted = root.refresh()
    assert (persisted.status, persisted.message_count) == (Status.ACTIVE, 0)
    assert (persisted.metrics.request_count, persisted.metrics.error_count) == (1, 0)
    assert persisted.expire_time is None


def test_many_sub_agents_at_once_do_not_meet(client: Client) -> None:
    root = client.attach("campaign-1", state={"gold": 1})

    def agent(number: int) -> SyncFunction[[], str]:
        def run() -> str:
            with root.child() as sub:
                sub.update_state({"mine": number})
                sub.append("user", str(number))
                held = sub.get_state()
                sub.result = number
                assert dict(held.values) == {"mine": number}
                return sub.session_id

        return run

    with root.turn():
        ids = sync_together(*(agent(number) for number in range(20)))
    assert len(set(ids)) == 20
    children = root.children().to_list()
    assert {child.session_id for child in children} == set(ids)
    assert sorted(child.end_result for child in children) == list(range(20))
    assert {child.status for child in children} == {Status.COMPLETED}


def test_a_child_has_a_deadline_of_its_own(client: Client) -> None:
    root = client.attach("root")
    with pytest.raises(errors.SessionEndedError) as caught:
        with root.turn(), root.child(max_lifetime=0.2) as sub:
            while True:
                sub.touch()
                sync_sleep(0.02)
    assert caught.value.metadata == {"status": "EXPIRED", "cause": "LIFETIME"}
    [child] = root.children().to_list()
    assert (child.status, child.end_cause) == (Status.EXPIRED, EndCause.LIFETIME)
    assert (root.refresh()).is_active


def test_pre_warmed_children_end_with_the_turn_that_they_were_made_for(
    client: Client,
) -> None:
    root = client.attach("root")
    with root.turn() as turn:
        warm = [NewSession(parent=root.info, owner_turn_token=turn.token)] * 500
        made = client.sessions.create_many(warm)
        client.sessions.end(made.sessions[7], result="used")
    with root.turn():
        children = root.children(view=View.FULL).to_list()
    assert len({child.uid for child in children}) == 500
    assert {child.status for child in children} == {Status.COMPLETED}
    assert [child.end_result for child in children].count("used") == 1


def test_all_below_a_chain_of_children_ends_with_the_turn_of_its_root(
    client: Client,
) -> None:
    root = client.attach("root")
    with root.turn() as turn:
        above = client.sessions.create(parent=root.info, owner_turn_token=turn.token)
        for _ in range(60):
            above = client.sessions.create(parent=above, owner_lease=60)
    lowest = client.sessions.get(above)
    assert (lowest.status, lowest.end_cause) == (Status.COMPLETED, EndCause.PARENT_ENDED)
    sums = (root.refresh(roll_up=True)).rolled_up
    assert (sums.session_count, sums.active_count) == (62, 1)


def test_the_children_of_one_session_are_watched(client: Client) -> None:
    root = client.attach("root")
    client.sessions.create("elsewhere")
    with (
        root.child() as first,
        client.sessions.watch(parent=root.info, initial_state=True) as watch,
    ):
        _, before, _ = [watch.__next__() for _ in range(3)]
        assert isinstance(before, InitialSession)
        active = {before.session.session_id}
        assert active == {first.session_id}
        ended: dict[str, Status] = {}
        with pytest.raises(Broken):
            with root.child() as second, second.child():
                raise Broken
        client.sessions.end(first.ref)
        for event in watch:
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
