# Generated from tests/api/_async/test_turns.py by `make gen`. Edit the source, never this file.
"""Turns and their tokens, and the state that sessions share."""

from datetime import timedelta

import pytest

from sojourn import (
    Client,
    NewMessage,
    OnConflict,
    Outcome,
    Precondition,
    StatePatch,
    View,
    errors,
)


def test_a_turn_is_counted_and_timed(client: Client) -> None:
    client.sessions.create("s")
    begun = client.turns.begin("s", holder="pod-1", lease=5)
    assert (begun.turn.number, begun.turn.holder) == (1, "pod-1")
    assert begun.turn.lease_time - begun.turn.begin_time == timedelta(seconds=5)
    assert begun.session.turn == begun.turn
    assert not begun.created
    ended = client.turns.end(begun.turn_token)
    assert ended.elapsed > timedelta(0)
    assert ended.session.turn is None
    assert ended.session.metrics.request_count == 1
    assert ended.session.metrics.error_count == 0
    assert abs(ended.session.metrics.processing_time - ended.elapsed) < timedelta(milliseconds=1)


def test_an_error_is_counted_and_kept(client: Client) -> None:
    client.sessions.create("s")
    begun = client.turns.begin("s")
    client.turns.end(begun.turn_token, outcome=Outcome.ERROR, error="the model was away")
    session = client.sessions.get("s")
    assert (session.metrics.request_count, session.metrics.error_count) == (1, 1)
    assert session.last_turn_error == "the model was away"


def test_a_live_turn_is_not_taken_over_unless_told(client: Client) -> None:
    client.sessions.create("s")
    first = client.turns.begin("s", holder="pod-1", lease=30)
    with pytest.raises(errors.TurnConflictError) as caught:
        client.turns.begin("s", holder="pod-2")
    assert caught.value.metadata["holder"] == "pod-1"
    assert caught.value.retry_after is not None
    assert timedelta(seconds=20) < caught.value.retry_after <= timedelta(seconds=30)
    second = client.turns.begin("s", on_conflict=OnConflict.STEAL)
    assert second.turn.number == 2
    fenced = Precondition(turn_token=first.turn_token)
    with pytest.raises(errors.TurnSupersededError) as superseded:
        client.messages.append("s", NewMessage("user", "late"), precondition=fenced)
    assert superseded.value.metadata == {"turn": "1", "live_turn": "2"}
    with pytest.raises(errors.TurnSupersededError):
        client.turns.renew(first.turn_token)
    with pytest.raises(errors.TurnSupersededError):
        client.turns.end(first.turn_token)


def test_waiting_in_vain_is_a_conflict(client: Client) -> None:
    client.sessions.create("s")
    client.turns.begin("s")
    with pytest.raises(errors.TurnConflictError):
        client.turns.begin("s", on_conflict=OnConflict.WAIT, wait_timeout=0.05)


def test_waiting_may_take_longer_than_the_deadline_of_a_call(client: Client) -> None:
    hasty = client.with_options(deadline=0.2)
    client.sessions.create("s")
    client.turns.begin("s", lease=1)
    begun = hasty.turns.begin("s", on_conflict=OnConflict.WAIT, wait_timeout=5)
    assert begun.turn.number == 2


def test_a_renewal_moves_the_lease_and_takes_no_revision(client: Client) -> None:
    client.sessions.create("s")
    begun = client.turns.begin("s", lease=5)
    turn = client.turns.renew(begun.turn_token, lease=60)
    assert turn.lease_time > begun.turn.lease_time + timedelta(seconds=30)
    assert (client.sessions.get("s", view=View.BASIC)).revision == begun.revision


def test_a_turn_can_create_the_session(client: Client) -> None:
    begun = client.turns.begin("new", create_if_missing=True)
    assert begun.created
    with pytest.raises(errors.SessionNotFoundError):
        client.turns.begin("other")


def test_a_token_that_was_changed_or_is_of_another_app_is_refused(client: Client, app: str) -> None:
    client.sessions.create("s")
    token = (client.turns.begin("s")).turn_token
    flipped = ("A" if token[0] != "A" else "B") + token[1:]
    with pytest.raises(errors.TurnTokenInvalidError):
        client.turns.renew(flipped)
    with pytest.raises(errors.TurnTokenInvalidError):
        client.turns.end(token, app=f"{app}-2")


def test_a_turn_of_a_deleted_session_is_not_found(client: Client) -> None:
    client.sessions.create("s")
    token = (client.turns.begin("s")).turn_token
    client.sessions.delete("s")
    with pytest.raises(errors.SessionNotFoundError):
        client.turns.renew(token)


def test_an_abandoned_turn_ends_as_an_error(client: Client) -> None:
    client.sessions.create("s")
    client.turns.begin("s", lease=1)
    while True:
        session = client.sessions.get("s", view=View.BASIC)
        if session.turn is None:
            break
    assert session.metrics.error_count == 1


def test_users_and_apps_have_state_without_any_session(client: Client) -> None:
    assert (client.users.get_state("ann")).version == 0
    assert (client.apps.get_state()).values == {}
    result = client.users.update_state("ann", {"theme": "dark", "n": 1.0})
    assert (result.version, result.changed) == (1, True)
    client.apps.update_state({"flag": None})
    state = client.users.get_state("ann")
    assert state.values == {"theme": "dark", "n": 1.0}
    assert state.values.json["n"] == "1.0"
    assert (client.apps.get_state()).values == {"flag": None}
    assert (client.users.get_state("bob")).values == {}
    assert (client.users.get_state("")).values == {}


def test_shared_state_is_patched_under_a_version(client: Client) -> None:
    client.users.update_state("ann", StatePatch({"x": 1}, expected_version=0))
    assert not (client.users.update_state("ann", {"x": 1})).changed
    with pytest.raises(errors.StateVersionMismatchError) as caught:
        client.users.update_state("ann", StatePatch({"x": 2}, expected_version=0))
    assert caught.value.metadata == {"scope": "user", "version": "1"}
    with pytest.raises(errors.StateVersionMismatchError):
        client.apps.update_state(StatePatch({"x": 2}, expected_version=7))
    client.users.update_state("ann", StatePatch(remove=["x"]))
    assert (client.users.get_state("ann")).values == {}


def test_sessions_see_the_state_they_share(client: Client) -> None:
    client.users.update_state("ann", {"theme": "dark"})
    client.sessions.create("s", user="ann")
    session = client.sessions.get("s", user="ann")
    assert session.user_state.values == {"theme": "dark"}
    client.sessions.delete("s", user="ann")
    assert (client.users.get_state("ann")).values == {"theme": "dark"}
