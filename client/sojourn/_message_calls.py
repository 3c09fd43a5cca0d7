"""The builders of HistoryService's requests: see `_calls`. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from sojourn import _checks as check
from sojourn import _describe as describe
from sojourn import inputs
from sojourn._calls import PageAsk, request_id_of
from sojourn._convert import to_timestamp
from sojourn.enums import MessageOrder
from sojourn.v1 import history_service_pb2


def append_messages(
    app: str,
    session: inputs.SessionLike,
    messages: Sequence[inputs.NewMessage],
    *,
    user: str = "",
    state: inputs.StateChange | None = None,
    user_state: inputs.StateChange | None = None,
    app_state: inputs.StateChange | None = None,
    metrics: inputs.MetricsDelta | None = None,
    create_if_missing: bool = False,
    precondition: inputs.Precondition | None = None,
    request_id: str | None = None,
) -> history_service_pb2.AppendMessagesRequest:
    """Build AppendMessages."""
    new = check.items("messages", messages)
    if len(new) > check.MAX_ITEMS:
        raise check.invalid("messages", f"must be at most {check.MAX_ITEMS}")
    return history_service_pb2.AppendMessagesRequest(
        session=describe.session_ref(app, session, user),
        precondition=describe.precondition(precondition),
        messages=[describe.new_message(f"messages[{index}]", one) for index, one in enumerate(new)],
        state=describe.state_patches(state, user_state, app_state),
        metrics=describe.metrics_delta(metrics),
        create_if_missing=check.flag("create_if_missing", create_if_missing),
        request_id=request_id_of(request_id),
    )


def list_messages(
    app: str,
    session: inputs.SessionLike,
    *,
    user: str = "",
    last: int | None = None,
    after_sequence: int | None = None,
    before_sequence: int | None = None,
    event_time_not_before: object = None,
    order: MessageOrder = MessageOrder.OLDEST_FIRST,
) -> history_service_pb2.ListMessagesRequest:
    """Build ListMessages without what differs from page to page."""
    for field, value in (("after_sequence", after_sequence), ("before_sequence", before_sequence)):
        if value is not None:
            check.integer(field, value)
    if last is not None:
        check.integer("last", last, maximum=100_000)
    choice = describe.member("order", MessageOrder, order)
    instant = event_time_not_before
    return history_service_pb2.ListMessagesRequest(
        session=describe.session_ref(app, session, user),
        after_sequence=after_sequence,
        before_sequence=before_sequence,
        event_time_not_before=None
        if instant is None
        else to_timestamp(check.nanoseconds("event_time_not_before", instant)),
        last=last,
        order=history_service_pb2.MessageOrder.Value(f"MESSAGE_ORDER_{choice}"),
    )


def messages_page(
    request: history_service_pb2.ListMessagesRequest, ask: PageAsk
) -> history_service_pb2.ListMessagesRequest:
    """Build ListMessages for one page."""
    page = history_service_pb2.ListMessagesRequest()
    page.CopyFrom(request)
    page.page_token = check.opaque("page_token", ask.token, maximum=1024)
    page.page_size = ask.size
    return page


def get_message(
    app: str,
    session: inputs.SessionLike,
    *,
    user: str = "",
    message_id: str | None = None,
    sequence: int | None = None,
) -> history_service_pb2.GetMessageRequest:
    """Build GetMessage."""
    if (message_id is None) == (sequence is None):
        raise check.invalid("message_id", "message_id or sequence must be set, and not both")
    ref = describe.session_ref(app, session, user)
    if sequence is not None:
        return history_service_pb2.GetMessageRequest(
            session=ref, sequence=check.integer("sequence", sequence, minimum=1)
        )
    return history_service_pb2.GetMessageRequest(
        session=ref, message_id=check.name("message_id", message_id, required=True)
    )


def pop_messages(
    app: str,
    session: inputs.SessionLike,
    *,
    user: str = "",
    count: int = 1,
    precondition: inputs.Precondition | None = None,
    request_id: str | None = None,
) -> history_service_pb2.PopMessagesRequest:
    """Build PopMessages."""
    return history_service_pb2.PopMessagesRequest(
        session=describe.session_ref(app, session, user),
        precondition=describe.precondition(precondition),
        count=check.integer("count", count, minimum=1, maximum=check.MAX_ITEMS),
        request_id=request_id_of(request_id),
    )


def truncate_messages(
    app: str,
    session: inputs.SessionLike,
    *,
    keep_through_sequence: int,
    user: str = "",
    precondition: inputs.Precondition | None = None,
    request_id: str | None = None,
) -> history_service_pb2.TruncateMessagesRequest:
    """Build TruncateMessages."""
    return history_service_pb2.TruncateMessagesRequest(
        session=describe.session_ref(app, session, user),
        precondition=describe.precondition(precondition),
        keep_through_sequence=check.integer("keep_through_sequence", keep_through_sequence),
        request_id=request_id_of(request_id),
    )
