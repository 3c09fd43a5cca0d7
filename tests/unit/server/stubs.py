"""A server on a store of its own, and what is asked of it by the raw stubs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest

from sojourn.v1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    app_service_pb2,
    app_service_pb2_grpc,
    history_service_pb2,
    history_service_pb2_grpc,
    message_pb2,
    session_pb2,
    session_service_pb2,
    session_service_pb2_grpc,
    turn_service_pb2,
    turn_service_pb2_grpc,
)
from sojourn_server.app import start
from sojourn_server.settings import Settings

# The stubs' types want messages where dicts and names are easier to read.
SESSIONS: Any = session_service_pb2
TURNS: Any = turn_service_pb2
HISTORY: Any = history_service_pb2
APPS: Any = app_service_pb2
ADMIN: Any = admin_service_pb2


class Stubs(NamedTuple):
    sessions: Any
    turns: Any
    history: Any
    apps: Any
    admin: Any


@pytest.fixture
async def stubs(tmp_path: Path) -> AsyncIterator[Stubs]:
    server = await start(
        Settings(
            listen="127.0.0.1:0",
            store=f"sqlite:///{tmp_path}/s.db",
            backup_dir=tmp_path / "backups",
        )
    )
    async with grpc.aio.insecure_channel(server.target) as channel:
        yield Stubs(
            session_service_pb2_grpc.SessionServiceStub(channel),
            turn_service_pb2_grpc.TurnServiceStub(channel),
            history_service_pb2_grpc.HistoryServiceStub(channel),
            app_service_pb2_grpc.AppServiceStub(channel),
            admin_service_pb2_grpc.AdminServiceStub(channel),
        )
    await server.stop(grace=0)


def ref(session_id: str = "s") -> session_pb2.SessionRef:
    return session_pb2.SessionRef(app="a", user="u", session_id=session_id)


def creation(session_id: str = "s", **fields: Any) -> Any:
    return SESSIONS.CreateSessionRequest(
        app="a", session={"user": "u", "session_id": session_id, **fields}
    )


def message(text: str, **fields: Any) -> message_pb2.NewMessage:
    return message_pb2.NewMessage(role="user", content=text, **fields)


async def append(stubs: Stubs, *texts: str) -> Any:
    request = HISTORY.AppendMessagesRequest(
        session=ref(), messages=[message(text) for text in texts]
    )
    return await stubs.history.AppendMessages(request)
