"""Which handler answers which path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc


class Router(grpc.GenericRpcHandler):
    """Finds a method's handler with one look-up for all services.

    Args:
        handlers: By path: `/sojourn.v1.SessionService/CreateSession`.
    """

    def __init__(self, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]) -> None:
        self._handlers = dict(handlers)

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The handler, or None: grpc answers an unknown method itself."""
        return self._handlers.get(handler_call_details.method)
