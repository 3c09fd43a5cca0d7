"""Whatever a server answers, only our own errors leave the client: each call, each code."""

from collections.abc import AsyncIterator

import grpc
import pytest

import sojourn
from sojourn import AsyncClient, NewMessage, NewSession, RetryOptions, errors
from sojourn._retry import REPEAT
from sojourn.v1 import error_reason_pb2
from tests.api.scripted import Failure, Script, reasoned

# Each RPC of the typed client, called through it.
CALLS = {
    "CreateSession": lambda client: client.sessions.create("s"),
    "BatchCreateSessions": lambda client: client.sessions.create_many([NewSession("s")]),
    "GetSession": lambda client: client.sessions.get("s"),
    "BatchGetSessions": lambda client: client.sessions.get_many(["s"]),
    "ListSessions": lambda client: client.sessions.list().to_list(),
    "UpdateSession": lambda client: client.sessions.update("s", labels={"k": "v"}),
    "TouchSession": lambda client: client.sessions.touch("s"),
    "EndSession": lambda client: client.sessions.end("s"),
    "ResetSession": lambda client: client.sessions.reset("s"),
    "DeleteSession": lambda client: client.sessions.delete("s"),
    "BeginTurn": lambda client: client.turns.begin("s"),
    "RenewTurn": lambda client: client.turns.renew("t"),
    "EndTurn": lambda client: client.turns.end("t"),
    "AppendMessages": lambda client: client.messages.append("s", NewMessage("user", "hi")),
    "ListMessages": lambda client: client.messages.list("s").to_list(),
    "GetMessage": lambda client: client.messages.get("s", "m"),
    "PopMessages": lambda client: client.messages.pop("s"),
    "TruncateMessages": lambda client: client.messages.truncate("s", 0),
    "GetState": lambda client: client.users.get_state("u"),
    "UpdateState": lambda client: client.apps.update_state({"k": 1}),
}
# What the typed client has no method for yet; the stubs have.
NOT_YET = {
    "AggregateSessions",
    "BackupStore",
    "DeleteApp",
    "DeleteApps",
    "DeleteSessions",
    "EndSessions",
    "EraseUser",
    "ExportSessions",
    "ForkSession",
    "GetApp",
    "GetServerInfo",
    "ImportSessions",
    "ListApps",
    "ListAuditEntries",
    "ReplaceMessages",
    "UpdateApp",
    "WatchSessions",
}
CODES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
PREFIX = "ERROR_REASON_"
REASONS = [
    name.removeprefix(PREFIX) for name, number in error_reason_pb2.ErrorReason.items() if number
]


@pytest.fixture
async def impatient(script: Script) -> AsyncIterator[AsyncClient]:
    """A client that tries once."""
    once = RetryOptions(max_attempts=1)
    async with sojourn.connect(script.target, app="a", retry=once, deadline=5) as client:
        yield client


def test_every_rpc_of_the_contract_is_called_or_named_as_missing() -> None:
    assert set(CALLS) | NOT_YET == set(REPEAT)
    assert not set(CALLS) & NOT_YET


@pytest.mark.parametrize("method", CALLS)
async def test_every_code_of_every_rpc_is_one_of_our_errors(
    script: Script, impatient: AsyncClient, method: str
) -> None:
    for code in CODES:
        script.always = Failure(code)
        with pytest.raises(errors.SojournError) as caught:
            await CALLS[method](impatient)
        error = caught.value
        assert type(error) is errors.error_class(code.name)
        assert error.code == code.name
        assert error.method == method
        assert error.message == "as the test wants it"
        assert isinstance(error.__cause__, grpc.RpcError)
    assert set(script.methods) == {method}


@pytest.mark.parametrize("reason", REASONS)
async def test_every_reason_is_the_error_of_its_name(
    script: Script, impatient: AsyncClient, reason: str
) -> None:
    expected = errors.error_class("UNKNOWN", reason)
    code = grpc.StatusCode[expected.code]
    script.always = reasoned(code, reason, metadata={"app": "x"})
    with pytest.raises(expected) as caught:
        await impatient.sessions.get("s")
    assert caught.value.reason == reason
    assert caught.value.metadata == {"app": "x"}
    assert caught.value.correlation_id == "c-1"


async def test_an_answer_that_is_no_message_is_our_error_too(
    script: Script, impatient: AsyncClient
) -> None:
    script.always = Garbage()  # type: ignore[assignment]
    with pytest.raises(errors.InternalError):
        await impatient.sessions.get("s")


class Garbage:
    def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf's name
        return b"\xff\xff\xff"


async def test_an_answer_that_covers_nothing_does_not_loop_for_ever(
    script: Script, impatient: AsyncClient
) -> None:
    with pytest.raises(errors.InternalError):
        await impatient.sessions.get_many(["s"])
    assert script.methods == ["BatchGetSessions"]


async def test_where_nobody_listens_the_server_is_unavailable() -> None:
    options = RetryOptions(max_attempts=2)
    async with sojourn.connect("127.0.0.1:1", app="a", retry=options) as client:
        with pytest.raises(errors.UnavailableError) as caught:
            await client.sessions.get("s")
    assert caught.value.reason == ""


async def test_a_target_that_means_nothing_is_one_of_our_errors() -> None:
    once = RetryOptions(max_attempts=1)
    target = "no-such-host.invalid:1"
    async with sojourn.connect(target, app="a", retry=once, deadline=5) as client:
        # How soon the name is known to be none depends on the machine's resolver.
        with pytest.raises((errors.UnavailableError, errors.DeadlineExceededError)):
            await client.sessions.get("s")
