"""The gRPC server: its options, its port, and what is registered on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2_grpc

from sojourn_server.domain.limits import MIB
from sojourn_server.rpc import diagnostics
from sojourn_server.rpc.health import Health
from sojourn_server.rpc.methods import Method, methods
from sojourn_server.rpc.pipeline import Pipeline, Router, StreamUse, Use
from sojourn_server.rpc.validation import Rules

TRANSPORT_BYTES: Final = 8 * MIB
"""The most the transport takes: higher than any request limit, which answers with a reason."""

OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.max_receive_message_length", TRANSPORT_BYTES),
    ("grpc.max_send_message_length", TRANSPORT_BYTES),
    # A second server on the port must fail, not share its connections.
    ("grpc.so_reuseport", 0),
    # Only "identity": a compressed message is inflated before its size is checked.
    ("grpc.compression_enabled_algorithms_bitset", 1),
    ("grpc.max_concurrent_streams", 1_000),
    # Clients ping every 30 s, also without calls; dead connections are found within 80 s.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
)


def request_types() -> list[type[Message]]:
    """The request types of all methods that this release has."""
    return [method.request for method in methods() if method.built]


def warm_rules() -> Rules:
    """The protos' rules, compiled for every request type."""
    return Rules(request_types())


def handlers(
    pipeline: Pipeline, servicers: Mapping[str, object]
) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
    """The handler of every method of the contract, by its path.

    Args:
        pipeline: What each goes through.
        servicers: By service: `SessionService`.

    Raises:
        AttributeError: A servicer lacks a method that this release should have.
    """
    return {
        method.path: pipeline.handler(method, _use(method, servicers[method.service]))
        for method in methods()
    }


def _use(method: Method, servicer: object) -> Use | StreamUse | None:
    use: Use | StreamUse | None = getattr(servicer, method.attribute) if method.built else None
    return use


def make_server(
    pipeline: Pipeline,
    servicers: Mapping[str, object],
    health: Health,
    *,
    with_reflection: bool = False,
    with_channelz: bool = False,
) -> grpc.aio.Server:
    """A server with everything registered, without a port.

    Args:
        pipeline: What every call of the contract goes through.
        servicers: By service.
        health: Answers health checks.
        with_reflection: Tell callers the contract.
        with_channelz: Tell callers about connections and calls.
    """
    paths = handlers(pipeline, servicers) | diagnostics.handlers(
        pipeline.callers, with_reflection=with_reflection, with_channelz=with_channelz
    )
    server = grpc.aio.server(
        handlers=[Router(paths)],
        options=[*OPTIONS, ("grpc.enable_channelz", int(with_channelz))],
        compression=grpc.Compression.NoCompression,
    )
    health_pb2_grpc.add_HealthServicer_to_server(health.servicer, server)
    return server
