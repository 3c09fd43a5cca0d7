"""The gRPC server: its options, its port, and what is registered on it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Final

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2_grpc

from sojourn_server.domain.limits import KIB, MIB
from sojourn_server.rpc import diagnostics
from sojourn_server.rpc.health import Health
from sojourn_server.rpc.methods import Method, methods
from sojourn_server.rpc.pipeline import Pipeline, StreamUse, Use
from sojourn_server.rpc.reading import taking_one
from sojourn_server.rpc.router import Router
from sojourn_server.rpc.validation import Rules

TRANSPORT_BYTES: Final = 8 * MIB
"""The most the transport takes: higher than any request limit, which answers with a reason."""
METADATA_BYTES: Final = 16 * KIB
"""The most that a call's metadata may be: room for a large token."""
HANDSHAKE: Final = 10_000
"""How long a new connection may take until it speaks TLS and HTTP/2, in milliseconds."""
PENDING: Final = 10_000
"""How many calls may have arrived that Python has not looked at. From here to twice as many
grpc turns calls away at random, honest ones among them, so it is far away: calls are let in
by us. What one connection can bring is bounded by its streams."""

OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.max_receive_message_length", TRANSPORT_BYTES),
    ("grpc.max_send_message_length", TRANSPORT_BYTES),
    # The same, or grpc would turn away at random what lies between.
    ("grpc.max_metadata_size", METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", METADATA_BYTES),
    # A second server on the port must fail, not share its connections.
    ("grpc.so_reuseport", 0),
    # Only "identity": a compressed message is inflated before its size is checked.
    ("grpc.compression_enabled_algorithms_bitset", 1),
    ("grpc.server.max_pending_requests", PENDING),
    ("grpc.server.max_pending_requests_hard_limit", 2 * PENDING),
    ("grpc.server_handshake_timeout_ms", HANDSHAKE),
    # Limits hold for a connection once it has acknowledged them.
    ("grpc.http2.settings_timeout", HANDSHAKE),
    # Clients ping every 30 s, also without calls; dead connections are found within 80 s.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
)


def request_types() -> list[type[Message]]:
    """The request types of all methods."""
    return [method.request for method in methods()]


@functools.cache
def warm_rules() -> Rules:
    """The protos' rules, compiled for every request type, once for all servers of a process."""
    return Rules(request_types())


def handlers(
    pipeline: Pipeline, servicers: Mapping[str, object]
) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
    """The handler of every method of the contract, by its path.

    Args:
        pipeline: What each goes through.
        servicers: By service: `SessionService`.

    Raises:
        AttributeError: A servicer lacks a method.
    """
    return {
        method.path: pipeline.handler(method, _use(method, servicers[method.service]))
        for method in methods()
    }


def _use(method: Method, servicer: object) -> Use | StreamUse:
    use: Use | StreamUse = getattr(servicer, method.attribute)
    return use


def make_server(
    pipeline: Pipeline,
    servicers: Mapping[str, object],
    health: Health,
    *,
    connections: int = 10_000,
    streams_per_connection: int = 1_000,
    with_reflection: bool = False,
    with_channelz: bool = False,
) -> grpc.aio.Server:
    """A server with everything registered, without a port.

    Args:
        pipeline: What every call of the contract goes through.
        servicers: By service.
        health: Answers health checks.
        connections: How many there may be; further ones are closed at once.
        streams_per_connection: How many calls of one connection there may be.
        with_reflection: Tell callers the contract.
        with_channelz: Tell callers about connections and calls.
    """
    registry: Any = diagnostics.Registry()
    health_pb2_grpc.add_HealthServicer_to_server(health.servicer, registry)
    foreign = registry.handlers | diagnostics.handlers(
        pipeline.callers, with_reflection=with_reflection, with_channelz=with_channelz
    )
    taken = {path: taking_one(handler, pipeline.reading) for path, handler in foreign.items()}
    paths = handlers(pipeline, servicers) | taken
    return grpc.aio.server(
        handlers=[Router(paths)],
        options=[
            *OPTIONS,
            ("grpc.max_allowed_incoming_connections", connections),
            ("grpc.max_concurrent_streams", streams_per_connection),
            ("grpc.enable_channelz", int(with_channelz)),
        ],
        compression=grpc.Compression.NoCompression,
    )
