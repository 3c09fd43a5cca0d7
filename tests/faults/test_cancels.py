"""Thousands of calls broken off by their callers leave nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration

from sojourn.v1 import (
    history_service_pb2,
    history_service_pb2_grpc,
    message_pb2,
    session_pb2,
    session_service_pb2,
    session_service_pb2_grpc,
    turn_service_pb2,
    turn_service_pb2_grpc,
)
from tests.faults import counts
from tests.faults.checker import logged_revisions, until
from tests.faults.harness import APP, ServerProcess, channel_to, reason_of, ref

CANCELS = counts.count("cancels")
CHANNELS = 8
AT_ONCE = 100
SESSIONS = 20
PAUSES = (0.0, 0.005, 0.05, 0.3)
SHED = "CANCELLED"
"""How grpc's core turns calls away before any handler sees them, when too many wait."""
FINE = {"SESSION_NOT_FOUND", "SESSION_EXISTS", "TURN_CONFLICT"}

Call = Callable[[], Awaitable[Any]]


def calls_on(channel: grpc.aio.Channel, chance: random.Random) -> list[Call]:
    """Some calls of every kind: reads, writes, those that wait, those that scrub."""
    sessions = session_service_pb2_grpc.SessionServiceStub(channel)
    history = history_service_pb2_grpc.HistoryServiceStub(channel)
    turns = turn_service_pb2_grpc.TurnServiceStub(channel)

    def which() -> session_pb2.SessionRef:
        return ref(f"s-{chance.randrange(SESSIONS)}")

    text = message_pb2.NewMessage(role="user", content="x" * 1_000)
    return [
        lambda: sessions.CreateSession(
            session_service_pb2.CreateSessionRequest(
                app=APP, session=session_service_pb2.NewSession(user="u")
            )
        ),
        lambda: sessions.GetSession(
            session_service_pb2.GetSessionRequest(session=which(), last_messages=20)
        ),
        lambda: sessions.ListSessions(
            session_service_pb2.ListSessionsRequest(app=APP, page_size=100)
        ),
        lambda: sessions.ResetSession(session_service_pb2.ResetSessionRequest(session=which())),
        lambda: history.AppendMessages(
            history_service_pb2.AppendMessagesRequest(session=which(), messages=[text])
        ),
        lambda: history.ListMessages(history_service_pb2.ListMessagesRequest(session=which())),
        lambda: turns.BeginTurn(
            turn_service_pb2.BeginTurnRequest(
                session=which(),
                lease=Duration(seconds=1),
                on_conflict=turn_service_pb2.ON_CONFLICT_WAIT,
                wait_timeout=Duration(seconds=60),
            )
        ),
    ]


@pytest.mark.timeout(counts.patience("cancels", 0.1))
async def test_cancelled_calls_leave_no_task_file_or_connection(tmp_path: Path) -> None:
    chance = random.Random()
    outcomes: Counter[str] = Counter()
    with ServerProcess(tmp_path, module="tests.faults.watched_server") as server:
        await _prepare(server)
        await until(lambda: _at_rest(server), "the server is at rest")
        baseline = await _gauges(server)
        async with contextlib.AsyncExitStack() as stack:
            kinds: list[Call] = []
            for _ in range(CHANNELS):
                # Channels of their own, not one connection that all of them share.
                options = [("grpc.use_local_subchannel_pool", 1)]
                channel = grpc.aio.insecure_channel(server.target, options=options)
                await stack.enter_async_context(channel)
                kinds += calls_on(channel, chance)
            limit = asyncio.Semaphore(AT_ONCE)
            await asyncio.gather(
                *(_break_off(chance.choice(kinds), limit, chance, outcomes) for _ in range(CANCELS))
            )
            during = await _gauges(server)
        assert during["sockets"] >= baseline["sockets"] + CHANNELS, "the storm came in by others"

        # Calls that nobody awaits any more hold their channels until they are collected.
        gc.collect()
        found = baseline

        async def back() -> bool:
            nonlocal found
            found = await _gauges(server)
            return found == baseline

        await until(back, lambda: f"back to {baseline}; now {found}")
        await _prepare(server)
        assert server.terminate() == 0, server.log()
        assert server.integrity() == "ok"
    revisions = logged_revisions(server)
    assert revisions == list(range(1, len(revisions) + 1))
    assert set(outcomes) <= {"cancelled", "answered", SHED, *FINE}, outcomes
    counts.report(
        "cancelled calls",
        outcomes["cancelled"],
        f"of {CANCELS:,} calls, {outcomes[SHED]:,} shed by grpc; "
        f"tasks, files and connections back to {sum(baseline.values())}, as before",
    )


async def _break_off(
    call: Call, limit: asyncio.Semaphore, chance: random.Random, outcomes: Counter[str]
) -> None:
    """Make a call and cancel it at once, a little later, or too late."""
    async with limit:
        task = asyncio.ensure_future(call())
        if chance.random() < 0.9:
            await asyncio.wait({task}, timeout=chance.uniform(0, chance.choice(PAUSES)))
        task.cancel()
        try:
            await task
            outcomes["answered"] += 1
        except asyncio.CancelledError:
            outcomes["cancelled"] += 1
        except grpc.aio.AioRpcError as error:
            outcomes[reason_of(error) or error.code().name] += 1


async def _prepare(server: ServerProcess) -> None:
    """Make sure of the sessions; also proves that the server answers."""
    async with channel_to(server.target) as channel:
        sessions = session_service_pb2_grpc.SessionServiceStub(channel)
        for number in range(SESSIONS):
            await sessions.CreateSession(
                session_service_pb2.CreateSessionRequest(
                    app=APP,
                    session=session_service_pb2.NewSession(user="u", session_id=f"s-{number}"),
                    if_exists=session_service_pb2.IF_EXISTS_RETURN_EXISTING,
                ),
                timeout=20,
            )


async def _gauges(server: ServerProcess) -> Counter[str]:
    """The server's tasks, by what they run, and its open files and sockets."""
    assert server.process is not None
    told = server.folder / "tasks"
    told.unlink(missing_ok=True)
    server.process.send_signal(signal.SIGUSR1)

    async def there() -> bool:
        return told.exists()

    await until(there, "the server tells its tasks")
    found: Counter[str] = Counter(json.loads(told.read_text()))
    found.update(_handles(server.process.pid))
    return +found


def _handles(pid: int) -> Counter[str]:
    """How many files and sockets a process has open."""
    found: Counter[str] = Counter()
    for handle in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            is_socket = str(handle.readlink()).startswith("socket:")
            found["sockets" if is_socket else "files"] += 1
    return +found


async def _at_rest(server: ServerProcess) -> bool:
    """Whether no connection is on its way out any more."""
    first = await _gauges(server)
    await asyncio.sleep(0.3)
    return first == await _gauges(server)
