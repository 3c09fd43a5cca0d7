"""A server whose streams do what a test tells them to: messages, cuts, errors, long silences."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import grpc

from sojourn.v1 import change_pb2, session_pb2, session_service_pb2
from tests.api.scripted import Failure

Message = session_service_pb2.WatchSessionsResponse
Request = session_service_pb2.WatchSessionsRequest


class Hold:
    """Keeps the stream open, and silent, until it is let go or the caller leaves."""

    def __init__(self) -> None:
        self.event = threading.Event()


Step: TypeAlias = Message | bytes | Failure | Hold
"""Bytes are sent as they are; after a `Failure` and after the last step the stream ends."""

LIMIT = 30.0


@dataclass
class WatchScript:
    """What the server saw, and what its streams do: one after the other, then as `always` says."""

    target: str = ""
    requests: list[Request] = field(default_factory=list)
    metadata: list[dict[str, str | bytes]] = field(default_factory=list)
    deadlines: list[float] = field(default_factory=list)
    streams: list[Sequence[Step]] = field(default_factory=list)
    always: Callable[[Request], Sequence[Step]] = lambda _request: (Hold(),)
    open: int = 0
    """How many streams are open."""
    changed: threading.Condition = field(default_factory=threading.Condition)
    stopping: threading.Event = field(default_factory=threading.Event)

    def begin(self, request: Request, context: grpc.ServicerContext) -> Sequence[Step]:
        with self.changed:
            self.requests.append(request)
            self.metadata.append(dict(context.invocation_metadata()))
            self.deadlines.append(context.time_remaining() or 0.0)
            self.open += 1
            self.changed.notify_all()
            return self.streams.pop(0) if self.streams else self.always(request)

    def end(self) -> None:
        with self.changed:
            self.open -= 1
            self.changed.notify_all()


def sync_until(script: WatchScript, ready: Callable[[WatchScript], bool]) -> None:
    """Wait until something is so of the streams."""
    with script.changed:
        assert script.changed.wait_for(lambda: ready(script), LIMIT)


async def async_until(script: WatchScript, ready: Callable[[WatchScript], bool]) -> None:
    """Wait until something is so of the streams."""
    await asyncio.to_thread(sync_until, script, ready)


def all_closed(script: WatchScript) -> bool:
    """Whether no stream is open any more."""
    return script.open == 0


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, script: WatchScript) -> None:
        self._script = script

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        if not handler_call_details.method.endswith("/WatchSessions"):
            return None
        return grpc.unary_stream_rpc_method_handler(
            self._stream, request_deserializer=Request.FromString
        )

    def _stream(self, request: Request, context: grpc.ServicerContext) -> Iterator[bytes]:
        script, gone = self._script, threading.Event()
        steps = script.begin(request, context)
        # Told at once when the caller cancels, also if it has already.
        if not context.add_callback(gone.set):
            gone.set()
        try:
            for step in steps:
                if isinstance(step, Message):
                    yield step.SerializeToString()
                elif isinstance(step, bytes):
                    yield step
                elif isinstance(step, Failure):
                    context.set_trailing_metadata(tuple(step.trailers))
                    context.abort(step.code, step.message)
                else:
                    while not (step.event.wait(0.01) or gone.is_set() or script.stopping.is_set()):
                        pass
        finally:
            script.end()


@contextmanager
def watched_server() -> Iterator[WatchScript]:
    """Run the server; the script can be changed while it runs."""
    script = WatchScript()
    server = grpc.server(ThreadPoolExecutor(max_workers=16))
    server.add_generic_rpc_handlers((_Handler(script),))
    script.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield script
    finally:
        script.stopping.set()
        server.stop(None).wait()


# --- what it sends -------------------------------------------------------------------------------

CUT = Failure(grpc.StatusCode.UNAVAILABLE, "the connection was cut")


def token(revision: int) -> str:
    """The token of a revision."""
    return f"token-{revision}"


def session(uid: str, *, revision: int = 1, **labels: str) -> session_pb2.Session:
    """A session whose id is made of its uid."""
    return session_pb2.Session(
        key=session_pb2.SessionKey(app="support", user="ann", session_id=f"s-{uid}"),
        uid=uid,
        status=session_pb2.SESSION_STATUS_ACTIVE,
        labels=labels,
        state_version=revision,
    )


def change(
    revision: int, uid: str = "a", *, index: int = 0, membership: str = "CHANGED", **labels: str
) -> change_pb2.Change:
    """A change of one session."""
    made = change_pb2.Change(
        revision=revision, index=index, cause=change_pb2.CHANGE_CAUSE_UPDATED, actor="pod-1"
    )
    made.session.membership = change_pb2.SessionChange.Membership.Value(f"MEMBERSHIP_{membership}")
    made.session.session.CopyFrom(session(uid, revision=revision, **labels))
    return made


def batch(*changes: change_pb2.Change, revision: int = 0) -> Message:
    """A message of whole units."""
    last = revision or changes[-1].revision
    return Message(changes=changes, resume_token=token(last), revision=last)


def part(*changes: change_pb2.Change) -> Message:
    """A message that ends inside a unit."""
    return Message(changes=changes, continued=True)


def bookmark(revision: int) -> Message:
    """A message without changes."""
    return Message(resume_token=token(revision), revision=revision)


def state(*uids: str, revision: int = 1) -> list[Message]:
    """The whole initial state, a session a message."""
    return [
        *(Message(initial_sessions=[session(uid, revision=revision)]) for uid in uids),
        Message(initial_state_end=revision, resume_token=token(revision), revision=revision),
    ]
