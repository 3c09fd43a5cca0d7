# Generated from client/sojourn/_async/messages.py by `make gen`. Edit the source, never this file.
"""The history of sessions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from sojourn import _app_convert as app_convert
from sojourn import _bulk_calls as bulk_calls
from sojourn import _convert as convert
from sojourn import _message_calls as calls
from sojourn import inputs, results
from sojourn._calls import PageAsk
from sojourn._sync.caller import Caller
from sojourn._sync.pager import Pager
from sojourn.enums import MessageOrder
from sojourn.models import Message, Page


class Messages:
    """The RPCs of HistoryService. For names of sessions and common errors see `sessions`."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def append(
        self,
        session: inputs.SessionLike,
        messages: inputs.NewMessage | Sequence[inputs.NewMessage] = (),
        *,
        user: str = "",
        state: inputs.StateChange | None = None,
        user_state: inputs.StateChange | None = None,
        app_state: inputs.StateChange | None = None,
        metrics: inputs.MetricsDelta | None = None,
        create_if_missing: bool = False,
        precondition: inputs.Precondition | None = None,
        app: str | None = None,
        request_id: str | None = None,
    ) -> results.AppendResult:
        """Append up to 1,000 messages, with state patches and counters if wanted: all or nothing.

        A message whose id the session holds already, with equal content, is passed over.

        Raises: `SessionNotFoundError`, `UidMismatchError`, `SessionEndedError`,
        `GenerationChangedError`, `TurnSupersededError`, `TurnTokenInvalidError`,
        `EtagMismatchError`, `SequenceMismatchError`, `StateVersionMismatchError`,
        `MessageExistsError`, `TurnRequiredError`, `AutoCreateRefusedError`, `AppDeletedError`,
        `AppDrainingError`, `QuotaExceededError`, `ContentTooLargeError`.
        """
        request = calls.append_messages(
            self._caller.app(app),
            session,
            [messages] if isinstance(messages, inputs.NewMessage) else messages,
            user=user,
            state=state,
            user_state=user_state,
            app_state=app_state,
            metrics=metrics,
            create_if_missing=create_if_missing,
            precondition=precondition,
            request_id=request_id,
        )
        stub = self._caller.stubs.history.AppendMessages
        return convert.appended(self._caller.call(stub, request))

    def get(
        self,
        session: inputs.SessionLike,
        message_id: str | None = None,
        *,
        sequence: int | None = None,
        user: str = "",
        app: str | None = None,
    ) -> Message:
        """Read one message, by its id or by its sequence.

        Raises `SessionNotFoundError`, `UidMismatchError`, `MessageNotFoundError`.
        """
        request = calls.get_message(
            self._caller.app(app), session, user=user, message_id=message_id, sequence=sequence
        )
        answer = self._caller.call(self._caller.stubs.history.GetMessage, request)
        return convert.message(answer.message)

    def pop(
        self,
        session: inputs.SessionLike,
        count: int = 1,
        *,
        user: str = "",
        precondition: inputs.Precondition | None = None,
        app: str | None = None,
        request_id: str | None = None,
    ) -> results.PopResult:
        """Remove the newest messages, 1 to 1,000, and return them, each to one caller only.

        Fewer come when there are fewer, or when more would exceed 1 MiB; of no history, none.

        Raises: `SessionNotFoundError`, `UidMismatchError`, `SessionEndedError`,
        `GenerationChangedError`, `TurnSupersededError`, `TurnTokenInvalidError`,
        `EtagMismatchError`, `SequenceMismatchError`, `TurnRequiredError`.
        """
        request = calls.pop_messages(
            self._caller.app(app),
            session,
            user=user,
            count=count,
            precondition=precondition,
            request_id=request_id,
        )
        stub = self._caller.stubs.history.PopMessages
        return convert.popped(self._caller.call(stub, request))

    def truncate(
        self,
        session: inputs.SessionLike,
        keep_through_sequence: int,
        *,
        user: str = "",
        precondition: inputs.Precondition | None = None,
        app: str | None = None,
        request_id: str | None = None,
    ) -> results.TruncateResult:
        """Remove all messages after a sequence; 0 keeps none. Raises as `pop`."""
        request = calls.truncate_messages(
            self._caller.app(app),
            session,
            keep_through_sequence=keep_through_sequence,
            user=user,
            precondition=precondition,
            request_id=request_id,
        )
        stub = self._caller.stubs.history.TruncateMessages
        return convert.truncated(self._caller.call(stub, request))

    def replace(
        self,
        session: inputs.SessionLike,
        messages: Iterable[inputs.NewMessage],
        *,
        keep_through_sequence: int = 0,
        user: str = "",
        precondition: inputs.Precondition | None = None,
        app: str | None = None,
        request_id: str | None = None,
    ) -> results.ReplaceResult:
        """Put messages in the place of all after a sequence, as for compaction; 0 keeps none.

        The new ones get sequences above the highest ever given. What one request does not hold
        (1,000 messages, or about 3 MiB) is sent before and kept aside; nothing is replaced before
        the last request, and then all at once. Whoever appends or removes meanwhile makes it
        `SequenceMismatchError`. Raises as `append`, and `StagingLostError` (begin again).
        """
        requests = bulk_calls.replace_messages(
            self._caller.app(app),
            session,
            messages,
            keep_through_sequence=keep_through_sequence,
            user=user,
            precondition=precondition,
            request_id=request_id,
        )
        stub = self._caller.stubs.history.ReplaceMessages
        return app_convert.replaced([self._caller.call(stub, one) for one in requests])

    def list(
        self,
        session: inputs.SessionLike,
        *,
        user: str = "",
        last: int | None = None,
        after_sequence: int | None = None,
        before_sequence: int | None = None,
        event_time_not_before: datetime | int | None = None,
        order: MessageOrder = MessageOrder.OLDEST_FIRST,
        page_size: int = 0,
        page_token: str = "",
        app: str | None = None,
    ) -> Pager[Message]:
        """List messages; both sequences are exclusive.

        `last` takes the newest N of those that match, up to 100,000, in the order asked. A
        `page_size` of 0 means 50, more than 1,000 means 1,000; a page is cut at 1 MiB. When read,
        the pager raises `SessionNotFoundError`, `UidMismatchError`, `PageTokenInvalidError`, or,
        when a reset came between two pages, `GenerationChangedError`.
        """
        request = calls.list_messages(
            self._caller.app(app),
            session,
            user=user,
            last=last,
            after_sequence=after_sequence,
            before_sequence=before_sequence,
            event_time_not_before=event_time_not_before,
            order=order,
        )

        def fetch(ask: PageAsk) -> Page[Message]:
            stub = self._caller.stubs.history.ListMessages
            answer = self._caller.call(stub, calls.messages_page(request, ask))
            return Page(
                items=tuple(convert.message(one) for one in answer.messages),
                next_page_token=answer.next_page_token,
                revision=answer.revision,
            )

        return Pager(fetch, page_size=page_size, page_token=page_token)
