"""What operators do: look into the audit, export, import, back up, and ask the server itself."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from functools import partial as bind
from itertools import chain
from pathlib import Path
from typing import IO, Unpack

from sojourn import _app_calls as calls
from sojourn import _app_convert as convert
from sojourn import _export, inputs, results
from sojourn._acompat import async_ask
from sojourn._async.caller import AsyncCaller
from sojourn._async.pager import AsyncPager
from sojourn._calls import PageAsk
from sojourn._files import reading, writing
from sojourn.enums import ChangeCause, OnExisting
from sojourn.models import Page, Session
from sojourn.reports import AuditEntry, Exported, ServerInfo
from sojourn.v1 import admin_service_pb2


class AsyncAdmin:
    """The RPCs of AdminService. For common errors see `sessions`."""

    def __init__(self, caller: AsyncCaller) -> None:
        self._caller = caller

    def audit(
        self,
        *,
        uid: str | Session = "",
        user: str | None = None,
        session_id: str = "",
        causes: Iterable[ChangeCause] = (),
        actor: str | None = None,
        time: inputs.TimeRange | None = None,
        page_size: int = 0,
        page_token: str = "",
        app: str | None = None,
    ) -> AsyncPager[AuditEntry]:
        """List what was done in an app, newest first.

        Of one session, by its uid or by `user` and `session_id`; of one `user` (an alias names one
        who was erased, and "" the app's own); with one of these causes; by one `actor` ("" is the
        server itself); in a span of time; or all. When read, the pager raises
        `PageTokenInvalidError`.
        """
        request = calls.list_audit_entries(
            self._caller.app(app),
            uid,
            user=user,
            session_id=session_id,
            causes=causes,
            actor=actor,
            time=time,
        )

        async def fetch(ask: PageAsk) -> Page[AuditEntry]:
            stub = self._caller.stubs.admin.ListAuditEntries
            answer = await self._caller.call(stub, calls.audit_page(request, ask))
            return Page(
                items=tuple(convert.audit_entry(one) for one in answer.entries),
                next_page_token=answer.next_page_token,
                revision=0,
            )

        return AsyncPager(fetch, page_size=page_size, page_token=page_token)

    async def export(self, **fields: Unpack[inputs.SelectionFields]) -> AsyncIterator[Exported]:
        """Read an app, part by part: itself, its users' states, and then whole sessions.

        After each session, in the view FULL, come its messages, oldest first. The fields select
        sessions; no `status` means any. It takes as long as it is read. Raises
        `GenerationChangedError` (a session was cut down again and again while it was read).
        """
        async with aclosing(self._parts(fields)) as parts:
            async for part in parts:
                for one in convert.exported(part):
                    yield one

    async def export_jsonl(
        self, file: str | Path | IO[bytes], **fields: Unpack[inputs.SelectionFields]
    ) -> results.ExportResult:
        """Write an app, as `export` reads it, to a file of JSON Lines for `import_jsonl`.

        `file` is a path, or is open for bytes. At a path the file appears when it is whole. Its
        lines are the parts of ExportSessions in protobuf's JSON form, and a last one of counts.
        """
        writer = _export.Writer()
        with writing(file) as sink:
            async with aclosing(self._parts(fields)) as parts:
                async for part in parts:
                    await async_ask(bind(sink.writelines, writer.lines(part)))
            await async_ask(bind(sink.write, writer.last_line()))
        return results.ExportResult(writer.sessions, writer.messages)

    async def _parts(
        self, fields: inputs.SelectionFields
    ) -> AsyncGenerator[admin_service_pb2.ExportSessionsResponse, None]:
        request = calls.export_sessions(self._caller.app(fields.get("app")), fields)
        stub = self._caller.stubs.admin.ExportSessions
        async with aclosing(self._caller.stream(stub, request)) as parts:
            async for part in parts:
                yield part

    async def import_jsonl(
        self,
        file: str | Path | IO[bytes],
        *,
        on_existing: OnExisting = OnExisting.FAIL,
        partial: bool = False,
        app: str | None = None,
        deadline: inputs.Duration | None = None,
    ) -> results.ImportResult:
        """Take in the sessions of a file that `export_jsonl` wrote, into any app.

        Each session is taken in whole or not at all; after an error those that were taken in by
        then stay, and with `on_existing` SKIP the same file can be imported again. `partial` takes
        a file that is not whole. It may take up to `deadline`, an hour by default.

        Raises `ExportFormatError`, `SessionExistsError`, `AppDeletedError`, `AppDrainingError`,
        `AppUnknownError`, `QuotaExceededError`, `ContentTooLargeError`, `StagingLostError`.
        """
        target = calls.import_target(self._caller.app(app), on_existing)
        with reading(file) as source:
            if not partial:
                _export.refuse_a_torso(source)
            answer = await self._caller.upload(
                lambda stubs: stubs.admin.ImportSessions,
                chain([target], _export.read(source, partial=partial)),
                name="ImportSessions",
                deadline=self._caller.long_deadline(deadline),
            )
        return convert.imported(answer)

    async def backup(
        self, name: str, *, deadline: inputs.Duration | None = None
    ) -> results.BackupResult:
        """Copy the server's SQLite file, while it runs, to a new file in its backup folder.

        It may take up to `deadline`, an hour by default. Raises `BackupsOffError` (the server has
        no such folder), `BackupExistsError`, `StorageFullError`, `RpcNotImplementedError` (on
        PostgreSQL).
        """
        answer = await self._caller.call(
            self._caller.stubs.admin.BackupStore,
            calls.backup_store(name),
            deadline=self._caller.long_deadline(deadline),
        )
        return results.BackupResult(answer.bytes)

    async def info(self) -> ServerInfo:
        """Ask the server what it is."""
        answer = await self._caller.call(
            self._caller.stubs.admin.GetServerInfo, admin_service_pb2.GetServerInfoRequest()
        )
        return convert.server_info(answer)
