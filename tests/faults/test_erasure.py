"""After Reset and Delete the content is in no file of the store, whatever lay beside it."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from sojourn.v1 import (
    history_service_pb2,
    history_service_pb2_grpc,
    message_pb2,
    session_pb2,
    session_service_pb2,
    session_service_pb2_grpc,
)
from tests.faults.harness import APP, ServerProcess, channel_to, ref

SESSIONS = 40
ROUNDS = 12


def marker(session: int, part: str) -> str:
    return f"SECRET-{session:03}-{part}-"


def text(session: int, part: str, size: int) -> str:
    """A text in which the marker stands all over, so that any stale copy of a page shows it."""
    return marker(session, part) * (size // 16 + 1)


def json_text(session: int, part: str, size: int) -> str:
    return f'"{text(session, part, size)}"'


@pytest.mark.timeout(180)
async def test_no_byte_of_cleared_text_is_in_any_file(tmp_path: Path) -> None:
    chance = random.Random(20_261_120)
    cleared = [number for number in range(SESSIONS) if number % 2 == 0]
    kept = [number for number in range(SESSIONS) if number % 2 == 1]
    with ServerProcess(tmp_path) as server:
        async with channel_to(server.target) as channel:
            await _fill(channel, chance)
            sessions = session_service_pb2_grpc.SessionServiceStub(channel)
            scrubbed = await asyncio.gather(*(_clear(sessions, number) for number in cleared))
            assert all(scrubbed)
            for number in cleared:
                for part in ("message", "state", "metadata", "result", "popped"):
                    found = server.files_hold(marker(number, part).encode())
                    assert found == [], f"{part} of session {number} is in {found}"
            for number in kept:
                assert server.files_hold(marker(number, "message").encode())


async def _fill(channel, chance: random.Random) -> None:
    sessions = session_service_pb2_grpc.SessionServiceStub(channel)
    history = history_service_pb2_grpc.HistoryServiceStub(channel)
    for number in range(SESSIONS):
        await sessions.CreateSession(
            session_service_pb2.CreateSessionRequest(
                app=APP,
                session=session_service_pb2.NewSession(
                    user="u",
                    session_id=str(number),
                    metadata={"m": json_text(number, "metadata", chance.randint(1, 9_000))},
                ),
            )
        )
    for _ in range(ROUNDS):
        order = list(range(SESSIONS))
        chance.shuffle(order)
        await asyncio.gather(*(_write(history, number, chance) for number in order))
    for number in range(0, SESSIONS, 3):
        await history.PopMessages(
            history_service_pb2.PopMessagesRequest(
                session=ref(str(number)), count=1, request_id=f"pop-{number}"
            )
        )


async def _write(history, number: int, chance: random.Random) -> None:
    size = chance.choice((20, 200, 2_000, 20_000, 60_000))
    part = "popped" if number % 3 == 0 else "message"
    await history.AppendMessages(
        history_service_pb2.AppendMessagesRequest(
            session=ref(str(number)),
            messages=[
                message_pb2.NewMessage(role="user", content=text(number, "message", size)),
                message_pb2.NewMessage(role="user", content=text(number, part, 300)),
            ],
            state=session_pb2.StatePatches(
                session=session_pb2.StatePatch(
                    set={"k": json_text(number, "state", chance.randint(1, 5_000))}
                )
            ),
        )
    )


async def _clear(sessions, number: int) -> bool:
    """Reset every other one and end it before, delete the rest."""
    if number % 4 == 0:
        reset = await sessions.ResetSession(
            session_service_pb2.ResetSessionRequest(session=ref(str(number)))
        )
        await sessions.UpdateSession(
            session_service_pb2.UpdateSessionRequest(
                session=ref(str(number)), remove_metadata=["m"]
            )
        )
        again = await sessions.ResetSession(
            session_service_pb2.ResetSessionRequest(session=ref(str(number)))
        )
        return bool(reset.scrubbed and again.scrubbed)
    await sessions.EndSession(
        session_service_pb2.EndSessionRequest(
            session=ref(str(number)), result=json_text(number, "result", 3_000)
        )
    )
    deleted = await sessions.DeleteSession(
        session_service_pb2.DeleteSessionRequest(session=ref(str(number)))
    )
    return bool(deleted.scrubbed)
