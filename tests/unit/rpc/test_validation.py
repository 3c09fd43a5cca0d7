"""The protos' rules: one request per class of rule, and what its refusal says."""

from __future__ import annotations

from collections.abc import Callable

import protovalidate
import pytest
from google.protobuf.message import Message
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sojourn.v1 import history_service_pb2 as history
from sojourn.v1 import message_pb2, session_pb2
from sojourn.v1 import session_service_pb2 as sessions
from sojourn.v1 import turn_service_pb2 as turns
from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.rpc.server import request_types, warm_rules
from sojourn_server.rpc.validation import is_plain_get

RULES = warm_rules()
VALIDATOR = protovalidate.Validator()
REF = session_pb2.SessionRef(app="a", user="u", session_id="s")
UID = "01a1f881-f3d3-7ac5-ab98-422976f8335e"


def append(*messages: message_pb2.NewMessage, **fields: object) -> history.AppendMessagesRequest:
    return history.AppendMessagesRequest(session=REF, messages=messages, **fields)  # type: ignore[arg-type]


def message(**fields: object) -> message_pb2.NewMessage:
    return message_pb2.NewMessage(**{"role": "user", **fields})  # type: ignore[arg-type]


def create(**fields: object) -> sessions.CreateSessionRequest:
    return sessions.CreateSessionRequest(app="a", session=sessions.NewSession(**fields))  # type: ignore[arg-type]


def listing(**fields: object) -> sessions.ListSessionsRequest:
    return sessions.ListSessionsRequest(app="a", **fields)  # type: ignore[arg-type]


def filtered(**fields: object) -> sessions.ListSessionsRequest:
    return listing(filter=session_pb2.SessionFilter(**fields))  # type: ignore[arg-type]


GOOD: list[Message] = [
    sessions.GetSessionRequest(session=REF),
    sessions.GetSessionRequest(session=session_pb2.SessionRef(app="a", uid=UID)),
    create(user="user-456-device-789", session_id="auth0|12"),
    create(session_id="a@b.c", labels={"team.name/x-1": "Zürich, 2. Stock"}),
    create(session_id="две недели", metadata={"a": "1"}),
    append(message(content="")),
    append(message(content="x" * 1_048_576)),
    append(message(payload=b"\0\xff")),
    append(request_id="!" * 128),
    filtered(statuses=[1, 2, 3, 4]),
]


@pytest.mark.parametrize("request_", GOOD, ids=range(len(GOOD)))
def test_what_keeps_the_rules_passes(request_: Message):
    RULES.check(request_)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        pytest.param(sessions.GetSessionRequest(), "session", id="required"),
        pytest.param(
            sessions.GetSessionRequest(session=session_pb2.SessionRef(app="a")),
            "session",
            id="cel-of-a-message",
        ),
        pytest.param(
            sessions.GetSessionRequest(session=session_pb2.SessionRef(app="a", uid="x")),
            "session.uid",
            id="uuid",
        ),
        pytest.param(create(session_id=" x"), "session.session_id", id="leading-blank"),
        pytest.param(create(session_id="x "), "session.session_id", id="trailing-blank"),
        pytest.param(create(session_id="a\nb"), "session.session_id", id="control-character"),
        pytest.param(create(session_id="a\0b"), "session.session_id", id="nul"),
        pytest.param(create(session_id="a\u200bb"), "session.session_id", id="format-character"),
        pytest.param(create(session_id="x" * 257), "session.session_id", id="max-len"),
        pytest.param(sessions.ListSessionsRequest(), "app", id="min-len"),
        pytest.param(
            sessions.GetSessionRequest(session=REF, view=9),  # type: ignore[arg-type]
            "view",
            id="unknown-enum",
        ),
        pytest.param(
            sessions.EndSessionRequest(session=REF, status=session_pb2.SESSION_STATUS_ACTIVE),
            "status",
            id="enum-not-in",
        ),
        pytest.param(listing(page_size=-1), "page_size", id="negative"),
        pytest.param(
            sessions.GetSessionRequest(session=REF, last_messages=1_001), "last_messages", id="lte"
        ),
        pytest.param(create(labels={"": "x"}), 'session.labels[""]', id="map-key-empty"),
        pytest.param(create(labels={"a b": "x"}), 'session.labels["a b"]', id="map-key-pattern"),
        pytest.param(create(labels={"a": ""}), 'session.labels["a"]', id="map-value-empty"),
        pytest.param(
            create(labels={f"k{number}": "v" for number in range(65)}),
            "session.labels",
            id="max-pairs",
        ),
        pytest.param(
            append(*[message()] * 1_001),
            "messages",
            id="max-items",
        ),
        pytest.param(append(message(role="")), "messages[0].role", id="item-of-a-list"),
        pytest.param(append(request_id="a b"), "request_id", id="request-id-pattern"),
        pytest.param(filtered(statuses=[0]), "filter.statuses[0]", id="enum-in-a-list"),
        pytest.param(
            filtered(labels=[{"key": "a", "operator": 3, "values": ["x"]}]),
            "filter.labels[0]",
            id="cel-of-an-item",
        ),
        pytest.param(filtered(error_rate_above=1.5), "filter.error_rate_above", id="double"),
        pytest.param(filtered(error_rate_above=float("nan")), "filter.error_rate_above", id="nan"),
        pytest.param(filtered(older_than={"seconds": -1}), "filter.older_than", id="duration"),
        pytest.param(
            append(message(event_time={"seconds": -9_214_560_001})),
            "messages[0].event_time",
            id="timestamp",
        ),
        pytest.param(history.GetMessageRequest(session=REF), "message", id="oneof-required"),
        pytest.param(
            turns.BeginTurnRequest(session=REF, lease={"seconds": 0}),  # type: ignore[arg-type]
            "lease",
            id="duration-gte",
        ),
    ],
)
def test_what_breaks_a_rule_is_refused_by_its_field(request_: Message, field: str):
    with pytest.raises(Refusal) as caught:
        RULES.check(request_)
    refusal = caught.value
    assert refusal.reason is Reason.INVALID_FIELD
    assert refusal.metadata == {"field": field}
    assert refusal.violations[0].field == field
    assert refusal.violations[0].description


@pytest.mark.parametrize(
    ("request_", "field", "limit"),
    [
        (append(message(content="é" * 600_000)), "messages[0].content", 1_048_576),
        (append(message(payload=b"x" * 1_048_577)), "messages[0].payload", 1_048_576),
        (append(message(metadata={"k": "1" * 65_537})), 'messages[0].metadata["k"]', 65_536),
        (sessions.EndSessionRequest(session=REF, reason="x" * 4_097), "reason", 4_096),
    ],
)
def test_content_over_its_limit_is_too_large(request_: Message, field: str, limit: int):
    with pytest.raises(Refusal) as caught:
        RULES.check(request_)
    assert caught.value.reason is Reason.CONTENT_TOO_LARGE
    assert caught.value.metadata == {"field": field, "limit_bytes": str(limit)}


def test_all_that_is_wrong_is_told_at_once():
    request = create(session_id=" x", parent_uid="x", labels={"a": ""})
    request.app = ""
    with pytest.raises(Refusal) as caught:
        RULES.check(request)
    fields = {violation.field for violation in caught.value.violations}
    assert fields == {"app", "session.session_id", "session.parent_uid", 'session.labels["a"]'}


def test_a_wrong_field_beats_a_size():
    with pytest.raises(Refusal) as caught:
        RULES.check(append(message(role="", content="x" * 1_048_577)))
    assert caught.value.reason is Reason.INVALID_FIELD
    assert caught.value.metadata == {"field": "messages[0].role"}


def test_no_refusal_quotes_a_value():
    request = append(message(role=" secret-role", metadata={"k": "secret-text" * 10_000}))
    with pytest.raises(Refusal) as caught:
        RULES.check(request)
    refusal = caught.value
    assert "secret" not in f"{refusal} {refusal.metadata} {refusal.violations}"


def test_every_request_type_has_rules_that_compile():
    kinds = request_types()
    assert len(kinds) > 15
    for kind in kinds:
        VALIDATOR.collect_violations(kind())


def test_a_nul_in_content_is_refused_by_its_place():
    RULES.check(append(message(content="fine")))
    with pytest.raises(Refusal) as caught:
        RULES.check(append(*[message()] * 3, message(content="a\0b")))
    assert caught.value.metadata == {"field": "messages[3].content"}


# Characters around which the short cut could be wrong: blanks, controls, non-ASCII.
_CHARACTERS = st.sampled_from("ab-_.|@ ~!\t\n\0\x1f\x7f\x80\xa0é\u200b\u2028中")
_IDS = st.text(_CHARACTERS, max_size=6) | st.sampled_from(["x" * 128, "x" * 129, "x" * 257])


@settings(max_examples=500)
@given(
    app=_IDS,
    user=_IDS,
    session_id=_IDS,
    uid=st.sampled_from(["", "", "x", UID]),
    view=st.integers(-1, 5),
    last_messages=st.none() | st.integers(-1, 1_002),
    has_session=st.sampled_from([True, True, True, False]),
)
@example("a", "", "s", "", 0, None, True)
def test_the_short_cut_lets_nothing_pass_that_breaks_a_rule(
    app: str,
    user: str,
    session_id: str,
    uid: str,
    view: int,
    last_messages: int | None,
    has_session: bool,
):
    request = sessions.GetSessionRequest(view=view, last_messages=last_messages)  # type: ignore[arg-type]
    if has_session:
        ref = request.session
        ref.app, ref.user, ref.session_id, ref.uid = app, user, session_id, uid
    if is_plain_get(request):
        assert VALIDATOR.collect_violations(request) == []


def test_the_short_cut_is_taken_for_plain_ids():
    assert is_plain_get(sessions.GetSessionRequest(session=REF, last_messages=20))


def test_the_short_cut_knows_every_field_of_the_request():
    # A new field needs a look at the short cut.
    names: Callable[[type[Message]], list[str]] = lambda kind: list(kind.DESCRIPTOR.fields_by_name)  # noqa: E731
    assert names(sessions.GetSessionRequest) == [
        "session",
        "view",
        "last_messages",
        "roll_up",
    ]
    assert names(session_pb2.SessionRef) == ["app", "user", "session_id", "uid"]
