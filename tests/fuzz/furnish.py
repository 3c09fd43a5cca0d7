"""What the requests can find in the server: an app, sessions, messages, tokens."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from google.protobuf.message import Message

from sojourn.v1 import (
    app_pb2,
    app_service_pb2,
    history_service_pb2,
    message_pb2,
    session_pb2,
    session_service_pb2,
    turn_service_pb2,
)
from sojourn_server.rpc.methods import Method, methods
from tests.fuzz.caller import APP, Caller

USER: Final = "u"
SESSION: Final = "s"
OTHERS: Final = ("s-1", "s-2", "s-3")
BY_NAME: Final = {method.name: method for method in methods()}


class Furniture(NamedTuple):
    """What is there."""

    uids: tuple[str, ...]
    etag: str
    turn_token: str
    session_page_token: str
    message_page_token: str
    resume_token: str


def ref(session_id: str = SESSION) -> session_pb2.SessionRef:
    return session_pb2.SessionRef(app=APP, user=USER, session_id=session_id)


def ask(caller: Caller, request: Any, answer: Any) -> Any:
    """Make a call that must succeed."""
    method: Method = BY_NAME[type(request).__name__.removesuffix("Request")]
    outcome = caller.call(method, request.SerializeToString())
    assert outcome.code == "OK", outcome
    answer.ParseFromString(outcome.answer)
    return answer


def furnish(caller: Caller) -> Furniture:
    """Make sure of the sessions, empty them, and give each a few messages."""
    _restore(caller)
    sessions, uids = session_service_pb2, []
    for name in (SESSION, *OTHERS):
        outcome = caller.call(
            BY_NAME["DeleteSession"],
            sessions.DeleteSessionRequest(session=ref(name), force=True).SerializeToString(),
        )
        assert outcome.reason in ("", "SESSION_NOT_FOUND"), outcome
        created = ask(
            caller,
            sessions.CreateSessionRequest(
                app=APP, session=sessions.NewSession(user=USER, session_id=name)
            ),
            sessions.CreateSessionResponse(),
        )
        uids.append(created.session.uid)
        messages = [message_pb2.NewMessage(role="user", content=str(each)) for each in range(5)]
        ask(
            caller,
            history_service_pb2.AppendMessagesRequest(session=ref(name), messages=messages),
            history_service_pb2.AppendMessagesResponse(),
        )
    listed = ask(
        caller,
        sessions.ListSessionsRequest(app=APP, page_size=1),
        sessions.ListSessionsResponse(),
    )
    history = ask(
        caller,
        history_service_pb2.ListMessagesRequest(session=ref(), page_size=1),
        history_service_pb2.ListMessagesResponse(),
    )
    turn = ask(
        caller,
        turn_service_pb2.BeginTurnRequest(session=ref()),
        turn_service_pb2.BeginTurnResponse(),
    )
    return Furniture(
        tuple(uids),
        turn.session.etag,
        turn.turn_token,
        listed.next_page_token,
        history.next_page_token,
        listed.resume_token,
    )


def _restore(caller: Caller) -> None:
    """Make sure of the app: it may have been deleted, be on its way there, or refuse much."""
    outcome = caller.call(
        BY_NAME["GetApp"], app_service_pb2.GetAppRequest(app=APP).SerializeToString()
    )
    assert outcome.reason in ("", "APP_NOT_FOUND"), outcome
    found = app_service_pb2.GetAppResponse.FromString(outcome.answer)
    if found.app.status == app_pb2.APP_STATUS_DRAINING:
        ask(
            caller,
            app_service_pb2.DeleteAppRequest(app=APP, mode=app_service_pb2.DELETE_MODE_FORCE),
            app_service_pb2.DeleteAppResponse(),
        )
    ask(
        caller,
        app_service_pb2.UpdateAppRequest(app=APP, allow_again=True, policy=app_pb2.Policy()),
        app_service_pb2.UpdateAppResponse(),
    )


def fill(message: Message, furniture: Furniture) -> None:
    """Give a request, or a part of one, the least that makes it valid.

    What the rules say of several fields together cannot be seen from one, so it is said
    here, by the names of fields and messages.
    """
    names = {field.name for field in message.DESCRIPTOR.fields}
    values: dict[str, Any] = {
        "app": APP,
        "turn_token": furniture.turn_token,
        "role": "user",
        "count": 1,
    }
    match message.DESCRIPTOR.name:
        case "SessionRef":
            values |= {"user": USER, "session_id": SESSION}
        case "LabelSelector":
            values |= {"key": "k", "values": ["v"]}
        case "Ephemeral" | "Precondition":
            del values["turn_token"]
        case "EraseUserRequest" | "ListAuditEntriesRequest":
            values["user"] = USER
        case "GetMessageRequest":
            values["sequence"] = 1
    for name in names & values.keys():
        field = message.DESCRIPTOR.fields_by_name[name]
        if field.message_type is not None:
            continue
        if field.is_repeated:
            getattr(message, name).extend(values[name])
        else:
            setattr(message, name, values[name])
    made: Any = message
    if message.DESCRIPTOR.name == "Ephemeral":
        made.lease.seconds = 10
    if message.DESCRIPTOR.name == "BeginTurnRequest":
        made.wait_timeout.nanos = 10_000_000
