"""Messages of a history between wire and domain."""

from __future__ import annotations

from sojourn.v1 import message_pb2
from sojourn_server.domain.commands import NewMessage
from sojourn_server.rpc.times import fill, instant
from sojourn_server.service.answers import MessageSnapshot


def decode_message(path: str, new: message_pb2.NewMessage) -> NewMessage:
    """A message to append.

    Args:
        path: Where it stands in the request: `messages[0]`.
        new: The message.

    Raises:
        Refusal: `INVALID_FIELD`: a time that is none.
    """
    return NewMessage(
        message_id=new.message_id,
        role=new.role,
        content=new.content if new.HasField("content") else None,
        payload=new.payload,
        content_type=new.content_type,
        metadata=dict(new.metadata),
        event_time=(
            instant(f"{path}.event_time", new.event_time) if new.HasField("event_time") else None
        ),
    )


def fill_message(target: message_pb2.Message, snapshot: MessageSnapshot) -> None:
    """Write a message with its content.

    Args:
        target: An empty message.
        snapshot: The entry and its body.
    """
    message, body = snapshot.message, snapshot.body
    target.message_id = message.message_id
    target.sequence = message.sequence
    target.role = message.role
    if body.content is not None:
        target.content = body.content
    if body.payload:
        target.payload = body.payload
    if message.content_type:
        target.content_type = message.content_type
    if body.metadata:
        target.metadata.update(body.metadata)
    if message.event_time is not None:
        fill(target.event_time, message.event_time)
    fill(target.create_time, message.create_time)
