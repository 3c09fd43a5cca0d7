"""Watches over gRPC: drains, stuck readers, cancelled calls, and who may see what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from grpc_status import rpc_status

import sojourn
from sojourn import ApiKey, AsyncClient
from sojourn.v1 import session_pb2
from sojourn.v1 import session_service_pb2 as pb
from sojourn.v1 import session_service_pb2_grpc as stubs
from sojourn_server.access import keys
from sojourn_server.access.keys import KeyFile
from sojourn_server.app import RunningServer, start
from sojourn_server.domain.access import Grant, Role
from sojourn_server.domain.errors import Reason
from sojourn_server.feed import hub
from sojourn_server.rpc import streams
from sojourn_server.settings import Settings
from tests.api.stores import settings_of
from tests.faults import counts
from tests.store.backends import BACKENDS
from tests.unit.rpc.wire import Failure, failure_of

APP = "a"
CANCELS = counts.count("watch_cancels")
SMALL_WINDOW = [("grpc.http2.bdp_probe", 0)]
"""What a reader that reads nothing lets the server send is 64 KiB, and does not grow."""


@asynccontextmanager
async def running(folder: Path, **settings: Any) -> AsyncIterator[RunningServer]:
    """A server in this event loop, with a file of its own unless told otherwise."""
    own = {"listen": "127.0.0.1:0", "store": f"sqlite:///{folder / 'sojourn.db'}"}
    server = await start(Settings(**(own | settings)))
    try:
        yield server
    finally:
        await server.stop(1.0)


@pytest.fixture(params=BACKENDS)
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RunningServer]:
    with settings_of(request.param) as settings:
        async with running(tmp_path, **settings) as made:
            yield made


@pytest.fixture
async def client(server: RunningServer) -> AsyncIterator[AsyncClient]:
    async with sojourn.connect(server.target, app=APP) as made:
        yield made


@pytest.fixture
async def channel(server: RunningServer) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(server.target) as made:
        yield made


class Call:
    """One stream, and what came on it."""

    def __init__(self, channel: grpc.aio.Channel, key: str = "", **request: Any) -> None:
        stub = stubs.SessionServiceStub(channel)
        metadata = (("authorization", f"Bearer {key}"),) if key else ()
        self._call: Any = stub.WatchSessions(
            pb.WatchSessionsRequest(**{"app": APP, **request}), metadata=metadata
        )
        self.messages: list[pb.WatchSessionsResponse] = []

    async def read(self) -> pb.WatchSessionsResponse:
        """The next message."""
        async with asyncio.timeout(20):
            message: pb.WatchSessionsResponse = await self._call.read()
        self.messages.append(message)
        return message

    async def changes(self, count: int) -> None:
        """Wait for so many changes."""
        while sum(len(message.changes) for message in self.messages) < count:
            await self.read()

    async def error(self) -> grpc.aio.AioRpcError:
        """How it ends; what still comes is read."""
        try:
            for _ in range(10_000):
                await self.read()
        except grpc.aio.AioRpcError as error:
            return error
        raise AssertionError("it does not end")

    async def failure(self) -> Failure:
        """The same, as a caller reads it."""
        return failure_of(await self.error())

    def cancel(self) -> None:
        """Go away."""
        self._call.cancel()


async def none_left(name: str, but: int = 0) -> None:
    """Wait until tasks of this name are over."""
    async with asyncio.timeout(10):
        while True:
            ours = [task for task in asyncio.all_tasks() if task.get_name() == name]
            if len(ours) <= but:
                return
            await asyncio.wait(ours, timeout=0.05)


async def streams_are(server: RunningServer, count: int) -> None:
    """Wait until so many streams are left."""
    for _ in range(200):
        if server._hub.streams == count:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{server._hub.streams} streams are left")


def retry_of(error: grpc.aio.AioRpcError) -> int:
    """How long to wait before another try, in seconds; -1: it does not say."""
    status = rpc_status.from_call(error)
    for detail in status.details if status is not None else ():
        info = RetryInfo()
        if detail.Unpack(info):
            return int(info.retry_delay.seconds)
    return -1


@pytest.mark.guarantee("W10", "W15")
async def test_a_drain_ends_each_stream_with_a_token(
    server: RunningServer, client: AsyncClient, channel: grpc.aio.Channel
) -> None:
    calls = [
        Call(channel),
        Call(channel, user="nobody"),
        Call(channel, send_initial_state=True),
    ]
    for call in calls:
        await call.read()
    await client.sessions.create("s")
    await calls[0].changes(1)
    await client.close()
    stopping = asyncio.create_task(server.stop())
    for call in calls:
        error = await call.error()
        failure = failure_of(error)
        assert (failure.code, failure.reason) == ("UNAVAILABLE", Reason.DRAINING)
        assert retry_of(error) > 0
        last = call.messages[-1]
        assert (bool(last.resume_token), len(last.changes), last.revision) == (True, 0, 1)
    await stopping


@pytest.mark.guarantee("W14")
async def test_a_reader_that_takes_nothing_is_told_and_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    defaults = hub.Hub.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "patience", 0.3)
    monkeypatch.setitem(defaults, "poll", 0.05)
    async with (
        running(tmp_path) as server,
        sojourn.connect(server.target, app=APP) as client,
        grpc.aio.insecure_channel(server.target) as channel,
        grpc.aio.insecure_channel(server.target, options=SMALL_WINDOW) as narrow,
    ):
        stuck, quick = Call(narrow, include_previous=True), Call(channel)
        await stuck.read()
        await quick.read()
        await client.sessions.create("s")
        labels = {f"k{number}": "x" * 200 for number in range(60)}
        # More than the windows of HTTP/2 hold.
        for number in range(150):
            await client.sessions.update("s", labels={**labels, "n": str(number)})
        await quick.changes(151)
        # It is let go before it takes anything: only the other one is left.
        await streams_are(server, 1)
        failure = await stuck.failure()
        assert (failure.code, failure.reason) == ("RESOURCE_EXHAUSTED", Reason.SLOW_CONSUMER)
        assert sum(len(message.changes) for message in stuck.messages) < 151
        quick.cancel()


async def test_refusals_have_their_reasons_on_the_wire(channel: grpc.aio.Channel) -> None:
    idle = session_pb2.SessionFilter()
    idle.idle_longer_than.FromSeconds(1)
    failure = await Call(channel, filter=idle).failure()
    assert (failure.code, failure.reason) == ("INVALID_ARGUMENT", Reason.FILTER_NOT_WATCHABLE)
    failure = await Call(channel, resume_after_token="x").failure()
    assert (failure.code, failure.reason) == ("INVALID_ARGUMENT", Reason.RESUME_TOKEN_INVALID)
    failure = await Call(channel, app="").failure()
    assert (failure.code, failure.reason) == ("INVALID_ARGUMENT", Reason.INVALID_FIELD)


async def test_an_unknown_app_is_refused_where_the_server_takes_none(tmp_path: Path) -> None:
    async with (
        running(tmp_path, unknown_apps=False) as server,
        grpc.aio.insecure_channel(server.target) as channel,
    ):
        failure = await Call(channel).failure()
        assert (failure.code, failure.reason) == ("NOT_FOUND", Reason.APP_NOT_FOUND)


@pytest.mark.guarantee("W16")
async def test_who_may_watch_what_and_until_when(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "RECHECK", 0.05)
    ring, now = tmp_path / "keys", keys.utc_now()
    of_ann, ann = keys.make("ann", (Grant(Role.READ, APP, "ann"),), None, now)
    of_all, everybody = keys.make("all", (Grant(Role.WRITE, APP),), None, now)
    keys.write_file(ring, KeyFile(keys=(ann, everybody)))
    async with (
        running(tmp_path, keys_file=ring) as server,
        grpc.aio.insecure_channel(server.target) as channel,
    ):

        def watch(key: str, **request: Any) -> Call:
            return Call(channel, key=key, **request)

        for refused, reason in (
            (watch(""), Reason.CREDENTIAL_MISSING),
            (watch(of_ann), Reason.GRANT_MISSING),
            (watch(of_ann, user="bob"), Reason.APP_NOT_FOUND),
            (watch(of_ann, app="other", user="ann"), Reason.APP_NOT_FOUND),
        ):
            assert (await refused.failure()).reason == reason
        own = watch(of_ann, user="ann", include_app_changes=True, include_content=True)
        whole = watch(of_all, include_app_changes=True)
        await own.read()
        await whole.read()
        async with sojourn.connect(server.target, app=APP, credentials=ApiKey(of_all)) as client:
            await client.sessions.create("bob-s", user="bob")
            await client.sessions.create("ann-s", user="ann", app_state={"secret": "1"})
        # The app's coming, its state, and both sessions, against: coming and own session.
        await whole.changes(4)
        await own.changes(2)
        shown = [change for message in own.messages for change in message.changes]
        (session,) = [change.session for change in shown if change.HasField("session")]
        assert session.session.key.user == "ann"
        assert not session.session.state.app.values
        assert {change.app.user for change in shown if change.HasField("app")} <= {""}
        # A token of what it may not see is no token of what it may.
        token = whole.messages[-1].resume_token
        stolen = watch(of_ann, user="ann", resume_after_token=token)
        assert (await stolen.failure()).reason == Reason.RESUME_TOKEN_INVALID
        keys.write_file(ring, KeyFile(keys=(everybody,)))
        assert (await own.failure()).reason == Reason.CREDENTIAL_INVALID
        whole.cancel()


@pytest.mark.guarantee("W2")
@pytest.mark.timeout(counts.patience("watch_cancels", 0.5))
async def test_cancelled_streams_leave_no_task_behind(
    client: AsyncClient, channel: grpc.aio.Channel
) -> None:
    await client.sessions.create("s")
    keep = Call(channel)
    await keep.read()

    for number in range(CANCELS):
        call = Call(channel, send_initial_state=number % 2 == 0)
        if number % 3:
            await call.read()
        await asyncio.sleep(number % 60 * 0.0002)
        call.cancel()
    await client.sessions.update("s", labels={"a": "b"})
    await keep.changes(1)
    await none_left("watch", but=1)
    counts.report("watches cancelled", CANCELS, "no task is left but the one that goes on")
    keep.cancel()
