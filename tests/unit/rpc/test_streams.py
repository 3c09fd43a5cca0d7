"""Methods whose answer is a stream: opened like any call, and cut when they must be."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from sojourn.v1 import session_service_pb2 as pb
from sojourn_server.access import keys
from sojourn_server.access.files import WatchedFile
from sojourn_server.access.gate import REFRESH, Gate
from sojourn_server.access.keys import KeyFile
from sojourn_server.domain.access import Grant, Role
from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.domain.tokens import Sealer
from sojourn_server.rpc.callers import Callers
from sojourn_server.rpc.methods import methods
from sojourn_server.rpc.pipeline import Pipeline, Router, Send
from sojourn_server.rpc.streams import RECHECK
from sojourn_server.service.answers import Call
from tests.unit.rpc.wire import RULES, AKey, failure_of

WATCH = "/sojourn.v1.SessionService/WatchSessions"
REQUEST = pb.WatchSessionsRequest(app="a")


class Streaming:
    """A server whose WatchSessions sends what the test says."""

    def __init__(self, gate: Gate | None = None) -> None:
        self.pipeline = Pipeline(
            rules=RULES, sealer=Sealer([AKey()]), request_bytes=4_000, callers=Callers(gate)
        )
        self.calls: list[Call] = []
        self.closed = asyncio.Event()
        self.error: Exception | None = None
        self.messages = 1
        self.channel: Any = None

    async def use(self, _: Any, call: Call, send: Send) -> None:
        self.calls.append(call)
        try:
            for number in range(1, self.messages + 1):
                message = pb.WatchSessionsResponse(revision=number).SerializeToString()
                await asyncio.shield(asyncio.ensure_future(send(message)))
            if self.error is not None:
                raise self.error
            await asyncio.sleep(60)
        finally:
            self.closed.set()

    def open(self, request: pb.WatchSessionsRequest = REQUEST, key: str = "") -> Any:
        metadata = (("authorization", f"Bearer {key}"),) if key else ()
        multi = self.channel.unary_stream(
            WATCH, response_deserializer=pb.WatchSessionsResponse.FromString
        )
        return multi(request.SerializeToString(), timeout=20, metadata=metadata)


@contextlib.asynccontextmanager
async def streaming(gate: Gate | None = None) -> AsyncIterator[Streaming]:
    found = Streaming(gate)
    method = next(each for each in methods() if each.path == WATCH)
    handler = found.pipeline.handler(method, found.use)
    server = grpc.aio.server(handlers=[Router({WATCH: handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            found.channel = channel
            yield found
    finally:
        await server.stop(None)


async def ending(stream: Any) -> Any:
    """How a stream failed, once it has given all it had."""
    try:
        while await stream.read() is not grpc.aio.EOF:
            pass
    except grpc.aio.AioRpcError as error:
        return failure_of(error)
    raise AssertionError("the stream ended well")


class Keyring:
    """A gate with a file of one key, for the reader of app "a"."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "keys"
        self.key, self.entry = keys.make("r", (Grant(Role.READ, "a"),), None, keys.utc_now())
        self.write(self.entry)
        self.gate = Gate(keys=WatchedFile(self.path, "keys_file", keys.parse))

    def write(self, *entries: keys.Key) -> None:
        keys.write_file(self.path, KeyFile(keys=entries))


async def test_a_stream_sends_until_its_use_case_returns_or_the_caller_leaves():
    async with streaming() as server:
        server.messages = 3
        stream = server.open()
        assert [(await stream.read()).revision for _ in range(3)] == [1, 2, 3]
        assert len(server.pipeline.streams) == 1
        assert server.pipeline.running == 0  # a drain does not wait for it as for a call
        stream.cancel()
        async with asyncio.timeout(10):
            await server.closed.wait()
            # The pipeline forgets it in the same step of the loop in which its use case ends.
            await asyncio.sleep(0)
        assert len(server.pipeline.streams) == 0


async def test_a_refusal_after_some_messages_ends_the_stream_with_its_reason():
    async with streaming() as server:
        server.error = Refusal(Reason.SLOW_CONSUMER, "too slow")
        stream = server.open()
        assert (await stream.read()).revision == 1
        failure = await ending(stream)
        assert (failure.code, failure.reason) == ("RESOURCE_EXHAUSTED", "SLOW_CONSUMER")


async def test_a_fault_tells_its_text_to_nobody():
    async with streaming() as server:
        server.error = RuntimeError("secret")
        failure = await ending(server.open())
        assert (failure.code, failure.reason) == ("INTERNAL", "INTERNAL")
        assert "secret" not in failure.text


async def test_a_stream_is_opened_like_any_call(tmp_path: Path):
    ring = Keyring(tmp_path)
    async with streaming(ring.gate) as server:
        assert (await ending(server.open())).reason == "CREDENTIAL_MISSING"
        assert (await ending(server.open(key="sj_1_2"))).reason == "CREDENTIAL_INVALID"
        other = pb.WatchSessionsRequest(app="b")
        assert (await ending(server.open(other, ring.key))).reason == "APP_NOT_FOUND"
        bad = pb.WatchSessionsRequest(app="")
        assert (await ending(server.open(bad, ring.key))).reason == "INVALID_FIELD"
        assert server.calls == []
        stream = server.open(key=ring.key)
        assert (await stream.read()).revision == 1
        assert [(call.principal, call.actor) for call in server.calls] == [("key:r", "key:r")]
        server.pipeline.draining = True
        assert (await ending(server.open(key=ring.key))).reason == "DRAINING"


async def test_a_stream_ends_when_its_credential_does(tmp_path: Path):
    ring = Keyring(tmp_path)
    async with streaming(ring.gate) as server:
        stream = server.open(key=ring.key)
        await stream.read()
        await server.pipeline.streams.recheck()
        assert len(server.pipeline.streams) == 1
        file, _ = keys.revoke(KeyFile(keys=(ring.entry,)), [ring.entry.id], keys.utc_now())
        ring.write(*file.keys)
        ring.gate.refresh()
        await server.pipeline.streams.recheck()
        assert (await ending(stream)).reason == "CREDENTIAL_INVALID"
        assert server.closed.is_set()


@pytest.mark.parametrize("left", ["nothing", "another app", "one user"])
async def test_a_stream_ends_when_its_grants_cover_it_no_longer(tmp_path: Path, left: str):
    ring = Keyring(tmp_path)
    async with streaming(ring.gate) as server:
        stream = server.open(key=ring.key)
        await stream.read()
        grants = {
            "nothing": (),
            "another app": (Grant(Role.READ, "b"),),
            "one user": (Grant(Role.READ, "a", "ann"),),
        }[left]
        entry = keys.Key(
            id=ring.entry.id,
            name=ring.entry.name,
            hash=ring.entry.hash,
            create_time=ring.entry.create_time,
            grants=grants,
        )
        ring.write(entry)
        ring.gate.refresh()
        await server.pipeline.streams.recheck()
        expected = "APP_NOT_FOUND" if left == "another app" else "GRANT_MISSING"
        assert (await ending(stream)).reason == expected


async def test_streams_are_asked_about_again_while_the_server_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("sojourn_server.rpc.streams.RECHECK", 0.01)
    ring = Keyring(tmp_path)
    async with streaming(ring.gate) as server:
        running = asyncio.create_task(server.pipeline.streams.run())
        stream = server.open(key=ring.key)
        await stream.read()
        ring.write()
        ring.gate.refresh()
        assert (await ending(stream)).reason == "CREDENTIAL_INVALID"
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def test_a_revocation_ends_streams_within_ten_seconds():
    """What is promised, by the two pauses that it takes at most."""
    assert REFRESH + RECHECK <= 8
