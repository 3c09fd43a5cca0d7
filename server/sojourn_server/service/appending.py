"""Appending messages, with state and counters, as one unit."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from sojourn_server.domain import documents, lifecycle
from sojourn_server.domain.commands import (
    MetricsDelta,
    NewMessage,
    Precondition,
    SessionRef,
    StatePatches,
)
from sojourn_server.domain.errors import Reason, Refusal, invalid_field, too_large
from sojourn_server.domain.ids import uuid7
from sojourn_server.domain.limits import Limits
from sojourn_server.domain.model import (
    Change,
    ChangeCause,
    ChangeDetail,
    Message,
    MessageBody,
    Metrics,
    Session,
)
from sojourn_server.service import creation, reading, state, tree
from sojourn_server.service.answers import AppendOutcome
from sojourn_server.service.ceilings import admit_messages, admit_requests, limits_history
from sojourn_server.service.updating import add_metrics, patch_state
from sojourn_server.service.work import Work
from sojourn_server.store.base import SessionRow


def body_size(new: NewMessage) -> int:
    """Bytes of content, payload and metadata together."""
    text = len(new.content.encode()) if new.content else 0
    return text + len(new.payload) + documents.size(new.metadata)


def check_messages(messages: Sequence[NewMessage], limits: Limits) -> None:
    """Refuse messages that are wrong in themselves.

    Raises:
        Refusal: `INVALID_FIELD` or `CONTENT_TOO_LARGE`, naming the message's place.
    """
    for index, new in enumerate(messages):
        field = f"messages[{index}]"
        if new.content is not None and "\0" in new.content:
            raise invalid_field(f"{field}.content", "must not hold a NUL character")
        documents.check_document(f"{field}.metadata", new.metadata)
        if body_size(new) > limits.message_bytes:
            raise too_large(field, limits.message_bytes)


async def append(
    work: Work,
    ref: SessionRef,
    precondition: Precondition,
    messages: Sequence[NewMessage],
    patches: StatePatches,
    metrics: MetricsDelta,
    *,
    create: bool,
) -> AppendOutcome:
    """Append messages, patch state and add to the counters: all, or nothing.

    Raises:
        Refusal: Those of the precondition, `QUOTA_EXCEEDED`, `AUTO_CREATE_REFUSED`,
            `MESSAGE_EXISTS`, `STATE_VERSION_MISMATCH`, `CONTENT_TOO_LARGE` or
            `INVALID_FIELD`.
    """
    if create:
        row, created = await creation.find_or_insert(work, ref)
    else:
        row, created = await work.current(ref), False
    before = row.session
    policy = await work.policy(ref.app)
    by_turn = bool(policy.require_turn) and bool(messages or patches.session is not None)
    work.check(before, precondition, turn_required=by_turn)
    await state.check_versions(work, before, patches)
    admit_requests(policy, before, metrics.requests)
    places = await _look_up(work, row, messages)
    logged: list[Change] = []
    if limits_history(policy):
        added = [new for new, place in zip(messages, places, strict=True) if place is None]
        size = sum(body_size(each) for each in added)
        row, logged = await admit_messages(work, row, policy, len(added), size)
    placed, new = await _place(work, row, messages, places)
    await work.tx.insert_messages(row, new)

    session = _after(logged) if logged else before
    counters = add_metrics(before.metrics, metrics)
    if new or counters != before.metrics:
        logged.append(appended(work, session, new, counters))
        session = _after(logged)
    if patched := await patch_state(work, session, patches.session):
        logged.append(patched)
        session = _after(logged)
    versions, shared_changed = await state.patch_shared(work, before.app, before.user, patches)
    if patches.session is not None:
        versions = msgspec.structs.replace(versions, session=session.state_version)
    if logged:
        row = await tree.write_counted(work, row, policy, before, logged)
    else:
        row = await work.keep(row, lifecycle.renewed(before, work.now))
    return AppendOutcome(
        session=row.session,
        message_ids=tuple(message.message_id for message in placed),
        sequences=tuple(message.sequence for message in placed),
        changed=bool(logged) or shared_changed or created,
        created=created,
        versions=versions,
    )


async def _look_up(
    work: Work, row: SessionRow, messages: Sequence[NewMessage]
) -> list[Message | int | None]:
    """What becomes of each message, before anything is written.

    Returns:
        For each: the message that the session holds already; or the place, in the request,
        of the one that it repeats; or None: it is to be inserted.

    Raises:
        Refusal: `MESSAGE_EXISTS`.
    """
    places: list[Message | int | None] = []
    first: dict[str, int] = {}
    for index, new in enumerate(messages):
        place: Message | int | None = None
        if new.message_id:
            place = first.setdefault(new.message_id, index)
            if place != index:
                if messages[place] != new:
                    raise exists(new)
            else:
                place = await _known(work, row, new)
        places.append(place)
    return places


async def _place(
    work: Work,
    row: SessionRow,
    messages: Sequence[NewMessage],
    places: Sequence[Message | int | None],
) -> tuple[list[Message], list[Message]]:
    """Give each message its sequence; known ones keep the one they have.

    Returns:
        A message for each that was asked for, and of those the ones to insert.
    """
    placed: list[Message] = []
    fresh: list[Message] = []
    sequence = row.session.last_sequence
    for new, place in zip(messages, places, strict=True):
        if place is None:
            sequence += 1
            stored = await store(work, new, sequence)
            fresh.append(stored)
            placed.append(stored)
        else:
            placed.append(placed[place] if isinstance(place, int) else place)
    return placed, fresh


async def _known(work: Work, row: SessionRow, new: NewMessage) -> Message | None:
    """The message that the session holds under this id, if it is the same."""
    known = await work.tx.message_by_id(row, new.message_id)
    if known is None:
        return None
    same = (
        known.role == new.role
        and known.content_type == new.content_type
        and known.event_time == new.event_time
        and reading.decode_body(await work.tx.content(known.body)) == _body(new)
    )
    if not same:
        raise exists(new)
    return known


async def store(work: Work, new: NewMessage, sequence: int) -> Message:
    """A new message, its body put."""
    body = _body(new)
    stored = msgspec.msgpack.encode(body) if body != MessageBody() else b""
    return Message(
        message_id=new.message_id or uuid7(work.now),
        sequence=sequence,
        role=new.role,
        content_type=new.content_type,
        event_time=new.event_time,
        create_time=work.now,
        size=body_size(new),
        body=await work.tx.put_content(stored),
    )


def _body(new: NewMessage) -> MessageBody:
    return MessageBody(content=new.content, payload=new.payload, metadata=new.metadata)


def appended(work: Work, session: Session, new: Sequence[Message], metrics: Metrics) -> Change:
    """The change that new messages and new counters make."""
    if not new:
        after = msgspec.structs.replace(
            lifecycle.renewed(session, work.now), update_time=work.now, metrics=metrics
        )
        return Change(cause=ChangeCause.UPDATED, before=session, after=after)
    after = lifecycle.edited(
        session,
        work.now,
        message_count=session.message_count + len(new),
        message_bytes=session.message_bytes + sum(message.size for message in new),
        last_sequence=new[-1].sequence,
        last_event_time=new[-1].event_time,
        metrics=metrics,
    )
    return Change(
        cause=ChangeCause.MESSAGES_APPENDED,
        before=session,
        after=after,
        detail=ChangeDetail(first_sequence=new[0].sequence, last_sequence=new[-1].sequence),
    )


def _after(changes: Sequence[Change]) -> Session:
    session = changes[-1].after
    assert session is not None
    return session


def exists(new: NewMessage) -> Refusal:
    """The refusal of an id that another message has."""
    return Refusal(
        Reason.MESSAGE_EXISTS,
        "the session holds another message with this id",
        {"message_id": new.message_id},
    )
