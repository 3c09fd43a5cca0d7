# Generated from tests/api/_async/test_children.py by `make gen`. Edit the source, never this file.
"""Children of a session: what they hand back, what they begin with, what they sum up to."""

import pytest

from sojourn import (
    Client,
    MetricsDelta,
    RawJson,
    StatePatch,
    Status,
    View,
    errors,
)


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
