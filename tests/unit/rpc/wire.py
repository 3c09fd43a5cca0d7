"""A pipeline behind a real port, with one use case of the test's own."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

import grpc
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from grpc_status import rpc_status

from sojourn.v1 import session_service_pb2 as pb
from sojourn_server.domain.tokens import Sealer
from sojourn_server.rpc.errors import CORRELATION
from sojourn_server.rpc.methods import methods
from sojourn_server.rpc.pipeline import Pipeline
from sojourn_server.rpc.router import Router
from sojourn_server.rpc.server import OPTIONS, warm_rules
from sojourn_server.service.answers import Call

CREATE = "/sojourn.v1.SessionService/CreateSession"
GET = "/sojourn.v1.SessionService/GetSession"
UseCase = Callable[[Any, Call], Awaitable[Any]]
RULES = warm_rules()


class AKey(NamedTuple):
    key_id: int = 1
    secret: bytes = b"k" * 32


class Wire(NamedTuple):
    pipeline: Pipeline
    channel: Any
    server: grpc.aio.Server

    async def create(self, request: pb.CreateSessionRequest | None = None, **options: Any) -> Any:
        """Call CreateSession; answers (answer, trailers)."""
        request = request or pb.CreateSessionRequest(app="a", session=pb.NewSession())
        return await self.raw(CREATE, request.SerializeToString(), **options)

    async def raw(self, path: str, data: bytes, **options: Any) -> tuple[bytes, dict[str, Any]]:
        """Call a method with bytes."""
        call = self.channel.unary_unary(path)(data, timeout=10, **options)
        answer = await call
        return answer, dict(await call.trailing_metadata())


class Failure(NamedTuple):
    code: str
    reason: str
    metadata: dict[str, str]
    fields: list[str]
    text: str
    correlation_id: str


def failure_of(error: grpc.aio.AioRpcError) -> Failure:
    """What an error told its caller."""
    trailers = dict(error.trailing_metadata())
    status = rpc_status.from_call(error)
    info, bad, fields = ErrorInfo(), BadRequest(), []
    assert status is not None
    assert status.details[0].Unpack(info)
    for detail in status.details[1:]:
        if detail.Unpack(bad):
            fields = [violation.field for violation in bad.field_violations]
    return Failure(
        error.code().name,
        info.reason,
        dict(info.metadata),
        fields,
        error.details() or "",
        str(trailers[CORRELATION]),
    )


async def failed(call: Awaitable[Any]) -> Failure:
    """The failure of a call that must fail."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return failure_of(error)
    raise AssertionError("the call succeeded")


@contextlib.asynccontextmanager
async def serving(use: UseCase, **settings: Any) -> AsyncIterator[Wire]:
    """A server that answers CreateSession and GetSession by `use`, and no other method."""
    pipeline = Pipeline(
        **{"rules": RULES, "sealer": Sealer([AKey()]), "request_bytes": 4_000, **settings}
    )
    handlers = {
        method.path: pipeline.handler(method, use)
        for method in methods()
        if method.name in ("CreateSession", "GetSession")
    }
    server = grpc.aio.server(handlers=[Router(handlers)], options=OPTIONS)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Wire(pipeline, channel, server)
    finally:
        await server.stop(None)


async def created(request: Any, call: Call) -> pb.CreateSessionResponse:
    """A use case that says yes."""
    return pb.CreateSessionResponse(created=True, revision=7)
