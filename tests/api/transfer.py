"""Exports and imports over the wire, in their JSON form: what the tests of both share."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc
from google.protobuf import json_format
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from sojourn.v1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    app_service_pb2,
    app_service_pb2_grpc,
    history_service_pb2,
    history_service_pb2_grpc,
    session_service_pb2,
    session_service_pb2_grpc,
    turn_service_pb2,
    turn_service_pb2_grpc,
)
from sojourn_server.app import RunningServer, start
from sojourn_server.settings import Settings
from tests.api.stores import settings_of

# The stubs' types want messages where dicts are easier to read.
ADMIN: Any = admin_service_pb2
APPS: Any = app_service_pb2
SESSIONS: Any = session_service_pb2
HISTORY: Any = history_service_pb2
TURNS: Any = turn_service_pb2
APP = "trav€l"


class Place(NamedTuple):
    """A server, and the stubs to reach it."""

    server: RunningServer
    sessions: Any
    turns: Any
    history: Any
    apps: Any
    admin: Any

    async def export(self, **query: Any) -> list[str]:
        """All parts, each as a line of JSON."""
        stream = self.admin.ExportSessions(ADMIN.ExportSessionsRequest(app=APP, **query))
        return [line_of(part) async for part in stream]

    async def take_in(self, lines: Iterable[Any], app: str = APP, on_existing: int = 0) -> Any:
        """Import lines of JSON, or parts."""
        target = ADMIN.ImportTarget(app=app, on_existing=on_existing)
        return await self.send([ADMIN.ImportSessionsRequest(target=target), *map(part_of, lines)])

    async def send(self, parts: Iterable[Any]) -> Any:
        """Import these very parts.

        In a thread, as the client does: where the server answers before it has read all, grpc.aio
        may say "Internal error from Core" instead of what it answered.
        """
        sent = list(parts)

        def send() -> Any:
            with grpc.insecure_channel(self.server.target) as channel:
                return admin_service_pb2_grpc.AdminServiceStub(channel).ImportSessions(iter(sent))

        return await asyncio.to_thread(send)

    async def append(self, session_id: str, messages: list[Any], user: str = "ann") -> None:
        await self.history.AppendMessages(
            HISTORY.AppendMessagesRequest(session=ref(session_id, user), messages=messages)
        )


@asynccontextmanager
async def place(store: str, folder: Path, **settings: Any) -> AsyncIterator[Place]:
    """A server of its own on a store of its own."""
    async with AsyncExitStack() as stack:
        given = {"store": f"sqlite:///{folder}/{uuid.uuid4()}.db"}
        given |= stack.enter_context(settings_of(store))
        server = await start(Settings(listen="127.0.0.1:0", **{**given, **settings}))
        stack.push_async_callback(server.stop, 0)
        channel = await stack.enter_async_context(
            grpc.aio.insecure_channel(
                server.target, options=[("grpc.max_receive_message_length", 8 << 20)]
            )
        )
        yield Place(
            server,
            session_service_pb2_grpc.SessionServiceStub(channel),
            turn_service_pb2_grpc.TurnServiceStub(channel),
            history_service_pb2_grpc.HistoryServiceStub(channel),
            app_service_pb2_grpc.AppServiceStub(channel),
            admin_service_pb2_grpc.AdminServiceStub(channel),
        )


def ref(session_id: str, user: str = "ann") -> dict[str, str]:
    return {"app": APP, "user": user, "session_id": session_id}


def line_of(part: Any) -> str:
    return json_format.MessageToJson(part, indent=None, ensure_ascii=False, sort_keys=True)


def part_of(line: Any) -> Any:
    if isinstance(line, str):
        return json_format.Parse(line, ADMIN.ImportSessionsRequest())
    return line if not isinstance(line, dict) else ADMIN.ImportSessionsRequest(**line)


class Said(NamedTuple):
    """What a refusal says."""

    code: str
    reason: str
    metadata: dict[str, str]


async def refusal_of(call: Callable[[], Any]) -> Said:
    """What a call is refused with."""
    try:
        await call()
    except grpc.RpcError as raised:
        error: Any = raised  # of grpc or of grpc.aio: both tell the same
        trailers = dict(error.trailing_metadata() or ())
        info = ErrorInfo()
        Status.FromString(trailers["grpc-status-details-bin"]).details[0].Unpack(info)
        return Said(error.code().name, info.reason, dict(info.metadata))
    raise AssertionError("it was not refused")
