"""A real gRPC server that answers what a test tells it to: for what no healthy server does."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

Trailers = Sequence[tuple[str, str | bytes]]


@dataclass
class Failure:
    """A status to answer with."""

    code: grpc.StatusCode
    message: str = "as the test wants it"
    trailers: Trailers = ()


@dataclass
class Seen:
    """A call that arrived."""

    method: str
    request: bytes
    metadata: dict[str, str | bytes]
    time_remaining: float


@dataclass
class Script:
    """What the server saw, and what it answers: `answers` in their order, then `always`."""

    target: str = ""
    seen: list[Seen] = field(default_factory=list)
    answers: list[Failure | Message | None] = field(default_factory=list)
    always: Failure | Message | None = None
    hold: threading.Event | None = None
    behind: str = ""
    """A real server that gets every call first; its answer counts where the script has none."""
    judge: Callable[[Seen], Failure | None] | None = None
    """Fails some calls by what they bring, before any answer of the script."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next_answer(self) -> Failure | Message | None:
        with self.lock:
            return self.answers.pop(0) if self.answers else self.always

    def let_go(self) -> None:
        """Answer the calls that are held, and hold no more."""
        if self.hold is not None:
            self.hold.set()

    @property
    def methods(self) -> list[str]:
        return [one.method for one in self.seen]


def reasoned(
    code: grpc.StatusCode,
    reason: str,
    *,
    metadata: dict[str, str] | None = None,
    retry_after: timedelta | None = None,
) -> Failure:
    """Return a failure as Sojourn's own server makes it."""
    info = error_details_pb2.ErrorInfo(reason=reason, domain="sojourn", metadata=metadata or {})
    parts: list[Message] = [info]
    if retry_after is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromTimedelta(retry_after)
        parts.append(retry)
    status = status_pb2.Status(code=code.value[0], message="as the test wants it")
    for part in parts:
        packed = Packed()
        packed.Pack(part)
        status.details.append(packed)
    trailers = (
        ("grpc-status-details-bin", status.SerializeToString()),
        ("x-sojourn-correlation-id", "c-1"),
    )
    return Failure(code, trailers=trailers)


def _ask(target: str, path: str, request: bytes) -> bytes:
    with grpc.insecure_channel(target) as channel:
        call: Any = channel.unary_unary(path)
        answer: bytes = call(request, timeout=5)
        return answer


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, script: Script) -> None:
        self._script = script

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return grpc.unary_unary_rpc_method_handler(self._answer(handler_call_details.method))

    def _answer(self, path: str) -> Callable[[bytes, grpc.ServicerContext], bytes]:
        script = self._script

        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            metadata = dict(context.invocation_metadata())
            left = context.time_remaining() or 0.0
            seen = Seen(path.rpartition("/")[2], request, metadata, left)
            script.seen.append(seen)
            if script.hold is not None:
                script.hold.wait(10)
            planned = (script.judge and script.judge(seen)) or script.next_answer()
            real = _ask(script.behind, path, request) if script.behind else b""
            if isinstance(planned, Failure):
                context.set_trailing_metadata(tuple(planned.trailers))
                context.abort(planned.code, planned.message)
            return real if planned is None else planned.SerializeToString()

        return answer


@contextmanager
def scripted_server() -> Iterator[Script]:
    """Run the server; the script can be changed while it runs."""
    script = Script()
    server = grpc.server(ThreadPoolExecutor(max_workers=8))
    server.add_generic_rpc_handlers((_Handler(script),))
    script.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield script
    finally:
        script.let_go()
        server.stop(None).wait()
