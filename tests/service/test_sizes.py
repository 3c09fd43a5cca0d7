"""What pages are cut by: sizes that are never less than what goes over the wire."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from sojourn.v1 import history_service_pb2, message_pb2, session_pb2, session_service_pb2
from sojourn_server.domain import documents
from sojourn_server.domain.commands import SessionRef, View
from sojourn_server.domain.model import (
    EndCause,
    EndNote,
    Lineage,
    Message,
    MessageBody,
    Metrics,
    Owner,
    Session,
    Status,
    Turn,
)
from sojourn_server.rpc.convert_message import fill_message
from sojourn_server.rpc.convert_session import fill_ref, fill_snapshot, fill_state
from sojourn_server.service.answers import (
    MessageSnapshot,
    ScopeDocument,
    SessionContent,
    SessionSnapshot,
)
from sojourn_server.service.reading import message_size, scope_size, session_size

MOST = 2**63 - 1
UID = "018bcfe5-6800-7000-8000-000000000001"
instants = st.sampled_from([-9_000_000_000_999_999_999, 1, 9_000_000_000_999_999_999])
lengths = st.sampled_from([0, 1, 9_000_000_000_999_999_999])
numbers = st.sampled_from([0, 1, MOST])
counters = st.sampled_from([0, -1, MOST, -MOST])
characters = st.sampled_from(["a", "é", "€", "\U0001f600", '"'])


def texts(most: int) -> st.SearchStrategy[str]:
    return st.builds(lambda letter, count: letter * count, characters, st.integers(0, most))


def keys(most: int) -> st.SearchStrategy[str]:
    return st.builds(lambda number, text: f"{number}{text}", st.integers(0, 99), texts(most - 2))


def a_document(most: int) -> st.SearchStrategy[dict[str, str]]:
    return st.dictionaries(keys(256), texts(most), max_size=6) | st.just(
        {f"{number:02}": "1" for number in range(64)}
    )


sessions = st.builds(
    Session,
    uid=st.just(UID),
    app=texts(128),
    user=texts(256),
    session_id=texts(256),
    status=st.sampled_from(Status),
    labels=st.dictionaries(keys(63), texts(256), max_size=6)
    | st.just({f"{number:02}": "1" for number in range(64)}),
    create_time=instants,
    update_time=instants,
    activity_time=instants,
    end_time=instants,
    idle_timeout=lengths,
    max_lifetime=lengths,
    generation=numbers,
    version=numbers,
    parent_uid=st.sampled_from(["", UID]),
    owner=st.none() | st.builds(Owner, lease=lengths, lease_time=instants),
    metrics=st.builds(
        Metrics,
        requests=numbers,
        errors=numbers,
        processing_time=lengths,
        counters=st.dictionaries(keys(63), counters, max_size=6)
        | st.just({f"{number:02}": -MOST for number in range(64)}),
    ),
    message_count=numbers,
    message_bytes=numbers,
    last_sequence=numbers,
    last_event_time=st.none() | instants,
    turn=st.none()
    | st.builds(
        Turn,
        number=numbers,
        holder=texts(256),
        begin_time=instants,
        lease_time=instants,
        lease=lengths,
    ),
    end_cause=st.none() | st.sampled_from(EndCause),
    state_version=numbers,
    forked_from=st.none() | st.builds(Lineage, uid=st.just(UID), through_sequence=numbers),
    reset_time=instants,
)
scopes = st.builds(ScopeDocument, values=a_document(300), version=numbers)
contents = st.builds(
    SessionContent,
    metadata=a_document(300),
    session_state=scopes,
    user_state=scopes,
    app_state=scopes,
    end_note=st.builds(EndNote, reason=texts(4_000), result=texts(40_000)),
    turn_error=texts(4_000),
    reset_reason=texts(4_000),
)


@given(sessions, contents, st.sampled_from(View), instants)
@settings(max_examples=200, deadline=None)
def test_a_session_is_never_larger_than_counted(
    session: Session, content: SessionContent, view: View, now: int
) -> None:
    shot = SessionSnapshot(session=session, content=content if view is View.FULL else None)
    answer = session_service_pb2.ListSessionsResponse()
    fill_snapshot(answer.sessions.add(), shot, now, view)
    assert answer.ByteSize() <= session_size(shot, view)


@given(texts(256), contents)
@settings(max_examples=100, deadline=None)
def test_shared_state_is_never_larger_than_counted(user: str, content: SessionContent) -> None:
    answer = session_service_pb2.ListSessionsResponse()
    fill_state(answer.app_state, content.app_state)
    fill_state(answer.user_states[user], content.user_state)
    counted = scope_size(content.app_state) + scope_size(content.user_state) + 4 * len(user)
    assert answer.ByteSize() <= counted


bodies = st.builds(
    MessageBody,
    content=st.none() | texts(40_000),
    payload=st.binary(max_size=300),
    metadata=a_document(300),
)


@given(bodies, texts(256), texts(64), st.none() | instants, numbers)
@settings(max_examples=200, deadline=None)
def test_a_message_is_never_larger_than_counted(
    body: MessageBody, message_id: str, role: str, event_time: int | None, sequence: int
) -> None:
    size = len((body.content or "").encode()) + len(body.payload) + documents.size(body.metadata)
    shot = MessageSnapshot(
        message=Message(
            message_id=message_id,
            sequence=sequence,
            role=role,
            content_type="x" * 128,
            event_time=event_time,
            create_time=-9_000_000_000_999_999_999,
            size=size,
            body=1,
        ),
        body=body,
    )
    answer = history_service_pb2.ListMessagesResponse()
    fill_message(answer.messages.add(), shot)
    assert answer.ByteSize() <= message_size(shot)


def test_what_is_not_found_is_counted_as_well() -> None:
    ref = SessionRef(app="é" * 128, user="\U0001f600" * 256, session_id="€" * 256, uid=UID)
    answer = session_service_pb2.BatchGetSessionsResponse()
    fill_ref(answer.not_found.add(), ref)
    named = sum(len(text.encode()) for text in (ref.app, ref.user, ref.session_id))
    assert answer.ByteSize() <= 64 + named
    assert session_pb2.Session.DESCRIPTOR.file.package == message_pb2.DESCRIPTOR.package
