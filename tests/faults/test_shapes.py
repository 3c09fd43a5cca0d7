"""Two callers at once, the same call twice, the huge and the empty."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio

from sojourn import testing
from sojourn.v1 import (
    history_service_pb2,
    history_service_pb2_grpc,
    message_pb2,
    session_pb2,
    session_service_pb2,
    session_service_pb2_grpc,
)
from sojourn_server.rpc.methods import methods
from sojourn_server.rpc.server import TRANSPORT_BYTES
from tests.faults.harness import APP, reason_of, ref, stored_messages

MIB = 1 << 20
TIMES = 20


@contextlib.asynccontextmanager
async def two_clients() -> AsyncIterator[tuple[grpc.aio.Channel, grpc.aio.Channel]]:
    async with testing.serve(sqlite_synchronous="OFF") as server:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
        async with (
            grpc.aio.insecure_channel(server.target, options) as one,
            grpc.aio.insecure_channel(server.target, options) as two,
        ):
            yield one, two


def create_request(session_id: str, request_id: str = "") -> Any:
    return session_service_pb2.CreateSessionRequest(
        app=APP,
        session=session_service_pb2.NewSession(user="u", session_id=session_id),
        request_id=request_id,
    )


def append_request(session_id: str, text: str, request_id: str = "") -> Any:
    return history_service_pb2.AppendMessagesRequest(
        session=ref(session_id),
        messages=[message_pb2.NewMessage(role="user", content=text)],
        request_id=request_id,
    )


async def outcome(call: Any) -> str:
    """The reason of a call's refusal, or OK."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return reason_of(error) or error.code().name
    return "OK"


async def test_of_two_clients_that_create_the_same_session_one_wins() -> None:
    async with two_clients() as channels:
        stubs = [session_service_pb2_grpc.SessionServiceStub(each) for each in channels]
        for number in range(TIMES):
            calls = (stub.CreateSession(create_request(f"s-{number}")) for stub in stubs)
            found = Counter(await asyncio.gather(*(outcome(call) for call in calls)))
            assert found == {"OK": 1, "SESSION_EXISTS": 1}


async def test_the_same_call_twice_at_once_happens_once() -> None:
    async with two_clients() as channels:
        sessions = session_service_pb2_grpc.SessionServiceStub(channels[0])
        stubs = [history_service_pb2_grpc.HistoryServiceStub(each) for each in channels]
        await sessions.CreateSession(create_request("s"))
        for number in range(TIMES):
            request = append_request("s", f"text {number}", f"r-{number}")
            one, two = await asyncio.gather(*(stub.AppendMessages(request) for stub in stubs))
            assert one.revision == two.revision
            assert list(one.sequences) == list(two.sequences)
        texts = await stored_messages(channels[0], "s")
        assert texts == [f"text {number}" for number in range(TIMES)]


async def test_two_clients_that_expect_the_same_last_sequence_take_turns() -> None:
    async with two_clients() as channels:
        sessions = session_service_pb2_grpc.SessionServiceStub(channels[0])
        stubs = [history_service_pb2_grpc.HistoryServiceStub(each) for each in channels]
        await sessions.CreateSession(create_request("s"))
        for number in range(TIMES):
            request = append_request("s", "text")
            request.precondition.CopyFrom(session_pb2.Precondition(last_sequence=number))
            found = await asyncio.gather(*(outcome(stub.AppendMessages(request)) for stub in stubs))
            assert Counter(found) == {"OK": 1, "SEQUENCE_MISMATCH": 1}


async def test_the_huge_is_refused_by_size_and_the_largest_is_kept_whole() -> None:
    async with two_clients() as (channel, _):
        history = history_service_pb2_grpc.HistoryServiceStub(channel)
        sessions = session_service_pb2_grpc.SessionServiceStub(channel)
        await sessions.CreateSession(create_request("s"))
        largest = "x" * MIB
        assert await outcome(history.AppendMessages(append_request("s", largest))) == "OK"
        over = append_request("s", largest + "x")
        assert await outcome(history.AppendMessages(over)) == "CONTENT_TOO_LARGE"
        many = append_request("s", largest)
        many.messages.extend([many.messages[0]] * 3)
        assert many.ByteSize() > 4 * MIB
        assert await outcome(history.AppendMessages(many)) == "REQUEST_TOO_LARGE"
        del many.messages[3:]
        assert await outcome(history.AppendMessages(many)) == "OK"
        many.messages.extend([many.messages[0]] * 6)
        assert many.ByteSize() > TRANSPORT_BYTES
        # Beyond the transport's own limit grpc answers, without a reason of ours.
        assert await outcome(history.AppendMessages(many)) == "RESOURCE_EXHAUSTED"
        assert await stored_messages(channel, "s") == [largest] * 4


async def test_the_empty_request_of_every_method_is_answered() -> None:
    async with two_clients() as (channel, _):
        for method in methods():
            if method.requests_stream or method.responses_stream:
                continue
            call: Any = channel.unary_unary(method.path)
            found = await outcome(call(b"", timeout=20))
            # A list of apps asks for nothing that it must be told.
            asks = method.request.DESCRIPTOR.fields and method.name != "ListApps"
            assert found == ("INVALID_FIELD" if asks else "OK"), method.name
