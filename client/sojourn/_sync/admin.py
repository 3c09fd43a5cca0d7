# Generated from client/sojourn/_async/admin.py by `make gen`. Edit the source, never this file.
"""What operators do: look into the audit, export, import, back up, and ask the server itself."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from functools import partial as bind
from pathlib import Path
from typing import IO, Unpack, cast

from sojourn import _app_calls as calls
from sojourn import _app_convert as convert
from sojourn import _convert, _export, inputs, results
from sojourn._acompat import sync_ask
from sojourn._calls import PageAsk
from sojourn._files import reading, writing
from sojourn._sync.caller import Caller
from sojourn._sync.pager import Pager
from sojourn.models import Message, Page, Session
from sojourn.reports import AuditEntry, ServerInfo
from sojourn.v1 import admin_service_pb2


class Admin:
    """The RPCs of AdminService. For common errors see `sessions`."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def audit(
        self,
        *,
        uid: str | Session = "",
        time: inputs.TimeRange | None = None,
        page_size: int = 0,
        page_token: str = "",
        app: str | None = None,
    ) -> Pager[AuditEntry]:
        """List what was done in an app, newest first: of one session, in a span of time, or all.

        When read, the pager raises `PageTokenInvalidError`.
        """
        request = calls.list_audit_entries(self._caller.app(app), uid, time)

        def fetch(ask: PageAsk) -> Page[AuditEntry]:
            stub = self._caller.stubs.admin.ListAuditEntries
            answer = self._caller.call(stub, calls.audit_page(request, ask))
            return Page(
                items=tuple(convert.audit_entry(one) for one in answer.entries),
                next_page_token=answer.next_page_token,
                revision=0,
            )

        return Pager(fetch, page_size=page_size, page_token=page_token)

    def export(self, **fields: Unpack[inputs.SelectionFields]) -> Iterator[Session | Message]:
        """Read whole sessions: each in the view FULL, and then its messages, oldest first.

        The fields select; no `status` means any. It takes as long as it is read.
        """
        with closing(self._parts(fields)) as parts:
            for part in parts:
                if part.HasField("session"):
                    yield _convert.session(part.session, 0, full=True)
                for message in part.messages.messages:
                    yield _convert.message(message)

    def export_jsonl(
        self, file: str | Path | IO[bytes], **fields: Unpack[inputs.SelectionFields]
    ) -> results.ExportResult:
        """Write whole sessions to a file of JSON Lines, from which `import_jsonl` reads them.

        `file` is a path, or is open for bytes. At a path the file appears when it is whole. The
        lines are described in the reference of the command line.
        """
        sessions = messages = 0
        with writing(file) as sink:
            sync_ask(bind(sink.write, _export.first_line(self._caller.app(fields.get("app")))))
            with closing(self._parts(fields)) as parts:
                for part in parts:
                    lines = [_export.message_line(one) for one in part.messages.messages]
                    messages += len(lines)
                    if part.HasField("session"):
                        sessions += 1
                        lines.append(_export.session_line(part.session))
                    sync_ask(bind(sink.writelines, lines))
            sync_ask(bind(sink.write, _export.last_line(sessions, messages)))
        return results.ExportResult(sessions, messages)

    def _parts(
        self, fields: inputs.SelectionFields
    ) -> Generator[admin_service_pb2.ExportSessionsResponse, None]:
        request = calls.export_sessions(self._caller.app(fields.get("app")), fields)
        stub = self._caller.stubs.admin.ExportSessions
        with closing(self._caller.stream(stub, request)) as parts:
            for part in parts:
                yield part

    def import_jsonl(
        self,
        file: str | Path | IO[bytes],
        *,
        rename: bool = False,
        partial: bool = False,
        app: str | None = None,
        deadline: inputs.Duration | None = None,
    ) -> results.ImportResult:
        """Take in the sessions of a file that `export_jsonl` wrote, into any app.

        Each session is taken in whole or not at all. `rename` gives taken ids a new name instead of
        failing; `partial` takes a file that is not whole. It may take up to `deadline`, an hour by
        default. After an error the sessions that were taken in by then stay.

        Raises `ExportFormatError`, `SessionExistsError`, `ContentTooLargeError`.
        """
        target = calls.import_target(self._caller.app(app), rename=rename)
        with reading(file) as source:
            if not partial:
                _export.refuse_a_torso(source)
            found = _export.read(source, partial=partial)

            def parts() -> Iterator[admin_service_pb2.ImportSessionsRequest]:
                yield target
                while (part := sync_ask(bind(next, found, None))) is not None:
                    yield cast("admin_service_pb2.ImportSessionsRequest", part)

            answer = self._caller.upload(
                self._caller.stubs.admin.ImportSessions,
                parts(),
                name="ImportSessions",
                deadline=self._caller.long_deadline(deadline),
            )
        return results.ImportResult(answer.sessions, answer.messages, answer.revision)

    def backup(self, name: str, *, deadline: inputs.Duration | None = None) -> results.BackupResult:
        """Copy the server's SQLite file, while it runs, to a new file in its backup folder.

        It may take up to `deadline`, an hour by default. Raises `StorageFullError`,
        `RpcNotImplementedError` (on PostgreSQL).
        """
        answer = self._caller.call(
            self._caller.stubs.admin.BackupStore,
            calls.backup_store(name),
            deadline=self._caller.long_deadline(deadline),
        )
        return results.BackupResult(answer.bytes)

    def info(self) -> ServerInfo:
        """Ask the server what it is."""
        answer = self._caller.call(
            self._caller.stubs.admin.GetServerInfo, admin_service_pb2.GetServerInfoRequest()
        )
        return convert.server_info(answer)
