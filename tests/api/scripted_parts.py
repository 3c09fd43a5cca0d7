"""A server whose exports and imports do what a test tells them to."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import grpc

from sojourn.v1 import admin_service_pb2, message_pb2, session_pb2
from tests.api.scripted import Failure

Part = admin_service_pb2.ExportSessionsResponse
Taken = admin_service_pb2.ImportSessionsRequest
Step: TypeAlias = Part | Failure


@dataclass
class PartsScript:
    """What the server saw, what its exports send, and how its imports end."""

    target: str = ""
    requests: list[admin_service_pb2.ExportSessionsRequest] = field(default_factory=list)
    exports: list[Sequence[Step]] = field(default_factory=list)
    taken: list[Taken] = field(default_factory=list)
    whole: list[bool] = field(default_factory=list)
    """For each import: whether the caller came to its end."""
    patience: float = 0.0
    """How long to wait for the news that a caller has left, in seconds."""
    refuse_after: int | None = None
    """Imports are refused after so many parts."""
    refusal: Failure | None = None


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, script: PartsScript) -> None:
        self._script = script

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        if handler_call_details.method.endswith("/ExportSessions"):
            return grpc.unary_stream_rpc_method_handler(
                self._export,
                request_deserializer=admin_service_pb2.ExportSessionsRequest.FromString,
                response_serializer=Part.SerializeToString,
            )
        return grpc.stream_unary_rpc_method_handler(
            self._import,
            request_deserializer=Taken.FromString,
            response_serializer=admin_service_pb2.ImportSessionsResponse.SerializeToString,
        )

    def _export(
        self, request: admin_service_pb2.ExportSessionsRequest, context: grpc.ServicerContext
    ) -> Iterator[Part]:
        script = self._script
        script.requests.append(request)
        for step in script.exports.pop(0):
            if isinstance(step, Failure):
                context.set_trailing_metadata(tuple(step.trailers))
                context.abort(step.code, step.message)
            else:
                yield step

    def _import(
        self, parts: Iterator[Taken], context: grpc.ServicerContext
    ) -> admin_service_pb2.ImportSessionsResponse:
        script = self._script
        for part in parts:
            script.taken.append(part)
            if script.refusal is not None and len(script.taken) == script.refuse_after:
                context.set_trailing_metadata(tuple(script.refusal.trailers))
                context.abort(script.refusal.code, script.refusal.message)
        # When the caller leaves, the parts may end before the news of it comes.
        gone = threading.Event()
        here = context.add_callback(gone.set) and not gone.wait(script.patience)
        script.whole.append(here)
        return admin_service_pb2.ImportSessionsResponse(
            sessions=sum(one.HasField("session") for one in script.taken),
            messages=sum(len(one.messages.messages) for one in script.taken),
            skipped=1,
            renamed=2,
            revision=9,
        )


@contextmanager
def parts_server() -> Iterator[PartsScript]:
    """Run the server; the script can be changed while it runs."""
    script = PartsScript()
    server = grpc.server(ThreadPoolExecutor(max_workers=8))
    server.add_generic_rpc_handlers((_Handler(script),))
    script.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield script
    finally:
        server.stop(None).wait()


# --- what it sends -------------------------------------------------------------------------------


def app(name: str) -> Part:
    """The app itself."""
    return Part(app=admin_service_pb2.ExportedApp(app=name))


def session(session_id: str) -> Part:
    """A session."""
    key = session_pb2.SessionKey(app="a", session_id=session_id)
    made = session_pb2.Session(key=key, uid=f"uid-{session_id}")
    return Part(session=admin_service_pb2.ExportedSession(session=made))


def messages(*texts: str) -> Part:
    """Messages of the last session."""
    made = [message_pb2.Message(role="user", content=text) for text in texts]
    return Part(messages=admin_service_pb2.ExportedMessages(messages=made))
