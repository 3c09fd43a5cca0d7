"""SIGTERM under load: what was accepted is answered, what is refused has not happened."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from pathlib import Path

import grpc
import grpc.aio

from sojourn.v1 import history_service_pb2 as history_pb
from sojourn.v1 import history_service_pb2_grpc as history_grpc
from sojourn.v1 import message_pb2
from sojourn.v1 import session_service_pb2 as pb
from sojourn.v1 import session_service_pb2_grpc as stubs
from sojourn.v1 import turn_service_pb2 as turn_pb
from sojourn.v1 import turn_service_pb2_grpc as turn_grpc
from tests.faults.harness import APP, ServerProcess, channel_to, ref, stored_session_ids
from tests.unit.rpc.wire import failure_of

WORKERS = 32


class Load:
    """Creates sessions until the server is gone, and remembers what it was told."""

    def __init__(self) -> None:
        self.created: set[str] = set()
        self.refused: set[str] = set()
        self.cut: Counter[str] = Counter()
        """Calls that ended in any other way, by code and text."""

    async def run(self, channel: grpc.aio.Channel) -> None:
        await asyncio.gather(*(self._work(channel, number) for number in range(WORKERS)))

    async def _work(self, channel: grpc.aio.Channel, number: int) -> None:
        sessions = stubs.SessionServiceStub(channel)
        for count in range(100_000):
            name = f"{number}-{count}"
            new = pb.NewSession(user="u", session_id=name)
            try:
                await sessions.CreateSession(pb.CreateSessionRequest(app=APP, session=new))
            except grpc.aio.AioRpcError as error:
                if not self._note(name, error):
                    return
            else:
                self.created.add(name)

    def _note(self, name: str, error: grpc.aio.AioRpcError) -> bool:
        """Say whether to go on."""
        if any(key == "grpc-status-details-bin" for key, _ in error.trailing_metadata()):
            failure = failure_of(error)
            if (failure.code, failure.reason) == ("UNAVAILABLE", "DRAINING"):
                self.refused.add(name)
                return True
        elif error.code() is grpc.StatusCode.UNAVAILABLE and "connect" in (error.details() or ""):
            return False
        self.cut[f"{error.code().name}: {error.details()}"] += 1
        return False


async def test_sigterm_under_load_fails_no_call_that_was_accepted(tmp_path: Path) -> None:
    load = Load()
    with ServerProcess(tmp_path) as server:
        assert server.process is not None
        async with channel_to(server.target) as channel:
            task = asyncio.create_task(load.run(channel))
            await asyncio.sleep(1.0)
            before = len(load.created)
            server.process.send_signal(signal.SIGTERM)
            code = await asyncio.to_thread(server.process.wait, 30)
            await task
        assert code == 0, server.log()
        assert before > WORKERS
        assert not load.cut, server.log()
        server.start()
        async with channel_to(server.target) as channel:
            stored = set(await stored_session_ids(channel))
    assert load.created == stored
    assert not load.refused & stored


async def test_sigterm_lets_a_turn_finish_its_work(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server:
        assert server.process is not None
        async with channel_to(server.target) as channel:
            turns = turn_grpc.TurnServiceStub(channel)
            begun = await turns.BeginTurn(
                turn_pb.BeginTurnRequest(session=ref("s"), create_if_missing=True)
            )
            server.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.3)
            request = history_pb.AppendMessagesRequest(
                session=ref("s"), messages=[message_pb2.NewMessage(role="user", content="late")]
            )
            request.precondition.turn_token = begun.turn_token
            await history_grpc.HistoryServiceStub(channel).AppendMessages(request)
            await turns.EndTurn(turn_pb.EndTurnRequest(app=APP, turn_token=begun.turn_token))
            assert await asyncio.to_thread(server.process.wait, 30) == 0


async def test_a_second_signal_waits_for_no_turn(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, "--drain-timeout", "1h") as server:
        assert server.process is not None
        async with channel_to(server.target) as channel:
            await turn_grpc.TurnServiceStub(channel).BeginTurn(
                turn_pb.BeginTurnRequest(session=ref("s"), create_if_missing=True)
            )
            server.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.5)
            assert server.process.poll() is None
            begin = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(server.process.wait, 30) == 1
            assert time.monotonic() - begin < 5
