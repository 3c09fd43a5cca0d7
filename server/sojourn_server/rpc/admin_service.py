"""AdminService: export, import, backup, and what the server says of itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, NamedTuple

from sojourn.v1 import admin_service_pb2 as pb
from sojourn_server.domain.clock import Nanos
from sojourn_server.domain.errors import Refusal, invalid_field
from sojourn_server.domain.filter import EVERYTHING
from sojourn_server.domain.imports import OnExisting
from sojourn_server.rpc.bulk import Outgoing, Send
from sojourn_server.rpc.convert_audit import decode_audit_query, fill_audit_entry
from sojourn_server.rpc.convert_export import PartDecoder, encode_part
from sojourn_server.rpc.convert_filter import decode_filter
from sojourn_server.rpc.times import fill
from sojourn_server.service import Services
from sojourn_server.service.answers import Call
from sojourn_server.service.backups import Backups
from sojourn_server.service.exporting import ExportQuery, Part, export
from sojourn_server.service.importing import Importing

_ON_EXISTING: Final = (OnExisting.FAIL, *OnExisting)


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
    """The RPCs of AdminService.

    Args:
        use_cases: All of them.
        facts: What this server is.
        draining: Says whether it is draining.
        parts: Reads the parts of imports.
        backups: Copies the store.
    """

    def __init__(
        self,
        use_cases: Services,
        facts: ServerFacts,
        draining: Callable[[], bool],
        parts: PartDecoder,
        backups: Backups,
    ) -> None:
        self._facts = facts
        self._draining = draining
        self._units = use_cases.units
        self._auditing = use_cases.auditing
        self._parts = parts
        self._backups = backups

    async def export_sessions(
        self, request: pb.ExportSessionsRequest, call: Call, send: Send
    ) -> None:
        """ExportSessions."""
        which = decode_filter("filter", request.filter) if request.HasField("filter") else None
        query = ExportQuery(
            app=request.app,
            user=request.user if request.HasField("user") else None,
            filter=which or EVERYTHING,
            users=call.users,
        )
        outgoing = Outgoing(send)

        async def emit(part: Part) -> None:
            await outgoing.write(encode_part(part))

        await outgoing.run(partial(export, self._units, query, emit))

    async def import_sessions(
        self,
        request: pb.ImportSessionsRequest,
        call: Call,
        send: Send,
        more: Callable[[], Awaitable[Any]],
    ) -> None:
        """ImportSessions."""
        if not request.HasField("target"):
            raise invalid_field("target", "must be the first part")
        target = request.target
        incoming = Importing(self._units, call, target.app, _ON_EXISTING[target.on_existing])
        try:
            while (part := await more()) is not None:
                await self._take(incoming, part)
            done = await incoming.finish()
        except Refusal as refusal:
            refusal.metadata["sessions_imported"] = str(incoming.done.sessions)
            raise
        finally:
            await incoming.give_up()
        response = pb.ImportSessionsResponse(
            sessions=done.sessions,
            messages=done.messages,
            revision=done.revision,
            skipped=done.skipped,
            renamed=done.renamed,
        )
        await send(response.SerializeToString())

    async def _take(self, incoming: Importing, part: pb.ImportSessionsRequest) -> None:
        """Take in one part.

        Raises:
            Refusal: It is wrong, or comes out of order.
        """
        match part.WhichOneof("part"):
            case "app":
                await incoming.take_app(self._parts.app(part.app))
            case "user":
                await incoming.take_user(self._parts.user(part.user))
            case "session":
                await incoming.take_session(self._parts.session(part.session))
            case "messages":
                await incoming.take_messages(self._parts.messages(part.messages))
            case "dropped":
                await incoming.drop(part.dropped)
            case "target":
                raise invalid_field("target", "must be the first part only")
            case _:
                raise invalid_field("part", "must be set")

    async def backup_store(
        self,
        request: pb.BackupStoreRequest,
        call: Call,  # noqa: ARG002
    ) -> pb.BackupStoreResponse:
        """BackupStore."""
        return pb.BackupStoreResponse(bytes=await self._backups.make(request.name))

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
