# Generated from tests/api/_async/test_handles.py by `make gen`. Edit the source, never this file.
"""Sessions, turns and children as context managers: they end as the block ended."""

import logging
import time
from datetime import timedelta

import pytest

import sojourn
from sojourn import (
    Client,
    EndCause,
    MetricsDelta,
    NewMessage,
    OnConflict,
    Precondition,
    StatePatch,
    Status,
    View,
    errors,
)
from sojourn._acompat import sync_sleep


class Broken(Exception):
    """The user's own error."""


def test_a_session_ends_completed_when_its_block_is_left(client: Client) -> None:
    with client.session("user-123", user="u-456", labels={"k": "v"}) as session:
        assert session.info.is_active
        assert (session.session_id, session.user) == ("user-123", "u-456")
    assert session.info.status is Status.COMPLETED
    stored = client.sessions.get("user-123", user="u-456")
    assert stored.status is Status.COMPLETED
    assert stored.end_cause is EndCause.REQUEST
    assert stored.labels == {"k": "v"}


def test_a_session_ends_failed_when_its_block_raises(client: Client) -> None:
    with pytest.raises(Broken):
        with client.session("s"):
            raise Broken
    stored = client.sessions.get("s")
    assert stored.status is Status.FAILED
    assert stored.end_reason == "Broken"


def test_a_session_that_was_ended_inside_stays_as_it_is(client: Client) -> None:
    with client.session("s") as session:
        session.end(Status.FAILED, reason="no credit", result={"n": 1.0})
    with pytest.raises(Broken):
        with client.session("t") as session:
            session.end(Status.COMPLETED)
            raise Broken
    stored = client.sessions.get("s")
    assert (stored.status, stored.end_reason) == (Status.FAILED, "no credit")
    assert stored.end_result_json == '{"n":1.0}'
    assert (client.sessions.get("t")).status is Status.COMPLETED


def test_a_failing_end_never_hides_the_error_of_the_block(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "sojourn"), pytest.raises(Broken) as caught:
        with client.session("s"):
            client.sessions.delete("s")
            raise Broken
    [note] = caught.value.__notes__
    assert "SESSION_NOT_FOUND" in note
    assert "could not be ended" in caplog.text


def test_a_failing_end_is_raised_when_the_block_was_left_in_peace(
    client: Client,
) -> None:
    with pytest.raises(errors.SessionEndedError):
        with client.session("s"):
            client.sessions.end("s", status=Status.EXPIRED)


def test_a_session_that_cannot_be_created_has_no_block(client: Client) -> None:
    client.sessions.create("s")
    with pytest.raises(errors.SessionExistsError):
        with client.session("s"):
            raise AssertionError("never")


def test_attaching_gets_or_creates_and_never_ends(client: Client) -> None:
    first = client.attach("s", user="u", labels={"k": "v"})
    second = client.attach("s", user="u")
    assert first.uid == second.uid
    first.append("user", "hi")
    assert [message.content for message in second.messages()] == ["hi"]
    second.end()
    with pytest.raises(errors.SessionEndedError):
        client.attach("s", user="u")


def test_a_handle_does_all_that_can_be_done_to_a_session(client: Client) -> None:
    session = client.attach("s")
    assert session.app == client.app
    result = session.append(
        "user", "one", metadata={"n": 1.0}, message_id="m-1", event_time=5, payload=b"x"
    )
    assert result.message_ids == ("m-1",)
    assert session.info.message_count == 1
    session.append_many(
        [NewMessage("user", "two"), NewMessage("user", "three")],
        state={"x": 1},
        metrics=MetricsDelta(requests=1),
    )
    assert [message.content for message in session.messages()] == ["one", "two", "three"]
    assert [message.content for message in session.messages(last=1)] == ["three"]
    assert [message.content for message in session.pop()] == ["three"]
    assert (session.truncate(1)).messages_removed == 1
    assert (session.get_state()).values == {"x": 1}
    changed = session.update_state(StatePatch({"y": None}, expected_version=1))
    assert changed.state_version == 2
    assert (session.get_state()).values == {"x": 1, "y": None}
    session.update(labels={"k": "v"}, metadata={"m": 1}, idle_timeout=60)
    assert session.info.labels == {"k": "v"}
    assert (session.touch()).is_active
    full = session.refresh(last_messages=1)
    assert full.metadata == {"m": 1}
    assert full.messages[0].content == "one"
    assert (session.reset(reason="again")).session.generation == 2
    assert session.info.generation == 2
    assert "s" in repr(session)
    with pytest.raises(errors.EtagMismatchError):
        session.append("user", "late", precondition=Precondition(etag=full.etag))


def test_a_handle_never_touches_a_session_made_anew_under_its_id(
    client: Client,
) -> None:
    session = client.attach("s")
    client.sessions.delete("s")
    client.sessions.create("s")
    for call in (
        lambda: session.append("user", "late"),
        session.messages,
        session.pop,
        lambda: session.update(labels={"k": "v"}),
        session.touch,
        session.reset,
        session.end,
        session.refresh,
    ):
        with pytest.raises(errors.UidMismatchError):
            call()
    with pytest.raises(errors.UidMismatchError):
        with session.turn():
            raise AssertionError("never")


def test_a_turn_counts_ten_tasks_as_ten_requests(client: Client) -> None:
    with client.session("s") as session:
        for _ in range(10):
            with session.turn(holder="pod-1"):
                pass
    assert session.info.metrics.request_count == 10


def test_the_writes_of_a_turn_carry_its_token(client: Client) -> None:
    session = client.attach("s")
    with session.turn() as turn:
        turn.append("user", "by the turn")
        turn.append_many([NewMessage("user", "more")], state={"x": 1})
        session.append("assistant", "by the session")
        assert turn.info.number == 1
        assert not turn.lost
        assert "number=1" in repr(turn)
    with pytest.raises(errors.TurnSupersededError):
        turn.append("user", "late")
    assert len(session.messages()) == 3
    session.append("user", "without any turn")


def test_an_error_in_a_turn_is_counted_and_raised_again(client: Client) -> None:
    session = client.attach("s")
    with pytest.raises(Broken, match="no luck"):
        with session.turn():
            raise Broken("no luck")
    stored = session.refresh()
    assert (stored.metrics.request_count, stored.metrics.error_count) == (1, 1)
    assert stored.last_turn_error == "Broken: no luck"
    assert stored.is_active


def test_a_turn_can_be_marked_as_an_error_without_an_exception(client: Client) -> None:
    session = client.attach("s")
    with session.turn() as turn:
        turn.mark_error("the answer was empty")
    stored = session.refresh()
    assert stored.metrics.error_count == 1
    assert stored.last_turn_error == "the answer was empty"


def test_a_turn_is_renewed_in_the_background(client: Client) -> None:
    session = client.attach("s")
    with session.turn(lease=3) as turn:
        begun = turn.info
        while turn.info.lease_time == begun.lease_time:
            sync_sleep(0.02)
        assert not turn.lost
        assert turn.info.lease_time - begun.lease_time >= timedelta(seconds=0.9)
        turn.append("user", "still here")
    assert session.info.metrics.error_count == 0


def lose(client: Client, turn) -> None:
    """Take the turn over, and wait until its holder has noticed."""
    client.turns.begin("s", on_conflict=OnConflict.STEAL)
    limit = time.monotonic() + 10
    while not turn.lost and time.monotonic() < limit:
        sync_sleep(0.02)


def test_a_lost_turn_shows_it_and_its_writes_are_refused(client: Client) -> None:
    session = client.attach("s")
    with pytest.raises(errors.TurnSupersededError):
        with session.turn(lease=1) as turn:
            lose(client, turn)
            assert turn.lost
            for write in (
                lambda: turn.append("user", "late"),
                lambda: session.append("user", "late"),
                lambda: session.update(labels={"k": "v"}),
                session.pop,
            ):
                with pytest.raises(errors.TurnSupersededError):
                    write()
    assert session.messages() == []
    session.touch()


def test_a_lost_turn_does_not_hide_the_error_of_its_block(client: Client) -> None:
    session = client.attach("s")
    with pytest.raises(Broken) as caught:
        with session.turn(lease=1) as turn:
            lose(client, turn)
            raise Broken
    assert "lost" in caught.value.__notes__[0]


def test_a_stolen_turn_cannot_write_before_it_noticed_either(client: Client) -> None:
    session = client.attach("s")
    with pytest.raises(errors.TurnSupersededError):
        with session.turn(lease=60) as turn:
            client.turns.begin("s", on_conflict=OnConflict.STEAL)
            turn.append("user", "late")
    assert session.messages() == []


def test_a_turn_that_cannot_be_ended_does_not_hide_the_error_of_its_block(
    client: Client,
) -> None:
    session = client.attach("s")
    with pytest.raises(Broken) as caught:
        with session.turn():
            client.sessions.delete("s")
            raise Broken
    assert "SESSION_NOT_FOUND" in caught.value.__notes__[0]


def test_a_session_can_be_reset_or_ended_within_its_own_turn(client: Client) -> None:
    session = client.attach("s")
    with session.turn():
        session.append("user", "oops")
        session.reset()
    with session.turn():
        session.end()
    assert session.info.status is Status.COMPLETED


def test_turns_wait_in_line_when_told(client: Client) -> None:
    first, second = client.attach("s"), client.attach("s")
    with first.turn():
        with pytest.raises(errors.TurnConflictError):
            with second.turn(on_conflict=OnConflict.WAIT, wait_timeout=0.05):
                raise AssertionError("never")
    with second.turn(on_conflict=OnConflict.WAIT, wait_timeout=5) as turn:
        assert turn.info.number == 2


def test_a_child_of_a_turn_belongs_to_the_turn(client: Client) -> None:
    session = client.attach("parent", user="u")
    with session.turn(), session.child("sub", labels={"k": "v"}) as sub:
        assert sub.info.parent_uid == session.uid
        assert sub.info.ephemeral
        assert sub.info.owner_lease_time is None
        assert (sub.user, sub.session_id) == ("u", "sub")
        sub.append("user", "hi")
    assert (client.sessions.get(sub.ref)).status is Status.COMPLETED


def test_a_child_left_over_ends_with_the_turn(client: Client) -> None:
    session = client.attach("parent")
    with session.turn() as turn:
        child = client.sessions.create(parent=session.info, owner_turn_token=turn.token)
    stored = client.sessions.get(child)
    assert stored.status is Status.COMPLETED
    assert stored.end_cause is EndCause.OWNER_ENDED


def test_a_child_without_a_turn_has_a_lease_that_is_renewed(client: Client) -> None:
    session = client.attach("parent")
    with session.child(lease=3) as sub:
        begun = stored = sub.info
        assert begun.owner_lease_time is not None
        while stored.owner_lease_time == begun.owner_lease_time:
            sync_sleep(0.02)
            stored = client.sessions.get(sub.ref, view=View.BASIC)
        assert stored.is_active
    assert sub.info.status is Status.COMPLETED


def test_a_child_fails_with_its_block(client: Client) -> None:
    session = client.attach("parent")
    with pytest.raises(Broken):
        with session.child("sub"):
            raise Broken
    assert (client.sessions.get("sub")).end_reason == "Broken"
    assert (session.refresh()).is_active


def test_children_have_children(client: Client) -> None:
    with client.session("root") as root, root.child() as child, child.child() as grandchild:
        assert grandchild.info.parent_uid == child.uid


def test_a_tracked_function_is_a_turn(client: Client) -> None:
    @sojourn.tracked
    def answer(session: sojourn.SessionHandle, question: str) -> str:
        """Answer a question."""
        session.append("user", question)
        return question.upper()

    class Agent:
        @sojourn.tracked(holder="pod-1", on_conflict=OnConflict.STEAL)
        def fail(self, session: sojourn.SessionHandle) -> None:
            assert session.info.turn is not None
            assert session.info.turn.holder == "pod-1"
            raise Broken

    session = client.attach("s")
    assert answer(session, "why?") == "WHY?"
    assert answer.__doc__ == "Answer a question."
    with pytest.raises(Broken):
        Agent().fail(session=session)
    metrics = (session.refresh()).metrics
    assert (metrics.request_count, metrics.error_count) == (2, 1)
    with pytest.raises(errors.ArgumentTypeError):
        answer("s", "why?")  # type: ignore[arg-type]
