# Generated from client/sojourn/_async/bulk.py by `make gen`. Edit the source, never this file.
"""What is done to many sessions at once, and what is told about them."""

from __future__ import annotations

from dataclasses import replace
from typing import Unpack

from sojourn import _app_convert as convert
from sojourn import _bulk_calls as calls
from sojourn import inputs, results
from sojourn._calls import PageAsk
from sojourn._sync.caller import Caller
from sojourn._sync.pager import Pager
from sojourn.enums import GroupBy, Status
from sojourn.models import Page
from sojourn.reports import SessionAggregate


class ManySessions:
    """The part of `sessions` that is about many of them.

    Which ones is said with the fields of `SelectionFields`; no `status` means any.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def end_many(
        self,
        *,
        end_as: Status = Status.COMPLETED,
        reason: str = "",
        all: bool = False,
        keep_newest: int = 0,
        dry_run: bool = False,
        request_id: str | None = None,
        deadline: inputs.Duration | None = None,
        **fields: Unpack[inputs.SelectionFields],
    ) -> results.EndManyResult:
        """End all sessions that are selected, but for the newest; ended ones stay as they are.

        Without a user and anything else that selects, `all=True` says that all are meant. With
        `dry_run` nothing ends, and the answer says what would. Each session ends whole, the rest
        one after the other: it may take up to `deadline`, an hour by default; cut off, it goes on
        by itself, and a repeat with the same `request_id` waits for it.
        """
        request = calls.end_sessions(
            self._caller.app(fields.get("app")),
            fields,
            end_as=end_as,
            reason=reason,
            all=all,
            keep_newest=keep_newest,
            dry_run=dry_run,
            request_id=request_id,
        )
        answer = self._caller.call(
            self._caller.stubs.sessions.EndSessions,
            request,
            deadline=self._caller.long_deadline(deadline),
        )
        return convert.ended_many(answer)

    def delete_many(
        self,
        *,
        all: bool = False,
        keep_newest: int = 0,
        dry_run: bool = False,
        request_id: str | None = None,
        deadline: inputs.Duration | None = None,
        **fields: Unpack[inputs.SelectionFields],
    ) -> results.DeleteManyResult:
        """Remove all sessions that are selected, ended or not, but for the newest.

        The arguments are as those of `end_many`.
        """
        request = calls.delete_sessions(
            self._caller.app(fields.get("app")),
            fields,
            all=all,
            keep_newest=keep_newest,
            dry_run=dry_run,
            request_id=request_id,
        )
        answer = self._caller.call(
            self._caller.stubs.sessions.DeleteSessions,
            request,
            deadline=self._caller.long_deadline(deadline),
        )
        return convert.deleted_many(answer)

    def cleanup_inactive(
        self,
        max_idle: inputs.Duration,
        *,
        end_as: Status = Status.EXPIRED,
        reason: str = "",
        request_id: str | None = None,
        deadline: inputs.Duration | None = None,
        **fields: Unpack[inputs.SelectionFields],
    ) -> int:
        """End the sessions that were idle for longer than `max_idle`, and return how many.

        A session with a live turn is not idle. The server's clock counts.
        """
        chosen = fields.get("filter") or inputs.SessionFilter()
        fields["filter"] = replace(chosen, idle_longer_than=max_idle, has_turn=False)
        done = self.end_many(
            end_as=end_as, reason=reason, request_id=request_id, deadline=deadline, **fields
        )
        return done.count

    def aggregate(
        self,
        *,
        group_by: GroupBy | str | None = None,
        label_key: str = "",
        roll_up: bool = False,
        page_size: int = 0,
        page_token: str = "",
        **fields: Unpack[inputs.SelectionFields],
    ) -> Pager[SessionAggregate]:
        """Sum up sessions: by user, by status, by the value of a label, or all as one group.

        A `label_key` alone groups by that label. With `roll_up` each descendant counts with its
        root. The pager reads groups by their name; it raises `PageTokenInvalidError`.
        """
        request = calls.aggregate_sessions(
            self._caller.app(fields.get("app")),
            fields,
            group_by=group_by,
            label_key=label_key,
            roll_up=roll_up,
        )

        def fetch(ask: PageAsk) -> Page[SessionAggregate]:
            stub = self._caller.stubs.sessions.AggregateSessions
            answer = self._caller.call(stub, calls.aggregate_page(request, ask))
            return Page(
                items=tuple(convert.aggregate(one) for one in answer.groups),
                next_page_token=answer.next_page_token,
                revision=answer.revision,
            )

        return Pager(fetch, page_size=page_size, page_token=page_token)

    def count(self, **fields: Unpack[inputs.SelectionFields]) -> int:
        """Count sessions without reading them: ACTIVE ones unless told, as `list`."""
        fields.setdefault("status", Status.ACTIVE)
        return sum([one.session_count for one in self.aggregate(**fields)])
