"""The builders of requests that are about many sessions, and of copies: see `_calls`. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence

from sojourn import _checks as check
from sojourn import _describe as describe
from sojourn import inputs
from sojourn._calls import PageAsk, new_request_id, request_id_of
from sojourn.enums import GroupBy, Status
from sojourn.v1 import history_service_pb2, message_pb2, session_pb2, session_service_pb2

MOST_BYTES = 3 * 1024 * 1024
"""Of messages in one request: below its limit of 4 MiB, with room for what is beside them."""


def _refuse_everything(user: str | None, chosen: session_pb2.SessionFilter, *, all: bool) -> None:
    """Raise unless something selects, or all sessions are meant in so many words."""
    if user is None and not chosen.ByteSize() and not check.flag("all", all):
        raise check.invalid("all", "must be True where neither a user nor anything else is named")


def end_sessions(
    app: str,
    fields: inputs.SelectionFields,
    *,
    end_as: Status = Status.COMPLETED,
    reason: str = "",
    all: bool = False,
    keep_newest: int = 0,
    dry_run: bool = False,
    request_id: str | None = None,
) -> session_service_pb2.EndSessionsRequest:
    """Build EndSessions."""
    user, chosen = describe.selection(fields)
    _refuse_everything(user, chosen, all=all)
    return session_service_pb2.EndSessionsRequest(
        app=check.app_name(app),
        user=user,
        filter=chosen,
        all=check.flag("all", all),
        keep_newest=check.integer("keep_newest", keep_newest),
        dry_run=check.flag("dry_run", dry_run),
        status=describe.end_status("end_as", end_as),
        reason=check.free_text("reason", reason),
        request_id=request_id_of(request_id),
    )


def delete_sessions(
    app: str,
    fields: inputs.SelectionFields,
    *,
    all: bool = False,
    keep_newest: int = 0,
    dry_run: bool = False,
    request_id: str | None = None,
) -> session_service_pb2.DeleteSessionsRequest:
    """Build DeleteSessions."""
    user, chosen = describe.selection(fields)
    _refuse_everything(user, chosen, all=all)
    return session_service_pb2.DeleteSessionsRequest(
        app=check.app_name(app),
        user=user,
        filter=chosen,
        all=check.flag("all", all),
        keep_newest=check.integer("keep_newest", keep_newest),
        dry_run=check.flag("dry_run", dry_run),
        request_id=request_id_of(request_id),
    )


def aggregate_sessions(
    app: str,
    fields: inputs.SelectionFields,
    *,
    group_by: GroupBy | str | None = None,
    label_key: str = "",
    roll_up: bool = False,
) -> session_service_pb2.AggregateSessionsRequest:
    """Build AggregateSessions without what differs from page to page."""
    group = "LABEL" if group_by is None and label_key else group_by
    name = "UNSPECIFIED" if group is None else describe.member("group_by", GroupBy, group)
    if (name == "LABEL") != bool(check.string("label_key", label_key)):
        raise check.invalid("label_key", "goes with group_by=GroupBy.LABEL, and that with it")
    user, chosen = describe.selection(fields)
    return session_service_pb2.AggregateSessionsRequest(
        app=check.app_name(app),
        user=user,
        filter=chosen,
        group_by=session_service_pb2.AggregateSessionsRequest.GroupBy.Value(f"GROUP_BY_{name}"),
        label_key=check.label_key("label_key", label_key) if label_key else "",
        roll_up=check.flag("roll_up", roll_up),
    )


def aggregate_page(
    request: session_service_pb2.AggregateSessionsRequest, ask: PageAsk
) -> session_service_pb2.AggregateSessionsRequest:
    """Build AggregateSessions for one page."""
    page = session_service_pb2.AggregateSessionsRequest()
    page.CopyFrom(request)
    page.page_token = check.opaque("page_token", ask.token, maximum=2048)
    page.page_size = ask.size
    return page


def fork_session(
    app: str,
    session: inputs.SessionLike,
    session_id: str | None,
    *,
    user: str = "",
    through_sequence: int | None = None,
    precondition: inputs.Precondition | None = None,
    request_id: str | None = None,
) -> session_service_pb2.ForkSessionRequest:
    """Build ForkSession."""
    return session_service_pb2.ForkSessionRequest(
        session=describe.session_ref(app, session, user),
        precondition=describe.precondition(precondition),
        session_id=check.name("session_id", session_id or ""),
        through_sequence=describe.count("through_sequence", through_sequence),
        request_id=request_id_of(request_id),
    )


# --- replacing messages --------------------------------------------------------------------------


def replace_messages(
    app: str,
    session: inputs.SessionLike,
    messages: Iterable[inputs.NewMessage],
    *,
    keep_through_sequence: int,
    user: str = "",
    precondition: inputs.Precondition | None = None,
    request_id: str | None = None,
) -> list[history_service_pb2.ReplaceMessagesRequest]:
    """Build as many ReplaceMessages as it takes, to be sent in their order.

    All of several carry the same staging id; only the last one replaces anything. Each has a
    request id of its own, made from the given one, so that all of it may be repeated.
    """
    new = [
        describe.new_message(f"messages[{index}]", one)
        for index, one in enumerate(check.items("messages", messages))
    ]
    whole = request_id_of(request_id)
    batches = list(_batches(new)) or [[]]
    last = len(batches) - 1
    staging = _derived(whole, "staging") or new_request_id()
    return [
        history_service_pb2.ReplaceMessagesRequest(
            session=describe.session_ref(app, session, user),
            precondition=describe.precondition(precondition),
            keep_through_sequence=check.integer("keep_through_sequence", keep_through_sequence),
            messages=batch,
            staging_id=staging if last else "",
            part=number,
            more_follow=number < last,
            request_id=_derived(whole, str(number)) if number < last else whole,
        )
        for number, batch in enumerate(batches)
    ]


def _derived(request_id: str, part: str) -> str:
    """Return the request id of a part: the same for the same part of the same call; or none."""
    if not request_id:
        return ""
    return hashlib.sha256(f"{request_id}\n{part}".encode()).hexdigest()[:32]


def _batches(
    messages: Sequence[message_pb2.NewMessage],
) -> Iterator[list[message_pb2.NewMessage]]:
    batch: list[message_pb2.NewMessage] = []
    total = 0
    for message in messages:
        size = message.ByteSize() + 8
        if batch and (len(batch) == check.MAX_ITEMS or total + size > MOST_BYTES):
            yield batch
            batch, total = [], 0
        batch.append(message)
        total += size
    if batch:
        yield batch
