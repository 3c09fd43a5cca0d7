"""Calls the live server with bytes, and holds every answer to what all answers promise."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from sojourn.v1 import admin_service_pb2, error_reason_pb2
from sojourn_server.rpc.errors import CORRELATION, TABLE
from sojourn_server.rpc.methods import Method

PATIENCE: Final = 20.0
"""A call that takes longer hangs."""
APP: Final = "fuzz"
TARGET: Final = admin_service_pb2.ImportSessionsRequest(
    target=admin_service_pb2.ImportTarget(app=APP, on_existing=admin_service_pb2.ON_EXISTING_SKIP)
)
STATUS_BYTES: Final = 4_096
REASONS: Final = frozenset(error_reason_pb2.ErrorReason.keys())
CODES: Final = {reason.value: row.code.name for reason, row in TABLE.items()}
NEVER: Final = frozenset({"INTERNAL", "UNKNOWN", "DEADLINE_EXCEEDED", "CANCELLED", "UNAVAILABLE"})


@dataclass
class Outcome:
    """What became of a call."""

    code: str = "OK"
    reason: str = ""
    message: str = ""
    fields: list[str] = field(default_factory=list)
    """Those to blame, where the reason is INVALID_FIELD or CONTENT_TOO_LARGE."""
    answer: bytes = b""


class Caller:
    """One channel to one server.

    Args:
        target: Where it is.
        store: What it keeps things in: `sqlite` or `postgres`.
    """

    def __init__(self, target: str, store: str) -> None:
        self.store = store
        options = [("grpc.max_receive_message_length", 16 << 20)]
        self._channel = grpc.insecure_channel(target, options)
        self._methods: dict[str, Any] = {}

    def close(self) -> None:
        self._channel.close()

    def call(self, method: Method, raw: bytes, metadata: Any = ()) -> Outcome:
        """Send bytes; whatever they are, the answer must be a proper one."""
        try:
            answer, _ = self._sender(method)(raw, metadata)
        except grpc.RpcError as error:
            return _proper(method, error)
        return Outcome(answer=answer)

    def _sender(self, method: Method) -> Any:
        if method.path not in self._methods:
            self._methods[method.path] = self._make_sender(method)
        return self._methods[method.path]

    def _make_sender(self, method: Method) -> Any:
        if method.responses_stream:
            stream: Any = self._channel.unary_stream(method.path)

            def read(raw: bytes, metadata: Any) -> Any:
                call = stream(raw, timeout=PATIENCE, metadata=metadata)
                # Of one without an end the first message says that it was taken.
                first = next(call, b"")
                call.cancel()
                return first, call

            return read
        if method.requests_stream:
            upload: Any = self._channel.stream_unary(method.path)
            return lambda raw, metadata: upload.with_call(
                iter(_parts(raw)), timeout=PATIENCE, metadata=metadata
            )
        unary: Any = self._channel.unary_unary(method.path)
        return lambda raw, metadata: unary.with_call(raw, timeout=PATIENCE, metadata=metadata)


def _parts(raw: bytes) -> list[bytes]:
    """The messages of an import: bytes that are a part of one come behind its target."""
    with contextlib.suppress(DecodeError):
        part = admin_service_pb2.ImportSessionsRequest.FromString(raw)
        if part.WhichOneof("part") not in (None, "target"):
            return [TARGET.SerializeToString(), raw]
    return [raw]


def _proper(method: Method, error: Any) -> Outcome:
    """The outcome of an error, which must be one of the contract's."""
    code, where = error.code().name, f"{method.name}: {error.code().name}: {error.details()}"
    assert code not in NEVER, where
    _assert_correlation(method, error.trailing_metadata())
    status = rpc_status.from_call(error)
    assert status is not None, where
    assert status.ByteSize() <= STATUS_BYTES, where
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info), where
    assert info.domain == "sojourn", where
    assert f"ERROR_REASON_{info.reason}" in REASONS or info.reason in REASONS, info.reason
    assert CODES[info.reason] == code
    fields = [info.metadata["field"]] if "field" in info.metadata else []
    for detail in status.details[1:]:
        request = error_details_pb2.BadRequest()
        if detail.Unpack(request):
            fields += [each.field for each in request.field_violations]
    return Outcome(code, info.reason, status.message, fields)


def _assert_correlation(method: Method, trailers: Any) -> None:
    found = [value for key, value in trailers or () if key == CORRELATION]
    assert len(found) == 1, f"{method.name}: no correlation id"
    assert found[0], method.name
