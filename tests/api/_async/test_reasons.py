"""What the server itself refuses arrives as the error of its name."""

from typing import Any

import pytest

import sojourn
from sojourn import AsyncClient, NewMessage, errors, testing
from sojourn._acompat import RpcError, read_status
from sojourn._status import to_error
from sojourn.v1 import history_service_pb2, message_pb2, session_pb2, session_service_pb2


async def send(client: AsyncClient, stub: Any, request: Any) -> Any:
    """Send a request that the typed client would refuse to build."""
    return await client._services.caller.call(stub, request)


async def test_the_server_names_the_field_that_breaks_its_rule(
    client: AsyncClient, app: str
) -> None:
    request = session_service_pb2.ListSessionsRequest(app=app, page_size=-1)
    with pytest.raises(errors.InvalidFieldError) as caught:
        await send(client, client.stubs.sessions.ListSessions, request)
    assert caught.value.metadata == {"field": "page_size"}
    assert caught.value.field_violations[0].field == "page_size"
    assert caught.value.correlation_id


@pytest.mark.parametrize("labels", [{"": "v"}, {"k": ""}, {"bad key": "v"}])
async def test_the_server_refuses_bad_labels_too(
    client: AsyncClient, app: str, labels: dict[str, str]
) -> None:
    new = session_service_pb2.NewSession(labels=labels)
    request = session_service_pb2.CreateSessionRequest(app=app, session=new)
    with pytest.raises(errors.InvalidFieldError) as caught:
        await send(client, client.stubs.sessions.CreateSession, request)
    assert "labels" in caught.value.field_violations[0].field


@pytest.mark.parametrize("text", ["", "{", "nul", "01", "1 2", "NaN", "'a'"])
async def test_the_server_refuses_a_state_that_is_not_json(client: AsyncClient, text: str) -> None:
    await client.sessions.create("s")
    ref = session_pb2.SessionRef(app=client.app, session_id="s")
    patches = session_pb2.StatePatches(session=session_pb2.StatePatch(set={"x": text}))
    request = session_service_pb2.UpdateSessionRequest(session=ref, state=patches)
    with pytest.raises(errors.InvalidFieldError):
        await send(client, client.stubs.sessions.UpdateSession, request)


@pytest.mark.parametrize("text", ["1.00", " [1, 2] ", '"\\u00e4"', "1e3", "-0.0"])
async def test_a_raw_json_text_is_kept_letter_by_letter(client: AsyncClient, text: str) -> None:
    await client.sessions.create("s", state={"x": sojourn.RawJson(text)})
    assert (await client.sessions.get("s")).state_json == {"x": text}


async def test_bytes_that_are_no_request_are_malformed(client: AsyncClient) -> None:
    assert client.stubs.sessions is not None
    channel: Any = client._channel
    method = channel._channels[-1].unary_unary("/sojourn.v1.SessionService/GetSession")
    with pytest.raises(RpcError) as caught:
        await channel.invoke(method, b"\xff\xff\xff", timeout=5, metadata=())
    error = to_error(read_status(caught.value), method="GetSession")
    assert type(error) is errors.MalformedRequestError


async def test_the_server_refuses_content_that_is_too_large(client: AsyncClient) -> None:
    await client.sessions.create("s")
    request = history_service_pb2.AppendMessagesRequest(
        session=session_pb2.SessionRef(app=client.app, session_id="s"),
        messages=[message_pb2.NewMessage(role="user", content="a" * (1024 * 1024 + 1))],
    )
    with pytest.raises(errors.ContentTooLargeError) as caught:
        await send(client, client.stubs.history.AppendMessages, request)
    assert caught.value.metadata["limit_bytes"] == "1048576"


async def test_limits_that_the_server_lowered_count(app: str) -> None:
    settings = {"max_message_bytes": 1000, "max_state_bytes": 1000, "max_request_bytes": 5000}
    async with testing.serve(**settings) as server, server.client(app=app) as client:
        await client.sessions.create("s")
        with pytest.raises(errors.ContentTooLargeError) as caught:
            await client.messages.append("s", NewMessage("user", "a" * 1001))
        assert caught.value.metadata["limit_bytes"] == "1000"
        with pytest.raises(errors.ContentTooLargeError):
            await client.sessions.update("s", state={"x": "a" * 1001})
        with pytest.raises(errors.RequestTooLargeError) as large:
            await client.messages.append("s", [NewMessage("user", "a" * 900)] * 6)
        assert large.value.metadata == {"limit_bytes": "5000"}
        assert (await client.sessions.get("s")).message_count == 0


async def test_state_may_not_grow_beyond_its_scope_s_limit(client: AsyncClient) -> None:
    await client.sessions.create("s", state={"a": "a" * 200_000})
    with pytest.raises(errors.ContentTooLargeError):
        await client.sessions.update("s", state={"b": "b" * 100_000})


async def test_counters_do_not_overflow(client: AsyncClient) -> None:
    await client.sessions.create("s")
    most = sojourn.MetricsDelta(counters={"n": 2**63 - 1})
    await client.sessions.update("s", metrics=most)
    with pytest.raises(errors.InvalidArgumentError):
        await client.sessions.update("s", metrics=most)


async def test_a_message_id_is_not_found_once_it_was_removed(client: AsyncClient) -> None:
    await client.sessions.create("s")
    await client.messages.append("s", NewMessage("user", "a", message_id="m-1"))
    await client.messages.pop("s")
    with pytest.raises(errors.MessageNotFoundError) as caught:
        await client.messages.get("s", "m-1")
    assert caught.value.metadata == {"message_id": "m-1"}
    again = await client.messages.append("s", NewMessage("user", "b", message_id="m-1"))
    assert again.sequences == (2,)


async def test_an_unknown_parent_is_named(client: AsyncClient) -> None:
    nobody = "01890a5d-ac96-774b-bcce-b302099a8057"
    with pytest.raises(errors.ParentEndedError) as caught:
        await client.sessions.create("s", parent=nobody)
    assert caught.value.metadata == {"parent_uid": nobody}


async def test_the_checks_come_in_the_contract_s_order(client: AsyncClient) -> None:
    old = await client.sessions.create("s")
    turn = await client.turns.begin("s")
    await client.turns.end(turn.turn_token)
    await client.messages.append("s", NewMessage("user", "a"))
    all_wrong = sojourn.Precondition(
        etag=old.etag, generation=9, turn_token=turn.turn_token, last_sequence=9
    )
    steps = [
        (all_wrong, errors.GenerationChangedError),
        (sojourn.Precondition(old.etag, 1, turn.turn_token, 9), errors.TurnSupersededError),
        (sojourn.Precondition(old.etag, 1, "", 9), errors.EtagMismatchError),
        (sojourn.Precondition("", 1, "", 9), errors.SequenceMismatchError),
    ]
    for precondition, expected in steps:
        with pytest.raises(expected):
            await client.messages.append("s", NewMessage("user", "b"), precondition=precondition)
    await client.sessions.end("s")
    with pytest.raises(errors.SessionEndedError):
        await client.messages.append("s", NewMessage("user", "b"), precondition=all_wrong)
