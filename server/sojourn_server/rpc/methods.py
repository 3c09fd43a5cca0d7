"""The contract's methods, from the descriptors, and which of them this release has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from sojourn.v1 import (
    admin_service_pb2,
    app_service_pb2,
    history_service_pb2,
    session_service_pb2,
    turn_service_pb2,
)

_FILES: Final[tuple[Any, ...]] = (
    session_service_pb2,
    turn_service_pb2,
    history_service_pb2,
    app_service_pb2,
    admin_service_pb2,
)


class Method(NamedTuple):
    """One RPC of the contract."""

    service: str
    """`SessionService`."""
    name: str
    """`CreateSession`."""
    path: str
    """`/sojourn.v1.SessionService/CreateSession`."""
    request: type[Message]
    requests_stream: bool
    responses_stream: bool
    has_request_id: bool

    @property
    def attribute(self) -> str:
        """What the servicer calls it: `create_session`."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", self.name).lower()


def methods() -> Iterator[Method]:
    """Every RPC of the contract."""
    for module in _FILES:
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                yield _describe(service.name, service.full_name, method)


def services() -> list[str]:
    """The full names of the contract's services: `sojourn.v1.SessionService`."""
    return sorted({method.path.split("/")[1] for method in methods()})


def _describe(service: str, full_name: str, method: MethodDescriptor) -> Method:
    return Method(
        service=service,
        name=method.name,
        path=f"/{full_name}/{method.name}",
        request=GetMessageClass(method.input_type),
        requests_stream=method.client_streaming,
        responses_stream=method.server_streaming,
        has_request_id="request_id" in method.input_type.fields_by_name,
    )
