"""The server's clock steps back, jumps ahead or stands: order, tokens and expiry hold."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
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
from sojourn_server import app
from sojourn_server.app import RunningServer
from sojourn_server.domain.clock import DAY, HOUR, MINUTE, SECOND, Nanos
from sojourn_server.domain.lifecycle import expiry as deadline_of
from sojourn_server.domain.model import ChangeCause, EndCause
from sojourn_server.jobs import expiry
from sojourn_server.settings import Settings
from sojourn_server.store.base import LoggedChange
from tests.faults import counts
from tests.faults.checker import until
from tests.faults.harness import APP, channel_to, reason_of, ref, stored_session_ids

ROUNDS = counts.count("clock_rounds")
SESSIONS = 60
LEAST_REST = 0.001
"""Seconds between two looks of a job; less is spinning."""
JUMPS = {"back an hour": -HOUR, "ahead a day": DAY, "standing": 0}
FINE = {"SESSION_ENDED", "TURN_CONFLICT", "TURN_SUPERSEDED", "SESSION_NOT_FOUND"}


class SteppedClock:
    """Stands, or runs, and jumps when told."""

    def __init__(self) -> None:
        self.time: Nanos = 1_700_000_000 * SECOND
        self.runs = True

    def now(self) -> Nanos:
        if self.runs:
            self.time += 1_000  # a clock that is asked is a little later
        return self.time


class Clocked:
    """A server in this process whose clock is the test's."""

    def __init__(self, server: RunningServer, clock: SteppedClock, channel: Any) -> None:
        self.server = server
        self.clock = clock
        self.channel: grpc.aio.Channel = channel
        self.sessions = session_service_pb2_grpc.SessionServiceStub(channel)
        self.history = history_service_pb2_grpc.HistoryServiceStub(channel)
        self.turns = turn_service_pb2_grpc.TurnServiceStub(channel)

    async def create(self, session_id: str, idle: int = 3_600) -> None:
        new = session_service_pb2.NewSession(
            user="u", session_id=session_id, idle_timeout=Duration(seconds=idle)
        )
        await self.sessions.CreateSession(
            session_service_pb2.CreateSessionRequest(app=APP, session=new)
        )

    async def append(self, session_id: str) -> int:
        answer = await self.history.AppendMessages(
            history_service_pb2.AppendMessagesRequest(
                session=ref(session_id),
                messages=[message_pb2.NewMessage(role="user", content="text")],
            )
        )
        return int(answer.revision)

    async def page(self, token: str) -> Any:
        return await self.sessions.ListSessions(
            session_service_pb2.ListSessionsRequest(app=APP, page_size=7, page_token=token)
        )

    async def status(self, session_id: str) -> int:
        """As the log has it: a Get would settle the session first."""
        listed = await self.sessions.ListSessions(
            session_service_pb2.ListSessionsRequest(
                app=APP, filter=session_pb2.SessionFilter(session_id_prefix=session_id)
            )
        )
        return int(listed.sessions[0].status)

    async def log(self) -> list[LoggedChange]:
        store = self.server._store
        return list(await store.read(lambda tx: tx.changes(APP, 0, 1_000_000)))


@contextlib.asynccontextmanager
async def clocked(
    folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any
) -> AsyncIterator[Clocked]:
    clock = SteppedClock()
    monkeypatch.setattr(app, "WallClock", lambda: clock)
    server = await app.start(
        Settings(
            listen="127.0.0.1:0",
            store=f"sqlite:///{folder / 'clock.db'}",
            sqlite_synchronous="OFF",
            **{"expiry_interval": SECOND // 50, **settings},
        )
    )
    try:
        async with channel_to(server.target) as channel:
            yield Clocked(server, clock, channel)
    finally:
        await server.stop(1.0)


def assert_in_order(log: list[LoggedChange]) -> None:
    """Revisions are dense, and each end by a deadline came at that deadline or after it."""
    places = [(change.revision, change.index) for change in log]
    assert places == sorted(set(places))
    assert {revision for revision, _ in places} == set(range(1, places[-1][0] + 1))
    for change in log:
        if change.cause is not ChangeCause.EXPIRED or change.before is None:
            continue
        assert change.after is not None
        if change.after.end_cause in (EndCause.IDLE, EndCause.LIFETIME):
            due = deadline_of(change.before)
            assert due is not None
            assert change.time >= due.time, f"revision {change.revision} came early"


@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS)
async def test_pages_turns_and_order_outlive_a_jump(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: Nanos
) -> None:
    async with clocked(tmp_path, monkeypatch) as world:
        names = [f"s-{number}" for number in range(SESSIONS)]
        for name in names:
            await world.create(name)
        turn = await world.turns.BeginTurn(
            turn_service_pb2.BeginTurnRequest(session=ref("s-0"), lease=Duration(seconds=60))
        )
        listed = await world.page("")
        seen = [session.key.session_id for session in listed.sessions]
        revision = turn.revision

        world.clock.runs = jump != 0
        world.clock.time += jump
        for number in range(5):
            await world.create(f"late-{number}")
            now = await world.append(f"late-{number}")
            assert now > revision, "an order that follows the clock"
            revision = now
        while listed.next_page_token:
            listed = await world.page(listed.next_page_token)
            seen += [session.key.session_id for session in listed.sessions]

        assert Counter(seen[:SESSIONS]) == Counter(names), "each once, in order of creation"
        renewal = world.turns.RenewTurn(
            turn_service_pb2.RenewTurnRequest(app=APP, turn_token=turn.turn_token)
        )
        if jump > 0:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await renewal
            assert reason_of(caught.value) in {"TURN_SUPERSEDED", "SESSION_ENDED"}
        else:
            assert (await renewal).turn.number == 1
        assert_in_order(await world.log())


async def test_nothing_expires_before_its_time_by_the_servers_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with clocked(tmp_path, monkeypatch) as world:
        world.clock.runs = False
        await world.create("s", idle=3_600)
        begin = world.clock.time
        for instant in (begin, begin - HOUR, begin + MINUTE, begin + HOUR - 1):
            world.clock.time = instant
            assert await expiry.settle_batch(world.server._use_cases.units, world.clock) == 0
            assert await world.status("s") == session_pb2.SESSION_STATUS_ACTIVE
        world.clock.time = begin + HOUR

        async def expired() -> bool:
            return await world.status("s") == session_pb2.SESSION_STATUS_EXPIRED

        await until(expired, "the job has written the expiry")
        world.clock.time = begin - HOUR
        assert await expired(), "an end stays, whatever the clock says"
        assert_in_order(await world.log())


async def test_a_clock_that_stands_makes_no_job_spin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look of the job is followed by a rest, unless a full batch was settled."""
    async with clocked(tmp_path, monkeypatch) as world:
        world.clock.runs = False
        for number in range(2 * expiry.BATCH + 10):
            await world.create(f"s-{number}", idle=3_600)
        # The server's own job would count as well.
        for task in world.server._tasks:
            task.cancel()
        rests: list[float] = []

        class Enough(Exception):
            pass

        async def rest(seconds: float) -> None:
            rests.append(seconds)
            if len(rests) == 10:
                raise Enough

        monkeypatch.setattr(expiry, "asyncio", SimpleNamespace(sleep=rest, gather=asyncio.gather))
        # Exactly at the deadline, just before it, and with a deadline that moved away.
        for instant in (HOUR - 1, HOUR, -HOUR):
            world.clock.time += instant
            rests.clear()
            with pytest.raises(Enough):
                await expiry.run(world.server._use_cases.units, world.clock, 0.5)
            assert rests.count(0) <= 2, rests
            assert all(seconds == 0 or seconds >= LEAST_REST for seconds in rests), rests


@pytest.mark.timeout(counts.patience("clock_rounds", 10))
async def test_order_and_expiry_hold_while_the_clock_does_what_it_likes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random()
    outcomes: Counter[str] = Counter()
    async with clocked(tmp_path, monkeypatch) as world:
        for round_number in range(ROUNDS):
            world.clock.runs = True
            await asyncio.gather(
                *(act(world, round_number, number, chance, outcomes) for number in range(8)),
                misuse(world.clock, chance),
            )
        world.clock.runs = True
        log = await world.log()
        assert_in_order(log)
        ids = await stored_session_ids(world.channel)
        assert len(ids) == len(set(ids))
    assert set(outcomes) <= {"OK", *FINE}, outcomes
    expired = sum(change.cause is ChangeCause.EXPIRED for change in log)
    counts.report(
        "clock steps",
        ROUNDS,
        f"-1 h, +1 d, standing, at random under load: {outcomes['OK']:,} calls, "
        f"{log[-1].revision:,} revisions dense, {expired:,} expiries, none early",
    )


async def misuse(clock: SteppedClock, chance: random.Random) -> None:
    """Step the clock while others call."""
    for _ in range(20):
        await asyncio.sleep(0.005)
        clock.time += chance.choice((-HOUR, DAY, -MINUTE, MINUTE, 0))
        clock.runs = chance.random() < 0.7


async def act(
    world: Clocked, round_number: int, number: int, chance: random.Random, outcomes: Counter[str]
) -> None:
    """Live a few sessions, with turns, under a clock of moods."""
    name = ""
    for step in range(20):
        try:
            if step % 4 == 0:
                name = f"r{round_number}-{number}-{step}"
                await world.create(name, idle=chance.choice((60, 3_600, 0)))
                outcomes["OK"] += 1
            await world.append(name)
            turn = await world.turns.BeginTurn(
                turn_service_pb2.BeginTurnRequest(
                    session=ref(name), lease=Duration(seconds=chance.choice((1, 600)))
                )
            )
            await world.turns.EndTurn(
                turn_service_pb2.EndTurnRequest(app=APP, turn_token=turn.turn_token)
            )
            outcomes["OK"] += 3
        except grpc.aio.AioRpcError as error:
            outcomes[reason_of(error) or error.code().name] += 1
