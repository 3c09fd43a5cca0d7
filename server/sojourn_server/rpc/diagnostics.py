"""Reflection and channelz: off unless switched on, and then for admins alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, TypeAlias

import grpc
from grpc_channelz.v1 import channelz, channelz_pb2_grpc
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from sojourn_server import logs
from sojourn_server.domain.errors import Reason
from sojourn_server.rpc.callers import Callers, Context
from sojourn_server.rpc.errors import abort, refusal_of
from sojourn_server.rpc.methods import services

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

_log = logs.Log("rpc")


class _Registry:
    """Takes the place of a server while grpc's own services register their methods."""

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {}

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """Take no notice: the same methods come by the other way as well."""

    def add_registered_method_handlers(self, service: str, methods: Mapping[str, Handler]) -> None:
        """Take a service's methods."""
        for name, handler in methods.items():
            self.handlers[f"/{service}/{name}"] = handler


def handlers(callers: Callers, *, with_reflection: bool, with_channelz: bool) -> dict[str, Handler]:
    """The handlers of what is switched on, by path.

    Args:
        callers: Tells who is an admin.
        with_reflection: Tell callers the contract.
        with_channelz: Tell callers about connections and calls.
    """
    registry: Any = _Registry()
    if with_reflection:
        names = [
            *services(),
            health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
            reflection.SERVICE_NAME,
        ]
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(
            reflection.aio.ReflectionServicer(names), registry
        )
    if with_channelz:
        channelz_pb2_grpc.add_ChannelzServicer_to_server(channelz.aio.ChannelzServicer(), registry)
    found: dict[str, Handler] = registry.handlers
    return {path: _admins_only(handler, callers) for path, handler in found.items()}


def _admins_only(handler: Any, callers: Callers) -> Handler:
    """The handler, behind a look at who calls."""

    async def admit(context: Context) -> None:
        try:
            await callers.require_admin(context)
        except Exception as error:  # noqa: BLE001 - no text of an exception may reach grpc
            refusal = refusal_of(error)
            if refusal.reason is Reason.INTERNAL:
                _log.error("call failed", **logs.fault(error))
            await abort(context, refusal)

    if handler.stream_stream is not None:

        async def admitted(requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
            # Each of them: such a stream may stay open for longer than its credential is good.
            async for request in requests:
                await admit(context)
                yield request

        async def stream(requests: Any, context: Context) -> AsyncIterator[Any]:
            await admit(context)
            async for answer in handler.stream_stream(admitted(requests, context), context):
                yield answer

        return _replaced(handler, stream_stream=stream)

    async def unary(request: Any, context: Context) -> Any:
        await admit(context)
        return await handler.unary_unary(request, context)

    return _replaced(handler, unary_unary=unary)


def _replaced(handler: Any, **behaviour: Any) -> Handler:
    """The same handler with another behaviour: grpc's are named tuples."""
    replaced: Handler = handler._replace(**behaviour)
    return replaced
