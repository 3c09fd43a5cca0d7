"""Rows S0-09 and S0-16: everything is an RPC, and its speed is measured."""

from __future__ import annotations

import re
from pathlib import Path

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from bench.results import TARGETS
from sojourn.v1 import (
    admin_service_pb2,
    app_service_pb2,
    history_service_pb2,
    session_service_pb2,
    turn_service_pb2,
)
from tests.acceptance.kit import Place

PERFORMANCE = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "performance.md"
MODULES = (
    admin_service_pb2,
    app_service_pb2,
    history_service_pb2,
    session_service_pb2,
    turn_service_pb2,
)


def answer_of(channel: grpc.Channel, method: MethodDescriptor) -> grpc.StatusCode:
    """Return what an empty request of a method is answered with."""
    name = f"/{method.containing_service.full_name}/{method.name}"
    request = GetMessageClass(method.input_type)()
    sends, receives = (
        type(request).SerializeToString,
        GetMessageClass(method.output_type).FromString,
    )
    call: grpc.Call
    if method.client_streaming:
        call = channel.stream_unary(name, sends, receives).future(iter([request]), timeout=10)
    elif method.server_streaming:
        call = channel.unary_stream(name, sends, receives)(request, timeout=10)
    else:
        call = channel.unary_unary(name, sends, receives).future(request, timeout=10)
    code = call.code()
    assert isinstance(code, grpc.StatusCode)
    return code


def test_s0_09_nothing_is_in_a_console_only(place: Place) -> None:
    """There is no console: every call of the contract is served, to any program in any language."""
    methods = [
        method
        for module in MODULES
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]
    assert len(methods) > 30
    with grpc.insecure_channel(place.target) as channel:
        answers = {method.full_name: answer_of(channel, method) for method in methods}
    served = {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT}
    assert {name: code for name, code in answers.items() if code not in served} == {}


def test_s0_16_speed_is_measured() -> None:
    """What calls cost is measured beside a floor and beside peers, and the figures are there."""
    text = PERFORMANCE.read_text(encoding="utf-8")
    for call in ("get", "create", "append", "begin_turn", "end_turn", "update"):
        assert call in TARGETS
        assert f"`{call}`" in text
    rows = re.findall(r"^\| (\w+)(?:, [^|]*)? \| \d+\.\d+× \|", text, re.MULTILINE)
    assert {"GetSession", "CreateSession", "AppendMessages", "BeginTurn", "EndTurn"} <= set(rows)
