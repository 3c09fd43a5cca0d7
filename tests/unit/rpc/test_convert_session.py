"""Sessions as views show them: every field, and none too many."""

from __future__ import annotations

from sojourn.v1 import session_pb2
from sojourn_server.domain.clock import SECOND
from sojourn_server.domain.commands import View
from sojourn_server.domain.model import EndCause, EndNote, Lineage, Metrics, Owner, Session, Status
from sojourn_server.domain.tokens import etag
from sojourn_server.rpc import convert_session as convert
from sojourn_server.rpc.times import instant, length
from sojourn_server.service.answers import (
    ScopeDocument,
    SessionContent,
    SessionSnapshot,
    StateVersions,
)
from tests.unit.domain.values import START, a_session, a_turn

NOW = START + 100 * SECOND
CONTENT = SessionContent(
    metadata={"m": "1"},
    session_state=ScopeDocument(values={"k": "1"}, version=1),
    user_state=ScopeDocument(values={"k": "2"}, version=2),
    app_state=ScopeDocument(values={"k": "3"}, version=3),
    end_note=EndNote(reason="why", result='"what"'),
    turn_error="broke",
    reset_reason="again",
)


def everything(**fields: object) -> Session:
    values: dict[str, object] = {
        "labels": {"team": "x"},
        "idle_timeout": 3_600 * SECOND,
        "max_lifetime": 7_200 * SECOND,
        "generation": 2,
        "version": 3,
        "parent_uid": "018bcfe5-6800-7000-8000-000000000002",
        "owner": Owner(lease=SECOND, lease_time=NOW + SECOND),
        "metrics": Metrics(requests=4, errors=1, processing_time=5, counters={"tokens": 6}),
        "message_count": 7,
        "message_bytes": 8,
        "last_sequence": 9,
        "last_event_time": 10,
        "turn": a_turn(),
        "state_version": 11,
        "reset_time": 13,
        "forked_from": Lineage(uid="f", through_sequence=12),
    }
    return a_session(**{**values, **fields})


def shown(
    session: Session, view: View, content: SessionContent | None = None
) -> session_pb2.Session:
    target = session_pb2.Session()
    convert.fill_snapshot(target, SessionSnapshot(session=session, content=content), NOW, view)
    return target


def names_in(message: session_pb2.Session) -> set[str]:
    return {field.name for field, _ in message.ListFields()}


def test_full_shows_every_field_of_the_contract():
    live = shown(everything(), View.FULL, CONTENT)
    ended = shown(
        everything(
            status=Status.FAILED, end_time=NOW, end_cause=EndCause.REQUEST, owner=None, turn=None
        ),
        View.FULL,
        CONTENT,
    )
    assert names_in(live) | names_in(ended) == set(session_pb2.Session.DESCRIPTOR.fields_by_name)


def test_basic_shows_all_but_content():
    content = {
        "metadata",
        "state",
        "end_reason",
        "end_result",
        "last_turn_error",
        "last_reset_reason",
    }
    full, basic = shown(everything(), View.FULL, CONTENT), shown(everything(), View.BASIC)
    assert names_in(full) - names_in(basic) == content
    assert names_in(basic) <= names_in(full)


def test_ids_shows_key_and_uid():
    assert names_in(shown(everything(), View.IDS)) == {"key", "uid"}


def test_the_values_shown_are_the_session_s():
    session = everything()
    message = shown(session, View.FULL, CONTENT)
    assert (message.key.app, message.key.user, message.key.session_id) == ("support", "ann", "s-1")
    assert message.status == session_pb2.SESSION_STATUS_ACTIVE
    assert dict(message.labels) == {"team": "x"}
    assert instant("f", message.create_time) == session.create_time
    assert length("f", message.idle_timeout) == session.idle_timeout
    assert (message.generation, message.message_count, message.message_bytes) == (2, 7, 8)
    assert (message.last_sequence, message.state_version) == (9, 11)
    assert instant("f", message.last_event_time) == 10
    assert (message.metrics.request_count, message.metrics.error_count) == (4, 1)
    assert dict(message.metrics.counters) == {"tokens": 6}
    assert (message.turn.number, message.turn.holder) == (1, "pod-1")
    assert message.ephemeral
    assert instant("f", message.owner_lease_time) == NOW + SECOND
    assert (message.forked_from.uid, message.forked_from.through_sequence) == ("f", 12)
    assert dict(message.metadata) == {"m": "1"}
    states = message.state
    assert [dict(each.values) for each in (states.session, states.user, states.app)] == [
        {"k": "1"},
        {"k": "2"},
        {"k": "3"},
    ]
    assert (message.end_reason, message.end_result) == ("why", '"what"')
    assert (message.last_turn_error, message.last_reset_reason) == ("broke", "again")
    assert instant("f", message.last_reset_time) == 13


def test_a_live_turn_leaves_the_lifetime_as_the_only_deadline():
    message = shown(everything(), View.BASIC)
    assert message.expire_cause == session_pb2.EXPIRE_CAUSE_LIFETIME
    assert instant("f", message.expire_time) == START + 7_200 * SECOND
    assert length("f", message.time_left) == 7_100 * SECOND


def test_an_idle_session_says_when_it_will_be_over():
    message = shown(a_session(idle_timeout=150 * SECOND), View.BASIC)
    assert message.expire_cause == session_pb2.EXPIRE_CAUSE_IDLE
    assert length("f", message.time_left) == 50 * SECOND


def test_the_time_left_is_never_negative():
    message = shown(a_session(idle_timeout=SECOND), View.BASIC)
    assert message.HasField("time_left")
    assert length("f", message.time_left) == 0


def test_a_session_that_never_expires_shows_no_deadline():
    message = shown(a_session(), View.BASIC)
    assert not names_in(message) & {"expire_time", "expire_cause", "time_left"}


def test_an_ended_session_shows_its_end_and_no_deadline():
    session = a_session(
        idle_timeout=SECOND, status=Status.EXPIRED, end_time=NOW, end_cause=EndCause.IDLE
    )
    message = shown(session, View.BASIC)
    assert message.end_cause == session_pb2.END_CAUSE_IDLE
    assert instant("f", message.end_time) == NOW
    assert not message.HasField("expire_time")


def test_an_ephemeral_session_of_a_turn_has_no_lease_of_its_own():
    message = shown(a_session(owner=Owner(turn_number=1)), View.BASIC)
    assert message.ephemeral
    assert not message.HasField("owner_lease_time")


def test_the_etag_moves_with_the_version_alone():
    first = shown(a_session(), View.BASIC).etag
    assert shown(a_session(activity_time=NOW), View.BASIC).etag == first
    assert shown(a_session(version=2), View.BASIC).etag != first


def test_state_versions_name_the_scopes_that_were_patched():
    scopes = session_pb2.StateScopes()
    convert.fill_versions(scopes, StateVersions(user=0, app=4))
    assert not scopes.HasField("session")
    assert scopes.HasField("user")
    assert scopes.app.version == 4


def test_a_session_that_is_kept_encoded_reads_as_one_that_is_not():
    encoder = convert.SessionEncoder(most=2)
    sessions = [everything(), everything(turn=None, version=8), a_session(idle_timeout=0)]
    ended = everything(status=Status.COMPLETED, turn=None, end_cause=EndCause.REQUEST, end_time=9)
    for now in (NOW, NOW + SECOND, NOW + 10_000 * SECOND):
        for session in [*sessions, ended, *sessions]:
            target, expected = session_pb2.Session(), session_pb2.Session()
            encoder.fill(target, session, now)
            convert.fill_session(expected, session, now)
            assert target == expected


def test_no_session_is_taken_for_another_that_had_its_place_in_memory():
    encoder = convert.SessionEncoder(most=4)
    for number in range(200):
        target = session_pb2.Session()
        encoder.fill(target, everything(version=number), NOW)
        assert target.etag == etag(everything().uid, number)
