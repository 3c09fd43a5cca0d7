"""AdminService: what the server says of itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from sojourn.v1 import admin_service_pb2 as pb
from sojourn_server.domain.clock import Nanos
from sojourn_server.rpc.convert_audit import decode_audit_query, fill_audit_entry
from sojourn_server.rpc.times import fill
from sojourn_server.service.answers import Call
from sojourn_server.service.auditing import Auditing


class ServerFacts(NamedTuple):
    """What does not change while a server runs."""

    version: str
    """The release of the server."""
    store: str
    """The kind of store: `sqlite` or `postgresql`."""
    store_version: str
    """The release of the store's engine."""
    schema_version: int
    """The number of the store's schema."""
    start_time: Nanos
    """When the server started."""


class AdminServicer:
    """The RPCs of AdminService that this release has.

    Args:
        facts: What this server is.
        draining: Says whether it is draining.
        auditing: The use case of ListAuditEntries.
    """

    def __init__(
        self, facts: ServerFacts, draining: Callable[[], bool], auditing: Auditing
    ) -> None:
        self._facts = facts
        self._draining = draining
        self._auditing = auditing

    async def list_audit_entries(
        self, request: pb.ListAuditEntriesRequest, call: Call
    ) -> pb.ListAuditEntriesResponse:
        """ListAuditEntries."""
        page = await self._auditing.page(decode_audit_query(request, call))
        response = pb.ListAuditEntriesResponse(next_page_token=page.next_page_token)
        for entry in page.entries:
            fill_audit_entry(response.entries.add(), request.app, entry)
        return response

    async def get_server_info(
        self,
        request: pb.GetServerInfoRequest,  # noqa: ARG002 - it asks for nothing
        call: Call,  # noqa: ARG002
    ) -> pb.GetServerInfoResponse:
        """GetServerInfo."""
        facts = self._facts
        response = pb.GetServerInfoResponse(
            version=facts.version,
            store=facts.store,
            store_version=facts.store_version,
            schema_version=facts.schema_version,
            draining=self._draining(),
        )
        fill(response.start_time, facts.start_time)
        return response
