"""HistoryService: which use case answers which RPC."""

from __future__ import annotations

from sojourn.v1 import history_service_pb2 as pb
from sojourn_server.rpc import convert_session as convert
from sojourn_server.rpc.convert_message import decode_message, fill_message
from sojourn_server.rpc.times import instant
from sojourn_server.service.answers import Call
from sojourn_server.service.history import History
from sojourn_server.service.message_listing import MessageQuery
from sojourn_server.service.replacing import Replacement


class HistoryServicer:
    """The RPCs of HistoryService.

    Args:
        history: The use cases.
    """

    def __init__(self, history: History) -> None:
        self._history = history

    async def append_messages(
        self, request: pb.AppendMessagesRequest, call: Call
    ) -> pb.AppendMessagesResponse:
        """AppendMessages."""
        answer = await self._history.append(
            call,
            convert.decode_ref(request.session, call.users),
            convert.decode_precondition(request.precondition),
            [
                decode_message(f"messages[{index}]", message)
                for index, message in enumerate(request.messages)
            ],
            convert.decode_patches(request.state),
            convert.decode_metrics(request.metrics),
            request.create_if_missing,
        )
        outcome = answer.outcome
        response = pb.AppendMessagesResponse(
            message_ids=outcome.message_ids,
            sequences=outcome.sequences,
            changed=outcome.changed,
            revision=answer.revision,
            created=outcome.created,
        )
        convert.fill_session(response.session, outcome.session, answer.now)
        convert.fill_versions(response.state_versions, outcome.versions)
        return response

    async def list_messages(
        self, request: pb.ListMessagesRequest, call: Call
    ) -> pb.ListMessagesResponse:
        """ListMessages."""

        def present(field: str, value: int) -> int | None:
            return value if request.HasField(field) else None  # type: ignore[arg-type]

        page = await self._history.list(
            call,
            MessageQuery(
                ref=convert.decode_ref(request.session, call.users),
                after_sequence=request.after_sequence,
                before_sequence=present("before_sequence", request.before_sequence),
                event_time_not_before=(
                    instant("event_time_not_before", request.event_time_not_before)
                    if request.HasField("event_time_not_before")
                    else None
                ),
                last=present("last", request.last),
                descending=request.order == pb.MESSAGE_ORDER_NEWEST_FIRST,
                page_size=request.page_size,
                page_token=request.page_token,
            ),
        )
        response = pb.ListMessagesResponse(
            next_page_token=page.next_page_token,
            generation=page.generation,
            revision=page.revision,
        )
        for message in page.messages:
            fill_message(response.messages.add(), message)
        return response

    async def get_message(self, request: pb.GetMessageRequest, call: Call) -> pb.GetMessageResponse:
        """GetMessage."""
        by_id = request.HasField("message_id")
        read = await self._history.get(
            call,
            convert.decode_ref(request.session, call.users),
            request.message_id if by_id else None,
            None if by_id else request.sequence,
        )
        response = pb.GetMessageResponse(revision=read.revision)
        fill_message(response.message, read.snapshot)
        return response

    async def pop_messages(
        self, request: pb.PopMessagesRequest, call: Call
    ) -> pb.PopMessagesResponse:
        """PopMessages."""
        answer = await self._history.pop(
            call,
            convert.decode_ref(request.session, call.users),
            convert.decode_precondition(request.precondition),
            request.count,
        )
        popped = answer.outcome
        response = pb.PopMessagesResponse(changed=popped.changed, revision=answer.revision)
        for message in popped.messages:
            fill_message(response.messages.add(), message)
        convert.fill_session(response.session, popped.session, answer.now)
        return response

    async def replace_messages(
        self, request: pb.ReplaceMessagesRequest, call: Call
    ) -> pb.ReplaceMessagesResponse:
        """ReplaceMessages."""
        answer = await self._history.replace(
            call,
            convert.decode_ref(request.session, call.users),
            convert.decode_precondition(request.precondition),
            Replacement(
                keep=request.keep_through_sequence,
                messages=[
                    decode_message(f"messages[{index}]", message)
                    for index, message in enumerate(request.messages)
                ],
                staging_id=request.staging_id,
                more_follow=request.more_follow,
                part=request.part,
            ),
        )
        outcome = answer.outcome
        response = pb.ReplaceMessagesResponse(
            messages_removed=outcome.removed,
            message_ids=outcome.message_ids,
            sequences=outcome.sequences,
            changed=outcome.changed,
            revision=answer.revision,
        )
        convert.fill_session(response.session, outcome.session, answer.now)
        return response

    async def truncate_messages(
        self, request: pb.TruncateMessagesRequest, call: Call
    ) -> pb.TruncateMessagesResponse:
        """TruncateMessages."""
        answer = await self._history.truncate(
            call,
            convert.decode_ref(request.session, call.users),
            convert.decode_precondition(request.precondition),
            request.keep_through_sequence,
        )
        outcome = answer.outcome
        response = pb.TruncateMessagesResponse(
            messages_removed=outcome.removed,
            changed=outcome.changed,
            revision=answer.revision,
        )
        convert.fill_session(response.session, outcome.session, answer.now)
        return response
